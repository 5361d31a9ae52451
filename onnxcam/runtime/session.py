"""Sessions of ONNX Runtime that raise the errors of onnxcam."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort

from onnxcam.arrays import Array
from onnxcam.errors import (
    DeviceError,
    ModelError,
    OnnxcamError,
    OutOfMemoryError,
    RunError,
    first_line,
)
from onnxcam.runtime.device import CUDA, Device, find_device
from onnxcam.runtime.fork import abandon, watch

FeedValue: TypeAlias = Array | ort.OrtValue
# Threads that spin while they wait for work take a core from other runs: parallel runs take 15 % longer.
NO_SPINNING = ("session.force_spinning_stop", "1")
# bytes of a model in memory that is stored to be opened again after a fork
MAX_REOPENABLE_BYTES = 256 << 20
QUIET = 4  # fatal only: failures reach the user as errors of our own
ort.set_default_logger_severity(QUIET)
ONE_THREAD = (
    "runs on one thread: the system allows no more threads for this process (see `ulimit -u`, or the limits "
    "of the container)"
)


@contextmanager
def memory_errors(activity: str) -> Iterator[None]:
    """Raise an OutOfMemoryError if memory runs out outside ONNX Runtime, too."""
    try:
        yield
    except MemoryError as error:
        raise OutOfMemoryError(
            f"out of memory {activity}; close other programs, or use a smaller image or model, or fewer samples"
        ) from error
    except ImportError as error:
        if "failed to map segment" not in str(error):
            raise
        raise OutOfMemoryError(
            f"out of memory {activity}: a library could not be loaded"
        ) from error


class Session:
    """One model, given as the content of an .onnx file or its path, on one device. `weights` are those that a
    model of more than 2 GB has outside its content (`Model.content_and_weights`); they are not copied.

    DeviceError if ONNX Runtime does not provide the requested device, ModelError if it does not open the model.
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
        options.add_session_config_entry(*NO_SPINNING)
        if threads is not None:
            options.intra_op_num_threads = threads
        self.notices: tuple[str, ...] = ()
        try:
            self._weights = [
                ort.OrtValue.ortvalue_from_numpy(array) for array in (weights or {}).values()
            ]
            options.add_external_initializers(list(weights or {}), self._weights)
            self._session: Any = _inference_session(content, options, device)
        except Exception as error:
            if not _lacks_threads(error):
                raise _translate(error, device) from error
            options.intra_op_num_threads = 1  # the calling thread does the work
            try:
                self._session = _inference_session(content, options, device)
            except Exception as second_error:
                raise _translate(second_error, device) from second_error
            self.notices = (ONE_THREAD,)
        is_reopenable = isinstance(content, Path) or len(content) <= MAX_REOPENABLE_BYTES
        self._source = (content, options) if is_reopenable else None
        self.device = device
        watch(self)
        inputs = self._live.get_inputs()
        self.shapes = {node.name: list(node.shape) for node in inputs}
        self.dtypes = {node.name: _dtype_of(node.type) for node in inputs}
        self.inputs = {*self.shapes}
        self.outputs = [output.name for output in self._live.get_outputs()]
        if device.kind == "cuda" and CUDA not in self.providers:
            raise DeviceError(
                f"device {device}: ONNX Runtime fell back to {', '.join(self.providers)}: its CUDA "
                "libraries are missing or have the wrong version; pip install 'onnxcam[cuda]', or use "
                "--device cpu"
            )

    @property
    def _live(self) -> Any:
        """ONNX Runtime's session; opened again in a process that was forked since."""
        if self._session is None:
            if self._source is None or self.device.kind != "cpu":
                cause = "CUDA" if self.device.kind != "cpu" else "a model of this size in memory"
                raise RunError(
                    f"{cause} cannot be used in a process that was forked after the model was opened; "
                    "create the explainer in that process, or start it with spawn"
                )
            try:
                self._session = _inference_session(*self._source, self.device)
            except Exception as error:
                raise _translate(error, self.device) from error
        return self._session

    def renew(self) -> None:
        """Leave a session that was opened before a fork to the process that opened it."""
        abandon(self._session)
        self._session = None

    @property
    def providers(self) -> list[str]:
        """The execution providers that are used."""
        return list(self._live.get_providers())

    def to_device(self, array: Array) -> FeedValue:
        """The array in the memory of the device, to be fed many times; unchanged on a CPU."""
        if self.device.kind == "cpu":
            return array
        return ort.OrtValue.ortvalue_from_numpy(array, self.device.kind, self.device.index)

    def run(self, outputs: Sequence[str], feeds: Mapping[str, FeedValue]) -> list[Array]:
        """Compute the named outputs, and only what they need (ONNX Runtime 1.31 still computes everything).

        Raises OutOfMemoryError, and RunError for any other failure.
        """
        options = ort.RunOptions()
        options.log_severity_level = QUIET
        options.only_execute_path_to_fetches = True
        session = self._live
        try:
            if any(isinstance(value, ort.OrtValue) for value in feeds.values()):
                return _run_on_device(session, outputs, feeds, options)
            arrays: list[Array] = session.run(list(outputs), dict(feeds), options)
        except MemoryError as error:
            raise OutOfMemoryError("out of memory") from error
        except Exception as error:
            kind = OutOfMemoryError if _is_out_of_memory(str(error)) else RunError
            raise kind(f"ONNX Runtime failed on {self.device}: {first_line(error)}") from error
        return arrays


