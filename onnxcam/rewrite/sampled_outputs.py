"""Sum gradients over a batch of noisy samples inside the model, so that only three maps per chunk leave the
device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.graph import anp
from onnxcam.graph.tracing import Builder
from onnxcam.specs import POWERS, gradient_at, moment


def add_moments(graph: gs.Graph, layers: Sequence[str]) -> None:
    """Add the outputs `moment1/<layer>` to `moment3/<layer>` to a graph with outputs `gradient/<layer>`, in
    place: (1, ...) in float64, since the cube of a gradient of 1e-13 is 0 in float32.
    """
    build = Builder(graph)
    for layer in layers:
        g = build.value(gradient_at(layer)).astype(np.dtype(np.float64))
        for power, value in zip(POWERS, (g, g * g, g * g * g), strict=True):
            build.output(anp.sum(value, axis=0, keepdims=True), moment(power, layer))
