"""Decompositions of ONNX Runtime's own operators: the decorator that adds them to `passes.decomposition`."""

from __future__ import annotations

from collections.abc import Callable

import onnx_graphsurgeon as gs

from onnxcam.errors import ModelError
from onnxcam.graph.operators import CONTRIB
from onnxcam.passes import decomposition
from onnxcam.passes.decomposition import Formula, Stage

NCHWC = "com.microsoft.nchwc"  # operators on blocks of channels (see `nchwc_ops`)


def decomposes(*operators: str, domain: str = CONTRIB) -> Callable[[Formula], Formula]:
    """Add a row for operators of ONNX Runtime, which are replaced when the model is loaded."""
    return decomposition.decomposes(*operators, stage=Stage.LOADING, domain=domain)


def refuse_nchwc(node: gs.Node) -> None:
    """ModelError for an operator on blocks of channels: without a row, nothing about it can be read."""
    if node.domain == NCHWC:
        raise ModelError(
            f"{NCHWC}::{node.op} ({node.name or node.outputs[0].name}): this operator, written for one kind of "
            "processor, is not supported; save the optimized model at the level ORT_ENABLE_EXTENDED, or use "
            "the original"
        )
