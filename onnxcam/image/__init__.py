"""Read, preprocess and label images, and draw heat maps over them. Nothing here needs onnx."""
