"""Schemas by opset, and upgrading a model without changing what it computes."""

import numpy as np
import pytest
from onnx import parser

from onnxcam.errors import ModelError
from onnxcam.graph.opset import schema_at, type_name, versions
from onnxcam.model.load import load, upgrade_model
from tests.autodiff.support.check import numbers, run

BODIES = {
    "relu": (9, "y = Relu(x)"),
    "resize linear": (10, "y = Resize<mode = 'linear'>(x, s)"),
    "resize nearest": (10, "y = Resize<mode = 'nearest'>(x, s)"),
    "upsample linear": (9, "y = Upsample<mode = 'linear'>(x, s)"),
    "upsample nearest": (9, "y = Upsample(x, s)"),
    "softmax": (11, "y = Softmax<axis = 1>(x)"),
    "clip": (9, "y = Clip<min = -0.5, max = 0.25>(x)"),
    "squeeze": (11, "u = Unsqueeze<axes = [1]>(x) y = Squeeze<axes = [1]>(u)"),
    "mean": (11, "y = ReduceMean<axes = [2, 3]>(x)"),
    "pad": (10, "y = Pad<pads = [0, 0, 1, 2, 0, 0, 0, 1], value = 0.5>(x)"),
    "split": (11, "a, b = Split<axis = 3, split = [2, 3]>(x) y = Concat<axis = 3>(b, a)"),
}


SCALES = [*((name, scale) for name in BODIES for scale in ("2.0, 1.5", "1.7, 1.5"))]
SCALES += [("resize linear", "0.6, 0.5"), ("resize nearest", "0.6, 0.5")]  # Upsample cannot shrink


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_upgraded_model_computes_the_same(name: str, scale: str) -> None:
    old, body = BODIES[name]
    body = body.replace("'", '"')
    text = f"""<ir_version: 5, opset_import: ["" : {old}]>
    net (float[2, 3, 4, 5] x) => (float[a, b, c, d] y)
    <float[4] s = {{1.0, 1.0, {scale}}}> {{{body}}}"""
    model, x = load(parser.parse_model(text)), {"x": numbers(2, 3, 4, 5)}
    upgraded = upgrade_model(model, 18)
    assert (model.opset, upgraded.opset) == (old, 18)
    np.testing.assert_allclose(
        run(upgraded.proto(), x, ["y"])[0], run(model.proto(), x, ["y"])[0], rtol=1e-5, atol=1e-6
    )


def test_hardmax_that_flattens_is_refused() -> None:
    text = """<ir_version: 5, opset_import: ["" : 11]>
    net (float[2, 3, 4] x) => (float[2, 3, 4] y) { y = Hardmax(x) }"""
    with pytest.raises(ModelError, match="Hardmax of opset 11 cannot be upgraded to opset 16"):
        upgrade_model(load(parser.parse_model(text)), 16)


def test_schema_is_the_newest_up_to_the_opset() -> None:
    assert [schema.since_version for schema in versions("Relu")] == [1, 6, 13, 14]
    assert schema_at("Gelu", 19) is None
    softmax = schema_at("Softmax", 12)
    assert softmax is not None
    assert softmax.since_version == 11
    assert versions("Nothing") == []
    assert type_name(np.dtype(np.float32)) == "tensor(float)"
