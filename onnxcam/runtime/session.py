"""A model that is ready to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnxruntime as ort

from onnxcam.arrays import Array
from onnxcam.errors import DeviceError, ModelError, RunError
from onnxcam.runtime.device import CUDA, Device

QUIET = 4  # fatal only: what goes wrong reaches the user as an error of ours


class OutOfMemoryError(RunError):
    """The device has no memory left for this many pictures at once."""


class Session:
    """One model on one device.

    Raises DeviceError if ONNX Runtime does not take the device that was asked for, ModelError if it
    does not take the model.
    """

    def __init__(self, content: bytes, device: Device, *, threads: int | None = None) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = QUIET
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = ort.InferenceSession(content, options, providers=device.providers)
        except Exception as fault:
            raise ModelError(f"ONNX Runtime does not take the model: {_said(fault)}") from fault
        self.device = device
        self.inputs = {each.name for each in self._session.get_inputs()}
        self.outputs = [each.name for each in self._session.get_outputs()]
        if device.kind == "cuda" and CUDA not in self.providers:
            raise DeviceError(
                f"device {device}: ONNX Runtime fell back to {', '.join(self.providers)}: its CUDA "
                "libraries are missing or do not fit (pip install 'onnxcam[cuda]'), or use --device cpu"
            )

    @property
    def providers(self) -> list[str]:
        """The execution providers that were given."""
        return list(self._session.get_providers())

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
        """The named outputs; only what they need is computed.

        Raises OutOfMemoryError, and RunError for any other failure.
        """
        options = ort.RunOptions()
        options.log_severity_level = QUIET
        options.only_execute_path_to_fetches = True
        try:
            found: list[Array] = self._session.run(list(outputs), dict(feeds), options)
        except MemoryError as fault:
            raise OutOfMemoryError("out of memory") from fault
        except Exception as fault:
            kind = OutOfMemoryError if _is_out_of_memory(str(fault)) else RunError
            raise kind(f"ONNX Runtime failed on {self.device}: {_said(fault)}") from fault
        return found


def _is_out_of_memory(message: str) -> bool:
    words = ("failed to allocate memory", "out of memory", "bad_alloc", "bad allocation")
    return any(each in message.lower() for each in words)


def _said(fault: BaseException) -> str:
    lines = [each.strip() for each in str(fault).splitlines() if each.strip()]
    return (lines[0] if lines else type(fault).__name__)[:300]


def versions() -> dict[str, str]:
    """Of the runtime, and the providers that it was built with."""
    return {"onnxruntime": ort.__version__, "providers": ", ".join(ort.get_available_providers())}
