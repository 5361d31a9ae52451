"""Turn a model file into sessions that can run: loaded from the cache, or planned and stored there for the
next time.

A cached model is run without importing onnx, and its weights are mapped from the file instead of being read.
The cache does not hold the model as ONNX Runtime optimizes it: that is specific to one processor, and with
mapped weights it starts only 0.1 s sooner (ResNet-18, Swin-T), or no sooner (ViT-B).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from onnxcam.arrays import Array
from onnxcam.dense import WHERE
from onnxcam.digests import digest_bytes
from onnxcam.errors import ModelError, OutOfMemoryError
from onnxcam.explain import cache
from onnxcam.explain.loaded_model import LoadedModel
from onnxcam.explain.model_files import ModelFiles, identify_files
from onnxcam.explain.plan_json import as_json, from_json
from onnxcam.explain.request_code import is_bundled
from onnxcam.model.input_values import digest_inputs
from onnxcam.regular_files import read_regular
from onnxcam.runtime.chunks import CHUNK, ChunkedRunner
from onnxcam.runtime.chunks import chunked_runner as make_chunked_runner
from onnxcam.runtime.device import Device, usable_cpus
from onnxcam.runtime.model_validity import blames_invalid_models
from onnxcam.runtime.session import Session, open_session
from onnxcam.specs import (
    CONSTANT,
    HEAD,
    MODEL,
    OFFSET,
    RANK,
    SAMPLE_INPUT,
    SAMPLED,
    SCALE,
    SEED,
    Plan,
    PlanRequest,
)

if TYPE_CHECKING:
    from onnxcam.model.model import Model

PACKAGES = ("onnxcam", "onnx", "onnx-graphsurgeon", "onnxruntime", "onnxruntime-gpu", "numpy")
MAX_PLAN_BYTES = 1 << 24  # bytes
MAX_REOPENED_BYTES = 256 << 20  # bytes; larger matrices keep all threads of one session busy
PLAN = "plan.json"
ZERO_PADDED = frozenset({SEED, RANK})  # inputs that are 0 where a fixed batch is filled up
WEIGHTS = ".weights"  # suffix of the file with a model's weights


@dataclass(frozen=True)
class CompiledModel:
    """A plan and a session for each of its models. `reopen` opens one once more with that many threads, if it
    is not too large. `key` names the entry in the cache, None if there is none.
    """

    plan: Plan
    sessions: Mapping[str, Session]
    reopen: Mapping[str, Callable[[int], Session]]
    key: str | None


def compile_model(
    model: str | Path | bytes | Model,
    request: PlanRequest,
    device: Device,
    *,
    cached: bool,
    inputs: Mapping[str, Array] = MappingProxyType({}),
    loaded: LoadedModel | None = None,
    size: tuple[int, int] | None = None,
) -> CompiledModel:
    """A model planned for a request (see `rewrite.planner.plan`), and opened on a device. `inputs` become
    constants of the model (see `model.load`). Not cached if the request names functions of other packages.
    `loaded` keeps the model for the next request. `size` (height, width) is fixed if gradients need it.
    """
    files = identify_files(model)
    is_cached = cached and files is not None and is_bundled(request)
    key = cache_key(files, request, inputs, size) if is_cached and files else None
    compiled = _load_cached(key, request, device) if key else None
    with blames_invalid_models(model):
        return compiled or _build(
            model, request, device, files, key, inputs, loaded or LoadedModel(), size
        )


def chunked_runners(compiled: CompiledModel, chunk: int | None) -> dict[str, ChunkedRunner]:
    """Runs of each model in chunks. The measured times of schedules are stored with the cache entry."""
    return {
        model: _chunked_runner(compiled, model, session, chunk)
        for model, session in compiled.sessions.items()
    }


def _chunked_runner(
    compiled: CompiledModel, model: str, session: Session, chunk: int | None
) -> ChunkedRunner:
    if model == CONSTANT:  # a few small operators
        batch = session.shapes[SEED][0]
        return ChunkedRunner(session, batch if isinstance(batch, int) else None, chunk or CHUNK)
    key, choice = compiled.key, schedule_choice(model)
    return make_chunked_runner(
        session,
        compiled.plan.image.batch,
        chunk,
        ZERO_PADDED,
        compiled.reopen.get(model),
        cache.get_choice(key, choice) if key else None,
        (lambda times: cache.set_choice(key, choice, times)) if key else None,
    )


def schedule_choice(model: str = MODEL) -> str:
    """The name under which the times of a model's schedules are stored."""
    return f"schedules of {model} on {usable_cpus()} CPUs"


def to_portable(model: Any) -> Path | bytes:
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


def cache_key(
    files: ModelFiles,
    request: PlanRequest,
    inputs: Mapping[str, Array] = MappingProxyType({}),
    size: tuple[int, int] | None = None,
) -> str:
    """The name of a cache entry: a digest of the model, of the values of its other inputs, of the size of the
    images if one is named, of all fields of the request, and of the program.
    """
    model = [files.name, files.digest, files.data, digest_inputs(inputs), size]
    return cache.key({"model": model, "request": asdict(request), "program": program_version()})


def _load_cached(key: str, request: PlanRequest, device: Device) -> CompiledModel | None:
    """The cached model if it can be run. Otherwise its entry is removed, to be built again."""
    entry_folder = cache.lookup(key)
    if entry_folder is None:
        return None
    with suppress(
        OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError, ModelError
    ):
        plan = from_json(read_regular(entry_folder / PLAN, MAX_PLAN_BYTES) or b"")
        contents = {model: entry_folder / file_of(model) for model in plan.models}
        compiled = _open(plan, contents, {}, device, key)
        if _has_planned_tensors(compiled, request):
            return compiled
    cache.forget(key)
    return None


