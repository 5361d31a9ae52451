"""Which operators had a gradient checked, counted over the checks that passed.

The checks record here. `tests/conftest.py` attaches what was recorded to the report of a test that passed, also
in the worker processes of pytest-xdist, and the session fails if an operator is missing after a complete tier.
"""

from collections.abc import Collection, Sequence
from typing import Any

import onnx
import pytest

FLOATS = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.UNDEFINED,
}
PROPERTY = "checked_operators"  # of the report of a test
RECORDED: set[str] = set()  # by the test that is running
CONTRIB = "com.microsoft"
FUSED_INTEGERS = {  # they read integers or round: their gradients are those of tests/passes/quantization
    *(
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "MatMulIntegerToFloat",
        "NhwcMaxPool",
        "QLinearConv",
    ),
}
WITHOUT_GRADIENT = {  # operators with a definition: a loop, comparisons, or no input of floats
    *("BlackmanWindow", "HammingWindow", "HannWindow"),
    *("GreaterOrEqual", "LessOrEqual"),
    "LinearAttention",
}


def record(proto: onnx.ModelProto, wrt: Collection[str], of: str) -> None:
    """Record the operators between the inputs `wrt` and the output `of` of a model that was checked."""
    RECORDED.update(operators_between(proto, wrt, of))


def operators_between(proto: onnx.ModelProto, wrt: Collection[str], of: str) -> set[str]:
    """The operators of the nodes that floats flow through, as `Conv` or `com.microsoft::Gelu`."""
    inferred = onnx.shape_inference.infer_shapes(proto)
    not_floats = {
        tensor.name
        for tensor in (*inferred.graph.value_info, *inferred.graph.output)
        if tensor.type.tensor_type.elem_type not in FLOATS
    }
    nodes: Sequence[onnx.NodeProto] = proto.graph.node
    downstream, upstream = set(wrt), {of}
    for node in nodes:
        if not downstream.isdisjoint(node.input):
            downstream.update(set(node.output) - not_floats)
    for node in reversed(nodes):
        if not upstream.isdisjoint(node.output):
            upstream.update(set(node.input) - not_floats)
    return {
        f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        for node in nodes
        if not downstream.isdisjoint(node.input)
        and not (downstream & upstream).isdisjoint(node.output)
    }


def required_operators() -> set[str]:
    """Every operator with a gradient rule, with a definition in others, or fused by ONNX Runtime."""
    import onnxcam.passes.ort  # noqa: F401  it fills the table of decompositions
    from onnxcam.autodiff.rules import DEFAULT
    from onnxcam.passes.decomposition import Stage, decomposed_operators
    from onnxcam.passes.expand_functions import has_function_body

    newest = onnx.defs.onnx_opset_version()
    operators = {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
    defined = {op for op in operators if has_function_body(op, newest)} - WITHOUT_GRADIENT
    steps = {op for op, rule in DEFAULT.items() if not rule.functions}
    fused = {op for domain, op in decomposed_operators(Stage.LOADING) if domain == CONTRIB}
    contrib = {f"{CONTRIB}::{op}" for op in fused - FUSED_INTEGERS}
    return (DEFAULT.keys() | defined | contrib) - steps


class CheckedOperators:
    """A plugin of pytest's main process: sums up, and fails a complete tier in which an operator is missing."""

    def __init__(self, *, is_complete: bool) -> None:
        self.is_complete = is_complete
        self.operators: set[str] = set()
        self.checks = self.kinks = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties = dict(report.user_properties)
        if report.when == "call" and report.passed and PROPERTY in properties:
            self.operators.update(str(properties[PROPERTY]).split())
            self.checks += 1
            self.kinks += "off_a_kink" in properties

    def missing(self) -> list[str]:
        return sorted(required_operators() - self.operators) if self.is_complete else []

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.OK and self.missing():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.checks:
            return
        terminalreporter.write_sep("-", "gradients")
        terminalreporter.write_line(
            f"{len(self.operators)} operators in {self.checks} tests, {self.kinks} of them moved off a kink"
        )
        if missing := self.missing():
            terminalreporter.write_line(
                f"FAILED: no test checked a gradient of {', '.join(missing)}", red=True
            )
