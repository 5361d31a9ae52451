"""Labels that do not fit the classes are refused, or ignored with a notice; never shifted silently."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

import onnxcam
from tests.support.nets import DEEP, random_images

X = random_images(1)
NAMES = ("cat", "dog", "owl", "fish", "bee")
TWO_NAMES = {"names": "{0: 'cat', 1: 'dog'}"}


def make_explainer(
    labels: Any = "auto", metadata: Mapping[str, str] = MappingProxyType({})
) -> onnxcam.Explainer:
    proto = DEEP.proto()
    for key, value in metadata.items():
        prop = proto.metadata_props.add()
        prop.key, prop.value = key, value
    return onnxcam.Explainer(proto.SerializeToString(), "grad-cam", labels=labels, device="cpu")


@pytest.mark.parametrize(
    "labels", [NAMES[:4], (*NAMES, "ant"), {0: "cat", 1: "dog"}, ["background", *NAMES[:3]]]
)
def test_labels_of_wrong_number_are_refused(labels: Any) -> None:
    with pytest.raises(
        onnxcam.SettingError, match=r"labels for 5 classes; expected one name per class"
    ):
        make_explainer(labels)


def test_label_file_of_wrong_length_is_named(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("name\n" + "\n".join(NAMES))
    with pytest.raises(
        onnxcam.SettingError, match=r"labels\.txt: 6 labels for 5 classes.*a heading"
    ):
        make_explainer(path)
    path.rename(tmp_path / "labels.csv")
    assert make_explainer(tmp_path / "labels.csv").labels == NAMES


@pytest.mark.parametrize(
    "labels",
    [
        dict(enumerate(NAMES)),
        {name: index for index, name in enumerate(NAMES)},
        {str(index): name for index, name in enumerate(NAMES)},
        iter(NAMES),
    ],
)
def test_labels_of_python_types_are_accepted(labels: Any) -> None:
    assert make_explainer(labels)(X, "dog").indices == (1,)


def test_extra_background_label_is_dropped_with_notice() -> None:
    explanation = make_explainer(("background", *NAMES))(X, "dog")
    assert explanation.indices == (1,)
    assert ["'background', is ignored" in notice for notice in explanation.notices] == [True]
    assert explanation.manifest()["notices"] == list(explanation.notices)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id2label", json.dumps(dict(enumerate(NAMES)))),
        ("class_names", json.dumps(NAMES)),
        ("names", str(dict(enumerate(NAMES)))),
        ("names", str(list(NAMES))),
        ("labels", "\n".join(NAMES)),
        ("label_names", json.dumps(NAMES)),
        ("class_to_idx", json.dumps({name: index for index, name in enumerate(NAMES)})),
        ("label2id", json.dumps({name: index for index, name in enumerate(NAMES)})),
    ],
)
def test_labels_are_read_from_metadata(key: str, value: str) -> None:
    explanation = make_explainer(metadata={key: value})(X, "owl")
    assert explanation.targets == ("owl",)
    assert not explanation.notices


def test_metadata_labels_of_wrong_number_are_ignored_with_notice() -> None:
    explanation = make_explainer(metadata=TWO_NAMES)(X, "1")
    assert explanation.targets == ("class 1",)
    (notice,) = explanation.notices
    assert notice.startswith(
        "the labels in the model's metadata are not used: 2 labels for 5 classes"
    )
    assert "--labels" in notice
    assert not make_explainer(None, TWO_NAMES).notices
    assert not make_explainer(NAMES, TWO_NAMES).notices


def test_count_of_classes_in_metadata_is_ignored() -> None:
    assert not make_explainer(metadata={"classes": "5", "labels": "imagenet"}).notices


def test_shared_label_is_reported_for_its_classes() -> None:
    """The label alone is ambiguous; a class with it is explained by its number, and the notice says which."""
    explainer = make_explainer(("crane", "dog", "crane", "fish", "bee"))
    with pytest.raises(onnxcam.TargetError, match="2 classes have this label"):
        explainer(X, "crane")
    explanation = explainer(X, "2")
    assert explanation.targets == ("crane",)
    (notice,) = explanation.notices
    assert notice.startswith("2 classes are named 'crane': class 2 is explained, not 0")
    assert not explainer(X, "dog").notices
