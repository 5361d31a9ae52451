"""Every method on every model: which outcomes fail, what is kept, and how the tables read."""

from pathlib import Path

import pytest

from scripts.fixtures.files import DATA
from scripts.parity import methods
from scripts.parity.methods import (
    Outcome,
    judge,
    load,
    models_in,
    outcomes_of,
    store,
    tables,
    work,
)
from scripts.parity.refusals import REASONS, reason_of

POOLED_ONLY = (
    "ModelError: cam does not apply to 'layer': it needs global average pooling and a linear"
)
NOWHERE = Path("none.jpg")


def test_reason_must_fit_class_and_message() -> None:
    assert (
        reason_of("ModelError", "it needs global average pooling and a linear layer") is REASONS[0]
    )
    assert reason_of("SettingError", "it needs global average pooling and a linear layer") is None
    assert reason_of("ModelError", "something new") is None


def test_errors_are_refusals_only_for_listed_reasons() -> None:
    rows = [
        Outcome("net", "cam", "error", POOLED_ONLY),
        Outcome("net", "grad-cam", "error", "ModelError: something new"),
        Outcome("net", "rise", "map"),
    ]
    assert [(row.outcome, row.failed) for row in judge(rows, set())] == [
        ("refused", False),
        ("UNLISTED", True),
        ("map", False),
    ]


def test_bent_pass_must_not_refuse_a_model_with_a_gradient() -> None:
    refused = [Outcome(net, "lrp", "error", POOLED_ONLY) for net in ("with", "without")]
    plain = [
        Outcome("with", "saliency", "map"),
        Outcome("without", "saliency", "error", POOLED_ONLY),
    ]
    judged = judge([*refused, *plain], {"lrp"})
    assert [row.outcome for row in judged] == ["BENT PASS", "refused", "map", "refused"]


def test_tables_put_models_with_the_same_refusals_together() -> None:
    rows = [Outcome(net, "cam", "error", POOLED_ONLY) for net in ("a", "b")]
    text = "\n".join(tables(judge([*rows, Outcome("a", "rise", "CRASH", "died")], set())))
    assert "| `cam` |  |  | 2 |  |" in text
    assert f"| {REASONS[0].why} | cam | a, b |" in text
    assert "| CRASH died | rise | a |" in text


def test_results_are_kept_and_the_last_one_counts(tmp_path: Path) -> None:
    rows = [Outcome("a", "cam", "CRASH"), Outcome("a", "cam", "map"), Outcome("b", "cam", "empty")]
    assert list(store(tmp_path / "results.jsonl", rows)) == rows
    assert load(tmp_path / "results.jsonl") == {("a", "cam"): rows[1], ("b", "cam"): rows[2]}


def test_worker_prints_an_outcome_for_every_method(capsys: pytest.CaptureFixture[str]) -> None:
    work(DATA / "keras_18.onnx", NOWHERE, ["cam", "grad-cam"])
    lines = capsys.readouterr().out.splitlines()
    assert '"outcome": "error"' in lines[0]
    assert "global average pooling" in lines[0]
    assert '"outcome": "map"' in lines[1]


def test_process_that_dies_is_a_result_and_others_go_on() -> None:
    """An unknown name raises an error outside of the method, as a crash of the process would."""
    rows = list(outcomes_of(DATA / "keras_18.onnx", NOWHERE, ["no-such-method", "grad-cam"]))
    assert [(row.method, row.outcome) for row in rows] == [
        ("no-such-method", "CRASH"),
        ("grad-cam", "map"),
    ]
    assert "no-such-method" in rows[0].detail


def test_silent_process_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "METHOD_SECONDS", 0.01)
    rows = list(outcomes_of(DATA / "keras_18.onnx", NOWHERE, ["grad-cam"]))
    assert [row.outcome for row in rows] == ["TOO SLOW"]


def test_all_fixtures_are_explained(tmp_path: Path) -> None:
    assert {path.stem for path in models_in(tmp_path)} == {
        path.stem for path in DATA.glob("*.onnx")
    }
