"""The device check reports results and times as they come, and what the device does not run."""

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from scripts.bench import contestants as bench_contestants
from scripts.bench.bench import Worker
from scripts.bench.contestants import BOUND, CONTESTANTS
from scripts.bench.models import BenchLayer
from scripts.device import check as check_device
from scripts.device import fixtures as device_fixtures
from scripts.device.check import Report, fixture_rows, format_fixture
from scripts.fixtures.files import DATA
from tests.support.limits import run_limited
from tests.support.nets import CLASSES, DEEP

BENCH_LAYER = BenchLayer("dependent", "features", "NCHW", 16, "layer")


def test_check_runs_on_the_cpu_without_network_and_pytest(tmp_path: Path) -> None:
    """Two fixtures that run, and one that CPUs do not."""
    file = tmp_path / "report.json"
    program = ("-m", "scripts.device")
    words = ["--fixtures", "qlinear,test_resnet,bfloat16", "--models", "-", "--json", str(file)]
    result = run_limited([*program, "--device", "cpu", *words], seconds=90, megabytes=16000)
    assert result.returncode == 0, result.stderr
    machine, *rows, memory = json.loads(file.read_text())
    assert machine["check"] == "machine"
    assert machine["limits"] == device_fixtures.LIMITS
    by_name = {row["fixture"]: row for row in rows}
    assert set(by_name) == {"bfloat16", "bfloat16_weights", "qlinear", "timm_test_resnet_script"}
    assert by_name["bfloat16"]["passed"] is None
    assert "Conv" in by_name["bfloat16"]["error"]
    resnet = by_name["timm_test_resnet_script"]
    assert resnet["passed"] is True
    assert resnet["kind"] == "float32"
    assert 0 < resnet["framework"] < 1e-4
    assert resnet["gradient"] <= 1e-5
    assert set(resnet["maps"]) == {"grad-cam", "smooth-grad-cam++"}
    assert resnet["nodes"] > 50
    assert resnet["fell_back"] == resnet["copies"] == {}
    assert 50 < memory["mb"] < 5000
    lines = result.stdout.splitlines()
    assert len(lines) == len(rows) + 2
    assert any("not run" in line and "bfloat16" in line for line in lines)


def test_every_fixture_is_checked() -> None:
    stored = {path.stem for path in DATA.glob("*.onnx")}
    assert set(device_fixtures.names()) == {*stored, "bundled"}


def profile(*nodes: tuple[str, str]) -> list[dict[str, Any]]:
    """As ONNX Runtime writes it."""
    events: list[dict[str, Any]] = [
        {"cat": "Session", "name": "model_loading", "args": {}},
        {"cat": "Node", "name": "a_fence_before", "args": {"op_name": "Conv"}},
    ]
    for operator, provider in nodes:
        args = {"op_name": operator, "provider": f"{provider}ExecutionProvider"}
        events.append({"cat": "Node", "name": f"{operator}_kernel_time", "args": args})
    return events


def test_nodes_that_fall_back_and_copy_are_counted() -> None:
    events = profile(
        *(("Conv", "CUDA"), ("MemcpyToHost", "CUDA"), ("NonZero", "CPU")),
        *(("NonZero", "CPU"), ("MemcpyFromHost", "CUDA"), ("Relu", "CUDA")),
    )
    row = device_fixtures.count_placements(events, "CUDAExecutionProvider")
    assert row["nodes"] == 6
    assert row["fell_back"] == {"NonZero": 2}
    assert row["copies"] == {"MemcpyToHost": 1, "MemcpyFromHost": 1}
    on_cpu = device_fixtures.count_placements(profile(("Conv", "CPU")), "")
    assert (on_cpu["nodes"], on_cpu["fell_back"]) == (1, {})


