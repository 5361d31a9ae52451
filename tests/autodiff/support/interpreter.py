"""Another witness: ONNX graphs of convolutional networks, run and differentiated by torch."""

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
    known: dict[str, Tensor] = {"": None}
    arrays = {each.name: numpy_helper.to_array(each) for each in proto.graph.initializer} | feed
    for name, array in arrays.items():
        tensor = torch.from_numpy(array.copy())
        known[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
        if name in follow:
            known[name].requires_grad_()
    for node in proto.graph.node:
        given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        if node.output[0] in gates:
            given["gate"] = torch.from_numpy(gates[node.output[0]])
        known[node.output[0]] = OPERATORS[node.op_type](
            given, *(known[each] for each in node.input)
        )
        if node.output[0] in follow:
            known[node.output[0]].retain_grad()
    return known


def padded(x: Tensor, given: dict[str, Any], value: float) -> Tensor:
    pads = given.get("pads") or [0] * (2 * (x.ndim - 2))
    rank = len(pads) // 2
    return F.pad(
        x, [each for i in reversed(range(rank)) for each in (pads[i], pads[rank + i])], value=value
    )


def conv(given: dict[str, Any], x: Tensor, w: Tensor, b: Tensor = None) -> Tensor:
    more = {"stride": given.get("strides", 1), "dilation": given.get("dilations", 1)}
    return F.conv2d(padded(x, given, 0.0), w, b, groups=given.get("group", 1), **more)


def average_pool(given: dict[str, Any], x: Tensor) -> Tensor:
    sizes = given["kernel_shape"], given.get("strides", 1)
    counted = torch.ones_like(x)
    return F.avg_pool2d(padded(x, given, 0.0), *sizes) / F.avg_pool2d(
        padded(counted, given, 0.0), *sizes
    )


def batch_norm(
    given: dict[str, Any], x: Tensor, s: Tensor, b: Tensor, m: Tensor, v: Tensor
) -> Tensor:
    return F.batch_norm(x, m, v, s, b, eps=given.get("epsilon", 1e-5))


def gemm(given: dict[str, Any], a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    left = a.T if given.get("transA") else a
    right = b.T if given.get("transB") else b
    return given.get("alpha", 1.0) * left @ right + given.get("beta", 1.0) * c


def unsqueeze(given: dict[str, Any], x: Tensor) -> Tensor:
    for axis in sorted(given["axes"]):
        x = x.unsqueeze(axis)
    return x


OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Conv": conv,
    "MaxPool": lambda given, x: x.flatten()[given["gate"]],
    "AveragePool": average_pool,
    "BatchNormalization": batch_norm,
    "Gemm": gemm,
    "Unsqueeze": unsqueeze,
    "Relu": lambda given, x: x * given["gate"],
    "Dropout": lambda given, x: x,
    "GlobalAveragePool": lambda given, x: x.mean((2, 3), keepdim=True),
    "Softmax": lambda given, x: x.flatten(1).softmax(1).reshape(x.shape),
    "Reshape": lambda given, x, shape: x.reshape(shape.tolist()),
    "Transpose": lambda given, x: x.permute(given["perm"]),
    "Concat": lambda given, *xs: torch.cat(xs, given["axis"]),
    "Sum": lambda given, *xs: sum(xs[1:], start=xs[0]),
    "Add": lambda given, a, b: a + b,
    "Mul": lambda given, a, b: a * b,
    "LRN": lambda given, x: F.local_response_norm(
        x, given["size"], given.get("alpha", 1e-4), given.get("beta", 0.75), given.get("bias", 1.0)
    ),
}
