"""The table of operators: how it summarizes a report, and that the README names every operator."""

from pathlib import Path

import pytest
from onnx import defs

from scripts.operators import BEGIN, END, replace_between_marks, table, tally_checks

ROOT = Path(__file__).resolve().parents[2]
REPORT = """<testsuites><testsuite>
    <testcase name="test_operator[test_abs-fixed]"/>
    <testcase name="test_operator[test_abs-unknown]"/>
    <testcase name="test_operator[test_dropout_default-fixed]"/>
    <testcase name="test_operator[test_gelu_default_1_expanded-fixed]"/>
    <testcase name="test_every_rule_is_checked"/>
</testsuite></testsuites>"""


def test_tallies_count_checks_by_operator(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    tallies = tally_checks(report)
    passed = {op: tally.passed for op, tally in tallies.items() if tally.passed}
    assert passed == {"Abs": 2, "Dropout": 1, "": 1}
    reason = "in a form without a gradient rule (raises an error)"
    assert tallies["BatchNormalization"].reasons == {reason: 4}
    # reasons that name no operator are not shortened
    assert tallies[""].reasons["has a loop or a branch"]
    assert "BitShift" not in tallies
    lines = list(table(tallies))
    assert "| Abs | elementwise | 2 |  |" in lines
    assert any(line.startswith("| Dropout | elementwise | 1 |") for line in lines)
    (row,) = [line for line in lines if line.startswith("| BatchNormalization |")]
    assert "| own tests | 4 " in row
    assert f") {reason}" in lines[-1]
    assert not any(line.startswith("| LinearAttention |") for line in lines)  # has no gradient


def test_failed_check_writes_no_table(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT.replace('fixed]"/>', 'fixed]"><failure/></testcase>', 1))
    with pytest.raises(SystemExit, match=r"test_abs-fixed\] failed"):
        tally_checks(report)


def test_table_replaces_only_the_text_between_the_marks() -> None:
    readme = f"# title\n{BEGIN}\nold\n{END}\nrest\n"
    assert replace_between_marks(readme, ["new"]) == f"# title\n{BEGIN}\n\nnew\n\n{END}\nrest\n"
    with pytest.raises(SystemExit, match="marks"):
        replace_between_marks("# title\n", ["new"])


def test_readme_names_every_operator() -> None:
    text = (ROOT / "onnxcam" / "autodiff" / "README.md").read_text(encoding="utf-8")
    rows = text.partition(BEGIN)[2].partition(END)[0].splitlines()
    named = {
        op for row in rows if row.startswith("| ") for op in row.split("|")[1].strip().split(", ")
    }
    known = {schema.name for schema in defs.get_all_schemas() if not schema.domain}
    assert known - named == set()
