"""What a model is for: one file per kind of evidence."""
