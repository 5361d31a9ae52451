"""Fixtures of exporters: a small model as its exporter writes it, and gradients by its own framework.

The scripts `export_*.py` write them to tests/data; the tests that read them need none of the frameworks.
A model whose weights would be too large is stored without them (`emptied`): each is a row of seeded
numbers, which `restored` writes back.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

DATA = Path(__file__).resolve().parents[1] / "tests" / "data"
LARGEST = 200_000  # bytes
EMPTIED = 64  # numbers of an array that is not worth a recipe


def save(
    name: str,
    model: onnx.ModelProto,
    x: NDArray[np.float32],
    cotangent: NDArray[np.float32],
    scores: NDArray[np.float32],
    gradient: NDArray[np.float32],
) -> None:
    """Write `<name>.onnx` and `<name>.npz`: an input, a cotangent of the scores, the scores, and the
    gradient of their product with respect to the input.
    """
    write(name, model, {"x": x, "cotangent": cotangent, "scores": scores, "gradient": gradient})


def write(name: str, model: onnx.ModelProto, arrays: Mapping[str, Any]) -> None:
    """Write `<name>.onnx` and `<name>.npz`, without what exporters leave in a model of themselves."""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]  # stack traces
    model.doc_string = ""
    del model.metadata_props[:]
    content = model.SerializeToString()
    if len(content) > LARGEST:
        raise ValueError(f"{name}: {len(content)} bytes; make the model smaller")
    DATA.mkdir(exist_ok=True)
    (DATA / f"{name}.onnx").write_bytes(content)
    np.savez_compressed(DATA / f"{name}.npz", **{key: np.asarray(a) for key, a in arrays.items()})  # type: ignore[arg-type]
    print(f"{name}: {len(content)} bytes, {len(model.graph.node)} nodes, opset {opset(model)}")


def opset(model: onnx.ModelProto) -> int:
    return next(each.version for each in model.opset_import if not each.domain)


def draw(*shape: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@dataclass(frozen=True)
class Seeded:
    """The numbers of one array: uniform between offset - scale and offset + scale. Of one product and one
    sum in float32 they are the same on every machine.
    """

    name: str
    shape: tuple[int, ...]
    offset: float = 0.0
    scale: float = 1.0
    seed: int = 0

    def values(self) -> NDArray[np.float32]:
        random = np.random.default_rng([self.seed, zlib.crc32(self.name.encode())])
        unit = 2 * random.random(self.shape, dtype=np.float32) - 1
        return np.float32(self.offset) + np.float32(self.scale) * unit


PICTURE = Seeded("picture", (2, 3, 64, 64), scale=1.7)  # what models without weights are given
COTANGENT = Seeded("cotangent", (2, 10))


def emptied(model: onnx.ModelProto, recipes: list[Seeded]) -> None:
    """Put its recipe in the place of each array that equals a seeded one, its axes in another order at most.
    What an exporter made of several stays as it is.
    """
    known = {_key(each.values()): each for each in recipes}
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        recipe = known.get(_key(values)) if values.size > EMPTIED else None
        if recipe and (order := _order(recipe.values(), values)) is not None:
            tensor.ClearField("raw_data")
            tensor.doc_string = json.dumps({"axes": order, **asdict(recipe)})


def _key(values: NDArray[Any]) -> bytes:
    return np.sort(values, axis=None).tobytes()


def _order(recipe: NDArray[Any], values: NDArray[Any]) -> tuple[int, ...] | None:
    """In which order the axes of a recipe give the values, its shape apart."""
    flat = values.ravel()
    orders = permutations(range(recipe.ndim))
    return next((o for o in orders if np.array_equal(recipe.transpose(o).ravel(), flat)), None)


def restored(path: Path) -> onnx.ModelProto:
    """A fixture with its weights."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.doc_string:
            told = json.loads(tensor.doc_string)
            axes = told.pop("axes")
            tensor.raw_data = np.ascontiguousarray(
                Seeded(**told).values().transpose(axes)
            ).tobytes()
            tensor.doc_string = ""
    return model
