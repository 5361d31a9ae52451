"""The fastest schedule is measured while the work is done, stored, and changes no result."""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pytest

from onnxcam.arrays import Array
from onnxcam.errors import ModelError, OutOfMemoryError
from onnxcam.runtime import chunks
from onnxcam.runtime.chunks import ChunkedRunner
from onnxcam.runtime.device import Device
from onnxcam.runtime.schedule import TIMED_ROUNDS, WARM_UP_ROUNDS, Schedule, Tuner, schedules
from onnxcam.runtime.session import Session

ONE, TWO = Schedule(1, 8), Schedule(2, 2)


class Clock:
    """Time that passes only as sessions say."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Costly:
    """A session that takes `cost` seconds an input."""

    device = Device("cpu")

    def __init__(self, clock: Clock, cost: float, room: int = 1000) -> None:
        self.clock, self.cost, self.room = clock, cost, room
        self.sizes: list[int] = []
        self.threads: set[int] = set()
        self.lock = threading.Lock()

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
        (x,) = feeds.values()
        with self.lock:
            self.clock.now += self.cost * len(x)
            self.sizes.append(len(x))
            self.threads.add(threading.get_ident())
        if len(x) > self.room:
            raise OutOfMemoryError("no room")
        return [cast(Any, x) * 2]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(chunks, "time", fake)
    return fake


def run(runner: ChunkedRunner, count: int) -> None:
    inputs = np.arange(count * 2.0).reshape(count, 2)
    runs = list(runner.run(["y"], count, lambda chunk: {"x": inputs[chunk]}))
    assert [i for chunk, _ in runs for i in range(chunk.start, chunk.stop)] == [*range(count)]
    np.testing.assert_array_equal(np.concatenate([arrays[0] for _, arrays in runs]), inputs * 2)


def make_runner(main: Costly, worker: Costly, tuner: Tuner) -> ChunkedRunner:
    session, reopened = cast(Session, main), cast(Session, worker)
    return ChunkedRunner(session, tuner=tuner, open_worker=lambda: reopened)


@pytest.mark.parametrize(("costs", "best"), [((1.0, 2.0), ONE), ((2.0, 1.0), TWO)])
def test_fastest_schedule_is_chosen(
    clock: Clock, costs: tuple[float, float], best: Schedule
) -> None:
    tuner = Tuner([TWO, ONE])
    runner = make_runner(Costly(clock, costs[0]), Costly(clock, costs[1]), tuner)
    for _ in range(4):
        run(runner, 25)
    assert tuner.is_done
    assert tuner.best == best


def test_measured_schedule_runs_alone(clock: Clock) -> None:
    main, worker = Costly(clock, 2.0), Costly(clock, 1.0)
    tuner = Tuner([TWO, ONE], {"1 x 8": [0.1, 2.0, 2.0, 2.0], "2 x 2": [9.0, 1.0, 1.0, 1.0]})
    run(make_runner(main, worker, tuner), 25)
    assert main.sizes == []
    assert len(worker.sizes) == 14  # seven for each worker
    assert sorted(worker.sizes) == [1] * 3 + [2] * 11


def test_only_new_measurements_are_reported(clock: Clock) -> None:
    measured: list[object] = []
    runner = ChunkedRunner(
        cast(Session, Costly(clock, 1.0)), tuner=Tuner([ONE]), on_measured=measured.append
    )
    run(runner, 1)
    assert not measured
    run(runner, 40)
    run(runner, 40)
    assert measured == [{"1 x 8": [1.0] * (WARM_UP_ROUNDS + TIMED_ROUNDS)}]


def test_model_that_cannot_be_reopened_runs_with_one_worker(clock: Clock) -> None:
    def fail() -> Session:
        raise ModelError("the file is not there any more")

    main = Costly(clock, 1.0)
    run(ChunkedRunner(cast(Session, main), tuner=Tuner([TWO, ONE]), open_worker=fail), 9)
    assert main.sizes == [5, 4]


def test_warm_up_and_partial_rounds_do_not_count() -> None:
    tuner = Tuner([ONE])
    tuner.record(ONE, 8, 800.0)
    tuner.record(ONE, 3, 1e-9)
    assert not tuner.is_done
    for _ in range(TIMED_ROUNDS + 2):
        tuner.record(ONE, 8, 8.0)
    assert tuner.is_done
    assert tuner.times == {"1 x 8": [100.0] * WARM_UP_ROUNDS + [1.0] * TIMED_ROUNDS}


def test_few_inputs_use_best_schedule_so_far(clock: Clock) -> None:
    tuner = Tuner([ONE, TWO], {"2 x 2": [1.0, 1.0]})
    assert tuner.next_schedule(7) == TWO
    assert tuner.next_schedule(8) == ONE
    assert Tuner([ONE, TWO]).next_schedule(2) == ONE


def test_valid_measurements_are_resumed() -> None:
    measured = Tuner.resume([ONE, TWO], {"1 x 8": [1.0, 2.0], "9 x 9": [1.0], "2 x 2": "fast"})
    assert measured.times == {"1 x 8": [1.0, 2.0]}
    assert Tuner.resume([ONE], ["1 x 8"]).times == {}
    assert Tuner.resume([ONE], {"1 x 8": [1.0, None]}).times == {}
    for odd in (float("nan"), float("inf"), -1.0, True, [1.0], 10**400, "1.0"):
        assert Tuner.resume([ONE], {"1 x 8": [1.0, odd]}).times == {}
    for table in (None, 1, "1 x 8", [[1.0]], {"1 x 8": {"a": 1.0}}, {"1 x 8": 1.0}):
        assert Tuner.resume([ONE], table).times == {}


def test_out_of_memory_in_worker_ends_tuning(clock: Clock) -> None:
    main, worker = Costly(clock, 1.0), Costly(clock, 1.0, room=1)
    runner = make_runner(main, worker, Tuner([TWO, ONE]))
    run(runner, 10)
    assert runner.tuner is None
    assert main.sizes == [1] * 10


def test_schedules_depend_on_worker_count() -> None:
    assert schedules(1) == (Schedule(1, 4), ONE)
    assert schedules(2) == (TWO, Schedule(1, 4), Schedule(2, 1), ONE)
    assert all(schedule.inputs <= 16 for schedule in schedules(8))


def test_out_of_memory_in_worker_of_one_input_ends_tuning(clock: Clock) -> None:
    main, worker = Costly(clock, 1.0), Costly(clock, 1.0, room=0)
    runner = make_runner(main, worker, Tuner([Schedule(2, 1), ONE]))
    run(runner, 10)
    assert runner.tuner is None
    assert main.sizes == [1] * 10


def test_failed_worker_stops_others_before_retry() -> None:
    log: list[str] = []

    class Main(Costly):
        def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
            log.append("main")
            return super().run(outputs, feeds)

    class Slow(Costly):
        def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
            (x,) = feeds.values()
            if x[0, 0] == 0:
                raise OutOfMemoryError("no room")
            time.sleep(0.2)
            log.append("worker")
            return super().run(outputs, feeds)

    clock = Clock()
    measured = {"2 x 2": [1.0] * (WARM_UP_ROUNDS + TIMED_ROUNDS)}
    runner = make_runner(Main(clock, 1.0), Slow(clock, 1.0), Tuner([TWO], measured))
    run(runner, 8)
    assert log == ["worker"] * log.count("worker") + ["main"] * 8


def test_early_end_leaves_no_worker_running(clock: Clock) -> None:
    worker = Costly(clock, 1.0)
    measured = {"2 x 2": [1.0] * (WARM_UP_ROUNDS + TIMED_ROUNDS)}
    runner = make_runner(Costly(clock, 1.0), worker, Tuner([TWO], measured))
    inputs = np.zeros((200, 2))
    for _ in runner.run(["y"], 200, lambda chunk: {"x": inputs[chunk]}):
        break
    ran = len(worker.sizes)
    assert ran <= 2 * 2 + 2 * 2  # not what would have come
    time.sleep(0.05)
    assert len(worker.sizes) == ran
