"""The fastest layout is found while the work is done, remembered, and changes no result."""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pytest

from onnxcam.arrays import Array
from onnxcam.errors import ModelError, OutOfMemoryError
from onnxcam.runtime import chunks as batch
from onnxcam.runtime.chunks import ChunkedRunner
from onnxcam.runtime.device import Device
from onnxcam.runtime.schedule import TRIALS, WARM, Schedule, Tuner, schedules
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
    made = Clock()
    monkeypatch.setattr(batch, "time", made)
    return made


def run(batches: ChunkedRunner, count: int) -> None:
    inputs = np.arange(count * 2.0).reshape(count, 2)
    parts = list(batches.run(["y"], count, lambda part: {"x": inputs[part]}))
    assert [i for part, _ in parts for i in range(part.start, part.stop)] == [*range(count)]
    np.testing.assert_array_equal(np.concatenate([found[0] for _, found in parts]), inputs * 2)


def tuned(whole: Costly, lane: Costly, tuner: Tuner) -> ChunkedRunner:
    session, other = cast(Session, whole), cast(Session, lane)
    return ChunkedRunner(session, tuner=tuner, lane=lambda: other)


@pytest.mark.parametrize(("costs", "best"), [((1.0, 2.0), ONE), ((2.0, 1.0), TWO)])
def test_the_faster_way_is_found(clock: Clock, costs: tuple[float, float], best: Schedule) -> None:
    tuner = Tuner([TWO, ONE])
    batches = tuned(Costly(clock, costs[0]), Costly(clock, costs[1]), tuner)
    for _ in range(4):
        run(batches, 25)
    assert tuner.is_done
    assert tuner.best == best


def test_a_settled_choice_is_all_that_runs(clock: Clock) -> None:
    whole, lane = Costly(clock, 2.0), Costly(clock, 1.0)
    tuner = Tuner([TWO, ONE], {"1 x 8": [0.1, 2.0, 2.0, 2.0], "2 x 2": [9.0, 1.0, 1.0, 1.0]})
    run(tuned(whole, lane, tuner), 25)
    assert whole.sizes == []
    assert len(lane.sizes) == 14  # seven for each lane
    assert sorted(lane.sizes) == [1] * 3 + [2] * 11


def test_only_what_is_new_is_kept(clock: Clock) -> None:
    kept: list[object] = []
    batches = ChunkedRunner(cast(Session, Costly(clock, 1.0)), tuner=Tuner([ONE]), keep=kept.append)
    run(batches, 1)
    assert not kept
    run(batches, 40)
    run(batches, 40)
    assert kept == [{"1 x 8": [1.0] * (WARM + TRIALS)}]


def test_a_model_that_cannot_be_opened_again_runs_in_one_lane(clock: Clock) -> None:
    def gone() -> Session:
        raise ModelError("the file is not there any more")

    whole = Costly(clock, 1.0)
    run(ChunkedRunner(cast(Session, whole), tuner=Tuner([TWO, ONE]), lane=gone), 9)
    assert whole.sizes == [5, 4]


def test_rounds_that_warm_up_and_small_ones_do_not_count() -> None:
    tuner = Tuner([ONE])
    tuner.record(ONE, 8, 800.0)
    tuner.record(ONE, 3, 1e-9)
    assert not tuner.is_done
    for _ in range(TRIALS + 2):
        tuner.record(ONE, 8, 8.0)
    assert tuner.is_done
    assert tuner.times == {"1 x 8": [100.0] * WARM + [1.0] * TRIALS}


def test_too_few_inputs_for_a_trial_run_as_is_best_so_far(clock: Clock) -> None:
    tuner = Tuner([ONE, TWO], {"2 x 2": [1.0, 1.0]})
    assert tuner.layout(7) == TWO
    assert tuner.layout(8) == ONE
    assert Tuner([ONE, TWO]).layout(2) == ONE


def test_measurements_are_resumed_and_nonsense_is_forgotten() -> None:
    kept = Tuner.resumed([ONE, TWO], {"1 x 8": [1.0, 2.0], "9 x 9": [1.0], "2 x 2": "fast"})
    assert kept.times == {"1 x 8": [1.0, 2.0]}
    assert Tuner.resumed([ONE], ["1 x 8"]).times == {}
    assert Tuner.resumed([ONE], {"1 x 8": [1.0, None]}).times == {}
    for odd in (float("nan"), float("inf"), -1.0, True, [1.0], 10**400, "1.0"):
        assert Tuner.resumed([ONE], {"1 x 8": [1.0, odd]}).times == {}
    for table in (None, 1, "1 x 8", [[1.0]], {"1 x 8": {"a": 1.0}}, {"1 x 8": 1.0}):
        assert Tuner.resumed([ONE], table).times == {}


def test_no_room_in_lanes_ends_the_tuning(clock: Clock) -> None:
    whole, lane = Costly(clock, 1.0), Costly(clock, 1.0, room=1)
    batches = tuned(whole, lane, Tuner([TWO, ONE]))
    run(batches, 10)
    assert batches.tuner is None
    assert whole.sizes == [1] * 10


def test_the_layouts_of_machines() -> None:
    assert schedules(1) == (Schedule(1, 4), ONE)
    assert schedules(2) == (TWO, Schedule(1, 4), Schedule(2, 1), ONE)
    assert all(each.inputs <= 16 for each in schedules(8))


def test_no_room_in_lanes_of_one_input_is_no_end(clock: Clock) -> None:
    whole, lane = Costly(clock, 1.0), Costly(clock, 1.0, room=0)
    batches = tuned(whole, lane, Tuner([Schedule(2, 1), ONE]))
    run(batches, 10)
    assert batches.tuner is None
    assert whole.sizes == [1] * 10


def test_where_one_lane_fails_the_others_end_before_the_next_try() -> None:
    log: list[str] = []

    class Whole(Costly):
        def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
            log.append("whole")
            return super().run(outputs, feeds)

    class Slow(Costly):
        def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
            (x,) = feeds.values()
            if x[0, 0] == 0:
                raise OutOfMemoryError("no room")
            time.sleep(0.2)
            log.append("lane")
            return super().run(outputs, feeds)

    clock = Clock()
    settled = {"2 x 2": [1.0] * (WARM + TRIALS)}
    batches = tuned(Whole(clock, 1.0), Slow(clock, 1.0), Tuner([TWO], settled))
    run(batches, 8)
    assert log == ["lane"] * log.count("lane") + ["whole"] * 8


def test_an_early_end_leaves_nothing_running(clock: Clock) -> None:
    lane = Costly(clock, 1.0)
    settled = {"2 x 2": [1.0] * (WARM + TRIALS)}
    batches = tuned(Costly(clock, 1.0), lane, Tuner([TWO], settled))
    inputs = np.zeros((200, 2))
    for _ in batches.run(["y"], 200, lambda part: {"x": inputs[part]}):
        break
    ran = len(lane.sizes)
    assert ran <= 2 * 2 + 2 * 2  # not what would have come
    time.sleep(0.05)
    assert len(lane.sizes) == ran
