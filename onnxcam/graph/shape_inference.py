"""Dtypes and shapes of tensors, inferred node by node.

Dimensions are ints, names (equal names are equal sizes), or None. The size that a window (Conv, a pool) leaves
of a named size is written as an expression of that name: the two branches of a residual block end with the
same expression if they end with the same size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import numpy_helper, shape_inference
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from onnxcam.arrays import Dim, Shape
from onnxcam.graph.attributes import argument
from onnxcam.graph.dims import is_static
from onnxcam.graph.einsum import Equation, sizes_of
from onnxcam.graph.operators import traits_of
from onnxcam.graph.opset import schema_at, type_code
from onnxcam.graph.window import Window

Dtype: TypeAlias = np.dtype[Any] | int

# onnx infers no shape, or a wrong one
LIKE_INPUT = {
    "GroupNormalization",
    "MeanVarianceNormalization",
}
DTYPE_INPUT = {"QuantizeLinear": 2, "DequantizeLinear": 1}  # the input that has the output's dtype
SCORES_RANK = 2  # axes of an output with one score per class
INFERENCE_ERRORS = (
    *(onnx.shape_inference.InferenceError, onnx.onnx_cpp2py_export.checker.ValidationError),
    UnboundLocalError,  # graphsurgeon cannot write branches with sequences
)
MAX_CONSTANT_ELEMENTS = (
    1024  # elements of constants whose values the inference gets: shapes, axes, scales
)

Inferred: TypeAlias = tuple[tuple[Dtype, Shape | None] | None, ...]
_INFERRED: dict[Hashable, Inferred] = {}
"""Results of `infer`. Networks repeat blocks, and walks over a graph repeat nodes."""
MAX_INFERRED = 4096
PLAIN = (int, float, str, list, tuple)  # types of attributes; the others are tensors and graphs


def type_proto(tensor: gs.Tensor) -> onnx.TypeProto | None:
    """The tensor's type for the inference; None if its dtype is unknown or it is a sequence."""
    if tensor.dtype is None or isinstance(tensor.dtype, onnx.TypeProto):
        return None
    dtype = tensor.dtype if isinstance(tensor.dtype, int) else np.dtype(tensor.dtype)
    return _cached_type_proto(
        type_code(dtype), None if tensor.shape is None else tuple(tensor.shape)
    )


@lru_cache(maxsize=4096)  # few types occur in a model, each many times
def _cached_type_proto(code: int, shape: Shape | None) -> onnx.TypeProto:
    return onnx.helper.make_tensor_type_proto(code, shape)


@lru_cache(maxsize=64)
def _opset_ids(opsets: tuple[tuple[str, int], ...]) -> list[onnx.OperatorSetIdProto]:
    return [onnx.helper.make_opsetid(domain, version) for domain, version in opsets]


def infer(node: gs.Node, opsets: dict[str, int]) -> list[tuple[Dtype, Shape | None] | None]:
    """The dtype and shape of each output of a node; None for an output that cannot be inferred."""
    key = _inference_key(node, opsets)
    if key is None:
        return _infer(node, opsets)
    if key not in _INFERRED:
        if len(_INFERRED) >= MAX_INFERRED:
            _INFERRED.clear()
        _INFERRED[key] = tuple(_infer(node, opsets))
    return list(_INFERRED[key])


def _inference_key(node: gs.Node, opsets: dict[str, int]) -> Hashable | None:
    """All that the inference of a node depends on; None if an attribute or an input is not plain data."""
    if not all(isinstance(value, PLAIN) for value in node.attrs.values()):
        return None
    inputs = []
    for tensor in node.inputs:
        if isinstance(tensor.dtype, onnx.TypeProto):
            return None
        shape = None if tensor.shape is None else tuple(tensor.shape)
        content = tensor.values.tobytes() if _is_small_constant(tensor) else None
        inputs.append((tensor.is_empty(), tensor.dtype, shape, content))
    operator = (node.domain or "", node.op, repr(node.attrs), tuple(opsets.items()))
    return operator, tuple(inputs), tuple(tensor.is_empty() for tensor in node.outputs)


def _infer(node: gs.Node, opsets: dict[str, int]) -> list[tuple[Dtype, Shape | None] | None]:
    domain = node.domain or ""
    # of ONNX Runtime's domain, or of ours: onnx has no inference
    if domain and node.op in DTYPE_INPUT:
        slot = DTYPE_INPUT[node.op]
        has_dtype_input = slot < len(node.inputs) and not node.inputs[slot].is_empty()
        dtype = node.inputs[slot].dtype if has_dtype_input else np.dtype(np.uint8)
        return [None if dtype is None else (dtype, node.inputs[0].shape)]
    schema = schema_at(node.op, opsets.get(domain, 1), domain)
    unknown: list[tuple[Dtype, Shape | None] | None] = [None] * len(node.outputs)
    if schema is None:
        return unknown
    input_types = {t.name: type_proto(t) for t in node.inputs if not t.is_empty()}
    if None in input_types.values():
        return unknown
    if node.op == "Einsum" and not domain and (shape := _einsum_shape(node)) is not None:
        return [(node.inputs[0].dtype, shape)]
    try:
        types = shape_inference.infer_node_outputs(
            schema,
            OnnxExporter.export_node(node),
            input_types,
            _small_constants(node),
            opset_imports=_opset_ids(tuple(opsets.items())),
        )
    except INFERENCE_ERRORS:
        return unknown
    inferred = [_dtype_and_shape(types.get(tensor.name)) for tensor in node.outputs]
    return inferred if domain else _correct_inference(node, inferred, input_types, opsets)


