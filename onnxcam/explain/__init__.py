"""Explain images: plan and run a model, cache it, and save the maps."""
