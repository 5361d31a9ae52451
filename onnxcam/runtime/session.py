"""A model that is ready to run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort

from onnxcam.arrays import Array
from onnxcam.errors import DeviceError, ModelError, OnnxcamError, OutOfMemoryError, RunError
from onnxcam.runtime.device import CUDA, Device
from onnxcam.runtime.device import device as find_device
from onnxcam.runtime.fork import abandon, watch

FeedValue: TypeAlias = Array | ort.OrtValue
# Threads that wait for work take a core from whatever runs next: runs in lanes take 15 % longer beside them.
REST = ("session.force_spinning_stop", "1")
KEPT = 256 << 20  # bytes of a model in memory that are kept to open it again after a fork
QUIET = 4  # fatal only: what goes wrong reaches the user as an error of ours
ort.set_default_logger_severity(QUIET)
ONE_THREAD = (
    "runs on one thread: the system allows no more threads for this process (see `ulimit -u`, or the limits "
    "of the container)"
)


@contextmanager
def memory_errors(doing: str) -> Iterator[None]:
    """Raise one clear error also if memory runs out outside of ONNX Runtime."""
    try:
        yield
    except MemoryError as fault:
        raise OutOfMemoryError(
            f"out of memory {doing}; close other programs, or use a smaller image or model, or fewer samples"
        ) from fault
    except ImportError as fault:
        if "failed to map segment" not in str(fault):
            raise
        raise OutOfMemoryError(f"out of memory {doing}: a library could not be loaded") from fault


class Session:
    """One model, the content of an .onnx file or its path, on one device. `weights` are those that a model of
    more than 2 GB has outside of its content (`Model.parts`); they are read where they are, not copied.

    Raises DeviceError if ONNX Runtime does not take the device that was asked for, ModelError if it
    does not take the model.
    """

    def __init__(
        self,
        content: bytes | Path,
        device: Device,
        weights: Mapping[str, Array] | None = None,
        *,
        threads: int | None = None,
    ) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = QUIET
        options.add_session_config_entry(*REST)
        if threads is not None:
            options.intra_op_num_threads = threads
        self.notices: tuple[str, ...] = ()
        try:
            self._weights = [
                ort.OrtValue.ortvalue_from_numpy(each) for each in (weights or {}).values()
            ]
            options.add_external_initializers(list(weights or {}), self._weights)
            self._session: Any = _inference_session(content, options, device)
        except Exception as fault:
            if not _lacks_threads(fault):
                raise _refused(fault, device) from fault
            options.intra_op_num_threads = 1  # the calling thread does the work
            try:
                self._session = _inference_session(content, options, device)
            except Exception as failure:
                raise _refused(failure, device) from failure
            self.notices = (ONE_THREAD,)
        small = isinstance(content, Path) or len(content) <= KEPT
        self._source = (content, options) if small else None
        self.device = device
        watch(self)
        self.shapes = {node.name: list(node.shape) for node in self._live.get_inputs()}
        self.inputs = {*self.shapes}
        self.outputs = [each.name for each in self._live.get_outputs()]
        if device.kind == "cuda" and CUDA not in self.providers:
            raise DeviceError(
                f"device {device}: ONNX Runtime fell back to {', '.join(self.providers)}: its CUDA "
                "libraries are missing or do not fit (pip install 'onnxcam[cuda]'), or use --device cpu"
            )

    @property
    def _live(self) -> Any:
        """What runs the model; opened again in a process that was forked since."""
        if self._session is None:
            if self._source is None or self.device.kind != "cpu":
                what = "CUDA" if self.device.kind != "cpu" else "a model of this size in memory"
                raise RunError(
                    f"{what} cannot be used in a process that was forked after the model was opened; "
                    "create the explainer in that process, or start it with spawn"
                )
            try:
                self._session = _inference_session(*self._source, self.device)
            except Exception as fault:
                raise _refused(fault, self.device) from fault
        return self._session

    def renew(self) -> None:
        """Leave what was opened before a fork to the process that opened it."""
        abandon(self._session)
        self._session = None

    @property
    def providers(self) -> list[str]:
        """The execution providers that were given."""
        return list(self._live.get_providers())

    def placed(self, array: Array) -> FeedValue:
        """The array, to be fed many times: put where the model runs, if that has memory of its own."""
        if self.device.kind == "cpu":
            return array
        return ort.OrtValue.ortvalue_from_numpy(array, self.device.kind, self.device.index)

    def run(self, outputs: Sequence[str], feeds: Mapping[str, FeedValue]) -> list[Array]:
        """The named outputs. ONNX Runtime is asked to compute only what they need (1.31 computes everything).

        Raises OutOfMemoryError, and RunError for any other failure.
        """
        options = ort.RunOptions()
        options.log_severity_level = QUIET
        options.only_execute_path_to_fetches = True
        session = self._live
        try:
            if any(isinstance(each, ort.OrtValue) for each in feeds.values()):
                return _run_placed(session, outputs, feeds, options)
            found: list[Array] = session.run(list(outputs), dict(feeds), options)
        except MemoryError as fault:
            raise OutOfMemoryError("out of memory") from fault
        except Exception as fault:
            kind = OutOfMemoryError if _is_out_of_memory(str(fault)) else RunError
            raise kind(f"ONNX Runtime failed on {self.device}: {first_said(fault)}") from fault
        return found


def _run_placed(
    session: Any, outputs: Sequence[str], feeds: Mapping[str, FeedValue], options: ort.RunOptions
) -> list[Array]:
    values = {
        name: each
        if isinstance(each, ort.OrtValue)
        else ort.OrtValue.ortvalue_from_numpy(np.asarray(each, order="C"))
        for name, each in feeds.items()
    }
    found = session.run_with_ort_values(list(outputs), values, options)
    return [each.numpy() for each in found]


def refusal(content: bytes, weights: Mapping[str, Array] | None = None) -> str | None:
    """Why ONNX Runtime does not take the content of an .onnx file; None if it does."""
    try:
        open_session(content, find_device("auto"), weights)
    except (ModelError, OutOfMemoryError) as error:
        return str(error.__cause__ or error).split("\n")[0]
    return None


def open_session(
    content: bytes | Path, device: Device, weights: Mapping[str, Array] | None = None
) -> Session:
    """A session on the device; on the CPU, with a notice, where the device was chosen by itself and does
    not work.
    """
    try:
        return Session(content, device, weights)
    except DeviceError as fault:
        if device.required or device.kind == "cpu":
            raise
        session = Session(content, Device("cpu"), weights)
        session.notices = (*session.notices, f"runs on the CPU: {fault}")
        return session


def _inference_session(content: bytes | Path, options: Any, device: Device) -> Any:
    return ort.InferenceSession(content, options, providers=device.providers, enable_fallback=0)


def _lacks_threads(fault: Exception) -> bool:
    words = ("pthread_create failed", "_beginthreadex", "resource temporarily unavailable")
    return any(word in str(fault).lower() for word in words)


def _refused(fault: Exception, device: Device) -> OnnxcamError:
    """Whether it was the memory, the device, or the model."""
    if isinstance(fault, MemoryError) or _is_out_of_memory(str(fault)):
        return OutOfMemoryError(f"the model does not fit into the memory of {device}")
    if device.kind == "cuda" and "cuda" in str(fault).lower():
        return DeviceError(f"device {device}: {first_said(fault)}; use --device cpu")
    return ModelError(f"ONNX Runtime does not take the model: {first_said(fault)}")


def _is_out_of_memory(message: str) -> bool:
    words = (
        *("failed to allocate memory", "out of memory", "bad_alloc", "bad allocation"),
        *("alloc_failed", "smaller than requested bytes"),
    )
    return any(each in message.lower() for each in words)


def first_said(fault: BaseException) -> str:
    """The first line of what ONNX Runtime says of a failure."""
    lines = [each.strip() for each in str(fault).splitlines() if each.strip()]
    return (lines[0] if lines else type(fault).__name__)[:300]


def versions() -> dict[str, str]:
    """Of the runtime, and the providers that it was built with."""
    return {"onnxruntime": ort.__version__, "providers": ", ".join(ort.get_available_providers())}
