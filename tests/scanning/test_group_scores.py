"""P-values of groups of images: compared with a slow definition, uniform, refused where they mean nothing."""

from __future__ import annotations

import numpy as np
import pytest

import onnxcam
from onnxcam.arrays import Floats
from onnxcam.errors import SettingError
from onnxcam.scanning.background import TAILS, Background
from onnxcam.scanning.group_scores import (
    MOST,
    at_levels,
    background_groups,
    p_value,
    score_background_groups,
    score_group,
)
from onnxcam.scanning.reference import Members, Reference
from onnxcam.scanning.scanner import Scanner
from onnxcam.scanning.settings import ScanSettings
from tests.scanning.support.plain_model import ARGUMENTS, images, plain_model
from tests.scanning.test_scanner import PLANTED


def no_progress(number: int, groups: int) -> None:
    """Nothing."""


def reference_of(rows: Floats, settings: ScanSettings) -> Reference:
    members = Members(rows.shape[1], len(rows))
    for row in rows:
        members.add(row, ())
    return Reference(members, settings)


def slow_ranks(others: Floats, image: Floats, tail: str) -> Floats:
    larger, smaller = (others >= image).sum(axis=0), (others <= image).sum(axis=0)
    if tail == "both":
        return np.minimum(2 * (1 + np.minimum(larger, smaller)), len(others) + 1)
    return 1 + (larger if tail == "right" else smaller)


@pytest.mark.parametrize("tail", TAILS)
def test_ranks_of_members_are_those_among_the_other_images(tail: str) -> None:
    rng = np.random.default_rng(4)
    rows = rng.integers(0, 9, (14, 25)).astype(np.float32)  # many are equal
    usual, new, members = rows[:11], rows[11:], [2, 5, 7]
    background = Background(usual.T.copy(), tail)
    ranks = background.ranks_in_place_of(new, usual[members])
    others = np.concatenate([np.delete(usual, members, 0), new])
    for row, number in zip(ranks, members, strict=True):
        np.testing.assert_array_equal(row, slow_ranks(others, usual[number], tail))


def p_values_of_group(
    usual: dict[int, Floats], new: dict[int, Floats], settings: ScanSettings
) -> tuple[float, float]:
    """Those of the block and of the nodes that are common to all images."""
    references = {label: reference_of(rows, settings) for label, rows in usual.items()}
    levels = max(reference.background.levels for reference in references.values())
    ranks = [
        at_levels(references[label].background.ranks(rows), len(usual[label]) + 1, levels)
        for label, rows in new.items()
    ]
    result = score_group(np.concatenate(ranks), levels, settings)
    others = score_background_groups(references, new, settings, no_progress)
    return p_value(result.block.score, others[:, 0]), p_value(result.common_score, others[:, 1])


@pytest.mark.parametrize("classes", [1, 2])
def test_p_values_of_clean_groups_are_uniform(classes: int) -> None:
    """Images of which some have larger activations than others at all nodes, as real ones."""
    settings, trials, pairs = ScanSettings(0.3, restarts=0, together=True), 50, []
    rng = np.random.default_rng(8)
    for _ in range(trials):
        usual, new = {}, {}
        for label in range(classes):
            rows = rng.gamma(1.0, size=(40, 1)) + rng.gamma(0.5, size=(40, 12))
            rows = np.maximum(rows.astype(np.float32) - 0.3, 0)
            usual[label], new[label] = rows[2:], rows[:2]
        pairs.append(p_values_of_group(usual, new, settings))
    levels, critical = (
        np.arange(1, 21) / 20,
        1.63 / np.sqrt(trials),
    )  # Kolmogorov, at a level of 1 %
    for values in np.array(pairs).T:
        shares = (values[:, None] <= levels + 1e-9).mean(axis=0)
        assert np.abs(shares - levels).max() < critical
        halved = (values[:, None] / 2 <= levels + 1e-9).mean(axis=0)
        assert np.abs(halved - levels).max() > critical


def test_groups_of_the_background_are_disjoint_and_have_the_classes_of_the_images() -> None:
    groups = background_groups({0: 2, 3: 1}, {0: 41, 3: 50}, seed=1)
    assert len(groups) == 20
    for label, size in {0: 2, 3: 1}.items():
        numbers = np.concatenate([group[label] for group in groups])
        assert len(np.unique(numbers)) == len(numbers) == 20 * size
    assert len(background_groups({0: 1}, {0: 1000}, seed=1)) == MOST
    first, second = (background_groups({0: 2}, {0: 9}, seed=seed)[0][0] for seed in (1, 2))
    assert first.tolist() != second.tolist()


def test_group_with_a_block_in_common_has_the_smallest_p_value_and_a_clean_one_has_not() -> None:
    usual, new = images(60, seed=20), images(6, seed=21)
    planted = new[:3].copy()
    for image in planted:
        image[PLANTED] = 1.0
    groups = [
        onnxcam.scan(plain_model(), rows, usual, together=True, **ARGUMENTS).group
        for rows in (planted, new[3:])
    ]
    assert groups[0] is not None
    assert groups[1] is not None
    assert groups[0].groups == 20
    assert (groups[0].p_value, groups[0].common_p_value) == (1 / 21, 1 / 21)
    assert groups[0].common[PLANTED].all()
    assert groups[1].p_value is not None
    assert groups[1].p_value > 0.1
    facts = groups[0].manifest()["scan"]
    assert facts["p_value"] == facts["common_p_value"] == 1 / 21
    assert facts["background_groups"] == 20


def test_too_few_background_images_are_told_with_the_number_that_is_needed() -> None:
    with pytest.warns(onnxcam.OnnxcamNotice, match="3 images need 57 background images, 19 for"):
        scan = onnxcam.scan(
            plain_model(), images(3, seed=21), images(56, seed=20), together=True, **ARGUMENTS
        )
    assert scan.group is not None
    assert (scan.group.p_value, scan.group.groups) == (None, 0)


def test_scanner_that_keeps_no_activations_scans_nothing_together() -> None:
    scanner = Scanner(plain_model(), images(30), **ARGUMENTS)
    scanned = [*scanner.stream(images(2, seed=3))]
    with pytest.raises(SettingError, match="together=True"):
        scanner.scan_together(scanned)