def _correct_inference(
    node: gs.Node,
    inferred: list[tuple[Dtype, Shape | None] | None],
    input_types: Mapping[str, onnx.TypeProto | None],
    opsets: dict[str, int],
) -> list[tuple[Dtype, Shape | None] | None]:
    """What onnx inferred, with its mistakes corrected and the sizes that windows leave as expressions."""
    if node.op in LIKE_INPUT:
        return [_dtype_and_shape(input_types[node.inputs[0].name]), *inferred[1:]]
    if inferred[0] is None:
        return inferred
    dtype, shape = inferred[0]
    if node.op == "Attention":  # of an unknown width onnx infers 0
        shape = tuple(dim or None for dim in shape or ()) or None
    if traits_of(node).window in ("conv", "pool"):
        shape = _window_output_shape(node, shape, opsets)
    if node.op in ("Resize", "Upsample"):
        shape = _resized_shape(node, shape, opsets[""])
    return [(dtype, shape), *inferred[1:]]


def _small_constants(node: gs.Node) -> dict[str, onnx.TensorProto]:
    return {
        tensor.name: numpy_helper.from_array(tensor.values, tensor.name)
        for tensor in node.inputs
        if _is_small_constant(tensor)
    }


def _is_small_constant(tensor: gs.Tensor) -> bool:
    return isinstance(tensor, gs.Constant) and math.prod(tensor.shape) <= MAX_CONSTANT_ELEMENTS


def _dtype_and_shape(proto: onnx.TypeProto | None) -> tuple[Dtype, Shape | None] | None:
    if proto is None or not proto.HasField("tensor_type") or not proto.tensor_type.elem_type:
        return None
    tensor = proto.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    if not tensor.HasField("shape"):
        return dtype, None
    dims = [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
        for dim in tensor.shape.dim
    ]
    return dtype, tuple(dims)


def _einsum_shape(node: gs.Node) -> Shape | None:
    """The shape of an Einsum: onnx infers none for ellipses of different ranks, and a wrong one if a size of 1
    is broadcast.
    """
    shapes = [tensor.shape for tensor in node.inputs]
    if None in shapes:
        return None
    equation = Equation.parse(str(node.attrs["equation"]), [len(shape) for shape in shapes])
    sizes = sizes_of(equation.operands, shapes)
    return tuple(sizes[letter] for letter in equation.result)


def _window_output_shape(
    node: gs.Node, shape: Shape | None, opsets: dict[str, int]
) -> Shape | None:
    """The output shape of a window, with expressions for what it leaves of named sizes."""
    input_shape = node.inputs[0].shape
    if shape is None or input_shape is None or is_static(shape):
        return shape
    window = Window.from_node(node, opsets[""])
    if window is None:
        return shape
    sizes = [
        size if isinstance(size, int) else window.output_dim(axis, dim)
        for axis, (size, dim) in enumerate(zip(shape[2:], input_shape[2:], strict=True))
    ]
    return (*shape[:2], *sizes)


def _resized_shape(node: gs.Node, shape: Shape | None, opset: int) -> Shape | None:
    """The output shape of Resize or Upsample, with the names of sizes whose constant scale is 1: the batch."""
    scales, old = argument(node, "scales", opset), node.inputs[0].shape
    is_cropped = node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    if (
        shape is None
        or old is None
        or scales is None
        or is_cropped
        or isinstance(scales, gs.Tensor)
    ):
        return shape
    axes = [axis % len(old) for axis in node.attrs.get("axes") or range(len(old))]
    if len(scales) != len(axes):
        return shape
    resized = {axis for axis, scale in zip(axes, scales, strict=True) if scale != 1}
    return tuple(size if axis in resized else old[axis] for axis, size in enumerate(shape))


def apply_declared_sizes(graph: gs.Graph, declared: Mapping[str, Sequence[Dim] | None]) -> None:
    """Replace sizes of outputs that only have an invented name by the sizes that the model declares for that
    output, in all tensors, in place.

    Declared numbers are trusted, except 1 (the batch of an export) and the sizes of maps in models for images
    of any size (perhaps those of the export). Names of input sizes are trusted, too. A name that is an
    expression of input sizes says more than a number, and stays.
    """
    input_names = {
        dim for tensor in graph.inputs for dim in tensor.shape or () if isinstance(dim, str)
    }
    takes_any_size = any(
        isinstance(dim, str) for tensor in graph.inputs for dim in (tensor.shape or ())[1:]
    )
    tensors = graph.tensors().values()
    shaped_tensors = [
        tensor for tensor in tensors if isinstance(tensor, gs.Variable) and tensor.shape
    ]
    invented = {
        f"{tensor.name}.{i}" for tensor in shaped_tensors for i in range(len(tensor.shape))
    } - input_names
    candidates: dict[str, set[Dim]] = {}
    for output in graph.outputs:
        dims, shape = output.shape or (), declared.get(output.name) or ()
        for dim, size in zip(dims, shape, strict=False) if len(dims) == len(shape) else ():
            number = (
                isinstance(size, int)
                and size > 1
                and not (takes_any_size and len(dims) > SCORES_RANK)
            )
            if isinstance(dim, str) and (dim in invented or not _mentions_any(dim, input_names)):
                candidates.setdefault(dim, set()).update(
                    {size} if number or size in input_names else ()
                )
    sizes = {dim: min(numbers, key=str) for dim, numbers in candidates.items() if len(numbers) == 1}
    for tensor in shaped_tensors if sizes else ():
        tensor.shape = [sizes.get(dim, dim) for dim in tensor.shape]


def _mentions_any(dim: str, names: Iterable[str]) -> bool:
    """Whether an expression uses one of the names."""
    return any(re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", dim) for name in names)
