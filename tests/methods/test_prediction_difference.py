"""Prediction difference analysis."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import onnxcam
from onnxcam.arrays import Floats
from onnxcam.errors import SettingError
from onnxcam.methods.samplers.patches import PatchGaussian, cut_patches
from onnxcam.methods.samplers.redraws import background_files, random_numbers, redrawing
from onnxcam.methods.samplers.windows import place_windows
from tests.methods.support import perturbation_twins as twins
from tests.methods.support.compare import NETS, TARGET, X, assert_close, explain
from tests.methods.support.perturbation_twins import OfNet
from tests.support.layered_nets import CURVED
from tests.support.nets import ANY_SIZE, NHWC, POOLED, random_images

DRAWS = 3
FEW: dict[str, Any] = {"window": 3, "stride": 2, "samples": DRAWS, "padding": 1}


def draws_of(x: Floats, seed: int = 0, padding: int = 1) -> dict[twins.Window, list[Floats]]:
    """The draws of each window, as documented: one stream of random numbers for each."""
    placed = place_windows(x.shape[1:], 3, 2)
    patch = placed.side_with(padding)
    pixels = x.astype(np.float64)
    stream = np.random.Generator(np.random.SFC64([seed]))
    gaussian = PatchGaussian.fit(cut_patches([pixels[None]], patch, stream))
    redraw = redrawing(pixels, placed, gaussian, patch, padding)
    draws = {}
    for number in range(len(placed)):
        rows, columns = placed.place(number)
        numbers = random_numbers(seed, number, DRAWS, gaussian.factors.shape)
        (drawn,) = redraw([number], *(array[None] for array in numbers))
        draws[rows.start, columns.start] = [*drawn]
    return draws


def twin_of(net: Any, x: Floats, **options: Any) -> Floats:
    return twins.prediction_difference(net, x, TARGET, 3, 2, draws_of(x), **options)


@pytest.mark.parametrize("instances", [1e6, 20.0])
@pytest.mark.parametrize("net", NETS)
def test_map_equals_twin_of_same_draws(net: str, instances: float) -> None:
    explanation = explain("prediction-difference", NETS[net], **FEW, instances=instances)
    assert_close(
        explanation.maps, np.stack([twin_of(NETS[net], x, instances=instances) for x in X])
    )
    assert explanation.signed
    assert explanation.maps.min() < 0 < explanation.maps.max()


def test_seed_and_padding_change_draws() -> None:
    explanation = explain("prediction-difference", CURVED, **{**FEW, "padding": 2}, seed=5)
    twin = [twins.prediction_difference(CURVED, x, TARGET, 3, 2, draws_of(x, 5, 2)) for x in X]
    assert_close(explanation.maps, np.stack(twin))
    assert np.abs(explanation.maps - explain("prediction-difference", CURVED, **FEW).maps).max() > 0


def test_draws_fit_to_what_is_around_the_window() -> None:
    """In a patch around it, which is shifted into the image at the border: as the Gaussian says."""
    draw = np.random.default_rng(0)
    pixels = np.cumsum(draw.normal(size=(2, 12, 12)), axis=2)
    placed = place_windows((12, 12), 3, 2)
    patches = np.cumsum(draw.normal(size=(400, 2, 7, 7)), axis=3)
    gaussian = PatchGaussian.fit(patches)
    redraw = redrawing(pixels, placed, gaussian, (7, 7), 2)
    count = len(placed)
    drawn = redraw(range(count), np.zeros((count, 1, 400)), np.zeros((count, 1, 2 * 49)))
    for number in range(count):
        (top, _), (left, _) = ((part.start, part.stop) for part in placed.place(number))
        first, second = (min(max(start - 2, 0), 12 - 7) for start in (top, left))
        hidden = np.zeros((2, 7, 7), bool)
        hidden[:, top - first : top - first + 3, left - second : left - second + 3] = True
        rest = pixels[:, first : first + 7, second : second + 7][~hidden]
        mean, _ = twins.conditional_gaussian(
            patches.reshape(400, -1), hidden.ravel().tolist(), rest, gaussian.ridge
        )
        low, high = gaussian.limits
        expected = np.clip(mean.reshape(2, 3, 3), low, high)
        np.testing.assert_allclose(drawn[number][0], expected, atol=1e-3)


@pytest.mark.parametrize("chunk", [1, 4])
def test_chunks_give_same_map(chunk: int) -> None:
    expected = explain("prediction-difference", CURVED, **FEW).maps
    actual = explain("prediction-difference", CURVED, **FEW, chunk=chunk).maps
    np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())


def test_image_with_channels_last_equals_twin() -> None:
    x = 5 * random_images(1, (8, 8, 3))
    explainer = onnxcam.Explainer(NHWC.content(), "prediction-difference", device="cpu", **FEW)
    twin = twin_of(OfNet(NHWC), x[0].transpose(2, 0, 1))
    assert_close(explainer(x, TARGET).maps, twin[None])


def test_image_that_is_not_square_equals_twin() -> None:
    x = 5 * random_images(1, (3, 10, 14))
    explainer = onnxcam.Explainer(ANY_SIZE.content(), "prediction-difference", device="cpu", **FEW)
    assert_close(explainer(x, TARGET).maps, twin_of(OfNet(POOLED), x[0])[None])


def test_evidence_against_class_has_opposite_sign() -> None:
    """As the odds against it are the inverse, up to the correction for K classes."""
    explainer = onnxcam.Explainer(CURVED.content(), "prediction-difference", device="cpu", **FEW)
    first, against = (explainer(X, target).maps for target in ("top1", "not top1"))
    np.testing.assert_allclose(against, -first, atol=1e-3 * np.abs(first).max())


def test_contrast_is_that_of_odds_between_classes() -> None:
    """What is neither counts half for each: (1 + p_1 - p_2) / 2."""
    explainer = onnxcam.Explainer(CURVED.content(), "prediction-difference", device="cpu", **FEW)
    contrast, reverse = (explainer(X, target).maps for target in ("1-2", "2-1"))
    np.testing.assert_allclose(reverse, -contrast, atol=1e-3 * np.abs(contrast).max())

    class Halved:
        def logits(self, x: Floats) -> Floats:
            powers = np.exp(CURVED.logits(x))
            p = powers / powers.sum()
            share = (1 + p[1] - p[2]) / 2
            shares = [0.0, share, 1 - share, 0.0, 0.0]
            return np.log(np.maximum(shares, 1e-300))

    assert_close(contrast, np.stack([twin_of(Halved(), x) for x in X]))


def write_photographs(folder: Path, level: int) -> Path:
    folder.mkdir()
    draw = np.random.default_rng(level)
    for number in range(3):
        pixels = (level + draw.integers(-20, 20, (8, 8, 3))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / ".hidden").write_text("no image")
    return folder


def test_background_decides_how_windows_are_drawn(tmp_path: Path) -> None:
    dark, light = (write_photographs(tmp_path / str(level), level) for level in (30, 220))
    maps = []
    for background in (None, dark, light, f"{light}/*.png"):
        explanation = explain("prediction-difference", CURVED, **FEW, background=background)
        says = "patches of the image itself" in " ".join(explanation.notices)
        assert says is (background is None)
        maps.append(explanation.maps)
    np.testing.assert_array_equal(maps[2], maps[3])
    assert np.abs(maps[1] - maps[2]).max() > 0.01 * np.abs(maps[1]).max()


def test_background_of_many_files_is_thinned(tmp_path: Path) -> None:
    for number in range(2100):
        (tmp_path / f"{number:04}.png").touch()
    names = [Path(file).name for file in background_files(str(tmp_path))]
    assert names == [f"{number:04}.png" for number in range(0, 2100, 2)]
    assert background_files(f"{tmp_path}/000[12].png") == [
        str(tmp_path / name) for name in ("0001.png", "0002.png")
    ]


def test_background_without_images_is_refused(tmp_path: Path) -> None:
    for background in (tmp_path, f"{tmp_path}/*.jpg", 3):
        with pytest.raises(SettingError, match="expected a folder with image files, or a pattern"):
            explain("prediction-difference", CURVED, background=background)
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(SettingError, match=r"background: .*notes\.txt"):
        explain("prediction-difference", CURVED, **FEW, background=tmp_path)


def test_scores_that_are_no_probabilities_are_refused() -> None:
    formula = onnxcam.METHODS["prediction-difference"].check
    assert formula is not None
    inside, outside = np.array([0.5]), np.array([[0.2, 7.0]])
    contrast, single = np.ones((1, 1)), np.zeros((1, 1))
    assert formula(inside, np.array([[0.0, 1.0]]), single, is_constant=False) is None
    assert formula(-inside, np.array([[-1.0, 1.0]]), contrast, is_constant=False) is None
    assert "(0.2 to 7)" in formula(inside, outside, single, is_constant=False)
    assert "no odds" in formula(-inside, np.array([[0.0, 1.0]]), single, is_constant=False)
