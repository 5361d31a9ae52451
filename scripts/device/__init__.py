"""Whether a device is right, and how fast it is. Run `python -m scripts.device`."""
