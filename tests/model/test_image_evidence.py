"""A graph that normalizes its images, or has the layers of Keras, shows how they are prepared."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcam.image.graph_evidence import APPLICATIONS, PREFIX
from onnxcam.image.preprocess import PRESETS
from onnxcam.image.preprocessing_choice import choose, notice_of
from onnxcam.model.image_input import image_input
from onnxcam.model.load import load
from onnxcam.model.model import Model

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def build(
    *steps: tuple[str, Any], layout: str = "NCHW", first: bool = False, prefix: str = "",
    names: tuple[str, ...] = ("conv",),
) -> Model:  # fmt: skip
    """Steps of arithmetic on the image, a convolution for each name, and the mean over the pixels. Constants
    are the second operands, or the `first`.
    """
    shape = ["N", 3, 8, 8] if layout == "NCHW" else ["N", 8, 8, 3]
    nodes, constants, tensor = [], [], "image"
    for number, (operator, values) in enumerate(steps):
        array = np.asarray(values, np.float32)
        if layout == "NCHW" and array.ndim:
            array = array.reshape(1, -1, 1, 1)
        constants.append(numpy_helper.from_array(array, f"c{number}"))
        inputs = [f"c{number}", tensor] if first else [tensor, f"c{number}"]
        tensor = f"t{number}"
        nodes.append(helper.make_node(operator, inputs, [tensor], f"{prefix}step{number}"))
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [tensor], ["nchw"], perm=[0, 3, 1, 2]))
        tensor = "nchw"
    weights = np.random.default_rng(0).normal(size=(3, 3, 1, 1)).astype(np.float32)
    constants.append(numpy_helper.from_array(weights, "w"))
    for name in names:
        output = f"{prefix}{name}/BiasAdd:0"
        nodes.append(helper.make_node("Conv", [tensor, "w"], [output], f"{prefix}{name}/Conv2D"))
        tensor = output
    nodes.append(helper.make_node("GlobalAveragePool", [tensor], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["logits"]))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])], constants,
    )  # fmt: skip
    return load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))


def chosen_by(model: Model) -> tuple[Any, str]:
    """The preprocessing and the notice."""
    image = image_input(model)
    choice = choose("auto", model.metadata, image)
    return choice.preprocessing, str(notice_of(choice, image))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("steps", "scale", "order"),
    [
        ([("Mul", 1 / 255)], 1.0, "rgb"),
        ([("Div", 255.0), ("Sub", MEAN), ("Div", STD)], 1.0, "rgb"),
        ([("Sub", 255 * MEAN), ("Div", 255 * STD)], 1.0, "rgb"),
        ([("Sub", 255 * MEAN[::-1]), ("Mul", 1 / (255 * STD[::-1]))], 1.0, "bgr"),
        ([("Mul", 1 / 127.5), ("Add", -1.0)], 1.0, "rgb"),
        ([("Sub", [103.939, 116.779, 123.68])], 1.0, "bgr"),
        ([("Sub", MEAN), ("Div", STD)], 255.0, "rgb"),
        ([("Mul", 2.0), ("Sub", 1.0)], 255.0, "rgb"),
    ],
)
def test_graph_that_normalizes_gets_its_pixels(
    steps: list[tuple[str, Any]], scale: float, order: str, layout: str
) -> None:
    preprocessing, notice = chosen_by(build(*steps, layout=layout))
    assert (preprocessing.scale, preprocessing.order, preprocessing.fit) == (scale, order, "crop")
    assert (preprocessing.mean, preprocessing.std) == ((0.0,), (1.0,))
    assert "the model normalizes its images itself (step0" in notice


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [("Mul", 1.0)],
        [("Add", 0.1)],
        # Inception of torchvision: from the normalization of ImageNet to another one
        [("Mul", STD / 0.5), ("Add", (MEAN - 0.5) / 0.5)],
        [("Mul", 255.0)],
        [("Mul", np.nan)],
        [("Mul", [0.1, 0.0, 0.1])],
        [("Pow", 2.0)],
    ],
)
def test_other_arithmetic_is_no_evidence(steps: list[tuple[str, Any]]) -> None:
    model = build(*steps)
    assert not [key for key in model.metadata if key.startswith(PREFIX)]
    assert chosen_by(model)[0] == PRESETS["imagenet"]


def test_constant_before_the_image_is_read_as_it_is() -> None:
    preprocessing, _ = chosen_by(build(("Mul", 1 / 255), first=True))
    assert preprocessing.scale == 1.0
    turned = build(("Mul", 1 / 255), ("Sub", 1.0), first=True)  # 1 - x / 255
    assert chosen_by(turned)[0].scale == 1.0
    assert chosen_by(build(("Div", 255.0), first=True))[0] == PRESETS["imagenet"]


@pytest.mark.parametrize("application", APPLICATIONS, ids=lambda application: application.name)
@pytest.mark.parametrize("prefix", ["", "StatefulPartitionedCall/model/", "model/resnet/"])
def test_layers_of_keras_suggest_their_preset(application: Any, prefix: str) -> None:
    preprocessing, notice = chosen_by(
        build(prefix=prefix, names=tuple(sorted(application.layers)), layout="NHWC")
    )
    preset = PRESETS[application.preset]
    assert (preprocessing.scale, preprocessing.mean) == (preset.scale, preset.mean)
    assert (preprocessing.order, preprocessing.fit) == (preset.order, "crop")
    assert f"(the preset {application.preset}: its layers are named like those of " in notice


def test_normalization_comes_before_names() -> None:
    vgg = APPLICATIONS[0]
    model = build(("Mul", 1 / 255), names=tuple(vgg.layers))
    assert chosen_by(model)[0].order == "rgb"
    assert "normalizes its images itself" in chosen_by(model)[1]


def test_evidence_is_not_written_into_files(tmp_path: Any) -> None:
    model = build(("Mul", 1 / 255))
    assert not model.proto().metadata_props
    again = load(model.proto())
    assert again.metadata == model.metadata


def test_evidence_in_the_metadata_of_a_file_is_not_believed() -> None:
    proto = build().proto()
    onnx.helper.set_model_props(proto, {f"{PREFIX}preset": "caffe", "author": "me"})
    assert load(proto).metadata == {"author": "me"}
