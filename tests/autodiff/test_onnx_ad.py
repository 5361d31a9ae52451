"""Gradients compared with those of onnx-ad 0.3, a separate program with its own rules for ONNX graphs.

It takes a batch whose size is known. Both are run by ONNX Runtime in float32.
"""

from typing import Any

import numpy as np
import onnx
import pytest

from onnxcam.arrays import Array
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import numbers, run, with_output_types
from tests.support.nets import DEEP, NHWC, POOLED, Net

onnx_ad = pytest.importorskip("onnx_ad", reason="needs the extra `oracle`")
pytestmark = pytest.mark.oracle

CLOSE = 2e-6  # of the largest gradient: both round in float32, and sum in another order
NETS = {"pooled": POOLED, "deep": DEEP, "channels last": NHWC}

BLOCKS = {  # what networks are made of: (2, 6, 8, 8) to any shape
    "pools": """a = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x)
        y = AveragePool<kernel_shape = [2, 2], strides = [2, 2], count_include_pad = 1>(a)""",
    "gates": "s = Sigmoid(x) a = Mul(x, s) b = HardSwish(x) t = Tanh(b) y = Add(a, t)",
    "norms": """a = InstanceNormalization(x, one, one)
        b = LayerNormalization<axis = -1>(a, eight, eight) y = LpNormalization<axis = 1>(b)""",
    "attention": """q = Softmax<axis = -1>(x) k = Transpose<perm = [0, 1, 3, 2]>(x)
        s = MatMul(q, k) w = Softmax<axis = -1>(s) y = MatMul(w, x)""",
    "reductions": """a = ReduceMax<axes = [2]>(x) b = ReduceMean<axes = [3], keepdims = 1>(x)
        c = ReduceL2<axes = [1]>(x) d = Mul(a, c) y = Add(d, b)""",
    "up and down": """a = Resize<mode = "linear">(x, , scales) b = SpaceToDepth<blocksize = 2>(a)
        y = Elu(b)""",
    "response": "a = LRN<size = 3, alpha = 0.5>(x) b = Erf(a) y = Softplus(b)",
}


def building_block(text: str) -> onnx.ModelProto:
    weights = f"float[6] one = {{{', '.join(['1.5'] * 6)}}}, float[8] eight = {{{', '.join(['0.5'] * 8)}}}"
    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]>
        net (float[2, 6, 8, 8] x) => (float y)
        <{weights}, float[4] scales = {{1.0, 1.0, 2.0, 2.0}}> {{ {text} }}"""
    )
    return with_output_types(proto)


def with_batch_of_two(net: Net) -> onnx.ModelProto:
    """The net for two images."""
    proto = net.proto()
    for tensor in (*proto.graph.input, *proto.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 2
    return proto


def assert_gradients_agree(proto: onnx.ModelProto, x: Array, of: str) -> None:
    """The gradient at `x` of a random product with the tensor `of`."""
    model = load(proto)
    cotangent = numbers(*run(model.proto(), {"x": x}, [of])[0].shape, seed=5)
    ours = run(gradient(model, ["x"], of).proto(), {"x": x, SEED: cotangent}, ["gradient/x"])[0]
    theirs = by_onnx_ad(proto, x, of, cotangent)
    assert np.abs(ours - theirs).max() <= CLOSE * np.abs(theirs).max()
    assert np.abs(theirs).max() > 0


def by_onnx_ad(proto: onnx.ModelProto, x: Array, of: str, cotangent: Array) -> Any:
    """Seeds have a last axis of their own there: one gradient for each."""
    inferred = onnx.shape_inference.infer_shapes(proto)  # it reads shapes from the model
    adjoint = onnx_ad.reverse(inferred, inputs=["x"], outputs=[of], layout="onnx")
    return run(adjoint, {"x": x, f"adj_{of}": cotangent[..., None]}, ["adj_x"])[0][..., 0]


@pytest.mark.parametrize("name", NETS)
def test_gradient_of_small_net_matches_onnx_ad(name: str) -> None:
    proto = with_batch_of_two(NETS[name])
    shape = [dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    assert_gradients_agree(proto, numbers(*shape), proto.graph.output[0].name)


@pytest.mark.parametrize("name", BLOCKS)
def test_gradient_of_building_block_matches_onnx_ad(name: str) -> None:
    assert_gradients_agree(building_block(BLOCKS[name]), numbers(2, 6, 8, 8, low=-2, high=2), "y")
