"""Functions are inlined within budgets that are counted beforehand."""

import re
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxcam.errors import ModelError
from onnxcam.model.load import load
from onnxcam.model.proto.inline_functions import MAX_NODES, check_functions
from tests.autodiff.support.check import numbers, run
from tests.support.limits import run_limited

IMPORTS = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]


def call(name: str, source: str, output: str) -> onnx.NodeProto:
    return helper.make_node(name, [source], [output], domain="own")


def model_of_functions(bodies: dict[str, list[onnx.NodeProto]], called: str) -> onnx.ModelProto:
    """A model that calls one of the functions; all of them read a and write b."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy"]
    graph = helper.make_graph([call(called, "x", "y")], "net", ends[:1], ends[1:])
    proto = helper.make_model(graph, opset_imports=IMPORTS, ir_version=9)
    for name, nodes in bodies.items():
        proto.functions.append(helper.make_function("own", name, ["a"], ["b"], nodes, IMPORTS))
    return proto


def doubling(times: int) -> onnx.ModelProto:
    """Functions that call the previous one twice: 2 ** times nodes."""
    bodies = {"f0": [helper.make_node("Tanh", ["a"], ["b"])]}
    for i in range(times):
        bodies[f"f{i + 1}"] = [call(f"f{i}", "a", "t"), call(f"f{i}", "t", "b")]
    return model_of_functions(bodies, f"f{times}")


def chain_of_calls(depth: int) -> onnx.ModelProto:
    bodies = {"f0": [helper.make_node("Tanh", ["a"], ["b"])]}
    bodies |= {f"f{i + 1}": [call(f"f{i}", "a", "b")] for i in range(depth)}
    return model_of_functions(bodies, f"f{depth}")


def test_functions_within_budget_are_inlined() -> None:
    model = load(doubling(5))
    assert [node.op for node in model.graph.nodes] == ["Tanh"] * 32
    x = numbers(2, 3)
    expected = x.copy()
    for _ in range(32):
        expected = np.tanh(expected)
    (y,) = run(model.proto(), {"x": x}, ["y"])
    assert abs(y - expected).max() < 1e-5


def test_functions_in_any_order_are_inlined() -> None:
    proto = doubling(4)
    functions = list(proto.functions)[::-1]
    del proto.functions[:]
    proto.functions.extend(functions)
    assert len(load(proto).graph.nodes) == 16


@pytest.mark.parametrize("times", [12, 13, 15, 20, 100])
def test_functions_with_too_many_nodes_are_refused(times: int) -> None:
    code = (
        f"import onnxcam, tests.model.proto.test_inline_functions as t\n"
        f"try:\n    onnxcam.load(t.doubling({times}))\n"
        f"except onnxcam.OnnxcamError as error:\n    print(error)\n"
    )
    ended = run_limited(code, seconds=30, megabytes=2048)
    assert re.search(r"too large \(\d+ nodes, \d+ at most", ended.stdout), ended.stderr
    assert "export the model without functions" in ended.stdout


def test_functions_with_too_many_bytes_are_refused() -> None:
    """A constant of 8 MB in a function that is called 2 ** 10 times."""
    proto = doubling(10)
    (inner,) = [function for function in proto.functions if function.name == "f0"]
    constant = helper.make_node("Constant", [], ["c"])
    value = numpy_helper.from_array(numbers(1 << 21), "c")
    constant.attribute.append(helper.make_attribute("value", value))
    inner.node.insert(0, constant)
    with pytest.raises(ModelError, match=r"bytes, 2147483648 at most"):
        load(proto)


@pytest.mark.parametrize("calls", [["f"], ["g", "f"], ["g", "h", "f"]])
def test_recursive_functions_are_refused(calls: list[str]) -> None:
    bodies = {}
    for name, called in zip(["f", *calls[:-1]], calls, strict=True):
        bodies[name] = [call(called, "a", "b")]
    with pytest.raises(ModelError, match="calls itself"):
        load(model_of_functions(bodies, "f"))


@pytest.mark.parametrize("depth", [120, 5000])
def test_deeply_nested_functions_are_refused(depth: int) -> None:
    with pytest.raises(ModelError, match="100 at most"):
        load(chain_of_calls(depth))


def test_calls_in_inner_graphs_are_counted() -> None:
    """Functions whose two branches call the previous one."""
    out = [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)]
    bodies: dict[str, Any] = {"f0": [helper.make_node("Tanh", ["a"], ["b"])]}
    for i in range(20):
        branch = helper.make_graph([call(f"f{i}", "a", "b")], "branch", [], out)
        bodies[f"f{i + 1}"] = [
            helper.make_node("Size", ["a"], ["size"]),
            helper.make_node("Cast", ["size"], ["is_not_empty"], to=TensorProto.BOOL),
            helper.make_node("If", ["is_not_empty"], ["b"], then_branch=branch, else_branch=branch),
        ]
    with pytest.raises(ModelError, match=r"nodes, \d+ at most"):
        load(model_of_functions(bodies, "f20"))


def model_of_layers(layers: int, nodes: int) -> onnx.ModelProto:
    """A function with this many nodes, called once for each layer of the network."""
    names = ["a", *(f"t{i}" for i in range(nodes - 1)), "b"]
    body = [helper.make_node("Tanh", [a], [b]) for a, b in pairwise(names)]
    proto = model_of_functions({"layer": body}, "layer")
    names = ["x", *(f"h{i}" for i in range(layers - 1)), "y"]
    del proto.graph.node[:]
    proto.graph.node.extend(call("layer", a, b) for a, b in pairwise(names))
    return proto


@pytest.mark.parametrize(("layers", "nodes"), [(12, 80), (64, 40), (150, 100), (40, 409)])
def test_layers_sharing_a_function_are_accepted(layers: int, nodes: int) -> None:
    """Exporters nest only a few functions; the full budget applies to their models."""
    check_functions(model_of_layers(layers, nodes), "net")


def test_layers_beyond_full_budget_are_refused() -> None:
    with pytest.raises(ModelError, match=f"nodes, {MAX_NODES} at most"):
        check_functions(model_of_layers(410, 410), "net")
