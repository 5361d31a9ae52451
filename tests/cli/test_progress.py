"""The progress bar, and the lines printed around it."""

from __future__ import annotations

import sys

import pytest

from onnxcam.cli.progress import ProgressReporter


def report_progress(*, quiet: bool = False) -> None:
    with ProgressReporter(4, quiet=quiet, json=False) as reporter:
        reporter.note("to know")
        reporter.start_image("cat.png", 0)
        reporter.advance(4)
        reporter.report({}, "a line")
    reporter.note("in the end")


def test_progress_bar_is_drawn_on_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    report_progress()
    said = capsys.readouterr()
    assert said.out == "a line\n"
    assert "cat.png" in said.err
    assert "100%" in said.err
    assert "4 of 4 runs" in said.err
    assert "to know\n" in said.err
    assert said.err.endswith("in the end\n")


def test_progress_bar_names_what_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ProgressReporter(4, quiet=False, json=False, action="scanning"):
        pass
    assert "scanning" in capsys.readouterr().err


def test_lines_are_printed_above_progress_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    report_progress()
    said = capsys.readouterr()
    assert said.out == ""
    assert "a line\n" in said.err


def test_progress_bar_is_hidden_without_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    report_progress()
    assert capsys.readouterr() == ("a line\n", "to know\nin the end\n")
    report_progress(quiet=True)
    assert capsys.readouterr() == ("", "")
