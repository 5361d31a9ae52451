"""The table of traits is complete, and agrees with ONNX and with what ONNX Runtime computes."""

import ast
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import defs, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

import onnxcam
from onnxcam.autodiff.rules import DEFAULT
from onnxcam.autodiff.unsupported import ZERO_GRADIENT
from onnxcam.graph.operators import (
    DOMAIN,
    TRAITS,
    is_elementwise,
    operator_key,
    traits_named,
    traits_of,
)
from onnxcam.graph.traits import UNKNOWN, Traits
from tests.spatial.support.classifiers import classifier
from tests.support.traits import operators_with

OPSET = 24
PACKAGE = Path(onnxcam.__file__).parent
LONG = 8  # operators in a list; shorter ones are patterns of a few operators, such as a sum and a product
ELEMENTWISE = operators_with(is_elementwise)
UNARY = operators_with(lambda traits: traits.elementwise == "unary")
COMPUTES_NOTHING = {"Squeeze", "Optional", "OptionalGetElement"}


# Rows


@cache
def schemas() -> dict[str, Any]:
    """The newest schema of every operator of ONNX and of ONNX Runtime, by its name in the table."""
    newest: dict[str, Any] = {}
    for schema in (*get_all_operator_schema(), *defs.get_all_schemas()):
        newest[operator_key(schema.name, schema.domain)] = schema
    return newest


@pytest.mark.parametrize("operator", sorted({*DEFAULT, *ZERO_GRADIENT}))
def test_operator_with_a_rule_has_a_row(operator: str) -> None:
    assert operator in TRAITS, f"add a row for {operator} to TRAITS in onnxcam/graph/operators.py"


def test_rows_are_operators_of_onnx_or_onnx_runtime() -> None:
    unknown = TRAITS.keys() - schemas().keys()
    assert {name for name in unknown if not name.startswith(f"{DOMAIN}::")} == set()


def test_operator_without_a_row_is_unknown() -> None:
    assert traits_named("Relu", "example.org") == traits_named("NoSuchOperator") == UNKNOWN
    assert traits_named("Relu", "example.org").elementwise is None


@pytest.mark.parametrize("domain", ["com.microsoft", DOMAIN])
def test_variant_of_an_operator_of_onnx_has_its_traits(domain: str) -> None:
    assert traits_named("Gelu", domain) == traits_named("Gelu")


@pytest.mark.parametrize("domain", [None, "", "ai.onnx"])
def test_default_domain_has_three_spellings(domain: str | None) -> None:
    assert operator_key("Relu", domain) == "Relu"
    assert traits_named("Relu", domain) == TRAITS["Relu"]


def test_no_other_module_lists_operators() -> None:
    """A set of operators elsewhere would have to be extended for each new operator."""
    names = {name.rpartition("::")[2] for name in TRAITS}
    lists = [
        f"{path.name}:{literal.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "operators.py"
        for literal in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(literal, (ast.Set, ast.Tuple, ast.List))
        and len(names & {getattr(element, "value", None) for element in literal.elts}) >= LONG
    ]
    assert lists == []


CONTRADICTIONS: dict[str, Callable[[Traits], object]] = {
    "elementwise, but mixes positions": lambda row: (
        row.elementwise
        and (row.window or row.normalizes or row.reduces or row.contracts or row.loses_positions)
    ),
    "elementwise, but changes the order": lambda row: (
        row.elementwise and row.moves not in (None, "identity", "cast")
    ),
    "keeps every number in place, but is not elementwise": lambda row: (
        row.moves in ("identity", "cast") and row.elementwise != "unary"
    ),
    "unaligned, but not elementwise": lambda row: row.unaligned and not row.elementwise,
    "quantizes, but not channelwise": lambda row: (
        row.quantizes and row.elementwise != "channelwise"
    ),
    "normalizes and reduces": lambda row: row.normalizes and row.reduces,
    "states its channels twice": lambda row: row.window and row.channels_second,
    "reads only a shape, but has a gradient": lambda row: (
        row.reads_shape and row.zero_gradient != "sizes"
    ),
    "always random, but has a gradient": lambda row: (
        (row.random == "always") != (row.zero_gradient == "random")
    ),
    "increasing, but without a gradient": lambda row: row.increasing and row.zero_gradient,
    "empty range": lambda row: row.output_range and row.output_range[0] >= row.output_range[1],
}


