"""The map is the same for fixed, named and unnamed sizes, and without a declared shape."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import onnxcam
from onnxcam.errors import ModelError, OnnxcamError
from tests.support.nets import ANY_SIZE

DATA = Path(__file__).parents[1] / "data"
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (31, 27, 3), dtype=np.uint8))
HEIGHT, WIDTH = 24, 20
Dims = tuple[int | str, ...] | None
NETS: dict[str, tuple[onnx.ModelProto, str, int]] = {  # a layer, and a class that it speaks for
    "convolutions": (ANY_SIZE.proto(), "features", 1),
    "transformer": (onnx.load(DATA / "torchscript_vit.onnx"), "/Transpose_output_0", 0),
}
SHAPES: list[Any] = [None, *product((1, 2, "N", ""), (3,), (HEIGHT, "H", ""), (WIDTH, "W", ""))]


def with_input_shape(proto: onnx.ModelProto, dims: Dims, outputs: bool = True) -> bytes:
    """The model with an input of those sizes, "" for one without a name, with or without
    the shapes of its outputs.
    """
    copied = onnx.ModelProto.FromString(proto.SerializeToString())
    copied.graph.input[0].type.tensor_type.ClearField("shape")
    for dim in dims or ():
        axis = copied.graph.input[0].type.tensor_type.shape.dim.add()
        if isinstance(dim, int):
            axis.dim_value = dim
        elif dim:
            axis.dim_param = dim
    for output in copied.graph.output if not outputs else ():
        output.type.tensor_type.ClearField("shape")
    return bytes(copied.SerializeToString())


def explain(
    content: bytes, layer: str = "auto", target: int = 1, size: Any = (HEIGHT, WIDTH)
) -> Any:
    preprocess = onnxcam.Preprocessing(size=size)
    explainer = onnxcam.Explainer(content, "grad-cam++", layer, device="cpu", preprocess=preprocess)
    return explainer([IMAGE], target=target)


@pytest.fixture(scope="module", params=NETS)
def reference_case(request: pytest.FixtureRequest) -> Any:
    """A net, a layer and a class of it, and the map where all sizes are fixed."""
    proto, *rest = NETS[request.param]
    which: Any = rest
    return proto, which, explain(with_input_shape(proto, (1, 3, HEIGHT, WIDTH)), *which)


@pytest.mark.parametrize("dims", SHAPES, ids=str)
@pytest.mark.parametrize("outputs", [True, False], ids=["", "outputs of no shape"])
def test_free_sizes_do_not_change_map(reference_case: Any, dims: Dims, outputs: bool) -> None:
    proto, which, expected = reference_case
    explanation = explain(with_input_shape(proto, dims, outputs), *which)
    assert expected.maps.max() > 0
    np.testing.assert_allclose(explanation.layer_maps, expected.layer_maps, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(explanation.scores, expected.scores, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dims", SHAPES, ids=str)
def test_automatic_layer_has_several_cells(reference_case: Any, dims: Dims) -> None:
    """A pooled tensor (N, C, 1, 1) is not a layer, whichever sizes before it are known."""
    explanation = explain(with_input_shape(reference_case[0], dims))
    assert explanation.layer_maps.size > 1


@pytest.mark.parametrize(
    ("dims", "size"),
    [
        ((1, 3, "H", "W"), (224, 224)),
        (None, (224, 224)),
        ((1, 3, "", 20), (20, 20)),
        ((1, 3, 24, 20), (24, 20)),
    ],
    ids=str,
)
def test_default_size_follows_model(dims: Dims, size: tuple[int, int]) -> None:
    """The model's own; a square where one side is free; 224 x 224 where both are."""
    explanation = explain(with_input_shape(ANY_SIZE.proto(), dims), size=None)
    assert explanation.maps.shape == (1, *size)


def test_unsupported_size_raises_error() -> None:
    """Positions are learned for 30 patches."""
    content = with_input_shape(NETS["transformer"][0], ("N", 3, "H", "W"))
    with pytest.raises(OnnxcamError, match="ONNX Runtime failed"):
        explain(content, size=(40, 40))


def test_input_without_shape_is_refused() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
        net (float[N, 4] x) => (float[N, 4] y) { a = Tanh(x) y = Softmax(a) }"""
    with pytest.raises(ModelError, match="Field 'shape' of 'type' is required"):
        onnxcam.Explainer(
            with_input_shape(onnx.parser.parse_model(text), None, False), device="cpu"
        )
