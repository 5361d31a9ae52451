"""The inputs on which methods run the model: the image itself, or noisy copies of it."""
