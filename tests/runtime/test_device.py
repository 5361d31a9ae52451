"""A device is what was asked for or an error, and nobody's output is printed over."""

import ctypes
import subprocess
import sys
from pathlib import Path

import onnxruntime as ort
import pytest

from onnxcam.errors import DeviceError, ModelError, OutOfMemoryError
from onnxcam.runtime import device as module
from onnxcam.runtime import session as sessions
from onnxcam.runtime.device import CPU, CUDA, Device, cuda_devices, device
from onnxcam.runtime.session import Session, open_session
from tests.support.nets import FIXED


def machine(monkeypatch: pytest.MonkeyPatch, devices: int, *providers: str) -> list[bool]:
    """Pretend a driver with so many devices, and a runtime with such providers."""
    loaded: list[bool] = []
    monkeypatch.setattr(module, "cuda_devices", lambda: devices)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [*providers, CPU])
    monkeypatch.setattr(ort, "preload_dlls", lambda: loaded.append(True), raising=False)
    return loaded


@pytest.mark.parametrize("name", ["cpu", "auto", " CPU ", "Auto"])
def test_without_a_driver_it_is_the_cpu(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    loaded = machine(monkeypatch, 0, CUDA)
    assert device(name) == Device("cpu")
    assert not loaded


@pytest.mark.parametrize(
    ("name", "found"),
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
def test_with_two_devices(monkeypatch: pytest.MonkeyPatch, name: str, found: Device) -> None:
    loaded = machine(monkeypatch, 2, CUDA)
    assert device(name) == found
    assert bool(loaded) == (found.kind == "cuda")


@pytest.mark.parametrize(
    ("name", "devices", "providers", "why"),
    [
        ("cuda", 0, (CUDA,), "no NVIDIA driver"),
        ("cuda:0", 0, (), "no NVIDIA driver"),
        ("cuda:2", 2, (CUDA,), "cuda:0 to cuda:1"),
        ("cuda", 1, (), "built without CUDA"),
    ],
)
def test_a_device_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, name: str, devices: int, providers: tuple[str], why: str
) -> None:
    machine(monkeypatch, devices, *providers)
    with pytest.raises(DeviceError, match=why) as caught:
        device(name)
    assert repr(name) in str(caught.value)
    assert "--device cpu" in str(caught.value)


def test_auto_needs_a_runtime_with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 1)
    assert device("auto") == Device("cpu")


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
def test_what_is_no_device(name: str) -> None:
    with pytest.raises(DeviceError, match="expected auto, cpu, cuda or cuda:N"):
        device(name)


def test_names_and_providers() -> None:
    assert [str(each) for each in (Device("cpu"), Device("cuda"), Device("cuda", 3))] == [
        "cpu", "cuda:0", "cuda:3",
    ]  # fmt: skip
    assert Device("cpu").providers == [CPU]
    assert str(Device("cuda", 1, tf32=True)) == "cuda:1+tf32"
    exact, fast = (Device("cuda", 3, tf32=each).providers for each in (False, True))
    assert exact == [(CUDA, {"device_id": "3", "use_tf32": "0"}), CPU]
    assert fast == [(CUDA, {"device_id": "3", "use_tf32": "1"}), CPU]


def test_what_the_runtime_prints_while_it_looks_for_libraries_is_kept_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine(monkeypatch, 1, CUDA)
    monkeypatch.setattr(ort, "preload_dlls", lambda: print("Failed to load libcudnn"))
    device("cuda")
    assert capsys.readouterr() == ("", "")


def test_a_driver_that_cannot_be_loaded_counts_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    cuda_devices.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    try:
        assert cuda_devices() == 0
    finally:
        cuda_devices.cache_clear()


class Driver:
    """A CUDA driver of so many devices."""

    def __init__(self, code: int, devices: int) -> None:
        self.code, self.devices = code, devices

    def cuInit(self, flags: int) -> int:
        return self.code

    def cuDeviceGetCount(self, count: "object") -> int:
        count._obj.value = self.devices  # type: ignore[attr-defined]
        return 0


@pytest.mark.parametrize(("code", "found"), [(0, 3), (100, 0)])
def test_the_driver_is_asked(monkeypatch: pytest.MonkeyPatch, code: int, found: int) -> None:
    cuda_devices.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(code, 3))
    try:
        assert cuda_devices() == found
    finally:
        cuda_devices.cache_clear()


class FallenBack:
    """A session that took the CPU instead, as ONNX Runtime does without CUDA's libraries."""

    def __init__(self, content: bytes, options: object, **given: object) -> None:
        assert given["enable_fallback"] == 0

    def get_inputs(self) -> list[object]:
        return []

    get_outputs = get_inputs

    def get_providers(self) -> list[str]:
        return [CPU]


def test_a_device_that_was_asked_for_and_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "InferenceSession", FallenBack)
    with pytest.raises(DeviceError, match=r"device cuda:1: .*fell back to CPU.*onnxcam\[cuda\]"):
        open_session(b"", Device("cuda", 1))


def test_auto_takes_the_cpu_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "InferenceSession", FallenBack)
    session = open_session(b"", Device("cuda", 0, required=False))
    assert session.device == Device("cpu")
    assert len(session.notices) == 1
    assert "fell back to CPUExecutionProvider" in session.notices[0]


@pytest.mark.parametrize(
    ("said", "kind", "expected"),
    [
        ("CUDA failure 100: no CUDA-capable device is detected", "cuda", DeviceError),
        ("CUDA failure 2: out of memory", "cuda", OutOfMemoryError),
        ("Load model from memory failed: Protobuf parsing failed.", "cuda", ModelError),
        ("Load model from memory failed: Protobuf parsing failed.", "cpu", ModelError),
        ("", "cpu", ModelError),
    ],
)
def test_who_is_to_blame_for_a_session_that_does_not_start(
    monkeypatch: pytest.MonkeyPatch, said: str, kind: str, expected: type[Exception]
) -> None:
    def fails(*given: object, **named: object) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(ort, "InferenceSession", fails)
    with pytest.raises(expected) as caught:
        Session(b"", Device(kind))
    assert type(caught.value) is expected
    assert str(caught.value)


SCRIPT = """
import sys
from onnxcam.errors import DeviceError
from onnxcam.runtime.device import device
from onnxcam.runtime.session import Session, opened
from onnxcam.errors import RunError, ModelError
import numpy as np
session = opened(open(sys.argv[1], "rb").read(), device("cpu"))
session.run(session.outputs, {"x": np.zeros((1, 3, 8, 8), np.float32)})
for feeds in ({}, {"x": np.zeros((2, 3, 8, 8), np.float32)}):  # two pictures die in the Reshape
    try:
        session.run(session.outputs, feeds)
    except RunError:
        print("refused")
try:
    Session(b"nonsense", device("auto"))
except ModelError:
    print("refused")
"""


def test_nothing_is_printed(tmp_path: Path) -> None:
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


@pytest.mark.skipif(cuda_devices() > 0, reason="this machine has a GPU: nothing to refuse")
def test_on_this_machine_cuda_is_refused_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DeviceError, match="no NVIDIA driver"):
        device("cuda")
    assert capfd.readouterr() == ("", "")


def test_versions_are_told() -> None:
    assert sessions.versions()["onnxruntime"] == ort.__version__
