"""Many inputs through one session, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxcam.arrays import Array
from onnxcam.errors import RunError
from onnxcam.runtime.session import OutOfMemoryError, Session

CHUNK = 8  # as fast a picture as larger ones on CPUs, and a fraction of their memory


@dataclass
class Batches:
    """Runs of a session in chunks. `fixed` is the batch that the model was exported for, if it could not
    be freed of it: a last chunk is then filled up. A chunk that does not fit into memory is halved, for
    good.
    """

    session: Session
    fixed: int | None = None
    chunk: int = CHUNK

    def run(
        self,
        outputs: Sequence[str],
        count: int,
        feed: Callable[[slice], Mapping[str, Array]],
    ) -> Iterator[tuple[slice, list[Array]]]:
        """The outputs for inputs 0 to `count`, in order; `feed` makes the inputs of a range.

        RunError where not even one input at a time fits into memory.
        """
        start = 0
        while start < count:
            part = slice(start, min(start + (self.fixed or self.chunk), count))
            try:
                found = self._run(outputs, feed(part), part.stop - part.start)
            except (OutOfMemoryError, MemoryError) as fault:
                self._halve(fault)
                continue
            yield part, found
            start = part.stop

    def _run(self, outputs: Sequence[str], feeds: Mapping[str, Array], count: int) -> list[Array]:
        if self.fixed is None or self.fixed == count:
            return self.session.run(outputs, feeds)
        filled = {name: _filled_up(each, self.fixed) for name, each in feeds.items()}
        return [each[:count] for each in self.session.run(outputs, filled)]

    def _halve(self, fault: BaseException) -> None:
        if self.fixed is not None or self.chunk <= 1:
            raise RunError(
                f"out of memory on {self.session.device} with {self.fixed or 1} picture(s) at a time; "
                "use --device cpu, or a smaller picture size"
            ) from fault
        self.chunk //= 2


def _filled_up(array: Array, count: int) -> Array:
    """The array with its last entry repeated up to `count` entries."""
    return np.concatenate([array, np.repeat(array[-1:], count - len(array), axis=0)])


def pictures_do_not_mix(
    single: Session, free: Session, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> bool:
    """Whether a model freed of its batch gives two pictures what the original gives each alone."""
    draw = np.random.Generator(np.random.SFC64(0))
    drawn = draw.standard_normal((2, *shape[1:]), dtype=np.float32)
    pair = (drawn if dtype.kind == "f" else np.clip(64 + 32 * drawn, 0, 127)).astype(dtype)
    try:
        together = free.run(free.outputs, {name: pair})
        alone = [single.run(free.outputs, {name: each[None]}) for each in pair]
    except RunError:
        return False
    return all(
        each.shape == (2, *one.shape[1:])
        and np.allclose(each[i : i + 1], one, rtol=1e-3, atol=1e-4)
        for i, ones in enumerate(alone)
        for each, one in zip(together, ones, strict=True)
    )
