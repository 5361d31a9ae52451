"""Every operator case of the onnx wheel whose operators have rules, with fixed and with unknown sizes."""

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxcam.autodiff.rules import DEFAULT
from onnxcam.errors import MissingRuleError, ModelError
from tests.autodiff.support.cases import (
    Case,
    LeftOutError,
    collected,
    made_dynamic,
    prepared,
    reached,
)
from tests.autodiff.support.check import check_model
from tests.autodiff.support.differences import KinkError

REFUSED = {  # operators that are refused in words: where they are not those of inference, or rare
    "BatchNormalization": "inference mode",
    "Dropout": "inference mode",
    "LSTM": "export it as torch's LSTM",
    "RoiAlign": "export it with mode avg",
    "ScatterElements": "reduction '(mul|min|max)'",
    "ScatterND": "reduction '(mul|min|max)'",
}
FIXED_ONLY = {  # operators whose rules need sizes that are known beforehand, and say so
    "Pad": "fixed size",
    "Resize": "fixed size",
    "LSTM": "no fixed number of steps",
    "DeformConv": "of fixed size",
    "ConvTranspose": "fixed size",
    "Slice": "fixed size|known along one axis",
}


@pytest.mark.parametrize("sizes", ["fixed", "unknown"])
@pytest.mark.parametrize("name", collected())
def test_operator(name: str, sizes: str, record_property: Callable[[str, object], None]) -> None:
    try:
        case = prepared(name)
        proto = case.proto if sizes == "fixed" else made_dynamic(case)
        moved = [check_off_kinks(proto, case, of) for of in case.outputs]
    except LeftOutError as reason:
        pytest.skip(str(reason))
    except MissingRuleError:
        if len(case.proto.graph.node) == 1:
            raise
        pytest.skip("a function written out with operators that have no rule")
    except ModelError as refusal:
        pytest.skip(accepted(refusal, case, sizes))
    if any(moved):
        record_property("moved", "1")
    record_property("operators", " ".join(case.operators))


def accepted(refusal: ModelError, case: Case, sizes: str) -> str:
    """The reason in a refusal that is meant; any other is raised again."""
    for op in case.operators:
        if re.search(REFUSED.get(op, "^$"), str(refusal)):
            return f"{op} in a form without a gradient rule, refused by name"
        if sizes == "unknown" and re.search(FIXED_ONLY.get(op, "^$"), str(refusal)):
            return f"{op} in a form that needs fixed sizes, refused by name"
    raise refusal


def check_off_kinks(proto: onnx.ModelProto, case: Case, of: str) -> bool:
    """Check at the case's own data; moved a little, and True, only if they sit exactly on a kink."""
    wrt = [name for name in case.wrt if of in reached(case.proto, name)]
    if not wrt:
        return False
    try:
        check_model(proto, case.arrays, wrt, of)
    except KinkError:
        check_model(proto, off_the_kink(case.arrays), wrt, of)
        return True
    return False


def off_the_kink(arrays: dict[str, Any]) -> dict[str, Any]:
    generator = np.random.default_rng(7)
    return {
        name: (each + generator.uniform(0.02, 0.05, each.shape)).astype(each.dtype)
        for name, each in arrays.items()
    }


def test_every_rule_is_checked() -> None:
    """By a case of the wheel that is not left out, or by a test of ours that names the operator."""
    flat = {op for op, rule in DEFAULT.items() if not rule.functions}
    left = {op for op in DEFAULT if op not in flat and "::" not in op}
    for name, case in collected().items():
        if left.isdisjoint(each.op_type for each in case.model.graph.node):
            continue
        with contextlib.suppress(LeftOutError):
            left -= set(prepared(name).operators)
    folder = Path(__file__).parent / "rules"
    ours = "".join(each.read_text() for each in sorted(folder.glob("test_*.py")))
    left |= {op for op in DEFAULT if "::" in op}
    assert {op for op in left if f'"{op.partition("::")[2] or op}"' not in ours} == set()
