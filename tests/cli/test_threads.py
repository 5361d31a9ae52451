"""A system that starts no more threads (`ulimit -u`, limits of containers): slower, not broken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Run
from tests.support.limits import run_limited

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's RLIMIT_NPROC")
NOTICE = "note: runs on one thread"
# The superuser is exempt from the limit: another user without the right to pass it, but still to read files
STARVED = """
import ctypes, os, resource, sys
if os.getuid() == 0:
    libc = ctypes.CDLL(None)
    KEEP_CAPABILITIES, VERSION, MAY_READ = 8, 0x20080522, 0b111
    assert libc.prctl(KEEP_CAPABILITIES, 1, 0, 0, 0) == 0
    os.setresuid(65534, 65534, 65534)
    header = (ctypes.c_uint32 * 2)(VERSION, 0)
    assert libc.capset(header, (ctypes.c_uint32 * 6)(MAY_READ, MAY_READ, 0, 0, 0, 0)) == 0
    os.access = lambda *_, **__: True  # asks about the user only
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
import _thread
try:
    _thread.start_new_thread(print, ())
    sys.exit("threads start nevertheless")
except RuntimeError:
    pass
"""


@pytest.mark.parametrize("method", ["grad-cam", "smooth-grad-cam++"])
def test_explain_runs_without_threads(
    run: Run, model: Path, image: Path, out: Path, method: str
) -> None:
    many = [] if method == "grad-cam" else ["-n", "40"]
    words = ["explain", str(model), str(image), "-m", method, "-l", "relu1", *many]
    words += ["--device", "cpu"]
    result = run_starved([*words, "-o", str(out)])
    assert result.returncode == 0, result.stderr
    assert NOTICE in result.stderr
    assert "Traceback" not in result.stderr
    assert "OpenBLAS" not in result.stderr
    expected = out.with_name("expected")
    assert run(*words, "-o", expected).exit_code == 0
    maps = [np.load(folder / f"cat.{method}.npz")["map"] for folder in (out, expected)]
    np.testing.assert_allclose(maps[0], maps[1], rtol=1e-3, atol=1e-5 * maps[1].max())


@pytest.mark.parametrize("command", ["layers", "check", "doctor"])
def test_other_commands_run_without_threads(model: Path, command: str) -> None:
    words = [command, "--json"] if command == "doctor" else [command, str(model), "--json"]
    result = run_starved(words)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    assert json.loads(result.stdout)


def test_progress_bar_runs_without_threads(model: Path, image: Path, out: Path) -> None:
    setup = "sys.stderr.isatty = lambda: True; os.environ['TERM'] = 'xterm'"
    words = ["explain", str(model), str(image), "-n", "9", "-l", "relu1", "-o", str(out)]
    result = run_starved(words, setup)
    assert result.returncode == 0, result.stderr
    assert "cat.png" in result.stderr


def run_starved(words: list[str], setup: str = "") -> subprocess.CompletedProcess[str]:
    code = f"""{STARVED}
from onnxcam.cli import main, process
prepare = process._prepare
def prepared():
    prepare()
    {setup or "pass"}
process._prepare = prepared
sys.argv = ["onnxcam", *{words!r}]
main()
"""
    return run_limited(code, seconds=60)
