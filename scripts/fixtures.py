"""Fixtures of exporters: a small model as its exporter writes it, and gradients by its own framework.

`scripts/export_torch.py`, `export_keras.py`, `export_jax.py` and `export_paddle.py` write them to tests/data;
the tests that read them need none of the frameworks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

DATA = Path(__file__).resolve().parents[1] / "tests" / "data"
LARGEST = 200_000  # bytes


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
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]  # exporters leave stack traces there
    model.doc_string = ""
    del model.metadata_props[:]
    content = model.SerializeToString()
    if len(content) > LARGEST:
        raise ValueError(f"{name}: {len(content)} bytes; make the model smaller")
    DATA.mkdir(exist_ok=True)
    (DATA / f"{name}.onnx").write_bytes(content)
    arrays = {"x": x, "cotangent": cotangent, "scores": scores, "gradient": gradient}
    np.savez_compressed(DATA / f"{name}.npz", **{key: np.asarray(a) for key, a in arrays.items()})  # type: ignore[arg-type]
    print(f"{name}: {len(content)} bytes, {len(model.graph.node)} nodes, opset {opset(model)}")


def opset(model: onnx.ModelProto) -> int:
    return next(each.version for each in model.opset_import if not each.domain)


def draw(*shape: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
