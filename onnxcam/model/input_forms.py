"""In which form an input holds images that have no four axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxcam.errors import SettingError
from onnxcam.model.channel_axis import COLORS
from onnxcam.model.proto.declared_sizes import Dims, declared_dims

Size: TypeAlias = tuple[int, int]
SPECIAL = {0, -1}  # sizes in the target of a Reshape
TOKENS = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)  # types of numbers that are rarely pixels


@dataclass(frozen=True)
class Form:
    """How images (four axes, `dims`) become what a model takes: without the axes `squeezed`, or in the shape
    `target`. `has_batch` is False if the model takes one image. `text` says what the input holds.
    """

    dims: Dims
    text: str
    has_batch: bool = True
    squeezed: tuple[int, ...] = ()
    target: tuple[int, ...] = ()


def form_of(
    graph: onnx.GraphProto, tensor: onnx.ValueInfoProto, size: Size | None, model: str
) -> Form | None:
    """The form of the images in an input of one to three axes; None if it is unknown whether it holds any.
    SettingError if they do not fit the size (height, width).
    """
    name, dims = tensor.name, declared_dims(tensor)
    if dims is None or not 1 <= len(dims) <= 3:
        return None
    may_be_tokens = tensor.type.tensor_type.elem_type in TOKENS
    if len(dims) == 3:
        return _form_of_three(graph, dims, may_be_tokens=may_be_tokens)
    *batch, count = dims
    has_batch = bool(batch)
    if not isinstance(count, int) or count < 1:
        return None
    first: Dims = (batch[0],) if has_batch else (1,)
    target = (0, count) if has_batch else (count,)
    if grid := _grid_of_readers(graph, name, count):
        text = f"flat images of {' x '.join(map(str, grid))} numbers, as the graph reshapes them"
        return Form((*first, *grid), text, has_batch, target=target)
    if has_batch and size is not None and size == dims:
        return _gray_image((*size,))
    if size is not None:
        grid = (_channels_of(name, count, size, model), *size)
        text = f"flat images of {' x '.join(map(str, grid))} numbers (--size), the channels first"
        return Form((*first, *grid), text, has_batch, target=target)
    is_image = has_batch and isinstance(batch[0], int) and batch[0] > 1 and not may_be_tokens
    return _gray_image(dims) if is_image and _outputs_do_not_begin_with(graph, batch[0]) else None


def _form_of_three(graph: onnx.GraphProto, dims: Dims, *, may_be_tokens: bool) -> Form | None:
    first, rows, columns = dims
    if first in COLORS and not (first != 1 and _outputs_begin_with(graph, first)):
        return Form(
            (1, *dims), "one image (channels, height, width)", has_batch=False, squeezed=(0,)
        )
    if columns in COLORS and isinstance(rows, int) == isinstance(first, int):
        return Form(
            (1, *dims), "one image (height, width, channels)", has_batch=False, squeezed=(0,)
        )
    if isinstance(rows, int) and isinstance(columns, int) and not may_be_tokens:
        text = f"gray images of {rows} x {columns} pixels without a channel axis"
        return Form((first, 1, rows, columns), text, squeezed=(1,))
    return None


def _gray_image(dims: Dims) -> Form:
    return Form((1, 1, *dims), "one gray image (height, width)", has_batch=False, squeezed=(0, 1))


def _outputs_begin_with(graph: onnx.GraphProto, size: int | str | None) -> bool:
    """Whether all outputs have this size along their first axis, which then is the batch."""
    shapes = [declared_dims(output) for output in graph.output]
    return bool(shapes) and all(shape and len(shape) > 1 and shape[0] == size for shape in shapes)


def _outputs_do_not_begin_with(graph: onnx.GraphProto, size: int | str | None) -> bool:
    """Whether all outputs have known sizes, another one along the first axis."""
    shapes = [declared_dims(output) for output in graph.output]
    return all(shape is not None and shape[:1] != (size,) for shape in shapes)


def _channels_of(name: str, count: int, size: Size, model: str) -> int:
    """How many channels flat images of this size have. SettingError if they do not fit."""
    channels, rest = divmod(count, size[0] * size[1])
    if rest or channels not in COLORS:
        raise SettingError(
            f"{model}: --size {size[0]},{size[1]} does not fit the flat input {name!r} of {count} numbers; "
            f"expected height x width x channels, with {', '.join(map(str, sorted(COLORS)))} channels"
        )
    return channels


def _grid_of_readers(graph: onnx.GraphProto, name: str, count: int) -> tuple[int, ...]:
    """The three sizes of an image into which the graph reshapes rows of so many numbers; else empty."""
    for node in graph.node:
        if node.op_type == "Reshape" and node.input[:1] == [name] and len(node.input) > 1:
            target = constant_numbers(graph, node.input[1])
            sizes = () if target is None else tuple(target)
            grid = sizes[-3:] if len(sizes) == 4 else (1, *sizes[-2:])
            is_grid = len(sizes) in (3, 4) and not SPECIAL & set(grid)
            if is_grid and math.prod(grid) == count and COLORS & {grid[0], grid[-1]}:
                return grid
    return ()


def constant_numbers(graph: onnx.GraphProto, name: str) -> list[int] | None:
    """The numbers of a constant vector; None if it is none."""
    for tensor in graph.initializer:
        if tensor.name == name:
            return [int(number) for number in numpy_helper.to_array(tensor).ravel()]
    for node in graph.node:
        if node.op_type == "Constant" and name in node.output:
            value = helper.get_attribute_value(node.attribute[0])
            array = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
            return [int(number) for number in np.ravel(array)]
    return None
