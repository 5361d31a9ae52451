"""Turn quantized models into models of floats, whose rounding steps pass gradients straight through.

In this order: `integer_ops`, `hoist_dequantize`, `straight_through`.
"""
