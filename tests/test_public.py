"""The public names: complete, sorted, documented, and with the version of pyproject.toml."""

import ast
import importlib
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import onnxcam
from onnxcam import errors

ROOT = Path(__file__).resolve().parents[1]


def imported_names() -> dict[str, str]:
    """The names that the package imports from its own modules, also for type checkers only, and from where."""
    tree = ast.parse((ROOT / "onnxcam" / "__init__.py").read_text(encoding="utf-8"))
    return {
        alias.name: str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("onnxcam")
        for alias in node.names
        if not alias.name.startswith("_")
    }


def test_dunder_all_is_complete_and_sorted() -> None:
    assert set(onnxcam.__all__) == imported_names().keys()
    groups = ("constants", "classes", "functions")
    order = [(groups.index(sort_group(name)), name) for name in onnxcam.__all__]
    assert order == sorted(order)


@pytest.mark.parametrize(("name", "home"), imported_names().items())
def test_public_name_is_the_object_of_its_module(name: str, home: str) -> None:
    """What is imported at first use is what a type checker sees."""
    assert getattr(onnxcam, name) is getattr(importlib.import_module(home), name)
    assert name in dir(onnxcam)


def test_unknown_attribute_is_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'onnxcam' has no attribute 'explane'"):
        _ = onnxcam.explane


def test_import_does_not_import_heavy_packages() -> None:
    script = "import sys, onnxcam; print({'onnx', 'onnxruntime', 'PIL', 'numpy'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "set()"


def sort_group(name: str) -> str:
    """The group of a name in ruff's order."""
    return "constants" if name.isupper() else "classes" if name[0].isupper() else "functions"


def test_errors_are_public_and_in_the_tree() -> None:
    ours = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.OnnxcamError)
    }
    assert ours <= set(onnxcam.__all__)
    tree = errors.__doc__ or ""
    assert all(name in tree for name in ours)


@pytest.mark.parametrize("name", onnxcam.__all__)
def test_public_name_has_docstring(name: str) -> None:
    value = getattr(onnxcam, name)
    assert (inspect.getdoc(value) or "").strip()


@pytest.mark.parametrize(
    "name", [name for name in onnxcam.__all__ if inspect.isclass(getattr(onnxcam, name))]
)
def test_methods_of_public_class_have_docstrings(name: str) -> None:
    for attribute, value in vars(getattr(onnxcam, name)).items():
        if not attribute.startswith("_") and (
            inspect.isroutine(value) or isinstance(value, property)
        ):
            assert inspect.getdoc(value), f"{name}.{attribute}"


def test_version_equals_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert onnxcam.__version__ == project["version"]


def test_package_has_marker_for_type_checkers() -> None:
    """Type checkers of users read the annotations only with the marker."""
    assert (ROOT / "onnxcam" / "py.typed").exists()
