"""A second reference: ONNX graphs of convolutional networks, run and differentiated by torch."""

from collections.abc import Callable
from typing import Any

import onnx
import torch
from onnx import helper, numpy_helper
from torch.nn import functional as F

Tensor = Any


def run(
    proto: onnx.ModelProto,
    feed: dict[str, Any],
    dtype: Any,
    follow: tuple[str, ...],
    gates: dict[str, Any],
) -> dict[str, Tensor]:
    """Every tensor of the graph; those of `follow` are watched by autograd.

    `gates` says, by the name of their output, which cells each Relu lets through and which cell of the
    whole tensor each window of a MaxPool picks.
    """
    tensors: dict[str, Tensor] = {"": None}
    weights = {w.name: numpy_helper.to_array(w) for w in proto.graph.initializer}
    for name, array in (weights | feed).items():
        tensor = torch.from_numpy(array.copy())
        tensors[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
        if name in follow:
            tensors[name].requires_grad_()
    for node in proto.graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.output[0] in gates:
            attributes["gate"] = torch.from_numpy(gates[node.output[0]])
        tensors[node.output[0]] = OPERATORS[node.op_type](
            attributes, *(tensors[name] for name in node.input)
        )
        if node.output[0] in follow:
            tensors[node.output[0]].retain_grad()
    return tensors


def pad(x: Tensor, attributes: dict[str, Any], value: float) -> Tensor:
    pads = attributes.get("pads") or [0] * (2 * (x.ndim - 2))
    rank = len(pads) // 2
    from_last = [pads[i + end] for i in reversed(range(rank)) for end in (0, rank)]
    return F.pad(x, from_last, value=value)


def conv(attributes: dict[str, Any], x: Tensor, w: Tensor, b: Tensor = None) -> Tensor:
    strides = {"stride": attributes.get("strides", 1), "dilation": attributes.get("dilations", 1)}
    return F.conv2d(pad(x, attributes, 0.0), w, b, groups=attributes.get("group", 1), **strides)


def average_pool(attributes: dict[str, Any], x: Tensor) -> Tensor:
    sizes = attributes["kernel_shape"], attributes.get("strides", 1)
    ones = torch.ones_like(x)
    return F.avg_pool2d(pad(x, attributes, 0.0), *sizes) / F.avg_pool2d(
        pad(ones, attributes, 0.0), *sizes
    )


def batch_norm(
    attributes: dict[str, Any], x: Tensor, s: Tensor, b: Tensor, m: Tensor, v: Tensor
) -> Tensor:
    return F.batch_norm(x, m, v, s, b, eps=attributes.get("epsilon", 1e-5))


def gemm(attributes: dict[str, Any], a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    a = a.T if attributes.get("transA") else a
    b = b.T if attributes.get("transB") else b
    return attributes.get("alpha", 1.0) * a @ b + attributes.get("beta", 1.0) * c


def unsqueeze(attributes: dict[str, Any], x: Tensor) -> Tensor:
    for axis in sorted(attributes["axes"]):
        x = x.unsqueeze(axis)
    return x


OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Conv": conv,
    "MaxPool": lambda attributes, x: x.flatten()[attributes["gate"]],
    "AveragePool": average_pool,
    "BatchNormalization": batch_norm,
    "Gemm": gemm,
    "Unsqueeze": unsqueeze,
    "Relu": lambda attributes, x: x * attributes["gate"],
    "Dropout": lambda attributes, x: x,
    "GlobalAveragePool": lambda attributes, x: x.mean((2, 3), keepdim=True),
    "Softmax": lambda attributes, x: x.flatten(1).softmax(1).reshape(x.shape),
    "Reshape": lambda attributes, x, shape: x.reshape(shape.tolist()),
    "Transpose": lambda attributes, x: x.permute(attributes["perm"]),
    "Concat": lambda attributes, *xs: torch.cat(xs, attributes["axis"]),
    "Sum": lambda attributes, *xs: sum(xs[1:], start=xs[0]),
    "Add": lambda attributes, a, b: a + b,
    "Mul": lambda attributes, a, b: a * b,
    "LRN": lambda attributes, x: F.local_response_norm(
        x,
        attributes["size"],
        attributes.get("alpha", 1e-4),
        attributes.get("beta", 0.75),
        attributes.get("bias", 1.0),
    ),
}