@pytest.mark.parametrize("contradiction", CONTRADICTIONS)
def test_no_row_contradicts_itself(contradiction: str) -> None:
    wrong = {name for name, row in TRAITS.items() if CONTRADICTIONS[contradiction](row)}
    assert wrong == set()


@pytest.mark.parametrize("operator", sorted(ZERO_GRADIENT))
def test_rule_of_an_operator_without_gradient_is_empty(operator: str) -> None:
    straight_through = {"DynamicQuantizeLinear"}
    if operator in DEFAULT and operator not in straight_through:
        assert not any(DEFAULT[operator].functions)


# Schemas


def arguments(operator: str) -> set[str]:
    """The names of attributes and inputs, of any version."""
    name, domain = operator.rpartition("::")[2], operator.rpartition("::")[0]
    versions = [
        schema
        for schema in (*defs.get_all_schemas_with_history(), *get_all_operator_schema())
        if (schema.name, schema.domain) == (name, domain)
    ]
    return {
        argument
        for schema in versions
        for argument in (*schema.attributes, *(tensor.name for tensor in schema.inputs))
    }


ARGUMENTS: dict[str, tuple[Callable[[Traits], object], set[str]]] = {
    "slides a window": (
        lambda row: row.window in ("conv", "integer conv", "transposed conv", "pool"),
        {"kernel_shape", "pads", "strides", "auto_pad"},
    ),
    "normalizes": (lambda row: row.normalizes is not None, {"axis"}),
    "reduces": (lambda row: row.reduces, {"axes", "keepdims"}),
    "joins": (lambda row: row.moves == "join", {"axis"}),
    "gathers": (lambda row: row.moves == "gather", {"axis", "indices"}),
    "transposes": (lambda row: row.moves == "transpose", {"perm"}),
    "blocks": (lambda row: row.moves == "blocks", {"blocksize"}),
    "is random": (lambda row: row.random is not None, {"seed"}),
}


@pytest.mark.parametrize("trait", ARGUMENTS)
def test_trait_has_its_arguments_in_the_schema(trait: str) -> None:
    test, names = ARGUMENTS[trait]
    operators = operators_with(lambda row: bool(test(row)))
    assert operators
    lacking = {name: names - arguments(name) for name in operators}
    assert {name: absent for name, absent in lacking.items() if absent} == {}


def test_global_pools_have_no_window_of_their_own() -> None:
    for operator in operators_with(lambda row: row.window == "global pool"):
        assert not arguments(operator) & {"kernel_shape", "strides"}


def test_control_flow_is_every_operator_with_branches_but_sequence_map() -> None:
    graphs = {
        name
        for name, schema in schemas().items()
        if "::" not in name
        and any(
            attribute.type == defs.OpSchema.AttrType.GRAPH
            for attribute in schema.attributes.values()
        )
    }
    assert graphs == operators_with(lambda row: row.control_flow) | {"SequenceMap"}


# Numbers


Example = tuple[str, list[NDArray[Any]], list[NDArray[Any]]]


