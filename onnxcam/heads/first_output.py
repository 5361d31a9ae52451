"""The floats from which an output is computed, for methods that explain no score."""

from __future__ import annotations

import math

from onnxcam.errors import ModelError
from onnxcam.graph.reachability import is_float, producer
from onnxcam.heads.computed_outputs import is_computed
from onnxcam.heads.score import no_score_error
from onnxcam.model.model import Model
from onnxcam.specs import Score


def first_output(model: Model) -> Score:
    """The first output of floats that is computed from the image, for methods that explain no score; if all
    hold integers, such as the number of the best class, the floats from which the first is computed.
    """
    computed = [output for output in model.graph.outputs if is_computed(model, output)]
    if not computed:
        raise no_score_error(model)
    tensor = min(computed, key=lambda output: not is_float(output))
    while not is_float(tensor):
        node = producer(tensor)
        if node is None:
            raise ModelError(f"{model.name}: no output is computed from floats")
        tensor = node.inputs[0]
    sizes = [size for size in (tensor.shape or ())[1:] if isinstance(size, int)]
    return Score(tensor.name, tensor.name, None, math.prod(sizes))
