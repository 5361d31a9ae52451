"""Arrays in files are explained like images: named, in folders, compared, and repeated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import onnxcam
from onnxcam.arrays import Saliency
from onnxcam.cli.image_files import collect_images
from tests.cli.conftest import Run
from tests.cli.support.tiny import write_image
from tests.support.nets import POOLED

X = np.random.default_rng(3).normal(size=(4, 8, 8)).astype(np.float32)
NOTICE = "are taken as preprocessed already"
CAM = ("-m", "grad-cam", "-l", "features")


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """A model of four channels."""
    path = tmp_path / "four.onnx"
    path.write_bytes(replace(POOLED, shape="N, 4, 8, 8", colors=4).content())
    return path


def stored_map(path: Path) -> Saliency:
    with np.load(path) as arrays:
        return np.asarray(arrays["map"])


def test_arrays_are_explained_as_in_python(run: Run, four: Path, tmp_path: Path, out: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    np.savez(tmp_path / "b.npz", image=X, other=2 * X)
    pages = [Image.fromarray(channel) for channel in X]
    pages[0].save(tmp_path / "c.tif", save_all=True, append_images=pages[1:])
    names = ("a.npy", "b.npz:image", "b.npz:other", "c.tif")
    result = run("explain", four, *[tmp_path / name for name in names], *CAM, "-o", out)
    assert result.exit_code == 0, result.output
    assert result.stderr.count(NOTICE) == 1
    explainer = onnxcam.Explainer(four, "grad-cam", "features", device="cpu", cache=False)
    for stem, array in (("a", X), ("b-image", X), ("b-other", 2 * X), ("c", X)):
        expected = explainer(array).maps[0]
        stored = stored_map(out / f"{stem}.grad-cam.npz")
        np.testing.assert_allclose(stored, expected, rtol=1e-5, atol=1e-7)
    with Image.open(out / "a.grad-cam.png") as overlay:
        assert overlay.size == (8, 8)


def test_notice_of_preprocessing_is_not_given_for_arrays(
    run: Run, model: Path, tmp_path: Path, out: Path
) -> None:
    size = onnxcam.Explainer(model, device="cpu", cache=False).plan.image.height or 8
    np.save(tmp_path / "a.npy", np.zeros((3, size, size), np.float32))
    result = run("explain", model, tmp_path / "a.npy", "-m", "grad-cam", "-o", out)
    assert result.exit_code == 0, result.output
    assert "does not specify how images are prepared" not in result.stderr
    assert NOTICE in result.stderr


def test_arrays_of_another_shape_are_refused(
    run: Run, four: Path, tmp_path: Path, out: Path
) -> None:
    np.save(tmp_path / "last.npy", np.moveaxis(X, 0, -1))
    np.save(tmp_path / "many.npy", np.stack([X, X]))
    write_image(tmp_path / "cat.png")
    paths = [tmp_path / name for name in ("last.npy", "many.npy", "cat.png")]
    result = run("explain", four, *paths[:2], *CAM, "-o", out)
    assert result.exit_code == 1
    assert "last.npy: the array has shape (8, 8, 4)" in result.stderr
    assert "numbers of shape (N, 4, 8, 8)" in result.stderr
    assert "many.npy: holds 2 images; write a file for each of them" in result.stderr
    colored = run("explain", four, paths[2], *CAM, "-o", out)
    assert colored.exit_code == 2
    assert "pass it as .npy, .npz or a TIFF with a page per channel" in colored.stderr


def test_arrays_in_a_folder_count_if_there_are_no_images(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    np.savez(tmp_path / "b.npz", X)
    collected, notices = collect_images([tmp_path], recursive=False, out=tmp_path / "out")
    assert [path.name for path in collected] == ["a.npy", "b.npz"]
    assert not notices
    write_image(tmp_path / "c.png")
    collected, notices = collect_images([tmp_path], recursive=False, out=tmp_path / "out")
    assert [path.name for path in collected] == ["c.png"]
    assert "skipped 2 files without an image file extension: a.npy, b.npz" in notices[0]


def test_result_of_an_array_is_repeated(run: Run, four: Path, tmp_path: Path, out: Path) -> None:
    np.savez(tmp_path / "b.npz", image=X, other=2 * X)
    run("explain", four, tmp_path / "b.npz:other", *CAM, "-o", out)
    again = tmp_path / "again"
    repeated = run("explain", "--from", out / "b.grad-cam.json", "-o", again)
    assert repeated.exit_code == 0, repeated.output
    first, second = (stored_map(folder / "b.grad-cam.npz") for folder in (out, again))
    np.testing.assert_array_equal(first, second)
    skipped = run(
        "explain", four, tmp_path / "b.npz:other", *CAM, "-o", out, "--skip-existing", "--json"
    )
    assert json.loads(skipped.stdout)["skipped"]
    np.savez(tmp_path / "b.npz", image=X, other=3 * X)
    changed = run("explain", "--from", out / "b.grad-cam.json", "-o", again)
    assert "b.npz:other is not the one of" in changed.stderr


def test_check_shows_what_a_model_says_about_an_array(run: Run, four: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    report = json.loads(run("check", four, tmp_path / "a.npy", "--json").stdout)
    (outcome,) = report["presets"]
    explainer = onnxcam.Explainer(four, "grad-cam", "features", device="cpu", cache=False)
    expected = explainer(X)
    assert expected.probabilities is not None
    assert outcome["answers"][0]["name"] == expected.targets[0]
    assert outcome["answers"][0]["probability"] == pytest.approx(
        expected.probabilities[0], rel=1e-4
    )
    shown = run("check", four).stdout
    assert "images cannot be prepared for the 4 channels of 'x'; pass arrays" in shown


def test_methods_are_compared_for_an_array(run: Run, four: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", X)
    sheet = tmp_path / "sheet.png"
    words = ("-m", "grad-cam,saliency,integrated-gradients", "--set", "steps=4")
    result = run("compare", four, tmp_path / "a.npy", *words, "-o", sheet)
    assert result.exit_code == 0, result.output
    assert NOTICE in result.stderr
    assert sheet.exists()
