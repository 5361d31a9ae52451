"""Outputs that no image changes, or that are the image: there is nothing to explain of them."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onnxcam
from onnxcam.errors import ModelError
from tests.embedding.support.explained import run_content
from tests.support.nets import MLP, Net, random_images

NET = Net(head=MLP, outputs="float[N, 5] logits")
SCORES = np.linspace(0, 1, 1000, dtype=np.float32)[None]  # as of a classifier of more classes
CONSTANT: tuple[Any, ...] = "Constant", [], {"value": numpy_helper.from_array(SCORES)}
MAP: tuple[Any, ...] = (
    "Constant",
    [],
    {"value": numpy_helper.from_array(np.ones((1, 5, 8, 8), np.float32))},
)
SIZES: tuple[Any, ...] = ("Shape", ["x"], {}), ("Cast", [""], {"to": 1})
ROW: tuple[Any, ...] = "Unsqueeze", ["", "row"], {}
# the nodes that write the output k, each from the one before (""); the shape of k; why it is not explained
OUTPUTS: dict[str, tuple[tuple[Any, ...], list[Any], str]] = {
    "constant": ((CONSTANT,), [1, 1000], "does not depend on the image"),
    "constant map": ((MAP,), [1, 5, 8, 8], "does not depend on the image"),
    "of a constant": ((CONSTANT, ("Softmax", [""], {})), [1, 1000], "does not depend on the image"),
    "initializer": ((), [1, 1000], "does not depend on the image"),
    "random": ((("RandomNormal", [], {"shape": [1, 7]}),), [1, 7], "does not depend on the image"),
    "image": ((("Identity", ["x"], {}),), ["N", 3, 8, 8], "is an input of the model"),
    "sizes": (SIZES, [4], "does not depend on the image"),
    "scores of sizes": (
        (*SIZES, ROW, ("Softmax", [""], {})),
        [1, 4],
        "does not depend on the image",
    ),
    "zeros": (
        (("Shape", ["logits"], {}), ("ConstantOfShape", [""], {})),
        ["N", 5],
        "does not depend on the image",
    ),
}
KINDS = pytest.mark.parametrize("kind", OUTPUTS)


def net(kind: str, position: int = 0, *, alone: bool = False) -> bytes:
    """The net with the output k before or after its logits, or alone."""
    proto, (nodes, shape, _) = NET.proto(), OUTPUTS[kind]
    graph, before = proto.graph, ""
    for number, (operator, inputs, attributes) in enumerate(nodes):
        name = "k" if number == len(nodes) - 1 else f"k{number}"
        sources = [source or before for source in inputs]
        graph.node.append(helper.make_node(operator, sources, [name], **attributes))
        before = name
    graph.initializer.append(numpy_helper.from_array(np.array([0]), "row"))
    if not nodes:
        graph.initializer.append(numpy_helper.from_array(SCORES, "k"))
    graph.output.insert(position, helper.make_tensor_value_info("k", onnx.TensorProto.FLOAT, shape))
    if alone:
        del graph.output[1]
    return bytes(proto.SerializeToString())


def maps(content: bytes, method: str) -> Any:
    return onnxcam.Explainer(content, method, cache=False, device="cpu")(random_images(2)).maps


@KINDS
@pytest.mark.parametrize("method", ["grad-cam", "eigen-cam"])
def test_other_output_is_explained(kind: str, method: str) -> None:
    expected = maps(NET.content(), method)
    assert expected.any()
    for position in (0, 1):
        np.testing.assert_allclose(maps(net(kind, position), method), expected, rtol=1e-6)


@KINDS
def test_file_returns_the_output_beside_the_map(kind: str) -> None:
    if kind == "random":
        pytest.skip("differs in each run")
    content, images = net(kind), random_images(1)
    written = onnxcam.embed(content, "smooth-grad-cam++", samples=3, rounds=2).model.bytes()
    outputs: dict[str, Any] = dict(run_content(written, images))
    plain: dict[str, Any] = dict(run_content(content, images))
    for name, expected in plain.items():
        np.testing.assert_allclose(outputs[name], expected, rtol=1e-6)


@KINDS
def test_output_alone_or_chosen_is_refused(kind: str) -> None:
    reason = f"'k' {OUTPUTS[kind][2]}"
    with pytest.raises(ModelError, match=f"{reason}, so there is nothing to explain"):
        onnxcam.Explainer(net(kind), "grad-cam", output="k", cache=False)
    for method in ("grad-cam", "eigen-cam"):
        with pytest.raises(ModelError, match=f"no output is computed from the image .*{reason}"):
            onnxcam.Explainer(net(kind, alone=True), method, cache=False)
