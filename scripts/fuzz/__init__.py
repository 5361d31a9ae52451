"""Hostile and damaged inputs: kinds of cases, and how they end. Run `python -m scripts.fuzz`."""
