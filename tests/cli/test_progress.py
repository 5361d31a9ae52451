"""The progress bar, and what is said around it."""

from __future__ import annotations

import sys

import pytest

from onnxcam.cli.progress import ProgressReporter


def watched(*, quiet: bool = False) -> None:
    with ProgressReporter(4, quiet=quiet, json=False) as watch:
        watch.note("to know")
        watch.picture("cat.png", 0)
        watch.passes(4)
        watch.record({}, "a line")
    watch.note("in the end")


def test_a_bar_where_there_is_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    watched()
    said = capsys.readouterr()
    assert said.out == "a line\n"
    assert "cat.png" in said.err
    assert "100%" in said.err
    assert "to know\n" in said.err
    assert said.err.endswith("in the end\n")


def test_lines_keep_clear_of_the_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    watched()
    said = capsys.readouterr()
    assert said.out == ""
    assert "a line\n" in said.err


def test_no_bar_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    watched()
    assert capsys.readouterr() == ("a line\n", "to know\nin the end\n")
    watched(quiet=True)
    assert capsys.readouterr() == ("", "")
