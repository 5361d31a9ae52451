"""A model that is ready to run: found in the cache, or loaded, planned, and kept there for the next time.

What is found there is run without importing onnx, and its weights are mapped from the file instead of read. The
model as ONNX Runtime optimises it is not what is kept: it belongs to one processor, and with mapped weights
it starts only 0.1 s sooner (ResNet-18, Swin-T), or no sooner (ViT-B).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxcam import cache
from onnxcam.arrays import Array
from onnxcam.errors import ModelError
from onnxcam.methods import Recipe
from onnxcam.prepared import Plan, as_json, from_json
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session, opened

if TYPE_CHECKING:
    from onnxcam.graph.model import Model

PACKAGES = ("onnxcam", "onnx", "onnx-graphsurgeon", "onnxruntime", "onnxruntime-gpu")
LARGEST_TWICE = (
    256 << 20
)  # bytes of a model that is opened twice; large matrices use all threads well
MODEL, GRADIENTS, PLAN = "model.onnx", "gradients.onnx", "plan.json"
WEIGHTS = ".weights"  # behind the name of the model whose they are
# An entry of `external_data` in a protocol buffer: key (field 1) "location", value (field 2)
LOCATION = b"\x0a\x08location"
VALUE, LONGEST = 0x12, 127  # more bytes take a longer length than one byte


@dataclass(frozen=True)
class Asked:
    """Everything beside the model that a plan depends on."""

    rules: str
    smooths: bool
    layers: tuple[str, ...]
    output: str | None
    probability: bool


@dataclass(frozen=True)
class Ready:
    """A plan and a session that runs it; `backward` runs the gradients that have a model of their own, and
    `again` opens the first once more on so many threads. `name` is what the cache calls it, None where it
    is not kept.
    """

    plan: Plan
    session: Session
    backward: Session | None
    again: Callable[[int], Session] | None
    name: str | None


def ready(
    model: str | Path | bytes | Model,
    recipe: Recipe,
    layer: str | Sequence[str],
    output: str | None,
    device: Device,
    *,
    probability: bool,
    cached: bool,
) -> Ready:
    """A model planned for a method (see `rewrite.plan.plan`)."""
    layers = (layer,) if isinstance(layer, str) else tuple(layer)
    asked = Asked(recipe.rules, recipe.smooths, layers, output, probability)
    name = _name(model, asked) if cached else None
    found = _found(name, device) if name else None
    return found or _planned(model, recipe, asked, device, name)


def _found(name: str, device: Device) -> Ready | None:
    """What the cache has, if it can be run."""
    entry = cache.found(name)
    try:
        if entry is None:
            return None
        plan = from_json((entry / PLAN).read_bytes())
        gradients = entry / GRADIENTS if plan.apart else None
        return _opened(plan, entry / MODEL, {}, gradients, device, name)
    except (OSError, LookupError, TypeError, ValueError, ModelError):
        return None  # taken away by another process, or not one of ours


def _planned(
    model: str | Path | bytes | Model,
    recipe: Recipe,
    asked: Asked,
    device: Device,
    name: str | None,
) -> Ready:
    from onnxcam.graph.model import Model, load
    from onnxcam.rewrite.freed import free_of_batch
    from onnxcam.rewrite.plan import plan
    from onnxcam.rewrite.trial import tried

    loaded = free_of_batch(model if isinstance(model, Model) else load(model))
    made, augmented, alone = plan(
        loaded, recipe, asked.layers, asked.output, probability=asked.probability
    )
    content, weights = augmented.parts()
    made = tried(made, content, weights, smooths=asked.smooths)
    gradients = alone.bytes() if alone else None
    # of a file that changed meanwhile it is not known what was read
    if name and not weights and name == _name(model, asked):
        _keep(name, made, {MODEL: content, GRADIENTS: gradients})
        if found := _found(name, device):
            return found
    return _opened(made, content, weights, gradients, device, None)


def _opened(
    plan: Plan,
    content: bytes | Path,
    weights: Mapping[str, Array],
    gradients: bytes | Path | None,
    device: Device,
    name: str | None,
) -> Ready:
    session = opened(content, device, weights)
    backward = Session(gradients, session.device) if gradients else None

    def again(threads: int) -> Session:
        return Session(content, session.device, weights, threads=threads)

    small = not weights and _size(content) <= LARGEST_TWICE
    return Ready(plan, session, backward, again if small else None, name)


def _size(content: bytes | Path) -> int:
    """Bytes of a model in memory or in the cache."""
    if isinstance(content, bytes):
        return len(content)
    return sum(each.stat().st_size for each in content.parent.glob(f"{content.name}*"))


def _keep(name: str, plan: Plan, models: Mapping[str, bytes | None]) -> None:
    """Write a plan and its models into the cache."""
    from onnxcam.graph.apart import write_apart

    try:
        told = as_json(plan)
    except (TypeError, ValueError):
        return

    def write(folder: Path) -> None:
        (folder / PLAN).write_text(told, encoding="utf-8")
        for model, content in models.items():
            if content is not None:
                write_apart(content, folder / model, f"{model}{WEIGHTS}")

    cache.kept(name, write)


def _name(model: Any, asked: Asked) -> str | None:
    """What the entry is called. None for a model that cannot be told by its bytes, or only once: a pipe."""
    if not isinstance(model, (str, Path, bytes)):
        return None
    try:
        if not isinstance(model, bytes) and not Path(model).is_file():
            return None
        called, contents = _contents(model)
        return cache.key({"model": [called, *contents], **asdict(asked), "made by": _maker()})
    except (OSError, TypeError, ValueError):
        return None  # the reader says it better


def _contents(model: str | Path | bytes) -> tuple[str, list[str]]:
    """The name of a model, and the digests of its file and of those with its weights. OSError or ValueError
    where one cannot be read, or it is not clear which these are.
    """
    if isinstance(model, bytes):
        return "model", [_digest(model)]
    path = Path(model)
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        own, others = _digest(content), _locations(content)
    return path.name, [own, *(_digest_of(path.parent / each) for each in sorted(set(others)))]


def _locations(content: bytes | mmap) -> list[str]:
    """The files of external data that a model names, found without parsing it. ValueError if unsure."""
    found = []
    at = content.find(LOCATION)
    while at >= 0:
        start = at + len(LOCATION)
        told = content[start : start + LONGEST + 2]
        if len(told) < 2 or told[0] != VALUE or told[1] > LONGEST:
            raise ValueError("external data is not told as it usually is")
        found.append(told[2 : 2 + told[1]].decode())
        at = content.find(LOCATION, start)
    return found


def _digest(content: bytes | mmap) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=1)
def _maker() -> list[str]:
    """What a plan is made by: the sources of this package, and the versions of others."""
    root = Path(__file__).parent
    sources = hashlib.sha256()
    for each in sorted(root.rglob("*.py")):
        sources.update(each.read_bytes())
    return [sources.hexdigest(), *map(_version, PACKAGES)]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
