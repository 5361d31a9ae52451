"""Targets of several kinds in one call, each of which is explained by a model of its own."""

import numpy as np
import pytest

from onnxcam import Explainer
from onnxcam.errors import TargetError
from tests.support.nets import DEEP, random_images

X = random_images(3)


def test_targets_of_several_kinds_at_a_named_layer_are_those_of_each() -> None:
    explainer = Explainer(DEEP.content(), "grad-cam", layer="early")
    targets = ["top1", "element:features[2,1,1]", "not 3"]
    together = explainer(X, targets)
    alone = [explainer(X[n : n + 1], target) for n, target in enumerate(targets)]
    np.testing.assert_allclose(together.maps, np.concatenate([one.maps for one in alone]))
    assert alone[1].provenance["score"]["tensor"] == "features"
    assert together.provenance["score"]["tensor"] == "logits, features"


def test_layer_that_a_target_chooses_is_named() -> None:
    explanation = Explainer(DEEP.content(), "grad-cam")(X, "element:c2[2,1,1]")
    assert explanation.layers == ("early",)
    assert explanation.layer_maps is not None
    assert explanation.layer_maps.shape[1:] == (8, 8)


def test_targets_whose_layers_differ_are_refused() -> None:
    explainer = Explainer(DEEP.content(), "grad-cam")
    with pytest.raises(TargetError, match=r"features; early\); name a layer"):
        explainer(X, ["top1", "element:c2[2,1,1]", "top1"])


def test_element_is_refused_where_probabilities_are_explained() -> None:
    explainer = Explainer(DEEP.content(), "grad-cam", score="probability")
    with pytest.raises(TargetError, match="only classes have a probability"):
        explainer(X, "element:features[2,1,1]")
