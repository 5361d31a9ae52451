"""Speed: all methods next to the plain model and to other packages. Run `python -m scripts.bench`."""
