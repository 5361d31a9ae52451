"""What lies between tensors and a score, on small graphs."""

import onnx_graphsurgeon as gs
import pytest
from onnx import parser

from onnxcam.graph.reachability import (
    bottlenecks,
    carries_floats,
    depends_on,
    producer,
    subgraph_between,
)
from onnxcam.model.load import load

DIAMOND = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 3] x) => (float[N, 3] score, float[N, 3] aside) {
    a = Relu(x)
    left = Exp(a)
    right = Tanh(a)
    joined = Add(left, right)
    shape = Shape(joined)
    flat = Sigmoid(joined)
    score = Reshape(flat, shape)
    aside = Neg(left)
}"""


@pytest.fixture
def graph() -> gs.Graph:
    return load(parser.parse_model(DIAMOND)).graph


def test_subgraph_between_input_and_score(graph: gs.Graph) -> None:
    path = subgraph_between(graph, {"x"}, {"score"}, carries_floats)
    assert [node.op for node in path.nodes] == ["Relu", "Exp", "Tanh", "Add", "Sigmoid", "Reshape"]
    assert path.tensors == {"x", "a", "left", "right", "joined", "flat", "score"}


def test_subgraph_between_inner_tensor_and_score(graph: gs.Graph) -> None:
    path = subgraph_between(graph, {"left"}, {"score"}, carries_floats)
    assert path.tensors == {"left", "joined", "flat", "score"}


def test_subgraph_between_unrelated_tensors_is_empty(graph: gs.Graph) -> None:
    assert subgraph_between(graph, {"right"}, {"aside"}, carries_floats).nodes == []


def test_bottlenecks_are_passed_by_every_path(graph: gs.Graph) -> None:
    path = subgraph_between(graph, {"x"}, {"score"}, carries_floats)
    assert bottlenecks(path) == ["x", "a", "joined", "flat", "score"]


def test_skip_over_the_graph_leaves_no_inner_bottleneck() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[2] x) => (float[2] y) { a = Relu(x) b = Tanh(a) y = Add(b, x) }"""
    graph = gs.import_onnx(parser.parse_model(text))
    assert bottlenecks(subgraph_between(graph, {"x"}, {"y"}, carries_floats)) == ["x", "y"]


def test_dependence_on_a_shape_does_not_count() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 3] x, float[3] z) => (float[N, 3] y, float[N, 3] ones) {
        shape = Shape(x)
        ones = Expand(z, shape)
        y = Add(x, ones)
    }"""
    tensors = load(parser.parse_model(text)).graph.tensors()
    assert depends_on(tensors["y"], {"x"})
    assert not depends_on(tensors["ones"], {"x"})
    assert depends_on(tensors["ones"], {"z"})
    assert depends_on(tensors["x"], {"x"})


def test_tensors_read_by_branches_are_followed() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (bool c, float[2] x) => (float[2] y) {
        a = Relu(x)
        y = If (c) <
            then_branch = yes () => (float[2] p) { p = Neg(a) },
            else_branch = no () => (float[2] q) { q = Exp(a) }
        >
    }"""
    graph = gs.import_onnx(parser.parse_model(text))
    path = subgraph_between(graph, {"x"}, {"y"}, carries_floats)
    assert [node.op for node in path.nodes] == ["Relu", "If"]
    assert depends_on(graph.tensors()["y"], {"x"})


def test_producer_is_none_for_inputs(graph: gs.Graph) -> None:
    assert producer(graph.inputs[0]) is None
    assert [producer(node.outputs[0]) for node in graph.nodes] == graph.nodes
