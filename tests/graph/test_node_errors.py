"""Any failure at a node becomes an error that names the node, and blames the model or onnxcam correctly."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcam.errors import ModelError, NodeError, OnnxcamError, UnforeseenError
from onnxcam.graph.node_errors import explain_failure, reports_node
from onnxcam.graph.node_flaws import describe_flaw
from onnxcam.model.load import load
from onnxcam.model.proto import prepare
from onnxcam.rewrite.gradient import gradient

SHAPES = {
    "x": (1, 4, 6, 6),
    "w": (4, 4, 3, 3),
    "grid": (1, 3, 3, 2),
    "v": (5,),
    "m": (3, 3),
    "none": (),
}


def model_of(
    operator: str,
    inputs: str,
    attributes: Mapping[str, Any],
    constants: Mapping[str, Any] | None = None,
    opset: int = 20,
) -> onnx.ModelProto:
    """A model of one node, which has the output `y`."""
    names, weights = inputs.split(), {name: np.array(v) for name, v in (constants or {}).items()}
    node = helper.make_node(
        operator, ["" if n == "none" else n for n in names], ["y"], "the node", **attributes
    )
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPES[name])
            for name in dict.fromkeys(names)
            if name not in weights and name != "none"
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


HUGE, INTS = 2**31, onnx.AttributeProto.INTS
HOSTILE = [  # operator, inputs, attributes, constants, what the error names
    ("Conv", "x w", {"group": 0}, {}, "group"),
    ("Conv", "x w", {"strides": [0, 0]}, {}, "strides"),
    ("Conv", "x w", {"dilations": [-1, 1]}, {}, "dilations"),
    ("Conv", "x w", {"pads": [1, 1]}, {}, "pads"),
    ("Conv", "x w", {"auto_pad": "SAME"}, {}, "auto_pad"),
    ("AveragePool", "x", {"kernel_shape": [HUGE, HUGE]}, {}, "kernel_shape"),
    ("AveragePool", "x", {"kernel_shape": [3, 3], "strides": [1]}, {}, "strides"),
    ("MaxPool", "x", {"kernel_shape": [2, 2], "strides": [2**62, 1]}, {}, "strides"),
    ("LRN", "x", {"size": 0}, {}, "size"),
    ("GridSample", "x grid", {"mode": "x"}, {}, "mode"),
    ("GridSample", "x grid", {"padding_mode": "mirror"}, {}, "padding_mode"),
    ("Transpose", "x", {"perm": [0, 0, 1, 2]}, {}, "perm"),
    ("Softmax", "x", {"axis": 99}, {}, "axis"),
    ("LogSoftmax", "x", {"axis": -9}, {}, "axis"),
    ("Concat", "x x", {"axis": 7}, {}, "axis"),
    ("Slice", "x s e a t", {}, {"s": [0], "e": [3], "a": [2], "t": [0]}, "steps"),
    ("Gelu", "x", {"approximate": "sigmoid"}, {}, "approximate"),
    ("DepthToSpace", "x", {"blocksize": 0}, {}, "blocksize"),
    ("DepthToSpace", "x", {"blocksize": 2, "mode": "RCD"}, {}, "mode"),
    ("LpNormalization", "x", {"p": 0}, {}, "p"),
]
ODD = [  # no attribute by itself is out of range
    ("AveragePool", "x", {"kernel_shape": [3, 3], "dilations": [99, 99]}, {}),
    ("Slice", "x s e a", {}, {"s": [0, 1], "e": [3, 3], "a": [2]}),
    ("CenterCropPad", "x s", {"axes": [1]}, {"s": [2, 2]}),
    ("Gemm", "m m", {"transA": -(2**63), "transB": 1}, {}),
    ("CumSum", "x i", {"reverse": -(2**63)}, {"i": 1}),
]


@pytest.mark.parametrize(("operator", "inputs", "attributes", "constants"), ODD)
def test_odd_node_is_refused_or_passed_on(
    operator: str, inputs: str, attributes: dict[str, Any], constants: dict[str, Any]
) -> None:
    """What a rule makes of it is left to ONNX Runtime, which is asked before a model is written."""
    proto = model_of(operator, inputs, attributes, constants)
    name = inputs.split()[0]
    error: OnnxcamError | None = None
    try:
        gradient(load(proto), [name], "y").bytes()
    except OnnxcamError as caught:
        error = caught
    assert error is None or isinstance(error, ModelError)


@pytest.mark.parametrize("count", [1, 0, -3, 2**31])
def test_split_into_other_than_its_outputs_is_refused(count: int) -> None:
    """ONNX's own inference ends the process."""
    proto = model_of("Split", "x", {"axis": 1, "num_outputs": count})
    proto.graph.node[0].output.extend(["z", "u"])
    with pytest.raises(ModelError, match="num_outputs"):
        load(proto)


