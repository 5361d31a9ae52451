"""The files of a scan, and the feature maps and cells that an explanation takes from them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onnxcam.errors import OutputError, SettingError
from onnxcam.explain.explainer import Explainer
from onnxcam.explain.result_files import result_files, verified_manifest
from onnxcam.methods.subset import select_channels
from onnxcam.scanning.scan import Scan, scan
from onnxcam.scanning.stored_subset import read_subset
from onnxcam.scanning.subset_text import cell_rows, format_channels, format_scan_score
from tests.scanning.support.plain_model import ARGUMENTS, SIDE, images, plain_model
from tests.scanning.test_scanner import BACKGROUND, planted_image


@pytest.fixture(scope="module")
def scanned() -> Scan:
    with pytest.warns(match="one of the background"):
        return scan(
            plain_model(),
            [*planted_image(), *BACKGROUND[:2]],
            BACKGROUND,
            together=True,
            **ARGUMENTS,
        )


def test_files_are_written_and_verified(scanned: Scan, tmp_path: Path) -> None:
    paths = scanned.save(tmp_path, caption=True, side_by_side=True)
    names = ["array-0", "array-1", "array-2", "together"]
    assert [path.name for path in paths] == [f"{name}.scan.png" for name in names]
    for name in names:
        assert verified_manifest(result_files(tmp_path, name, "scan"))
    with Image.open(paths[0]) as drawn:
        assert drawn.width > 2 * SIDE


def test_arrays_are_those_of_the_result(scanned: Scan, tmp_path: Path) -> None:
    image = scanned[0]
    with np.load(image.save(tmp_path).with_suffix(".npz")) as arrays:
        for name in ("p_values", "subset", "map", "cells", "score"):
            np.testing.assert_array_equal(arrays[name], getattr(image, name))
        assert arrays["channels"].tolist() == image.channels


def test_manifest_says_what_is_unusual_and_how_it_was_found(scanned: Scan, tmp_path: Path) -> None:
    path = scanned[0].save(tmp_path).with_suffix(".json")
    manifest = json.loads(path.read_text())
    facts = manifest["scan"]
    assert facts["channels"] == "1,2"
    assert facts["cells"][2] == "011100"
    assert facts["p_value"] == scanned[0].p_value
    assert facts["nodes"] == scanned[0].subset.sum()
    assert manifest["layers"] == ["features"]
    assert manifest["method"]["settings"]["background"] == 30
    assert manifest["method"]["settings"]["alpha_max"] == 0.1
    assert {"model", "preprocessing", "device", "versions"} <= manifest.keys()


def test_files_of_others_are_kept(scanned: Scan, tmp_path: Path) -> None:
    (tmp_path / "array-0.scan.npz").write_text("mine")
    with pytest.raises(OutputError, match="already exists"):
        scanned[0].save(tmp_path)
    scanned[0].save(tmp_path, overwrite=True)


def test_stored_subset_is_that_of_the_scan(scanned: Scan, tmp_path: Path) -> None:
    subset = read_subset(scanned[0].save(tmp_path).with_suffix(".json"))
    assert select_channels(subset.channels, 3) == scanned[0].channels
    assert (subset.cells == scanned[0].cells).all()
    explainer = Explainer(
        plain_model(),
        "grad-cam",
        subset.layer,
        channels=subset.channels,
        region=subset.cells,
        **ARGUMENTS,
    )
    subset.require_fit(explainer.plan)
    explanation = explainer(planted_image(), target=3)
    assert (explanation.layer_maps[0] > 0)[scanned[0].cells].all()
    assert not explanation.layer_maps[0][~scanned[0].cells].any()


def test_subset_of_another_layer_or_model_is_refused(scanned: Scan, tmp_path: Path) -> None:
    subset = read_subset(scanned[0].save(tmp_path).with_suffix(".json"))
    other = Explainer(plain_model("H, W"), "grad-cam", **ARGUMENTS)
    with pytest.raises(SettingError, match="of another model"):
        subset.require_fit(other.plan)
    at_image = Explainer(plain_model(), "saliency", **ARGUMENTS)
    with pytest.raises(SettingError, match="at the layer features, but"):
        subset.require_fit(at_image.plan)


def test_file_that_is_no_scan_is_refused(tmp_path: Path) -> None:
    explanation = Explainer(plain_model(), "grad-cam", **ARGUMENTS)(images(1))
    path = explanation.save(tmp_path)[0].with_suffix(".json")
    with pytest.raises(SettingError, match="is not of a scan"):
        read_subset(path)


def test_scan_without_unusual_feature_maps_is_refused(tmp_path: Path) -> None:
    empty = scan(plain_model(), np.zeros_like(images(1)), BACKGROUND, **ARGUMENTS)
    path = empty.save(tmp_path)[0].with_suffix(".json")
    with pytest.raises(SettingError, match="nothing is unusual"):
        read_subset(path)


def test_outline_is_not_drawn_where_the_map_is_empty(scanned: Scan) -> None:
    no_map = replace(scanned[0], alpha=0.0)
    no_cells = replace(no_map, block=no_map.block._replace(rows=no_map.block.rows & False))
    assert no_map.cells.any()
    assert no_map.overlay().tobytes() == no_cells.overlay().tobytes()
    assert scanned[0].overlay().tobytes() != no_map.overlay().tobytes()


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([4], "4"), ([1, 2], "1,2"), ([0, 1, 2, 5, 7, 8], "0-2,5,7,8")],
)
def test_channels_as_text_are_read_back(numbers: list[int], text: str) -> None:
    assert format_channels(numbers) == text
    if numbers:
        assert select_channels(text, 9) == numbers


def test_cells_are_rows_of_digits() -> None:
    assert cell_rows(np.array([[True, False], [False, False]])) == ["10", "00"]


@pytest.mark.parametrize(
    ("score", "text"), [(0.0, "0"), (12.345, "12.3"), (999.4, "999"), (123456.7, "123457")]
)
def test_score_is_written_without_an_exponent(score: float, text: str) -> None:
    assert format_scan_score(score) == text