@cache
def examples() -> list[Example]:
    """Operators of the table with inputs and outputs: ONNX's own conformance cases of one node."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():  # the generators compute with infinities and NaNs on purpose
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    return [
        (case.model.graph.node[0].op_type, inputs, outputs)
        for case in cases
        if len(case.model.graph.node) == 1 and not case.model.graph.node[0].domain
        for arrays in case.data_sets
        if (inputs := numeric(arrays[0])) and (outputs := numeric(arrays[1]))
    ]


def numeric(tensors: list[Any]) -> list[NDArray[Any]]:
    """Arrays of numbers in float64; empty if one of them is anything else."""
    arrays = [
        numpy_helper.to_array(tensor) if isinstance(tensor, onnx.TensorProto) else tensor
        for tensor in tensors
    ]
    plain = all(
        isinstance(array, (np.ndarray, np.generic)) and array.dtype.kind in "fiub"
        for array in arrays
    )
    return [np.asarray(array, np.float64) for array in arrays] if plain else []


def examples_with(test: Callable[[Traits], bool], least: int) -> list[Example]:
    """The examples of operators whose traits pass a test: `least` operators, or more."""
    chosen = [example for example in examples() if test(TRAITS.get(example[0], UNKNOWN))]
    assert len({operator for operator, *_ in chosen}) >= least
    return chosen


def test_moved_numbers_are_numbers_of_the_inputs() -> None:
    for operator, inputs, outputs in examples_with(
        lambda row: row.moves not in (None, "cast", "pad"), 15
    ):
        read = np.concatenate([np.ravel(array) for array in inputs])
        assert np.isin(outputs[0], read).all(), operator


def test_view_keeps_the_order_of_numbers() -> None:
    for operator, inputs, outputs in examples_with(lambda row: row.moves == "view", 4):
        assert np.array_equal(np.ravel(inputs[0]), np.ravel(outputs[0])), operator


def test_output_range_holds() -> None:
    for operator, _, outputs in examples_with(lambda row: row.output_range is not None, 5):
        low, high = TRAITS[operator].output_range or (np.nan, np.nan)
        assert (outputs[0] >= low).all() and (outputs[0] <= high).all(), operator  # noqa: PT018


def test_kept_range_holds() -> None:
    for operator, inputs, outputs in examples_with(lambda row: row.keeps_range, 7):
        if inputs[0].size:
            bounds = min(inputs[0].min(), 0) - 1e-6, max(inputs[0].max(), 0) + 1e-6
            written = outputs[0].min(), outputs[0].max()
            assert bounds[0] <= written[0] <= written[1] <= bounds[1], operator


def test_increasing_operators_do_not_fall_anywhere() -> None:
    names = operators_with(lambda row: row.increasing and row.elementwise == "unary")
    assert names
    for name in names:
        y = run(name, np.linspace(-5, 5, 401, dtype=np.float32))
        assert y is not None
        defined = y[np.isfinite(y)]  # not the logarithms of negative numbers
        assert len(defined) > 100
        assert (np.diff(defined) >= -1e-6).all(), f"{name} falls: it is not increasing"


def run(operator: str, x: NDArray[np.float32]) -> NDArray[Any] | None:
    """What ONNX Runtime computes of one tensor; None for an operator that takes more, or attributes."""
    node = helper.make_node(operator, ["x"], ["y"])
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", 1, x.shape)],
        [helper.make_empty_tensor_value_info("y")],
    )
    content = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10
    ).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001  not of one float tensor and no attributes
        return None
    y = session.run(None, {"x": x})[0]
    return y if isinstance(y, np.ndarray) else None


def keeps_positions(operator: str) -> bool:
    """Whether an operator writes, of numbers in another order, the same numbers in that order."""
    draw = np.random.default_rng(1)
    shape = (3, 4, 5, 2)
    x, order = draw.uniform(0.1, 0.9, shape).astype(np.float32), draw.permutation(120)
    first, second = run(operator, x), run(operator, np.ravel(x)[order].reshape(shape))
    if first is None or second is None or first.shape != shape:
        return False
    return bool(np.allclose(np.ravel(first)[order], np.ravel(second), equal_nan=True))


def test_operators_that_keep_positions_are_elementwise() -> None:
    names = sorted({schema.name for schema in defs.get_all_schemas() if not schema.domain})
    keeping = {name for name in names if keeps_positions(name)}
    assert len(keeping) > 40
    unstated = keeping - ELEMENTWISE - COMPUTES_NOTHING
    assert unstated == set(), "state that they are elementwise in onnxcam/graph/operators.py"


@pytest.mark.parametrize(
    "operator", sorted(UNARY - {"Cast", "CastLike", "PRelu", "BitwiseNot", "Not"})
)
def test_unary_operator_keeps_positions(operator: str) -> None:
    if defs.has(operator):
        assert keeps_positions(operator)


def test_traits_of_a_node_are_those_of_its_operator() -> None:
    graph = classifier("last = Conv(x, w)", OPSET).graph
    assert [traits_of(node) for node in graph.nodes if node.op == "Conv"] == [Traits(window="conv")]
