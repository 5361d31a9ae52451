"""A binarized network is explained by its straight-through gradient, and a notice says so."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxcam
from onnxcam.methods import METHODS
from onnxcam.model.load import load
from onnxcam.rewrite.planner import plan

HEAD = '<ir_version: 8, opset_import: ["": 13]> net (float[N, 3, 16, 12] x) => (float[N, 5] y) '
BEFORE = "r = Conv<pads = [1, 1, 1, 1]>(x, w) "
POOLED = "p = GlobalAveragePool(b) f = Flatten(p) y = MatMul(f, v)"
BINARIZED = BEFORE + "b = Sign(r) " + POOLED
WRITTEN_OUT = BEFORE + "s = Sign(r) b = Mul(r, s) " + POOLED


def network(body: str) -> bytes:
    proto = onnx.parser.parse_model(f"{HEAD}{{ {body} }}")
    draw = np.random.default_rng(0)
    arrays = {"w": draw.normal(size=(4, 3, 3, 3)), "v": draw.normal(size=(4, 5))}
    proto.graph.initializer.extend(
        numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()
    )
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize(
    ("body", "method", "is_noted"),
    [
        (BINARIZED, "grad-cam", True),
        (BINARIZED, "smooth-grad-cam++", True),
        (BINARIZED, "score-cam", False),
        (WRITTEN_OUT, "grad-cam", False),
    ],
)
def test_notice_names_sign_where_a_gradient_passes_it(
    body: str, method: str, is_noted: bool
) -> None:
    planned = plan(load(network(body)), METHODS[method].plan_request("r")).plan
    assert any("derivative of Sign (b) is 0" in notice for notice in planned.notices) is is_noted


def test_binarized_network_is_explained_by_its_straight_through_gradient() -> None:
    """Grad-CAM at r: alpha is the mean of the gradient, which is v / cells where |r| <= 1."""
    content = network(BINARIZED)
    image = np.random.default_rng(1).normal(size=(1, 3, 16, 12)).astype(np.float32)
    explainer = onnxcam.Explainer(content, "grad-cam", "r", device="cpu")
    explanation = explainer(image, 2)
    proto = onnx.load_from_string(content)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    padded = np.pad(image[0], ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    maps = np.einsum("chwij,kcij->khw", windows, weights["w"])
    alpha = (np.abs(maps) <= 1).mean(axis=(1, 2)) * weights["v"][:, 2] / maps[0].size
    expected = np.maximum(np.einsum("k,khw->hw", alpha, maps), 0)
    assert explanation.layer_maps is not None
    np.testing.assert_allclose(explanation.layer_maps[0], expected, rtol=1e-4, atol=1e-6)
