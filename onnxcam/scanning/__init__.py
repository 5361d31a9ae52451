"""Subset scanning: which feature maps and cells of a layer are unusual on an image."""
