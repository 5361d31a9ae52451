"""Boxes and outlines are drawn where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import onnxcam
from onnxcam.image.marks import draw_box, draw_outline
from onnxcam.image.overlay import overlay
from onnxcam.targets.target import Mark

GRAY = (90, 90, 90)
DETECTOR = Path(__file__).parents[2] / "models" / "shapes-detector.onnx"
SCENE = DETECTOR.parent / "detector" / "scene.png"


def changed(image: Image.Image) -> Any:
    return (np.asarray(image) != np.array(GRAY, np.uint8)).any(axis=2)


@pytest.mark.parametrize("box", [(10, 20, 60, 70), (-30, -5, 40, 30), (50, 50, 500, 90)])
def test_box_is_drawn_along_its_edges(box: tuple[int, int, int, int]) -> None:
    image = Image.new("RGB", (100, 100), GRAY)
    draw_box(image, box)
    rows, columns = np.nonzero(changed(image))
    left, top, right, bottom = np.clip(box, 0, 99)
    assert abs(columns.min() - left) <= 2
    assert abs(columns.max() - right) <= 2
    assert abs(rows.min() - top) <= 2
    assert abs(rows.max() - bottom) <= 2
    inside = changed(image)[top + 5 : bottom - 4, left + 5 : right - 4]
    assert not inside.any()


def test_outline_is_drawn_around_its_cells() -> None:
    image = Image.new("RGB", (80, 80), GRAY)
    mask = np.zeros((8, 8), bool)
    mask[2:5, 3:6] = True
    draw_outline(image, mask, (0, 0, 80, 80))
    drawn = changed(image)
    rows, columns = np.nonzero(drawn)
    assert 15 <= rows.min() <= 20
    assert 50 <= rows.max() <= 55
    assert 25 <= columns.min() <= 30
    assert 60 <= columns.max() <= 65
    assert not drawn[28:42, 38:52].any()


def test_frame_of_an_overlay_is_scaled_with_the_image() -> None:
    image = Image.new("RGB", (400, 400), GRAY)
    drawn = overlay(
        image, np.zeros((4, 4)), (0, 0, 400, 400), longest_side=100, frame=(200, 0, 399, 200)
    )
    plain = overlay(image, np.zeros((4, 4)), (0, 0, 400, 400), longest_side=100)
    rows, columns = np.nonzero((np.asarray(drawn) != np.asarray(plain)).any(axis=2))
    assert abs(columns.min() - 50) <= 2
    assert abs(rows.max() - 50) <= 2


def test_mark_is_scaled_with_an_enlarged_image() -> None:
    """On a sheet, small images are enlarged before their maps are drawn."""
    assert Mark(box=(1, 2, 3, 4)).scaled(2).box == (2, 4, 6, 8)
    assert Mark().scaled(2) == Mark()


def test_box_on_a_sheet_surrounds_its_object(monkeypatch: pytest.MonkeyPatch) -> None:
    frames: list[Any] = []
    original = overlay

    def record(image: Image.Image, *args: Any, **drawing: Any) -> Image.Image:
        frames.append((image.size, drawing["frame"]))
        return original(image, *args, **drawing)

    comparison = onnxcam.compare(DETECTOR, SCENE, ["hires-cam"], device="cpu")
    (explanation,) = comparison.explanations
    monkeypatch.setattr("onnxcam.image.overlay.overlay", record)
    comparison.sheet()
    (width, _), frame = frames[-1]
    scale, box = width / explanation.images[0].image.width, explanation.marks[0].box
    assert scale > 1
    assert box is not None
    assert frame == pytest.approx([scale * edge for edge in box])


def test_outline_leaves_out_the_padding_of_a_letterbox() -> None:
    """The upper and lower quarter of the cells show padding."""
    image = Image.new("RGB", (400, 200), GRAY)
    box = (0.0, -100.0, 400.0, 300.0)
    outline = np.zeros((8, 8), bool)
    outline[2:6, :2] = True  # the left fourth of the image, over its full height
    drawn, plain = (overlay(image, np.zeros((8, 8)), box, outline=mask) for mask in (outline, None))
    rows, columns = np.nonzero((np.asarray(drawn) != np.asarray(plain)).any(axis=2))
    assert rows.min() <= 15  # corners are rounded
    assert rows.max() >= 184
    middle = columns[(rows > 60) & (rows < 140)]
    assert 95 <= middle.min() <= middle.max() <= 110
