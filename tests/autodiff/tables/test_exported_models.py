"""Every table of rules gives a map on models as exporters write them, and keeps the sum that it promises."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxcam.arrays import Array, Floats
from onnxcam.autodiff.tables import RULE_TABLES
from onnxcam.heads.score import find_score
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.rewrite.gradient import SEED, gradient
from onnxcam.rewrite.per_image import ABSORBED
from onnxcam.specs import REFERENCE
from scripts.fixtures.files import IMAGE, load_fixture
from tests.autodiff.support.check import run

DATA = Path(__file__).parents[2] / "data"
WITHOUT_KERNEL = {"bfloat16"}  # ONNX Runtime has no convolutions in bfloat16 for CPUs
NAMES = sorted({path.stem for path in DATA.glob("*.npz")} - WITHOUT_KERNEL)
BENT = sorted({*RULE_TABLES} - {"default"})
ROUNDED = {"float16": 0.02, "bfloat16_weights": 0.02}
INTEGERS = {"qdq_per_channel", "qdq_per_tensor", "qlinear"}  # steps; ReLU is a bound of them
LONG = {"timm_test_vit3_dynamo", "timm_test_vit4_dynamo", "timm_test_coatnet_script"}  # many nodes
OF_RECTIFIERS = {"guided", "deconvnet"}
WITHOUT_RECTIFIERS = {"dynamo_vit", "torchscript_vit", *INTEGERS}
GAP = 1e-3  # of the sum of all parts, in float32


def marked(names: Iterable[str]) -> list[Any]:
    """The names, as parameters of tests."""
    return [
        pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in sorted(names)
    ]


@cache
def read(name: str) -> tuple[Model, Array]:
    """The model and two images, as some take no other number."""
    path = DATA / f"{name}.onnx"
    if name.startswith("timm_"):
        return load(load_fixture(path)), IMAGE.values()
    return load(path), np.load(DATA / f"{name}.npz")["x"]


@cache
def bend(name: str, rules: str) -> tuple[Floats, float, dict[str, Any]]:
    """What a table gives for the first class of the first image, that score, and the other outputs."""
    model, x = read(name)
    image, score = model.graph.inputs[0], find_score(model).logits
    augmented = gradient(model, [image.name], score, rules)
    seed = next(tensor for tensor in augmented.graph.inputs if tensor.name == SEED)
    shape = [size if isinstance(size, int) else len(x) for size in seed.shape]
    first = np.zeros(shape, seed.dtype)
    first.flat[0] = 1
    feed = {image.name: x.astype(image.dtype), SEED: first}
    if RULE_TABLES[rules].needs_reference:
        feed[REFERENCE] = np.zeros_like(feed[image.name])
    names = [tensor.name for tensor in augmented.graph.outputs]
    outputs = dict(zip(names, run(augmented.proto(), feed, names), strict=True))
    result = np.asarray(outputs[f"gradient/{image.name}"], np.float64)
    return result[0], float(outputs[score].flat[0]), outputs


@pytest.mark.parametrize("rules", BENT)
@pytest.mark.parametrize("name", marked(NAMES))
def test_bent_pass_of_exported_model_is_finite_and_its_own(name: str, rules: str) -> None:
    result, _, _ = bend(name, rules)
    assert result.shape == read(name)[1].shape[1:]
    assert np.isfinite(result).all()
    assert result.any()
    plain, _, _ = bend(name, "default")
    is_plain = np.allclose(result, plain, atol=1e-3 * np.abs(plain).max())
    assert is_plain == (rules in OF_RECTIFIERS and name in WITHOUT_RECTIFIERS)


@pytest.mark.parametrize("name", marked(NAMES))
def test_relevance_of_exported_model_is_conserved(name: str) -> None:
    result, score, outputs = bend(name, "lrp")
    parts = np.abs(result).sum() + abs(score)
    gap = abs(result.sum() + float(outputs[ABSORBED][0]) - score) / parts
    assert gap <= ROUNDED.get(name, GAP)


@pytest.mark.parametrize("name", marked({*NAMES} - INTEGERS))
def test_multipliers_of_exported_model_sum_to_the_difference(name: str) -> None:
    m, score, _ = bend(name, "deep-lift")
    model, x = read(name)
    image = model.graph.inputs[0]
    (zero,) = run(
        model.proto(), {image.name: np.zeros_like(x, image.dtype)}, [find_score(model).logits]
    )
    parts = m * x[0]
    gap = abs(parts.sum() - (score - float(zero.flat[0]))) / np.abs(parts).sum()
    assert gap <= ROUNDED.get(name, GAP)
