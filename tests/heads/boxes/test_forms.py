"""Boxes of every form against its formula, box by box, and what is done with numbers that fit no form."""

import math
from collections.abc import Iterator
from itertools import pairwise, product

import numpy as np
import pytest

from onnxcam.arrays import Floats
from onnxcam.dense import Boxes, Columns
from onnxcam.errors import ModelError, UnknownNameError
from onnxcam.heads.boxes.anchors import efficient_det, retina_face, ssd_300, tensorflow_ssd
from onnxcam.heads.boxes.decode import decode_boxes
from onnxcam.heads.boxes.form import BoxColumns
from onnxcam.heads.boxes.forms import FORMS

DRAW = np.random.default_rng(5)
SIZE = (64, 96)
STRIDES = (8, 16, 32)
LAYOUTS = "corners", "centers", "y first"


def cells(strides: tuple[int, ...] = STRIDES, per_cell: int = 1) -> Iterator[tuple[int, int, int]]:
    """Column, row and stride of each position."""
    for stride in strides:
        for row, column in product(range(SIZE[0] // stride), range(SIZE[1] // stride)):
            yield from [(column, row, stride)] * per_cell


def around(x: float, y: float, width: float, height: float) -> list[float]:
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def decode(form: str, array: Floats, size: tuple[int, int] = SIZE, **numbers: float) -> Floats:
    boxes = Boxes(
        form,
        (Columns("t", 2, 0, array.shape[2]),),
        {name: (number,) for name, number in numbers.items()},
    )
    return decode_boxes(boxes, {"t": array}, size)


def test_offsets_are_those_of_yolox() -> None:
    places = list(cells())
    array = DRAW.normal(size=(2, len(places), 4))
    expected = [
        [
            around((n[0] + x) * s, (n[1] + y) * s, math.exp(n[2]) * s, math.exp(n[3]) * s)
            for n, (x, y, s) in zip(numbers, places, strict=True)
        ]
        for numbers in array
    ]
    np.testing.assert_allclose(decode("offsets", array), expected, rtol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_bins_are_means_of_distributions(offset: float) -> None:
    places = list(cells())
    array = DRAW.normal(size=(1, len(places), 4 * 8))
    expected = []
    for numbers, (x, y, s) in zip(array[0], places, strict=True):
        sides = []
        for side in range(4):
            weights = [math.exp(number) for number in numbers[8 * side : 8 * side + 8]]
            sides.append(s * sum(b * w for b, w in enumerate(weights)) / sum(weights))
        left, top, right, bottom = sides
        px, py = (x + offset) * s, (y + offset) * s
        expected.append([px - left, py - top, px + right, py + bottom])
    np.testing.assert_allclose(decode("bins", array, offset=offset)[0], expected, rtol=1e-12)


def test_bins_of_huge_logits_are_finite() -> None:
    array = np.full((1, len(list(cells())), 32), 1e30)
    array[..., 7::8] *= 2
    assert np.isfinite(decode("bins", array)).all()


def test_fastest_det_has_fractions_of_the_image() -> None:
    places = list(cells((16,)))
    array = DRAW.normal(size=(1, len(places), 4))
    expected = []
    for numbers, (column, row, _) in zip(array[0], places, strict=True):
        x, y = (column + math.tanh(numbers[0])) / 6, (row + math.tanh(numbers[1])) / 4
        width, height = (1 / (1 + math.exp(-number)) for number in numbers[2:].tolist())
        expected.append(around(x * SIZE[1], y * SIZE[0], width * SIZE[1], height * SIZE[0]))
    np.testing.assert_allclose(decode("fastestdet", array)[0], expected, rtol=1e-12)


def tensorflow_boxes(height: int, width: int) -> Iterator[list[float]]:
    """The anchors of TensorFlow's SSD as y, x, height and width in fractions of the image."""
    scales = [0.2 + 0.15 * index for index in range(6)] + [1.0]
    rows, columns = math.ceil(height / 16), math.ceil(width / 16)
    for index, (scale, larger) in enumerate(pairwise(scales)):
        shapes = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        if index:
            shapes = [(scale, ratio) for ratio in (1, 2, 0.5, 3, 1 / 3)]
            shapes.append((math.sqrt(scale * larger), 1.0))
        for row, column in product(range(rows), range(columns)):
            for side, ratio in shapes:
                root = math.sqrt(ratio)
                yield [(row + 0.5) / rows, (column + 0.5) / columns, side / root, side * root]
        rows, columns = math.ceil(rows / 2), math.ceil(columns / 2)


@pytest.mark.parametrize("side", [300, 320])
def test_ssd_encodes_relative_to_anchors_of_tensorflow(side: int) -> None:
    anchors = list(tensorflow_boxes(side, side))
    array = DRAW.normal(size=(1, len(anchors), 4))
    expected = []
    for (ty, tx, th, tw), (y, x, height, width) in zip(array[0], anchors, strict=True):
        y, x = y + ty / 10 * height, x + tx / 10 * width
        height, width = height * math.exp(th / 5), width * math.exp(tw / 5)
        expected.append(np.array(around(x, y, width, height)) * side)
    np.testing.assert_allclose(decode("ssd", array, (side, side))[0], expected, rtol=1e-9)


def test_anchors_are_as_many_as_in_the_papers() -> None:
    counts = [
        len(ssd_300((300, 300))),
        len(tensorflow_ssd((300, 300))),
        len(retina_face((640, 640))),
        len(efficient_det((512, 512))),
    ]
    assert counts == [8732, 1917, 16800, 49104]


def test_anchors_of_first_ssd_are_those_of_its_configuration() -> None:
    """x, y, width and height of the first cell's, and of the only cell of the last grid."""
    anchors = ssd_300((300, 300))
    half, side = math.sqrt(2), math.sqrt(30 * 60)
    first = [[4.0, 4, 30, 30], [4, 4, side, side], [4, 4, 30 * half, 30 / half]]
    last = [150, 150, 264 / half, 264 * half]
    np.testing.assert_allclose(anchors[:3], first, rtol=1e-12)
    np.testing.assert_allclose(anchors[-1], last, rtol=1e-12)


@pytest.mark.parametrize("unit", ["pixels", "fractions"])
@pytest.mark.parametrize(  # without cells, nothing tells the order of the coordinates
    ("layout", "grid"),
    [(layout, True) for layout in LAYOUTS] + [(layout, False) for layout in LAYOUTS[:2]],
)
def test_values_tell_layout_and_unit(layout: str, unit: str, grid: bool) -> None:
    """Also where large boxes lie everywhere, whose width and height are larger than their centers."""
    places = list(cells()) if grid else [(*DRAW.uniform(1, 5, 2), 16) for _ in range(100)]
    shapes = DRAW.uniform(10, 90, (len(places), 2))
    expected = np.array(
        [
            around((x + 0.5) * s, (y + 0.5) * s, w, h)
            for (x, y, s), (w, h) in zip(places, shapes, strict=True)
        ]
    )
    numbers = expected / ([96, 64, 96, 64] if unit == "fractions" else 1)
    if layout == "centers":
        low, high = numbers[:, :2], numbers[:, 2:]
        numbers = np.concatenate([(low + high) / 2, high - low], axis=1)
    elif layout == "y first":
        numbers = numbers[:, [1, 0, 3, 2]]
    np.testing.assert_allclose(decode("boxes", numbers[None])[0], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", ["offsets", "bins", "scrfd", "ssd", "retinaface", "yolov5-raw"])
def test_count_that_fits_no_grid_is_an_error(form: str) -> None:
    with pytest.raises(ModelError, match=r"boxes do not fit .* 64 x 96"):
        decode(form, np.zeros((1, 1234, 32 if form == "bins" else 4)))


@pytest.mark.parametrize("batch_axis", [0, None, 2])
def test_numbers_are_read_along_any_axis(batch_axis: int | None) -> None:
    rows = DRAW.normal(size=(1 if batch_axis is None else 3, 7, 6))
    arrays = {
        0: np.moveaxis(rows, 2, 1),
        None: np.moveaxis(rows, 2, 1)[0],
        2: np.moveaxis(rows, (0, 1, 2), (2, 0, 1)),
    }
    axis = {0: 1, None: 0, 2: 1}[batch_axis]
    columns = Columns("t", axis, 1, 5, batch_axis)
    np.testing.assert_array_equal(columns.read({"t": arrays[batch_axis]}), rows[..., 1:5])


def test_form_is_known_by_names_of_detectors() -> None:
    assert FORMS["yolov8"] is FORMS["centers"]
    assert FORMS["yolox"] is FORMS["offsets"]
    with pytest.raises(UnknownNameError, match=r"yolov8"):
        FORMS["yolov88"]


def test_at_most_one_form_fits_any_numbers() -> None:
    """Which one is used must not depend on the names of the modules."""
    alternatives = product(
        (4, 32, 64),
        (
            ((126,), (64, 96)),
            ((252,), (64, 96)),
            ((2034,), (320, 320)),
            ((384, 96, 24), (128, 192)),
        ),
        ((True, ""), (True, "Sigmoid"), (True, "Exp"), (False, "")),
        ("", "corners", "centers"),
        ((False, None), (True, None), (True, 0), (True, 4)),
        (None, 1, 2, 3),
        (True, False),
    )
    for width, (counts, size), (raw, activation), layout, (
        own,
        objectness,
    ), anchors, last in alternatives:
        columns = BoxColumns(
            tuple(Columns(f"t{index}", 2, 0, width) for index in range(len(counts))),
            tuple((count,) for count in counts),
            size,
            raw=raw,
            activation=activation,
            layout="" if raw else layout,
            own=own,
            objectness=objectness,
            anchors=anchors,
            channels_last=last,
        )
        fitting = {form.name for form in FORMS.values() if form.find(columns) is not None}
        assert len(fitting) <= 1, (fitting, columns)
