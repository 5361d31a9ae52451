"""Models whose weights lie in a file of their own."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.external_data_helper import uses_external_data

from onnxcam.model import split_weights as apart
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from tests.support.nets import DEEP, pictures


def test_the_model_computes_what_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "LARGE", 64)
    content, path = DEEP.content(), tmp_path / "net.onnx"
    apart.write_apart(content, path, "weights")
    assert {each.name for each in tmp_path.iterdir()} == {"net.onnx", "weights"}
    alone = onnx.load(path, load_external_data=False)
    assert any(map(uses_external_data, alone.graph.initializer))
    assert onnx.load(path).graph.node == onnx.load_from_string(content).graph.node
    feeds = {"x": pictures(2)}
    (found,), (expected,) = (
        Session(each, Device("cpu")).run(["probabilities"], feeds) for each in (path, content)
    )
    np.testing.assert_array_equal(found, expected)
