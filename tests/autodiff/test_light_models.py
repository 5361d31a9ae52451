"""Whole architectures against torch autograd in float64, at a late layer and at the picture."""

from typing import Any

import numpy as np
import pytest

from onnxcam.arrays import Array, Floats
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import assert_valid, run
from tests.autodiff.support.light import NAMES, logits, picture, weighted

CLOSE = 1e-4  # of the largest gradient; or twice what torch itself loses in float32
ALIKE = 0.9999  # the cosine, unless torch's own in float32 is lower


def last_map(model: Model) -> str:
    """The last tensor (N, C, h, w) of more than one cell."""
    for node in reversed(model.graph.nodes):
        shape: list[int] = node.outputs[0].shape or []
        if len(shape) == 4 and shape[2] * shape[3] > 1:
            return str(node.outputs[0].name)
    raise AssertionError("no feature map")


@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_gets_a_valid_gradient(name: str) -> None:
    proto = weighted(name)
    model = load(proto)
    of = logits(proto)
    (image,) = picture(proto)
    augmented = gradient(model, [last_map(model), image], of)
    assert_valid(augmented.proto())
    shapes = {each.name: each.shape for each in augmented.graph.outputs}
    assert shapes[f"gradient/{image}"] == [1, 3, 224, 224]
    assert shapes[f"gradient/{last_map(model)}"] == shapes[last_map(model)]


@pytest.mark.oracle
@pytest.mark.parametrize("name", NAMES)
def test_against_torch(name: str) -> None:
    """The same gates for both: a Relu or a pool that two roundings open differently is no mistake,
    but moves the gradient of a whole network by per cents.
    """
    torch = pytest.importorskip("torch", reason="needs the extra `oracle`")
    from tests.autodiff.support import interpreter

    proto = weighted(name)
    model, feed, of = load(proto), picture(proto), logits(proto)
    wrt = (last_map(model), *feed)
    augmented = gradient(model, wrt, of)
    shape = next(each.shape for each in augmented.graph.inputs if each.name == SEED)
    seed = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    ours, gates = with_gates(augmented, {**feed, SEED: seed}, [f"gradient/{each}" for each in wrt])

    def by_torch(dtype: Any) -> list[Any]:
        known = interpreter.run(proto, feed, dtype, wrt, gates)
        known[of].backward(torch.from_numpy(seed).to(dtype).reshape(known[of].shape))
        return [known[each].grad.double().numpy() for each in wrt]

    for g, exact, rough in zip(ours, by_torch(torch.float64), by_torch(torch.float32), strict=True):
        assert g.shape == exact.shape
        assert error(g, exact) <= max(CLOSE, 2 * error(rough, exact))
        assert cosine(g, exact) >= min(ALIKE, cosine(rough, exact))


def with_gates(
    augmented: Model, feed: dict[str, Array], names: list[str]
) -> tuple[list[Any], dict[str, Any]]:
    """The outputs, and what each Relu and MaxPool of that same run let through."""
    emitted = augmented.proto()
    watched = {
        node.output[0]: node.output[0 if node.op_type == "Relu" else 1]
        for node in emitted.graph.node
        if node.op_type in ("Relu", "MaxPool")
    }
    shown = {each.name for each in emitted.graph.output}
    types = {each.name: each for each in emitted.graph.value_info}
    emitted.graph.output.extend(types[each] for each in watched.values() if each not in shown)
    found = run(emitted, feed, [*names, *watched.values()])
    held = dict(zip(watched, found[len(names) :], strict=True))
    return found[: len(names)], {n: e > 0 if e.dtype == np.float32 else e for n, e in held.items()}


def error(found: Floats, exact: Floats) -> float:
    return float(np.max(np.abs(found - exact)) / np.max(np.abs(exact)))


def cosine(found: Floats, exact: Floats) -> float:
    a, b = found.ravel().astype(np.float64), exact.ravel()
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
