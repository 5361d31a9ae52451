"""The ONNX graph: nodes, tensors, shapes and opsets, and how operators are written into a graph."""

from onnxcam.graph import (
    anp as anp,  # so that Values know NumPy's functions wherever they come from
)
