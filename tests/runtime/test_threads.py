"""Threads that an interrupt leaves half started still end, so that the process does."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import pytest

from onnxcam.runtime.chunks import ChunkedRunner
from onnxcam.runtime.schedule import Schedule, Tuner
from onnxcam.runtime.session import Session
from onnxcam.runtime.threads import submit
from tests.runtime.test_chunks import Doubling


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads that start; after the first one comes an interrupt."""
    start, threads = threading.Thread.start, list[threading.Thread]()

    def start_and_interrupt(thread: threading.Thread) -> None:
        start(thread)
        threads.append(thread)
        if len(threads) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", start_and_interrupt)
    return threads


def assert_ends(thread: threading.Thread) -> None:
    thread.join(10)
    assert not thread.is_alive()


def test_thread_whose_start_is_interrupted_ends(started: list[threading.Thread]) -> None:
    pool = ThreadPoolExecutor(2)
    with pytest.raises(KeyboardInterrupt):
        submit(pool, int)
    assert_ends(started[0])


def test_runner_starts_new_workers_after_an_interrupt(started: list[threading.Thread]) -> None:
    session = cast(Session, cast(Any, Doubling()))
    runner = ChunkedRunner(session, tuner=Tuner([Schedule(2, 1)]), open_worker=lambda: session)
    inputs = np.arange(8.0).reshape(4, 2)

    def run() -> list[Any]:
        return [arrays[0] for _, arrays in runner.run(["y"], 4, lambda chunk: {"x": inputs[chunk]})]

    with pytest.raises(KeyboardInterrupt):
        run()
    assert_ends(started[0])
    np.testing.assert_array_equal(np.concatenate(run()), inputs * 2)
    assert len(started) > 1
