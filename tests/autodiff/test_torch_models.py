"""Whole models as both exporters of torch write them, with fixed and dynamic sizes, against autograd."""

from typing import Any

import numpy as np
import pytest

from onnxcam.arrays import Array
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import assert_valid, run

torch = pytest.importorskip("torch", reason="needs the extra `oracle`")
pytestmark = pytest.mark.oracle

from tests.autodiff.support.torch_export import AXES, export  # noqa: E402  it needs torch
from tests.autodiff.support.torch_nets import TRUNKS, Net, net  # noqa: E402  it needs torch

CLOSE = 1e-4  # of the largest gradient


def by_autograd(model: Net, x: Array, seed: Array) -> list[Any]:
    exact = model.double()
    image = torch.from_numpy(x).double().requires_grad_()
    maps = exact.maps(image)
    maps.retain_grad()
    exact.scores(maps).backward(torch.from_numpy(seed).double())
    return [maps.grad.numpy(), image.grad.numpy()]


@pytest.mark.parametrize("sizes", AXES)
@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n == "residual" else [pytest.mark.slow]) for n in TRUNKS],
)
def test_gradient_of_exported_model_matches_autograd(name: str, dynamo: bool, sizes: str) -> None:
    model = net(name)
    torch.manual_seed(1)
    proto = export(model, torch.randn(2, 3, 17, 18), sizes, dynamo)
    shapes = {"fixed": [(2, 17, 18)], "batch": [(2, 17, 18), (3, 17, 18)]}
    augmented = gradient(load(proto), ["maps", "image"], "scores")
    assert_valid(augmented.proto())
    for n, h, w in shapes.get(sizes, [(2, 17, 18), (3, 20, 15), (2, 19, 22)]):
        x = torch.randn(n, 3, h, w).numpy()
        seed = torch.randn(n, 5).numpy()
        feed = {"image": x, SEED: seed}
        gradients = run(augmented.proto(), feed, ["gradient/maps", "gradient/image"])
        for g, exact in zip(gradients, by_autograd(model, x, seed), strict=True):
            assert g.shape == exact.shape
            assert np.max(np.abs(g - exact)) <= CLOSE * np.max(np.abs(exact))
