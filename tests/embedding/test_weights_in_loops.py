"""Weights that the body of a Loop holds are written as those of the outer graph are."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

import onnxcam
from onnxcam.embedding.metadata import SALIENCY
from onnxcam.model import external_data
from onnxcam.model.proto.walk import all_scopes, constant_tensors
from tests.embedding.support.explained import assert_close, explain, run_content, run_embedded
from tests.support.nets import DEEP, MLP, Net, random_images

METHOD = "smooth-grad-cam++"
SETTINGS: dict[str, Any] = {"samples": 3, "rounds": 2}
IMAGES = random_images(2)


def test_weights_of_body_are_external_in_a_large_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run_embedded(DEEP.content(), METHOD, IMAGES, **SETTINGS).maps
    embedded = onnxcam.embed(DEEP.content(), METHOD, **SETTINGS)
    monkeypatch.setattr(external_data, "MAX_EMBEDDED_BYTES", 2000)
    monkeypatch.setattr(external_data, "LARGE_BYTES", 256)
    files = embedded.save(tmp_path / "explained.onnx")
    assert [file.name for file in files] == ["explained.onnx", "explained.onnx.data"]
    proto = onnx.load(files[0], load_external_data=False)
    inner = constant_tensors(all_scopes(proto))
    assert all(len(tensor.raw_data) < 256 for tensor in inner)
    session = ort.InferenceSession(str(files[0]), providers=["CPUExecutionProvider"])
    assert_close(session.run([SALIENCY], {"x": IMAGES})[0], expected, 1e-6)


def test_four_bit_weights_in_body_are_packed() -> None:
    proto = Net(head=MLP, outputs="float[N, 5] logits").proto(21)
    proto.ir_version = 10
    weight = next(tensor for tensor in proto.graph.initializer if tensor.name == "w2")
    values = numpy_helper.to_array(weight)
    levels = np.rint(values / 0.1).clip(-7, 7).astype(int)
    proto.graph.initializer.remove(weight)
    proto.graph.initializer.extend(
        [
            onnx.helper.make_tensor("q", onnx.TensorProto.INT4, values.shape, levels.ravel()),
            numpy_helper.from_array(np.float32(0.1), "scale"),
        ]
    )
    node = onnx.helper.make_node("DequantizeLinear", ["q", "scale"], ["w2"])
    proto.graph.node.insert(0, node)
    content = proto.SerializeToString()
    run = run_embedded(content, METHOD, IMAGES, **SETTINGS)
    assert_close(run.maps, explain(content, METHOD, IMAGES, "top1", samples=3), 1e-5)


def test_text_in_body_is_packed() -> None:
    head = MLP + "best = ArgMax<axis = 1, keepdims = 0>(logits) y = Gather<axis = 0>(names, best)"
    proto = Net(head=head, outputs="float[N, 5] logits, string[N] y").proto()
    names = np.array(["a", "b", "c", "d", "e"], object)
    proto.graph.initializer.append(numpy_helper.from_array(names, "names"))
    content = proto.SerializeToString()
    run = run_embedded(content, METHOD, IMAGES, batch=2, **SETTINGS)
    assert list(run.arrays["y"]) == list(run_content(content, IMAGES)["y"])
