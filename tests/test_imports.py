"""The package's imports only point downward, and each third-party package is imported in one place."""

import ast
import graphlib
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "onnxcam"
FILES = sorted(PACKAGE.rglob("*.py"))

LEVELS = [  # from the top; parts on one line do not import each other
    {"__main__"},
    {"cli"},
    {"demo", "diagnostics", "inspection", "installation"},
    {"__init__"},
    {"ascent", "concept_maps", "embedding", "portability", "scanning"},
    {"explain"},
    {"rewrite"},
    {"autodiff"},
    {"heads"},
    {"spatial"},
    {"model"},
    {"passes"},
    {"graph", "methods", "targets", "image"},
    {"runtime"},  # below the graph, whose constants it computes
    {"specs"},
    {"bound_input", "dense"},
    {"registry", "atomic_write", "bundled"},
    {"regular_files", "unique_names"},
    {"errors", "arrays", "digests", "defaults", "_version"},
]
LEVEL = {part: i for i, parts in enumerate(LEVELS) for part in parts}
IMAGES = {
    "image",
    "explain",
    "demo",
    "ascent",
    "concept_maps",
    "scanning",
}  # all but the first only pass on Pillow's images
GRAPHS = {
    *("graph", "passes", "model", "spatial", "heads", "autodiff", "rewrite", "embedding"),
    "portability",  # the evaluator of ONNX
}
HOMES = {
    "typer": {"cli"},
    "rich": {"cli"},
    "onnxruntime": {"runtime"},
    "PIL": IMAGES,
    "pillow_heif": {"image"},
    "onnx": GRAPHS,
    "onnx_graphsurgeon": GRAPHS,
    "google": {"model"},  # DecodeError of protobuf, which onnx raises for other files
    "skimage": {"methods"},  # superpixels
    "interpret": {"concept_maps"},  # additive models
    "openvino": {"portability"},
    "cv2": {"portability"},
    "tract": {"portability"},
    "numpy": LEVEL.keys(),
}


def imported_modules(source: str) -> Iterator[str]:
    """The modules that a file imports; `onnxcam.part` for parts of the package."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            for alias in node.names:
                is_part = node.module == "onnxcam"
                yield f"onnxcam.{alias.name}" if is_part else str(node.module)


def violations(part: str, source: str) -> Iterator[str]:
    for module in imported_modules(source):
        top, *rest = module.split(".")
        if top == "onnxcam":
            target = rest[0] if rest and rest[0] in LEVEL else "__init__"
            if target != part and LEVEL[target] <= LEVEL[part]:
                yield f"{part} imports {target}, which is not below it"
        elif top not in sys.stdlib_module_names and part not in HOMES.get(top, ()):
            yield f"{top} belongs in {', '.join(sorted(HOMES.get(top, ['no part of onnxcam'])))}, not in {part}"


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    assert list(violations(part_of(path), path.read_text(encoding="utf-8"))) == []


def test_every_part_has_a_level() -> None:
    assert {part_of(path) for path in FILES} == LEVEL.keys()


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
    ("part", "source", "message"),
    [
        ("methods", "import onnx", "onnx belongs in autodiff, embedding, graph, heads"),
        ("runtime", "from onnxcam.model.load import load", "runtime imports model"),
        ("errors", "from onnxcam.registry import Registry", "errors imports registry"),
        ("runtime", "def f():\n    from onnxcam import explain", "runtime imports explain"),
        ("explain", "from onnxcam import load", "explain imports __init__"),
        ("cli", "import torch", "torch belongs in no part of onnxcam"),
    ],
)
def test_wrong_import_is_reported(part: str, source: str, message: str) -> None:
    (violation,) = violations(part, source)
    assert violation.startswith(message)
