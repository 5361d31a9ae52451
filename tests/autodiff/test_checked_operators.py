"""Operators count as checked where floats flow through them in a test that passed."""

from typing import Literal

import onnx
import pytest

from tests.autodiff.support.checked_operators import (
    PROPERTY,
    CheckedOperators,
    operators_between,
    required_operators,
)


def report(operators: str, outcome: Literal["passed", "failed"] = "passed") -> pytest.TestReport:
    properties = [(PROPERTY, operators)]
    where = ("test", 0, "test")
    return pytest.TestReport("test", where, {}, outcome, None, "call", user_properties=properties)


def test_operators_between_follows_floats_from_input_to_output() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["": 18, "com.microsoft": 1]>
        net (float[2, 3] x, float[2, 3] z) => (float[2, 3] y, float[2, 3] far) {
            a = Tanh(x)
            s = Shape(a)
            o = ConstantOfShape(s)
            b = com.microsoft.Gelu(a)
            c = Exp(z)
            d = Add(o, c)
            y = Mul(b, d)
            far = Neg(a)
        }"""
    )
    assert operators_between(proto, ["x"], "y") == {"Tanh", "com.microsoft::Gelu", "Mul"}


def test_complete_tier_without_an_operator_names_it() -> None:
    plugin = CheckedOperators(is_complete=True)
    plugin.pytest_runtest_logreport(report(" ".join(required_operators() - {"Conv", "Gemm"})))
    plugin.pytest_runtest_logreport(report("Conv", "failed"))
    assert plugin.missing() == ["Conv", "Gemm"]
    plugin.pytest_runtest_logreport(report("Conv Gemm"))
    assert plugin.missing() == []


def test_partial_run_requires_no_operator() -> None:
    assert CheckedOperators(is_complete=False).missing() == []


def test_definitions_and_fused_operators_are_required() -> None:
    assert {"AffineGrid", "SwiGLU", "CausalConvWithState", "Attention"} <= required_operators()
    assert {"com.microsoft::FusedConv", "com.microsoft::MatMulNBits"} <= required_operators()
    assert {"LinearAttention", "Floor", "Shape"}.isdisjoint(required_operators())
