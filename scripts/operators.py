#!/usr/bin/env python3
"""Write the README's table of operators: the rule, how many of ONNX's own cases pass, and what is left out.

    python -m scripts.operators              # runs the cases first (minutes), then writes the table
    python -m scripts.operators REPORT.xml   # of test_conformance.py, junit_family=xunit1

A check is a case of one operator with fixed or with unknown sizes. Cases of functions that are expanded into
several operators are counted in one row.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

from onnx import defs

from onnxcam.autodiff.rules import FAMILIES
from onnxcam.autodiff.unsupported import UNSUPPORTED, ZERO_GRADIENT
from onnxcam.passes.expand_functions import has_function_body
from tests.autodiff.support.left_out import left_out
from tests.autodiff.support.wheel import has_gradient, wheel_cases

ROOT = Path(__file__).resolve().parents[1]
SUITE = "tests/autodiff/test_conformance.py"
BEGIN, END = "<!-- operators: written by scripts/operators.py -->", "<!-- operators end -->"


@dataclass
class Tally:
    """The checks of one operator."""

    passed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def passed_checks(report: Path) -> Iterator[str]:
    """The case of every check in a JUnit report; SystemExit where one failed."""
    for case in ET.parse(report).iter("testcase"):
        name = case.get("name", "")
        if not name.startswith("test_operator["):
            continue
        if case.find("failure") is not None or case.find("error") is not None:
            sys.exit(f"{name} failed: fix it first")
        yield name[len("test_operator[") : name.rindex("-")]


def tally_checks(report: Path) -> dict[str, Tally]:
    """The checks by operator, those that passed and those left out; those of functions under an empty name."""
    tallies: dict[str, Tally] = {}
    for name in passed_checks(report):
        tallies.setdefault(operator_of_case(name), Tally()).passed += 1
    for (name, _), reason in left_out().items():
        op = operator_of_case(name)
        if not op or has_gradient(op):
            tallies.setdefault(op, Tally()).reasons[reason.removeprefix(f"{op} ")] += 1
    return tallies


def operator_of_case(name: str) -> str:
    """The operator of a case, empty for an expanded function."""
    first, *others = wheel_cases()[name].model.graph.node
    return "" if others else str(first.op_type)


def rule_files() -> dict[str, str]:
    """The file with the rule of each operator."""
    return {
        op.rpartition("::")[2]: family.__name__.rpartition(".")[2]
        for family in FAMILIES
        for op in family.rules
    }


def operators_with_definition() -> set[str]:
    """The operators of the default domain that have a definition in simpler ones."""
    known = {schema.name for schema in defs.get_all_schemas() if not schema.domain}
    return {op for op in known if has_function_body(op, defs.onnx_opset_version())}


def table(tallies: dict[str, Tally]) -> Iterator[str]:
    """One line an operator; reasons by letter, explained below."""
    letters: dict[str, str] = {}
    files = rule_files()
    yield "| operator | rule | checks passed | left out |"
    yield "|---|---|---|---|"
    for op in sorted((files.keys() | tallies.keys() | operators_with_definition()) - {""}):
        if op in ZERO_GRADIENT or op in UNSUPPORTED:
            continue
        tally = tallies.get(op, Tally())
        cases = [f"{n} {_letter(why, letters)}" for why, n in tally.reasons.most_common()]
        where = files.get(op, "its definition")
        yield f"| {op} | {where} | {tally.passed or ('own tests' if op in files else 0)} | {', '.join(cases)} |"
    functions = tallies.get("", Tally())
    cases = [f"{n} {_letter(why, letters)}" for why, n in functions.reasons.most_common()]
    yield f"| expanded functions | | {functions.passed} | {', '.join(cases)} |"
    yield ""
    yield "Left out: " + "; ".join(f"{letter}) {why}" for why, letter in letters.items()) + "."


def _letter(reason: str, letters: dict[str, str]) -> str:
    return letters.setdefault(reason, f"{chr(ord('a') + len(letters))}")


def rows_without_rules() -> Iterator[str]:
    """The operators without a rule, by reason."""
    yield "| operators without a gradient | because it |"
    yield "|---|---|"
    for reasons in (ZERO_GRADIENT, UNSUPPORTED):
        for why in dict.fromkeys(reasons.values()):
            yield f"| {', '.join(op for op, reason in reasons.items() if reason == why)} | {why} |"


def replace_between_marks(readme: str, lines: Iterable[str]) -> str:
    """The README with other lines between its marks."""
    before, _, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        sys.exit(f"the README has lost its marks {BEGIN} and {END}")
    return "\n".join([before + BEGIN, "", *lines, "", END]) + after


def main() -> None:
    """Run the cases unless a report of them is given, and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(sys.argv[1]) if sys.argv[1:] else Path(folder) / "report.xml"
        if not sys.argv[1:]:
            options = ["-o", "junit_family=xunit1", f"--junitxml={report}"]
            command = [sys.executable, "-m", "pytest", "-q", SUITE, *options]
            subprocess.run(command, cwd=ROOT, check=True)
        lines = [*table(tally_checks(report)), "", *rows_without_rules()]
    readme = ROOT / "onnxcam" / "autodiff" / "README.md"
    readme.write_text(
        replace_between_marks(readme.read_text(encoding="utf-8"), lines), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
