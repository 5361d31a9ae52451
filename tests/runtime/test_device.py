"""The device is the requested one or an error, and libraries print nothing."""

import ctypes
import subprocess
import sys
from pathlib import Path

import onnxruntime as ort
import pytest

from onnxcam.errors import DeviceError, ModelError, OutOfMemoryError
from onnxcam.runtime import device as module
from onnxcam.runtime import session as sessions
from onnxcam.runtime.device import CPU, CUDA, Device, cuda_device_count, find_device
from onnxcam.runtime.session import Session, open_session
from tests.support.nets import FIXED


def machine(monkeypatch: pytest.MonkeyPatch, devices: int, *providers: str) -> list[bool]:
    """Pretend a driver with so many devices, and a runtime with such providers."""
    loaded: list[bool] = []
    monkeypatch.setattr(module, "cuda_device_count", lambda: devices)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [*providers, CPU])
    monkeypatch.setattr(ort, "preload_dlls", lambda: loaded.append(True), raising=False)
    return loaded


@pytest.mark.parametrize("name", ["cpu", "auto", " CPU ", "Auto"])
def test_device_without_driver_is_cpu(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    loaded = machine(monkeypatch, 0, CUDA)
    assert find_device(name) == Device("cpu")
    assert not loaded


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("auto", Device("cuda", 0, required=False)),
        ("cuda", Device("cuda", 0)),
        ("CUDA:0", Device("cuda", 0)),
        ("cuda:1", Device("cuda", 1)),
        ("cuda+tf32", Device("cuda", tf32=True)),
        ("CUDA:1+TF32", Device("cuda", 1, tf32=True)),
        ("cpu", Device("cpu")),
    ],
)
def test_device_index_of_two_devices(
    monkeypatch: pytest.MonkeyPatch, name: str, expected: Device
) -> None:
    loaded = machine(monkeypatch, 2, CUDA)
    assert find_device(name) == expected
    assert bool(loaded) == (expected.kind == "cuda")


@pytest.mark.parametrize(
    ("name", "devices", "providers", "why"),
    [
        ("cuda", 0, (CUDA,), "no NVIDIA driver"),
        ("cuda:0", 0, (), "no NVIDIA driver"),
        ("cuda:2", 2, (CUDA,), "devices are cuda:0, cuda:1"),
        ("cuda", 1, (), "built without CUDA"),
    ],
)
def test_missing_device_is_error(
    monkeypatch: pytest.MonkeyPatch, name: str, devices: int, providers: tuple[str], why: str
) -> None:
    machine(monkeypatch, devices, *providers)
    with pytest.raises(DeviceError, match=why) as caught:
        find_device(name)
    assert repr(name) in str(caught.value)
    assert "--device cpu" in str(caught.value)


def test_auto_without_cuda_build_is_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 1)
    assert find_device("auto") == Device("cpu")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "gpu",
        "tpu",
        "cpu:0",
        "auto:1",
        "cuda:",
        "cuda:-1",
        "cuda 1",
        "cpu+tf32",
        "auto+tf32",
        "cuda+tf",
    ],
)
def test_invalid_device_name_is_error(name: str) -> None:
    with pytest.raises(DeviceError, match="expected auto, cpu, cuda or cuda:N"):
        find_device(name)


def test_device_names_and_providers() -> None:
    assert [str(device) for device in (Device("cpu"), Device("cuda"), Device("cuda", 3))] == [
        "cpu", "cuda:0", "cuda:3",
    ]  # fmt: skip
    assert Device("cpu").providers == [CPU]
    assert str(Device("cuda", 1, tf32=True)) == "cuda:1+tf32"
    exact, fast = (Device("cuda", 3, tf32=tf32).providers for tf32 in (False, True))
    assert exact == [(CUDA, {"device_id": "3", "use_tf32": "0"}), CPU]
    assert fast == [(CUDA, {"device_id": "3", "use_tf32": "1"}), CPU]


def test_output_of_library_loading_is_suppressed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(monkeypatch, 1, CUDA)
    monkeypatch.setattr(ort, "preload_dlls", lambda: print("Failed to load libcudnn"))
    find_device("cuda")
    assert capsys.readouterr() == ("", "")


