"""Models as exporters write them: gradients equal those of the framework that exported them.

`scripts/fixtures/export_*.py` made the fixtures in tests/data; the frameworks themselves are not needed here.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import onnxcam
from onnxcam.arrays import Array
from onnxcam.errors import ModelError
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from scripts.fixtures.files import COTANGENT, IMAGE, load_fixture

DATA = Path(__file__).parent / "data"
TIMM = sorted(path.stem for path in DATA.glob("timm_*.npz"))
NAMES = sorted({path.stem for path in DATA.glob("*.npz")} - {*TIMM})
Run = Callable[[onnxcam.Model, list[str], dict[str, Array]], list[Any]]
TOLERANCE = 1e-4  # of the largest gradient: float32 in both
ROUNDED = {"float16": 5 * 2.0**-11, "bfloat16": 5 * 2.0**-8}  # five roundings in the backward pass
WITHOUT_KERNEL = {"bfloat16"}  # ONNX Runtime has no convolutions in bfloat16 for CPUs


def assert_close(actual: Array, expected: Array, name: str, tolerance: float = TOLERANCE) -> None:
    error = np.abs(np.asarray(actual, np.float64) - np.asarray(expected, np.float64)).max()
    assert error <= tolerance * np.abs(expected).max(), name


def by_runtime(model: onnxcam.Model, names: list[str], feeds: dict[str, Array]) -> list[Any]:
    return Session(model.bytes(), Device("cpu")).run(names, feeds)


def by_reference(model: onnxcam.Model, names: list[str], feeds: dict[str, Array]) -> list[Any]:
    return ReferenceEvaluator(model.proto()).run(names, feeds)


def gradients(
    model: onnxcam.Model, wrt: Sequence[str], x: Array, cotangent: Array, run: Run = by_runtime
) -> Mapping[str, Array]:
    """The scores, and the gradients at the tensors `wrt`."""
    scores = model.graph.outputs[0].name
    augmented = onnxcam.gradient(model, wrt, scores)
    onnx.checker.check_model(augmented.proto(), full_check=True)
    names = [scores, *(f"gradient/{name}" for name in wrt)]
    feeds = {model.graph.inputs[0].name: x, "seed": cotangent}
    return dict(zip(("scores", *wrt), run(augmented, names, feeds), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_gradient_equals_framework(name: str) -> None:
    golden = np.load(DATA / f"{name}.npz")
    model = onnxcam.load(DATA / f"{name}.onnx")
    image, tolerance = model.graph.inputs[0], ROUNDED.get(name, TOLERANCE)
    x = golden["x"].astype(image.dtype)
    run = by_reference if name in WITHOUT_KERNEL else by_runtime
    results = gradients(model, [image.name], x, golden["cotangent"], run)
    assert_close(results["scores"], golden["scores"], "scores", tolerance)
    assert_close(results[image.name], golden["gradient"], "gradient", tolerance)


@pytest.mark.parametrize("name", TIMM)
def test_gradient_of_timm_model_equals_autograd(name: str) -> None:
    """At the image, and at the layer if torch has that tensor, too."""
    golden: Mapping[str, Any] = np.load(DATA / f"{name}.npz")
    model = onnxcam.load(load_fixture(DATA / f"{name}.onnx"))
    expected = {"scores": golden["scores"], "x": golden["gradient"]}
    if "layer" in golden:
        expected[str(golden["layer"])] = golden["layer_gradient"]
    results = gradients(model, list(expected)[1:], IMAGE.values(), COTANGENT.values())
    for tensor, values in expected.items():
        assert_close(results[tensor], values, tensor)


@pytest.mark.parametrize("name", TIMM)
def test_timm_model_is_explained(name: str) -> None:
    content = load_fixture(DATA / f"{name}.onnx").SerializeToString()
    explanation = onnxcam.Explainer(content, "grad-cam", device="cpu")(IMAGE.values())
    assert explanation.maps.shape == (2, 64, 64)
    assert np.isfinite(explanation.maps).all()


@pytest.mark.parametrize("name", sorted({*NAMES} - WITHOUT_KERNEL))
def test_exported_model_is_explained(name: str) -> None:
    golden = np.load(DATA / f"{name}.npz")
    explainer = onnxcam.Explainer(DATA / f"{name}.onnx", "grad-cam++", device="cpu")
    maps = explainer(golden["x"]).maps
    assert maps.shape[0] == len(golden["x"])
    assert maps.max() > 0


@pytest.mark.parametrize("name", sorted(WITHOUT_KERNEL))
def test_operator_without_kernel_raises_model_error(name: str) -> None:
    with pytest.raises(ModelError, match="implementation for Conv"):
        onnxcam.Explainer(DATA / f"{name}.onnx", "grad-cam++", device="cpu")


def test_fixtures_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in DATA.iterdir()}
    assert len(NAMES) >= 7
    assert len(TIMM) >= 10
    assert max(sizes.values()) <= 200_000
    assert sum(sizes.values()) <= 5_000_000
