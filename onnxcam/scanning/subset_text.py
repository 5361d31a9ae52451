"""Feature maps, cells and scores as text: in the form of `--channels`, and as rows of 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence

from onnxcam.scanning.search import Mask


def format_channels(numbers: Sequence[int]) -> str:
    """Ascending numbers with ranges, "3,7,10-20"; two neighbors are no range."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(
        f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs
    )


def cell_rows(cells: Mask) -> list[str]:
    """The cells (h, w) as rows of 0 and 1."""
    return ["".join("1" if cell else "0" for cell in row) for row in cells]


def format_scan_score(score: float) -> str:
    """The score with three digits or more, never with an exponent."""
    return f"{score:.0f}" if score >= 1000 else f"{score:.3g}"
