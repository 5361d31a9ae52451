"""Constants are computed by ONNX Runtime; what would not fit into memory is refused or left to the model."""

import json
import warnings
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from onnxcam.arrays import Array
from onnxcam.errors import ModelError, NodeError
from onnxcam.model.load import load
from onnxcam.passes.constant_folding import values_of_constant_node
from tests.passes.support import bombs
from tests.support.limits import run_limited

NOT_FOLDED = {
    "RandomNormal",
    "RandomUniform",
    "Dropout",
    "If",
    "Loop",
    "Scan",
    "QuantizeLinear",
    "DequantizeLinear",
}


def model_of(
    nodes: list[onnx.NodeProto], constants: dict[str, Array], opset: int, outputs: int = 1
) -> onnx.ModelProto:
    """A model that returns y0, y1, … of nodes which read constants alone, typed as ONNX Runtime writes them."""
    ends = [helper.make_node("Identity", [f"y{i}"], [f"end{i}"]) for i in range(outputs)]
    graph = helper.make_graph(
        [*nodes, *ends],
        "g",
        [helper.make_tensor_value_info("an image", TensorProto.FLOAT, [1])],
        [helper.make_empty_tensor_value_info(f"end{i}") for i in range(outputs)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options)
    for output, inferred in zip(graph.output, session.get_outputs(), strict=True):
        words = {"float": 1, "double": 11, "float16": 10}
        word = inferred.type.removeprefix("tensor(").removesuffix(")")
        code = words.get(word) or TensorProto.DataType.Value(word.upper())
        output.CopyFrom(
            helper.make_tensor_value_info(output.name, code, [None] * len(inferred.shape))
        )
    del proto.graph.output[:]
    proto.graph.output.extend(graph.output)
    return proto


def run(content: bytes) -> list[Array]:
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(
        None, {image.name: np.zeros(1, np.float32) for image in session.get_inputs()}
    )


def operators(content: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_from_string(content).graph.node}


DRAW = np.random.default_rng(3)
IMAGE = DRAW.standard_normal((1, 4, 5, 5)).astype(np.float32)
INTEGERS = np.array([-7, 7, -1, 5, 2**40, -9], np.int64)


@pytest.mark.parametrize("opset", [7, 8, 9, 12, 13, 14, 15])
def test_batch_normalization_of_a_constant_is_folded_as_the_runtime_computes_it(opset: int) -> None:
    """Below opset 14 the reference evaluator of onnx normalizes by the batch, as in training."""
    vectors = {name: DRAW.uniform(0.5, 3, 4).astype(np.float32) for name in "sbmv"}
    node = helper.make_node("BatchNormalization", ["x0", *"sbmv"], ["y0"])
    proto = model_of([node], {"x0": IMAGE, **vectors}, opset)
    content = load(proto).bytes()
    assert operators(content) == {"Identity"}
    scale, bias, mean, variance = (vectors[name][:, None, None] for name in "sbmv")
    right = (IMAGE - mean) / np.sqrt(variance + 1e-5) * scale + bias
    np.testing.assert_allclose(np.asarray(run(content)[0], np.float32), right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("operator", "attributes", "constants", "opset"),
    [
        ("Div", {}, [INTEGERS, np.full(6, 2)], 13),
        ("Div", {}, [INTEGERS, np.full(6, -3)], 13),
        ("Mod", {}, [INTEGERS, np.full(6, 4)], 13),
        ("Mod", {"fmod": 1}, [INTEGERS, np.full(6, 4)], 13),
        ("Softmax", {"axis": 1}, [IMAGE], 11),
        ("LogSoftmax", {"axis": 2}, [IMAGE], 12),
        ("Hardmax", {"axis": 1}, [IMAGE], 11),
        ("Cast", {"to": TensorProto.INT32}, [INTEGERS.astype(np.float32) / 2], 13),
        ("Cast", {"to": TensorProto.UINT8}, [np.array([1.5, 200.7], np.float32)], 13),
        ("Round", {}, [np.array([0.5, 1.5, 2.5, -0.5], np.float32)], 13),
        ("AveragePool", {"kernel_shape": [3, 3], "ceil_mode": 1, "strides": [2, 2]}, [IMAGE], 10),
        ("LRN", {"size": 3}, [IMAGE], 13),
        ("Upsample", {"mode": "linear"}, [IMAGE, np.array([1, 1, 2, 1.5], np.float32)], 9),
        ("Resize", {"mode": "linear"}, [IMAGE, np.array([1, 1, 0.6, 0.6], np.float32)], 10),
        ("ReduceLogSumExp", {"axes": [1], "keepdims": 0}, [IMAGE], 13),
        ("Pow", {}, [np.array([2, 3], np.int64), np.array([0.5, -1], np.float32)], 13),
        ("Range", {}, [np.array(5), np.array(-4), np.array(-3)], 13),
        ("CumSum", {"exclusive": 1, "reverse": 1}, [IMAGE, np.array(1)], 14),
        (
            "Slice",
            {},
            [IMAGE, np.array([-1]), np.array([-(2**62)]), np.array([2]), np.array([-2])],
            13,
        ),
        ("Gather", {"axis": 1}, [IMAGE, np.array([-1, 0])], 13),
        ("TopK", {"axis": -1}, [IMAGE, np.array([2])], 11),
        ("OneHot", {}, [np.array([1, -1, 7]), np.array(4), np.array([2, 5], np.float32)], 11),
        ("NonZero", {}, [np.array([[1, 0], [0, 3]])], 13),
        ("Unique", {}, [np.array([3.0, 1.0, 3.0], np.float32)], 11),
    ],
)
def test_folded_constant_is_what_the_plain_model_computes(
    operator: str, attributes: dict[str, Any], constants: list[Array], opset: int
) -> None:
    names = [f"x{i}" for i in range(len(constants))]
    count = 2 if operator == "TopK" else 1
    node = helper.make_node(operator, names, [f"y{i}" for i in range(count)], **attributes)
    proto = model_of([node], dict(zip(names, constants, strict=True)), opset, count)
    content = load(proto).bytes()
    assert operators(content) == {"Identity"}, "it was not folded"
    for folded, plain in zip(run(content), run(proto.SerializeToString()), strict=True):
        assert folded.dtype == plain.dtype
        np.testing.assert_array_equal(folded, plain)


def first_cases() -> list[tuple[onnx.NodeProto, int, list[Array]]]:
    """The node, its opset and its inputs of one case of the onnx wheel for each operator on arrays."""
    with warnings.catch_warnings():  # the generators compute with infinities and NaNs on purpose
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    chosen: dict[str, tuple[onnx.NodeProto, int, list[Array]]] = {}
    for case in cases:
        node, arrays = case.model.graph.node[0], [*case.data_sets[0][0]]
        alone = (
            len(case.model.graph.node) == 1 and not node.domain and node.op_type not in NOT_FOLDED
        )
        if alone and all(isinstance(array, (np.ndarray, np.generic)) for array in arrays):
            opset = min(max(case.model.opset_import[0].version, 7), 23)
            chosen.setdefault(node.op_type, (node, opset, list(map(np.asarray, arrays))))
    return list(chosen.values())


def test_folded_cases_of_the_wheel_equal_the_plain_model() -> None:
    folded, compared = set(), set()
    for node, opset, arrays in first_cases():
        written = {name: f"y{i}" for i, name in enumerate(filter(None, node.output))}
        node.output[:] = [written.get(name, "") for name in node.output]
        constants = dict(zip(filter(None, node.input), arrays, strict=True))
        try:
            proto = model_of([node], constants, opset, len(written))
            plain = run(proto.SerializeToString())
        except Exception:  # noqa: BLE001  what ONNX Runtime does not run is not compared
            continue
        content = load(proto).bytes()
        compared.add(node.op_type)
        folded |= {node.op_type} - operators(content)
        for ours, theirs in zip(run(content), plain, strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=node.op_type)
    assert len(compared) > 120
    assert len(folded) > 110, sorted(compared - folded)


@pytest.mark.parametrize(
    ("node", "opset"),
    [
        (helper.make_node("RandomNormal", [], ["y0"], shape=[3]), 13),
        (helper.make_node("RandomUniformLike", ["x0"], ["y0"]), 13),
        (helper.make_node("Dropout", ["x0", "r", "t"], ["y0"]), 13),
        (helper.make_node("Bernoulli", ["x0"], ["y0"]), 15),
    ],
)
def test_random_numbers_are_not_folded(node: onnx.NodeProto, opset: int) -> None:
    constants = {"x0": IMAGE, "r": np.array(0.5, np.float32), "t": np.array(True)}
    content = load(model_of([node], {n: constants[n] for n in node.input}, opset)).bytes()
    assert node.op_type in operators(content)


@pytest.mark.parametrize("operator", ["Div", "Mod"])
@pytest.mark.parametrize(
    ("dividend", "divisor"), [([1, 2], [3, 0]), ([-(2**63), 1], [-1, 1])], ids=["by 0", "lowest"]
)
def test_division_that_ends_the_process_is_refused(
    operator: str, dividend: list[int], divisor: list[int]
) -> None:
    node = helper.make_node(operator, ["a", "b"], ["y0"], "the node")
    harmless = np.ones(2, np.int64)
    proto = model_of([node], {"a": harmless, "b": harmless}, 13)
    for tensor, values in zip(proto.graph.initializer, (dividend, divisor), strict=True):
        tensor.CopyFrom(numpy_helper.from_array(np.array(values), tensor.name))
    with pytest.raises(NodeError, match=rf"{operator} \(the node\): divides integers"):
        load(proto)


def test_constants_are_folded_up_to_a_budget_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred tables of 40 kB: each is small, together they are as large as a model."""
    monkeypatch.setattr("onnxcam.passes.constant_folding.MAX_FOLDED_BYTES", 1_000_000)
    nodes = [helper.make_node("Expand", ["x0", "shape"], [f"t{i}"]) for i in range(100)]
    nodes.append(helper.make_node("Max", [f"t{i}" for i in range(100)], ["y0"]))
    proto = model_of(nodes, {"x0": IMAGE[0, 0, 0, :1], "shape": np.array([10_000])}, 13)
    content = load(proto).bytes()
    assert len(content) < 1_100_000
    assert "Expand" in operators(content)
    np.testing.assert_array_equal(run(content)[0], run(proto.SerializeToString())[0])


@pytest.mark.parametrize("kind", ["constants", "images"])
def test_bombs_are_refused_or_left_to_the_model(kind: str) -> None:
    """A few hundred bytes each, which would become terabytes."""
    result = run_limited(
        ["-c", f"from tests.passes.support.bombs import defuse; defuse({kind!r})"],
        seconds=60,
        megabytes=3072,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    outcomes = json.loads(result.stdout.splitlines()[-1])
    assert outcomes.keys() == bombs.BOMBS[kind].keys()
    assert set(outcomes.values()) <= {"taken", ModelError.__name__, NodeError.__name__}, outcomes


@pytest.mark.parametrize("attributes", [{}, {"value_int": 1, "value_floats": [0.5]}])
def test_constant_without_exactly_one_value_is_refused(attributes: dict[str, object]) -> None:
    node = gs.Node("Constant", "c", attributes, [], [gs.Variable("y")])
    with pytest.raises(
        NodeError, match=rf"Constant \(c\): holds {len(attributes)} values, not one"
    ):
        values_of_constant_node(node)