def test_unloadable_driver_has_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    cuda_device_count.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    try:
        assert cuda_device_count() == 0
    finally:
        cuda_device_count.cache_clear()


class Driver:
    """A CUDA driver of so many devices."""

    def __init__(self, code: int, devices: int) -> None:
        self.code, self.devices = code, devices

    def cuInit(self, flags: int) -> int:
        return self.code

    def cuDeviceGetCount(self, count: "object") -> int:
        count._obj.value = self.devices  # type: ignore[attr-defined]
        return 0


@pytest.mark.parametrize(("code", "expected"), [(0, 3), (100, 0)])
def test_device_count_comes_from_driver(
    monkeypatch: pytest.MonkeyPatch, code: int, expected: int
) -> None:
    cuda_device_count.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(code, 3))
    try:
        assert cuda_device_count() == expected
    finally:
        cuda_device_count.cache_clear()


class FallenBack:
    """A session that took the CPU instead, as ONNX Runtime does without CUDA's libraries."""

    def __init__(self, content: bytes, options: object, **arguments: object) -> None:
        assert arguments["enable_fallback"] == 0

    def get_inputs(self) -> list[object]:
        return []

    get_outputs = get_inputs

    def get_providers(self) -> list[str]:
        return [CPU]


def test_requested_device_without_provider_is_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "InferenceSession", FallenBack)
    with pytest.raises(DeviceError, match=r"device cuda:1: .*fell back to CPU.*onnxcam\[cuda\]"):
        open_session(b"", Device("cuda", 1))


def test_auto_falls_back_to_cpu_with_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "InferenceSession", FallenBack)
    session = open_session(b"", Device("cuda", 0, required=False))
    assert session.device == Device("cpu")
    assert len(session.notices) == 1
    assert "fell back to CPUExecutionProvider" in session.notices[0]


@pytest.mark.parametrize(
    ("message", "kind", "expected"),
    [
        ("CUDA failure 100: no CUDA-capable device is detected", "cuda", DeviceError),
        ("CUDA failure 2: out of memory", "cuda", OutOfMemoryError),
        ("Load model from memory failed: Protobuf parsing failed.", "cuda", ModelError),
        ("Load model from memory failed: Protobuf parsing failed.", "cpu", ModelError),
        ("", "cpu", ModelError),
    ],
)
def test_session_error_is_classified(
    monkeypatch: pytest.MonkeyPatch, message: str, kind: str, expected: type[Exception]
) -> None:
    def fails(*arguments: object, **named: object) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(ort, "InferenceSession", fails)
    with pytest.raises(expected) as caught:
        Session(b"", Device(kind))
    assert type(caught.value) is expected
    assert str(caught.value)


SCRIPT = """
import sys
from onnxcam.errors import DeviceError
from onnxcam.runtime.device import find_device
from onnxcam.runtime.session import Session, open_session
from onnxcam.errors import RunError, ModelError
import numpy as np
session = open_session(open(sys.argv[1], "rb").read(), find_device("cpu"))
session.run(session.outputs, {"x": np.zeros((1, 3, 8, 8), np.float32)})
for feeds in ({}, {"x": np.zeros((2, 3, 8, 8), np.float32)}):  # two images fail in the Reshape
    try:
        session.run(session.outputs, feeds)
    except RunError:
        print("refused")
try:
    Session(b"nonsense", find_device("auto"))
except ModelError:
    print("refused")
"""


def test_sessions_print_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(FIXED.with_batch("N").content())
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        check=False,
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["refused"] * 3, "")


@pytest.mark.skipif(cuda_device_count() > 0, reason="this machine has a GPU: nothing to refuse")
def test_cuda_without_device_is_refused_silently(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DeviceError, match="no NVIDIA driver"):
        find_device("cuda")
    assert capfd.readouterr() == ("", "")


def test_versions_name_runtime_and_providers() -> None:
    assert sessions.versions()["onnxruntime"] == ort.__version__
