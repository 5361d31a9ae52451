"""Where an image lies in the tensor is the same in the graph as in Python, for every size."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from onnxcam.embedding.placement import place_spans
from onnxcam.graph.tracing import Builder, Value
from onnxcam.image.geometry import FITS, Fit, place
from tests.embedding.support.small_graphs import open_graph, write_graph

TENSORS = [(224, 224), (224, 160), (37, 64)]
RATIOS = (0.875, 1.0)


def spans(fit: Fit, tensor: tuple[int, int], ratio: float) -> Callable[..., list[Any]]:
    """A function of `height` and `width` that returns resized and start, of the rows and of the columns."""

    def write(build: Builder) -> Mapping[str, Value]:
        sides = tuple(build.input(name, np.dtype(np.int64), (1,)) for name in ("height", "width"))
        both = place_spans((sides[0], sides[1]), tensor, fit, ratio)
        values = [value for span in both for value in (span.resized, span.start)]
        return {f"value{number}": value for number, value in enumerate(values)}

    return open_graph(write_graph(write))


def sizes() -> list[tuple[int, int]]:
    """(height, width): small and odd ones, those of photographs, and extreme proportions."""
    draws = np.random.default_rng(0).integers(1, 3000, (400, 2)).tolist()
    common = [(480, 640), (427, 640), (375, 500), (1080, 1920), (3000, 4000), (4032, 3024)]
    extreme = [(1, 1), (1, 2), (1, 16384), (16384, 1), (16384, 16384), (16383, 129), (2, 3)]
    return [(int(height), int(width)) for height, width in (*draws, *common, *extreme)]


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("tensor", TENSORS, ids=str)
@pytest.mark.parametrize("fit", FITS)
def test_spans_are_those_of_place(fit: Fit, tensor: tuple[int, int], ratio: float) -> None:
    run = spans(fit, tensor, ratio)
    for height, width in sizes():
        outputs = run(height=np.array([height]), width=np.array([width]))
        rows, columns = ([int(number[0]) for number in pair] for pair in (outputs[:2], outputs[2:]))
        placement = place((width, height), tensor[::-1], fit, ratio)
        message = f"{height} x {width}"
        if fit in ("letterbox", "letterbox-corner"):
            assert (columns[0], rows[0]) == placement.size, message
            assert (-columns[1], -rows[1]) == placement.corner, message
            continue
        source = placement.source
        for (resized, start), side, full, ends in (
            (columns, width, tensor[1], (source[0], source[2])),
            (rows, height, tensor[0], (source[1], source[3])),
        ):
            edges = [float(Fraction(edge * side, resized)) for edge in (start, start + full)]
            assert edges == pytest.approx(ends, abs=1e-9), message


def test_half_of_letterbox_is_rounded_to_even() -> None:
    run = spans("letterbox", (64, 64), 1.0)
    for height, expected in ((1, 0), (3, 2), (5, 2), (7, 4)):
        rows = run(height=np.array([height]), width=np.array([128]))[0]
        assert rows.tolist() == [max(1, expected)]
