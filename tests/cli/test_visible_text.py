"""Names of models and files never act on the terminal: everything goes through one place."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import onnx
import pytest

import onnxcam.cli
from onnxcam.cli.output import print_facts, print_json, print_table, say
from onnxcam.cli.progress import ProgressReporter
from onnxcam.cli.visible_text import visible, width
from tests.cli.conftest import Run
from tests.cli.support.tiny import CLASSES, write_image, write_model
from tests.support.limits import run_limited

ESCAPE = "\x1b]0;owned\x07\x1b[2J"
NAME = f"conv\n{ESCAPE}\r\u202egpj\u200b\x9b31m"
SHOWN = "conv\\n\\x1b]0;owned\\x07\\x1b[2J\\r\\u202egpj\\u200b\\x9b31m"
RAW = set(NAME) - set("conv]0;wed[2Jgpj31m")
COMMANDS = Path(onnxcam.cli.__file__).parent


def harmless(text: str) -> bool:
    return not RAW & set(text.replace("\n", ""))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a layer and operators of hostile names, and labels in its metadata."""
    path = write_model(tmp_path_factory.mktemp("hostile") / f"m{ESCAPE[:4]}.onnx")
    model = onnx.load(path)
    for number, node in enumerate(model.graph.node):
        node.name = f"{number} {NAME}"
        for names in (node.input, node.output):
            names[:] = [NAME if name == "relu1" else name for name in names]
    model.metadata_props.add(key="names", value=json.dumps([f"{i} {NAME}" for i in range(CLASSES)]))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "é à ñ",
        "漢字 かな 한국어",
        "שלום عربي",
        "𝒳 ① ﬁ",
        "🐈 👍🏽 ❤️ 👩‍🚀 👨‍👩‍👧",
        "e\u0301",
        "a\u00a0b",
        "",
    ],
)
def test_ordinary_text_is_unchanged(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (NAME, SHOWN),
        ("\x00\t\x7f\x80\x85", "\\x00\\t\\x7f\\x80\\x85"),
        ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("\u2066\u2069\u061c\ufeff\u00ad", "\\u2066\\u2069\\u061c\\ufeff\\xad"),
        ("a\u200db", "a\\u200db"),
        ("🐈\u200d", "🐈\\u200d"),
        ("\U000e0041\u3164\u034f", "\\U000e0041\\u3164\\u034f"),
        ("caf\udce9", "caf\\udce9"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("abc", 3),
        ("é", 1),
        ("e\u0301", 1),
        ("漢字", 4),
        ("ﾊﾝ", 2),
        ("🐈", 2),
        ("👩‍🚀", 4),
        ("한", 2),
    ],
)
def test_width_counts_terminal_columns(text: str, columns: int) -> None:
    assert width(text) == columns


def test_table_columns_align_by_displayed_width(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "x"), [("漢字", 1), (NAME, 2), ("é\u0301", 3)])
    print_facts([("漢字", "a"), ("abc\x1b", "b")])
    lines = capsys.readouterr().out.splitlines()
    assert {width(line) for line in lines[:4]} == {len(SHOWN) + 3}
    assert lines[4:] == ["漢字     a", "abc\\x1b  b"]


def test_lines_with_newlines_stay_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\nerror: b", "c", err=True)
    say()
    assert capsys.readouterr() == ("\n", "a\\nerror: b\nc\n")


def test_json_is_ascii_and_exact(capsys: pytest.CaptureFixture[str]) -> None:
    value = {NAME: ["\x7f", "漢字", "caf\udce9", "👩‍🚀"]}
    print_json(value)
    text = capsys.readouterr().out
    assert text.replace("\n", "").isprintable()
    assert text.isascii()
    assert json.loads(text) == value


