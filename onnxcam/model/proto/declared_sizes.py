"""Check and normalize the sizes that a model declares, before anything computes with them.

A size below 1 is free, as for ONNX Runtime. Equal names mean equal sizes. Meaningless names ("?") are removed,
and those that look like arithmetic, or are very long, are replaced.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from itertools import count
from typing import TypeAlias

import onnx

from onnxcam.errors import ModelError
from onnxcam.model.proto.walk import Scope

Dims: TypeAlias = tuple[int | str | None, ...]
MAX_INPUT_SIZE = 1 << 30  # numbers: 18,000 x 18,000 pixels in color
SIZE_LIMIT = 1 << 31  # no tensor can have a size beyond this
PLAIN = re.compile(r"[^\W\d]\w{0,63}")  # a name that cannot be mistaken for an expression of sizes


def normalize_sizes(
    proto: onnx.ModelProto, scopes: Iterable[Scope], name: str, constants: Collection[str] = ()
) -> None:
    """Check the declared sizes of the inputs, and normalize those of all tensors, in place.

    ModelError for an input with a size that no image can have. `constants` names inputs that are weights.
    """
    weights = {tensor.name for tensor in proto.graph.initializer} | set(constants)
    inputs = [tensor for tensor in proto.graph.input if tensor.name not in weights]
    for tensor in inputs:
        _check_input(tensor, name)
    shapes = list(declared_shapes(scopes))
    new_names = _new_names(shapes, inputs)
    for shape in shapes:
        for dim in shape.dim:
            if dim.HasField("dim_value"):
                if not 0 < dim.dim_value < SIZE_LIMIT:
                    dim.ClearField("dim_value")
            elif new_names[dim.dim_param]:
                dim.dim_param = new_names[dim.dim_param]
            else:
                dim.ClearField("dim_param")


def _check_input(tensor: onnx.ValueInfoProto, name: str) -> None:
    sizes = [
        dim.dim_value for dim in tensor.type.tensor_type.shape.dim if dim.HasField("dim_value")
    ]
    static = [size for size in sizes if size >= 0]  # below 0: free
    prefix = f"{name}: the input {tensor.name!r} is declared with"
    if 0 in static:
        raise ModelError(
            f"{prefix} a size of 0, so nothing can be fed to it; export the model with a dynamic size or 1"
        )
    if math.prod(static) > MAX_INPUT_SIZE:
        shown = " x ".join(map(str, static[:8]))
        raise ModelError(
            f"{prefix} {shown} numbers, more than the maximum of {MAX_INPUT_SIZE}; "
            "export the model with the size of real images, or dynamic sizes"
        )


def _new_names(
    shapes: Iterable[onnx.TensorShapeProto], inputs: list[onnx.ValueInfoProto]
) -> dict[str, str]:
    """The new name for each name of a size; "" for a meaningless one.

    A name that one input has twice is only a placeholder: ONNX Runtime accepts different sizes for it.
    """
    names = dict.fromkeys(dim.dim_param for shape in shapes for dim in shape.dim)
    placeholders = set()
    for tensor in inputs:
        counts = Counter(dim.dim_param for dim in tensor.type.tensor_type.shape.dim)
        placeholders |= {name for name, times in counts.items() if times > 1}
    unused = (new for i in count() if (new := f"size_{i}") not in names)
    return {
        name: ""
        if name in placeholders or not re.search(r"[^\W_]", name)
        else name
        if PLAIN.fullmatch(name)
        else next(unused)
        for name in names
    }


def declared_shapes(scopes: Iterable[Scope]) -> Iterator[onnx.TensorShapeProto]:
    """The declared shape of every tensor that has one."""
    for scope in scopes:
        declared = [*scope.value_info]
        if isinstance(scope, onnx.GraphProto):
            declared += [*scope.input, *scope.output]
        for tensor in declared:
            kind = tensor.type
            while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
                kind = (
                    kind.sequence_type.elem_type
                    if kind.HasField("sequence_type")
                    else kind.optional_type.elem_type
                )
            if kind.HasField("tensor_type") and kind.tensor_type.HasField("shape"):
                yield kind.tensor_type.shape


def declared_dims(tensor: onnx.ValueInfoProto) -> Dims | None:
    """The declared sizes: numbers, names, None for free ones; None without a shape."""
    if not tensor.type.tensor_type.HasField("shape"):
        return None
    return tuple(_declared_dim(dim) for dim in tensor.type.tensor_type.shape.dim)


def _declared_dim(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return dim.dim_value if dim.dim_value >= 0 else None
    return dim.dim_param or None
