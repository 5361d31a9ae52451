"""Whether a device computes correct results, and how fast it is. Run `python -m scripts.device`."""
