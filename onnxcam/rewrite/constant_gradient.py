"""Gradients that do not depend on the picture, as a model of their own: no forward pass is needed for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.model.model import Model
from onnxcam.specs import SEED

MOST = 1 << 30  # bytes of weights


def split_constant_gradient(model: Model, gradients: Sequence[str]) -> Model | None:
    """Take the gradients out of a model and give them one that is fed SEED only. None, and no change, where
    they take the sizes of the picture as well, or several pictures at a time, or weights that no one file has
    room for.
    """
    alone = replace(model, graph=model.graph.copy())
    prune_outputs(alone, gradients)
    alone.graph.cleanup(remove_unused_graph_inputs=True)
    fed = {each.name: each.shape[0] for each in alone.graph.inputs}
    if [*fed] != [SEED] or (isinstance(fed[SEED], int) and fed[SEED] > 1):
        return None
    constants = [each for each in alone.graph.tensors().values() if isinstance(each, gs.Constant)]
    if sum(math.prod(each.shape) * np.dtype(each.dtype).itemsize for each in constants) > MOST:
        return None
    model.graph.inputs = [each for each in model.graph.inputs if each.name != SEED]
    prune_outputs(model, [each.name for each in model.graph.outputs if each.name not in gradients])
    return alone


def prune_outputs(model: Model, outputs: Sequence[str]) -> None:
    """Let a model return those of its outputs only, and compute nothing else."""
    kept = {each.name: each for each in model.graph.outputs}
    model.graph.outputs = [kept[name] for name in dict.fromkeys(outputs)]
    model.graph.cleanup(remove_unused_graph_inputs=False)
