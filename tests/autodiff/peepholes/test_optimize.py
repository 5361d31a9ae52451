"""The pass over gradients of random networks: no result changes, and nothing but what the sweep has written."""

from typing import Any

import numpy as np
import pytest

from onnxcam.autodiff.peepholes.optimize import optimize_gradient
from onnxcam.autodiff.peepholes.pattern import Peephole, node
from onnxcam.autodiff.rule_table import Rules
from onnxcam.autodiff.rules import DEFAULT
from onnxcam.autodiff.tables import RULE_TABLES
from onnxcam.graph.tracing import Builder, Value
from onnxcam.specs import REFERENCE, SEED
from tests.autodiff.support.check import assert_valid, numbers, run
from tests.autodiff.support.sweep import Line, lines_of, model_of, unoptimized_gradient

CHANNELS, SIZE = 16, 3
UNARY: list[Line] = [
    *(("Sigmoid",), ("Tanh",), ("Relu",), ("HardSwish",), ("HardSigmoid",)),
    *(("Conv", "k0"), ("Conv", "k1"), ("Clip", "zero six"), ("Clip", "minus one")),
    *(("Mul", "scale"), ("BatchNormalization", "scale1 bias mean var")),
]
BENT = Rules()
BENT.vjp("Relu", lambda g, y, x: g * (g > 0).astype(g.dtype) * (y > 0).astype(g.dtype))
BENT.vjp("Sigmoid", lambda g, y, x: (1.0 - y) * (y * g))
TABLES = {**RULE_TABLES, "bent": DEFAULT | BENT}


def constants() -> dict[str, Any]:
    vectors = {"scale1": 0.5, "bias": 0.0, "mean": 0.0, "var": 0.3}
    return {
        "k0": numbers(CHANNELS, CHANNELS, 1, 1, seed=1),
        "k1": numbers(CHANNELS, CHANNELS, 1, 1, seed=2),
        "scale": numbers(CHANNELS, 1, 1, seed=3),
        **{
            name: numbers(CHANNELS, seed=4, low=low, high=1.0 + low)
            for name, low in vectors.items()
        },
        **{name: np.float32(x) for name, x in {"zero": 0, "six": 6, "minus": -1, "one": 1}.items()},
    }


def random_lines(seed: int) -> list[Line]:
    """A network that starts and ends with a convolution, with gates, residuals and shared tensors."""
    generator = np.random.default_rng(seed)
    lines: list[Line] = [("Conv", "x k0", "t0")]
    names = ["t0"]

    def write(operator: str, read: str, *attributes: Any) -> str:
        lines.append((operator, read, f"t{len(lines)}", *attributes))
        return str(lines[-1][2])

    for _ in range(8):
        recent = names[-3:]
        first, second = (recent[i % len(recent)] for i in generator.integers(0, 3, 2))
        kind = generator.integers(0, 10)
        if kind < 2:  # SiLU
            gate = write("Sigmoid", first)
            names.append(write("Mul", f"{first} {gate}" if kind else f"{gate} {first}"))
        elif kind == 2:  # squeeze and excitation
            mean = write("ReduceMean", first, {"axes": [2, 3]})
            gate = write("Sigmoid", write("Conv", f"{mean} k1"))
            names.append(write("Mul", f"{first} {gate}"))
        elif kind < 5:
            names.append(write(("Add", "Mul")[kind - 3], f"{first} {second}"))
        else:
            operator, *read = UNARY[generator.integers(len(UNARY))]
            names.append(write(operator, " ".join([first, *read])))
    lines.append(("Conv", f"{names[-1]} k1", "y"))
    return lines


@pytest.mark.parametrize("size", [SIZE, "s"])
@pytest.mark.parametrize("rules", TABLES.values(), ids=list(TABLES))
@pytest.mark.parametrize("seed", range(25))
def test_pass_changes_no_result_and_only_written_nodes(
    seed: int, rules: Rules, size: int | str
) -> None:
    proto = model_of(random_lines(seed), constants(), {"x": ("n", CHANNELS, size, size)})
    model, start = unoptimized_gradient(proto, ["x", "t0"], "y", rules)
    outputs = [tensor.name for tensor in model.graph.outputs]
    before = lines_of(model.graph.nodes[:start])
    expected = results(model)
    optimize_gradient(model.graph, start)
    assert lines_of(model.graph.nodes[:start]) == before
    assert [tensor.name for tensor in model.graph.outputs] == outputs
    assert_valid(model.proto())
    for result, reference in zip(results(model), expected, strict=True):
        tolerance = 2e-6 * np.abs(reference).max()
        np.testing.assert_allclose(result, reference, rtol=1e-4, atol=tolerance)
    model.graph.cleanup()
    once, forward = lines_of(model.graph.nodes), {line[2] for line in before}
    start = sum(line[2] in forward for line in once)
    optimize_gradient(model.graph, start)
    assert lines_of(model.graph.nodes) == once


