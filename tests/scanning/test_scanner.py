"""Scans of images by a model whose activations are known: scores, p-values, blocks, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import onnxcam
from onnxcam.arrays import Floats
from onnxcam.errors import ImageError, SettingError, UnknownNameError
from onnxcam.scanning import scanner as module
from onnxcam.scanning.reference import Members, Reference
from onnxcam.scanning.scanner import Scanner
from onnxcam.scanning.settings import ScanSettings
from onnxcam.scanning.statistics import STATISTICS
from tests.scanning.support.plain_model import ARGUMENTS, SIDE, images, plain_model
from tests.support.nets import ANY_SIZE, FIXED, NHWC, POOLED, Net, random_images

BACKGROUND = images(30)
PLANTED = (slice(1, 3), slice(2, 5), slice(1, 4))  # feature maps, rows and columns


def open_scanner(background: Any = BACKGROUND, **settings: Any) -> Scanner:
    return Scanner(plain_model(), background, **{**ARGUMENTS, **settings})


def planted_image() -> Floats:
    image = images(1, seed=5)
    image[0][PLANTED] = 1.0 + np.arange(18).reshape(2, 3, 3) / 100
    return image


def slow_score(p_values: Floats, alpha_max: float, statistic: str) -> float:
    """The paper's score of one image: the largest statistic of the nodes of at most each p-value."""
    alphas = sorted({float(p) for p in p_values.ravel() if p <= alpha_max + 1e-9 and p < 1})
    counts = [int((p_values <= alpha).sum()) for alpha in alphas]
    phi = STATISTICS[statistic]
    scores = (float(phi(n, n, alpha)) for n, alpha in zip(counts, alphas, strict=True))
    return max(scores, default=0.0)


def slow_p_values(others: Any, image: Floats) -> Floats:
    return np.asarray((1 + (np.asarray(others) >= image).sum(axis=0)) / (len(others) + 1))


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("alpha_max", [0.05, 0.3])
def test_score_and_p_value_equal_those_of_the_definition(statistic: str, alpha_max: float) -> None:
    scanner, settings = (
        open_scanner(alpha_max=alpha_max, statistic=statistic),
        (alpha_max, statistic),
    )
    left_out = [
        slow_score(slow_p_values(np.delete(BACKGROUND, n, 0), image), *settings)
        for n, image in enumerate(BACKGROUND)
    ]
    np.testing.assert_allclose(scanner.background_scores, left_out)
    new = images(5, seed=3)
    for image, scanned in zip(new, scanner.stream(new), strict=True):
        p_values = slow_p_values(BACKGROUND, image)
        np.testing.assert_allclose(scanned.p_values, p_values, rtol=1e-6)
        assert scanned.score == pytest.approx(slow_score(p_values, *settings))
        joined = [
            slow_score(slow_p_values([*np.delete(BACKGROUND, n, 0), image], usual), *settings)
            for n, usual in enumerate(BACKGROUND)
        ]
        extreme = sum(score >= scanned.score * (1 - 1e-12) for score in joined)
        assert scanned.p_value == pytest.approx((1 + extreme) / 31)
        assert (scanned.subset == (p_values <= scanned.alpha + 1e-9)).all()


def reference(rows: Floats, tail: str) -> Reference:
    members = Members(rows[0].size)
    for row in rows:
        members.add(row, [str(row.sum())])
    return Reference(members, ScanSettings(tail=tail))


@pytest.mark.parametrize("tail", ["right", "left", "both"])
@pytest.mark.parametrize("count", [21, 30, 40])
def test_p_value_of_an_image_is_the_same_in_and_outside_the_background(
    tail: str, count: int
) -> None:
    """So that small p-values are as frequent among images of one kind as they say."""
    rows = images(count, seed=11)
    outside = [
        reference(np.delete(rows, n, 0), tail).compare(row, ["new"]).p_value
        for n, row in enumerate(rows)
    ]
    members = reference(rows, tail)
    inside = [members.compare(row, [str(row.sum())]).p_value for row in rows]
    assert outside == pytest.approx(inside)
    assert (np.sort(outside) >= np.arange(1, count + 1) / count - 1e-9).all()


