"""Whole architectures against torch autograd in float64, at a late layer and at the image."""

from typing import Any

import numpy as np
import pytest

from onnxcam.arrays import Array, Floats
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import assert_valid, run
from tests.autodiff.support.light import NAMES, logits, random_image, with_tame_weights

CLOSE = 1e-4  # of the largest gradient; or twice what torch itself loses in float32
SIMILAR = 0.9999  # the cosine, unless torch's own in float32 is lower
QUICK = {"shufflenet", "squeezenet"}
ARCHITECTURES = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NAMES],
)


def last_map(model: Model) -> str:
    """The last tensor (N, C, h, w) of more than one cell."""
    for node in reversed(model.graph.nodes):
        shape: list[int] = node.outputs[0].shape or []
        if len(shape) == 4 and shape[2] * shape[3] > 1:
            return str(node.outputs[0].name)
    raise AssertionError("no feature map")


@ARCHITECTURES
def test_gradient_of_architecture_is_valid(name: str) -> None:
    proto = with_tame_weights(name)
    model = load(proto)
    of = logits(proto)
    (image,) = random_image(proto)
    augmented = gradient(model, [last_map(model), image], of)
    assert_valid(augmented.proto())
    shapes = {tensor.name: tensor.shape for tensor in augmented.graph.outputs}
    assert shapes[f"gradient/{image}"] == [1, 3, 224, 224]
    assert shapes[f"gradient/{last_map(model)}"] == shapes[last_map(model)]


@pytest.mark.oracle
@ARCHITECTURES
def test_gradient_of_architecture_matches_torch(name: str) -> None:
    """Both use the same gates: where rounding opens a Relu or a pool differently, neither is wrong,
    but the gradient of the network changes by percents.
    """
    torch = pytest.importorskip("torch", reason="needs the extra `oracle`")
    from tests.autodiff.support import interpreter

    proto = with_tame_weights(name)
    model, feed, of = load(proto), random_image(proto), logits(proto)
    wrt = (last_map(model), *feed)
    augmented = gradient(model, wrt, of)
    shape = next(tensor.shape for tensor in augmented.graph.inputs if tensor.name == SEED)
    seed = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    ours, gates = with_gates(augmented, {**feed, SEED: seed}, [f"gradient/{name}" for name in wrt])

    def by_torch(dtype: Any) -> list[Any]:
        tensors = interpreter.run(proto, feed, dtype, wrt, gates)
        tensors[of].backward(torch.from_numpy(seed).to(dtype).reshape(tensors[of].shape))
        return [tensors[name].grad.double().numpy() for name in wrt]

    for g, exact, rough in zip(ours, by_torch(torch.float64), by_torch(torch.float32), strict=True):
        assert g.shape == exact.shape
        assert error(g, exact) <= max(CLOSE, 2 * error(rough, exact))
        assert cosine(g, exact) >= min(SIMILAR, cosine(rough, exact))


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
    outputs = {tensor.name for tensor in emitted.graph.output}
    types = {tensor.name: tensor for tensor in emitted.graph.value_info}
    emitted.graph.output.extend(types[name] for name in watched.values() if name not in outputs)
    values = run(emitted, feed, [*names, *watched.values()])
    held = dict(zip(watched, values[len(names) :], strict=True))
    gates = {n: y > 0 if y.dtype == np.float32 else y for n, y in held.items()}
    return values[: len(names)], gates


def error(computed: Floats, exact: Floats) -> float:
    return float(np.max(np.abs(computed - exact)) / np.max(np.abs(exact)))


def cosine(computed: Floats, exact: Floats) -> float:
    a, b = computed.ravel().astype(np.float64), exact.ravel()
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
