"""The parts of which the activations over many images are made: deep feature factorization."""
