"""Maps whose terms nearly cancel are small, and evidence nevertheless."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxcam import Explainer

POOL = "pooled = GlobalAveragePool(layer11) flat = Flatten(pooled) y = MatMul(flat, v)"


def test_map_that_nearly_cancels_in_quantized_model_is_not_empty() -> None:
    """The quantized levels jump with the image, and the map too; but the map is not rounding noise."""
    path = Path(__file__).parents[1] / "data" / "qdq_per_channel.onnx"
    layer = "/4/Relu_output_0_DequantizeLinear_Output"
    images = np.load(path.with_suffix(".npz"))["x"][:1]
    explanation = Explainer(path, "grad-cam", layer, device="cpu", cache=False)(images, target=2)
    assert not explanation.is_empty.any()
    assert not any("is empty" in notice for notice in explanation.notices)


def deep(seed: int) -> tuple[bytes, Any]:
    """Twelve Conv and Relu, pooled, and an image for them."""
    draw = np.random.default_rng(seed)
    channels = [3, *[6] * 12]
    arrays = {
        f"w{i}": draw.normal(0, 1.4 / np.sqrt(9 * before), (after, before, 3, 3))
        for i, (before, after) in enumerate(pairwise(channels))
    }
    arrays["v"] = draw.normal(0, 0.5, (6, 5))
    lines = [
        f"c{i} = Conv<pads = [1, 1, 1, 1]>({f'layer{i - 1}' if i else 'x'}, w{i}) layer{i} = Relu(c{i})"
        for i in range(12)
    ]
    proto = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["": 18]>
        net (float[N, 3, 16, 16] x) => (float[N, 5] y) {{ {" ".join(lines)} {POOL} }}"""
    )
    proto.graph.initializer.extend(
        numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()
    )
    image = draw.normal(0, 1, (1, 3, 16, 16)).astype(np.float32)
    return bytes(proto.SerializeToString()), image


@pytest.mark.parametrize(
    ("seed", "layer", "target", "largest"),
    [(5, "layer1", 1, 2.091042e-6), (32, "layer1", 0, 4.320705e-6), (34, "layer5", 4, 5.82346e-7)],
)
def test_map_that_nearly_cancels_in_deep_model_is_not_empty(
    seed: int, layer: str, target: int, largest: float
) -> None:
    """Nearby images have other maps, for ReLUs flip; computed in float64 by PyTorch these have this maximum."""
    content, image = deep(seed)
    explanation = Explainer(content, "grad-cam", layer, device="cpu", cache=False)(
        image, target=target
    )
    assert not explanation.is_empty.any()
    assert not any("is empty" in notice for notice in explanation.notices)
    np.testing.assert_allclose(explanation.layer_maps.max(), largest, rtol=1e-4)
