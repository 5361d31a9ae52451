"""Gradients of real architectures compared with PyTorch, and maps with those of another version."""
