"""Many inputs in chunks: in order, complete, halved where memory runs out, and never mixed."""

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

    def __init__(self, room: int = 1000, error: type[Exception] = OutOfMemoryError) -> None:
        self.room, self.error = room, error
        self.sizes: list[int] = []

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
        (x,) = feeds.values()
        self.sizes.append(len(x))
        if len(x) > self.room:
            raise self.error("no room")
        return [cast(Any, x) * 2 for _ in outputs]


def run_and_check(session: Doubling, count: int, **arguments: Any) -> Array:
    inputs = np.arange(count * 2.0).reshape(count, 2)
    runner = ChunkedRunner(cast(Session, session), **arguments)
    chunks = list(runner.run(["y"], count, lambda chunk: {"x": inputs[chunk]}))
    assert [i for chunk, _ in chunks for i in range(chunk.start, chunk.stop)] == [*range(count)]
    result: Array = np.concatenate([outputs[0] for _, outputs in chunks])
    np.testing.assert_array_equal(result, inputs * 2)
    return result


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
def test_chunks_are_complete_and_in_order(count: int, chunk: int, sizes: list[int]) -> None:
    session = Doubling()
    run_and_check(session, count, chunk=chunk)
    assert session.sizes == sizes


@pytest.mark.parametrize(("count", "runs"), [(7, 2), (4, 1), (8, 2), (1, 1)])
def test_last_chunk_of_fixed_batch_is_padded(count: int, runs: int) -> None:
    session = Doubling()
    run_and_check(session, count, fixed_batch=4)
    assert session.sizes == [4] * runs


@pytest.mark.parametrize("error", [OutOfMemoryError, MemoryError])
def test_chunk_over_memory_is_halved_permanently(error: type[Exception]) -> None:
    session = Doubling(room=3, error=error)
    run_and_check(session, 7, chunk=8)
    assert session.sizes == [7, 4, 2, 2, 2, 1]


@pytest.mark.parametrize(
    ("arguments", "count"), [({"chunk": 4}, "with 1 "), ({"fixed_batch": 4}, "with 4 ")]
)
def test_memory_for_no_image_is_error(arguments: dict[str, int], count: str) -> None:
    with pytest.raises(RunError, match=f"out of memory on cpu {count}image.*--device cpu"):
        run_and_check(Doubling(room=0), 4, **arguments)


def test_other_failures_are_not_retried() -> None:
    session = Doubling(room=0, error=RunError)
    with pytest.raises(RunError, match="no room"):
        run_and_check(session, 4)
    assert len(session.sizes) == 1


# Sessions

IMAGES = {"x": np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)}


def on_cpu(content: bytes) -> Session:
    return Session(content, Device("cpu"), threads=1)


def test_session_lists_inputs_and_outputs() -> None:
    session = on_cpu(POOLED.content())
    assert session.inputs == {"x"}
    assert session.outputs == ["probabilities"]
    assert session.providers == ["CPUExecutionProvider"]
    (probabilities,) = session.run(["probabilities"], IMAGES)
    assert probabilities.shape == (2, 5)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x08\x07"])
def test_invalid_model_is_error(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"cannot open the model: ."):
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
def test_wrong_feeds_are_run_error(feeds: dict[str, Array]) -> None:
    with pytest.raises(RunError, match=r"failed on cpu: .") as caught:
        on_cpu(POOLED.content()).run(["probabilities"], feeds)
    assert type(caught.value) is RunError


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("Failed to allocate memory for requested buffer of size 4096"),
        RuntimeError("CUDA failure 2: out of memory ; GPU=0"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED"),
        RuntimeError("Available memory of 1 is smaller than requested bytes of 2"),
    ],
)
def test_allocation_failures_are_out_of_memory_errors(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*arguments: object) -> None:
        raise error

    session = on_cpu(POOLED.content())
    monkeypatch.setattr(session, "_session", type("Full", (), {"run": staticmethod(fails)}))
    with pytest.raises(OutOfMemoryError):
        session.run(["probabilities"], IMAGES)


def test_values_on_device_can_be_fed() -> None:
    session = on_cpu(POOLED.content())
    expected = session.run(["probabilities"], IMAGES)
    assert session.to_device(IMAGES["x"]) is IMAGES["x"]
    there = ort.OrtValue.ortvalue_from_numpy(IMAGES["x"])
    np.testing.assert_array_equal(session.run(["probabilities"], {"x": there}), expected)
    with pytest.raises(RunError, match=r"failed on cpu: ."):
        session.run(["probabilities"], {"y": there})


def test_only_requested_outputs_are_computed() -> None:
    options: list[ort.RunOptions] = []
    session = on_cpu(POOLED.content())
    real = session._session

    class Spy:
        def run(self, outputs: Any, feeds: Any, run_options: Any) -> Any:
            options.append(run_options)
            return real.run(outputs, feeds, run_options)

    session._session = Spy()
    session.run(["probabilities"], IMAGES)
    assert options[0].only_execute_path_to_fetches


# Models freed of their batch

ONE = (1, 3, 8, 8)
FLOAT = np.dtype(np.float32)


def test_independent_images_free_the_batch() -> None:
    single, free = on_cpu(FIXED.content()), on_cpu(POOLED.content())
    assert samples_are_independent(on_cpu(POOLED.content()), free, "x", ONE, FLOAT)
    assert not samples_are_independent(free, single, "x", ONE, FLOAT)  # does not take two


def test_dependent_images_do_not_free_the_batch() -> None:
    free = on_cpu(MIXING.with_batch("N").content())
    assert not samples_are_independent(on_cpu(MIXING.content()), free, "x", ONE, FLOAT)
