"""Reverse-mode differentiation of ONNX graphs: gradient rules, and the sweep that applies them."""
