"""Additive models over concepts: what is fitted, how well, and without the package."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxcam.arrays import Floats
from onnxcam.concept_maps import surrogate
from onnxcam.concept_maps.additive_model import (
    AdditiveModel,
    ShapeFunction,
    explained_variance,
    fit_additive_model,
)
from onnxcam.concept_maps.concepts import Concepts
from onnxcam.concept_maps.find import concepts
from onnxcam.errors import SettingError, TargetError
from tests.support.nets import DEEP, POOLED, Net, random_images

IMAGES = random_images(28)


def concepts_of(net: Net, count: int = 3, images: Any = IMAGES) -> Concepts:
    return concepts(net.content(), images, "features", count=count, device="cpu", cache=False)


def fit_lines(features: Floats, values: Floats, names: Sequence[str], seed: int) -> AdditiveModel:
    """Lines by least squares, as step functions of many steps: what stands for the boosting."""
    columns = np.column_stack([features, np.ones(len(features))])
    slopes = np.linalg.lstsq(columns, values, rcond=None)[0]
    cuts = np.linspace(0, features.max(), 2000)
    functions = (
        ShapeFunction(name, cuts, slope * np.append(cuts, cuts[-1]))
        for name, slope in zip(names, slopes, strict=False)
    )
    return AdditiveModel(float(slopes[-1]), tuple(functions))


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What is fitted; lines stand for the boosting, which needs a package."""
    passed: dict[str, Any] = {}

    def fit(features: Floats, values: Floats, names: Sequence[str], seed: int) -> AdditiveModel:
        passed.update(features=features, values=values, names=names)
        return fit_lines(features, values, names, seed)

    monkeypatch.setattr(surrogate, "fit_additive_model", fit)
    monkeypatch.setattr(surrogate, "require_boosting", lambda: None)
    return passed


@pytest.mark.parametrize("net", [POOLED, DEEP], ids=["pooled", "deep"])
def test_copies_are_scored_by_the_network(net: Net, fitted: dict[str, Any]) -> None:
    """A copy with the share s_k of concept k has the features s_k mean W_k, and the score of what is left."""
    result = concepts_of(net)
    result.surrogate(target=2)
    count, copies = 28, surrogate.COPIES
    held_out = -(-count // surrogate.HELD_OUT)
    assert fitted["features"].shape == ((count - held_out) * copies, 3)
    features = net.features(IMAGES)
    means = np.array([result.maps(n).mean(axis=(1, 2)) for n in range(count)])
    for first in range(0, len(fitted["features"]), copies):
        is_same = np.isclose(means, fitted["features"][first], rtol=1e-5).all(axis=1)
        n = int(np.argmax(is_same))
        shares = fitted["features"][first : first + copies] / means[n]
        assert (shares <= 1 + 1e-5).all()
        maps: Any = result.maps(n)
        removed = np.einsum("sk,khw,kc->schw", 1 - shares, maps, result.directions)
        expected = net.logits(features[n] - removed)[:, 2]
        values = fitted["values"][first : first + copies]
        np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-4)


def test_lines_explain_a_linear_head_up_to_what_is_not_in_the_concepts(
    fitted: dict[str, Any],
) -> None:
    fine = concepts_of(POOLED, 6).surrogate(target=1)
    coarse = concepts_of(POOLED, 1).surrogate(target=1)
    assert fine.r2 > 0.98
    assert fine.r2_copies > 0.98
    assert fine.r2 > coarse.r2
    assert int(fine.is_held_out.sum()) == 7


def test_default_target_is_the_most_frequent_first_class(fitted: dict[str, Any]) -> None:
    result = concepts_of(DEEP)
    logits = DEEP.logits(DEEP.features(IMAGES))
    most = int(np.bincount(logits.argmax(axis=1)).argmax())
    assert result.surrogate().target.index == most
    contrast = result.surrogate(target="1-3")
    np.testing.assert_allclose(contrast.scores, logits[:, 1] - logits[:, 3], rtol=1e-3, atol=1e-4)
    with pytest.raises(TargetError):
        result.surrogate(target=9)


def test_files_are_written_with_the_shape_functions(fitted: dict[str, Any], tmp_path: Path) -> None:
    model = concepts_of(POOLED).surrogate(target=1)
    chart = model.save(tmp_path)
    stored = json.loads(chart.with_suffix(".json").read_text())["surrogate"]
    assert stored["images"] == 28
    assert stored["held_out"] == 7
    assert stored["r2"] == model.r2
    functions = [
        ShapeFunction(row["name"], np.array(row["cuts"]), np.array(row["values"]))
        for row in stored["functions"]
    ]
    again = AdditiveModel(stored["intercept"], tuple(functions))
    np.testing.assert_array_equal(again(model.features), model.model(model.features))


def test_shape_function_has_a_value_between_its_cuts() -> None:
    function = ShapeFunction("x", np.array([1.0, 2.0]), np.array([10.0, 20.0, 30.0]))
    points = np.array([-5.0, 0.9, 1.0, 1.9, 2.0, 9.0])
    assert function(points).tolist() == [10, 10, 20, 20, 30, 30]
    model = AdditiveModel(0.5, (function, function))
    assert model(np.array([[0.0, 3.0]])).tolist() == [40.5]


def test_explained_variance_is_1_for_equal_and_0_for_constant_values() -> None:
    values = np.array([1.0, 2.0, 4.0])
    assert explained_variance(values, values) == 1.0
    assert explained_variance(values, np.full(3, values.mean())) == pytest.approx(0.0)
    assert explained_variance(np.ones(3), values) == 0.0


@pytest.mark.parametrize(
    ("kind", "images", "message"),
    [("gbm", 28, "surrogate 'gbm': expected gam"), ("gam", 10, "needs 24 images or more.*are 10")],
)
def test_unknown_kind_and_few_images_are_refused(
    fitted: dict[str, Any], kind: str, images: int, message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        concepts_of(POOLED, images=IMAGES[:images]).surrogate(kind)


def test_missing_package_is_an_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "interpret.glassbox", None)
    with pytest.raises(SettingError, match=r"interpret-core: pip install 'onnxcam\[gam\]'"):
        concepts_of(POOLED).surrogate()


@pytest.mark.oracle
def test_boosting_is_read_exactly_and_recovers_additive_functions() -> None:
    glassbox = pytest.importorskip("interpret.glassbox")
    draw = np.random.default_rng(0)
    features = draw.uniform(0, 1, (400, 3))
    values = np.sin(6 * features[:, 0]) + features[:, 1] ** 2
    model = fit_additive_model(features, values, ["a", "b", "c"], 0)
    assert explained_variance(values, model(features)) > 0.99
    assert np.ptp(model.functions[2].values) < 0.1
    settings = {"interactions": 0, "max_bins": 64, "max_rounds": 2000, "outer_bags": 4}
    regressor = glassbox.ExplainableBoostingRegressor(random_state=0, n_jobs=1, **settings)
    regressor.fit(features, values)
    points = draw.uniform(-0.2, 1.2, (50, 3))
    np.testing.assert_allclose(model(points), regressor.predict(points), rtol=1e-9)


def test_surrogate_of_other_concepts_is_removed(tmp_path: Path, fitted: dict[str, Any]) -> None:
    first, second = concepts_of(POOLED), concepts_of(POOLED, count=2)
    for row in (first, second):
        row.save(tmp_path)
        row.surrogate("gam", 1).save(tmp_path)
        row.save(tmp_path)
        assert (tmp_path / "surrogate.png").exists()
    first.save(tmp_path)
    assert not [*tmp_path.glob("surrogate.*")]
