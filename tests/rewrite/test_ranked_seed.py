"""The class of a rank, found inside the model."""

from typing import Any

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam.model.load import load
from onnxcam.rewrite.planner import plan
from onnxcam.rewrite.ranked_seed import add_ranks
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from onnxcam.specs import MODEL, RANK, SEED
from onnxcam.targets.classes import parse_target
from tests.support.nets import DEEP, random_images

CLASSES = 6


def model(dtype: str = "float", shape: str = f"N, {CLASSES}", opset: int = 13) -> onnxcam.Model:
    """`twice` reads the cotangents of the scores."""
    return load(
        onnx.parser.parse_model(
            f"""<ir_version: 8, opset_import: ["": {opset}]>
            g ({dtype}[{shape}] x, float[{shape}] seed)
            => ({dtype}[{shape}] scores, float[{shape}] twice)
            {{ scores = Identity(x) twice = Add(seed, seed) }}"""
        )
    )


def ranked(scores: Any, ranks: Any, seeds: Any, **options: Any) -> Any:
    changed = model(**options)
    add_ranks(changed.graph, "scores", CLASSES)
    onnx.checker.check_model(changed.proto(), full_check=True)
    session = Session(changed.bytes(), Device("cpu"), threads=1)
    feeds = {"x": scores, SEED: seeds, RANK: np.array(ranks, np.int64)}
    (twice,) = session.run(["twice"], feeds)
    return np.asarray(twice, np.float64) / 2


def classes_of_ranks(scores: Any, ranks: Any) -> Any:
    """By NumPy: of equal scores the first class has the higher rank."""
    rows = np.zeros((len(ranks), CLASSES))
    for row, (values, rank) in enumerate(zip(scores.reshape(len(ranks), -1), ranks, strict=True)):
        if rank:
            rows[row, np.argsort(-values, kind="stable")[abs(rank) - 1]] = np.sign(rank)
    return rows


RANKS = [1, 2, CLASSES, -1, -3, 0, 4, 1]
DRAW = np.random.default_rng(3)
DISTINCT = DRAW.permuted(np.tile(np.arange(CLASSES), (len(RANKS), 1)), axis=1)
SCORES = {
    "distinct": DISTINCT,
    "ties": DISTINCT // 2,
    "equal": np.zeros_like(DISTINCT),
    "negative": -100 - DISTINCT,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("case", SCORES)
def test_class_of_rank_is_added_to_cotangents(case: str, dtype: type[np.generic]) -> None:
    scores = SCORES[case].astype(dtype)
    seeds = DRAW.standard_normal((len(RANKS), CLASSES), dtype=np.float32)
    name = "float16" if dtype is np.float16 else "float"
    expected = seeds + classes_of_ranks(scores, RANKS)
    np.testing.assert_allclose(ranked(scores, RANKS, seeds, dtype=name), expected, rtol=1e-6)


def test_scores_with_axes_of_one_have_ranks() -> None:
    scores = SCORES["ties"].astype(np.float32)[:, :, None, None]
    actual = ranked(scores, RANKS, np.zeros_like(scores), shape=f"N, {CLASSES}, 1, 1")
    assert actual.shape == scores.shape
    np.testing.assert_array_equal(actual[:, :, 0, 0], classes_of_ranks(scores, RANKS))


def test_rank_zero_adds_nothing() -> None:
    seeds = DRAW.standard_normal((8, CLASSES), dtype=np.float32)
    scores = SCORES["distinct"].astype(np.float32)
    np.testing.assert_array_equal(ranked(scores, [0] * 8, seeds), seeds)


@pytest.mark.parametrize("case", SCORES)
def test_rank_is_that_of_the_target(case: str) -> None:
    """The class that the model finds is the one that is named in the result."""
    for row in SCORES[case].astype(np.float32):
        for rank in range(1, CLASSES + 1):
            target = parse_target(f"top{rank}", CLASSES, None, row.astype(np.float64), 0.0)
            actual = ranked(row[None], [rank], np.zeros((1, CLASSES), np.float32))[0]
            np.testing.assert_array_equal(actual, target.weights)


@pytest.mark.parametrize(("classes", "opset"), [(CLASSES, 10), (1, 13)])
def test_model_without_ranks_is_unchanged(classes: int, opset: int) -> None:
    """TopK before opset 11 does not take the number as an input; a single score has no ranks."""
    unchanged = model(opset=opset)
    before = unchanged.bytes()
    add_ranks(unchanged.graph, "scores", classes)
    assert unchanged.bytes() == before


@pytest.mark.parametrize("target", ["top1", "top2", "not top1", "top4"])
def test_rank_at_old_opset_gives_same_map(target: str) -> None:
    """There the scores are computed first, in a pass of their own."""
    old, new = (load(DEEP.proto(opset=opset)) for opset in (10, 17))
    request = onnxcam.METHODS["grad-cam"].plan_request("features")
    inputs = [
        {tensor.name for tensor in plan(net, request).models[MODEL].graph.inputs}
        for net in (old, new)
    ]
    assert [RANK in names for names in inputs] == [False, True]
    x = random_images(3)
    results = [onnxcam.Explainer(net, "grad-cam", "features")(x, target) for net in (old, new)]
    assert results[0].targets == results[1].targets
    assert results[0].maps.any()
    np.testing.assert_allclose(results[0].maps, results[1].maps, rtol=1e-5, atol=1e-7)
