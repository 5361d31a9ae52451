"""Models as exporters write them, against gradients by the framework that they come from.

`scripts/export_*.py` made the fixtures in tests/data; nothing of the frameworks is needed here.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session

DATA = Path(__file__).parent / "data"
NAMES = sorted(path.stem for path in DATA.glob("*.npz"))
TOLERANCE = 1e-4  # of the largest gradient: float32 in both


@pytest.mark.parametrize("name", NAMES)
def test_gradient_equals_the_framework(name: str) -> None:
    golden = np.load(DATA / f"{name}.npz")
    model = onnxcam.load(DATA / f"{name}.onnx")
    image, scores = model.graph.inputs[0].name, model.graph.outputs[0].name
    augmented = onnxcam.gradient(model, [image], scores)
    onnx.checker.check_model(augmented.proto(), full_check=True)
    session = Session(augmented.bytes(), Device("cpu"))
    feeds = {image: golden["x"], "seed": golden["cotangent"]}
    found = dict(
        zip(("scores", "gradient"), session.run([scores, f"gradient/{image}"], feeds), strict=True)
    )
    for each, expected in ((each, golden[each]) for each in found):
        error = np.abs(np.asarray(found[each], np.float64) - expected).max()
        assert error <= TOLERANCE * np.abs(expected).max(), each


@pytest.mark.parametrize("name", NAMES)
def test_a_map_is_drawn(name: str) -> None:
    golden = np.load(DATA / f"{name}.npz")
    found = onnxcam.Explainer(DATA / f"{name}.onnx", "grad-cam++", device="cpu")(golden["x"])
    assert found.maps.shape[0] == len(golden["x"])
    assert found.maps.max() > 0


def test_the_fixtures_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in DATA.iterdir()}
    assert len(NAMES) >= 7
    assert max(sizes.values()) <= 200_000
    assert sum(sizes.values()) <= 5_000_000
