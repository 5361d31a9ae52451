"""The table of decompositions: rows are unique, and operators in unsupported forms stay as they are."""

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import numpy_helper

from onnxcam.errors import ModelError, NeedsOpsetError
from onnxcam.graph.tracing import Value
from onnxcam.model.load import load
from onnxcam.passes import decomposition
from onnxcam.passes.decomposition import DECOMPOSITIONS, Stage, decompose, decomposes

FLOAT = np.dtype(np.float32)


@pytest.fixture(autouse=True)
def _rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decomposition, "DECOMPOSITIONS", dict(DECOMPOSITIONS))


def graph_of(operator: str, **attributes: Any) -> gs.Graph:
    x, y = gs.Variable("x", FLOAT, [2, 3]), gs.Variable("y", FLOAT, [2, 3])
    node = gs.Node(operator, "the node", attributes, [x], [y], domain="test")
    imports = [onnx.helper.make_opsetid("", 11)]
    return gs.Graph([node], inputs=[x], outputs=[y], opset=11, import_domains=imports)


def new_nodes(graph: gs.Graph, stage: Stage) -> list[gs.Node] | None:
    return decompose(graph.nodes[0], graph, {"y"}, {stage})


def test_second_row_of_one_operator_is_refused() -> None:
    decomposes("Twice", domain="test", stage=Stage.LOADING)(lambda x: x * 2)
    with pytest.raises(ValueError, match="two decompositions of test::Twice"):
        decomposes("Twice", domain="test", stage=Stage.GRADIENT)(lambda x: x + x)


def test_new_nodes_write_the_output_and_are_named_after_it() -> None:
    decomposes("Twice", domain="test", stage=Stage.LOADING)(lambda x: (x + x) * 0.5)
    graph = graph_of("Twice")
    nodes = new_nodes(graph, Stage.LOADING)
    assert nodes is not None
    assert [node.name for node in nodes] == ["y/Add_0", "y/Mul_1"]
    assert nodes[-1].outputs[0] is graph.outputs[0]
    assert nodes[-1].inputs[1].name == "y/Mul_1/1"
    assert not graph.nodes[0].outputs


def test_output_that_is_an_input_becomes_an_identity() -> None:
    decomposes("Copy", domain="test", stage=Stage.LOADING)(lambda x: x)
    nodes = new_nodes(graph_of("Copy"), Stage.LOADING)
    assert nodes is not None
    assert [node.op for node in nodes] == ["Identity"]


def test_row_of_another_stage_is_not_applied() -> None:
    decomposes("Twice", domain="test", stage=Stage.GRADIENT)(lambda x: x * 2)
    assert new_nodes(graph_of("Twice"), Stage.LOADING) is None


def test_row_receives_the_node_it_asks_for() -> None:
    def scale_row(x: Value, *, node: gs.Node, **attributes: Any) -> Value:
        return x * float(len(node.name) + len(attributes))

    decomposes("Scaled", domain="test", stage=Stage.LOADING)(scale_row)
    nodes = new_nodes(graph_of("Scaled", extra=1), Stage.LOADING)
    assert nodes is not None
    assert nodes[0].inputs[1].values == len("the node") + 1


def test_unknown_attribute_leaves_the_node() -> None:
    decomposes("Twice", domain="test", stage=Stage.LOADING)(lambda x: x * 2)
    graph = graph_of("Twice", novelty=1)
    assert new_nodes(graph, Stage.LOADING) is None
    assert graph.nodes[0].outputs == graph.outputs


def raise_model_error(x: Value) -> Value:
    _ = x + x
    raise ModelError("the shape is not known")


def test_failing_row_leaves_the_node_while_the_model_is_loaded() -> None:
    decomposes("Failing", domain="test", stage=Stage.QUANTIZED)(raise_model_error)
    graph = graph_of("Failing")
    assert new_nodes(graph, Stage.QUANTIZED) is None
    assert graph.inputs[0].outputs == graph.nodes, "no trace of the attempt"


def test_error_of_a_row_reaches_the_user_where_a_gradient_needs_it() -> None:
    decomposes("Failing", domain="test", stage=Stage.GRADIENT)(raise_model_error)
    graph = graph_of("Failing")
    with pytest.raises(ModelError, match="the shape is not known"):
        new_nodes(graph, Stage.GRADIENT)
    assert graph.inputs[0].outputs == graph.nodes


def test_newer_operator_raises_the_opset_it_needs() -> None:
    decomposes("Newer", domain="test", stage=Stage.LOADING)(lambda x: x.build.op("HardSwish", x))
    with pytest.raises(NeedsOpsetError) as error:
        new_nodes(graph_of("Newer"), Stage.LOADING)
    assert error.value.opset == 14


@pytest.mark.parametrize("constant", [True, False])
def test_quantized_weights_with_a_computed_scale_stay_quantized(constant: bool) -> None:
    scale = "s" if constant else "t"
    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]>
        net (float[1, 3, 4, 4] x, float t) => (float[1, 2, 4, 4] y) {{
            q = QuantizeLinear(x, s, z)
            r = QLinearConv(q, s, z, w, {scale}, wz, s, z)
            d = DequantizeLinear(r, s, z)
            y = Mul(d, t) }}"""
    )
    constants = {"s": np.float32(0.1), "z": np.uint8(3), "w": np.ones((2, 3, 1, 1), np.int8)}
    constants["wz"] = np.int8(0)
    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    proto.graph.initializer.extend(tensors)
    operators = [node.op for node in load(proto).graph.nodes]
    assert ("QLinearConv" in operators) != constant
