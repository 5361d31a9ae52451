"""Gradient ascent on images: what a class or a feature map responds to, and what a layer knows of an image."""
