"""Readers of text with recurrent layers, as both exporters of torch write them, against autograd."""

from typing import Any

import numpy as np
import pytest

from onnxcam.model.load import load
from onnxcam.rewrite.gradient import SEED, gradient
from tests.autodiff.support.check import run

torch = pytest.importorskip("torch", reason="needs the extra `oracle`")
pytestmark = pytest.mark.oracle

from tests.autodiff.support.torch_export import export  # noqa: E402  it needs torch

CLOSE = 1e-5  # of the largest gradient
LAYERS = {
    "RNN": lambda: torch.nn.RNN(8, 5, num_layers=2, bidirectional=True),
    "RNN with Relu": lambda: torch.nn.RNN(8, 5, nonlinearity="relu", bidirectional=True),
    "GRU": lambda: torch.nn.GRU(8, 5, num_layers=2, bidirectional=True),
    "GRU without biases": lambda: torch.nn.GRU(8, 5, bias=False),
    "LSTM": lambda: torch.nn.LSTM(8, 5, num_layers=2, bidirectional=True),
}
Module: Any = torch.nn.Module


class Reader(Module):  # type: ignore[misc]  # torch may not be there to be typed
    """Columns of feature maps are the steps: (steps, N, classes)."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, stride=2)
        self.recurrent: Any = LAYERS[name]()
        width = self.recurrent.hidden_size * (2 if self.recurrent.bidirectional else 1)
        self.head = torch.nn.Linear(width, 6)

    def maps(self, x: Any) -> Any:
        return torch.relu(self.conv(x)) * 2.0

    def scores(self, maps: Any) -> Any:
        return self.head(self.recurrent(maps.flatten(1, 2).permute(2, 0, 1))[0])

    def forward(self, x: Any) -> tuple[Any, Any]:
        maps = self.maps(x)
        return self.scores(maps), maps


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "GRU" else [pytest.mark.slow]) for n in LAYERS]
)
def test_gradient_of_recurrent_model_matches_autograd(name: str, dynamo: bool) -> None:
    torch.manual_seed(0)
    model = Reader(name).eval()
    images = torch.randn(2, 3, 6, 18)
    augmented = gradient(load(export(model, images, "fixed", dynamo)), ["maps"], "scores")
    exact = model.double()
    maps = exact.maps(images.double()).detach().requires_grad_()
    scores = exact.scores(maps)
    seed = torch.randn(scores.shape)
    scores.backward(seed.double())
    feed = {"image": images.numpy(), SEED: seed.numpy()}
    (computed,) = run(augmented.proto(), feed, ["gradient/maps"])
    expected = maps.grad.numpy()
    assert np.max(np.abs(computed - expected)) <= CLOSE * np.max(np.abs(expected))