def _has_planned_tensors(compiled: CompiledModel, request: PlanRequest) -> bool:
    """Whether the models have the inputs and outputs that the plan names, and the plan those of the request."""
    plan, session = compiled.plan, compiled.sessions[MODEL]
    image = session.shapes.get(plan.image.name)
    batch_sizes = {shape[0] for shape in session.shapes.values() if shape}
    seeds = [open_.shapes[SEED] for open_ in compiled.sessions.values() if SEED in open_.shapes]
    planned = {output.quantity for program in plan.programs for output in program.outputs}
    varied = {layer.name for layer in plan.layers} if HEAD in compiled.sessions else set()
    return (
        all(
            _has_inputs(open_, {plan.image.name, *varied, *plan.beside})
            for open_ in compiled.sessions.values()
        )
        and (image is None or _sizes_agree(image, plan.image.shape))
        and plan.image.batch in {None, 1, *batch_sizes}
        and all(_sizes_agree(shape[1:], plan.seed_shape) for shape in seeds)
        and {plan.explained_tensor, *plan.beside} <= {*session.outputs}
        and all(
            {*program.tensors} <= {*compiled.sessions[program.model].outputs}
            for program in plan.programs
            if program.outputs
        )
        and planned == {*request.quantities}
        and plan.target == request.target
    )


def _has_inputs(session: Session, images: set[str]) -> bool:
    """Whether all inputs are known: an image or activation, what samples add to it, and cotangents."""
    known = {*images, SEED, RANK, OFFSET, SCALE, WHERE}
    return all(name in known or name.startswith(SAMPLE_INPUT) for name in session.inputs)


def _sizes_agree(declared: Sequence[object], planned: Sequence[object]) -> bool:
    """Whether the ranks are equal, and the sizes that are numbers on both sides."""
    pairs = zip(declared, planned, strict=False)
    return len(declared) == len(planned) and all(
        first == second
        for first, second in pairs
        if isinstance(first, int) and isinstance(second, int)
    )


def _build(
    model: str | Path | bytes | Model,
    request: PlanRequest,
    device: Device,
    files: ModelFiles | None,
    key: str | None,
    inputs: Mapping[str, Array],
    loaded: LoadedModel,
    size: tuple[int, int] | None,
) -> CompiledModel:
    from onnxcam.explain.batch_trial import confirm_batch, with_batch_of_one
    from onnxcam.rewrite.planner import plan

    planned, models = plan(loaded.get(model, files, inputs, size), request)
    serialized = {name: model.content_and_weights() for name, model in models.items()}
    content, weights = serialized.get(SAMPLED, serialized[MODEL])  # the one with gradients
    try:
        planned = confirm_batch(planned, content, weights)
    except OutOfMemoryError:
        planned, key = with_batch_of_one(planned), None  # not cached: another run may have memory
    planned = replace(planned, data=_data_digest(model, files))
    contents = {name: content for name, (content, _) in serialized.items()}
    outside = {name: weights for name, (_, weights) in serialized.items() if weights}
    # If a file changed meanwhile, it is unknown which version was read.
    if key and not outside and files == identify_files(model):
        _store(key, planned, contents)
        if compiled := _load_cached(key, request, device):
            return compiled
    return _open(planned, contents, outside, device, None)


def _open(
    plan: Plan,
    contents: Mapping[str, bytes | Path],
    weights: Mapping[str, Mapping[str, Array]],
    device: Device,
    key: str | None,
) -> CompiledModel:
    """The models, all on the device of the first one. `weights` are those outside a model's content."""
    first = open_session(contents[MODEL], device, weights.get(MODEL))
    sessions = {MODEL: first} | {
        name: Session(content, first.device, weights.get(name))
        for name, content in contents.items()
        if name != MODEL
    }

    def reopener(name: str) -> Callable[[int], Session]:
        return lambda threads: Session(contents[name], first.device, threads=threads)

    small = [
        name
        for name, content in contents.items()
        if name not in weights and _size(content) <= MAX_REOPENED_BYTES
    ]
    return CompiledModel(plan, sessions, {name: reopener(name) for name in small}, key)


def file_of(model: str) -> str:
    """The name of the file with one of the models of a plan."""
    return f"{model}.onnx"


def _size(content: bytes | Path) -> int:
    """Bytes of a model in memory or in the cache."""
    if isinstance(content, bytes):
        return len(content)
    return sum(path.stat().st_size for path in content.parent.glob(f"{content.name}*"))


def _store(key: str, plan: Plan, models: Mapping[str, bytes]) -> None:
    """Write a plan and its models into the cache."""
    from onnxcam.model.external_data import write_with_external_data

    try:
        plan_text = as_json(plan)
    except (TypeError, ValueError):
        return

    def write(folder: Path) -> None:
        (folder / PLAN).write_text(plan_text, encoding="utf-8")
        for model, content in models.items():
            file = file_of(model)
            write_with_external_data(content, folder / file, f"{file}{WEIGHTS}")

    cache.store(key, write)


def _data_digest(model: object, files: ModelFiles | None) -> str:
    """The digest of the external data for the plan."""
    if files is not None:
        return cache.key(files.data) if files.data else ""
    return uuid4().hex if isinstance(model, (str, Path)) else ""


@lru_cache(maxsize=1)
def program_version() -> list[str]:
    """The digest of this package's sources, and the versions of the packages that plans depend on."""
    digest = digest_bytes(b"".join(path.read_bytes() for path in sources()))
    return [digest, *map(_version, PACKAGES)]


def sources() -> list[Path]:
    """All source files of the package."""
    return sorted(Path(__file__).parents[1].rglob("*.py"))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
