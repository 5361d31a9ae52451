"""What holds for every method: its maps, and where its settings appear."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import onnxcam
from onnxcam.cli.app import app
from onnxcam.methods import METHODS
from tests.methods.support.contract import few_samples, make_explainer, net_of, other_settings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "onnxcam" / "methods" / "README.md").read_text(encoding="utf-8")
TARGETS: list[int | str] = [1, "top1", "2-3"]
COUNT = len(TARGETS)
EVIDENCE_OF_CONSTANT_SCORES = {
    "recipro-cam": "its map is the probability itself",
    "rise": "its map is the mean of the probability itself",
    **dict.fromkeys(("score-cam", "ss-cam", "is-cam"), "all feature maps have the same weight"),
}
"""Methods that depend on the target, but are not empty where scores do not depend on the image, and why."""
every_method = pytest.mark.parametrize("method", METHODS)


def run(*words: object) -> str:
    """What a command line prints."""
    result = CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@every_method
def test_maps_have_the_size_of_images_and_are_finite(method: str) -> None:
    net = net_of(method)
    explanation = make_explainer(method, net.content)(net.images(COUNT), TARGETS)
    maps, attributions = explanation.maps, explanation.attributions
    assert maps.shape == (COUNT, *net.shape[1:])
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
    assert maps.any()  # of one image, all evidence may be against the class
    assert METHODS[method].signed or maps.min() >= 0
    if attributions is not None:
        assert attributions.shape == (COUNT, *net.shape)
        assert np.isfinite(attributions).all()


@every_method
def test_map_does_not_depend_on_other_images_or_chunks(method: str) -> None:
    net = net_of(method)
    images = net.images(COUNT)
    together = make_explainer(method, net.content, chunk=2)(images, TARGETS)
    explainer = make_explainer(method, net.content, chunk=7)
    for number, target in enumerate(TARGETS):
        alone = explainer(images[number], target)
        assert alone.targets[0] == together.targets[number]
        scale = float(np.abs(together.maps[number]).max())
        np.testing.assert_allclose(
            alone.maps[0], together.maps[number], rtol=1e-4, atol=1e-5 * scale
        )


@every_method
def test_scores_that_do_not_depend_on_the_image_give_empty_maps(method: str) -> None:
    net = net_of(method)
    explanation = make_explainer(method, net.without_evidence)(net.images(COUNT), TARGETS)
    assert np.isfinite(explanation.maps).all()
    has_evidence = method in EVIDENCE_OF_CONSTANT_SCORES or not METHODS[method].needs_target
    assert list(explanation.is_empty) == [not has_evidence] * COUNT


def test_listed_methods_depend_on_scores_without_a_gradient() -> None:
    """A gradient of constant scores is 0, so nothing excuses a method that takes it."""
    for name in EVIDENCE_OF_CONSTANT_SCORES.keys() & {*METHODS}:
        assert METHODS[name].needs_target, name
        assert not METHODS[name].needs_gradient, name


@every_method
def test_settings_of_command_line_reach_manifest(method: str, tmp_path: Path) -> None:
    """Those that are set and, with their defaults, all others."""
    net, settings = net_of(method), other_settings(method)
    model, image = tmp_path / "model.onnx", tmp_path / "image.png"
    model.write_bytes(net.content)
    height, width = net.shape[1:]
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(image)
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    run("explain", model, image, "-m", method, "--device", "cpu", *words, "-o", tmp_path / "out")
    (manifest,) = (json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json"))
    defaults = {name: setting.default for name, setting in METHODS[method].settings.items()}
    assert manifest["method"] == {"name": method, "settings": defaults | settings}


@every_method
def test_unknown_setting_is_refused(method: str) -> None:
    """With the settings that there are."""
    with pytest.raises(onnxcam.errors.SettingError, match="no setting 'smaples'") as caught:
        make_explainer(method, net_of(method).content, smaples=3)
    for name in METHODS[method].settings:
        assert name in str(caught.value)


def test_command_lists_all_methods() -> None:
    listed = {row["name"] for row in json.loads(run("methods", "--json"))}
    text = run("methods")
    assert listed == METHODS.keys()
    assert [name for name in METHODS if name not in text] == []


@every_method
def test_command_shows_method_with_its_settings(method: str) -> None:
    (row,) = json.loads(run("methods", method, "--json"))
    text = " ".join(run("methods", method).split())
    assert row["name"] == method
    assert all(row[key] in text for key in ("name", "computes", "source"))
    settings = {setting["name"]: setting for setting in row["settings"]}
    assert settings.keys() == METHODS[method].settings.keys()
    for name, setting in settings.items():
        assert name in text
        assert setting["default"] == METHODS[method].settings[name].default
        assert setting["meaning"] not in ("", "see the source"), name


@every_method
def test_readme_names_method_and_its_settings(method: str) -> None:
    """As code, alone or with a value."""
    names = [method, *METHODS[method].settings]
    missing = [name for name in names if not re.search(rf"`{re.escape(name)}[`=]", README)]
    assert missing == [], "add them to onnxcam/methods/README.md"


def test_few_samples_are_settings_of_methods() -> None:
    for name in METHODS:
        assert few_samples(name).keys() <= METHODS[name].settings.keys()
