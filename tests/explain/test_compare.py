"""`onnxcam.compare`: several methods for one image, with times; one that fails does not lose the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import onnxcam
from onnxcam.errors import ImageError, ModelError, OutputError, SettingError, UnknownNameError
from onnxcam.explain.compare import choose_methods, settings_per_method
from onnxcam.explain.comparison_notes import (
    layer_text,
    notes_of,
    percent_text,
    shorten,
    time_text,
    usual_of,
)
from onnxcam.methods import METHODS
from tests.support.layered_nets import CURVED
from tests.support.nets import Net, random_images

FEW = {"samples": 3, "steps": 3, "masks": 9}
CONTENT = CURVED.content()
IMAGE = random_images(1)


def compare(methods: Any = ("grad-cam", "layer-cam"), **options: Any) -> onnxcam.Comparison:
    options = {"device": "cpu", "cache": False, **options}
    return onnxcam.compare(CONTENT, IMAGE, methods, **options)


def test_explanations_are_those_of_explainers_in_the_order_of_the_methods() -> None:
    names = ["saliency", "activation-map", "smooth-grad-cam++", "grad-cam"]
    comparison = compare(names, samples=3)
    assert [explanation.method for explanation in comparison] == names
    assert len(comparison) == len(comparison.seconds) == 4
    for explanation in comparison:
        settings: dict[str, Any] = (
            {"samples": 3} if explanation.method == "smooth-grad-cam++" else {}
        )
        alone = onnxcam.Explainer(CONTENT, explanation.method, cache=False, **settings)(IMAGE)
        largest = np.abs(alone.maps).max()
        np.testing.assert_allclose(explanation.maps, alone.maps, rtol=0, atol=1e-6 * largest)


def test_shared_time_counts_for_each_method_but_is_spent_once() -> None:
    comparison = compare(["smooth-grad-cam++", "smooth-layer-cam"], samples=50)
    first, second = comparison.maps
    assert first.shared_seconds == 0
    assert 0 < second.shared_seconds <= second.seconds
    assert comparison.spent_seconds == pytest.approx(
        first.seconds + second.seconds - second.shared_seconds
    )
    assert first.passes == second.passes == 50


def test_failing_method_does_not_lose_the_others() -> None:
    comparison = compare(["cam", "grad-cam", "attention-rollout"])
    assert [explanation.method for explanation in comparison] == ["grad-cam"]
    assert comparison.errors.keys() == {"cam", "attention-rollout"}
    assert comparison.errors["cam"].startswith("does not apply to ")
    assert [compared.method for compared in comparison.maps] == [
        "cam",
        "grad-cam",
        "attention-rollout",
    ]


def test_bug_in_a_method_does_not_lose_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(activation: Any, gradient: Any) -> Any:
        raise ZeroDivisionError("no cells")

    monkeypatch.setattr(METHODS, "_values", dict(METHODS))
    onnxcam.method("broken", source="Author 2026")(broken)
    comparison = compare(["broken", "grad-cam"])
    assert comparison.errors == {"broken": "a bug: ZeroDivisionError: no cells; please report it"}
    assert len(comparison) == 1


def test_error_of_all_methods_is_raised() -> None:
    with pytest.raises(onnxcam.TargetError, match="999"):
        compare(target=999)
    with pytest.raises(ModelError, match="cannot be read"):
        onnxcam.compare("missing.onnx", IMAGE, "grad-cam,layer-cam")


def test_comparison_without_any_map_has_no_sheet() -> None:
    comparison = compare(["cam", "attention-rollout"])
    with pytest.raises(SettingError, match="no method has a map to draw: cam: does not apply"):
        comparison.sheet()
    assert comparison._repr_png_() is None


def test_all_methods_are_explained_or_have_a_reason() -> None:
    comparison = compare("all", **FEW)
    assert [compared.method for compared in comparison.maps] == list(METHODS)
    assert {e.method for e in comparison} | comparison.errors.keys() == {*METHODS}
    assert comparison.errors.keys() <= {
        name for name, method in METHODS.items() if method.family == "attention" or method.check
    }


def test_layers_and_targets_are_columns() -> None:
    layers = [layer.name for layer in onnxcam.layers(onnxcam.load(CONTENT))][-2:]
    comparison = compare(["grad-cam", "saliency"], layer=layers, target=["top1", "top2"])
    assert [(c.method, c.layer, c.target) for c in comparison.maps] == [
        *(("grad-cam", layer, "top1") for layer in layers[:1]),
        ("grad-cam", layers[0], "top2"),
        ("grad-cam", layers[1], "top1"),
        ("grad-cam", layers[1], "top2"),
        ("saliency", None, "top1"),
        ("saliency", None, "top2"),
    ]
    assert comparison.maps[2].explanation is not None
    assert comparison.maps[2].explanation.layers == (layers[1],)
    assert comparison.sheet().width > compare(["grad-cam"]).sheet().width


@pytest.mark.parametrize(
    ("methods", "names"),
    [
        ("grad-cam, layer-cam", ["grad-cam", "layer-cam"]),
        (["grad-cam", "grad-cam"], ["grad-cam"]),
        ("all", [*METHODS]),
        ("smooth-layer-cam", ["smooth-layer-cam"]),
    ],
)
def test_methods_are_chosen(methods: Any, names: list[str]) -> None:
    assert choose_methods(methods) == names


def test_default_methods_are_known_and_of_several_families() -> None:
    names = choose_methods(None)
    assert len(names) >= 6
    assert len({METHODS[name].family for name in names}) > 1
    with pytest.raises(UnknownNameError, match="grad-kam"):
        choose_methods("grad-kam")
    with pytest.raises(SettingError, match="no methods to compare"):
        choose_methods([])


def test_setting_goes_to_all_methods_that_have_it() -> None:
    names = ["grad-cam", "smooth-grad", "smooth-grad-cam++"]
    settings = settings_per_method(names, {"samples": 4, "smooth-grad.samples": 2})
    assert settings == {
        "grad-cam": {},
        "smooth-grad": {"samples": 2},
        "smooth-grad-cam++": {"samples": 4},
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("steps", "none of the methods has the setting 'steps'"),
        ("grad-cam.samples", "grad-cam has no setting 'samples'; .*methods that have it: lime"),
        ("rise.masks", "rise is not one of the methods that are compared"),
    ],
)
def test_setting_of_no_method_is_refused(name: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        settings_per_method(["grad-cam", "lime"], {name: 3})


def test_arguments_go_to_the_methods_to_which_they_apply() -> None:
    comparison = compare(
        ["grad-cam", "saliency", "smooth-grad"], channels=[0], score="exp", samples=2
    )
    assert not comparison.errors
    manifests = [explanation.manifest() for explanation in comparison]
    assert [manifest["score"]["kind"] for manifest in manifests] == ["logit", "logit", "exp"]
    assert [manifest["subset"]["channels"] for manifest in manifests] == [[0], None, None]


def test_several_images_are_refused() -> None:
    with pytest.raises(ImageError, match="2 images to compare methods on; expected one"):
        onnxcam.compare(CONTENT, random_images(2), ["grad-cam"], cache=False)


def test_progress_counts_the_passes_of_every_method() -> None:
    counts: list[int] = []
    compare(
        ["smooth-grad-cam++", "smooth-layer-cam", "grad-cam"], samples=3, progress=counts.append
    )
    assert sum(counts) == 3 + 3 + 1


def test_sheet_and_manifest_are_saved(tmp_path: Path) -> None:
    comparison = compare(["cam", "grad-cam", "integrated-gradients"], steps=3)
    path = comparison.save(tmp_path / "grid.png")
    manifest = json.loads((tmp_path / "grid.json").read_text())
    with Image.open(path) as sheet:
        assert sheet.size == comparison.sheet().size
    cam, grad_cam, integrated = manifest["comparison"]
    assert cam["error"].startswith("does not apply to")
    assert grad_cam["result"]["method"]["name"] == "grad-cam"
    assert integrated["passes"] == 3
    assert integrated["seconds"] > 0
    assert "completeness_gap" in integrated["result"]["facts"]
    assert manifest["files"].keys() == {"grid.png"}
    comparison.save(path)  # its own files are replaced


def test_file_of_others_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "grid.json").write_text("{}")
    comparison = compare()
    with pytest.raises(OutputError, match="already exists"):
        comparison.save(tmp_path / "grid.png")
    comparison.save(tmp_path / "grid.png", overwrite=True)
    with pytest.raises(SettingError, match=r"expected the name of a \.png file"):
        comparison.save(tmp_path / "grid.jpg")


def test_notices_are_warned_about_once() -> None:
    with pytest.warns(onnxcam.OnnxcamNotice) as warned:
        compare(["shapley-cam", "integrated-gradients"], steps=1)
    messages = [str(warning.message) for warning in warned]
    assert len(messages) == len({*messages})
    assert any("do not add up" in message for message in messages)


def test_model_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[object] = []
    load = onnxcam.load

    def counted(source: Any, inputs: Any) -> Any:
        loads.append(source)
        return load(source, inputs)

    monkeypatch.setattr("onnxcam.model.load.load", counted)
    comparison = compare(["grad-cam", "saliency", "recipro-cam"])
    assert not comparison.errors
    assert len(loads) == 1


def test_layer_is_noted_where_it_is_not_the_usual_one() -> None:
    """Before global average pooling there is nothing to smooth, so that smoothing takes an earlier layer."""
    names = ("grad-cam", "layer-cam", "guided-grad-cam", "smooth-grad-cam++")
    comparison = onnxcam.compare(Net().content(), IMAGE, names, samples=2, cache=False)
    usual = usual_of(comparison.drawn)
    (common,) = usual.layers.values()
    assert layer_text(common) == "features, 4 x 4 cells"
    notes = {c.method: [*notes_of(c, usual)] for c in comparison.drawn}
    assert notes["layer-cam"] == notes["guided-grad-cam"] == []
    assert "layer early, 8 x 8 cells" in notes["smooth-grad-cam++"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0004, "0 ms"), (0.0123, "12 ms"), (1.26, "1.3 s"), (157.3, "157 s")]
)
def test_times_are_short(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


@pytest.mark.parametrize(
    ("fraction", "text"), [(1e-8, "below 0.1 %"), (0.084, "8.4 %"), (0.36, "36 %"), (1.3, "130 %")]
)
def test_gaps_are_percentages(fraction: float, text: str) -> None:
    assert percent_text(fraction) == text


def test_notice_is_shortened_to_its_first_clause() -> None:
    notice = "scikit-image is not installed (it is an extra), so segments are a grid; install it"
    assert shorten(notice) == "scikit-image is not installed"
