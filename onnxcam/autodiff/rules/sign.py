"""Sign: the straight-through estimator of binarized networks (Hubara et al. 2016, arXiv:1602.02830, eq. 4)."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxcam.autodiff.rule_table import Rules
from onnxcam.graph import anp
from onnxcam.graph.operators import is_elementwise, traits_of
from onnxcam.graph.reachability import producer
from onnxcam.graph.slicing import full_like
from onnxcam.graph.tracing import PREFIX, Value

rules = Rules()
PRODUCTS = ("Mul", "Div")


def sign_vjp(g: Value, y: Value, x: Value) -> Value:
    """Sign-13: g where |x| <= 1, if the signs stand for x; zeros if they are factors, as in x sign(x), whose
    derivative is exact without them.
    """
    if not binarizes(y.tensor.inputs[0]):
        return full_like(x, 0.0)
    return anp.where(anp.abs(x) <= 1.0, g, g.constant_like(0.0))


def binarizes(node: gs.Node) -> bool:
    """Whether a node is a Sign whose output is multiplied by no other function of its input."""
    if node.op != "Sign" or node.domain:
        return False
    signs = _functions_of(node.outputs[0], node)
    others = _functions_of(_origin(node.inputs[0]), node)
    return not any(
        reader.op in PRODUCTS and any(factor.name in others for factor in reader.inputs)
        for tensor in signs.values()
        for reader in _model_readers(tensor)
    )


def _origin(tensor: gs.Tensor) -> gs.Tensor:
    """The tensor that this one is a function of, number by number."""
    node = producer(tensor)
    while node is not None and is_elementwise(traits_of(node)):
        variables = [source for source in node.inputs if isinstance(source, gs.Variable)]
        if len(variables) != 1:
            break
        tensor = variables[0]
        node = producer(tensor)
    return tensor


def _functions_of(tensor: gs.Tensor, without: gs.Node) -> dict[str, gs.Tensor]:
    """A tensor and what is computed from it number by number, not through the node `without`, by name."""
    functions, waiting = {tensor.name: tensor}, [tensor]
    while waiting:
        for reader in _model_readers(waiting.pop()):
            if reader is without or not is_elementwise(traits_of(reader)):
                continue
            new = [output for output in reader.outputs if output.name not in functions]
            functions |= {output.name: output for output in new}
            waiting.extend(new)
    return functions


def _model_readers(tensor: gs.Tensor) -> list[gs.Node]:
    """The readers of a tensor that are not part of a gradient."""
    return [node for node in tensor.outputs if not node.name.startswith(f"{PREFIX}/")]


rules.vjp("Sign", sign_vjp)
