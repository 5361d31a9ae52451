"""Only methods and targets themselves know a method, sampler, target, place or rule table by its name."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from onnxcam.autodiff.tables import RULE_TABLES
from onnxcam.defaults import COMPARED as COMPARED_METHODS
from onnxcam.defaults import DEFAULT_METHOD
from onnxcam.methods import METHODS, QUANTITIES, SAMPLERS
from onnxcam.methods.place import PLACES
from onnxcam.methods.quantities import SOURCES
from onnxcam.targets import TARGETS

PACKAGE = Path(__file__).resolve().parents[2] / "onnxcam"
HOMES = ("methods", "targets", "autodiff/tables")
FILES = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if not path.relative_to(PACKAGE).as_posix().startswith(HOMES)
]
NAMES = {
    *METHODS,
    *SAMPLERS,
    *TARGETS,
    *PLACES,
    *(RULE_TABLES.keys() - {"default"}),  # the rules of the derivative itself
    *(QUANTITIES.keys() - SOURCES.keys()),  # the sources are what the rewriter writes
}
COMPARED = {"reference": "a keyword of rules: what a tensor is on the image that they compare with"}
OUTPUT = {"saliency": "the name of the output with the map"}
REASONS = {
    "ascent/differentiable.py": {"deconvnet": "the gradient that passes rectifiers that are off"},
    "cli/embed.py": OUTPUT,
    "embedding/formats/web.py": OUTPUT,
    "embedding/metadata.py": OUTPUT,
    "autodiff/rule_table.py": COMPARED,
    "specs.py": COMPARED,
    "defaults.py": {
        "smooth-grad-cam++": "the home of the default",
        **dict.fromkeys(set(COMPARED_METHODS) - {DEFAULT_METHOD}, "what `compare` shows"),
    },
    "demo.py": dict.fromkeys(
        ("cam", "grad-cam", "grad-cam++"), "the sheet describes these methods"
    ),
}
"""Names that a file may use, and why. Docstrings and epilogs of commands are documents."""


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The line and the text of every string but docstrings and what is assigned to EPILOG."""
    documents = set()
    for node in ast.walk(tree):
        match node:
            case (
                ast.Module(body=[ast.Expr(value=text), *_])
                | ast.ClassDef(body=[ast.Expr(value=text), *_])
                | ast.FunctionDef(body=[ast.Expr(value=text), *_])
                | ast.Assign(targets=[ast.Name(id="EPILOG")], value=text)
            ):
                documents.add(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documents:
            yield node.lineno, node.value


def uses(text: str, name: str) -> bool:
    """Whether a text is a name or, if the name is no ordinary word, contains it."""
    if not re.search(r"[-+_\d]", name):
        return text == name
    return re.search(rf"(?<![\w+-]){re.escape(name)}(?![\w+-])", text) is not None


def names_in(source: str, allowed: Mapping[str, str]) -> list[str]:
    """The names that a source uses, with their lines."""
    return [
        f"line {line}: {name}"
        for line, text in texts(ast.parse(source))
        for name in sorted(NAMES - allowed.keys())
        if uses(text, name)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_file_names_no_method_sampler_or_target(path: Path) -> None:
    allowed = REASONS.get(path.relative_to(PACKAGE).as_posix(), {})
    assert names_in(path.read_text(encoding="utf-8"), allowed) == [], (
        "ask the method, sampler or target for what you need to know, or let its own file say it"
    )


def test_allowed_names_are_used() -> None:
    for file, allowed in REASONS.items():
        source = (PACKAGE / file).read_text(encoding="utf-8")
        found_names = {
            name for name in allowed for _, text in texts(ast.parse(source)) if uses(text, name)
        }
        assert found_names == allowed.keys(), file


@pytest.mark.parametrize(
    "source",
    [
        "if method == 'cam': pass",
        "METHODS['grad-cam++']",
        "raise ValueError(f'{layer}: use grad-cam, or another layer')",
        "sampler.name == 'gaussian'",
        "'once' in names",
        "kind = 'element'",
        "Output('sample_scores', 0, tensor)",
        "rules='deep-lift'",
    ],
)
def test_name_is_reported(source: str) -> None:
    assert len(names_in(source, {})) == 1


@pytest.mark.parametrize(
    "source",
    [
        '"""Like grad-cam."""',
        "def f():\n    'Like grad-cam.'",
        "EPILOG = 'onnxcam explain -m grad-cam'",
        "say('this runs once')",
        "peer = 'pytorch-grad-cam'",
        "source = 'gradient'",
    ],
)
def test_document_word_or_other_name_passes(source: str) -> None:
    assert names_in(source, {}) == []
