"""From images to results: threads prepare images while others run, in blocks of one size and kind of target.

Memory is bounded by the block that runs and the images that wait for it, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np

from onnxcam.arrays import Floats, Images
from onnxcam.errors import ImageError, OnnxcamError, SettingError
from onnxcam.explain.ahead import map_ahead
from onnxcam.explain.explanation import ExplainedImage
from onnxcam.explain.inputs import PreparedInput
from onnxcam.explain.run import ProgressCallback, no_progress
from onnxcam.runtime.device import usable_cpus
from onnxcam.runtime.session import memory_errors
from onnxcam.specs import ImageInput
from onnxcam.targets.classes import DEFAULT_TARGET, Spec

BLOCK = 16  # images that are run together
AHEAD = 16  # images that are prepared before they are needed
RUNS = 2  # blocks that run at the same time
LARGEST_BLOCK = 64  # steps, with those that need no run
MAX_THREADS = 8  # that prepare images
MAX_VALUES = 6 << 20  # of the inputs of a block: 41 images of 3 x 224 x 224, two of 3 x 1024 x 1024
MAX_PIXELS = 64 << 20  # of the originals of a block, and of those that wait: 200 MB


@dataclass
class Step:
    """One image and target on its way: its source, then its input, then its result (a `BlockResult`, or what
    else is computed), or the error that stopped it. A step with neither an input nor an error needs no run.
    """

    source: Any
    spec: Spec = DEFAULT_TARGET
    input: PreparedInput | None = None
    error: OnnxcamError | None = None
    result: Any = None

    @property
    def waits(self) -> bool:
        """Whether it has to be run."""
        return self.input is not None and self.error is None and self.result is None

    @property
    def tensor(self) -> Floats:
        """The input of the model, (1, ...)."""
        assert self.input is not None  # noqa: S101  only steps that wait are run
        return self.input.tensor

    @property
    def image(self) -> ExplainedImage:
        """The image that the input shows."""
        assert self.input is not None  # noqa: S101  only steps that wait are run
        return self.input.image

    def drop_tensor(self) -> None:
        """Free the memory of the input that was run."""
        if self.input is not None:
            self.input = self.input._replace(tensor=self.input.tensor[:0])

    @property
    def pixels(self) -> int:
        """The number of pixels of the original image."""
        return self.input.pixels if self.input else 0


class Rows(Protocol):
    """The results of images that ran together."""

    def row(self, number: int) -> Rows:
        """The result of one image."""


Load: TypeAlias = Callable[[], Sequence[Step]]  # the steps of one image
RunBlock: TypeAlias = Callable[[Sequence[Step], ProgressCallback], Rows]
Expand: TypeAlias = Callable[[PreparedInput, Spec], Sequence[Spec]]
ErrorCallback: TypeAlias = Callable[[Any, OnnxcamError], None]  # gets the source of the image, too


def preparing_threads() -> int:
    """How many threads prepare images."""
    return min(usable_cpus(), MAX_THREADS)


def load_steps(
    loaders: Iterable[tuple[Any, Callable[[], PreparedInput]]],
    specs: Iterable[Spec],
    expand: Expand = lambda _, spec: [spec],
) -> Iterator[Load]:
    """What loads each image, for its target, or for the targets that `expand` makes of it; an image that cannot
    be loaded has a step with the error. SettingError if there are fewer targets than images.
    """
    remaining = iter(specs)
    for source, loader in loaders:
        try:
            spec = next(remaining)
        except StopIteration:
            raise SettingError("there are fewer targets than images; pass one per image") from None
        yield partial(_load_step, source, loader, spec, expand)


def _load_step(
    source: Any, loader: Callable[[], PreparedInput], spec: Spec, expand: Expand
) -> list[Step]:
    try:
        with memory_errors("while an image was prepared"):
            prepared = loader()
            return [Step(source, target, prepared) for target in expand(prepared, spec)]
    except OnnxcamError as error:
        return [Step(source, spec, error=error)]


def successful(steps: Iterable[Step], on_error: ErrorCallback | None = None) -> Iterator[Step]:
    """The steps with results. The error of any other step is raised, or passed to `on_error`."""
    for step in steps:
        if step.error is None:
            yield step
        elif on_error is None:
            raise step.error
        else:
            on_error(step.source, step.error)


def of_one_size(steps: Iterable[Step], image: ImageInput) -> Iterator[Step]:
    """The steps; ImageError if their inputs differ in size."""
    sizes: dict[tuple[int, int], None] = {}
    for step in steps:
        sizes[image.size_of(step.tensor)] = None
        if len(sizes) > 1:
            height, width = sizes.popitem()[0]
            raise ImageError(
                f"the images have 2 sizes, one of them {height} x {width}; explain images of one size at "
                "a time, or use `stream`"
            )
        step.drop_tensor()
        yield step


def run_steps(
    loads: Iterable[Load],
    run: RunBlock,
    kind: Callable[[Step], Hashable],
    *,
    block: int = BLOCK,
    threads: int,
    start: Callable[[Step], None] | None = None,
    progress: ProgressCallback = no_progress,
    runs: int = 1,
    is_tuned: Callable[[], bool] = lambda: True,
) -> Iterator[Step]:
    """The steps of all images, in order, with their results or errors. `threads` load images ahead; without
    any, they are loaded one by one. Steps of one `kind` after each other run together, at most `block` of them.
    `start` gets the first step of a block before it is run. `runs` blocks run at a time, at most two: the maps
    of one are computed during the passes of the other. Until the runs are tuned (see `runtime/schedule.py`), a
    block has the processor to itself: what is prepared or run beside it would decide which schedule is fastest.
    """
    loaded = _load_all(loads, threads, block, is_tuned)
    blocks = _started(_blocks(loaded, kind, block), start)
    if not threads or block == 1:
        for block_steps in blocks:
            _run(block_steps, run, progress)
            yield from block_steps
        return

    def call(steps: Sequence[Step]) -> tuple[Sequence[Step], int]:
        counts: list[int] = []
        _run(steps, run, counts.append)
        return steps, sum(counts)

    for steps, count in map_ahead(
        call, blocks, threads=RUNS, has_room=lambda waiting: waiting < (runs if is_tuned() else 1)
    ):
        progress(count)  # in the calling thread
        yield from steps


def _load_all(
    loads: Iterable[Load], threads: int, block: int, is_tuned: Callable[[], bool]
) -> Iterator[Step]:
    """The steps of all images; until the runs are tuned, none is loaded beyond the block that is next."""
    if not threads:
        for load in loads:
            yield from load()
        return
    loaded, pixels = 0, 0  # images so far, and the size of the last

    def has_room(count: int) -> bool:
        limit = AHEAD if is_tuned() else min(AHEAD, block - loaded % block)
        return count < limit and (count + 1) * pixels <= MAX_PIXELS

    for steps in map_ahead(_load, loads, threads=threads, has_room=has_room):
        loaded, pixels = loaded + 1, max((step.pixels for step in steps), default=0)
        yield from steps


def _load(load: Load) -> Sequence[Step]:
    return load()


def _blocks(
    steps: Iterable[Step], kind: Callable[[Step], Hashable], size: int
) -> Iterator[list[Step]]:
    """Steps that run together, with those between them that are not run."""
    block: list[Step] = []
    count, pixels, last = 0, 0, None
    try:
        for step in steps:
            current = kind(step) if step.waits else last
            is_full = count == size or pixels + step.pixels > MAX_PIXELS or _is_large(step, count)
            if block and (
                len(block) == LARGEST_BLOCK or (step.waits and (is_full or current != last))
            ):
                yield block
                block, count, pixels = [], 0, 0
            block.append(step)
            if step.waits:
                count, pixels, last = count + 1, pixels + step.pixels, current
            if not count or count == size:
                yield block
                block, count, pixels = [], 0, 0
    except Exception:  # of the images: those before it are run
        if block:
            yield block
        raise
    if block:
        yield block


def _started(
    blocks: Iterable[list[Step]], start: Callable[[Step], None] | None
) -> Iterator[list[Step]]:
    for steps in blocks:
        first = next((step for step in steps if step.waits), None)
        if first is not None and start is not None:
            start(first)
        yield steps


def _is_large(step: Step, count: int) -> bool:
    """Whether the inputs of `count` images and this one are too large for one block."""
    return step.waits and (count + 1) * step.tensor.size > MAX_VALUES


def inputs_of(steps: Sequence[Step], dtype: str) -> tuple[Images, list[Spec], list[ExplainedImage]]:
    """The tensors of steps as one, their targets, and their images."""
    tensors = np.concatenate([step.tensor for step in steps]).astype(dtype, copy=False)
    return tensors, [step.spec for step in steps], [step.image for step in steps]


def _run(steps: Sequence[Step], run: RunBlock, progress: ProgressCallback) -> None:
    """Run the steps that wait together; one by one if that fails, so that only those fail that have to."""
    waiting = [step for step in steps if step.waits]
    if not waiting:
        return
    try:
        result = run(waiting, progress)
    except OnnxcamError as error:
        if len(waiting) == 1:
            waiting[0].error = error
        else:
            for step in waiting:
                _run([step], run, progress)
    else:
        for number, step in enumerate(waiting):
            step.result = result.row(number) if len(waiting) > 1 else result
