"""Dtypes and shapes of tensors, worked out one node at a time.

Dimensions are ints, names (equal names are equal sizes), or None. A dimension that nothing is known
of gets a fresh name of its own, so that operators that keep it (Relu, Add) visibly keep it, and
windows (Conv, pools) write the size they leave as an expression of the size they are given: the two
branches of a residual block end with the same words if they end with the same size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import numpy_helper, shape_inference
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from onnxcam.arrays import Dim, Shape
from onnxcam.graph.dims import is_static
from onnxcam.graph.einsum import Equation, sizes_of
from onnxcam.graph.operators import traits_of
from onnxcam.graph.opset import schema_at
from onnxcam.graph.window import Window

Dtype: TypeAlias = np.dtype[Any] | int

# Of an Attention of a width that is not known onnx infers the width 0.
LIKE_INPUT = {"GroupNormalization", "MeanVarianceNormalization"}  # onnx infers none, or a wrong one
STEPS = {"QuantizeLinear": 2, "DequantizeLinear": 1}  # and the input that says the dtype
FLAT = 2  # axes of an output with one score per class
UNINFERRED = (
    *(onnx.shape_inference.InferenceError, onnx.onnx_cpp2py_export.checker.ValidationError),
    UnboundLocalError,  # graphsurgeon cannot write branches with sequences
)
SMALL = 1024  # constants up to this many elements are shown to the inference: shapes, axes, scales


def type_proto(tensor: gs.Tensor) -> onnx.TypeProto | None:
    """The tensor's type as the inference wants it; None if its dtype is not known, or it is a sequence."""
    if tensor.dtype is None or isinstance(tensor.dtype, onnx.TypeProto):
        return None
    code = (
        tensor.dtype
        if isinstance(tensor.dtype, int)
        else onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    )
    return _type_proto(code, None if tensor.shape is None else tuple(tensor.shape))


@lru_cache(maxsize=4096)  # few types occur in a model, each many times
def _type_proto(code: int, shape: Shape | None) -> onnx.TypeProto:
    return onnx.helper.make_tensor_type_proto(code, shape)


def infer(node: gs.Node, opsets: dict[str, int]) -> list[tuple[Dtype, Shape | None] | None]:
    """Dtype and shape of each output of a node; None for an output that cannot be worked out."""
    domain = node.domain or ""
    if domain and node.op in STEPS:  # of ONNX Runtime's domain, or of ours: onnx has no inference
        slot = STEPS[node.op]
        known = slot < len(node.inputs) and not node.inputs[slot].is_empty()
        dtype = node.inputs[slot].dtype if known else np.dtype(np.uint8)
        return [None if dtype is None else (dtype, node.inputs[0].shape)]
    schema = schema_at(node.op, opsets.get(domain, 1), domain)
    unknown: list[tuple[Dtype, Shape | None] | None] = [None] * len(node.outputs)
    if schema is None:
        return unknown
    given = {each.name: type_proto(each) for each in node.inputs if not each.is_empty()}
    if any(each is None for each in given.values()):
        return unknown
    if node.op == "Einsum" and not domain and (shape := _by_letters(node)) is not None:
        return [(node.inputs[0].dtype, shape)]
    imports = [onnx.helper.make_opsetid(name, version) for name, version in opsets.items()]
    try:
        types = shape_inference.infer_node_outputs(
            schema, OnnxExporter.export_node(node), given, _shown(node), opset_imports=imports
        )
    except UNINFERRED:
        return unknown
    found = [_read(types.get(each.name)) for each in node.outputs]
    if node.op == "Attention" and not domain and found[0] is not None:
        found[0] = (found[0][0], tuple(dim or None for dim in found[0][1] or ()) or None)
    if node.op in LIKE_INPUT and not domain:
        found[0] = _read(given[node.inputs[0].name])
    if traits_of(node).window in ("conv", "pool") and not domain and found[0] is not None:
        found[0] = (found[0][0], _windowed(node, found[0][1], opsets))
    return found


def _shown(node: gs.Node) -> dict[str, onnx.TensorProto]:
    return {
        each.name: numpy_helper.from_array(each.values, each.name)
        for each in node.inputs
        if isinstance(each, gs.Constant) and math.prod(each.shape) <= SMALL
    }


def _read(proto: onnx.TypeProto | None) -> tuple[Dtype, Shape | None] | None:
    if proto is None or not proto.HasField("tensor_type") or not proto.tensor_type.elem_type:
        return None
    tensor = proto.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    if not tensor.HasField("shape"):
        return dtype, None
    dims = [
        each.dim_value if each.HasField("dim_value") else each.dim_param or None
        for each in tensor.shape.dim
    ]
    return dtype, tuple(dims)


def _by_letters(node: gs.Node) -> Shape | None:
    """The shape of an Einsum; onnx gives none for ellipses of different ranks, and forgets that 1 is
    broadcast.
    """
    shapes = [each.shape for each in node.inputs]
    if any(each is None for each in shapes):
        return None
    equation = Equation.read(str(node.attrs["equation"]), [len(each) for each in shapes])
    sizes = sizes_of(equation.operands, shapes)
    return tuple(sizes[letter] for letter in equation.result)


def _windowed(node: gs.Node, shape: Shape | None, opsets: dict[str, int]) -> Shape | None:
    """`shape` with the sizes that a window leaves of named sizes written as expressions."""
    taken = node.inputs[0].shape
    if shape is None or taken is None or is_static(shape):
        return shape
    window = Window.from_node(node, opsets[""])
    if window is None:
        return shape
    left = [
        known if isinstance(known, int) else window.leaves(axis, dim)
        for axis, (known, dim) in enumerate(zip(shape[2:], taken[2:], strict=True))
    ]
    return (*shape[:2], *left)


def believe_outputs(graph: gs.Graph, declared: Mapping[str, Sequence[Dim] | None]) -> None:
    """Replace names that inference made up for sizes of outputs with the sizes that the model declares, by
    output, in all tensors and in place.

    Numbers are believed, except 1 (the batch of an export) and the sizes of maps in models for images of any
    size (perhaps those of the export). Names of input sizes are believed, too. A name that is an expression of
    input sizes says more than a number, and stays.
    """
    free = {dim for tensor in graph.inputs for dim in tensor.shape or () if isinstance(dim, str)}
    any_size = any(
        isinstance(dim, str) for tensor in graph.inputs for dim in (tensor.shape or ())[1:]
    )
    tensors = graph.tensors().values()
    inner = [tensor for tensor in tensors if isinstance(tensor, gs.Variable) and tensor.shape]
    own = {f"{tensor.name}.{i}" for tensor in inner for i in range(len(tensor.shape))} - free
    meant: dict[str, set[Dim]] = {}
    for output in graph.outputs:
        dims, shape = output.shape or (), declared.get(output.name) or ()
        for dim, size in zip(dims, shape, strict=False) if len(dims) == len(shape) else ():
            number = isinstance(size, int) and size > 1 and not (any_size and len(dims) > FLAT)
            if isinstance(dim, str) and (dim in own or not _is_made_of(dim, free)):
                meant.setdefault(dim, set()).update({size} if number or size in free else ())
    sizes = {dim: min(said, key=str) for dim, said in meant.items() if len(said) == 1}
    for tensor in inner if sizes else ():
        tensor.shape = [sizes.get(dim, dim) for dim in tensor.shape]


def _is_made_of(dim: str, names: Iterable[str]) -> bool:
    """Whether an expression uses one of the names."""
    return any(re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", dim) for name in names)
