"""The fuzz script: cases follow from a number and a seed, endings are told apart, workers may die or hang."""

import json
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxcam
from onnxcam.errors import ModelError
from scripts.fuzz import fuzz, truth, values
from scripts.fuzz.case import (
    FINE,
    OUTCOMES,
    BeyondError,
    Case,
    Ending,
    NotSmoothError,
    WrongError,
    ending_of,
)
from scripts.fuzz.interrupted import FILES
from scripts.fuzz.kinds import KINDS, case_of, names
from scripts.fuzz.operators import examples
from scripts.fuzz.seeds import BODIES, model_of, seed_models
from scripts.fuzz.worker import DiedError, HungError, Worker

SOME = 300  # cases: some seconds
ECHO = """
import json, os, sys, time
print("ready", flush=True)
for line in sys.stdin:
    name, how, folder = json.loads(line)
    if name.startswith("die later"): print('"plain"', flush=True)
    if name.startswith("die") and how != "store" and not (how == "plain" and name == "die:1"): os.abort()
    if name.startswith("hang"): time.sleep(60)
    print(json.dumps({"outcome": "right", "detail": "", "what": name}), flush=True)
"""


def _worker(tmp_path: Path) -> Worker:
    return Worker(0, tmp_path / "log", 1.0, ("-c", ECHO))


@pytest.mark.parametrize("kind", KINDS)
def test_seed_and_number_determine_the_case(kind: str) -> None:
    first, again, other = (case_of(f"{kind}:{number}", 3) for number in (7, 7, 8))
    assert (first.what, first.files) == (again.what, again.files)
    assert (first.what, first.files) != (other.what, other.files)


@pytest.mark.slow
def test_some_hundred_cases_end_well(tmp_path: Path) -> None:
    """A beginning of `scripts/fuzz.py`; what fails prints how to run it alone."""
    wanted = list(islice(names(list(KINDS)), SOME))
    results = fuzz.run(wanted, Worker(0, tmp_path / "log"), tmp_path, 1e12)
    assert len(results) == SOME
    failed = [result for result in results if result["outcome"] not in FINE]
    assert not failed, json.dumps(failed, indent=2)
    right = [result for result in results if result["outcome"] == "right"]
    assert len(right) > SOME / 5  # not everything is refused


def test_first_cases_have_every_kind_in_its_share() -> None:
    kinds = [name.partition(":")[0] for name in islice(names(list(KINDS)), 100)]
    for kind, (_, share) in KINDS.items():
        assert abs(kinds.count(kind) - share) <= 1


def test_every_operator_of_the_schemas_has_an_example() -> None:
    names = {f"{schema.domain}::{schema.name}" for schema in onnx.defs.get_all_schemas()}
    assert examples().keys() == names
    assert all(examples().values())
    runs = sum(any(example.runs for example in listed) for listed in examples().values())
    assert runs > 0.8 * len(names)


def test_mutated_bytes_differ() -> None:
    content = bytes(range(256))
    assert sum(values.mutate_bytes(content, Random(seed)) != content for seed in range(50)) > 40


def _case(error: Exception | None) -> Case:
    def run(folder: Path) -> None:
        if error:
            raise error

    return Case("", {}, run)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "right"),
        (ModelError("why"), "refused"),
        (WrongError("why"), "wrong"),
        (NotSmoothError("why"), "not smooth"),
        (BeyondError("why"), "beyond"),
        (KeyError("why"), "bare"),
        (MemoryError(), "memory"),
    ],
)
def test_endings_are_distinguished(tmp_path: Path, error: Exception | None, outcome: str) -> None:
    assert ending_of(_case(error), tmp_path).outcome == outcome
    assert outcome in OUTCOMES


@pytest.mark.filterwarnings("default")
def test_warning_is_an_outcome(tmp_path: Path) -> None:
    import warnings

    case = Case("", {}, lambda folder: warnings.warn("odd", RuntimeWarning, stacklevel=1))
    assert ending_of(case, tmp_path).outcome == "warned"


