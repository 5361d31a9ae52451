"""The committed table of the checks that are left out, case -> reason, and how it is made.

python -m tests.autodiff.support.left_out    # tries all cases again, and writes tests/autodiff/left_out.csv
"""

import csv
import re
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

import onnx

from onnxcam.errors import MissingRuleError, ModelError
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import gradient
from tests.autodiff.support.wheel import Case, LeftOutError, prepare, wheel_cases

FILE = Path(__file__).parents[1] / "left_out.csv"
SIZES = ("fixed", "unknown")
BOTH = "both"
HEAD = ("case", "sizes", "reason")
HOW_TO_RENEW = (
    "if that is intended, run `python -m tests.autodiff.support.left_out` "
    "and read the diff of tests/autodiff/left_out.csv"
)
REFUSED = {  # operators with forms that are refused: not those of inference, or rare
    "BatchNormalization": "inference mode",
    "Dropout": "inference mode",
    "RoiAlign": "export it with mode avg",
    "ScatterElements": "reduction '(mul|min|max)'",
    "ScatterND": "reduction '(mul|min|max)'",
}
NEEDS_FIXED_SIZES = {  # operators whose rules refuse sizes that are unknown in advance
    "Pad": "fixed size",
    "Resize": "fixed size",
    "GRU": "needs a fixed number of steps|weights of fixed sizes",
    "LSTM": "needs a fixed number of steps|weights of fixed sizes",
    "RNN": "needs a fixed number of steps|weights of fixed sizes",
    "DeformConv": "of fixed size",
    "ConvTranspose": "fixed size",
    "Slice": "fixed size|known along one axis",
}
Check: TypeAlias = tuple[str, str]  # the name of a case, and its sizes: fixed or unknown


def all_checks() -> list[Check]:
    """Every case of the wheel, with fixed and with unknown sizes."""
    return [(name, sizes) for name in wheel_cases() for sizes in SIZES]


@lru_cache(maxsize=1)
def left_out() -> dict[Check, str]:
    """The committed table."""
    rows = csv.reader(
        line for line in FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")
    )
    assert tuple(next(rows)) == HEAD
    return {
        (name, sizes): reason
        for name, listed, reason in rows
        for sizes in (SIZES if listed == BOTH else (listed,))
    }


def write_table(reasons: dict[Check, str]) -> None:
    """One line a case, or two where the reasons differ."""
    lines = []
    for name in sorted({name for name, _ in reasons}):
        fixed, unknown = (reasons.get((name, sizes)) for sizes in SIZES)
        if fixed == unknown:
            lines.append((name, BOTH, fixed))
        else:
            pairs = zip(SIZES, (fixed, unknown), strict=True)
            lines.extend((name, sizes, reason) for sizes, reason in pairs if reason)
    with FILE.open("w", encoding="utf-8", newline="") as file:
        file.write(f"# {case_count_line()}\n")
        csv.writer(file, lineterminator="\n").writerows([HEAD, *lines])


def case_count_line() -> str:
    """The number of cases of the installed onnx."""
    return f"onnx {version('onnx')}: {len(wheel_cases())} cases, each with fixed and with unknown sizes"


def prepared_check(name: str, sizes: str) -> tuple[Case, onnx.ModelProto]:
    """The case, and its model with these sizes; LeftOutError with the reason, of our own refusals too."""
    if sizes == "unknown" and name.startswith("test_attention") and name.endswith("_expanded"):
        raise LeftOutError(
            "the expanded form of Attention: at unknown sizes, only the operator itself is checked"
        )
    case = prepare(name)
    return case, case.proto if sizes == "fixed" else case.with_unknown_sizes()


def refusal_reason(refusal: ModelError, case: Case, sizes: str) -> str:
    """The reason in a refusal that is meant; any other is raised again."""
    operators = [node.op_type for node in case.proto.graph.node]
    for op in operators:
        if re.search(REFUSED.get(op, "^$"), str(refusal)):
            return f"{op} in a form without a gradient rule (raises an error)"
        if sizes == "unknown" and re.search(NEEDS_FIXED_SIZES.get(op, "^$"), str(refusal)):
            return f"{op} in a form that needs fixed sizes (raises an error)"
    if isinstance(refusal, MissingRuleError):
        return f"{', '.join(sorted(refusal.operators))} without a gradient rule"
    raise refusal


def reason_left_out(name: str, sizes: str) -> str | None:
    """Why a check is left out; None for one that is made."""
    try:
        case, proto = prepared_check(name, sizes)
    except LeftOutError as reason:
        return str(reason)
    try:
        for output, wrt in case.wrt.items():
            gradient(load(proto), wrt, output)
    except ModelError as refusal:
        return refusal_reason(refusal, case, sizes)
    return None


def reasons_of(checks: Iterable[Check]) -> dict[Check, str]:
    """The checks that are left out now, with the reasons."""
    reasons = ((check, reason_left_out(*check)) for check in checks)
    return {check: reason for check, reason in reasons if reason is not None}


if __name__ == "__main__":
    table = reasons_of(all_checks())
    write_table(table)
    print(f"{FILE}: {len(table)} of {len(all_checks())} checks are left out")
