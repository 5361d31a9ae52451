"""Quantized models as models of floats, through whose roundings gradients pass straight.

In this order: `integer_ops`, `hoist_dequantize`, `straight_through`.
"""
