"""Patterns match in both orders of operands, and only what they may."""

from typing import Any

import onnx_graphsurgeon as gs
import pytest

from onnxcam.autodiff.peepholes.pattern import Pattern, matches, node

FACTOR = node("Add", node("Mul", "h", "a"), node("Mul", "h", "b"))


def tensor(text: Any) -> gs.Variable:
    """A tensor by its name, or what (operator, inputs) computes, by way of one node."""
    if isinstance(text, gs.Variable):
        return text
    operator, *inputs = text
    output = gs.Variable(f"{operator}({', '.join(operand.name for operand in inputs)})")
    gs.Node(operator, output.name, {}, list(inputs), [output])
    return output


H, A, B, C = (gs.Variable(name) for name in "habc")
HA, AH, HB, BH, BC = (tensor(("Mul", *pair)) for pair in ((H, A), (A, H), (H, B), (B, H), (B, C)))


def bindings(pattern: Pattern, root: gs.Variable, *forward: gs.Variable) -> list[dict[str, str]]:
    """All matches by names; what computes the forward tensors was not written by the sweep."""
    tensors = [root, *root.inputs[0].inputs]
    written = {
        id(tensor.inputs[0]) for tensor in tensors if tensor.inputs and tensor not in forward
    }
    return [
        {word: tensor.name for word, tensor in bound.items()}
        for bound in matches(pattern, root, written, {})
    ]


@pytest.mark.parametrize("first", [HA, AH])
@pytest.mark.parametrize("second", [HB, BH])
def test_commutative_operands_match_in_any_order(first: gs.Variable, second: gs.Variable) -> None:
    root = tensor(("Add", first, second))
    assert {"h": "h", "a": "a", "b": "b"} in bindings(FACTOR, root)


def test_same_word_needs_same_tensor() -> None:
    assert not bindings(FACTOR, tensor(("Add", HA, BC)))


def test_division_matches_in_its_order_only() -> None:
    root = tensor(("Div", H, A))
    assert bindings(node("Div", "x", "y"), root) == [{"x": "h", "y": "a"}]


def test_node_of_the_model_is_not_matched() -> None:
    assert not bindings(FACTOR, tensor(("Add", HA, HB)), HB)


def test_word_matches_a_tensor_of_the_model() -> None:
    assert bindings(node("Add", "x", "y"), tensor(("Add", HA, HB)), HA, HB)


def test_name_binds_the_output_and_underscore_nothing() -> None:
    root = tensor(("Div", HA, B))
    pattern = node("Div", node("Mul", "_", "_", name="product"), "_")
    assert bindings(pattern, root)[0] == {"product": HA.name}


def test_other_number_of_inputs_does_not_match() -> None:
    assert not bindings(node("Div", "x"), tensor(("Div", H, A)))
