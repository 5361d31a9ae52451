"""Numbers of the complete image: an embedding, or values of a regression."""

from __future__ import annotations

import re

import onnx_graphsurgeon as gs

from onnxcam.graph.reachability import producer
from onnxcam.heads.head import Head
from onnxcam.heads.monotone import MAX_DEPTH, before_reshapes
from onnxcam.heads.tasks.task import EMBEDDING, REGRESSION, Task
from onnxcam.heads.unit_length import before_normalization

EMBEDDING_NAMES = re.compile(
    r"embed|feat|descriptor|pooler_output|hidden_state|latent", re.IGNORECASE
)
REGRESSION_NAMES = re.compile(
    r"landm|kps|key_?point|coord|regress|angle|(^|[^a-z])age([^a-z]|$)|yaw|pitch|(^|[^a-z])roll"
    r"|steer|distance|box|depth",
    re.IGNORECASE,
)
EXPECTATIONS = {"ReduceSum", "MatMul", "Gemm"}  # sum products with the values of the classes
STEPS = {*EXPECTATIONS, "Mul", "Add", "Sub", "Div"}


def vector_task(head: Head) -> Task | None:
    """An embedding or a regression, for a head with numbers of the image; None for scores."""
    name = head.output.name
    if head.other_axes or head.output_activation:
        return None
    if head.class_count == 1 and is_expectation(head.logits):
        return Task(REGRESSION, f"{name} is the mean of values weighted by a Softmax")
    if head.inner_logits:
        return None
    if before_normalization(head.logits) is not None:
        return Task(EMBEDDING, f"{name} is divided by its norm")
    if EMBEDDING_NAMES.search(name):
        return Task(EMBEDDING, f"the name of {name} says so", is_assumed=True)
    if REGRESSION_NAMES.search(name):
        return Task(REGRESSION, f"the name of {name} says so", is_assumed=True)
    return None


def feature_task(head: Head) -> Task | None:
    """An embedding, for a head with features of tokens or cells, which have no classes; None for others."""
    name = head.output.name
    if head.output_activation or head.inner_logits or not EMBEDDING_NAMES.search(name):
        return None
    return Task(EMBEDDING, f"the name of {name} says so", is_assumed=True)


def is_expectation(tensor: gs.Tensor) -> bool:
    """Whether a number is a sum of constants weighted by the probabilities of a Softmax."""
    is_summed = False
    for _ in range(MAX_DEPTH):
        node = producer(before_reshapes(tensor))
        if node is None:
            return False
        if node.op == "Softmax":
            return is_summed
        varying = [operand for operand in node.inputs if operand.inputs]
        if node.op not in STEPS or len(varying) != 1:
            return False
        is_summed, tensor = is_summed or node.op in EXPECTATIONS, varying[0]
    return False
