"""Whole models as both exporters of torch write them, with fixed and dynamic sizes, against autograd."""

import contextlib
import io
import warnings
from typing import Any

import numpy as np
import onnx
import pytest

from onnxcam.arrays import Array
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import assert_valid, run

torch = pytest.importorskip("torch", reason="needs the extra `oracle`")
pytestmark = pytest.mark.oracle

from tests.autodiff.support.torch_nets import TRUNKS, Net, net  # noqa: E402  it needs torch

CLOSE = 1e-4  # of the largest gradient
AXES: dict[str, dict[int, str]] = {
    "fixed": {},
    "batch": {0: "batch"},
    "size": {0: "batch", 2: "height", 3: "width"},
}


def export(model: Net, x: Any, sizes: str, dynamo: bool) -> onnx.ModelProto:
    """The exported model; what the exporters print and warn of is suppressed."""
    file = io.BytesIO()
    names = {"input_names": ["image"], "output_names": ["scores", "maps"]}
    if dynamo:
        dims = {axis: torch.export.Dim(word, min=2, max=64) for axis, word in AXES[sizes].items()}
        form: dict[str, Any] = {"dynamic_shapes": {"x": dims}} if dims else {}
    else:
        outputs = {"scores": {0: "batch"}, "maps": AXES[sizes]} if sizes != "fixed" else {}
        form = {"dynamic_axes": {"image": AXES[sizes], **outputs}} if sizes != "fixed" else {}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if dynamo:
            program = torch.onnx.export(model, (x,), dynamo=True, verbose=False, **names, **form)
            return program.model_proto
        torch.onnx.export(model, (x,), file, dynamo=False, **names, **form)
    return onnx.load_from_string(file.getvalue())


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