def test_dead_or_hanging_worker_is_restarted(tmp_path: Path) -> None:
    worker = _worker(tmp_path)
    try:
        assert worker.run("fine:0")["outcome"] == "right"
        with pytest.raises(DiedError, match="SIGABRT"):
            worker.run("die:0")
        assert worker.run("fine:1")["what"] == "fine:1"
        with pytest.raises(HungError):
            worker.run("hang:0")
        assert worker.run("fine:2")["what"] == "fine:2"
    finally:
        worker.end()


def test_runtime_crash_has_its_own_outcome(tmp_path: Path) -> None:
    worker = _worker(tmp_path)
    try:
        assert fuzz.result_of("die:0", worker, tmp_path)["outcome"] == "runtime too"
        assert fuzz.result_of("die later:0", worker, tmp_path)["outcome"] == "runtime alone"
        assert fuzz.result_of("die:1", worker, tmp_path)["outcome"] == "crash"
        assert (
            json.loads((tmp_path / "die-1/result.json").read_text())["detail"] == "crash: SIGABRT"
        )
    finally:
        worker.end()


def test_interrupted_modules_exist() -> None:
    modules = {path.name for path in Path(onnxcam.__file__).parent.rglob("*.py")}
    assert set(FILES) <= modules


def test_second_start_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def result_of(name: str, worker: Worker, out: Path) -> dict[str, Any]:
        ran.append(name)
        return {"case": name, "seed": worker.seed, "outcome": "right", "detail": ""}

    monkeypatch.setattr(fuzz, "result_of", result_of)
    wanted = ["bytes:0", "bytes:1", "bytes:2"]
    later = 1e12
    assert len(fuzz.run(wanted[:2], _worker(tmp_path), tmp_path, later)) == 2
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"case": "bytes:')  # the start of a line that was not finished
    assert len(fuzz.run(wanted, _worker(tmp_path), tmp_path, later)) == 3
    assert ran == wanted


def check_model(proto: onnx.ModelProto, tmp_path: Path) -> Ending:
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    case = Case("", {}, lambda folder: truth.check(path, np.random.default_rng(0)))
    return ending_of(case, tmp_path)


@pytest.mark.parametrize("name", BODIES)
def test_valid_models_are_right(tmp_path: Path, name: str) -> None:
    ending = check_model(model_of(name), tmp_path)
    assert ending.outcome == "right", ending.trace


def test_wrong_gradient_is_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = truth._PlainModel.__call__

    def wrong(runs: Any, feeds: Any) -> dict[str, Any]:
        outputs = run(runs, feeds)
        return {
            name: np.multiply(1.1, array) if name.startswith("gradient/") else array
            for name, array in outputs.items()
        }

    monkeypatch.setattr(truth._PlainModel, "__call__", wrong)
    assert check_model(model_of("flat"), tmp_path).outcome == "wrong"


def test_wrong_score_is_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = model_of("flat")
    bias = next(tensor for tensor in other.graph.initializer if tensor.name == "u")
    bias.CopyFrom(numpy_helper.from_array(1.01 * numpy_helper.to_array(bias), "u"))
    model = onnxcam.load(other)
    monkeypatch.setattr(onnxcam, "load", lambda path: model)
    assert check_model(model_of("flat"), tmp_path).outcome == "wrong"


def test_quantized_model_is_not_smooth(tmp_path: Path) -> None:
    """A gradient of differences at a jump says nothing: quantized models are such."""
    assert (
        check_model(onnx.load_from_string(seed_models()["qdq_per_tensor"]), tmp_path).outcome
        == "not smooth"
    )


def test_report_groups_similar_failures(
    capsys: pytest.CaptureFixture[str],
) -> None:
    results = [
        {
            "case": f"bytes:{n}",
            "outcome": "bare",
            "frame": "a.py:f",
            "detail": f"no {n}",
            "what": "w",
        }
        for n in range(3)
    ]
    results.append({"case": "bytes:3", "outcome": "right", "detail": "", "what": "w"})
    fuzz.report(results)
    shown = capsys.readouterr().out
    assert "| bytes | 1 | 3 | 4 |" in shown
    assert shown.count("bare x3  a.py:f") == 1
    assert "bare" not in FINE