def results(model: Any) -> list[Any]:
    x = numbers(2, CHANNELS, SIZE, SIZE, seed=8)
    names = [tensor.name for tensor in model.graph.outputs]
    feed = {"x": x, SEED: numbers(*x.shape, seed=9), REFERENCE: numbers(*x.shape, seed=10)}
    return run(model.proto(), feed, names)


def test_bent_rules_are_bent_after_the_pass() -> None:
    """What a table of rules says is computed, in its form: g > 0 is not lost in a product with a mask."""
    lines = [("Conv", "x k0", "a"), ("Relu", "a", "b"), ("Conv", "b k1", "y")]
    proto = model_of(lines, constants(), {"x": (2, CHANNELS, SIZE, SIZE)})
    bent, plain = (
        unoptimized_gradient(proto, ["x"], "y", rules) for rules in (DEFAULT | BENT, DEFAULT)
    )
    for model, start in (bent, plain):
        optimize_gradient(model.graph, start)
    assert np.abs(results(bent[0])[1] - results(plain[0])[1]).max() > 0.1


def test_pattern_attempts_are_linear_in_nodes() -> None:
    """The pass is linear: a pattern is tried at each node once, and once more at every replacement."""
    tried = []

    def rewrite(a: Value, b: Value) -> Value | None:
        tried.append(a.name)
        return b * a if len(tried) == 1 else None

    lines: list[Line] = [("Conv", "x k0", "t0")]
    lines += [("Mul", f"t{i} t{i}", f"t{i + 1}") for i in range(40)]
    model, start = unoptimized_gradient(
        model_of(lines, constants(), {"x": (1, CHANNELS, 1, 1)}), ["t0"], lines[-1][2]
    )
    products = sum(node.op == "Mul" for node in model.graph.nodes[start:])
    optimize_gradient(model.graph, start, [Peephole(node("Mul", "a", "b"), rewrite)])
    assert products <= len(tried) <= 2 * products + 2


def test_returned_tensor_keeps_its_name() -> None:
    """A gradient that the graph returns without an Identity is not rewritten."""
    lines = [("Conv", "x k0", "a"), ("Sigmoid", "a", "s"), ("Mul", "a s", "y")]
    proto = model_of(lines, constants(), {"x": (2, CHANNELS, SIZE, SIZE)})
    model, start = unoptimized_gradient(proto, ["a"], "y")
    returned = model.graph.nodes[-1].inputs[0]
    model.graph.outputs.append(returned)
    optimize_gradient(model.graph, start)
    assert returned.inputs[0].op == "Add"
    assert_valid(model.proto())


def test_constant_subtraction_is_not_taken_for_a_complement() -> None:
    """2 - s and 1 - t are no 1 - sigmoid."""
    lines = [("Conv", "x k0", "a"), ("Tanh", "a", "y")]
    proto = model_of(lines, constants(), {"x": (2, CHANNELS, SIZE, SIZE)})
    model, start = unoptimized_gradient(proto, ["x"], "y")
    optimize_gradient(model.graph, start)
    assert "HardSigmoid" not in {node.op for node in model.graph.nodes}


def test_builder_writes_a_detached_node_again() -> None:
    """What one rewrite wrote and another one removed is there when a third one needs it."""
    lines: list[Line] = [("Conv", "x k0", "y")]
    model, _ = unoptimized_gradient(
        model_of(lines, constants(), {"x": (1, CHANNELS, 1, 1)}), ["x"], "y"
    )
    build = Builder(model.graph)
    first = build.value("x") * build.value("y")
    product = first.tensor.inputs[0]
    product.inputs.clear()
    product.outputs.clear()
    second = build.value("x") * build.value("y")
    assert second.name != first.name
    assert second.tensor.inputs[0].op == "Mul"


def test_tensor_of_unknown_shape_matches_nothing() -> None:
    lines: list[Line] = [("Conv", "x k0", "a"), ("Sigmoid", "a", "s"), ("Mul", "a s", "y")]
    proto = model_of(lines, constants(), {"x": (2, CHANNELS, SIZE, SIZE)})
    model, start = unoptimized_gradient(proto, ["x"], "y")
    expected = results(model)
    for written in model.graph.nodes[start:-1]:
        written.outputs[0].shape = None
    optimize_gradient(model.graph, start)
    for result, reference in zip(results(model), expected, strict=True):
        np.testing.assert_allclose(result, reference, rtol=1e-4, atol=1e-6)
