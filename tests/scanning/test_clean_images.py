"""Scans of generated images by the bundled model: p-values of clean images are uniform, and unusual ones are
told from them as far as the tables of the README say.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from onnxcam.scanning.scanner import Scanner
from onnxcam.scanning.settings import ScanSettings
from scripts.shapes.anomalies import Pixels, clean_images, insert_discs, random_pixels
from scripts.shapes.scan_power import Rows, auc, compare, distance_from_uniform, read

MODEL = Path(__file__).resolve().parents[2] / "models" / "shapes.onnx"
COUNT, USUAL = 200, 120
CRITICAL = 1.63 * np.sqrt(1 / COUNT + 1 / USUAL)  # of two samples, at a level of 1 % (Smirnov)


class Sets(NamedTuple):
    """Background images and others, and their activations at the last layer."""

    usual: Pixels
    clean: Pixels
    usual_rows: Rows
    clean_rows: Rows


@pytest.fixture(scope="module")
def sets() -> Sets:
    usual, clean = clean_images(201, USUAL), clean_images(202, COUNT)
    return Sets(usual, clean, read(MODEL, "relu_8", usual), read(MODEL, "relu_8", clean))


@pytest.mark.parametrize("statistic", ["berk-jones", "higher-criticism"])
def test_p_values_of_clean_images_are_uniform(sets: Sets, statistic: str) -> None:
    clean = compare(sets.usual_rows, sets.clean_rows, ScanSettings(statistic=statistic))
    assert distance_from_uniform(clean) < CRITICAL
    assert distance_from_uniform(clean / 2) > CRITICAL


def test_random_pixels_are_more_unusual_than_images(sets: Sets) -> None:
    settings = ScanSettings(alpha_max=0.5)
    noise = read(MODEL, "relu_8", random_pixels(sets.clean[:20], 0))
    p_values = (compare(sets.usual_rows, rows, settings) for rows in (noise, sets.clean_rows[:60]))
    assert auc(*p_values) > 0.95


def test_foreign_objects_are_marked_more_than_the_rest(sets: Sets) -> None:
    foreign, masks = insert_discs(sets.clean[:30], 0)
    scanner = Scanner(MODEL, sets.usual[:100], "relu_6", restarts=0, device="cpu")
    areas = []
    for scanned, mask in zip(scanner.stream(foreign), masks, strict=True):
        on_object = mask.reshape(14, 8, 14, 8).mean(axis=(1, 3)) > 0.5
        areas.append(auc(-scanned.map[on_object], -scanned.map[~on_object]))
    assert np.mean(areas) > 0.7
