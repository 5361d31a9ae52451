"""Values for the inputs of a model that are not images: their arrays, digests, and conversion to the model's
dtypes. Nothing here needs onnx.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnxcam.arrays import Array
from onnxcam.bound_input import BoundInput
from onnxcam.digests import digest_bytes, digest_json
from onnxcam.errors import SettingError, first_line

NUMBER_KINDS = "biuf"  # NumPy's kinds of dtypes: bool, integers, floats
MAX_INLINE_VALUES = 64  # so many numbers are kept with their digest
MAX_EXACT = 1 << 53  # larger integers are not exact as float64


def input_arrays(inputs: Mapping[str, Any] | None) -> dict[str, Array]:
    """Copies of the values as arrays, by the names of the inputs. SettingError for what is not an array."""
    if inputs is not None and not isinstance(inputs, Mapping):
        raise SettingError(
            f"inputs: expected a mapping of names to arrays, not {type(inputs).__name__}"
        )
    arrays, faults = {}, []
    for name, values in (inputs or {}).items():
        try:
            array = np.array(values, order="C")
        except (TypeError, ValueError) as error:
            faults.append(f"the values of {name!r} are not an array ({first_line(error)})")
            continue
        if not is_numeric(array.dtype):
            faults.append(f"the values of {name!r} are not numbers ({array.dtype})")
        arrays[str(name)] = array
    if faults:
        raise SettingError(f"inputs: {'; '.join(faults)}")
    return arrays


def digest_inputs(arrays: Mapping[str, Array]) -> str:
    """A digest of names, dtypes, shapes and contents; empty if there are no inputs."""
    rows = [
        (name, array.dtype.name, array.shape, digest_bytes(array.tobytes()))
        for name, array in sorted(arrays.items())
    ]
    return digest_json(rows) if rows else ""


def describe_input(name: str, array: Array) -> BoundInput:
    """The record of an input that became a constant. Few finite numbers are part of it."""
    values = None
    if array.size <= MAX_INLINE_VALUES:
        numbers = array.astype(np.float64).ravel()
        if bool(
            (abs(numbers) < MAX_EXACT).all()
            if array.dtype.kind in "iu"
            else np.isfinite(numbers).all()
        ):
            values = tuple(numbers.tolist())
    return BoundInput(name, array.dtype.name, array.shape, digest_bytes(array.tobytes()), values)


def convert(values: Array, dtype: np.dtype[Any]) -> Array:
    """The same numbers in another dtype: floats are rounded to its precision, everything else must stay exactly
    the same. ValueError, with the reason, if that is impossible.
    """
    if not is_numeric(dtype):
        raise ValueError(f"the model expects {dtype.name}, which cannot be given")
    is_float = values.dtype.kind not in "biu"
    numbers: Any = values.astype(np.float64) if is_float else values
    if is_float and np.isnan(numbers).any():
        raise ValueError("contains NaN")
    with np.errstate(all="ignore"):
        converted = values.astype(dtype)
        is_same = (
            np.isfinite(converted.astype(np.float64)) | ~np.isfinite(numbers)
            if is_float and dtype.kind not in "biu"
            else converted.astype(numbers.dtype) == numbers
        )
    if dtype.kind in "iu" and numbers.size:
        limits = np.iinfo(dtype)
        is_same &= (numbers >= limits.min) & (numbers <= limits.max)
    if not np.all(is_same):
        wrong = numbers[~is_same].flat[0]
        raise ValueError(f"{wrong!s} does not fit {dtype.name}, the type that the model expects")
    return converted


def type_text(dtype: object, shape: Sequence[object] | None) -> str:
    """The type of an input for messages: "int64, shape (N, 2)"."""
    name = dtype.name if isinstance(dtype, np.dtype) else str(dtype)
    if shape is None:
        return f"{name}, any shape"
    sizes = ", ".join("any" if size is None else str(size) for size in shape)
    return f"{name}, shape ({sizes})" if shape else f"{name}, one number"


def how_to_give(inputs: Mapping[str, tuple[object, Sequence[object] | None]]) -> str:
    """What to type to give values to inputs, by their names, dtypes and shapes."""
    options = []
    for name, (dtype, shape) in inputs.items():
        rank = 0 if shape is None else len(shape)
        values = "FILE.npy" if shape is None or rank > 2 else "NUMBERS"
        values = "IMAGE" if rank == len("NCHW") else values
        options.append(f"--input {shlex.quote(f'{name}={values}')} ({type_text(dtype, shape)})")
    mapping = ", ".join(f"{name!r}: ..." for name in inputs)
    return f"{' '.join(options)}, in Python inputs={{{mapping}}}"


def is_numeric(dtype: object) -> bool:
    """Whether values of this dtype can be given."""
    return isinstance(dtype, np.dtype) and (dtype.kind in NUMBER_KINDS or dtype.name == "bfloat16")
