"""Images of integers become floats where only casts read them."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam.errors import ModelError
from onnxcam.model.image_input import image_input
from onnxcam.model.load import load
from onnxcam.rewrite.float_image import with_float_image
from onnxcam.rewrite.planner import plan
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from onnxcam.specs import PlanRequest
from tests.support.nets import DEEP


def bytes_model(lead: str = "    floats = Cast<to = 1>(x)\n") -> onnxcam.Model:
    proto = replace(DEEP, lead=lead, x="floats").proto()
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    return load(proto)


def test_bytes_become_floats_of_the_same_numbers() -> None:
    model = bytes_model()
    changed = with_float_image(model, image_input(model))
    assert image_input(changed).dtype == np.float32
    assert image_input(model).dtype == np.uint8
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8)).astype(np.uint8)
    results: list[Any] = [
        Session(net.bytes(), Device("cpu")).run(["probabilities"], {"x": x})[0]
        for net, x in ((model, image), (changed, image.astype(np.float32)))
    ]
    np.testing.assert_array_equal(results[0], results[1])


DEQUANTIZED = {
    "number": "scale = Constant<value_float = 0.03>()",
    "numbers per channel": "scale = Constant<value_floats = [0.01, 0.02, 0.03]>()",
}
LEADS = {
    "alone": "floats = DequantizeLinear<axis = 1>(x, scale, zero)",
    "without zero": "floats = DequantizeLinear<axis = 1>(x, scale)",
    "after moves": """
        last = Transpose<perm = [0, 2, 3, 1]>(x)
        added = Identity(last)
        scaled = DequantizeLinear<axis = -1>(added, scale, zero)
        floats = Transpose<perm = [0, 3, 1, 2]>(scaled)""",
    "beside a cast": """
        scaled = DequantizeLinear<axis = 1>(x, scale, zero)
        unscaled = Cast<to = 1>(x)
        none = Constant<value_float = 0.001>()
        less = Mul(unscaled, none)
        floats = Add(scaled, less)""",
}


def dequantizing_model(lead: str, scale: str, kind: str) -> onnxcam.Model:
    count = 1 if "value_float " in scale else 3
    proto = replace(DEEP, lead=f"    {DEQUANTIZED[scale]}\n    {LEADS[lead]}\n", x="floats").proto(
        19
    )
    proto.graph.input[0].type.tensor_type.elem_type = getattr(onnx.TensorProto, kind.upper())
    zero = np.array([120, 3, 55][:count] if scale != "number" else 120, kind)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(zero, "zero"))
    return load(proto)


@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize("scale", DEQUANTIZED)
@pytest.mark.parametrize("lead", LEADS)
def test_scale_and_zero_point_are_applied_to_floats(lead: str, scale: str, kind: str) -> None:
    model = dequantizing_model(lead, scale, kind)
    changed = with_float_image(model, image_input(model))
    assert image_input(changed).dtype == np.float32
    info = np.iinfo(kind)
    image = np.random.default_rng(0).integers(info.min, info.max + 1, (2, 3, 8, 8)).astype(kind)
    names = ["floats", "probabilities"]
    for net in (model, changed):
        net.graph.outputs.append(net.graph.tensors()["floats"])
    results: list[Any] = [
        Session(net.bytes(), Device("cpu")).run(names, {"x": x})
        for net, x in ((model, image), (changed, image.astype(np.float32)))
    ]
    for integers, floats in zip(*results, strict=True):
        np.testing.assert_array_equal(integers, floats)
    assert {"DequantizeLinear"} & {node.op for node in model.graph.nodes}
    assert not {"DequantizeLinear"} & {node.op for node in changed.graph.nodes}


def test_gradient_passes_the_scale_of_a_quantized_image() -> None:
    model = dequantizing_model("after moves", "numbers per channel", "uint8")
    explainer = onnxcam.Explainer(model, "saliency", device="cpu", cache=False)
    image: Any = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 8)).astype(np.uint8)
    actual = np.asarray(explainer(image, 1).attributions)
    scale, zero = (np.reshape(n, (1, 3, 1, 1)) for n in ([0.01, 0.02, 0.03], [120, 3, 55]))
    floats = ((image - zero) * scale).astype(np.float32)
    expected = onnxcam.Explainer(DEEP.content(), "saliency", device="cpu")(floats, 1).attributions
    np.testing.assert_allclose(actual, expected * scale, rtol=1e-4, atol=1e-7)


def test_float_image_is_left_alone() -> None:
    model = load(DEEP.content())
    assert with_float_image(model, image_input(model)) is model


def test_integers_that_an_operator_reads_are_refused() -> None:
    model = bytes_model("    flipped = Abs(x)\n    floats = Cast<to = 1>(flipped)\n")
    with pytest.raises(ModelError, match=r"holds integers, which Abs .* use a method at a layer"):
        with_float_image(model, image_input(model))


def test_samples_of_a_quantized_image_are_run() -> None:
    """Noise is added to the floats; the names of what is written for it must differ."""
    model = dequantizing_model("after moves", "number", "uint8")
    explainer = onnxcam.Explainer(model, "integrated-gradients", device="cpu", cache=False)
    image: Any = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 8)).astype(np.uint8)
    assert explainer(image, 1).facts[0]["completeness_gap"] < 0.05


@pytest.mark.parametrize(
    "lead",
    [
        "moved = Transpose<perm = [0, 1, 3, 2]>(x)\n flipped = Abs(moved)\n floats = Cast<to = 1>(flipped)",
        "one = Constant<value = int8 {1}>()\n c = Cast<to = 3>(x)\n p = Add(c, one)\n floats = Cast<to = 1>(p)",
    ],
)
def test_integers_that_are_computed_with_are_refused(lead: str) -> None:
    model = bytes_model(lead + "\n")
    with pytest.raises(ModelError, match=r"integers|no gradient"):
        onnxcam.Explainer(model, "saliency", device="cpu", cache=False)


def test_gradient_at_integers_is_that_at_floats() -> None:
    request = PlanRequest("default", ("gradient", "activation"), at="image")
    planned = plan(bytes_model(), request).plan
    assert (planned.image.dtype.name, planned.image_dtype) == ("uint8", "float32")
    assert planned.layers[0].name == "x"
    at_layer = plan(bytes_model(), replace(request, at="layer", layers=("features",))).plan
    assert at_layer.image_dtype == "uint8"  # no gradient passes the cast


def test_quantities_without_gradient_keep_integers() -> None:
    """Nothing has to pass the cast, and samples of bytes stay bytes."""
    request = PlanRequest("default", ("sample_scores",), at="image", varies="image")
    assert plan(bytes_model(), request).plan.image_dtype == "uint8"
