"""Whatever the task of a model, a preprocessing that nothing describes is assumed with a notice."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from PIL import Image

import onnxcam
from onnxcam.image.preprocess import PRESETS
from tests.explain.support.color_models import color_model, labels_of

KINDS = ("logits", "softmax", "pixels", "boxes")
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))


def make_explainer(proto: onnx.ModelProto, **options: Any) -> onnxcam.Explainer:
    return onnxcam.Explainer(
        proto.SerializeToString(), "gradient-x-input", device="cpu", labels=None, **options
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("dtype", "preset"), [(TensorProto.FLOAT, "imagenet"), (TensorProto.UINT8, "raw")]
)
def test_preset_is_assumed_with_a_notice(kind: str, dtype: int, preset: str) -> None:
    proto = color_model(kind, dtype)
    onnx.helper.set_model_props(proto, {})  # the keys of Ultralytics would suggest a letterbox
    explainer = make_explainer(proto)
    assert explainer.preprocessing == PRESETS[preset]
    notice = str(explainer.preprocessing_notice)
    assert f"(the preset {preset})" in notice
    assert "choose another --preprocess (imagenet, tf, caffe, unit, raw)" in notice
    with pytest.warns(onnxcam.OnnxcamNotice, match="does not specify how images are prepared"):
        explanation = explainer(IMAGE)
    assert notice in explanation.notices


@pytest.mark.parametrize("kind", KINDS)
def test_named_preset_needs_no_notice(kind: str) -> None:
    explainer = make_explainer(color_model(kind), preprocess="unit")
    assert explainer.preprocessing_notice is None


@pytest.mark.parametrize("kind", KINDS)
def test_array_of_the_user_needs_no_notice(kind: str) -> None:
    explainer = make_explainer(color_model(kind))
    explanation = explainer(np.random.default_rng(0).random((3, 8, 8)).astype(np.float32))
    assert not [notice for notice in explanation.notices if "prepared" in notice]


def test_labels_of_a_kind_are_in_its_metadata() -> None:
    explainer = onnxcam.Explainer(color_model("pixels").SerializeToString(), device="cpu")
    assert explainer.labels == labels_of("pixels")