@pytest.mark.parametrize(("operator", "inputs", "attributes", "constants", "named"), HOSTILE)
def test_hostile_attribute_is_refused_or_passed_on_by_name(
    operator: str, inputs: str, attributes: dict[str, Any], constants: dict[str, Any], named: str
) -> None:
    """None leaves as a bare exception or as a fault of ours; one that is met at the node names all three. What
    nothing was wrong with on the way is left to ONNX Runtime.
    """
    error = None
    try:
        gradient(load(model_of(operator, inputs, attributes, constants)), ["x"], "y").bytes()
    except ModelError as caught:
        error = caught
    if isinstance(error, NodeError):
        assert (error.operator, error.node) == (operator, "the node")
        assert all(word in str(error) for word in (operator, "the node", named))


@pytest.mark.parametrize(("operator", "inputs", "attributes", "constants", "named"), HOSTILE)
def test_flaw_of_hostile_attribute_is_described(
    operator: str, inputs: str, attributes: dict[str, Any], constants: dict[str, Any], named: str
) -> None:
    node = gs.import_onnx(model_of(operator, inputs, attributes, constants)).nodes[0]
    flaw = describe_flaw(node)
    assert flaw is not None
    assert repr(named) in flaw


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes", "said"),
    [
        ("Conv", "x", {}, "has 1 inputs, expected 2 to 3"),
        ("Conv", "x w v x x", {}, "has 5 inputs"),
        ("Conv", "none w", {}, "is missing its input 'X'"),
        ("Concat", "none x", {"axis": 1}, "is missing its input 'inputs'"),
        ("Concat", "x x", {}, "is missing its attribute 'axis'"),
        ("Relu", "x", {"slope": 1.0}, "has the unknown attribute 'slope'"),
        ("LeakyRelu", "x", {"alpha": 1}, "attribute 'alpha' is 1, expected FLOAT"),
        ("Softmax", "x", {"axis": "last"}, "attribute 'axis' is 'last', expected INT"),
        ("Conv", "x w", {"pads": 1}, "attribute 'pads' is 1, expected INTS"),
        ("Cast", "x", {"to": 99}, "attribute 'to' is 99"),
        ("Nonsense", "x", {}, "is not an ONNX operator"),
        ("Einsum", "x", {"equation": "VALID"}, "is rejected by ONNX Runtime"),
    ],
)
def test_malformed_node_is_described(
    operator: str, inputs: str, attributes: dict[str, Any], said: str
) -> None:
    graph = gs.import_onnx(model_of(operator, inputs, attributes))
    assert said in (describe_flaw(graph.nodes[0], graph) or "")


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes", "constants"),
    [
        ("Conv", "x w", {"group": 1, "strides": [2, 2], "pads": [1, 1, 1, 1]}, {}),
        ("Slice", "x s e", {}, {"s": [0, 0], "e": [2**63 - 1, 3]}),
        ("Flatten", "x", {"axis": 4}, {}),
        ("Transpose", "x", {"perm": [0, 2, 3, 1]}, {}),
        ("Softmax", "x", {"axis": -4}, {}),
        ("GridSample", "x grid", {"mode": "cubic"}, {}),
    ],
)
def test_valid_node_has_no_flaw(
    operator: str, inputs: str, attributes: dict[str, Any], constants: dict[str, Any]
) -> None:
    graph = gs.import_onnx(model_of(operator, inputs, attributes, constants))
    assert describe_flaw(graph.nodes[0], graph) is None


