"""Cache entries that change after they were written."""

from __future__ import annotations

import gc
import json
import os
import shutil
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np

import onnxcam
from scripts.fuzz import values
from scripts.fuzz.case import Case, WrongError
from scripts.fuzz.seeds import seed_models


def damaged_cache(draw: Random) -> Case:
    """Files of the cache change between two runs, and the second must give what the first gave."""
    seed = draw.getrandbits(32)
    name = draw.choice(("pooled", "tokens", "old"))
    return Case(
        f"the cache of {name}, {seed}",
        {"model.onnx": seed_models()[name]},
        lambda folder: _explain_with_damaged_cache(folder, seed),
    )


def _explain_with_damaged_cache(folder: Path, seed: int) -> None:
    draw = Random(seed)
    cache = folder / "cache"
    with patch.dict(os.environ, {"ONNXCAM_CACHE": str(cache)}):
        first = _maps(folder)
        done = [_damage_cache(cache, draw) for _ in range(draw.choice((1, 1, 2)))]
        second = _maps(folder)
        third = _maps(folder)
    for maps in (second, third):
        if not np.allclose(first, maps, 1e-4, 1e-6):
            raise WrongError(f"another map after {', '.join(done)}")


def _maps(folder: Path) -> Any:
    image = np.random.default_rng(3).normal(0, 1, (1, 3, 8, 8)).astype(np.float32)
    maps = onnxcam.Explainer(folder / "model.onnx", samples=2, device="cpu")(image).maps
    gc.collect()  # unmap files before one is changed
    return maps


def _damage_cache(cache: Path, draw: Random) -> str:
    paths = sorted(path for path in cache.rglob("*") if path.is_file() and not path.is_symlink())
    if not paths:
        return "nothing"
    path = draw.choice(paths)
    content = path.read_bytes()
    action = draw.choice(
        ("bytes", "bytes", "json", "cut", "zeros", "remove", "fifo", "link", "folder", "entry")
    )
    damage = f"{action} of {path.name}"
    path.unlink()
    match action:
        case "bytes":
            path.write_bytes(values.mutate_bytes(content, draw))
        case "json":
            path.write_bytes(_change_json(content, draw))
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "zeros":
            path.write_bytes(bytes(len(content)))
        case "fifo":
            os.mkfifo(path)
        case "link":
            path.symlink_to(draw.choice(("/dev/zero", "/dev/null", str(path), "none")))
        case "folder":
            path.mkdir()
        case "entry":
            shutil.rmtree(path.parent)
            path.parent.write_bytes(content)
    return damage


def _change_json(content: bytes, draw: Random) -> bytes:
    """The content of a JSON file with one value changed, at any depth."""
    try:
        root = json.loads(content)
    except ValueError:
        return values.mutate_bytes(content, draw)
    node: Any = root
    while isinstance(node, dict | list) and node:
        key: Any = draw.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if not isinstance(node[key], dict | list) or draw.random() < 0.2:
            node[key] = draw.choice(
                (None, -1, 0, "x", "../x", [], {}, 1e300, values.integer(draw), True)
            )
            break
        node = node[key]
    return json.dumps(root).encode()
