"""A size that is named fixes the steps of recurrent models, and leaves others alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

import onnxcam
from onnxcam.errors import ModelError
from onnxcam.model.image_axes import for_images
from onnxcam.model.image_input import image_input
from onnxcam.model.load import load
from tests.support.nets import ANY_SIZE

SIZE = (8, 24)
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def reader(operator: str, width: str = "W", extra: str = "") -> bytes:
    """Columns of feature maps are the steps; the last state has the scores of the classes (N, 5)."""
    outputs = "y, h" + (", c" if operator == "LSTM" else "")
    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]>
        net (float[N, 3, 8, {width}] x) => (float[N, 5] scores) {{
            r = Conv<pads = [1, 1, 1, 1]>(x, k)
            maps = Relu(r)
            means = ReduceMean<axes = [2], keepdims = 0>(maps)
            steps = Transpose<perm = [2, 0, 1]>(means)
            {outputs} = {operator}<hidden_size = 5 {extra}>(steps, w, r0)
            scores = Squeeze(h, zero)
        }}"""
    )
    draw = np.random.default_rng(0)
    rows = GATES[operator] * 5
    shapes = {"k": (4, 3, 3, 3), "w": (1, rows, 4), "r0": (1, rows, 5)}
    proto.graph.initializer.extend(
        [
            *(
                numpy_helper.from_array(draw.normal(size=shape).astype(np.float32), name)
                for name, shape in shapes.items()
            ),
            numpy_helper.from_array(np.array([0]), "zero"),
        ]
    )
    return bytes(proto.SerializeToString())


def gradient_by_differences(content: bytes, image: Any, target: int) -> Any:
    """Of the score by the image, along two directions."""
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    step, slopes = 1e-3, []
    for seed in range(2):
        direction = np.random.default_rng(seed).normal(size=image.shape).astype(np.float32)
        ahead, back = (
            session.run(["scores"], {"x": image + sign * step * direction})[0][0, target]
            for sign in (1, -1)
        )
        slopes.append((direction, float(ahead - back) / (2 * step)))
    return slopes


@pytest.mark.parametrize("operator", GATES)
def test_named_size_fixes_the_steps(operator: str) -> None:
    content = reader(operator)
    image = np.random.default_rng(5).normal(size=(1, 3, *SIZE)).astype(np.float32)
    explainer = onnxcam.Explainer(
        content, "gradient-x-input", pixels={"size": SIZE}, device="cpu", cache=False
    )
    attributions = explainer(image, 3).attributions
    assert attributions is not None
    gradient = attributions[0] / image[0]
    for direction, slope in gradient_by_differences(content, image, 3):
        assert float(np.sum(gradient * direction[0])) == pytest.approx(slope, rel=2e-2, abs=1e-3)
    assert any(
        f"fixed at 8 x 24 (--size), on which the steps of {operator}" in notice
        for notice in explainer.notices
    )
    assert (explainer.plan.image.height, explainer.plan.image.width) == SIZE


def test_layers_before_the_steps_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "reader.onnx"
    path.write_bytes(reader("GRU"))
    image = np.random.default_rng(5).normal(size=(2, 3, *SIZE)).astype(np.float32)
    explainer = onnxcam.Explainer(
        path, "grad-cam", "maps", pixels={"size": SIZE}, device="cpu", cache=False
    )
    maps = explainer(image, 1).layer_maps
    assert maps.shape == (2, *SIZE)
    fixed = onnxcam.Explainer(reader("GRU", "24"), "grad-cam", "maps", device="cpu", cache=False)
    np.testing.assert_allclose(maps, fixed(image, 1).layer_maps, rtol=1e-5, atol=1e-7)


def test_without_a_size_the_error_names_the_option() -> None:
    with pytest.raises(ModelError, match=r"fixed number of steps; fix the size .*--size H,W"):
        onnxcam.Explainer(reader("LSTM"), "grad-cam", "maps", device="cpu", cache=False)


def test_size_of_the_model_and_other_models_stay() -> None:
    fixed = for_images(load(reader("GRU", "32")), SIZE)
    assert image_input(fixed).width == 32
    assert not any("--size" in notice for notice in fixed.notices)
    free = for_images(load(ANY_SIZE.content()), (32, 32))
    assert image_input(free).width is None


def test_sizes_have_entries_of_their_own_in_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "reader.onnx"
    path.write_bytes(reader("LSTM"))
    for width in (16, 24, 16):
        image = np.ones((1, 3, 8, width), np.float32)
        explainer = onnxcam.Explainer(
            path, "grad-cam", "maps", pixels={"size": (8, width)}, device="cpu"
        )
        assert explainer(image, 0).maps.shape == (1, 8, width)
