"""Standard output and standard error that are closed, full, slow, or have lost their reader."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.limits import ROOT

pytestmark = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="this system has no /dev/full"
)
FULL = "error: cannot write to standard output (No space left on device)\n"
CLOSED = "error: cannot write to standard output (Bad file descriptor)\n"
COMMANDS = ("layers {model}", "check {model}", "methods", "methods --json", "doctor", "explain -h")


def shell(
    line: str, *, unbuffered: bool = False, encoding: str = "utf-8"
) -> subprocess.CompletedProcess[str]:
    """A line of bash in which `onnxcam` is the command."""
    command = f"{shlex.quote(sys.executable)} -W error -m onnxcam"
    script = f'onnxcam() {{ {command} "$@"; }}; {line}'
    flags = {"PYTHONUNBUFFERED": "1" if unbuffered else "", "PYTHONIOENCODING": encoding}
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | flags
    words = ["bash", "-c", script]
    return subprocess.run(
        words, capture_output=True, text=True, timeout=60, check=False, env=environment
    )


def explain(model: Path, image: Path, out: Path, more: str = "") -> str:
    return f"onnxcam explain {model} {image} -m grad-cam -o {out} {more}"


@pytest.mark.parametrize(
    ("command", "unbuffered"), [("methods", True), *((command, False) for command in COMMANDS)]
)
def test_full_stdout_is_one_error_line(model: Path, command: str, unbuffered: bool) -> None:
    line = command.format(model=model)
    result = shell(f"onnxcam {line} >/dev/full", unbuffered=unbuffered)
    assert (result.returncode, result.stderr) == (2, FULL)


@pytest.mark.parametrize("command", COMMANDS[:3])
def test_closed_stdout_is_one_error_line(model: Path, command: str) -> None:
    result = shell(f"onnxcam {command.format(model=model)} >&-")
    assert (result.returncode, result.stderr) == (2, CLOSED)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("command", ["--help", "--version", "explain --help"])
def test_help_on_full_stdout_is_one_error_line(command: str, encoding: str) -> None:
    result = shell(f"onnxcam {command} >/dev/full", encoding=encoding)
    assert (result.returncode, result.stderr) == (2, FULL)


@pytest.mark.parametrize("command", [*COMMANDS, "--help"])
def test_broken_pipe_ends_quietly(model: Path, command: str) -> None:
    line = f"onnxcam {command.format(model=model)}"
    result = shell(f"sleep 0 | {{ sleep 0.2; {line}; }} | true; echo ${{PIPESTATUS[1]}}")
    assert (result.stdout, result.stderr) == ("141\n", "")


def test_reader_of_first_line_gets_it(model: Path) -> None:
    result = shell(f"onnxcam layers {model} --json | head -1; exit ${{PIPESTATUS[0]}}")
    assert result.stdout == "[\n"
    assert result.returncode in (0, 141)
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("redirection", "unbuffered"),
    [("2>/dev/full", False), ("2>/dev/full", True), ("2>&-", False), ("2>&- <&-", True)],
)
def test_work_continues_without_stderr(
    model: Path, image: Path, out: Path, redirection: str, unbuffered: bool
) -> None:
    expected = shell(explain(model, image, out), unbuffered=unbuffered)
    assert "1 map written" in expected.stderr
    files = {path.name: path.read_bytes() for path in out.iterdir()}
    result = shell(f"{explain(model, image, out)} {redirection}", unbuffered=unbuffered)
    assert (result.returncode, result.stdout, result.stderr) == (0, expected.stdout, "")
    assert {path.name for path in out.iterdir()} == set(files)
    assert (out / "cat.grad-cam.png").read_bytes() == files["cat.grad-cam.png"]


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
@pytest.mark.parametrize("words", ["layers none.onnx", "layers", "explain none.onnx x -t 1"])
def test_exit_codes_are_independent_of_stderr(words: str, redirection: str) -> None:
    result = shell(f"onnxcam {words} {redirection}")
    assert (result.returncode, result.stdout, result.stderr) == (2, "", "")


@pytest.mark.parametrize("redirection", [">&- 2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_files_are_complete_without_any_stream(
    model: Path, image: Path, out: Path, redirection: str
) -> None:
    """The files that are opened must not get the numbers of the streams that were closed."""
    quiet = shell(f"{explain(model, image, out, '-q')} {redirection}")
    assert quiet.returncode == 0
    written = {path.name: path.read_bytes() for path in out.iterdir()}
    assert {name.rpartition(".")[2] for name in written} == {"json", "npz", "png"}
    assert written["cat.grad-cam.png"].endswith(b"IEND\xaeB`\x82")
    assert shell(f"{explain(model, image, out)} {redirection}").returncode == 2


def test_slow_reader_gets_all_output(model: Path) -> None:
    """A pipe that does not block, as Node.js makes them, takes 64 kB and then refuses."""
    code = "\n".join(
        [
            "import os, sys, onnxcam.cli.output",
            "os.set_blocking(1, False)",
            "import onnxcam.cli.methods",
            "def many(*_): onnxcam.cli.output.say(*('漢' * 100 for _ in range(5000)))",
            "onnxcam.cli.methods.print_json = many",
            "sys.argv = ['onnxcam', 'methods', '--json']",
            "onnxcam.cli.main()",
        ]
    )
    words: Sequence[str] = (shlex.quote(sys.executable), "-c", shlex.quote(code))
    result = shell(f"{' '.join(words)} | {{ sleep 1; wc -c; }}; exit ${{PIPESTATUS[0]}}")
    assert (result.returncode, result.stdout.strip()) == (0, str(5000 * 301)), result.stderr
