"""Imports of the package point down only, and every other package has one home."""

import ast
import graphlib
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "onnxcam"
FILES = sorted(PACKAGE.rglob("*.py"))

LEVELS = [  # from the top; what stands on one line never imports its neighbors
    {"__main__"},
    {"cli"},
    {"demo", "diagnostics"},
    {"__init__"},
    {"explain"},
    {"rewrite"},
    {"autodiff"},
    {"heads"},
    {"spatial"},
    {"model"},
    {"passes"},
    {"graph", "methods", "targets", "image"},
    {"runtime"},  # below the graph: what is constant there is computed by the runtime
    {"specs"},
    {"registry", "atomic_write", "bundled"},
    {"regular_files", "unique_names"},
    {"errors", "arrays", "_version"},
]
LEVEL = {part: i for i, parts in enumerate(LEVELS) for part in parts}
IMAGES = {"image", "explain", "demo"}  # the last two only pass Pillow's images on
GRAPHS = {"graph", "passes", "model", "spatial", "heads", "autodiff", "rewrite"}
HOMES = {
    "typer": {"cli"},
    "rich": {"cli"},
    "onnxruntime": {"runtime"},
    "PIL": IMAGES,
    "pillow_heif": {"image"},
    "onnx": GRAPHS,
    "onnx_graphsurgeon": GRAPHS,
    "google": {"model"},  # protobuf's DecodeError is what onnx raises for a file that is none
    "numpy": LEVEL.keys(),
}


def imported(source: str) -> Iterator[str]:
    """The modules that a file imports, `onnxcam.part` for parts of the package."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            for each in node.names:
                whole = f"{node.module}.{each.name}"
                yield whole if node.module == "onnxcam" else str(node.module)


def faults(part: str, source: str) -> Iterator[str]:
    for module in imported(source):
        top, *rest = module.split(".")
        if top == "onnxcam":
            other = rest[0] if rest and rest[0] in LEVEL else "__init__"
            if other != part and LEVEL[other] <= LEVEL[part]:
                yield f"{part} imports {other}, which is not below it"
        elif top not in sys.stdlib_module_names and part not in HOMES.get(top, ()):
            yield f"{top} belongs in {', '.join(sorted(HOMES.get(top, ['no part of onnxcam'])))}, not in {part}"


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    assert list(faults(part_of(path), path.read_text(encoding="utf-8"))) == []


def test_the_drawing_is_complete() -> None:
    assert {part_of(each) for each in FILES} == LEVEL.keys()


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def dependencies(source: str, modules: Collection[str]) -> set[str]:
    """The modules of the package that a file imports, also those for a type checker only."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= submodules & set(modules) or {str(node.module)}
    return names & set(modules)


def check_no_circle(sources: dict[str, str]) -> None:
    """CycleError with the modules of a circle."""
    imports = {name: dependencies(source, sources) - {name} for name, source in sources.items()}
    graphlib.TopologicalSorter(imports).prepare()


def test_no_files_import_each_other_in_a_circle() -> None:
    check_no_circle({module_name(path): path.read_text(encoding="utf-8") for path in FILES})


@pytest.mark.parametrize(
    "source",
    [
        "from onnxcam.graph.value import Value",
        "from onnxcam.graph import value",
        "import onnxcam.graph.value",
        "if TYPE_CHECKING:\n    from onnxcam.graph.value import Value",
        "def f():\n    from onnxcam.graph.value import Value",
    ],
)
def test_circle_of_files_is_reported(source: str) -> None:
    value = "from onnxcam.graph.builder import Builder"
    with pytest.raises(graphlib.CycleError):
        check_no_circle({"onnxcam.graph.builder": source, "onnxcam.graph.value": value})


@pytest.mark.parametrize(
    ("part", "source", "said"),
    [
        ("methods", "import onnx", "onnx belongs in autodiff, graph, heads"),
        ("runtime", "from onnxcam.model.model import load", "runtime imports model"),
        ("errors", "from onnxcam.registry import Table", "errors imports registry"),
        ("runtime", "def f():\n    from onnxcam import explain", "runtime imports explain"),
        ("explain", "from onnxcam import load", "explain imports __init__"),
        ("cli", "import torch", "torch belongs in no part of onnxcam"),
    ],
)
def test_what_points_elsewhere_is_found(part: str, source: str, said: str) -> None:
    (fault,) = faults(part, source)
    assert fault.startswith(said)