def test_planted_block_is_the_most_unusual_one() -> None:
    (scanned,) = open_scanner(alpha_max=0.04).stream(planted_image())
    assert scanned.channels == [1, 2]
    planted = np.zeros((SIDE, SIDE), bool)
    planted[PLANTED[1:]] = True
    assert scanned.cells[planted].all()
    assert (scanned.cells & ~planted).sum() <= 2  # those that are unusual by chance
    assert scanned.block.score >= 18 * np.log(31)
    assert scanned.p_value == pytest.approx(1 / 31)
    assert scanned.map[PLANTED[1:]].min() > 0.5
    assert (scanned.map > 0.5).sum() < 15


def test_small_activations_are_unusual_in_the_left_tail_only() -> None:
    image = images(1, seed=5) + 0.01
    image[0][PLANTED] = 0.0
    background = BACKGROUND + 0.01
    p_values = {
        tail: next(iter(open_scanner(background, tail=tail).stream(image))).p_value
        for tail in ("right", "left", "both")
    }
    assert p_values["left"] == p_values["both"] == pytest.approx(1 / 31)
    assert p_values["right"] > 0.1


def test_member_of_the_background_is_not_compared_with_itself() -> None:
    scanner = open_scanner()
    for number, scanned in enumerate(scanner.stream(BACKGROUND)):
        assert scanned.is_member
        assert scanned.score == pytest.approx(scanner.background_scores[number])
        others = np.delete(scanner.background_scores, number)
        assert scanned.p_value == pytest.approx((1 + (others >= scanned.score - 1e-9).sum()) / 30)
        assert any("one of the background" in notice for notice in scanned.notices)


def test_file_of_the_background_is_noticed_under_another_name(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, SIDE, SIDE, 3), dtype=np.uint8)
    paths = [tmp_path / f"{number}.png" for number in range(12)]
    for path, array in zip(paths, pixels, strict=True):
        Image.fromarray(array).save(path)
    copy = tmp_path / "copy.png"
    copy.write_bytes(paths[3].read_bytes())
    scanner = open_scanner(paths)
    (scanned,) = scanner.stream(copy)
    assert scanned.is_member
    assert scanned.score == pytest.approx(scanner.background_scores[3])


def test_order_of_background_does_not_matter() -> None:
    new = images(3, seed=3)
    first, second = (open_scanner(rows).stream(new) for rows in (BACKGROUND, BACKGROUND[::-1]))
    for one, other in zip(first, second, strict=True):
        assert (one.score, one.p_value, one.channels) == (
            other.score,
            other.p_value,
            other.channels,
        )


def test_images_with_a_block_in_common_are_found_together() -> None:
    new = images(8, seed=9)
    for image in new[2:6]:
        image[PLANTED] = 1.0
    with pytest.warns(onnxcam.OnnxcamNotice):
        scan = onnxcam.scan(
            plain_model(), [*new, BACKGROUND[0]], BACKGROUND, together=True, **ARGUMENTS
        )
    assert scan.group is not None
    assert np.flatnonzero(scan.group.members).tolist() == [2, 3, 4, 5]
    planted = np.zeros_like(scan.group.subset)
    planted[PLANTED] = True
    assert scan.group.subset[planted].all()
    assert (scan.group.p_value, scan.group.common_p_value) == (None, None)
    assert "some of them belong to the background" in scan.group.notices[0]
    assert len(scan) == len(scan.scores) == len(scan.p_values) == 9


def test_image_without_unusual_activations_has_an_empty_subset() -> None:
    (scanned,) = open_scanner().stream(np.zeros((1, 3, SIDE, SIDE), np.float32))
    assert (scanned.score, scanned.p_value, scanned.alpha) == (0.0, 1.0, 0.0)
    assert not scanned.subset.any()
    assert not scanned.map.any()
    assert scanned.channels == []
    assert scanned.manifest()["is_empty"]
    assert scanned.overlay().size == (SIDE, SIDE)


