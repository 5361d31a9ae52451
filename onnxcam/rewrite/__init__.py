"""Rewrite a model so that it returns gradients, and plan what is run."""
