"""How the rows of an image are divided: the image itself and its samples, in rounds of equal size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Floats

BATCH_BYTES = 1 << 20  # of images that are run together; more of them are run in rounds
FEWEST_ROWS, MOST_ROWS = 2, 3  # of an image in a round: more take memory, and no less time


@dataclass(frozen=True)
class Rounds:
    """The rows of an image: the image itself, and its samples. Rows that fill up the last round repeat the last
    sample, and count for nothing.

    Attributes:
        samples: the number n of samples.
        count: the number of rounds.
        size: the number of rows of an image in a round.
        first: the row of the first sample: 1 if row 0 is the image itself, or 0.
    """

    samples: int
    count: int
    size: int
    first: int = 1

    @property
    def is_alone(self) -> bool:
        """Whether the image itself is the only sample, so that there is one row."""
        return self == ALONE

    @property
    def numbers(self) -> NDArray[np.int64]:
        """(count, size): the number of the sample in each row; 0 for the image itself."""
        rows = np.arange(self.count * self.size) - self.first
        return np.clip(rows, 0, self.samples - 1).reshape(self.count, self.size)

    @property
    def is_sample(self) -> NDArray[np.bool_]:
        """(count, size): whether a row is a sample that counts."""
        rows = np.arange(self.count * self.size).reshape(self.count, self.size) - self.first
        return (rows >= 0) & (rows < self.samples)

    def rows_of(self, values: Any) -> Floats:
        """(count, size) float32: numbers (n,) of the samples in their rows, 0 in the other rows."""
        rows = np.asarray(values, np.float32)[self.numbers]
        return np.where(self.is_sample, rows, np.float32(0))


ALONE = Rounds(1, 1, 1, 0)


def divide(samples: int, image_bytes: int, requested: int | None = None) -> Rounds:
    """The rounds of n samples of an image of so many bytes. By default, small images are run in one batch, and
    large ones in rounds of a few rows, of which as few as possible are run for nothing.
    """
    rows = samples + 1
    if requested is not None:
        size = -(-rows // min(requested, rows))
    elif rows * image_bytes <= BATCH_BYTES:
        size = rows
    else:
        size = min(range(FEWEST_ROWS, MOST_ROWS + 1), key=lambda size: -rows % size)
    return Rounds(samples, -(-rows // size), size)


def one_by_one(samples: int) -> Rounds:
    """Rounds of one row, for models that do not run several images together."""
    return Rounds(samples, samples + 1, 1)


def only_samples(samples: int) -> Rounds:
    """One round of the samples without the image itself."""
    return Rounds(samples, 1, samples, 0)