@pytest.mark.parametrize(
    ("count", "settings", "needed"),
    [
        (9, {}, "pass at least 10,"),
        (30, {"alpha_max": 0.01}, "pass at least 100,"),
        (19, {"tail": "both"}, "pass at least 20,"),
        (1, {"alpha_max": 0.9}, "pass at least 2,"),
    ],
)
def test_too_few_background_images_are_refused(
    count: int, settings: dict[str, Any], needed: str
) -> None:
    with pytest.raises(SettingError, match=needed):
        open_scanner(images(count), **settings)
    enough = int(needed.split()[-1].rstrip(","))
    assert open_scanner(images(enough), **settings).count == enough


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha_max": 0.0}, "between 0 and 1"),
        ({"alpha_max": 1.0}, "between 0 and 1"),
        ({"tail": "upper"}, "expected right, left, both"),
        ({"restarts": -1}, "expected 0 or more"),
        ({"seed": -1}, "expected 0 or more"),
    ],
)
def test_wrong_setting_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        open_scanner(**settings)


def test_unknown_statistic_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="berk-jones"):
        open_scanner(statistic="berk-jone")


def test_no_images_are_refused() -> None:
    with pytest.raises(ImageError, match="no background images"):
        open_scanner([])
    with pytest.raises(ImageError, match="no images to scan"):
        onnxcam.scan(plain_model(), [], BACKGROUND, **ARGUMENTS)


def test_images_of_another_size_are_refused() -> None:
    scanner = Scanner(plain_model("H, W"), BACKGROUND, **ARGUMENTS)
    with pytest.raises(ImageError, match=r"8 x 8 cells for this image, but 6 x 6"):
        list(scanner.stream(images(1, side=8)))


def test_background_that_does_not_fit_into_memory_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 4 * 108 * 20)
    for background in (list(BACKGROUND), iter(list(BACKGROUND))):
        with pytest.raises(SettingError, match="pass at most 20, or choose a later layer"):
            open_scanner(background)
    assert open_scanner(iter(list(BACKGROUND[:20]))).count == 20


def test_progress_counts_all_images() -> None:
    counts: list[int] = []
    scanner = open_scanner(progress=counts.append)
    assert sum(counts) == 30
    list(scanner.stream(images(4, seed=1), progress=counts.append))
    assert sum(counts) == 34


def test_images_are_compared_with_those_of_the_same_class() -> None:
    """Class 0 or 1, by the color that is brighter: bright activations of a color are unusual for the other."""
    background = images(40) / 4
    background[:20, 0] += 0.5
    background[20:, 1] += 0.5
    scanner = open_scanner(background, same_class=True)
    new = images(2, seed=8) / 4
    new[0, 0] += 0.5
    new[1, 1] += 0.5
    for image, others, scanned in zip(
        new, (background[:20], background[20:]), scanner.stream(new), strict=True
    ):
        np.testing.assert_allclose(scanned.p_values, slow_p_values(others, image), rtol=1e-6)
    assert len(scanner.background_scores) == 40
    assert scanner.settings.to_json()["same_class"]


def test_image_of_a_class_that_the_background_lacks_fails_alone() -> None:
    background = images(25) / 4
    background[:20, 0] += 0.5
    background[20:, 1] += 0.5
    scanner = open_scanner(background, same_class=True)
    new = images(3, seed=8) / 4
    new[:2, 0] += 0.5
    new[2, 1] += 0.5
    with pytest.raises(ImageError, match="is class 1 for the model, as 5 background images are"):
        list(scanner.stream(new))
    errors: list[Any] = []
    scanned = list(scanner.stream(new, on_error=lambda source, error: errors.append(source)))
    assert (len(scanned), errors) == (2, ["array-2"])
    with pytest.raises(SettingError, match="5 background images of the most frequent class"):
        open_scanner(background[20:], same_class=True)


@pytest.mark.parametrize(
    "net", [POOLED, NHWC, FIXED, ANY_SIZE], ids=["pooled", "nhwc", "fixed", "any-size"]
)
def test_p_values_are_those_of_the_activations_of_a_numpy_twin(net: Net) -> None:
    shape = (8, 8, 3) if net is NHWC else (3, 8, 8)
    arrays = [random_images(count, shape) for count in (25, 29)]
    usual, new = arrays[0], arrays[1][25:]
    first = [np.moveaxis(images, 3, 1) if net is NHWC else images for images in (usual, new)]
    background, features = (np.round(net.features(images), 5) for images in first)
    scanner = Scanner(net.content(), usual, "features", **ARGUMENTS)
    for expected, scanned in zip(features, scanner.stream(new), strict=True):
        p_values = slow_p_values(background, expected)
        assert scanned.ranks.shape == expected.shape
        np.testing.assert_allclose(scanned.p_values, p_values, rtol=1e-6)
