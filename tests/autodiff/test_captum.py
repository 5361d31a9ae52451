"""Bent backward passes of exported models against those of captum, which hooks the modules of torch."""

from typing import Any

import numpy as np
import pytest

from onnxcam.arrays import Floats
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import run

torch = pytest.importorskip("torch", reason="needs the extra `oracle`")
attr = pytest.importorskip("captum.attr", reason="needs the extra `oracle`")
pytestmark = pytest.mark.oracle

from tests.autodiff.support.torch_export import export  # noqa: E402  it needs torch
from tests.autodiff.support.torch_nets import BENT, randomized  # noqa: E402

CLOSE = 1e-4  # of the largest attribution
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


def bent(model: Any, x: Any, rules: str, dynamo: bool) -> Floats:
    """The bent gradient of one class at the image."""
    proto = export(model, x, "fixed", dynamo, outputs=["scores"])
    augmented = gradient(load(proto), ["image"], "scores", rules)
    seed = np.eye(5, dtype=np.float32)[[CLASS, CLASS]]
    feed = {"image": x.numpy(), SEED: seed}
    return np.asarray(run(augmented.proto(), feed, ["gradient/image"])[0])