def failing(node: gs.Node, error: Exception) -> None:
    del node
    raise error


@reports_node
def walk(graph: gs.Graph, error: Exception) -> None:
    for node in graph.nodes:
        failing(node, error)


def test_exception_of_ours_at_a_valid_node_is_unforeseen_and_keeps_its_cause() -> None:
    graph = gs.import_onnx(model_of("Relu", "x", {}))
    cause = ZeroDivisionError("by zero")
    with pytest.raises(UnforeseenError, match="please report") as caught:
        walk(graph, cause)
    error = caught.value
    assert (error.cause, error.operator, error.node) == ("ZeroDivisionError", "Relu", "the node")
    assert error.__cause__ is cause
    assert not isinstance(error, ModelError)


def test_exception_at_an_invalid_node_is_the_models_fault_and_keeps_its_cause() -> None:
    graph = gs.import_onnx(model_of("LRN", "x", {"size": 0}))
    cause = ZeroDivisionError("by zero")
    with pytest.raises(NodeError, match=r"LRN \(the node\): attribute 'size' is 0") as caught:
        walk(graph, cause)
    assert caught.value.__cause__ is cause


def test_errors_of_ours_pass_the_boundary_as_they_are() -> None:
    error = ModelError("what is wrong")
    with pytest.raises(ModelError) as caught:
        walk(gs.import_onnx(model_of("Relu", "x", {})), error)
    assert caught.value is error


@pytest.mark.parametrize(
    "error", [MemoryError(), ValueError("array is too big; `arr.size * ...`"), RecursionError()]
)
def test_running_out_of_memory_or_stack_is_laid_to_the_model(error: Exception) -> None:
    assert isinstance(explain_failure(error), ModelError)


def test_looking_for_the_graph_of_a_failure_prints_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A graph of graphsurgeon reports an attribute that it lacks as an error of its own."""

    @reports_node
    def fail(graph: gs.Graph) -> None:
        raise KeyError(graph.name)

    with pytest.raises(UnforeseenError):
        fail(gs.Graph(name="g"))
    assert capfd.readouterr() == ("", "")


def test_exception_without_a_node_is_unforeseen() -> None:
    error = explain_failure(KeyError("a name"))
    assert isinstance(error, UnforeseenError)
    assert (error.cause, error.operator, error.node) == ("KeyError", "", "")


@pytest.mark.parametrize("error", [ValueError("not enough values"), RuntimeError("no such key")])
@pytest.mark.parametrize("step", ["normalize_sizes", "check_attributes", "make_dense"])
def test_exception_of_ours_while_a_model_is_checked_is_not_laid_to_it(
    step: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(prepare, step, fail)
    with pytest.raises(UnforeseenError, match="please report") as caught:
        load(model_of("Relu", "x", {}))
    assert caught.value.__cause__ is error


def test_innermost_node_of_the_model_is_named_and_none_that_was_written_here() -> None:
    outer, inner = gs.Node("Relu", "outer"), gs.Node("Mul", "onnxcam/Mul_3")

    def rule(node: gs.Node) -> None:
        failing(inner, KeyError("k"))

    with pytest.raises(KeyError) as caught:
        rule(outer)
    explained = explain_failure(caught.value)
    assert isinstance(explained, OnnxcamError)
    assert "Relu (outer)" in str(explained)


@pytest.mark.parametrize("name", ["pads", "strides", "dilations", "kernel_shape"])
def test_list_of_no_numbers_is_as_none(name: str) -> None:
    """ONNX Runtime takes it so."""
    plain, empty = (model_of("Conv", "x w", {}) for _ in range(2))
    empty.graph.node[0].attribute.append(helper.make_attribute(name, [], attr_type=INTS))
    assert gradient(load(empty), ["x"], "y").bytes() == gradient(load(plain), ["x"], "y").bytes()
