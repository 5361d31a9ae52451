"""A model that is ready to run: found in the cache, or loaded, planned, and kept there for the next time.

What is found there is run without importing onnx, and its weights are mapped from the file instead of read. The
model as ONNX Runtime optimises it is not what is kept: it belongs to one processor, and with mapped weights
it starts only 0.1 s sooner (ResNet-18, Swin-T), or no sooner (ViT-B).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from onnxcam.arrays import Array
from onnxcam.errors import ModelError, OutOfMemoryError
from onnxcam.explain import cache
from onnxcam.explain.plan_json import as_json, from_json
from onnxcam.methods import Recipe
from onnxcam.model.data_files import locate_data
from onnxcam.regular_files import (
    BLOCK,
    block_digest,
    digest_blocks,
    joined_digest,
    map_blocks,
    read_regular,
)
from onnxcam.runtime.device import Device
from onnxcam.runtime.model_validity import blames_invalid_models
from onnxcam.runtime.session import Session, open_session
from onnxcam.specs import NOISE, POWERS, SEED, SPREAD, Plan, moment

if TYPE_CHECKING:
    from onnxcam.model.model import Model

PACKAGES = ("onnxcam", "onnx", "onnx-graphsurgeon", "onnxruntime", "onnxruntime-gpu", "numpy")
LARGEST = 1 << 32  # bytes of the files of a model that is kept; a plan is of one below 2 GB
LARGEST_PLAN = 1 << 24
LARGEST_TWICE = (
    256 << 20
)  # bytes of a model that is opened twice; large matrices use all threads well
MODEL, GRADIENTS, PLAN = "model.onnx", "gradients.onnx", "plan.json"
WEIGHTS = ".weights"  # behind the name of the model whose they are
# An entry of `external_data` in a protocol buffer: key (field 1) "location", value (field 2)
LOCATION = b"\x0a\x08location"
VALUE, LONGEST = 0x12, 127  # more bytes take a longer length than one byte


@dataclass(frozen=True)
class PlanRequest:
    """Everything besides the model that a plan depends on. The planner gets nothing else, so that the name of
    an entry cannot miss anything.
    """

    rules: str
    smooths: bool
    layers: tuple[str, ...]
    output: str | None
    probability: bool


class Contents(NamedTuple):
    """What identifies the files of a model: the name and digest of its own file, and the digests of external
    data by name. `state` changes when a file is replaced, even by the same bytes.
    """

    name: str
    digest: str
    data: dict[str, str]
    state: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class CompiledModel:
    """A plan and a session that runs it; `backward` runs the gradients that have a model of their own, and
    `again` opens the first once more on so many threads. `name` is what the cache calls it, None where it
    is not kept.
    """

    plan: Plan
    session: Session
    backward: Session | None
    again: Callable[[int], Session] | None
    name: str | None


def compile_model(
    model: str | Path | bytes | Model,
    recipe: Recipe,
    layer: str | Sequence[str],
    output: str | None,
    device: Device,
    *,
    probability: bool,
    cached: bool,
) -> CompiledModel:
    """A model planned for a method (see `rewrite.plan.plan`)."""
    layers = (layer,) if isinstance(layer, str) else tuple(layer)
    asked = PlanRequest(recipe.rules, recipe.smooths, layers, output, probability)
    contents = _contents(model)
    name = _name(contents, asked) if cached and contents else None
    found = _found(name, asked, device) if name else None
    with blames_invalid_models(model):
        return found or _planned(model, asked, device, contents, name)


def portable(model: Any) -> Path | bytes:
    """A model in a form that another process can open. ModelError for a loaded `Model`."""
    if isinstance(model, bytes):
        return model
    if isinstance(model, (str, Path)):
        return Path(model).absolute()
    if hasattr(model, "SerializeToString"):
        return bytes(model.SerializeToString())
    raise ModelError(
        f"{model.name}: an explainer of a loaded model cannot be pickled; create it from the path of the "
        "file, or from its bytes"
    )


def _found(name: str, asked: PlanRequest, device: Device) -> CompiledModel | None:
    """What the cache has, if it can be run; otherwise it is removed, to be made again."""
    entry = cache.lookup(name)
    if entry is None:
        return None
    with suppress(
        OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError, ModelError
    ):
        plan = from_json(read_regular(entry / PLAN, LARGEST_PLAN) or b"")
        gradients = entry / GRADIENTS if plan.has_gradient_model else None
        cached = _opened(plan, entry / MODEL, {}, gradients, device, name)
        if _fits(cached, asked):
            return cached
    cache.forget(name)
    return None


def _fits(cached: CompiledModel, asked: PlanRequest) -> bool:
    """Whether the models have the inputs and outputs that the plan names."""
    plan, session, runs = cached.plan, cached.session, cached.backward or cached.session
    image, seed = session.shapes.get(plan.image.name), runs.shapes.get(SEED, [])
    batches = {shape[0] for shape in session.shapes.values() if shape}
    moments = {moment(power, name) for name in plan.activations for power in POWERS}
    gradients = moments if asked.smooths and not plan.gradient_is_constant else {*plan.gradients}
    return (
        {*session.inputs, *runs.inputs} <= {plan.image.name, SEED, NOISE, SPREAD}
        and (image is None or _agree(image, plan.image.shape))
        and plan.image.batch in {None, 1, *batches}
        and _agree(seed[1:], plan.seed_shape)
        and {plan.explained_tensor, *plan.activations} <= {*session.outputs}
        and gradients <= {*runs.outputs}
    )


def _agree(declared: Sequence[object], sizes: Sequence[object]) -> bool:
    """Whether the sizes that are known on both sides are equal."""
    pairs = zip(declared, sizes, strict=False)
    return len(declared) == len(sizes) and all(
        one == other for one, other in pairs if isinstance(one, int) and isinstance(other, int)
    )


def _planned(
    model: str | Path | bytes | Model,
    asked: PlanRequest,
    device: Device,
    contents: Contents | None,
    name: str | None,
) -> CompiledModel:
    from onnxcam.explain.batch_trial import confirm_batch, one_at_a_time
    from onnxcam.explain.free_batch_proof import free_batch_if_proven
    from onnxcam.model.load import load
    from onnxcam.model.model import Model
    from onnxcam.rewrite.planner import plan

    loaded = free_batch_if_proven(model if isinstance(model, Model) else load(model))
    made, augmented, alone = plan(
        loaded, asked, asked.layers, asked.output, probability=asked.probability
    )
    content, weights = augmented.content_and_weights()
    try:
        made = confirm_batch(made, content, weights, smooths=asked.smooths)
    except OutOfMemoryError:
        made, name = one_at_a_time(made), None  # not cached: another run may have more memory
    made = replace(made, data=_data(model, contents))
    gradients = alone.bytes() if alone else None
    # of a file that changed meanwhile it is not known what was read
    if name and not weights and contents == _contents(model):
        _keep(name, made, {MODEL: content, GRADIENTS: gradients})
        if found := _found(name, asked, device):
            return found
    return _opened(made, content, weights, gradients, device, None)


def _opened(
    plan: Plan,
    content: bytes | Path,
    weights: Mapping[str, Array],
    gradients: bytes | Path | None,
    device: Device,
    name: str | None,
) -> CompiledModel:
    session = open_session(content, device, weights)
    backward = Session(gradients, session.device) if gradients else None

    def again(threads: int) -> Session:
        return Session(content, session.device, weights, threads=threads)

    small = not weights and _size(content) <= LARGEST_TWICE
    return CompiledModel(plan, session, backward, again if small else None, name)


def _size(content: bytes | Path) -> int:
    """Bytes of a model in memory or in the cache."""
    if isinstance(content, bytes):
        return len(content)
    return sum(each.stat().st_size for each in content.parent.glob(f"{content.name}*"))


def _keep(name: str, plan: Plan, models: Mapping[str, bytes | None]) -> None:
    """Write a plan and its models into the cache."""
    from onnxcam.model.external_data import write_with_external_data

    try:
        told = as_json(plan)
    except (TypeError, ValueError):
        return

    def write(folder: Path) -> None:
        (folder / PLAN).write_text(told, encoding="utf-8")
        for model, content in models.items():
            if content is not None:
                write_with_external_data(content, folder / model, f"{model}{WEIGHTS}")

    cache.store(name, write)


def _name(contents: Contents, asked: PlanRequest) -> str:
    """The name of the entry, a digest of everything that it depends on."""
    model = [contents.name, contents.digest, contents.data]
    return cache.key({"model": model, **asdict(asked), "made by": _maker()})


def _data(model: object, contents: Contents | None) -> str:
    """The digest of external data, for the plan."""
    if contents is not None:
        return cache.key(contents.data) if contents.data else ""
    return uuid4().hex if isinstance(model, (str, Path)) else ""


def _contents(model: object) -> Contents | None:
    """What the model's files hold. None if they can be read only once (a pipe) or not at all, or if it is not
    clear which files these are: loading the model gives a better error.
    """
    try:
        if isinstance(model, bytes):
            if _locations(model):
                return None  # its external data may be anywhere
            return Contents("model", hashlib.sha256(model).hexdigest(), {}, ())
        return _contents_of(Path(model)) if isinstance(model, (str, Path)) else None
    except (OSError, ValueError, ModelError):
        return None


def _contents_of(path: Path) -> Contents:
    """Of a file, and of those with its weights. OSError, ValueError, or ModelError if that is not known."""
    state = [_state(path)]
    blocks = map_blocks(path, _scanned, len(LOCATION) + LONGEST + 2)
    names = sorted({name for _, locations in blocks for name in locations})
    paths = {name: locate_data(path, name) for name in names}
    state += map(_state, paths.values())
    if sum(size for _, size, *_ in state) > LARGEST:
        raise ValueError("larger than what is kept")
    data = {name: digest_blocks(file) for name, file in paths.items()}
    return Contents(path.name, joined_digest(digest for digest, _ in blocks), data, tuple(state))


def _state(path: Path) -> tuple[int, ...]:
    """What changes when a file is written to or replaced, even by the same bytes."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _scanned(content: bytes) -> tuple[bytes, list[str]]:
    """The digest of a block, and the external data files whose names begin in it."""
    return block_digest(content), _locations(content, BLOCK)


def _locations(content: bytes, stop: int | None = None) -> list[str]:
    """The external data files that a model names before the offset `stop`, found without parsing it.
    ValueError if unsure.
    """
    found = []
    at = content.find(LOCATION)
    while at >= 0 and (stop is None or at < stop):
        start = at + len(LOCATION)
        told = content[start : start + LONGEST + 2]
        if len(told) < 2 or told[0] != VALUE or told[1] > LONGEST:
            raise ValueError("external data is not told as it usually is")
        found.append(told[2 : 2 + told[1]].decode())
        at = content.find(LOCATION, start)
    return found


@lru_cache(maxsize=1)
def _maker() -> list[str]:
    """What a plan is made by: the sources of this package, and the versions of others."""
    digest = hashlib.sha256()
    for path in sources():
        digest.update(path.read_bytes())
    return [digest.hexdigest(), *map(_version, PACKAGES)]


def sources() -> list[Path]:
    """All source files of the package."""
    return sorted(Path(__file__).parents[1].rglob("*.py"))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
