"""What an .onnx file holds, read from its protocol buffer alone: nothing is computed, weights are not read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto
from onnx.external_data_helper import uses_external_data

from onnxcam.errors import ModelError, one_line
from onnxcam.graph.operators import operator_key
from onnxcam.model.external_data import content_bytes, locate_tensor
from onnxcam.model.proto.skim import skim_proto
from onnxcam.model.proto.walk import all_scopes, constant_tensors

NO_WEIGHTS = {"int64", "bool", "string"}  # types of sizes, indices and switches
DYNAMIC = {"DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeMatMul"}
QDQ = {"QuantizeLinear", "DequantizeLinear"}


def describe_proto(proto: onnx.ModelProto, path: Path) -> dict[str, Any]:
    """The facts of the model at `path` as plain data. `weights` are the bytes of its constants by type, and
    `parameters` counts the numbers in those that are not of integers of 64 bits; `operators` are the
    most frequent first, those of subgraphs and functions included.
    """
    constants = list(constant_tensors(all_scopes(proto)))
    operators = Counter(
        operator_key(node.op_type, node.domain) for s in all_scopes(proto) for node in s.node
    )
    initialized = {tensor.name for tensor in proto.graph.initializer}  # of IR version 3
    external = describe_external(constants, path)
    return {
        "name": path.name,
        "bytes": path.stat().st_size + sum(file["bytes"] or 0 for file in external),
        "producer": " ".join(filter(None, (proto.producer_name, proto.producer_version))),
        "ir_version": proto.ir_version,
        "opsets": {opset.domain: opset.version for opset in proto.opset_import},
        "inputs": [describe_value(v) for v in proto.graph.input if v.name not in initialized],
        "outputs": [describe_value(value) for value in proto.graph.output],
        "parameters": sum(
            numbers for name, numbers in _numbers_by_type(constants) if name not in NO_WEIGHTS
        ),
        "weights": _bytes_by_type(constants),
        "operators": dict(operators.most_common()),
        "quantization": quantization_of(operators),
        "external_data": external,
    }


def describe_value(value: onnx.ValueInfoProto) -> dict[str, Any]:
    """The name, the dtype and the shape of an input or output. A size is a number, a name, or None if it is
    free; the shape is None if the number of axes is. What is no tensor has the kind of its type as dtype.
    """
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return {
            "name": value.name,
            "dtype": (kind or "unknown").removesuffix("_type"),
            "shape": None,
        }
    tensor = value.type.tensor_type
    sizes = [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else dim.dim_param or None
        for dim in tensor.shape.dim
    ]
    return {
        "name": value.name,
        "dtype": type_name(tensor.elem_type),
        "shape": sizes if tensor.HasField("shape") else None,
    }


def type_name(data_type: int) -> str:
    """The name of a type of ONNX, as NumPy has it where it has the type."""
    if data_type == TensorProto.STRING:
        return "string"
    try:
        return onnx.helper.tensor_dtype_to_np_dtype(data_type).name
    except (KeyError, TypeError, ValueError):
        return f"type {data_type}"


def quantization_of(operators: Iterable[str]) -> str | None:
    """How the operators of a model compute with quantized numbers; None if they do not."""
    names = {operator.rpartition("::")[2] for operator in operators}
    kinds = (
        ("QDQ (operators between QuantizeLinear and DequantizeLinear)", bool(names & QDQ)),
        (
            "operators on integers (QLinear...)",
            any(name.startswith(("QLinear", "QGemm")) for name in names),
        ),
        ("dynamic (scales computed at run time)", bool(names & DYNAMIC)),
    )
    return ", ".join(kind for kind, holds in kinds if holds) or None


def describe_external(tensors: Iterable[TensorProto], model: Path) -> list[dict[str, Any]]:
    """The files of external data that tensors name, besides the model's own, with their size, and the first
    problem with each, such as that it is missing or too short; None if it is complete. Nothing is opened.
    """
    files: dict[str, dict[str, Any]] = {}
    for tensor in tensors:
        if not uses_external_data(tensor):
            continue
        location = next((p.value for p in tensor.external_data if p.key == "location"), "")
        if location == model.name:  # a weight that was not read
            continue
        file = files.setdefault(location, {"name": location, "bytes": None, "problem": None})
        try:
            file["bytes"] = locate_tensor(tensor, model)[0].stat().st_size
        except (ModelError, OSError) as error:
            file["problem"] = file["problem"] or one_line(error)
    return list(files.values())


def external_files(model: Path) -> list[Path]:
    """The files with external data of the model at a path that exist. ModelError if it cannot be read."""
    constants = constant_tensors(all_scopes(skim_proto(model)))
    files = (model.parent / file["name"] for file in describe_external(constants, model))
    return [file for file in files if file.exists()]


def _numbers_by_type(tensors: Iterable[TensorProto]) -> Iterator[tuple[str, int]]:
    for tensor in tensors:
        yield type_name(tensor.data_type), math.prod(max(0, size) for size in tensor.dims)


def _bytes_by_type(tensors: Iterable[TensorProto]) -> dict[str, int]:
    """Bytes of constants by type, the largest first; those without a size, such as text, are not counted."""
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        with suppress(ModelError):
            sizes[type_name(tensor.data_type)] += content_bytes(tensor)
    return {name: size for name, size in sizes.most_common() if size}
