"""Images that are explained in one call: with targets of any kinds, in blocks, as if each were alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxcam
from onnxcam.arrays import Floats
from onnxcam.errors import OnnxcamError, TargetError
from onnxcam.explain.inputs import PreparedInput
from onnxcam.explain.pipeline import BLOCK, Step, run_steps
from tests.explain.support.explained import assert_same_map, clean_quantities, make_explainer
from tests.methods.support.formulas import run
from tests.support.nets import (
    ANY_SIZE,
    CHANNELS,
    CLASSES,
    DEEP,
    FIXED,
    MIXING,
    MLP,
    POOLED,
    WIDTH,
    Net,
    random_images,
)

METHODS = ["grad-cam", "grad-cam++", "smooth-grad-cam++"]
SPECS: list[Any] = ["top1", "top2", "not top1", "3-0-2", 4, "not 2", "top5", "not top3", "class:0"]
FOUR = replace(
    POOLED, head=MLP + "    probabilities = Softmax<axis = -1>(logits)",
    shape="4, 3, 8, 8", outputs="float[4, 5] probabilities",
)  # fmt: skip
IMAGES = random_images(len(SPECS), seed=2)


def settings_of(method: str) -> dict[str, Any]:
    return {"samples": 4, "noise": 0.2} if method.startswith("smooth") else {}


def assert_equal_alone(explainer: onnxcam.Explainer, images: Floats, specs: Sequence[Any]) -> None:
    """One call returns what calls for single images return."""
    together = explainer(list(images), list(specs))
    alone = [explainer(image, spec) for image, spec in zip(images, specs, strict=True)]
    assert_same_map(together.maps, np.concatenate([one.maps for one in alone]))
    np.testing.assert_allclose(together.scores, [one.scores[0] for one in alone], rtol=1e-5)
    assert together.targets == tuple(one.targets[0] for one in alone)
    assert together.indices == tuple(one.indices[0] for one in alone)
    assert together.target_specs == tuple(one.target_specs[0] for one in alone)


class Rows:
    """The result of a block."""

    def row(self, number: int) -> int:
        return number


def make_steps(kind: str, ready: PreparedInput) -> list[Step]:
    return [Step(None, kind, ready)]


def count_runs(explainer: onnxcam.Explainer) -> list[int]:
    """The sizes of the batches that the explainer runs from now on."""
    sizes: list[int] = []
    session = explainer.runner.main.session
    real = session.run

    def counted(outputs: Any, feeds: Any) -> Any:
        sizes.append(len(feeds[explainer.plan.image.name]))
        return real(outputs, feeds)

    session.run = counted  # type: ignore[method-assign]
    return sizes


# Ranks


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("net", [DEEP, POOLED, ANY_SIZE, FIXED, FOUR, MIXING])
def test_targets_of_one_batch_equal_single_calls(net: Net, method: str) -> None:
    explainer = make_explainer(net, method, **settings_of(method))
    assert_equal_alone(explainer, IMAGES, SPECS)


def test_targets_of_one_batch_agree_with_numpy() -> None:
    explanation = make_explainer(DEEP, "grad-cam")(list(IMAGES), SPECS)
    logits = DEEP.logits(DEEP.features(IMAGES))
    order = np.argsort(-logits, axis=1)
    one = np.eye(CLASSES)
    weights = [
        one[order[0, 0]], one[order[1, 1]], -one[order[2, 0]], one[3] - (one[0] + one[2]) / 2, one[4],
        -one[2], one[order[6, 4]], -one[order[7, 2]], one[0],
    ]  # fmt: skip
    expected = [
        run("grad-cam", clean_quantities(DEEP, image, row))
        for image, row in zip(IMAGES, weights, strict=True)
    ]
    assert_same_map(explanation.layer_maps, np.concatenate(expected))
    np.testing.assert_allclose(explanation.scores, np.sum(logits * weights, axis=1), rtol=1e-4)


@pytest.mark.parametrize("score", ["logit", "probability"])
@pytest.mark.parametrize("method", ["grad-cam", "grad-cam++"])
@pytest.mark.parametrize("net", [DEEP, POOLED])
def test_ranked_targets_need_one_pass(net: Net, method: str, score: str) -> None:
    explainer = make_explainer(net, method, score=score, chunk=8)  # all in one session
    sizes = count_runs(explainer)
    explainer(list(IMAGES), SPECS)
    assert sum(sizes) == len(IMAGES)


def test_first_of_equal_scores_has_higher_rank() -> None:
    proto = DEEP.proto()
    for tensor in proto.graph.initializer:
        if tensor.name in ("v", "d"):
            rows = numpy_helper.to_array(tensor).copy()
            rows[[1, 3]] = rows[[4, 4]] + np.float32(2.0)  # equal, and highest
            tensor.CopyFrom(numpy_helper.from_array(rows, tensor.name))
    explainer = onnxcam.Explainer(proto.SerializeToString(), "grad-cam++", "features", device="cpu")
    first, second = explainer(IMAGES[:1], "top1"), explainer(IMAGES[:1], "top2")
    assert (first.indices, second.indices) == ((1,), (3,))
    np.testing.assert_array_equal(first.maps, explainer(IMAGES[:1], 1).maps)
    np.testing.assert_array_equal(second.maps, explainer(IMAGES[:1], 3).maps)


def test_ranks_of_float64_scores_are_exact() -> None:
    """Classes whose scores differ by less than float32 resolves."""
    text = """<ir_version: 9, opset_import: ["": 18]>
        net (double[N, 3, 8, 8] x) => (double[N, 2] y) {
            layer = Relu(x)
            flat = ReduceMean<keepdims = 0>(layer, cells)
            curved = Tanh(flat)
            scores = MatMul(curved, v)
            y = Add(scores, b) }"""
    proto = onnx.parser.parse_model(text)
    v = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    for name, array in (("v", v), ("b", np.array([1.0, 1.0 + 1e-9])), ("cells", np.array([2, 3]))):
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    x = np.ones((1, 3, 8, 8))
    x[0, 0, 0], x[0, 1, 1] = 2.0, 2.0  # equal means, at different cells
    explainer = onnxcam.Explainer(proto.SerializeToString(), "grad-cam", "layer", device="cpu")
    explanation = explainer(x, "top1")
    assert explanation.indices == (1,)
    np.testing.assert_array_equal(explanation.maps, explainer(x, 1).maps)
    assert not np.array_equal(explanation.maps, explainer(x, 0).maps)


@pytest.mark.parametrize("spec", ["top0", "top6", "not top6"])
def test_rank_beyond_classes_is_error(spec: str) -> None:
    with pytest.raises(TargetError, match="the model has 5 classes; expected top1 to top5"):
        make_explainer(DEEP, "grad-cam")(list(IMAGES[:2]), ["top1", spec])


@pytest.mark.parametrize("opset", [9, 10])
def test_model_of_old_opset_takes_ranks(opset: int) -> None:
    """TopK takes the number of values as an input since opset 10, and other axes since 11."""
    old = onnxcam.Explainer(
        DEEP.proto(opset).SerializeToString(), "grad-cam++", "features", device="cpu", cache=False
    )
    assert_same_map(
        old(list(IMAGES), SPECS).maps, make_explainer(DEEP, "grad-cam++")(list(IMAGES), SPECS).maps
    )


LEVEL = 0.625


def single_logit() -> bytes:
    """DEEP with its first class only, whose score is raised by LEVEL."""
    net = replace(DEEP, head=MLP, outputs="float[N, 1] logits")
    proto = net.proto()
    for tensor in proto.graph.initializer:
        if tensor.name in ("v", "d"):
            row = numpy_helper.to_array(tensor)[:1] + np.float32(LEVEL if tensor.name == "d" else 0)
            tensor.CopyFrom(numpy_helper.from_array(row, tensor.name))
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam++"])
def test_side_of_single_logit_needs_second_pass(method: str) -> None:
    """The class of a rank is the sign of the logit, which the model does not choose itself."""
    explainer = onnxcam.Explainer(
        single_logit(), method, "features", device="cpu", labels=["cat", "dog"], chunk=8
    )
    sizes = count_runs(explainer)
    logits = DEEP.logits(DEEP.features(IMAGES))[:, 0] + LEVEL
    assert min(logits) < 0 < max(logits)
    explanation = explainer(IMAGES, "top1")
    assert sum(sizes) == 2 * len(IMAGES)
    assert explanation.targets == tuple("dog" if logit > 0 else "cat" for logit in logits)
    expected = [
        run(method, clean_quantities(DEEP, image, np.sign(logit) * np.eye(CLASSES)[0]))
        for image, logit in zip(IMAGES, logits, strict=True)
    ]
    assert_same_map(explanation.layer_maps, np.concatenate(expected))
    sizes.clear()
    explainer(list(IMAGES), ["cat"] * len(IMAGES))
    assert sum(sizes) == len(IMAGES)  # a side that is named needs none


# Blocks


@pytest.mark.parametrize(
    ("kinds", "size", "expected"),
    [
        ("aaaaa", 2, ["aa", "aa", "a"]),
        ("aabba", 4, ["aa", "bb", "a"]),
        ("aaaabb", 4, ["aaaa", "bb"]),
        ("", 4, []),
    ],
)
def test_blocks_divide_images_by_kind_and_size(kinds: str, size: int, expected: list[str]) -> None:
    image: Any = None
    ready = PreparedInput(image, np.zeros((1, 3, 8, 8), np.float32), is_preprocessed=False)
    runs: list[str] = []

    loads = [partial(make_steps, kind, ready) for kind in kinds]

    def record(steps: Sequence[Step], _: object) -> Any:
        runs.append("".join(str(step.spec) for step in steps))
        return Rows()

    results = [*run_steps(loads, record, lambda step: step.spec, block=size, threads=0)]
    assert runs == expected
    assert [step.spec for step in results] == list(kinds)


def test_images_of_the_next_block_wait_until_runs_are_tuned() -> None:
    image: Any = None
    ready = PreparedInput(image, np.zeros((1, 3, 8, 8), np.float32), is_preprocessed=False)
    loaded, counts = [], []

    def load(number: int) -> list[Step]:
        loaded.append(number)
        return make_steps("a", ready)

    def record(steps: Sequence[Step], _: object) -> Any:
        time.sleep(0.02)  # for threads that load more
        counts.append(len(loaded))
        return Rows()

    loads = [partial(load, number) for number in range(10)]
    is_tuned = lambda: len(counts) >= 2  # noqa: E731
    kind = lambda step: step.spec  # noqa: E731
    list(run_steps(loads, record, kind, block=3, threads=2, runs=2, is_tuned=is_tuned))
    assert counts[:2] == [3, 6]
    assert counts[2] == 10


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [BLOCK, BLOCK + 1, 2 * BLOCK + 3])
def test_many_images_equal_single_calls(method: str, count: int) -> None:
    explainer = make_explainer(DEEP, method, **settings_of(method))
    assert_equal_alone(explainer, random_images(count, seed=4), ["top1"] * count)


def test_images_run_in_blocks() -> None:
    explainer = make_explainer(DEEP, "grad-cam", chunk=BLOCK)
    sizes = count_runs(explainer)
    explainer(random_images(2 * BLOCK + 3))
    assert sizes == [BLOCK, BLOCK, 3]


def test_several_layers_of_many_images_equal_single_calls() -> None:
    layers = ["early", "features"]
    explainer = make_explainer(DEEP, "grad-cam++", layer=layers, channels="0,2-3", fuse="mean")
    assert_equal_alone(explainer, random_images(BLOCK + 2, seed=4), ["top1"] * (BLOCK + 2))


# Elements of tensors


def element_gradient(features: Floats, tensor: str, index: tuple[int, ...]) -> Floats:
    """The gradient (1, C, h, w) of one element at the features (1, C, h, w)."""
    weights = DEEP.weights
    if tensor == "features":
        gradient = np.zeros(features.shape)
        gradient[(0, *index)] = 1.0
        return gradient
    (row,) = index
    gradient = weights["u"][row].reshape(features.shape).astype(np.float64)
    hidden = features.reshape(1, -1) @ weights["u"].T + weights["e"]
    return gradient * (hidden[0, row] > 0) if tensor == "active" else gradient


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam++", "smooth-grad-cam++"])
@pytest.mark.parametrize(("tensor", "index"), [("hidden", (3,)), ("active", ()), ("features", ())])
def test_element_map_is_that_of_its_gradient(
    tensor: str, index: tuple[int, ...], method: str
) -> None:
    x = IMAGES[:1]
    features = DEEP.features(x)
    hidden = features.reshape(1, -1) @ DEEP.weights["u"].T + DEEP.weights["e"]
    values = {"hidden": hidden, "active": np.maximum(hidden, 0), "features": features}
    if tensor != "hidden":  # an element that is not 0
        index = tuple(
            map(int, np.unravel_index(np.argmax(values[tensor][0]), values[tensor].shape[1:]))
        )
    spec = f"element:{tensor}[{','.join(map(str, index))}]"
    smooth = {"samples": 1, "noise": 0} if method.startswith("smooth") else {}
    explanation = make_explainer(DEEP, method, **smooth)(x, spec)
    g = element_gradient(features, tensor, index)
    quantities = {"activation": features, "gradient": g, "d1": g, "d2": g**2, "d3": g**3}
    assert_same_map(explanation.layer_maps, run(method, quantities))
    np.testing.assert_allclose(explanation.scores, values[tensor][(0, *index)], rtol=1e-5)
    assert (explanation.targets, explanation.target_specs) == ((spec,), (spec,))
    assert explanation.probabilities is None


@pytest.mark.parametrize("method", METHODS)
def test_kinds_of_targets_may_differ_between_images(method: str) -> None:
    explainer = make_explainer(DEEP, method, **settings_of(method))
    specs = [
        "top1", "element:hidden[3]", "element:hidden[-1]", "top2", 1, "element:features[2,1,3]",
        "element:hidden[3]", "3-0", "not top1",
    ]  # fmt: skip
    assert_equal_alone(explainer, IMAGES, specs)


def test_negative_index_counts_from_end() -> None:
    explainer = make_explainer(DEEP, "grad-cam")
    first, last = (explainer(IMAGES[:1], f"element:hidden[{i}]") for i in (-1, WIDTH - 1))
    np.testing.assert_array_equal(first.maps, last.maps)


@pytest.mark.parametrize(
    "spec",
    ["element:hidden[8]", "element:hidden[-9]", "element:hidden[1,2]", "element:features[1]"],
)
def test_element_beyond_tensor_is_error(spec: str) -> None:
    sizes = f"{CHANNELS} x 4 x 4" if "features" in spec else str(WIDTH)
    with pytest.raises(TargetError, match=rf"holds {sizes} numbers per image; expected"):
        make_explainer(DEEP, "grad-cam")(IMAGES[:1], spec)


def test_element_of_unknown_tensor_is_error() -> None:
    with pytest.raises(OnnxcamError, match="nowhere"):
        make_explainer(DEEP, "grad-cam")(IMAGES[:1], "element:nowhere[1]")


def test_exact_label_has_precedence_over_element() -> None:
    labels = ["a", "element:hidden[3]", "c", "d", "e"]
    explanation = make_explainer(DEEP, "grad-cam", labels=labels)(IMAGES[:1], labels[1])
    assert explanation.indices == (1,)
    np.testing.assert_array_equal(
        explanation.maps, make_explainer(DEEP, "grad-cam")(IMAGES[:1], 1).maps
    )
