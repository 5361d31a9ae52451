"""Which device a model runs on: the requested one, or an error; never a silent fallback."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO

import onnxruntime as ort

from onnxcam.errors import DeviceError

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@dataclass(frozen=True)
class Device:
    """A kind, "cpu" or "cuda", and its index; not `required` if it was chosen automatically. With `tf32`, the
    factors of products are rounded to eleven bits, as ONNX Runtime does on CUDA by default.
    """

    kind: str
    index: int = 0
    required: bool = True
    tf32: bool = False

    def __str__(self) -> str:
        if self.kind == "cpu":
            return self.kind
        return f"{self.kind}:{self.index}{'+tf32' if self.tf32 else ''}"

    @property
    def providers(self) -> list[str | tuple[str, dict[str, str]]]:
        """The execution providers for ONNX Runtime."""
        if self.kind == "cpu":
            return [CPU]
        options = {"device_id": str(self.index), "use_tf32": str(int(self.tf32))}
        return [(CUDA, options), CPU]


def usable_cpus() -> int:
    """How many CPUs this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@lru_cache(maxsize=1)
def cuda_device_count() -> int:
    """How many CUDA devices the driver has; 0 without a driver. ONNX Runtime prints errors if it is asked for
    CUDA where there is none, so the driver is checked first.
    """
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        has_driver = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    except (OSError, AttributeError):
        return 0
    return count.value if has_driver else 0


def find_device(name: str) -> Device:
    """The device with this name: auto, cpu, cuda, cuda:N, cuda+tf32, or cuda:N+tf32.

    Raises DeviceError, with the reason and what to do, for a missing device or an unknown name.
    """
    parts = re.fullmatch(r"(auto|cpu|cuda)(?::(\d+))?(\+tf32)?", name.strip().lower())
    if not parts or ((parts[2] or parts[3]) and parts[1] != "cuda"):
        raise DeviceError(f"device {name!r}: expected auto, cpu, cuda or cuda:N, or cuda+tf32")
    if parts[1] == "cpu" or (parts[1] == "auto" and why_no_cuda(0)):
        return Device("cpu")
    index = int(parts[2] or 0)
    if reason := why_no_cuda(index):
        raise DeviceError(f"device {name!r}: {reason}; use --device cpu, or auto")
    if hasattr(ort, "preload_dlls"):
        with redirect_stdout(StringIO()):  # it prints which libraries are missing
            ort.preload_dlls()  # the libraries of the extra `cuda`, where they are installed
    return Device("cuda", index, required=parts[1] != "auto", tf32=bool(parts[3]))


def why_no_cuda(index: int) -> str | None:
    """Why a CUDA device cannot be used; None if it can."""
    if not cuda_device_count():
        return "no NVIDIA driver or device was found"
    if index >= cuda_device_count():
        return f"the available devices are {', '.join(f'cuda:{i}' for i in range(cuda_device_count()))}"
    if CUDA not in ort.get_available_providers():
        return "this ONNX Runtime was built without CUDA (install onnxruntime-gpu, not onnxruntime)"
    return None
