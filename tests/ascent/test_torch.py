"""Ascent and inversion in torch from the same start: autograd through the network, the basis and the
penalties, and torch's own Adam.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxcam.ascent.descent import run
from onnxcam.ascent.objectives import Score, open_distance
from onnxcam.ascent.opened_model import OpenedModel, open_model
from onnxcam.ascent.recipes import maximization, reconstruction
from onnxcam.ascent.subjects import open_targets
from onnxcam.model.load import load

pytestmark = pytest.mark.oracle

DRAW = np.random.Generator(np.random.SFC64(11))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHAPES = {"a": (8, 3, 3, 3), "b": (12, 8, 3, 3), "h": (12, 5)}
WEIGHTS = {
    name: (DRAW.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) / 2)).astype(np.float32)
    for name, shape in SHAPES.items()
}
TEXT = """(float[N, 3, 24, 20] x) => (float[N, 5] y) {
    c = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, a) r = Relu(c)
    d = Conv<pads = [1, 1, 1, 1]>(r, b) s = Sigmoid(d) t = Mul(d, s)
    g = GlobalAveragePool(t) f = Flatten(g) y = MatMul(f, h)
}"""


def opened() -> OpenedModel:
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 17]> net {TEXT}')
    for name, weights in WEIGHTS.items():
        proto.graph.initializer.append(numpy_helper.from_array(weights, name))
    return open_model(load(proto), preprocess="imagenet", device="cpu")


class Twin:
    """The same network and penalties in torch, in float64, of images x between -1 and 1."""

    def __init__(self) -> None:
        torch: Any = pytest.importorskip("torch")
        self.torch, self.weights = torch, {n: torch.tensor(w).double() for n, w in WEIGHTS.items()}

    def layer(self, x: Any) -> Any:
        conv, weights = self.torch.nn.functional.conv2d, self.weights
        mean, std = (self.torch.tensor(v).double()[:, None, None] for v in (MEAN, STD))
        tensor = ((x + 1) / 2 - mean) / std
        hidden = self.torch.relu(conv(tensor, weights["a"], stride=2, padding=1))
        return self.torch.nn.functional.silu(conv(hidden, weights["b"], padding=1))

    def logits(self, x: Any) -> Any:
        return self.layer(x).mean(dim=(2, 3)) @ self.weights["h"]

    def penalties(self, x: Any, norm: float, power: float, variation: float) -> Any:
        right = self.torch.nn.functional.pad(x[..., 1:] - x[..., :-1], (0, 1))
        below = self.torch.nn.functional.pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
        pixels = x.shape[2] * x.shape[3]
        lengths = (right**2 + below**2).sum(dim=(1, 2, 3)) / pixels
        return norm * (x.abs() ** power).sum(dim=(1, 2, 3)) / pixels + variation * lengths

    def waves(self, parameters: Any, colors: Any) -> Any:
        """Olah's images: waves divided by their frequency, in uncorrelated colors."""
        rows, columns = self.torch.fft.fftfreq(24).double(), self.torch.fft.rfftfreq(20).double()
        frequency = (rows[:, None] ** 2 + columns**2).sqrt().clamp(min=1 / 24)
        spectrum = self.torch.view_as_complex(parameters.contiguous()) / frequency
        planes = self.torch.fft.irfft2(spectrum, s=(24, 20), norm="ortho")
        return self.torch.tanh(self.torch.einsum("nkhw,kc->nchw", planes, colors))


def test_ascent_equals_torch() -> None:
    model, twin = opened(), Twin()
    torch = twin.torch
    subject = open_targets(model, [1, 3])
    objective = Score(subject.source, subject.weights)
    settings: dict[str, Any] = {
        "count": 1,
        "steps": 60,
        "rate": 0.03,
        "jitter": 0.0,
        "zoom": 0.0,
        "decay": 0.1,
    }
    descent = maximization((24, 20), 3, 2, **settings)
    state = descent.start()
    colors = torch.tensor([[1, 1, 1], [1, 0, -1], [-1, 2, -1]]).double()
    colors /= colors.norm(dim=1, keepdim=True)
    colors *= torch.tensor([[1.0], [0.34], [0.21]]).double()
    parameters = torch.tensor(state.parameters, requires_grad=True)
    optimizer = torch.optim.Adam([parameters], lr=0.03, eps=1e-12)

    def scores(x: Any) -> Any:
        return torch.stack([twin.logits(x)[0, 1], twin.logits(x)[1, 3]])

    def step() -> Any:
        optimizer.zero_grad()
        x = twin.waves(parameters, colors)
        score = scores(x)
        (slope,) = torch.autograd.grad(score.sum(), x, retain_graph=True)
        length = slope.flatten(1).norm(dim=1) * np.sqrt(24 * 20)
        loss = -score / length + twin.penalties(x, 0.1, 2.0, 0.2)
        loss.sum().backward()
        return score.detach()

    first = step()
    x = descent.basis.image(state.parameters)
    values, gradient = descent.slope(x, objective, 0)
    np.testing.assert_allclose(values, first.numpy(), rtol=1e-4)
    actual = descent.basis.gradient(x, gradient)
    expected = parameters.grad.numpy()
    assert np.linalg.norm(actual - expected) < 1e-4 * np.linalg.norm(expected)
    for _ in range(60):
        step()
        optimizer.step()
    with torch.no_grad():
        last = scores(twin.waves(parameters, colors)).numpy()
    reached, _ = run(descent, objective)
    np.testing.assert_allclose(objective.of_tensors(model.range.to_model(reached)), last, rtol=0.05)
    assert np.all(last > first.numpy() + 1)


@pytest.mark.parametrize("layer", ["c", "t"])
def test_inversion_equals_torch(layer: str) -> None:
    model, twin = opened(), Twin()
    torch = twin.torch
    image = DRAW.uniform(-1, 1, (1, 3, 24, 20))
    distance = open_distance(model, layer, model.range.to_model(image))
    descent = reconstruction((24, 20), 3, steps=80, norm=0.01, variation=0.02)
    state = descent.start()
    parameters = torch.tensor(state.parameters, requires_grad=True)
    optimizer = torch.optim.Adam([parameters], eps=1e-12)

    def features(x: Any) -> Any:
        if layer == "t":
            return twin.layer(x)
        mean, std = (torch.tensor(v).double()[:, None, None] for v in (MEAN, STD))
        tensor = ((x + 1) / 2 - mean) / std
        return torch.nn.functional.conv2d(tensor, twin.weights["a"], stride=2, padding=1)

    known = features(torch.tensor(image))

    def loss() -> Any:
        error = (features(parameters) - known).square().sum() / known.square().sum()
        return error + twin.penalties(parameters, 0.01, 6.0, 0.02)[0]

    def complete(x: Any) -> float:
        return float(distance(x)[0][0] + descent.penalties(x)[0][0])

    first = loss()
    first.backward()
    assert complete(state.parameters) == pytest.approx(float(first.detach()), rel=1e-4)
    _, gradient = descent.slope(state.parameters, distance, 0)
    expected = parameters.grad.numpy()
    assert np.linalg.norm(gradient - expected) < 1e-4 * np.linalg.norm(expected)
    for number in range(80):
        optimizer.param_groups[0]["lr"] = 0.05 / (1 + number / 100)
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        with torch.no_grad():
            parameters.clamp_(-1, 1)
    reached, _ = run(descent, distance)
    last = float(loss().detach())
    assert complete(reached) == pytest.approx(last, rel=0.05)
    assert last < 0.7 * float(first.detach())
