"""Concepts: the parts into which the activations of a layer over many images decompose."""
