"""Check and normalize the protocol buffer of a model before a graph is built from it."""
