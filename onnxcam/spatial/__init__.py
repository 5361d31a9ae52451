"""Find the layers that hold a grid of image cells."""
