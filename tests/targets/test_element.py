"""One element of a tensor as the target."""

import numpy as np
import pytest

import onnxcam
from onnxcam.errors import TargetError
from onnxcam.targets import TARGETS, Target, find_kind
from tests.support.nets import DEEP, random_images

SHAPE = (6, 4, 5)
X = random_images(2)


def select(spec: str, shape: tuple[int, ...] = SHAPE) -> Target:
    kind = find_kind(spec)
    assert kind is not None
    assert kind[0] is TARGETS["element"]
    return kind[0].select(kind[1], shape)


@pytest.mark.parametrize(
    ("indices", "index"), [("4,1,2", (4, 1, 2)), ("0, 0 ,0", (0, 0, 0)), ("-1,-2,-5", (5, 2, 0))]
)
def test_element_has_weight_one(indices: str, index: tuple[int, ...]) -> None:
    target = select(f" element:features[{indices}] ")
    expected = np.zeros(SHAPE)
    expected[index] = 1.0
    np.testing.assert_array_equal(target.weights, expected.ravel())
    assert target.index == int(np.ravel_multi_index(index, SHAPE))
    assert target.name == target.spec == f"element:features[{indices}]"


def test_name_of_tensor_may_hold_brackets_and_colons() -> None:
    matched = find_kind("element:a[0]:b[1,2]")
    assert matched is not None
    assert (matched[1]["tensor"], matched[1]["indices"]) == ("a[0]:b", "1,2")


@pytest.mark.parametrize("indices", ["6,0,0", "0,0", "0,0,0,0", "0,-5,0", "0,0,5"])
def test_element_that_does_not_exist_is_refused(indices: str) -> None:
    with pytest.raises(TargetError, match=r"6 x 4 x 5 .*: 0 to 5, 0 to 3, 0 to 4$"):
        select(f"element:features[{indices}]")


def test_element_of_a_vector_has_one_index() -> None:
    with pytest.raises(
        TargetError,
        match="5 numbers per image; expected an index for each axis, counted from 0: 0 to 4",
    ):
        select("element:logits[5]", (5,))


def test_element_of_scores_is_the_class() -> None:
    explainer = onnxcam.Explainer(DEEP.content(), "grad-cam", "features")
    best = int(explainer(X[:1], "top1").indices[0])
    actual, expected = explainer(X, f"element:logits[{best}]"), explainer(X, best)
    assert expected.maps.any()
    np.testing.assert_allclose(actual.maps, expected.maps, rtol=1e-6)
    np.testing.assert_allclose(actual.scores, expected.scores, rtol=1e-6)
    assert actual.targets == (f"element:logits[{best}]",) * 2


def test_element_of_features_has_map_at_earlier_layer() -> None:
    explainer = onnxcam.Explainer(DEEP.content(), "grad-cam", "early")
    explanation = explainer(X, ["element:features[3,1,2]", "top1"])
    features = DEEP.features(X[:1])
    assert explanation.scores[0] == pytest.approx(features[0, 3, 1, 2], rel=1e-4)
    assert explanation.target_specs[0] == "element:features[3,1,2]"
    np.testing.assert_allclose(explanation.maps[1:], explainer(X[1:], "top1").maps, rtol=1e-6)


def test_unknown_tensor_of_element_is_named() -> None:
    explainer = onnxcam.Explainer(DEEP.content(), "grad-cam", "early")
    with pytest.raises(onnxcam.OnnxcamError, match="fetures"):
        explainer(X[:1], "element:fetures[0,0,0]")
