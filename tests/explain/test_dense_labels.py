"""Labels of models with scores at positions: the class that stands for nothing may be left out."""

from typing import Any

import pytest

import onnxcam
from onnxcam.dense import Dense
from onnxcam.explain.dense_labels import class_without_label, with_labels
from tests.heads.support.nets import build
from tests.support.nets import random_images

ANCHORS = "c = Conv(features, v) r = Reshape(c, flat) z = Transpose<perm = [0, 2, 1]>(r)"
NET = (
    "float[N, 64, 6] y, float[N, 64, 4] boxes",
    f"""{ANCHORS} y = Softmax<axis = -1>(z) g = Reshape(features, flat)
        boxes = Transpose<perm = [0, 2, 1]>(g)""",
)
NAMES = ("cat", "dog", "owl", "fish", "bee")


@pytest.mark.parametrize(
    ("dense", "expected"),
    [
        (None, None),
        (Dense("detection", 6), None),
        (Dense("detection", 6, background=0), (0, "background")),
        (Dense("detection", 6, background=5), (5, "no object")),
        (Dense("segmentation", 6, background=0), (0, "background")),
        (Dense("sequence", 6, blank=5), (5, "blank")),
    ],
)
def test_class_without_label_has_name(dense: Dense | None, expected: Any) -> None:
    assert class_without_label(dense) == expected


@pytest.mark.parametrize(
    ("dense", "labels", "background", "blank"),
    [
        (Dense("detection", 6, background=0), ("background", *NAMES), 0, None),
        (Dense("detection", 6, background=0), (*NAMES, "Background"), 5, None),
        (Dense("detection", 6), (*NAMES, "no object"), 5, None),
        (Dense("detection", 6, background=0), (*NAMES, "ant"), None, None),
        (Dense("detection", 6, background=0), None, 0, None),
        (Dense("sequence", 6, blank=0), (*NAMES, "<blank>"), None, 5),
        (Dense("sequence", 6, blank=0), (*NAMES, "ant"), None, 0),
        (Dense("segmentation", 1), ("no", "yes"), None, None),
    ],
)
def test_labels_place_class_that_stands_for_nothing(
    dense: Dense, labels: Any, background: int | None, blank: int | None
) -> None:
    moved = with_labels(dense, labels)
    assert (moved.background, moved.blank) == (background, blank)


def test_label_means_its_class_if_background_has_none() -> None:
    explainer = onnxcam.Explainer(
        build(*NET).SerializeToString(), "grad-cam", labels=NAMES, device="cpu"
    )
    assert explainer.labels == ("background", *NAMES)
    explanation = explainer(random_images(1), target="dog")
    assert explanation.indices == (2,)
    assert any("class 0 is taken as the background" in notice for notice in explanation.notices)
    best = explainer(random_images(4), target="top1")
    assert 0 not in best.indices
