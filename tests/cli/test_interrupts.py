"""Ctrl-C, SIGTERM and SIGHUP at every moment: one sentence and 130 (143, 129), never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.limits import ROOT, run_limited

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
SENTENCE = "interrupted; all files written so far are complete\n"
CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
BEGIN = """
import os, signal, sys
from onnxcam.cli import main
def interrupt(*_, **__):
    signal.raise_signal(signal.{signal})
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            {when}
sys.meta_path.insert(0, Finder())
{setup}
sys.argv = ["onnxcam", *{words!r}]
main()
"""


def run(
    words: list[str],
    *,
    module: str = "",
    when: str = "interrupt()",
    setup: str = "",
    name: str = "SIGINT",
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own that gets the signal when it imports `module`, or as `setup` says."""
    code = BEGIN.format(words=words, module=module, when=when, setup=setup, signal=name)
    return run_limited(code, seconds=60)


@pytest.fixture
def words(model: Path, image: Path, out: Path) -> list[str]:
    options = ["--preprocess", "imagenet"]  # else a notice comes first
    return ["explain", str(model), str(image), "-l", "relu1", "-n", "9", "-o", str(out), *options]


@pytest.mark.parametrize(
    "module",
    [
        *("typer", "onnxcam.cli.app", "onnxcam.cli.options", "onnxcam.explain.explainer"),
        *("numpy", "numpy._core.multiarray", "numpy.random", "numpy.linalg", "PIL.Image"),
        *("onnxruntime", "onnxruntime.capi._pybind_state", "onnx", "onnx.checker"),
        *(
            "onnx_graphsurgeon",
            "onnxcam.model.model",
            "onnxcam.cli.batch_job",
            "PIL.PngImagePlugin",
        ),
        *("onnxcam.autodiff.rules.conv", "onnxcam.cli.progress"),
    ],
)
def test_interrupt_while_importing(words: list[str], module: str) -> None:
    result = run(words, module=module)
    assert (result.returncode, result.stderr) == (130, SENTENCE)


FRAGILE = """
class Fragile:
    abort = staticmethod(os.abort)
    def __del__(self):
        self.abort()
fragile = Fragile()
"""


def test_interrupted_process_ends_before_libraries_are_unloaded(words: list[str]) -> None:
    result = run(words, module="PIL.Image", setup=FRAGILE)
    assert (result.returncode, result.stderr) == (130, SENTENCE)


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("command", [["layers"], ["check"], ["augment", "-o", "{out}/x.onnx"]])
def test_interrupt_of_each_command_by_each_signal(
    model: Path, out: Path, command: list[str], name: str
) -> None:
    first, *more = (word.format(out=out) for word in command)
    result = run([first, str(model), *more], module="onnx", name=name)
    assert (result.returncode, result.stdout, result.stderr) == (CODES[name], "", SENTENCE)
    assert not out.exists() or not any(out.iterdir())


@pytest.mark.parametrize(
    "command", [["--help"], ["methods"], ["doctor"], ["demo"], ["explain", "--help"], []]
)
def test_interrupt_of_commands_without_model(command: list[str]) -> None:
    result = run(command, module="onnxcam.cli.app")
    assert (result.returncode, result.stdout, result.stderr) == (130, "", SENTENCE)


