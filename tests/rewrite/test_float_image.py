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


def test_float_image_is_left_alone() -> None:
    model = load(DEEP.content())
    assert with_float_image(model, image_input(model)) is model


def test_integers_that_an_operator_reads_are_refused() -> None:
    model = bytes_model("    flipped = Abs(x)\n    floats = Cast<to = 1>(flipped)\n")
    with pytest.raises(ModelError, match=r"holds integers, which Abs .* use a method at a layer"):
        with_float_image(model, image_input(model))


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
