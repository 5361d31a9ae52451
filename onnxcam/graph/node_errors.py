"""The boundary around every node: a failure at a node becomes an error that names the node.

Functions that read, rewrite, or differentiate a model are decorated with `reports_node`. They all loop over
nodes with a variable `node`, so the traceback of an exception shows which node failed. Errors of onnxcam are
not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, TypeVar

import onnx_graphsurgeon as gs

from onnxcam.errors import ModelError, NodeError, OnnxcamError, UnforeseenError, first_line
from onnxcam.graph.node_flaws import describe_flaw
from onnxcam.graph.tracing import PREFIX

TOO_LARGE = ("array is too big", "Maximum allowed", "larger than the maximum possible")  # NumPy
PACKAGE = Path(__file__).resolve().parents[1]
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def reports_node(function: Callable[P, R]) -> Callable[P, R]:
    """Turn foreign exceptions of a function into a NodeError if the model is known to be at fault, otherwise
    into an UnforeseenError.
    """

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except OnnxcamError:
            raise
        except Exception as error:
            raise explain_failure(error) from error

    return guarded


def explain_failure(error: Exception) -> OnnxcamError:
    """The error of onnxcam to raise in place of an exception."""
    node = next(_local_variables(error.__traceback__, "node", gs.Node), None)
    graph = next(_graphs_in_frames(error.__traceback__), None)
    name = "" if node is None else name_of(node)
    operator = "" if node is None else operator_of(node)
    prefix = f"{operator} ({name}): " if node is not None else ""
    if isinstance(error, MemoryError) or any(words in str(error) for words in TOO_LARGE):
        return ModelError(f"{prefix}needs more memory than is available; export a smaller model")
    if isinstance(error, RecursionError):
        return ModelError(f"{prefix}graphs or functions are nested too deeply; export a flat model")
    if node is not None and (flaw := describe_flaw(node, graph)):
        return NodeError(f"{prefix}{flaw}; correct the model and export it again", operator, name)
    cause = type(error).__name__
    return UnforeseenError(
        f"{prefix}onnxcam failed ({cause} at {_last_line(error.__traceback__)}: {first_line(error)}); "
        "please report this with the model",
        cause,
        operator,
        name,
    )


def name_of(node: gs.Node) -> str:
    """The name of a node or, if it has none, of its first named output."""
    outputs = (tensor.name for tensor in node.outputs if tensor.name)
    return str(node.name or next(outputs, ""))


def operator_of(node: gs.Node) -> str:
    """The operator of a node, with its domain if that is not the default one."""
    domain = node.domain or ""
    return str(node.op if domain in ("", "ai.onnx") else f"{domain}::{node.op}")


def _local_variables(traceback: TracebackType | None, name: str, kind: type[T]) -> Iterator[T]:
    """The variables `name` in the frames of a traceback, innermost first, without nodes that onnxcam wrote."""
    if traceback is None:
        return
    yield from _local_variables(traceback.tb_next, name, kind)
    value = traceback.tb_frame.f_locals.get(name)
    if isinstance(value, kind) and not str(getattr(value, "name", "")).startswith(f"{PREFIX}/"):
        yield value


def _graphs_in_frames(traceback: TracebackType | None) -> Iterator[gs.Graph]:
    """The graphs in the frames of a traceback, those of builders and models, too; the innermost first."""
    if traceback is None:
        return
    yield from _graphs_in_frames(traceback.tb_next)
    for name in ("graph", "build", "model"):
        value = traceback.tb_frame.f_locals.get(name)
        # a gs.Graph that is asked for an attribute it lacks prints an error
        graph = value if isinstance(value, gs.Graph) else getattr(value, "graph", None)
        if isinstance(graph, gs.Graph):
            yield graph


def _last_line(traceback: TracebackType | None) -> str:
    """The last line of onnxcam in a traceback."""
    line = "an unknown line"
    while traceback is not None:
        path = Path(traceback.tb_frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            line = f"{path.relative_to(PACKAGE).as_posix()}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return line
