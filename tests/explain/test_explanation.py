"""What an explanation holds of methods at the image, how it is saved, and what a notebook shows of it."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onnxcam import Explanation
from onnxcam.errors import SettingError
from onnxcam.explain.explanation import SHEET, ExplainedImage
from onnxcam.explain.result_files import SCHEMA
from onnxcam.image.overlay import overlay

BOX = (0.0, 0.0, 60.0, 40.0)


def photo(number: int) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (40, 60, 3), np.uint8)
    return Image.fromarray(pixels)


def explained_images(count: int) -> tuple[ExplainedImage, ...]:
    return tuple(
        ExplainedImage(f"photo{number}", lambda number=number: photo(number), BOX)  # type: ignore[misc]
        for number in range(count)
    )


def explanation(count: int = 2, **changed: Any) -> Explanation:
    """What a method at the image returns: signed attributions and their sum over the channels."""
    attributions = np.random.default_rng(7).standard_normal((count, 3, 8, 12)).astype(np.float32)
    fields: dict[str, Any] = {
        "maps": attributions.sum(axis=1),
        "layer_maps": None,
        "scores": np.linspace(1, 2, count),
        "targets": tuple(f"class {number}" for number in range(count)),
        "indices": tuple(range(count)),
        "target_specs": tuple(map(str, range(count))),
        "layers": (),
        "is_empty": np.zeros(count, bool),
        "notices": (),
        "method": "integrated-gradients",
        "images": explained_images(count),
        "provenance": {"versions": {"onnxcam": "1"}},
        "signed": True,
        "attributions": attributions,
        "probabilities": np.linspace(0.5, 0.75, count),
        "facts": tuple({"completeness_gap": 0.25 * number} for number in range(count)),
    }
    return Explanation(**(fields | changed))


def at_layer(**changed: Any) -> Explanation:
    """What a method at a layer returns."""
    maps = np.random.default_rng(7).random((1, 8, 12)).astype(np.float32)
    fields: dict[str, Any] = {
        "maps": maps,
        "layer_maps": maps[:, ::2, ::2],
        "signed": False,
        "attributions": None,
        "probabilities": None,
        "facts": (),
    }
    return explanation(1, **(fields | changed))


def opened(png: bytes | None) -> Image.Image:
    assert png is not None
    return Image.open(BytesIO(png))


def test_attributions_are_saved_in_place_of_layer_map(tmp_path: Path) -> None:
    saved = explanation()
    for i, path in enumerate(saved.save(tmp_path)):
        with np.load(path.with_suffix(".npz")) as arrays:
            assert set(arrays.files) == {"map", "attributions", "score"}
            assert saved.attributions is not None
            np.testing.assert_array_equal(arrays["attributions"], saved.attributions[i])
            assert arrays["attributions"].dtype == arrays["map"].dtype == np.float32
            np.testing.assert_array_equal(arrays["map"], saved.maps[i])
            assert arrays["score"] == saved.scores[i]


def test_manifest_describes_signed_map(tmp_path: Path) -> None:
    signed = explanation()
    path = signed.save(tmp_path)[1]
    manifest = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert manifest["schema"] == SCHEMA
    assert manifest["signed"] is True
    assert manifest["map"] == {
        "shape": [8, 12],
        "minimum": float(signed.maps[1].min()),
        "maximum": float(signed.maps[1].max()),
    }
    assert manifest["map"]["minimum"] < 0 < manifest["map"]["maximum"]
    assert manifest["facts"] == {"completeness_gap": 0.25}
    assert manifest["target"]["probability"] == 0.75
    assert manifest["target"]["score"] == 2


def test_manifest_leaves_out_what_a_method_does_not_report() -> None:
    manifest = at_layer().manifest()
    assert manifest["signed"] is False
    assert "facts" not in manifest
    assert "probability" not in manifest["target"]


@pytest.mark.parametrize("fact", [np.nan, np.inf])
def test_manifest_is_valid_json_for_any_fact(fact: float) -> None:
    manifest = explanation(
        1, facts=({"completeness_gap": fact},), probabilities=np.array([fact])
    ).manifest()
    json.dumps(manifest, allow_nan=False)
    assert manifest["facts"] == {"completeness_gap": None}
    assert manifest["target"]["probability"] is None


def test_overlay_of_signed_map_has_diverging_colors() -> None:
    signed = explanation()
    drawn = overlay(photo(0), signed.maps[0], BOX, signed=True, colormap="polar", opacity=0.6)
    np.testing.assert_array_equal(signed.overlay(outliers=0), drawn)
    assert (np.asarray(signed.overlay(colormap="redblue")) != np.asarray(drawn)).any()
    with pytest.raises(SettingError, match=r"ember .* choose one of: polar, redblue"):
        signed.overlay(colormap="ember")
    with pytest.raises(SettingError, match=r"polar .* choose one of: ember, jet, gray"):
        at_layer().overlay(colormap="polar")


def test_relative_map_is_drawn_from_its_minimum() -> None:
    relative, absolute = at_layer(is_relative=True), at_layer()
    lowered = at_layer(maps=relative.maps - relative.maps.min())
    np.testing.assert_array_equal(relative.overlay(), lowered.overlay())
    raised = at_layer(maps=relative.maps + 5, is_relative=True)
    difference = np.abs(np.asarray(raised.overlay(), int) - np.asarray(relative.overlay(), int))
    assert difference.max() <= 2
    assert (np.asarray(absolute.overlay()) != np.asarray(relative.overlay())).any()
    assert relative.manifest()["is_relative"] is True
    assert "is_relative" not in absolute.manifest()


def test_outliers_are_left_out_at_the_image_only() -> None:
    maps = np.random.default_rng(8).standard_normal((1, 40, 60)).astype(np.float32) ** 3
    at_image, layer = explanation(1, maps=maps), at_layer(maps=np.abs(maps))
    for shown, outliers, other in ((at_image, 0.005, 0.0), (layer, 0.0, 0.005)):
        expected = overlay(
            photo(0),
            shown.maps[0],
            BOX,
            signed=shown.signed,
            opacity=0.6,
            outliers=outliers,
        )
        np.testing.assert_array_equal(shown.overlay(), expected)
        assert (np.asarray(shown.overlay(outliers=other)) != np.asarray(expected)).any()


def test_notebook_shows_overlay_of_one_image() -> None:
    one = explanation(1)
    np.testing.assert_array_equal(opened(one._repr_png_()), one.overlay())


def test_notebook_shows_several_images_on_a_sheet() -> None:
    shown = opened(explanation(6)._repr_png_())
    assert shown.width == 4 * 224 + 3 * 8
    assert 2 * 149 < shown.height < 2 * 200


def test_notebook_shows_so_many_images_at_most() -> None:
    sizes = {opened(explanation(count)._repr_png_()).size for count in (SHEET, SHEET + 9)}
    assert len(sizes) == 1


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("signed", [False, True])
def test_notebook_shows_empty_maps(count: int, signed: bool) -> None:
    empty = explanation(count, maps=np.zeros((count, 8, 12), np.float32), signed=signed)
    assert np.ptp(np.asarray(opened(empty._repr_png_())).astype(int), axis=-1).max() == 0


def test_notebook_shows_nothing_of_no_images() -> None:
    assert explanation(0)._repr_png_() is None