def test_json_lines_are_exact(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressReporter(1, quiet=False, json=True) as reporter:
        reporter.report({"image": NAME + "\x7f"}, "")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isprintable()
    assert json.loads(line) == {"image": NAME + "\x7f"}


@pytest.mark.parametrize("path", sorted(COMMANDS.glob("*.py")), ids=lambda path: path.name)
def test_commands_print_only_through_say(path: Path) -> None:
    allowed = {
        "output.py": {"sys.stdout", "sys.stderr"},
        "streams.py": {"sys.stdout", "sys.stderr"},
    }
    allowed["progress.py"] = {"sys.stderr", "sys.stdout.isatty"}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    streams = {name for name in names if name.startswith(("sys.stdout", "sys.stderr"))}
    if path.name not in allowed:
        assert not streams
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not used & {"print", "echo", "secho"}
    imported = {
        name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "typer"
        for name in node.names
    }
    assert not imported & {"echo", "secho", "style"}


@pytest.mark.parametrize(
    "words",
    [
        ("layers",),
        ("check",),
        ("augment", "-l", NAME, "-o", "out.onnx"),
        ("layers", "--output", NAME),
    ],
)
def test_hostile_model_names_are_escaped(
    run: Run, hostile: Path, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command, *more = words
    result = run(command, hostile, *more)
    assert harmless(result.output)
    assert "\\x1b" in result.output


def test_layers_as_json_are_exact(run: Run, hostile: Path) -> None:
    names = [layer["name"] for layer in json.loads(run("layers", hostile, "--json").stdout)]
    assert NAME in names


def test_hostile_file_names_are_escaped(run: Run, hostile: Path, tmp_path: Path, out: Path) -> None:
    image = write_image(tmp_path / f"cat{ESCAPE}\u202e.png")
    missing = tmp_path / f"gone\n{ESCAPE}.png"
    words = ("explain", hostile, image, missing, "-m", "grad-cam", "-o", out)
    result = run(*words)
    assert result.exit_code == 1, result.stderr
    assert harmless(result.output)
    assert f"/cat{visible(ESCAPE)}\\u202e.png  " in result.stdout
    assert f" {SHOWN}  " in result.stdout
    assert result.stderr.splitlines()[-1].startswith(f"{tmp_path}/gone\\n")
    first = json.loads(run(*words, "--json").stdout.splitlines()[0])
    assert first["image"] == str(image)
    assert first["target"].endswith(NAME)


@pytest.mark.parametrize("words", [("-l", NAME), ("-t", NAME), ("--set", NAME), ("-m", NAME)])
def test_errors_are_one_escaped_line(
    run: Run, model: Path, image: Path, words: tuple[str, str]
) -> None:
    result = run("explain", model, image, *words, "--preprocess", "imagenet")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert harmless(result.stderr)


@pytest.mark.parametrize("words", [(), ("--help",), ("explain", "-h")])
def test_help_has_lines(run: Run, words: tuple[str, ...]) -> None:
    output = run(*words).output
    assert len(output.splitlines()) > 15
    assert "\\n" not in output


@pytest.mark.parametrize(
    "words", [("layers", "a", NAME), (NAME,), (f"--{NAME}",), ("layers", f"--{NAME}")]
)
def test_wrong_arguments_are_escaped(run: Run, words: tuple[str, ...]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert harmless(result.stderr)
    assert sum(line.startswith("Error: ") for line in result.stderr.splitlines()) == 1


def test_progress_bar_escapes_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    with ProgressReporter(2, quiet=False, json=False) as reporter:
        reporter.start_image(ESCAPE, 0)
        reporter.advance(1)
        reporter.report({}, NAME)
        reporter.note(NAME)
    text = capsys.readouterr().err
    assert ESCAPE not in text
    assert not {"\x07", "\x9b", "\u202e", "\u200b"} & set(text)
    assert text.count(SHOWN) == 2


def test_output_of_libraries_is_escaped(tmp_path: Path) -> None:
    """A library's print, a warning, a log record, and the traceback of a bug."""
    code = f"""
import logging, sys, warnings
import onnxcam.cli.output
def stumble(*_):
    print({NAME!r})
    warnings.warn({NAME!r})
    logging.getLogger().warning({NAME!r})
    raise ZeroDivisionError({NAME!r})
import onnxcam.model.load
onnxcam.model.load.load = stumble
sys.argv = ["onnxcam", "layers", "m.onnx"]
onnxcam.cli.main()
"""
    result = run_limited(code)
    assert result.returncode == 1
    assert harmless(result.stdout + result.stderr)
    lines = result.stderr.splitlines()
    assert lines[0] == f"warning: {SHOWN} (UserWarning)"
    assert lines[1].startswith("conv")
    assert "ZeroDivisionError: conv" in result.stderr
    assert result.stderr.count("\\x1b]0;owned\\x07") == 3
