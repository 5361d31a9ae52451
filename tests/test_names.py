"""Names say what they hold: empty words, and test names without subject, condition and outcome, are refused."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = [ROOT / name for name in ("onnxcam", "scripts", "tests")]
FILES = sorted(
    path
    for folder in FOLDERS
    for path in folder.rglob("*")
    if path.suffix == ".py" or (path.parent == ROOT / "scripts" and path.is_file())
)
PYTHON = [
    path
    for path in FILES
    if path.suffix == ".py" or path.read_text().startswith("#!/usr/bin/env p")
]
EMPTY_WORDS = {"each", "found", "told", "given", "whole", "item", "elem", "entry", "thing", "val"}
EMPTY_MODULES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
ARTICLES = ("what", "that", "a", "an", "the", "who", "where")


def defined_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The line and the name of everything that a file defines, assigns or takes; imports do not count."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr
            case ast.arg():
                yield node.lineno, node.arg
            case ast.ExceptHandler(name=str(name)):
                yield node.lineno, name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield node.lineno, name
            case ast.alias(asname=str(name)):
                yield node.lineno, name


def parse(source: str | Path) -> ast.Module:
    """The syntax tree of a file or a text."""
    return ast.parse(source.read_text() if isinstance(source, Path) else source)


def empty_names(source: str | Path) -> list[str]:
    """The names in a source that say nothing, with their lines."""
    return [
        f"line {line}: {name}"
        for line, name in defined_names(parse(source))
        if name.strip("_").lower() in EMPTY_WORDS
    ]


def sentences(source: str | Path) -> list[str]:
    """The names of tests in a source that begin like a sentence, with their lines."""
    beginnings = tuple(f"test_{word}_" for word in ARTICLES)
    return [
        f"line {line}: {name}"
        for line, name in defined_names(parse(source))
        if name.startswith(beginnings)
    ]


def test_names_say_what_they_hold() -> None:
    names = [f"{path.relative_to(ROOT)}, {name}" for path in PYTHON for name in empty_names(path)]
    assert not names, (
        "these names say nothing; name the value for what it is (node, layer, path, error, result)"
    )


def test_names_of_tests_follow_the_form() -> None:
    names = [f"{path.relative_to(ROOT)}, {name}" for path in PYTHON for name in sentences(path)]
    assert not names, (
        "name a test test_subject_condition_outcome: test_cache_key_ignores_sampling_settings"
    )


def test_modules_are_named_for_their_content() -> None:
    modules = [path.relative_to(ROOT) for path in FILES if path.stem in EMPTY_MODULES]
    folders = [path.parent.relative_to(ROOT) for path in FILES if path.parent.name in EMPTY_MODULES]
    assert not modules + folders, (
        "such a module collects anything; name it for what its functions do, or move them to their users"
    )


@pytest.mark.parametrize(
    "source",
    [
        "found = 1",
        "def each(): pass",
        "def find(*, given): pass",
        "for item in (): pass",
        "[_ for entry in ()]",
        "with open(file) as val: pass",
        "import path as thing",
        "try: pass\nexcept ValueError as told: pass",
        "class Whole: pass",
        "self.found = 1",
        "match x:\n    case [elem]: pass",
        "(whole := 1)",
    ],
)
def test_empty_word_is_reported(source: str) -> None:
    assert len(empty_names(source)) == 1


def test_imported_and_longer_names_pass() -> None:
    assert not empty_names("from hypothesis import given\nfound_nodes = read(entry=1)")


@pytest.mark.parametrize("word", ARTICLES)
def test_test_name_that_begins_like_a_sentence_is_reported(word: str) -> None:
    assert sentences(f"def test_{word}_thing_has(): pass")


def test_test_name_with_subject_first_passes() -> None:
    assert not sentences("def test_answer_is_cached(): pass")
