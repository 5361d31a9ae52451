"""Unusual models that ONNX Runtime runs: scores equal those of the model itself, and maps those of a twin that
is written as usual, whose gradients other tests compute by hand.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

import onnxcam
from onnxcam.errors import ModelError
from tests.support.nets import Net, random_images
from tests.support.unusual_models import (
    TWIN,
    Change,
    X,
    assert_equals_twin,
    changed_twin,
    explain,
    give_size,
    run_plain,
    sizes_of,
)

# Sizes and their names


@pytest.mark.parametrize("size", [-1, -2, -(2**31), -(2**63)])
def test_negative_batch_is_free(size: int) -> None:
    proto = changed_twin(give_size(0, size))
    assert onnxcam.Explainer(proto.SerializeToString(), device="cpu").plan.image.batch is None
    assert_equals_twin(proto)


@pytest.mark.parametrize("size", [-1, -7])
def test_negative_height_and_width_are_free(size: int) -> None:
    def change(proto: onnx.ModelProto) -> None:
        for axis in (0, 2, 3):
            give_size(axis, size)(proto)

    proto = changed_twin(change)
    image = onnxcam.Explainer(proto.SerializeToString(), device="cpu").plan.image
    assert (image.height, image.width) == (None, None)
    assert_equals_twin(proto)


@pytest.mark.parametrize("size", [-1, 0, 2**31, 2**60, 2**63 - 1])
def test_impossible_sizes_of_inner_tensors_are_ignored(size: int) -> None:
    """ONNX Runtime does not need them."""

    def change(proto: onnx.ModelProto) -> None:
        shape = [size, 4, 8, size]
        proto.graph.value_info.append(
            helper.make_tensor_value_info("early", TensorProto.FLOAT, shape)
        )
        sizes_of(proto.graph.output[0])[0].dim_value = size

    assert_equals_twin(changed_twin(change))


@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "declared with a size of 0"),
        (2**31, "more than the maximum of 1073741824"),
        (2**60, "more than the maximum of 1073741824"),
        (2**63 - 1, "more than the maximum of 1073741824"),
    ],
)
def test_input_with_impossible_size_is_refused(axis: int, size: int, words: str) -> None:
    with pytest.raises(ModelError, match=f"the input 'x' is {words}" if not size else words):
        explain(changed_twin(give_size(axis, size)))


NAMES = [
    *("batch(", "*", "(a+)+", "a//b", "N)", "[", "\\", "{0}", "%s", "2x[N]", "x.0", "-1"),
    *("a\nb", "\x1b[31m", "", "?", "None", "N" * 100_000, "(" * 500),
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:10]))
def test_any_batch_name_is_accepted(name: str) -> None:
    def change(proto: onnx.ModelProto) -> None:
        give_size(0, name)(proto)
        sizes_of(proto.graph.output[0])[0].dim_param = name

    assert_equals_twin(changed_twin(change))


@pytest.mark.parametrize("name", ["batch(", "(a+)+", "a" * 30 + "!", "2x[N]"])
def test_odd_size_names_in_shape_arithmetic_are_accepted(name: str) -> None:
    """A batch is split into windows and joined again: the sizes are multiplied and divided by name."""
    text = """<ir_version: 9, opset_import: ["": 17]>
        net (float[N, 3, 8, 8] x) => (float[N, 5] logits) {
        c = Conv<pads = [1, 1, 1, 1]>(x, w) features = Relu(c)
        s = Shape(features) zero = Constant<value_ints = [0]>() n = Gather(s, zero)
        four = Constant<value_ints = [4]>() m = Mul(n, four)
        rest = Constant<value_ints = [5, 16]>() t = Concat<axis = 0>(m, rest)
        r = Reshape(features, t) q = Tanh(r)
        k = Div(m, four) back = Constant<value_ints = [5, 64]>() u = Concat<axis = 0>(k, back)
        v = Reshape(q, u) logits = ReduceMean<axes = [2], keepdims = 0>(v) }"""
    weights = numpy_helper.from_array(
        np.random.default_rng(0).normal(size=(5, 3, 3, 3)).astype("f"), "w"
    )
    protos = []
    for batch_name in ("N", name):
        proto = parser.parse_model(text)
        proto.graph.initializer.append(weights)
        give_size(0, batch_name)(proto)
        protos.append(proto)
    twin, explanation = (explain(proto, method="grad-cam") for proto in protos)
    np.testing.assert_allclose(explanation.scores, run_plain(protos[1], {"x": X})[:, 1], rtol=1e-5)
    np.testing.assert_allclose(explanation.maps, twin.maps, rtol=1e-5)
    assert np.abs(twin.maps).max() > 0


@pytest.mark.parametrize("name", ["?", "None", "unk"])
def test_one_name_for_different_sizes_is_accepted(name: str) -> None:
    """Old converters write the same word for all free sizes; ONNX Runtime accepts that."""

    def change(proto: onnx.ModelProto) -> None:
        for axis in (0, 2, 3):
            give_size(axis, name)(proto)

    text = """<ir_version: 9, opset_import: ["": 17]> net (float[?, 3, H, W] x) => (float[N, 5] y) {
        c = Conv(x, w) r = Relu(c) p = GlobalAveragePool(r) y = Flatten(p) }"""
    proto = parser.parse_model(text)
    weights = np.random.default_rng(0).normal(size=(5, 3, 3, 3)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    twin = onnx.ModelProto()
    twin.CopyFrom(proto)
    change(proto)
    x = random_images(2, (3, 7, 12))
    explanation = explain(proto, x)
    assert explanation.layer_maps.shape == (2, 5, 10)
    np.testing.assert_allclose(explanation.maps, explain(twin, x).maps, rtol=1e-5)
    np.testing.assert_allclose(explanation.scores, run_plain(proto, {"x": x})[:, 1], rtol=1e-5)


@pytest.mark.parametrize("declared", ["N, 5", "b, 5"])
def test_class_axis_is_read_from_declared_output(declared: str) -> None:
    """The target of the last Reshape depends on values, so its size cannot be inferred."""
    head = """
    flat = Flatten(features)
    hidden = Gemm<transB = 1>(flat, u, e)
    active = Relu(hidden)
    scores = Gemm<transB = 1>(active, v, d)
    some = NonZero(flat)
    places = Shape(some)
    second = Constant<value_ints = [1]>()
    count = Gather(places, second)
    same = Sub(count, count)
    one = Constant<value_ints = [1]>()
    rest = Sub(same, one)
    target = Concat<axis = 0>(same, rest)
    logits = Reshape(scores, target)"""
    proto = Net(head=head, outputs=f"float[{declared}] logits").proto()
    shape = onnxcam.load(proto).graph.tensors()["logits"].shape
    assert shape[1] == 5
    assert_equals_twin(proto)


@pytest.mark.parametrize("operator", ["Ceil", "Floor"])
def test_reshape_target_computed_in_floating_point_is_folded(operator: str) -> None:
    """The named batch is divided by 1, the others are halved and doubled: static sizes are folded."""
    head = f"""
    size = Shape(features)
    real = Cast<to = 1>(size)
    by = Constant<value_floats = [1.0, 1.0, 2.0, 2.0]>()
    half = Div(real, by)
    integer = {operator}(half)
    twice = Mul(integer, by)
    sizes = Cast<to = 7>(twice)
    first = Constant<value_ints = [0]>()
    last = Constant<value_ints = [1]>()
    inner = Constant<value_ints = [1, 2, 3]>()
    batch = Gather(sizes, first)
    others = Gather(sizes, inner)
    width = ReduceProd<keepdims = 1>(others)
    target = Concat<axis = 0>(batch, width)
    flat = Reshape(features, target)
    hidden = Gemm<transB = 1>(flat, u, e)
    active = Relu(hidden)
    logits = Gemm<transB = 1>(active, v, d)"""
    proto = Net(head=head, outputs="float[a, b] logits").proto()
    model = onnxcam.load(proto)
    assert model.graph.tensors()["flat"].shape == ["N", 96]
    assert "ReduceProd" not in {node.op for node in model.graph.nodes}
    assert_equals_twin(proto)


# Order, names, domains


def reverse(proto: onnx.ModelProto) -> None:
    nodes = list(proto.graph.node)[::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def shuffle(proto: onnx.ModelProto) -> None:
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes[i] for i in np.random.default_rng(3).permutation(len(nodes)))


@pytest.mark.parametrize("change", [reverse, shuffle])
def test_unsorted_nodes_are_sorted(change: Change) -> None:
    assert_equals_twin(changed_twin(change))


def test_unsorted_inner_graphs_are_sorted() -> None:
    """A branch with reversed nodes that reads a tensor written after it."""
    text = """<ir_version: 9, opset_import: ["": 17]>
        net (float[N, 3, 8, 8] x) => (float[N, 5] y) {
        size = Size(x) least = Constant<value_int = 0>() condition = Greater(size, least)
        y = If(condition) <
            then_branch = b () => (float[N, 5] out) { out = Flatten(p) p = GlobalAveragePool(r) r = Relu(c) },
            else_branch = e () => (float[N, 5] other) { q = GlobalMaxPool(c) other = Flatten(q) }>
        c = Conv(x, w) }"""
    proto = parser.parse_model(text)
    weights = np.random.default_rng(0).normal(size=(5, 3, 3, 3)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    model = onnxcam.load(proto)
    (result,) = onnxruntime.InferenceSession(model.bytes()).run(None, {"x": X})
    relu = np.maximum(convolve(X, weights), 0).mean(axis=(2, 3))
    np.testing.assert_allclose(result, relu, rtol=1e-4)


def convolve(x: Any, weights: Any) -> Any:
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    return np.einsum("nchwyx,kcyx->nkhw", windows, weights)


def test_cyclic_graph_raises_model_error() -> None:
    proto = TWIN.proto()
    proto.graph.node[0].input[0] = "features"
    with pytest.raises(ModelError, match="depends on its own output, through other nodes"):
        onnxcam.load(proto)


def test_long_reversed_chain_is_sorted_without_recursion() -> None:
    names = ["x", *(f"t{i}" for i in range(3000)), "y"]
    nodes = [helper.make_node("Neg", [a], [b]) for a, b in pairwise(names)]
    sizes = ["N", 3]
    ends = [helper.make_tensor_value_info(name, 1, sizes) for name in ("x", "y")]
    graph = helper.make_graph(nodes[::-1], "chain", ends[:1], ends[1:])
    model = onnxcam.load(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    )
    assert [node.outputs[0].name for node in model.graph.nodes] == names[1:]


def clear_name(proto: onnx.ModelProto) -> None:
    proto.graph.ClearField("name")


def use_alias(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].domain = "ai.onnx"


def use_both(proto: onnx.ModelProto) -> None:
    proto.opset_import.append(helper.make_opsetid("ai.onnx", proto.opset_import[0].version))
    for node in list(proto.graph.node)[::2]:
        node.domain = "ai.onnx"


def import_alias_first(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].domain = "ai.onnx"
    use_both(proto)


def import_twice(proto: onnx.ModelProto) -> None:
    """The last import counts, as for ONNX Runtime; the other version has no Gemm without C."""
    proto.opset_import.insert(0, helper.make_opsetid("", 7))


@pytest.mark.parametrize(
    "change", [clear_name, use_alias, use_both, import_alias_first, import_twice]
)
@pytest.mark.parametrize("opset", [13, 17, 21])
def test_unusual_graph_and_domain_names_are_accepted(change: Change, opset: int) -> None:
    assert_equals_twin(changed_twin(change, opset))


def test_function_with_spelled_out_default_domain_is_inlined() -> None:
    text = """<ir_version: 9, opset_import: ["ai.onnx": 17, "own": 1]>
        net (float[N, 3] x) => (float[N, 3] y) { y = own.twice(x) }
        <domain: "own", opset_import: ["ai.onnx": 17]>
        twice (a) => (b) { t = ai.onnx.Tanh(a) b = Add(t, t) }"""
    model = onnxcam.load(parser.parse_model(text))
    assert [(node.op, node.domain or "") for node in model.graph.nodes] == [
        ("Tanh", ""),
        ("Add", ""),
    ]
