"""Plans as JSON text, for the cache."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from onnxcam.bound_input import BoundInput
from onnxcam.dense import Boxes, Columns, Dense
from onnxcam.methods import QUANTITIES
from onnxcam.specs import (
    CONSTANT,
    HEAD,
    MODEL,
    SAMPLED,
    ImageInput,
    Layer,
    Output,
    Plan,
    Program,
    Score,
)

T = TypeVar("T")
PROGRAMS = "clean", "constant", "sampled", "constant_sampled"
HUGE = 1 << 31  # above any size of a tensor
COARSEST = 2.0**-7  # the machine epsilon of bfloat16


def as_json(plan: Plan) -> str:
    """The plan as text. TypeError or ValueError if JSON cannot represent it."""
    fields = asdict(plan)
    fields["image"]["dtype"] = np.dtype(plan.image.dtype).name
    text = json.dumps(fields)
    if from_json(text) != plan:
        raise ValueError(f"{plan.name}: the plan changes when it is written as JSON and read again")
    return text


def from_json(text: str | bytes) -> Plan:
    """The plan that `as_json` wrote. Any other text raises LookupError, TypeError, ValueError, AttributeError
    or RecursionError.
    """
    fields = json.loads(text)
    image = {**fields["image"], "dtype": _dtype(fields["image"]["dtype"])}
    layers = fields["layers"]
    if not isinstance(layers, list) or not layers:
        raise TypeError("a plan without layers")
    specs = {
        "image": _construct(ImageInput, image),
        "score": _construct(Score, fields["score"]),
        "layers": tuple(_construct(Layer, layer) for layer in layers),
        **{name: _program(fields[name]) for name in PROGRAMS},
        "inputs": tuple(_construct(BoundInput, bound) for bound in fields["inputs"]),
        "dense": _dense(fields["dense"]),
    }
    plan = _construct(Plan, {**fields, **specs})
    classes, layout = plan.score.classes, plan.image.layout
    if 0 in (plan.image.batch, *plan.image.shape):
        raise ValueError("an image without pixels")
    _dtype(plan.seed_dtype), _dtype(plan.image_dtype)
    if layout not in ("NCHW", "NHWC") or not math.prod(plan.seed_shape) == classes > 0:
        raise ValueError(f"the layout {layout!r}, or cotangents that do not fit {classes} classes")
    if len(plan.names) not in (0, classes):
        raise ValueError(f"{len(plan.names)} names of {classes} scores")
    if not 0 < plan.epsilon <= COARSEST:
        raise ValueError(f"the epsilon {plan.epsilon!r}")
    if not all(
        _is_at_layer(plan, output) for program in plan.programs for output in program.outputs
    ):
        raise ValueError("a quantity at a layer that the plan does not have")
    if not all(map(_is_consistent, plan.layers)):
        raise ValueError("a layer whose channel axis or number of tokens does not fit its shape")
    return plan


def _is_at_layer(plan: Plan, output: Output) -> bool:
    """Whether the plan has the layer of an output, and a quantity at a layer is named after it."""
    if output.layer >= len(plan.layers):
        return False
    name = plan.layers[output.layer].name
    is_named = output.tensor == name or output.tensor.endswith(f"/{name}")
    return is_named or QUANTITIES[output.quantity].place != "layer"


def _dense(fields: Any) -> Dense | None:
    if fields is None:
        return None
    boxes = fields["boxes"]
    if boxes is not None:
        columns = tuple(_construct(Columns, columns) for columns in boxes["columns"])
        numbers = {name: _lists_to_tuples(row) for name, row in boxes["numbers"].items()}
        boxes = _construct(Boxes, {**boxes, "columns": columns, "numbers": numbers})
    return _construct(Dense, {**fields, "boxes": boxes})


def _program(fields: Any) -> Program:
    """A program whose outputs are known quantities."""
    if not isinstance(fields["outputs"], list):
        raise TypeError("outputs that are not a list")
    outputs = tuple(_construct(Output, output) for output in fields["outputs"])
    program = _construct(Program, {**fields, "outputs": outputs})
    if program.model not in (MODEL, CONSTANT, HEAD, SAMPLED):
        raise ValueError(f"the model {program.model!r}")
    if not all(output.quantity in QUANTITIES for output in outputs):
        raise ValueError("a quantity that no formula takes")
    return program


def _is_consistent(layer: Layer) -> bool:
    """Whether the channel axis, the cells, and the tokens of a layer fit its shape."""
    if not 0 < layer.channel_axis < len(layer.shape):
        return False
    tokens = [dim for i, dim in enumerate(layer.shape) if i not in (0, layer.channel_axis)]
    sizes = [dim for dim in (*(layer.cells or ()), *tokens) if isinstance(dim, int)]
    if 0 in sizes or layer.cells is None or len(sizes) < 3:
        return 0 not in sizes
    return sizes[0] * sizes[1] + layer.tokens == sizes[2]


def _dtype(name: object) -> np.dtype[Any]:
    """The numeric dtype of this name; TypeError for any other."""
    dtype = np.dtype(name) if isinstance(name, str) else None
    if dtype is None or dtype.name != name or (dtype.kind not in "fiub" and name != "bfloat16"):
        raise TypeError(f"{name!r} is not a numeric dtype")
    return dtype


def _construct(kind: type[T], fields: Any) -> T:
    """A dataclass from JSON values. TypeError for a value that is not of the annotated type."""
    values = {name: _lists_to_tuples(value) for name, value in fields.items()}
    for name, hint in get_type_hints(kind).items():
        if name in values and not _has_type(values[name], hint):
            raise TypeError(f"{kind.__name__}.{name} of {values[name]!r:.50}")
    return kind(**values)


def _lists_to_tuples(value: Any) -> Any:
    """Lists as tuples: JSON has only lists."""
    return tuple(map(_lists_to_tuples, value)) if isinstance(value, list) else value


def _has_type(value: object, hint: Any) -> bool:
    """Whether a value is of an annotated type. Integers are sizes and axes: not negative, and not huge."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (UnionType, Union):
        return any(_has_type(value, alternative) for alternative in inner)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        hints = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return len(value) == len(hints) and all(map(_has_type, value, hints))
    if origin is dict:
        return isinstance(value, dict) and all(
            _has_type(key, inner[0]) and _has_type(member, inner[1])
            for key, member in value.items()
        )
    if hint is int:
        return type(value) is int and 0 <= value < HUGE
    return isinstance(value, origin or hint)