def _run_on_device(
    session: Any, outputs: Sequence[str], feeds: Mapping[str, FeedValue], options: ort.RunOptions
) -> list[Array]:
    values = {
        name: value
        if isinstance(value, ort.OrtValue)
        else ort.OrtValue.ortvalue_from_numpy(np.asarray(value, order="C"))
        for name, value in feeds.items()
    }
    results = session.run_with_ort_values(list(outputs), values, options)
    return [result.numpy() for result in results]


def refusal(content: bytes, weights: Mapping[str, Array] | None = None) -> str | None:
    """Why ONNX Runtime does not open the content of an .onnx file; None if it does."""
    try:
        open_session(content, find_device("auto"), weights)
    except (ModelError, OutOfMemoryError) as error:
        return first_line(error.__cause__ or error)
    return None


def open_session(
    content: bytes | Path, device: Device, weights: Mapping[str, Array] | None = None
) -> Session:
    """A session on the device; on the CPU, with a notice, if the device was chosen automatically and fails."""
    try:
        return Session(content, device, weights)
    except DeviceError as error:
        if device.required or device.kind == "cpu":
            raise
        session = Session(content, Device("cpu"), weights)
        session.notices = (*session.notices, f"runs on the CPU: {error}")
        return session


def _inference_session(content: bytes | Path, options: Any, device: Device) -> Any:
    return ort.InferenceSession(content, options, providers=device.providers, enable_fallback=0)


def _dtype_of(kind: str) -> np.dtype[Any] | None:
    """The dtype of ONNX Runtime's "tensor(float16)"; None for what NumPy lacks."""
    name = kind.removeprefix("tensor(").removesuffix(")").replace("double", "float64")
    try:
        return np.dtype("float32" if name == "float" else name)
    except TypeError:
        return None


def _lacks_threads(error: Exception) -> bool:
    words = ("pthread_create failed", "_beginthreadex", "resource temporarily unavailable")
    return any(word in str(error).lower() for word in words)


def _translate(error: Exception, device: Device) -> OnnxcamError:
    """onnxcam's error for a failure to open a model: the memory, the device, or the model."""
    if isinstance(error, MemoryError) or _is_out_of_memory(str(error)):
        return OutOfMemoryError(f"the model does not fit into the memory of {device}")
    if device.kind == "cuda" and "cuda" in str(error).lower():
        return DeviceError(f"device {device}: {first_line(error)}; use --device cpu")
    return ModelError(f"ONNX Runtime cannot open the model: {first_line(error)}")


def _is_out_of_memory(message: str) -> bool:
    words = (
        *("failed to allocate memory", "out of memory", "bad_alloc", "bad allocation"),
        *("alloc_failed", "smaller than requested bytes"),
    )
    return any(word in message.lower() for word in words)


def versions() -> dict[str, str]:
    """The version of ONNX Runtime, and the providers that it was built with."""
    return {"onnxruntime": ort.__version__, "providers": ", ".join(ort.get_available_providers())}
