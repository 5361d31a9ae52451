"""Images and arrays in, overlays and three files out, with everything that is needed to reproduce them."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import onnxcam
from onnxcam.errors import SettingError
from onnxcam.image.overlay import overlay
from onnxcam.image.preprocess import Preprocessing
from tests.explain.support.explained import X, make_explainer
from tests.support.nets import ANY_SIZE, DEEP, POOLED

LABELS = ("cat", "dog", "owl", "fish", "bee")
METHOD = "smooth-grad-cam++"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "deep.onnx"
    path.write_bytes(DEEP.content())
    return path


def test_save_writes_three_files_per_image(photo: Path, tmp_path: Path) -> None:
    explanation = make_explainer(DEEP, labels=LABELS)([photo, X[0]])
    out = tmp_path / "new" / "folder"
    paths = explanation.save(out)
    assert paths == [out / f"{name}.{METHOD}.png" for name in ("photo", "array-1")]
    assert len(list(out.iterdir())) == 6
    for i, path in enumerate(paths):
        with Image.open(path) as drawn:
            np.testing.assert_array_equal(drawn, explanation.overlay(i))
        with np.load(path.with_suffix(".npz")) as arrays:
            assert set(arrays.files) == {"map", "layer_map", "score"}
            np.testing.assert_array_equal(arrays["map"], explanation.maps[i])
            np.testing.assert_array_equal(arrays["layer_map"], explanation.layer_maps[i])
            assert arrays["score"] == explanation.scores[i]
        text = path.with_suffix(".json").read_text(encoding="utf-8")
        manifest = json.loads(text)
        assert set(manifest.pop("files")) == {path.name, path.with_suffix(".npz").name}
        assert manifest.pop("manifest_sha256")
        assert manifest == json.loads(json.dumps(explanation.manifest(i)))


def reproduce(manifest: Mapping[str, Any], model: Path) -> onnxcam.Explanation:
    """The explanation that a manifest describes, from the manifest and the files alone."""
    settings = dict(manifest["method"]["settings"])
    settings.pop("score", None)
    listed = manifest["subset"]["region"]
    options: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in manifest["preprocessing"].items()
    }
    explainer = onnxcam.Explainer(
        model,
        manifest["method"]["name"],
        manifest["layers"],
        device=manifest["device"],
        preprocess=Preprocessing(**options),
        output=manifest["score"]["tensor"],
        score=manifest["score"]["kind"],
        channels=manifest["subset"]["channels"],
        region=np.array(listed) if isinstance(listed, list) else listed,
        fuse=manifest["fuse"],
        **settings,
    )
    return explainer(manifest["image"]["source"], manifest["target"]["spec"])


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ({}, "top1"),
        ({"samples": 4, "noise": 0.3, "seed": np.int64(9), "numerator": "d1"}, "dog"),
        ({"sigma": 0.4, "samples": 3, "activation": "mean", "score": "exp"}, "dog-cat-owl"),
        ({"score": "probability", "samples": 3}, 1),
        ({"method": "grad-cam++", "layer": ["early", "features"], "fuse": "mean"}, "top2"),
        ({"method": "grad-cam", "channels": (np.int64(0), 2, 5), "region": np.s_[0:3, 1:]}, "top1"),
        ({"method": "grad-cam++", "channels": range(6), "region": "0:2,:"}, "top1"),
        ({"method": "grad-cam++", "channels": "0-4", "region": np.eye(4) > 0}, "top1"),
        ({"method": "grad-cam++", "preprocess": "tf"}, "top1"),
    ],
)
def test_manifest_reproduces_explanation(
    options: dict[str, Any], target: Any, photo: Path, model: Path, tmp_path: Path
) -> None:
    explainer = onnxcam.Explainer(
        model, device="cpu", labels=LABELS, **{"layer": "features", **options}
    )
    first = explainer(photo, target)
    assert first.maps.any()
    (path,) = first.save(tmp_path)
    manifest = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    second = reproduce(manifest, model)
    np.testing.assert_array_equal(second.maps, first.maps)
    np.testing.assert_array_equal(second.scores, first.scores)


def test_manifest_describes_explanation(photo: Path, model: Path) -> None:
    loaded = onnxcam.load(model)
    explainer = onnxcam.Explainer(loaded, layer="early", device="cpu", labels=LABELS)
    manifest = explainer(photo, "owl").manifest()
    assert manifest["model"] == {
        "name": "deep.onnx",
        "source": None,
        "sha256": loaded.digest,
        "task": "classification",
    }
    assert onnxcam.Explainer(model, device="cpu")(photo).manifest()["model"]["source"] == str(model)
    assert manifest["layers"] == ["early"]
    assert 0 < manifest["target"].pop("probability") < 1
    assert manifest["target"] | {"score": 0} == {
        "name": "owl",
        "index": 2,
        "spec": "2",
        "score": 0,
    }
    assert manifest["method"]["name"] == METHOD
    assert set(manifest["method"]["settings"]) == set(onnxcam.METHODS[METHOD].settings)
    assert manifest["image"]["source"] == str(photo)
    assert manifest["device"] == "cpu"
    named = {"output": None, "task": None, "head": None}
    assert manifest["score"] == {"kind": "logit", **named, "tensor": "logits"}
    assert manifest["labels"] is None
    assert manifest["versions"]["onnxcam"] == onnxcam.__version__
    assert {"onnxruntime", "providers"} <= set(manifest["versions"])
    assert manifest["map"]["shape"] == [8, 8]
    assert manifest["is_empty"] is False


def test_repeated_names_get_numbers(tmp_path: Path) -> None:
    explanation = make_explainer(DEEP, "grad-cam")([X[0], X[1], X[2]])
    paths = explanation.save(tmp_path, names=["cat", "Cat", "cat"])
    assert [path.name.split(".")[0] for path in paths] == ["cat", "Cat-2", "cat-3"]
    with np.load(paths[1].with_suffix(".npz")) as arrays:
        np.testing.assert_array_equal(arrays["map"], explanation.maps[1])
    with pytest.raises(SettingError, match="2 names for 3 images"):
        explanation.save(tmp_path, names=["a", "b"])


def test_numbered_name_stays_unique(tmp_path: Path) -> None:
    explanation = make_explainer(DEEP, "grad-cam")([X[0], X[1], X[2]])
    paths = explanation.save(tmp_path, names=["cat-2", "cat", "cat"])
    assert len(set(paths)) == 3


def test_undecodable_file_name_is_saved(photo: Path, tmp_path: Path) -> None:
    odd = photo.with_name("caf\udce9.png")  # Latin-1 on a disk that says UTF-8
    photo.rename(odd)
    (path,) = make_explainer(DEEP, "grad-cam")(odd).save(tmp_path / "out")
    text = path.with_suffix(".json").read_text(encoding="utf-8")
    assert json.loads(text)["image"]["source"] == str(odd)


def test_non_latin_labels_stay_readable(tmp_path: Path) -> None:
    explainer = make_explainer(DEEP, "grad-cam", labels=["猫", "犬", "梟", "魚", "蜂"])
    (path,) = explainer(X[:1], "犬").save(tmp_path)
    assert '"犬"' in path.with_suffix(".json").read_text(encoding="utf-8")


def test_repeated_save_replaces_files(tmp_path: Path) -> None:
    explanation = make_explainer(DEEP, "grad-cam")(X[:1])
    before = [path.read_bytes() for path in explanation.save(tmp_path)]
    assert [path.read_bytes() for path in explanation.save(tmp_path)] == before
    assert len(list(tmp_path.iterdir())) == 3


# Overlays


def test_overlay_has_size_of_image(photo: Path) -> None:
    explanation = make_explainer(DEEP, "grad-cam++")([photo, X[0]])
    assert explanation.overlay().size == (60, 40)
    assert explanation.overlay(1).size == (8, 8)
    assert explanation.overlay(0, side_by_side=True).width > 120
    assert explanation.overlay(0, caption=True).height > 40
    np.testing.assert_array_equal(explanation.overlay(0, opacity=0).size, (60, 40))


def test_overlay_covers_box_of_model(photo: Path) -> None:
    """The model sees only the middle of a wide image."""
    explanation = make_explainer(DEEP, "grad-cam++")(photo)
    image = explanation.images[0]
    left, top, right, bottom = image.box
    assert right - left == pytest.approx(bottom - top, rel=0.1)  # rounded to pixels
    assert left > 5
    drawn = overlay(image.image, explanation.maps[0], image.box, opacity=0.6)
    np.testing.assert_array_equal(explanation.overlay(), drawn)


def test_save_passes_drawing_settings(photo: Path, tmp_path: Path) -> None:
    explanation = make_explainer(DEEP, "grad-cam++")(photo)
    (path,) = explanation.save(tmp_path, side_by_side=True, opacity=0.3)
    with Image.open(path) as drawn:
        np.testing.assert_array_equal(drawn, explanation.overlay(side_by_side=True, opacity=0.3))
    with pytest.raises(SettingError, match="opacity"):
        explanation.save(tmp_path / "other", opacity=7)
    assert not (tmp_path / "other").exists()


def test_empty_map_is_flagged(tmp_path: Path) -> None:
    explanation = make_explainer(POOLED, "grad-cam")(
        X[:2], target=[3, 1]
    )  # class 3 has no evidence there
    assert explanation.is_empty.tolist() == [True, False]
    assert not explanation.maps[0].any()
    assert np.isfinite(explanation.maps).all()
    assert explanation.manifest(0)["is_empty"] is True
    assert np.ptp(np.asarray(explanation.overlay(0)).astype(int), axis=-1).max() == 0
    assert len(explanation.save(tmp_path)) == 2


# What is given


def test_image_sources_give_same_map(photo: Path) -> None:
    explainer = make_explainer(DEEP, "grad-cam++", preprocess="unit")
    sources: list[Any] = [photo, str(photo), photo.read_bytes(), Image.open(photo)]
    explanation = explainer(sources)
    for i in range(1, 4):
        np.testing.assert_array_equal(explanation.maps[i], explanation.maps[0])
    assert [image.name for image in explanation.images] == ["photo", "photo", "image-2", "image-3"]
    assert explanation.manifest(3)["image"]["source"] is None
    sources[3].close()


def test_arrays_of_any_rank_give_same_maps() -> None:
    explainer = make_explainer(DEEP, "grad-cam++")
    expected = explainer(X)
    assert len(expected) == 3
    for arrays in (list(X), [X[:2], X[2]], X.astype(np.float64)):
        np.testing.assert_array_equal(explainer(arrays).maps, expected.maps)
    assert len(explainer(X[0])) == 1


def test_arrays_are_not_changed() -> None:
    source = X.copy()
    make_explainer(DEEP, samples=2)(source)
    np.testing.assert_array_equal(source, X)


def test_preprocessing_comes_from_metadata_or_argument(photo: Path) -> None:
    proto = DEEP.proto()
    labels_entry = proto.metadata_props.add()
    labels_entry.key, labels_entry.value = "Image.NominalPixelRange", "Normalized_1_1"
    explainer = onnxcam.Explainer(proto.SerializeToString(), "grad-cam++", device="cpu")
    assert explainer.preprocessing.scale == 127.5
    assert make_explainer(DEEP).preprocessing == onnxcam.PRESETS["imagenet"]
    small = replace(onnxcam.PRESETS["unit"], size=(16, 24))
    assert make_explainer(ANY_SIZE, "grad-cam", preprocess=small)(photo).maps.shape == (1, 16, 24)


def test_assumed_preprocessing_is_reported_for_images_only(photo: Path) -> None:
    explainer = make_explainer(DEEP)
    assert not explainer(X).notices
    (notice,) = explainer(photo).notices
    assert "--preprocess" in notice
    assert explainer([X[0], photo]).notices == (notice,)
    assert explainer(photo).manifest()["notices"] == [notice]
    assert not make_explainer(DEEP, preprocess="imagenet")(photo).notices
    assert not make_explainer(DEEP, preprocess=Preprocessing(mean=(0.5,)))(photo).notices
    (partial,) = make_explainer(DEEP, pixels={"mean": (0.5,)})(photo).notices
    assert "--std" in partial  # is still assumed
    assert "--mean" not in partial
    with pytest.raises(AttributeError):
        explainer.preprocessing = Preprocessing(mean=(0.5,))  # type: ignore[misc]


def test_labels_from_any_source(photo: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("\n".join(LABELS), encoding="utf-8")
    proto = DEEP.proto()
    labels_entry = proto.metadata_props.add()
    labels_entry.key, labels_entry.value = "names", json.dumps(LABELS)
    models: list[tuple[Any, Any]] = [
        (DEEP.content(), path), (DEEP.content(), str(path)), (DEEP.content(), LABELS),
        (proto.SerializeToString(), "auto"),
    ]  # fmt: skip
    for content, source in models:
        explainer = onnxcam.Explainer(content, "grad-cam", labels=source, device="cpu")
        assert explainer(X[:1], "dog").targets == ("dog",)
    bare = onnxcam.Explainer(models[3][0], "grad-cam", labels=None, device="cpu")
    assert bare(X[:1], 1).targets == ("class 1",)
