"""`onnxcam explain`: files, targets, settings, and how its errors read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import onnxcam
from onnxcam.cli.batch_job import WAITING
from tests.cli.conftest import Run
from tests.cli.support.tiny import LABELS, size, weight, write_image

FAST = ("-l", "relu1", "-n", "2")


def test_explain_writes_overlay_map_and_manifest(
    run: Run, model: Path, image: Path, out: Path
) -> None:
    result = run("explain", model, image, *FAST, "-o", out)
    assert result.exit_code == 0, result.output
    stem = "cat.smooth-grad-cam++"
    assert sorted(path.name for path in out.iterdir()) == [
        f"{stem}.{end}" for end in ("json", "npz", "png")
    ]
    assert len(result.stdout.splitlines()) == 1
    assert str(out / f"{stem}.png") in result.stdout
    assert "1 map written" in result.stderr
    assert size(out / f"{stem}.png") == (24, 20)


@pytest.mark.parametrize(
    ("target", "score", "printed"),
    [
        ("1", "logit", r"class 1  \S+ \(p = \S+\)  \S+png$"),
        ("not 1", "logit", r"not class 1  \S+ \(p = \S+\)  \S+png$"),
        ("1-2", "logit", r"class 1 - class 2  \S+  \S+png$"),
        ("1", "probability", r"class 1  0\.\d+  \S+png$"),  # not the same number twice
    ],
)
def test_probability_is_printed_beside_logit(
    run: Run, model: Path, image: Path, out: Path, target: str, score: str, printed: str
) -> None:
    result = run("explain", model, image, *FAST, "-t", target, "--score", score, "-o", out)
    assert result.exit_code == 0, result.output
    assert re.search(printed, result.stdout.rstrip()), result.stdout


def test_map_equals_that_of_library(run: Run, model: Path, image: Path, out: Path) -> None:
    words = ("-m", "grad-cam++", "-l", "relu1", "-t", "3", "--fit", "squash", "--mean", "0.5")
    run("explain", model, image, *words, "-o", out)
    preprocessing = onnxcam.Preprocessing(mean=(0.5,), std=(0.229, 0.224, 0.225), fit="squash")
    explainer = onnxcam.Explainer(model, "grad-cam++", "relu1", preprocess=preprocessing)
    expected = explainer(image, "3")
    np.testing.assert_array_equal(np.load(out / "cat.grad-cam++.npz")["map"], expected.maps[0])


def test_each_target_gets_a_map(
    run: Run, model: Path, image: Path, out: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(LABELS))
    words = ("-t", "top1", "-t", "tabby cat", "-t", "3-4", "--labels", labels, "-m", "grad-cam")
    result = run("explain", model, image, *words, "-o", out, "--json")
    assert result.exit_code == 0, result.output
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["target"] for record in records[1:]] == ["tabby cat", "cup - oak"]
    assert 0 < records[1]["probability"] <= records[0]["probability"] < 1
    assert records[2]["probability"] is None
    names = [Path(record["overlay"]).name for record in records]
    assert names == [f"cat.{target}.grad-cam.png" for target in ("top1", "tabby-cat", "3-4")]
    assert all(Path(record[kind]).is_file() for record in records for kind in ("map", "manifest"))


def test_json_lines_hold_result_or_error(run: Run, model: Path, image: Path, out: Path) -> None:
    broken = image.with_name("broken.png")
    broken.write_bytes(b"no picture")
    result = run("explain", model, broken, image, "-m", "grad-cam", "-o", out, "--json")
    failed, explained = (json.loads(line) for line in result.stdout.splitlines())
    assert failed["image"] == str(broken)
    assert "not an image" in failed["error"]
    assert explained["error"] is None
    assert explained["layers"] == ["relu2"]
    assert isinstance(explained["score"], float)
    assert explained["is_empty"] in (True, False)


def test_broken_images_do_not_stop_others(run: Run, model: Path, tmp_path: Path, out: Path) -> None:
    for name in ("a.png", "c.jpg"):
        write_image(tmp_path / "in" / name)
    (tmp_path / "in" / "b.png").write_bytes(b"\x89PNG cut off")
    (tmp_path / "in" / "notes.txt").write_text("no image, not tried")
    result = run(
        "explain", model, tmp_path / "in", tmp_path / "gone.png", "-m", "grad-cam", "-o", out
    )
    assert result.exit_code == 1
    assert len(list(out.glob("*.png"))) == 2
    assert "2 maps written" in result.stderr
    assert "2 of 4 images failed" in result.stderr
    last = result.stderr.splitlines()[-2:]
    assert "b.png" in last[0]
    assert "gone.png: no such file" in last[1]


def test_settings_reach_the_manifest(run: Run, model: Path, image: Path, out: Path) -> None:
    words = ("-l", "relu1", "-n", "3", "--noise", "0.2", "--seed", "7", "--set", "numerator=d1")
    parts = ("--channels", "0,2-3", "--region", "0:8,0:8", "--score", "exp", "--chunk", "2")
    result = run("explain", model, image, *words, *parts, "-o", out)
    assert result.exit_code == 0, result.output
    manifest = json.loads((out / "cat.smooth-grad-cam++.json").read_text())
    settings = manifest["method"]["settings"]
    assert {name: settings[name] for name in ("samples", "noise", "seed", "numerator")} == {
        "samples": 3,
        "noise": 0.2,
        "seed": 7,
        "numerator": "d1",
    }
    assert manifest["score"]["kind"] == "exp"
    assert manifest["request"]["target"] == "top1"


def test_set_score_equals_option_score(run: Run, model: Path, image: Path, out: Path) -> None:
    assert run("explain", model, image, *FAST, "--set", "score=exp", "-o", out).exit_code == 0
    both = run("explain", model, image, "--set", "score=exp", "--score", "probability", "-o", out)
    assert both.exit_code == 2
    assert "set only one of them" in both.stderr


def test_layers_and_drawing_options_are_applied(
    run: Run, model: Path, image: Path, out: Path
) -> None:
    words = ("-m", "grad-cam", "-l", "relu1", "-l", "relu2", "--fuse", "mean", "--colormap", "jet")
    drawn = ("--side-by-side", "--caption", "--opacity", "0.3", "--size", "16x16")
    result = run("explain", model, image, *words, *drawn, "-o", out)
    assert result.exit_code == 0, result.output
    width, height = size(out / "cat.grad-cam.png")
    assert width > 48
    assert height > 20


def test_longest_side_is_that_of_the_overlay(run: Run, model: Path, image: Path, out: Path) -> None:
    words = ("explain", model, image, "-m", "grad-cam", "-o", out)
    assert run(*words).exit_code == 0
    width, height = size(out / "cat.grad-cam.png")
    assert run(*words, "--longest-side", max(width, height) // 2).exit_code == 0
    assert max(size(out / "cat.grad-cam.png")) == max(width, height) // 2


def test_quiet_prints_nothing(run: Run, model: Path, image: Path, out: Path) -> None:
    result = run("explain", model, image, "-o", out, "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_notices_are_printed_once(run: Run, model: Path, tmp_path: Path, out: Path) -> None:
    for number in range(3):
        write_image(tmp_path / "in" / f"{number}.png", number)
    result = run("explain", model, tmp_path / "in", "-l", "relu2", "-o", out)
    assert result.stderr.count("does not depend on the image") == 1


def test_assumed_preprocessing_is_printed_once(
    run: Run, model: Path, tmp_path: Path, out: Path
) -> None:
    for number in range(3):
        write_image(tmp_path / "in" / f"{number}.png", number)
    words = ("explain", model, tmp_path / "in", "-m", "grad-cam", "-o", out)
    assert run(*words).stderr.count("does not specify how images are prepared") == 1
    manifest = json.loads((out / "1.grad-cam.json").read_text())
    assert "--mean 0.485,0.456,0.406" in manifest["notices"][-1]
    partly = run(*words, "--mean", "0.5", "--std", "0.5")
    assert "assumed: --scale 255 --order rgb --fit crop (" in partly.stderr
    assert "note:" not in run(*words, "--preprocess", "imagenet").stderr


def test_empty_map_is_reported(run: Run, model: Path, image: Path, out: Path) -> None:
    against = int(np.argmin(weight("w3")[0]))  # a class that the first feature map speaks against
    words = ("--channels", "0", "-m", "grad-cam", "-t", against, "-o", out)
    result = run("explain", model, image, *words)
    assert result.exit_code == 0
    assert "EMPTY" in result.stdout
    assert json.loads(run("explain", model, image, *words, "--json").stdout)["is_empty"] is True


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("-m", "gradcam"), "no method 'gradcam'; did you mean grad-cam"),
        (("-l", "relu3"), "no layer 'relu3'; did you mean"),
        (("-t", "9"), "the model has 5 classes"),
        (("-t", "cat"), "--labels FILE"),
        (("-m", "grad-cam", "-n", "3"), "grad-cam has no setting 'samples'"),
        (("--set", "device=cpu"), "has no setting 'device'"),
        (("--set", "samples"), "expected NAME=VALUE"),
        (("--set", "samples=2", "-n", "3"), "set twice"),
        (("--set", "samples=many"), "samples='many'"),
        (("--score", "loss"), "logit, exp or probability"),
        (("--channels", "99"), "the layer has channels 0 to 3"),
        (("--region", "4"), "expected y0:y1,x0:x1"),
        (("--preprocess", "imagnet"), "did you mean imagenet"),
        (("--size", "7"), "expected height,width"),
        (("--mean", "a,b"), "--mean 'a,b'"),
        (("--std", "0"), "std"),
        (("--order", "grb"), "rgb"),
        (("--fit", "cut"), "crop"),
        (("--fuse", "min"), "fuse='min': expected max or mean"),
        (
            ("-m", "grad-cam", "--score", "exp"),
            "a method with samples: smooth-grad-cam++",
        ),
        (("-m", "cam", "--set", "score=exp"), "methods that have score: smooth-grad-cam++"),
        (("--device", "tpu"), "expected auto, cpu, cuda"),
        (("--colormap", "jett"), "did you mean jet"),
        (("--colormap", "polar"), "choose one of: ember, jet, gray"),
        (("-m", "integrated-gradients", "--colormap", "jet"), "choose one of: polar, redblue"),
        (
            ("-m", "saliency", "-l", "relu1"),
            "--layer does not apply to saliency, which has no layer",
        ),
        (("-m", "saliency", "--fuse", "mean"), "--fuse does not apply to saliency"),
        (("-m", "saliency", "--channels", "1"), "--channels does not apply to saliency"),
        (("-m", "saliency", "--region", "0:1,0:1"), "--region does not apply to saliency"),
        (("-m", "saliency", "--channels", "1"), "applies: cam, grad-cam"),
        (
            ("-t", "element:relu1[0,0]"),
            "relu1 holds 4 x 16 x 16 numbers per image; expected an index for each axis",
        ),
        (("-t", "element:gone[0]"), "gone"),
        (("--labels", "none.txt"), "none.txt"),
        (("--output", "logit"), "did you mean logits"),
    ],
)
def test_wrong_settings_are_one_error_line(
    run: Run, model: Path, image: Path, out: Path, words: tuple[str, ...], says: str
) -> None:
    result = run("explain", model, image, *words, "-o", out)
    assert result.exit_code == 2
    lines = [line for line in result.stderr.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert says in lines[0]
    assert not out.exists() or not list(out.iterdir())


def test_unsuitable_colormap_is_refused_before_the_work(
    run: Run, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = run("explain", model, tmp_path, "-m", "saliency", "--colormap", "polar", "-o", out)
    assert result.exit_code == 2
    assert not out.exists()


def test_element_of_a_tensor_is_a_target(run: Run, model: Path, image: Path, out: Path) -> None:
    result = run("explain", model, image, "-m", "saliency", "-t", "element:conv1[2,5,7]", "-o", out)
    assert result.exit_code == 0, result.stderr
    manifest = json.loads((out / "cat.saliency.json").read_text())
    assert manifest["target"]["spec"] == manifest["target"]["name"] == "element:conv1[2,5,7]"
    with np.load(out / "cat.saliency.npz") as arrays:
        rows, columns = np.nonzero(arrays["map"])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 6, 6, 8)  # 3 x 3 pixels


def test_broken_model_is_error(run: Run, image: Path, out: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x00\x01")
    for path in (broken, tmp_path / "gone.onnx", tmp_path):
        result = run("explain", path, image, "-o", out)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"error: {path}")


def test_unwritable_folder_is_error(run: Run, model: Path, image: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = run("explain", model, image, "-m", "grad-cam", "-o", image / "out")
    assert result.exit_code == 2
    assert "cannot create the folder" in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_impossible_file_name_fails_alone(run: Run, model: Path, image: Path, out: Path) -> None:
    long = write_image(image.with_name("x" * 245 + ".png"))
    result = run("explain", model, long, image, "-m", "grad-cam", "-o", out)
    assert result.exit_code == 1
    assert sorted(path.suffix for path in out.iterdir()) == [".json", ".npz", ".png"]


def test_full_disk_stops_the_run(
    run: Run, model: Path, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        write_image(tmp_path / "in" / f"{number}.png", number)
    tried = []

    def full(path: Path, _: Path) -> Path:
        tried.extend([path] * (path.parent == out))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    result = run("explain", model, tmp_path / "in", "-m", "grad-cam", "-o", out)
    assert result.exit_code == 2
    assert "No space left" in result.stderr
    assert 1 <= len(tried) <= WAITING + 1  # those that were explained by then
    assert not list(out.iterdir())


def test_usage_errors_exit_with_2(run: Run, model: Path) -> None:
    for words in (("explain",), ("explain", model), ("explain", model, "x", "--nonsense"), ("no",)):
        assert run(*words).exit_code == 2


def test_model_is_cached_unless_no_cache(
    run: Run, model: Path, image: Path, out: Path, cache_folder: Path
) -> None:
    run("explain", model, image, *FAST, "--no-cache", "-o", out / "plain")
    assert not cache_folder.exists()
    for name in ("first", "second"):
        run("explain", model, image, *FAST, "-o", out / name)
    assert len(list((cache_folder / "models").iterdir())) == 1
    for end in ("npz", "json", "png"):
        files = [
            out / run_name / f"cat.smooth-grad-cam++.{end}"
            for run_name in ("plain", "first", "second")
        ]
        assert len({path.read_bytes() for path in files}) == 1, end


def test_top_channels_are_drawn_and_kept_by_skip_existing(
    run: Run, model: Path, image: Path, out: Path
) -> None:
    words = (
        "explain",
        model,
        image,
        "-m",
        "grad-cam",
        "--top-channels",
        3,
        "-o",
        out,
        "--json",
        "-q",
    )
    (record,) = map(json.loads, run(*words).stdout.splitlines())
    assert Path(record["channels"]).name == "cat.grad-cam.channels.png"
    assert len(json.loads(Path(record["manifest"]).read_text())["channels"]) <= 3
    (again,) = map(json.loads, run(*words, "--skip-existing").stdout.splitlines())
    assert again["skipped"]
    (fewer,) = map(
        json.loads, run(*words[:6], 2, *words[7:], "--skip-existing").stdout.splitlines()
    )
    assert not fewer["skipped"]


def test_sheets_of_feature_maps_are_no_images(run: Run, model: Path, image: Path) -> None:
    folder = image.parent
    words = (
        "explain",
        model,
        folder,
        "-m",
        "grad-cam",
        "--top-channels",
        3,
        "-o",
        folder,
        "--json",
        "-q",
    )
    for _ in range(2):
        (record,) = map(json.loads, run(*words).stdout.splitlines())
        assert record["image"] == str(image)
    assert (folder / "cat.grad-cam.channels.png").is_file()
