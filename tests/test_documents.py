"""The documents: links resolve, options exist, and the front page stays short."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from onnxcam.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("models", "onnxcam", "scripts", "tests")
DOCUMENTS = sorted([ROOT / "README.md", *(p for f in FOLDERS for p in (ROOT / f).rglob("*.md"))])
FRONT_PAGE = 6500  # bytes
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
OTHERS = {"--oracle", "--all"}  # options of our scripts, which documents for users name, too


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(document: Path) -> Iterator[str]:
    for link in LINK.findall(document.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def command_line_options() -> set[str]:
    group = typer.main.get_command(app)
    commands = [group, *getattr(group, "commands", {}).values()]
    return {
        option
        for command in commands
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve(document: Path) -> None:
    assert list(broken_links(document)) == []


def test_broken_links_are_detected(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One Title\n[a](#one-title) [b](#other) [c](gone.md) [d](page.md#one-title)")
    assert list(broken_links(page)) == ["#other", "gone.md"]


@pytest.mark.parametrize(
    "name", ["README.md", "onnxcam/cli/README.md", "onnxcam/methods/README.md"]
)
def test_options_exist(name: str) -> None:
    options = set(OPTION.findall((ROOT / name).read_text(encoding="utf-8")))
    assert options - OTHERS <= command_line_options() | {"--help"}


def test_front_page_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= FRONT_PAGE
