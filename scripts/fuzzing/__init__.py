"""Hostile and damaged inputs for `scripts/fuzz.py`: kinds of cases, and how their outcomes are classified."""
