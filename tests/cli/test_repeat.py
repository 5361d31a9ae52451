"""`explain --from`: a result is repeated exactly, options replace what it says, and changes are reported."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam.digests import digest_json
from onnxcam.explain.result_files import SEAL
from onnxcam.methods import METHODS
from onnxcam.methods.place import PLACES
from tests.cli.conftest import Run
from tests.cli.support.tiny import LABELS, write_image, write_model
from tests.methods.support.contract import net_of

ROOT = Path(__file__).resolve().parents[2]
SMOOTH = ("-n", "4", "--noise", "0.3", "--seed", "5", "--set", "numerator=d1")


def load(folder: Path) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """The manifest, the arrays, and the overlay of the only result in a folder."""
    (manifest,) = folder.glob("*.json")
    with np.load(manifest.with_suffix(".npz")) as arrays:
        return (
            json.loads(manifest.read_text()),
            dict(arrays),
            manifest.with_suffix(".png").read_bytes(),
        )


def explain(run: Run, *words: object, out: Path) -> Path:
    """Run `explain`; the manifest of its only result."""
    result = run("explain", *words, "-o", out)
    assert result.exit_code == 0, result.stderr
    (manifest,) = out.glob("*.json")
    return manifest


def assert_repeats(run: Run, manifest: Path, again: Path) -> None:
    explain(run, "--from", manifest, out=again)
    (first, arrays, overlay), (second, others, drawn) = load(manifest.parent), load(again)
    for name, array in arrays.items():
        np.testing.assert_array_equal(others[name], array)
    assert drawn == overlay
    for name in (
        "image",
        "target",
        "layers",
        "model",
        "method",
        "score",
        "subset",
        "fuse",
        "inputs",
    ):
        assert second[name] == first[name], name
    assert second["preprocessing"] == first["preprocessing"]
    assert second["labels"] == first["labels"]


def rewrite(
    manifest: Path, change: Callable[[dict[str, Any]], object], *, seal: bool = True
) -> None:
    """Change a manifest, with a valid digest of itself."""
    content = json.loads(manifest.read_text())
    content.pop(SEAL)
    change(content)
    manifest.write_text(json.dumps({**content, SEAL: digest_json(content) if seal else "0" * 64}))


@pytest.mark.parametrize("method", list(METHODS))
def test_result_of_every_method_is_repeated(
    run: Run, model: Path, image: Path, tmp_path: Path, method: str
) -> None:
    needs_pooling = METHODS[method].has_layer and METHODS[method].check
    words = ("-m", method, "-t", "top2", *(("-l", "relu2") if needs_pooling else ()))
    if METHODS[method].place in PLACES:
        model = tmp_path / "net.onnx"  # the tiny model has neither biases nor attention
        model.write_bytes(net_of(method).content)
    manifest = explain(run, model, image, *words, out=tmp_path / "first")
    assert_repeats(run, manifest, tmp_path / "again")


def test_result_with_all_options_is_repeated(
    run: Run, model: Path, image: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(LABELS))
    words = (
        *SMOOTH, "-t", "hen - bus", "-l", "relu1", "-l", "relu2", "--fuse", "mean", "--score", "exp",
        "--channels", "0-2", "--region", "1:7,2:8", "--preprocess", "tf", "--mean", "0.4",
        "--fit", "squash", "--labels", labels, "--colormap", "jet", "--opacity", "0.3", "--caption",
        "--output", "logits", "--longest-side", "300", "--side-by-side",
    )  # fmt: skip
    manifest = explain(run, model, image, *words, out=tmp_path / "first")
    assert_repeats(run, manifest, tmp_path / "again")


@pytest.mark.parametrize("target", ["not 2", "1-3", "element:conv1[2,5,7]"])
def test_result_of_target_is_repeated(
    run: Run, model: Path, image: Path, tmp_path: Path, target: str
) -> None:
    manifest = explain(run, model, image, "-m", "saliency", "-t", target, out=tmp_path / "first")
    assert_repeats(run, manifest, tmp_path / "again")


def test_probability_is_repeated(run: Run, model: Path, image: Path, tmp_path: Path) -> None:
    words = ("-m", "grad-cam", "--score", "probability")
    manifest = explain(run, model, image, *words, out=tmp_path / "first")
    assert_repeats(run, manifest, tmp_path / "again")


def test_result_saved_in_python_is_repeated(
    run: Run, model: Path, image: Path, tmp_path: Path
) -> None:
    region = np.zeros((8, 8), bool)
    region[2:5, 1:7] = True
    explainer = onnxcam.Explainer(model, "grad-cam", channels=[0, 2], region=region, device="cpu")
    explainer(image, 3).save(tmp_path / "first")
    assert_repeats(run, tmp_path / "first" / "cat.grad-cam.json", tmp_path / "again")


def test_values_of_inputs_are_repeated(run: Run, model: Path, image: Path, tmp_path: Path) -> None:
    scaled = tmp_path / "scaled.onnx"
    proto = onnx.load(model)
    proto.graph.input.append(onnx.helper.make_tensor_value_info("scale", 1, [1]))
    proto.graph.node.insert(0, onnx.helper.make_node("Mul", ["image", "scale"], ["scaled"]))
    proto.graph.node[1].input[0] = "scaled"
    onnx.save(proto, scaled)
    words = ("-m", "grad-cam", "--input", "scale=0.3")
    manifest = explain(run, scaled, image, *words, out=tmp_path / "first")
    assert_repeats(run, manifest, tmp_path / "again")
    rewrite(manifest, lambda content: content["inputs"]["scale"].pop("values"))
    result = run("explain", "--from", manifest, "-o", tmp_path / "third")
    assert result.exit_code == 2
    assert "pass them: --input scale=FILE.npy" in result.stderr
    result = run("explain", "--from", manifest, "--input", "scale=0.5", "-o", tmp_path / "third")
    assert result.exit_code == 0
    assert "the value of the input scale is not the one of" in result.stderr


def test_options_replace_what_the_result_says(
    run: Run, model: Path, image: Path, tmp_path: Path
) -> None:
    manifest = explain(run, model, image, *SMOOTH, "-l", "relu1", out=tmp_path / "first")
    words = ("--from", manifest, "-n", "6", "-l", "relu2", "-t", "2", "--set", "numerator=d2")
    expected = explain(
        run, model, image, "-n", "6", "--noise", "0.3", "--seed", "5", "-l", "relu2", "-t", "2",
        out=tmp_path / "expected",
    )  # fmt: skip
    explain(run, *words, out=tmp_path / "again")
    (first, arrays, _), (second, others, _) = load(expected.parent), load(tmp_path / "again")
    assert first["method"] == second["method"]
    np.testing.assert_array_equal(arrays["map"], others["map"])


def test_other_method_keeps_what_applies_to_it(
    run: Run, model: Path, image: Path, tmp_path: Path
) -> None:
    words = (*SMOOTH, "-l", "relu1", "--channels", "0,1", "-t", "2")
    manifest = explain(run, model, image, *words, out=tmp_path / "first")
    explain(run, "--from", manifest, "-m", "grad-cam", out=tmp_path / "again")
    explain(run, "--from", manifest, "-m", "saliency", out=tmp_path / "third")
    (at_layer, _, _), (at_image, _, _) = load(tmp_path / "again"), load(tmp_path / "third")
    assert at_layer["layers"] == ["relu1"]
    assert at_layer["subset"] == {"channels": "0,1", "region": None}
    assert at_layer["method"] == {"name": "grad-cam", "settings": {}}
    assert at_image["subset"] == {"channels": None, "region": None}
    assert at_layer["target"]["spec"] == at_image["target"]["spec"] == "2"


def test_sheet_of_feature_maps_is_repeated_where_it_applies(
    run: Run, model: Path, image: Path, tmp_path: Path
) -> None:
    manifest = explain(
        run, model, image, "-m", "grad-cam", "--top-channels", "3", out=tmp_path / "first"
    )
    assert_repeats(run, manifest, tmp_path / "again")
    (first,), (again,) = (
        [*(tmp_path / name).glob("*.channels.png")] for name in ("first", "again")
    )
    assert first.read_bytes() == again.read_bytes()
    explain(run, "--from", manifest, "-m", "saliency", out=tmp_path / "third")
    assert not [*(tmp_path / "third").glob("*.channels.png")]
    explain(run, "--from", manifest, "--top-channels", "0", out=tmp_path / "fourth")
    assert not [*(tmp_path / "fourth").glob("*.channels.png")]


def test_other_images_are_explained_alike(
    run: Run, model: Path, image: Path, tmp_path: Path
) -> None:
    manifest = explain(run, model, image, *SMOOTH, out=tmp_path / "first")
    others = [write_image(tmp_path / f"dog{number}.png", seed=number) for number in (1, 2)]
    result = run("explain", model, *others, "--from", manifest, "-o", tmp_path / "again")
    assert result.exit_code == 0, result.stderr
    assert "is not the one of" not in result.stderr
    methods = [
        json.loads(path.read_text())["method"] for path in (tmp_path / "again").glob("*.json")
    ]
    assert methods == [json.loads(manifest.read_text())["method"]] * 2


@pytest.mark.parametrize("changed", ["model", "image"])
def test_changed_file_is_refused_unless_it_is_named(run: Run, tmp_path: Path, changed: str) -> None:
    model, image = write_model(tmp_path / "net.onnx"), write_image(tmp_path / "cat.png")
    manifest = explain(run, model, image, "-m", "grad-cam", "-l", "relu2", out=tmp_path / "first")
    if changed == "model":
        proto = onnx.load(model)
        proto.producer_name = "another"
        onnx.save(proto, model)
    else:
        write_image(image, seed=9)
    result = run("explain", "--from", manifest, "-o", tmp_path / "again")
    assert result.exit_code == 2
    assert f"the {changed} " in result.stderr
    assert "the file has changed" in result.stderr
    result = run("explain", model, image, "--from", manifest, "-o", tmp_path / "again")
    assert result.exit_code == 0
    assert f"is not the one of {manifest}, so the map may be another one" in result.stderr


def test_result_of_array_names_what_is_missing(run: Run, model: Path, tmp_path: Path) -> None:
    x = np.zeros((3, 16, 16), np.float32)
    onnxcam.Explainer(model.read_bytes(), "grad-cam", device="cpu")(x).save(tmp_path)
    manifest = tmp_path / "array-0.grad-cam.json"
    result = run("explain", "--from", manifest, "-o", tmp_path / "again")
    assert result.exit_code == 2
    assert f"{manifest}: does not say where its model is" in result.stderr
    result = run("explain", model, "--from", manifest, "-o", tmp_path / "again")
    assert "does not say where its image is" in result.stderr


@pytest.mark.parametrize(
    ("change", "seal", "says"),
    [
        (lambda content: content.pop("schema"), True, "has schema None, but this version"),
        (lambda content: content.update(schema=1), True, "has schema 1, but this version"),
        (lambda content: content.update(fuse="mean"), False, "was changed after it was written"),
        (lambda content: content.pop("method"), True, "is damaged"),
        (lambda content: content.update(method=7), True, "is damaged"),
        (lambda content: content.update(layers=None), True, "is damaged"),
        (lambda content: content["subset"].pop("region"), True, "is damaged"),
        (lambda content: content["preprocessing"].update(color=1), True, "is damaged"),
        (
            lambda content: content["preprocessing"].update(scale=-1),
            True,
            "expected a number above",
        ),
        (lambda content: content["method"].update(name="gone"), True, "no method 'gone'"),
        (lambda content: content.update(versions=None), True, "is not a manifest of onnxcam"),
        (lambda content: content.update(unfinished="so"), True, "interrupted: explain the image"),
        (
            lambda content: content["method"]["settings"].update(sigma={"sha256": "0"}),
            True,
            "has only the digest of the array sigma",
        ),
    ],
)
def test_damaged_or_old_manifest_is_one_error_line(
    run: Run,
    model: Path,
    image: Path,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], object],
    seal: bool,
    says: str,
) -> None:
    manifest = explain(run, model, image, "-n", "2", out=tmp_path / "first")
    rewrite(manifest, change, seal=seal)
    result = run("explain", "--from", manifest, "-o", tmp_path / "again")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert says in result.stderr


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"{}", b"\x00" * 20, b"\x89PNG"])
def test_file_that_is_no_manifest_is_one_error_line(
    run: Run, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    result = run("explain", "--from", path)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"error: {path}: is not a manifest of onnxcam; expected the .json file of a result"
    ]


def test_missing_manifest_is_one_error_line(run: Run, tmp_path: Path) -> None:
    for path in (tmp_path / "gone.json", tmp_path):
        result = run("explain", "--from", path)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"error: {path}: cannot be read (")


def test_missing_arguments_are_named_without_a_result(run: Run, model: Path) -> None:
    assert "Missing argument 'MODEL'" in run("explain").stderr
    assert "Missing argument 'IMAGE...'" in run("explain", model).stderr
    assert run("explain").exit_code == 2


def test_missing_labels_are_reported(run: Run, model: Path, image: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(LABELS))
    manifest = explain(
        run, model, image, "-m", "grad-cam", "--labels", labels, out=tmp_path / "first"
    )
    labels.unlink()
    result = run("explain", "--from", manifest, "-o", tmp_path / "again")
    assert result.exit_code == 0
    assert f"the labels {labels} of {manifest} are not there" in result.stderr


def test_result_of_other_version_is_reported(
    run: Run, model: Path, image: Path, tmp_path: Path
) -> None:
    manifest = explain(run, model, image, "-m", "grad-cam", out=tmp_path / "first")
    rewrite(manifest, lambda content: content["versions"].update(onnxcam="0.0.1"))
    result = run("explain", "--from", manifest, "-o", tmp_path / "again")
    assert result.exit_code == 0
    assert f"{manifest} was written by onnxcam 0.0.1" in result.stderr
