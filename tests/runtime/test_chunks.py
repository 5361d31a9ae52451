"""Many inputs in chunks: in order, whole, halved where memory ends, and never mixed."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import onnxruntime as ort
import pytest

from onnxcam.arrays import Array
from onnxcam.errors import ModelError, OutOfMemoryError, RunError
from onnxcam.runtime.batch_independence import samples_are_independent
from onnxcam.runtime.chunks import ChunkedRunner
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from tests.support.nets import FIXED, MIXING, POOLED


class Doubling:
    """A session that doubles what it is fed, up to so many at a time."""

    device = Device("cpu")

    def __init__(self, room: int = 1000, fault: type[Exception] = OutOfMemoryError) -> None:
        self.room, self.fault = room, fault
        self.sizes: list[int] = []

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
        (x,) = feeds.values()
        self.sizes.append(len(x))
        if len(x) > self.room:
            raise self.fault("no room")
        return [cast(Any, x) * 2 for _ in outputs]


def gathered(session: Doubling, count: int, **given: Any) -> Array:
    inputs = np.arange(count * 2.0).reshape(count, 2)
    batches = ChunkedRunner(cast(Session, session), **given)
    parts = list(batches.run(["y"], count, lambda part: {"x": inputs[part]}))
    assert [each for part, _ in parts for each in range(part.start, part.stop)] == [*range(count)]
    found: Array = np.concatenate([outputs[0] for _, outputs in parts])
    np.testing.assert_array_equal(found, inputs * 2)
    return found


@pytest.mark.parametrize(
    ("count", "chunk", "sizes"),
    [
        (7, 3, [3, 2, 2]),
        (25, 8, [7, 6, 6, 6]),
        (6, 3, [3, 3]),
        (2, 8, [2]),
        (1, 1, [1]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_chunks_are_in_order_and_whole(count: int, chunk: int, sizes: list[int]) -> None:
    session = Doubling()
    gathered(session, count, chunk=chunk)
    assert session.sizes == sizes


@pytest.mark.parametrize(("count", "runs"), [(7, 2), (4, 1), (8, 2), (1, 1)])
def test_the_last_chunk_of_a_fixed_batch_is_filled_up(count: int, runs: int) -> None:
    session = Doubling()
    gathered(session, count, fixed=4)
    assert session.sizes == [4] * runs


@pytest.mark.parametrize("fault", [OutOfMemoryError, MemoryError])
def test_a_chunk_that_does_not_fit_is_halved_for_good(fault: type[Exception]) -> None:
    session = Doubling(room=3, fault=fault)
    gathered(session, 7, chunk=8)
    assert session.sizes == [7, 4, 2, 2, 2, 1]


@pytest.mark.parametrize(("given", "said"), [({"chunk": 4}, "with 1 "), ({"fixed": 4}, "with 4 ")])
def test_memory_that_does_not_even_hold_one(given: dict[str, int], said: str) -> None:
    with pytest.raises(RunError, match=f"out of memory on cpu {said}picture.*--device cpu"):
        gathered(Doubling(room=0), 4, **given)


def test_other_failures_are_not_retried() -> None:
    session = Doubling(room=0, fault=RunError)
    with pytest.raises(RunError, match="no room"):
        gathered(session, 4)
    assert len(session.sizes) == 1


# Sessions

PICTURES = {"x": np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)}


def on_cpu(content: bytes) -> Session:
    return Session(content, Device("cpu"), threads=1)


def test_a_session_tells_what_it_has() -> None:
    session = on_cpu(POOLED.content())
    assert session.inputs == {"x"}
    assert session.outputs == ["probabilities"]
    assert session.providers == ["CPUExecutionProvider"]
    (found,) = session.run(["probabilities"], PICTURES)
    assert found.shape == (2, 5)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x08\x07"])
def test_what_is_no_model(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"does not take the model: ."):
        on_cpu(content)


@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"x": np.zeros((1, 3, 9, 8), np.float32)},
        {"x": np.zeros((1, 3, 8, 8))},
        {"y": np.zeros((1, 3, 8, 8), np.float32)},
    ],
)
def test_what_a_session_does_not_run(feeds: dict[str, Array]) -> None:
    with pytest.raises(RunError, match=r"failed on cpu: .") as caught:
        on_cpu(POOLED.content()).run(["probabilities"], feeds)
    assert type(caught.value) is RunError


@pytest.mark.parametrize(
    "fault",
    [
        MemoryError(),
        RuntimeError("Failed to allocate memory for requested buffer of size 4096"),
        RuntimeError("CUDA failure 2: out of memory ; GPU=0"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED"),
        RuntimeError("Available memory of 1 is smaller than requested bytes of 2"),
    ],
)
def test_no_memory_is_told_apart(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    def fails(*given: object) -> None:
        raise fault

    session = on_cpu(POOLED.content())
    monkeypatch.setattr(session, "_session", type("Full", (), {"run": staticmethod(fails)}))
    with pytest.raises(OutOfMemoryError):
        session.run(["probabilities"], PICTURES)


def test_what_is_where_the_model_runs_may_be_fed() -> None:
    session = on_cpu(POOLED.content())
    expected = session.run(["probabilities"], PICTURES)
    assert session.placed(PICTURES["x"]) is PICTURES["x"]
    there = ort.OrtValue.ortvalue_from_numpy(PICTURES["x"])
    np.testing.assert_array_equal(session.run(["probabilities"], {"x": there}), expected)
    with pytest.raises(RunError, match=r"failed on cpu: ."):
        session.run(["probabilities"], {"y": there})


def test_only_what_is_asked_for_is_computed() -> None:
    options: list[ort.RunOptions] = []
    session = on_cpu(POOLED.content())
    real = session._session

    class Spy:
        def run(self, outputs: Any, feeds: Any, given: Any) -> Any:
            options.append(given)
            return real.run(outputs, feeds, given)

    session._session = Spy()
    session.run(["probabilities"], PICTURES)
    assert options[0].only_execute_path_to_fetches


# Models freed of their batch

ONE = (1, 3, 8, 8)
FLOAT = np.dtype(np.float32)


def test_pictures_that_do_not_mix() -> None:
    single, free = on_cpu(FIXED.content()), on_cpu(POOLED.content())
    assert samples_are_independent(on_cpu(POOLED.content()), free, "x", ONE, FLOAT)
    assert not samples_are_independent(free, single, "x", ONE, FLOAT)  # does not take two


def test_pictures_that_mix() -> None:
    free = on_cpu(MIXING.with_batch("N").content())
    assert not samples_are_independent(on_cpu(MIXING.content()), free, "x", ONE, FLOAT)
