"""What is explained: a class, the evidence against it, or a contrast of classes."""
