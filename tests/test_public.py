"""The public face: complete, sorted, documented, and of the version that pyproject.toml says."""

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


def imported() -> dict[str, str]:
    """The names that the package takes from its own files, for a type checker too, and where from."""
    tree = ast.parse((ROOT / "onnxcam" / "__init__.py").read_text(encoding="utf-8"))
    return {
        each.name: str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("onnxcam")
        for each in node.names
        if not each.name.startswith("_")
    }


def test_all_is_complete_and_sorted() -> None:
    assert set(onnxcam.__all__) == imported().keys()
    kinds = ("constants", "classes", "functions")
    order = [(kinds.index(kind_of(name)), name) for name in onnxcam.__all__]
    assert order == sorted(order)


@pytest.mark.parametrize(("name", "home"), imported().items())
def test_every_name_is_what_its_home_has(name: str, home: str) -> None:
    """What is loaded late is what the type checker was told."""
    assert getattr(onnxcam, name) is getattr(importlib.import_module(home), name)
    assert name in dir(onnxcam)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="'onnxcam' has no attribute 'explane'"):
        _ = onnxcam.explane


def test_what_is_heavy_is_loaded_late() -> None:
    script = "import sys, onnxcam; print({'onnx', 'onnxruntime', 'PIL', 'numpy'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "set()"


def kind_of(name: str) -> str:
    """As ruff sorts them."""
    return "constants" if name.isupper() else "classes" if name[0].isupper() else "functions"


def test_every_error_is_public() -> None:
    ours = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.OnnxcamError)
    }
    assert ours <= set(onnxcam.__all__)
    drawn = errors.__doc__ or ""
    assert all(name in drawn for name in ours), "the tree at the top of errors.py is complete"


@pytest.mark.parametrize("name", onnxcam.__all__)
def test_every_name_says_what_it_is(name: str) -> None:
    value = getattr(onnxcam, name)
    assert (inspect.getdoc(value) or "").strip()


@pytest.mark.parametrize(
    "name", [each for each in onnxcam.__all__ if inspect.isclass(getattr(onnxcam, each))]
)
def test_every_method_of_a_public_class_says_what_it_does(name: str) -> None:
    for attribute, value in vars(getattr(onnxcam, name)).items():
        if not attribute.startswith("_") and (
            inspect.isroutine(value) or isinstance(value, property)
        ):
            assert inspect.getdoc(value), f"{name}.{attribute}"


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert onnxcam.__version__ == project["version"]


def test_it_says_that_it_is_typed() -> None:
    """Without the marker no type checker of a user reads the annotations."""
    assert (ROOT / "onnxcam" / "py.typed").exists()