def test_errors_are_relative_to_the_largest_value() -> None:
    assert device_fixtures.relative_error([1.0, 4.0], [1.0, 5.0]) == pytest.approx(0.2)
    assert device_fixtures.relative_error([0.0], [0.0]) == 0
    with pytest.raises(ArithmeticError, match="not finite"):
        device_fixtures.relative_error([np.nan], [1.0])
    with pytest.raises(ArithmeticError, match="shape"):
        device_fixtures.relative_error([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("wrong", "passed"), [(1.0, True), (1.0005, True), (1.01, False), (np.nan, False)]
)
def test_wrong_device_does_not_pass(
    monkeypatch: pytest.MonkeyPatch, wrong: float, passed: bool
) -> None:
    run = device_fixtures._run

    def run_wrong(content: bytes, outputs: Any, feeds: Any, device: str) -> Any:
        results, nodes = run(content, outputs, feeds, "cpu")
        return ([wrong * result for result in results] if device != "cpu" else results), nodes

    monkeypatch.setattr(device_fixtures, "_run", run_wrong)
    monkeypatch.setattr(device_fixtures, "_map_errors", lambda *_: {})
    row = device_fixtures.check("torchscript_convnext", "pretended")
    assert row["passed"] is passed
    assert ("ok" in format_fixture(row)) is passed


def test_missing_device_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    words = ["--device", "cuda:99", "--fixtures", "qlinear", "--json", str(file)]
    result = CliRunner().invoke(_app(), words)
    assert result.exit_code == 1
    assert result.output.endswith("cuda:99: no fixture ran, so nothing was timed\n")
    rows = json.loads(file.read_text())
    assert rows[1]["passed"] is None
    assert rows[1]["error"].startswith("DeviceError: device 'cuda:99'")


def test_fixture_that_kills_the_process_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And the ones after it are checked."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import json, os, signal, sys\n"
        "for name in sys.argv[2:]:\n"
        "    if name == 'b': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    if name == 'd': import time; time.sleep(60)\n"
        "    print(json.dumps({'check': 'fixture', 'fixture': name}), flush=True)\n"
    )
    monkeypatch.setattr(check_device, "WORKER", (str(worker),))
    monkeypatch.setattr(check_device, "PATIENCE", 1.0)
    rows = list(fixture_rows("cuda", ["a", "b", "c", "d", "e"]))
    assert [row["fixture"] for row in rows] == ["a", "b", "c", "d", "e"]
    assert [row.get("passed", True) for row in rows] == [True, False, True, False, True]
    assert "ended with" in format_fixture(rows[1])


def test_error_over_its_limit_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"check": "fixture", "device": "cpu", "fixture": "a", "error": "wrong", "passed": False}
    monkeypatch.setattr(check_device, "fixture_rows", lambda *_: [row])
    result = CliRunner().invoke(_app(), ["--models", "-"])
    assert result.exit_code == 1
    assert "OVER THE LIMIT" in result.stdout


def test_model_without_timing_does_not_stop_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    report = Report(tmp_path / "report.json")
    rows_of = check_device.rows_of_samples
    check_device.add_times(report, "ResNet-18", "cpu", tmp_path, rows_of, quick=True)
    (row,) = json.loads((tmp_path / "report.json").read_text())
    assert row["model"] == "ResNet-18"
    assert "torch" in row["why"]


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1", "cuda+tf32"])
def test_timed_rows_depend_on_the_device(device: str) -> None:
    few, many = check_device.rows_of_samples(device, BENCH_LAYER, quick=False)
    assert [row.settings["samples"] for row in (few, many)] == [25, 400]
    assert few.contestants == ("plain", "onnxcam", "torch-cam")
    assert ("torch-cam" in many.contestants) is (device != "cpu")
    (bindings,) = check_device.rows_of_bindings(device, BENCH_LAYER, quick=False)
    assert set(bindings.contestants) <= set(CONTESTANTS)


def job(path: Path, contestant: str, device: str = "cpu") -> dict[str, Any]:
    path.write_bytes(DEEP.content())
    return {
        "contestant": contestant,
        "path": str(path),
        "shape": [3, 8, 8],
        "classes": CLASSES,
        "device": device,
        "threads": 1,
        "passes": 6,
        "settings": {},
        "method": "bindings",
        "layer": "features",
    }


@pytest.mark.parametrize("contestant", [name for name in BOUND if not name.endswith("graph")])
def test_contestants_run_with_and_without_bindings(tmp_path: Path, contestant: str) -> None:
    worker = Worker(job(tmp_path / "model.onnx", contestant))
    worker.run()
    _, why = worker.end()
    assert why == ""
    assert 0 < worker.times[0] < 60


def test_cuda_graphs_are_refused_on_the_cpu(tmp_path: Path) -> None:
    worker = Worker(job(tmp_path / "model.onnx", "plain graph"))
    assert "CUDA graphs are for CUDA" in worker.end()[1]


def test_hanging_contestant_is_ended(tmp_path: Path) -> None:
    worker = Worker(job(tmp_path / "model.onnx", "plain") | {"limit": 0.01})
    assert not worker.is_alive
    assert worker.end()[1]


def test_device_memory_comes_from_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    class Driver:
        """One whose context is not current at first."""

        asked = 0

        def __init__(self, name: str) -> None:
            assert name == "libcuda.so.1"

        def cuMemGetInfo_v2(self, free: Any, total: Any) -> int:
            free._obj.value, total._obj.value = 3 << 20, 10 << 20
            Driver.asked += 1
            return 201 if Driver.asked == 1 else 0

        def cuInit(self, flags: int) -> None: ...

        def cuDevicePrimaryCtxRetain(self, context: Any, device: int) -> None: ...

        def cuCtxSetCurrent(self, context: Any) -> None: ...

    monkeypatch.setattr(ctypes, "CDLL", Driver)
    assert bench_contestants.peak_memory("cuda") == 7 << 20


def _app() -> Any:
    import typer

    app = typer.Typer()
    app.command()(check_device.main)
    return app
