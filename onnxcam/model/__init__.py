"""Load, check and save .onnx models, and describe their image input."""
