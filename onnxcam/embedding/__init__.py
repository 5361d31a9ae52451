"""The explanation written into the model, so that one file answers on any runtime."""
