"""What is compared follows from the table of methods, and contestants run in processes of their own."""

from pathlib import Path

import pytest

from onnxcam.methods import METHODS
from scripts.bench.bench import PEERS, Result, Worker, format_result, rows_of
from scripts.bench.contestants import CONTESTANTS
from scripts.bench.models import BenchLayer
from scripts.bench.peers import packages_with
from tests.support.nets import CLASSES, DEEP

BENCH_LAYERS = [
    BenchLayer(where, "features", "NCHW", 16, "layer") for where in ("last", "dependent", "middle")
]


def test_rows_cover_every_method_of_the_table_of_peers() -> None:
    rows = rows_of(BENCH_LAYERS)
    for name in PEERS:
        method = METHODS[name]
        own = [row for row in rows if row.name == name]
        assert len(own) == (3 if method.sampler.smooths and method.has_layer else 1)
        assert all((row.bench_layer is not None) == method.has_layer for row in own)
        assert all(row.contestants[:2] == ("plain", "onnxcam") for row in own)
    assert all({*peers} <= {*packages_with(name)} for name, peers in PEERS.items())
    assert {contestant for row in rows for contestant in row.contestants} <= set(CONTESTANTS)


def test_floor_of_a_row_counts_passes() -> None:
    """As many passes as there are samples, one where the gradient does not depend on the image."""
    passes = {
        r.bench_layer.where: r.passes
        for r in rows_of(BENCH_LAYERS)
        if r.bench_layer and r.name == "smooth-grad-cam++"
    }
    assert passes["last"] == 1
    assert {r.passes for r in rows_of(BENCH_LAYERS) if r.name == "smooth-grad-cam++"} == {1, 25}


@pytest.mark.parametrize("contestant", ["plain", "onnxcam", "onnxcam gradient"])
def test_contestant_runs_in_its_own_process(tmp_path: Path, contestant: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(DEEP.content())
    job = {
        "contestant": contestant,
        "path": str(path),
        "shape": [3, 8, 8],
        "classes": CLASSES,
        "device": "cpu",
        "threads": 1,
        "passes": 5,
        "settings": {"samples": 5},
        "method": "smooth-grad-cam++",
        "layer": "features",
    }
    worker = Worker(job)
    for _ in range(2):
        worker.run()
    memory, why = worker.end()
    assert (len(worker.times), why) == (2, "")
    assert all(0 < seconds < 60 for seconds in worker.times)
    assert 10 < memory < 10_000


def test_failing_contestant_reports_its_error(tmp_path: Path) -> None:
    job = {"contestant": "plain", "path": str(tmp_path / "none.onnx"), "device": "cpu"}
    worker = Worker(job | {"threads": 1, "passes": 1, "shape": [3, 8, 8]})
    assert not worker.is_alive
    assert "none.onnx" in worker.end()[1]


def test_table_line_shows_time_and_ratio() -> None:
    line = format_result(
        Result("Net", "grad-cam", "last", "features", "onnxcam", 0.02, 1.1, 1.0, 120.0)
    )
    assert "20.0 ms" in line
    assert "1.10 x floor" in line
