"""Bent backward passes of exported models against those of captum, which hooks the modules of torch."""

from typing import Any

import numpy as np
import pytest

from onnxcam.arrays import Floats
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from onnxcam.specs import REFERENCE
from tests.autodiff.support.check import run

torch = pytest.importorskip("torch", reason="needs the extra `oracle`")
attr = pytest.importorskip("captum.attr", reason="needs the extra `oracle`")
pytestmark = pytest.mark.oracle

from tests.autodiff.support.torch_export import export  # noqa: E402  it needs torch
from tests.autodiff.support.torch_nets import BENT, randomized  # noqa: E402

CLOSE = 1e-4  # of the largest attribution
GAP = 1e-4  # of the difference of the scores
CLASS = 2


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", ["pooled", "residual"])
@pytest.mark.parametrize(
    ("rules", "method"), [("guided", "GuidedBackprop"), ("deconvnet", "Deconvolution")]
)
@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_bent_gradient_matches_captum(rules: str, method: str, name: str, dynamo: bool) -> None:
    model = randomized(BENT[name])
    x = torch.randn(2, 3, 17, 18)
    expected = getattr(attr, method)(model).attribute(x.clone().requires_grad_(), target=CLASS)
    result = bent(model, x, rules, dynamo)
    exact = expected.detach().numpy()
    assert np.abs(result - exact).max() <= CLOSE * np.abs(exact).max()
    plain = bent(model, x, "default", dynamo)
    assert np.abs(result - plain).max() > 0.1 * np.abs(exact).max()


@pytest.mark.parametrize("name", ["residual", "sigmoids", "pool between convolutions"])
@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
def test_deep_lift_matches_captum(name: str) -> None:
    """In double precision, which captum's threshold was made for. Its sum misses the difference of the scores
    where a MaxPool stands next to a ReLU, and where the windows overlap; ours does not (see the test below).
    """
    model = randomized(BENT[name])
    x, reference = torch.randn(2, 3, 17, 18), torch.randn(1, 3, 17, 18)
    result = bent(model, x, "deep-lift", False, reference) * (x - reference).numpy()
    explainer = attr.DeepLift(model.double())
    images = (image.double().requires_grad_() for image in (x, reference))
    exact = explainer.attribute(*images, target=CLASS).detach().numpy()
    assert np.abs(result - exact).max() <= CLOSE * np.abs(exact).max()


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", BENT)
def test_deep_lift_of_exported_model_sums_to_the_difference(name: str, dynamo: bool) -> None:
    model = randomized(BENT[name])
    x, reference = torch.randn(2, 3, 16, 20), torch.randn(2, 3, 16, 20)
    m = bent(model, x, "deep-lift", dynamo, reference)
    totals = (m.astype(np.float64) * (x - reference).numpy()).sum((1, 2, 3))
    with torch.no_grad():
        exact = (model.double()(x.double()) - model(reference.double()))[:, CLASS].numpy()
    assert np.abs(totals - exact).max() <= GAP * np.abs(exact).min()


def bent(model: Any, x: Any, rules: str, dynamo: bool, reference: Any = None) -> Floats:
    """The bent gradient of one class at the image."""
    proto = export(model, x, "fixed", dynamo, outputs=["scores"])
    augmented = gradient(load(proto), ["image"], "scores", rules)
    seed = np.eye(5, dtype=np.float32)[[CLASS, CLASS]]
    feed = {"image": x.numpy(), SEED: seed}
    if reference is not None:
        feed[REFERENCE] = reference.numpy()
    return np.asarray(run(augmented.proto(), feed, ["gradient/image"])[0])
