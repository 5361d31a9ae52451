"""What the methods that hide parts of the image have in common."""

from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.errors import MissingRuleError
from onnxcam.methods import METHODS
from tests.methods.support import perturbation_twins as twins
from tests.methods.support.compare import TARGET, assert_close
from tests.methods.support.without_rule import OfDeterminants, without_rule
from tests.support.nets import ANY_SIZE, random_images

NAMES = [name for name, method in METHODS.items() if method.family == "perturbation"]
FEW: dict[str, Any] = {"window": 3, "stride": 2, "samples": 9, "masks": 30}
every_method = pytest.mark.parametrize("method", NAMES)


def few(method: str) -> dict[str, Any]:
    return {name: value for name, value in FEW.items() if name in METHODS[method].settings}


def test_they_need_no_gradient() -> None:
    assert {"occlusion", "prediction-difference", "rise", "lime"} == {*NAMES}
    assert not any(METHODS[name].needs_gradient for name in NAMES)


@every_method
def test_error_about_missing_rule_names_a_method_that_works(method: str) -> None:
    x = random_images(2)
    with pytest.raises(MissingRuleError, match=rf"needs no gradient \(.*\b{method}\b.*\)"):
        onnxcam.Explainer(without_rule(), "grad-cam", device="cpu")
    explanation = onnxcam.Explainer(without_rule(), method, device="cpu", **few(method))(x, TARGET)
    assert np.isfinite(explanation.maps).all()
    assert explanation.maps.any()
    assert "its Softmax is used as the probability" in " ".join(explanation.notices)


def test_map_of_model_without_rule_equals_twin() -> None:
    x = random_images(2)
    explainer = onnxcam.Explainer(without_rule(), "occlusion", device="cpu", window=3, stride=2)
    twin = [twins.occlusion(OfDeterminants(), pixels, TARGET, 3, 2) for pixels in x]
    assert_close(explainer(x, TARGET).maps, np.stack(twin))


def test_windows_of_models_of_any_size_are_counted_one_by_one() -> None:
    reported: list[int] = []
    explainer = onnxcam.Explainer(ANY_SIZE.content(), "occlusion", window=3, chunk=4, device="cpu")
    assert explainer.passes == 112**2  # of 224 x 224 pixels, to which image files are resized
    explainer(random_images(1, (3, 9, 7)), progress=reported.append)
    assert sum(reported) == 4 * 3
    assert max(reported) <= 4
