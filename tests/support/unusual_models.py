"""Models that are valid, but unlike those that exporters write."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime

import onnxcam
from tests.support.nets import MLP, Net, random_images

TWIN = Net(head=MLP, outputs="float[N, 5] logits")


X = random_images(2)


Change = Callable[[onnx.ModelProto], None]


def changed_twin(change: Change, opset: int = 17) -> onnx.ModelProto:
    proto = TWIN.proto(opset)
    change(proto)
    return proto


def explain(proto: onnx.ModelProto, x: Any = X, method: str = "grad-cam++") -> Any:
    explainer = onnxcam.Explainer(proto.SerializeToString(), method, device="cpu")
    return explainer(x, target=1)


def run_plain(proto: onnx.ModelProto, feed: dict[str, Any]) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feed)[0]


def assert_equals_twin(proto: onnx.ModelProto, feed: dict[str, Any] | None = None) -> Any:
    """The scores of the model in ONNX Runtime, and the maps of the twin."""
    explanation, twin = explain(proto), explain(TWIN.proto())
    plain = run_plain(proto, {"x": X} if feed is None else feed)
    np.testing.assert_allclose(explanation.scores, plain[:, 1], rtol=1e-5)
    np.testing.assert_allclose(explanation.scores, twin.scores, rtol=1e-5)
    assert np.abs(twin.maps).max() > 0
    np.testing.assert_allclose(explanation.maps, twin.maps, rtol=1e-4, atol=1e-6 * twin.maps.max())
    return explanation


def sizes_of(tensor: onnx.ValueInfoProto) -> Any:
    return tensor.type.tensor_type.shape.dim


def give_size(axis: int, value: int | str) -> Change:
    def change(proto: onnx.ModelProto) -> None:
        dim = sizes_of(proto.graph.input[0])[axis]
        dim.ClearField("value")
        if isinstance(value, int):
            dim.dim_value = value
        else:
            dim.dim_param = value

    return change
