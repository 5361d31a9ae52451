"""Additive models over superpixels: of a score that is a sum over two cells of a grid, and of nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcam.arrays import Floats
from onnxcam.concept_maps import superpixels
from onnxcam.concept_maps.superpixels import SuperpixelModel, fit_superpixels
from onnxcam.errors import SettingError
from onnxcam.explain.result_files import verified_manifest
from onnxcam.methods.blur import blur_inside
from tests.concept_maps.test_surrogate import fit_lines
from tests.support.nets import random_images

SIDE, HALF = 16, 8
IMAGE = 0.3 * random_images(1, (3, SIDE, SIDE), seed=5)
CELLS = (0, 3)  # of four: at the upper left and the lower right


def cell(number: int) -> Any:
    row, column = divmod(number, 2)
    return (..., slice(row * HALF, (row + 1) * HALF), slice(column * HALF, (column + 1) * HALF))


IMAGE[cell(0)] += 0.7  # so that the blur changes its mean
IMAGE[cell(3)] += 0.5


def sum_over_two_cells(*functions: str) -> bytes:
    """A model whose logits are f(mean of one cell) + g(mean of another one), and the negative of that."""
    nodes, tensors = [], []
    for name, number, function in zip("ab", CELLS, functions, strict=True):
        weights = np.zeros((1, 3, SIDE, SIDE), np.float32)
        weights[cell(number)] = 4 / (3 * HALF * HALF)
        tensors.append(numpy_helper.from_array(weights, f"weights_{name}"))
        nodes += [
            helper.make_node("Mul", ["image", f"weights_{name}"], [f"weighted_{name}"]),
            helper.make_node(
                "ReduceSum", [f"weighted_{name}", "axes"], [f"mean_{name}"], keepdims=0
            ),
            helper.make_node(function, [f"mean_{name}"], [f"part_{name}"]),
        ]
    tensors.append(numpy_helper.from_array(np.array([1, 2, 3]), "axes"))
    tensors.append(numpy_helper.from_array(np.array([1]), "last"))
    nodes += [
        helper.make_node("Add", ["part_a", "part_b"], ["sum"]),
        helper.make_node("Unsqueeze", ["sum", "last"], ["column"]),
        helper.make_node("Neg", ["column"], ["negative"]),
        helper.make_node("Concat", ["column", "negative"], ["logits"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "cells",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])],
        tensors,
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def fit(*functions: str, **settings: Any) -> SuperpixelModel:
    return fit_superpixels(
        sum_over_two_cells(*functions),
        IMAGE,
        0,
        **{"segments": "grid", "count": 4, "samples": 200, **settings},
        device="cpu",
        cache=False,
        preprocess="unit",
    )


def means(image: Floats) -> Floats:
    """Four times the mean of each cell: what the functions are of."""
    return np.array([4 * image[cell(number)].mean() for number in range(4)])


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines stand for the boosting, which needs a package."""
    monkeypatch.setattr(superpixels, "require_boosting", lambda: None)
    monkeypatch.setattr(superpixels, "fit_additive_model", fit_lines)


def test_samples_are_scored_by_the_model(lines: None) -> None:
    model = fit("Exp", "Tanh")
    blurred = blur_inside(IMAGE.astype(np.float64), 0.1 * SIDE)
    shares, labels = model.shown.shares, model.shown.labels
    masks = shares[:, labels][:, None]
    images = IMAGE * masks + blurred * (1 - masks)
    parts = np.array([means(image) for image in images])
    expected = np.exp(parts[:, 0]) + np.tanh(parts[:, 3])
    np.testing.assert_allclose(model.shown.scores, expected, rtol=1e-4)
    assert (shares[0] == 1).all()
    assert 0.4 < (shares == 1).mean() < 0.6


def test_linear_function_of_two_cells_is_recovered(lines: None) -> None:
    model = fit("Identity", "Neg")
    blurred = blur_inside(IMAGE.astype(np.float64), 0.1 * SIDE)
    change = means(IMAGE[0]) - means(blurred[0])
    assert np.abs(change[[0, 3]]).min() > 0.2
    np.testing.assert_allclose(model.effects, [change[0], 0, 0, -change[3]], atol=2e-3)
    assert model.r2 > 0.999
    assert model.r2_linear > 0.999
    np.testing.assert_array_equal(model.map[:HALF, :HALF], model.effects[0])
    np.testing.assert_array_equal(model.map[HALF:, HALF:], model.effects[3])


def test_files_are_written_and_the_seed_makes_the_samples(lines: None, tmp_path: Path) -> None:
    first, second, third = (fit("Exp", "Tanh", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.shown.shares, second.shown.shares)
    assert (first.shown.shares != third.shown.shares).any()
    chart = first.save(tmp_path)
    assert chart.name == "array-0.superpixels.png"
    assert verified_manifest({"overlay": chart, "manifest": chart.with_suffix(".json")})
    manifest = json.loads(chart.with_suffix(".json").read_text())
    assert manifest["target"]["index"] == 0
    assert manifest["superpixels"]["effects"] == first.effects.tolist()
    assert manifest["superpixels"]["r2_linear"] == first.r2_linear


@pytest.mark.parametrize("settings", [{"count": 0}, {"samples": 10}])
def test_settings_out_of_range_are_refused(lines: None, settings: dict[str, int]) -> None:
    with pytest.raises(SettingError, match="expected 1 superpixel or more, and 64 samples or more"):
        fit("Exp", "Tanh", **settings)


@pytest.mark.oracle
def test_functions_of_two_cells_are_recovered_by_boosting() -> None:
    pytest.importorskip("interpret.glassbox")
    model = fit("Exp", "Cos", samples=1500)
    blurred = blur_inside(IMAGE.astype(np.float64), 0.1 * SIDE)
    start, end, points = means(blurred[0]), means(IMAGE[0]), np.linspace(0.05, 0.95, 19)
    span = model.shown.scores.max() - model.shown.scores.min()
    for number, function in zip(CELLS, (np.exp, np.cos), strict=True):
        true = function(start[number] + points * (end - start)[number])
        curve = model.model.functions[number](points)
        np.testing.assert_allclose(curve - curve.mean(), true - true.mean(), atol=0.05 * span)
    for number in (1, 2):
        assert np.ptp(model.model.functions[number].values) < 0.05 * span
    assert model.r2 > 0.98
