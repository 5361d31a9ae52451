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
from onnxcam.digests import digest_bytes
from onnxcam.errors import ModelError, OutOfMemoryError
from onnxcam.explain import cache
from onnxcam.explain.model_files import ModelFiles, identify_files
from onnxcam.explain.plan_json import as_json, from_json
from onnxcam.model.input_values import digest_inputs
from onnxcam.regular_files import read_regular
from onnxcam.runtime.chunks import ChunkedRunner
from onnxcam.runtime.chunks import chunked_runner as make_chunked_runner
from onnxcam.runtime.device import Device, usable_cpus
from onnxcam.runtime.model_validity import blames_invalid_models
from onnxcam.runtime.session import Session, open_session
from onnxcam.specs import NOISE, POWERS, SEED, SPREAD, Plan, PlanRequest, moment

if TYPE_CHECKING:
    from onnxcam.model.model import Model

PACKAGES = ("onnxcam", "onnx", "onnx-graphsurgeon", "onnxruntime", "onnxruntime-gpu", "numpy")
MAX_PLAN_BYTES = 1 << 24  # bytes
MAX_REOPENED_BYTES = 256 << 20  # bytes; larger matrices keep all threads of one session busy
MODEL, GRADIENTS, PLAN = "model.onnx", "gradients.onnx", "plan.json"
WEIGHTS = ".weights"  # suffix of the file with a model's weights


@dataclass(frozen=True)
class CompiledModel:
    """A plan and a session that runs it. `backward` runs the gradients if they have a model of their own;
    `reopen` opens the first model once more with that many threads. `key` names the entry in the cache, None if
    there is none.
    """

    plan: Plan
    session: Session
    backward: Session | None
    reopen: Callable[[int], Session] | None
    key: str | None


def compile_model(
    model: str | Path | bytes | Model,
    request: PlanRequest,
    device: Device,
    *,
    cached: bool,
    inputs: Mapping[str, Array] = MappingProxyType({}),
) -> CompiledModel:
    """A model planned for a request (see `rewrite.planner.plan`), and opened on a device. `inputs` become
    constants of the model (see `model.load`).
    """
    files = identify_files(model)
    key = cache_key(files, request, inputs) if cached and files else None
    compiled = _load_cached(key, request, device) if key else None
    with blames_invalid_models(model):
        return compiled or _build(model, request, device, files, key, inputs)


def chunked_runner(compiled: CompiledModel, chunk: int | None) -> ChunkedRunner:
    """Runs of a compiled model in chunks. The measured times of schedules are stored with its cache entry."""
    key, choice = compiled.key, schedule_choice()
    return make_chunked_runner(
        compiled.session,
        compiled.plan.image.batch,
        chunk,
        frozenset({SEED}),
        compiled.reopen,
        cache.get_choice(key, choice) if key else None,
        (lambda times: cache.set_choice(key, choice, times)) if key else None,
    )


def schedule_choice() -> str:
    """The name under which the times of schedules are stored."""
    return f"schedules on {usable_cpus()} CPUs"


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
    files: ModelFiles, request: PlanRequest, inputs: Mapping[str, Array] = MappingProxyType({})
) -> str:
    """The name of a cache entry: a digest of the model, of the values of its other inputs, of all fields of the
    request, and of the program.
    """
    model = [files.name, files.digest, files.data, digest_inputs(inputs)]
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
        gradients = entry_folder / GRADIENTS if plan.has_gradient_model else None
        compiled = _open(plan, entry_folder / MODEL, {}, gradients, device, key)
        if _has_planned_tensors(compiled, request):
            return compiled
    cache.forget(key)
    return None


def _has_planned_tensors(compiled: CompiledModel, request: PlanRequest) -> bool:
    """Whether the models have the inputs and outputs that the plan names."""
    plan, session = compiled.plan, compiled.session
    backward = compiled.backward or session
    image, seed = session.shapes.get(plan.image.name), backward.shapes.get(SEED, [])
    batch_sizes = {shape[0] for shape in session.shapes.values() if shape}
    moments = {moment(power, name) for name in plan.activations for power in POWERS}
    is_summed = request.smooths and not plan.gradient_is_constant
    return (
        {*session.inputs, *backward.inputs} <= {plan.image.name, SEED, NOISE, SPREAD}
        and (image is None or _sizes_agree(image, plan.image.shape))
        and plan.image.batch in {None, 1, *batch_sizes}
        and _sizes_agree(seed[1:], plan.seed_shape)
        and {plan.explained_tensor, *plan.activations} <= {*session.outputs}
        and (moments if is_summed else {*plan.gradients}) <= {*backward.outputs}
    )


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
) -> CompiledModel:
    from onnxcam.explain.batch_trial import confirm_batch, with_batch_of_one
    from onnxcam.explain.free_batch_proof import free_batch_if_proven
    from onnxcam.model.load import bind_inputs, load
    from onnxcam.model.model import Model
    from onnxcam.rewrite.planner import plan

    loaded = bind_inputs(model, inputs) if isinstance(model, Model) else load(model, inputs)
    loaded = free_batch_if_proven(loaded)
    planned, augmented, gradient_model = plan(loaded, request)
    content, weights = augmented.content_and_weights()
    try:
        planned = confirm_batch(planned, content, weights, smooths=request.smooths)
    except OutOfMemoryError:
        planned, key = with_batch_of_one(planned), None  # not cached: another run may have memory
    planned = replace(planned, data=_data_digest(model, files))
    gradients = gradient_model.bytes() if gradient_model else None
    # If a file changed meanwhile, it is unknown which version was read.
    if key and not weights and files == identify_files(model):
        _store(key, planned, {MODEL: content, GRADIENTS: gradients})
        if compiled := _load_cached(key, request, device):
            return compiled
    return _open(planned, content, weights, gradients, device, None)


def _open(
    plan: Plan,
    content: bytes | Path,
    weights: Mapping[str, Array],
    gradients: bytes | Path | None,
    device: Device,
    key: str | None,
) -> CompiledModel:
    session = open_session(content, device, weights)
    backward = Session(gradients, session.device) if gradients else None

    def reopen(threads: int) -> Session:
        return Session(content, session.device, weights, threads=threads)

    small = not weights and _size(content) <= MAX_REOPENED_BYTES
    return CompiledModel(plan, session, backward, reopen if small else None, key)


def _size(content: bytes | Path) -> int:
    """Bytes of a model in memory or in the cache."""
    if isinstance(content, bytes):
        return len(content)
    return sum(path.stat().st_size for path in content.parent.glob(f"{content.name}*"))


def _store(key: str, plan: Plan, models: Mapping[str, bytes | None]) -> None:
    """Write a plan and its models into the cache."""
    from onnxcam.model.external_data import write_with_external_data

    try:
        plan_text = as_json(plan)
    except (TypeError, ValueError):
        return

    def write(folder: Path) -> None:
        (folder / PLAN).write_text(plan_text, encoding="utf-8")
        for model, content in models.items():
            if content is not None:
                write_with_external_data(content, folder / model, f"{model}{WEIGHTS}")

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
