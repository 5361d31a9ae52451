"""Patterns in written gradients, and faster replacements for them."""
