"""Find the score to explain among a model's outputs: classifiers, segmenters and detectors."""