MOMENTS = {
    "a session is created": "import onnxruntime as o; o.InferenceSession = interrupt",
    "the model runs": "import onnxcam.runtime.session as s; s.Session.run = interrupt",
    "gradients are planned": "import onnxcam.rewrite.planner as p; p.plan = interrupt",
    "the noise is drawn": "import onnxcam.methods.samplers.gaussian as s; "
    "s.GaussianNoise.__getitem__ = interrupt",
    "the map is drawn": "import onnxcam.image.overlay as o; o.overlay = interrupt",
    "a file is renamed": "import pathlib; pathlib.Path.replace = os.replace = interrupt",
    "a line is said": "import onnxcam.cli.progress as w; w.say = interrupt",
    "a library makes another error of it": """
import onnxcam.model.load
def load(*_):
    try: interrupt()
    except KeyboardInterrupt: raise ImportError("import numpy failed")
onnxcam.model.load.load = load
""",
    "our own error comes of it": """
import onnxcam.model.load, onnxcam.errors
def load(*_):
    try: interrupt()
    except KeyboardInterrupt: raise onnxcam.errors.ModelError("damaged")
onnxcam.model.load.load = load
""",
    "C code prints it": """
import onnxcam.model.load
def load(*_):
    try: interrupt()
    except KeyboardInterrupt: sys.excepthook(*sys.exc_info())
    raise SystemError("returned a result with an exception set")
onnxcam.model.load.load = load
""",
    "it is lost in a destructor": """
import onnxcam.model.load, time
class Lost:
    def __del__(self): interrupt()
def load(*_):
    Lost()
    time.sleep(30)
onnxcam.model.load.load = load
""",
}


@pytest.mark.parametrize("setup", MOMENTS.values(), ids=MOMENTS)
def test_interrupt_at_any_moment(words: list[str], out: Path, setup: str) -> None:
    result = run(words, setup=setup)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", SENTENCE)
    assert not out.exists() or not [path for path in out.iterdir() if path.name.startswith(".")]


def test_repeated_interrupt_counts_once(words: list[str]) -> None:
    """A wrapper hands on the Ctrl-C that the terminal sent already."""
    setup = """
import onnxcam.model.load
def load(*_):
    try: interrupt()
    finally: interrupt(); interrupt()
onnxcam.model.load.load = load
"""
    result = run(words, setup=setup)
    assert (result.returncode, result.stderr) == (130, SENTENCE)


def test_second_interrupt_ends_hanging_process(words: list[str]) -> None:
    setup = """
import onnxcam.model.load, time, onnxcam.cli.interrupts
onnxcam.cli.interrupts.GRACE = 0.1
def load(*_):
    try: interrupt()
    finally: time.sleep(0.2); interrupt(); time.sleep(30)
onnxcam.model.load.load = load
"""
    result = run(words, setup=setup)
    assert (result.returncode, result.stderr) == (130, "")


@pytest.mark.parametrize(
    "setup",
    [
        "import atexit; atexit.register(interrupt)",
        "import threading; threading._register_atexit(interrupt)",
        (
            "import onnxcam.cli.interrupts as i; exit_on_signal = i.exit_on_signal; "
            "i.exit_on_signal = lambda: (exit_on_signal(), interrupt())"
        ),
        "import onnxcam.cli.interrupts as i; i.exit_on_signal = interrupt",
    ],
)
def test_interrupt_after_the_work_is_done(setup: str) -> None:
    result = run(["methods"], setup=setup)
    assert (result.returncode, result.stderr) == (130, "")
    assert "\ngrad-cam  " in result.stdout


@pytest.mark.parametrize("name", CODES)
def test_ignored_signals_stay_ignored(model: Path, name: str) -> None:
    """nohup, and jobs in the background of a script."""
    code = BEGIN.format(
        words=["layers", str(model)], module="onnx", when="interrupt()", setup="", signal=name
    )
    ignored = f"import signal; signal.signal(signal.{name}, signal.SIG_IGN)\n"
    result = run_limited(ignored + code, seconds=60)
    assert (result.returncode, result.stderr) == (0, "")
    assert "relu2" in result.stdout


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.1, 0.2, 0.4, 0.7])
def test_signal_from_another_process(words: list[str], out: Path, delay: float) -> None:
    """Whenever it comes, the process ends with 130 or has done its work."""
    code = "import sys; from onnxcam.cli import main; print('up', flush=True)\n"
    code += f"sys.argv = ['onnxcam', *{[*words, '-q']!r}]\nmain()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.01 + delay)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    # While Python shuts down, its own handler is back: ended by SIGINT, which is 130 in a shell, too
    assert process.returncode in (0, 130, -signal.SIGINT)
    assert errors in ("", SENTENCE)
    if process.returncode != 130:  # the work was done before
        assert len(list(out.iterdir())) == 3
