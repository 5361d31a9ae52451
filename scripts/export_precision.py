"""One network in half precision by PyTorch's exporter, and quantised by ONNX Runtime.

    pip install '.[oracle]'
    python -m scripts.export_precision

The gradients are autograd's in float64: for half precision of the same rounded weights; for quantised models
of the graph as torch computes it, each quantiser x -> clamp(x) + (rounded(x) - x), the last bracket
without a gradient (the straight-through estimator, arXiv:1308.3432). A seed is taken at which no value
stands within `CLEAR` steps of where it would be rounded or clamped otherwise.
"""

from __future__ import annotations

import contextlib
import copy
import io
import tempfile
import warnings
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnxruntime import quantization
from torch import Tensor, nn

from scripts.fixtures import draw, save

CLEAR = 1e-4  # steps of a quantiser
SHAPE = (2, 3, 13, 12)
HALVES = (torch.float16, torch.bfloat16)
Kind = quantization.QuantType
FORMATS: dict[str, dict[str, Any]] = {
    "qdq_per_tensor": {
        "quant_format": quantization.QuantFormat.QDQ,
        "activation_type": Kind.QUInt8,
        "weight_type": Kind.QInt8,
    },
    "qdq_per_channel": {
        "quant_format": quantization.QuantFormat.QDQ,
        "activation_type": Kind.QInt8,
        "weight_type": Kind.QInt8,
        "per_channel": True,
    },
    "qlinear": {
        "quant_format": quantization.QuantFormat.QOperator,
        "activation_type": Kind.QUInt8,
        "weight_type": Kind.QUInt8,
    },
}


def network(act: type[nn.Module], pool: nn.Module, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), act(), pool),
        *(nn.Conv2d(8, 12, 3, stride=2, padding=1), act()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5)),
    ).eval()


class Cast(nn.Module):  # type: ignore[misc]
    """A network that computes in its own precision and is fed float32: NumPy has no bfloat16 to feed."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, image: Tensor) -> Tensor:
        return self.inner(image.to(torch.bfloat16)).float()


def stored(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its weights stored in bfloat16; what they are read by computes in float32."""
    for place, weight in enumerate(model.graph.initializer):
        name, values = weight.name, numpy_helper.to_array(weight).astype(ml_dtypes.bfloat16)
        weight.CopyFrom(numpy_helper.from_array(values, f"{name}/stored"))
        cast = onnx.helper.make_node("Cast", [weight.name], [name], to=onnx.TensorProto.FLOAT)
        model.graph.node.insert(place, cast)
    return model


def exported(model: nn.Module, x: Tensor, opset: int = 17) -> onnx.ModelProto:
    """Through the TorchScript exporter; through the new one for an opset that the old does not know."""
    buffer, new = io.BytesIO(), opset > 20
    more: dict[str, Any] = {"dynamo": new, "opset_version": opset}
    if not new:
        more["dynamic_axes"] = {"image": {0: "N"}, "scores": {0: "N"}}
    with contextlib.redirect_stdout(None):
        torch.onnx.export(
            model, (x,), buffer, input_names=["image"], output_names=["scores"], **more
        )
    return onnx.load_from_string(buffer.getvalue())


def halves() -> None:
    x = torch.from_numpy(draw(*SHAPE, seed=1))
    inner = {each: network(nn.SiLU, nn.AvgPool2d(2), 0).to(each) for each in HALVES}
    half, brain = inner.values()
    _half("float16", exported(half, x.half()), half, x.half())
    _half("bfloat16_weights", stored(exported(copy.deepcopy(brain).float(), x)), brain, x)
    _half("bfloat16", exported(Cast(brain), x, 22), brain, x.bfloat16())


def _half(name: str, proto: onnx.ModelProto, model: nn.Module, x: Tensor) -> None:
    cotangent, image = draw(2, 5, seed=2), x.double().requires_grad_()
    scores = copy.deepcopy(model).double()(image)
    (gradient,) = torch.autograd.grad((scores * torch.tensor(cotangent)).sum(), image)
    save(name, proto, _single(image), cotangent, _single(scores), _single(gradient))


def _single(values: Tensor) -> Any:
    return values.detach().float().numpy()


class Quantised:
    """A quantised graph as torch computes it: the integers are the floats that they stand for."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = model.graph.node
        self.constants = {
            each.name: numpy_helper.to_array(each) for each in model.graph.initializer
        }
        self.margin = float("inf")  # steps to the nearest kink

    def __call__(self, image: Tensor) -> Tensor:
        self.values = {"image": image}
        for node in self.nodes:
            self.values[node.output[0]] = getattr(self, node.op_type)(node, *node.input)
        return self.values[self.nodes[-1].output[0]]

    def real(self, name: str, scale: str, zero: str) -> Tensor:
        """Stored integers as floats; the scales of an axis are those of the first."""
        whole = self.constants[name].astype(np.float64)
        shape = (-1, *[1] * (whole.ndim - 1)) if self.constants[scale].size > 1 else ()
        offset = self.constants[zero].astype(np.float64).reshape(shape) if zero else 0.0
        step = self.constants[scale].astype(np.float64).reshape(shape)
        return torch.from_numpy((whole - offset) * step)

    def stepped(self, x: Tensor, scale: str, zero: str) -> Tensor:
        step, offset = float(self.constants[scale]), self.constants[zero]
        limits = np.iinfo(offset.dtype)
        low, high = ((limit - int(offset)) for limit in (limits.min, limits.max))
        steps = x / step
        inside = steps.clamp(low, high)
        edges = torch.minimum((steps - low).abs(), (steps - high).abs())
        edges = edges[edges > 0]  # the zeros of a ReLU stand on the edge, and stop there
        halfway = (0.5 - (inside - inside.round()).abs()).min()
        self.margin = min(self.margin, float(halfway), float(edges.min()))
        return step * (inside + (inside.round() - inside).detach())

    def QuantizeLinear(self, _: Any, x: str, scale: str, zero: str) -> Tensor:  # noqa: N802
        return self.stepped(self.values[x], scale, zero)

    def DequantizeLinear(self, _: Any, x: str, scale: str, zero: str = "") -> Tensor:  # noqa: N802
        return self.values[x] if x in self.values else self.real(x, scale, zero)

    def Conv(self, node: Any, x: str, w: str, b: str) -> Tensor:  # noqa: N802
        x, w, b = (self.values[each] for each in (x, w, b))
        return _conv(node, x, w, b)

    def Relu(self, _: Any, x: str) -> Tensor:  # noqa: N802
        return torch.relu(self.values[x])

    def MaxPool(self, _: Any, x: str) -> Tensor:  # noqa: N802
        return nn.functional.max_pool2d(self.values[x], 2)

    def GlobalAveragePool(self, _: Any, x: str) -> Tensor:  # noqa: N802
        return self.values[x].mean((2, 3), keepdim=True)

    def Flatten(self, _: Any, x: str) -> Tensor:  # noqa: N802
        return self.values[x].flatten(1)

    def Gemm(self, _: Any, x: str, w: str, b: str) -> Tensor:  # noqa: N802
        return self.values[x] @ self.values[w].T + self.values[b]

    def QLinearConv(self, node: Any, x: str, *more: str) -> Tensor:  # noqa: N802
        scale, _, w, w_scale, w_zero, y_scale, y_zero, b = more
        step = self.constants[scale].astype(np.float64) * self.constants[w_scale]
        bias = torch.from_numpy(self.constants[b] * step)
        found = _conv(node, self.values[x], self.real(w, w_scale, w_zero), bias)
        return self.stepped(found, y_scale, y_zero)

    def QLinearGlobalAveragePool(self, _: Any, x: str, *more: str) -> Tensor:  # noqa: N802
        return self.stepped(self.GlobalAveragePool(_, x), *more[2:])

    def QGemm(self, _: Any, x: str, *more: str) -> Tensor:  # noqa: N802
        scale, _, w, w_scale, w_zero, b, *y = more
        step = self.constants[scale].astype(np.float64) * self.constants[w_scale]
        bias = torch.from_numpy(self.constants[b] * step)
        found = self.values[x] @ self.real(w, w_scale, w_zero).T + bias
        return self.stepped(found, *y) if y else found


def _conv(node: Any, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    given = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    return nn.functional.conv2d(x, w, b, given["strides"], given["pads"][:2])


class Pictures(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Narrower than the pictures that are explained, so that some values are clamped."""

    def __init__(self) -> None:
        self.left = [draw(*SHAPE, seed=seed) * 0.7 for seed in range(10, 14)]

    def get_next(self) -> Any:
        return {"image": self.left.pop()} if self.left else None


def quantised(model: nn.Module, **form: Any) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "model.onnx", Path(folder) / "quantised.onnx"
        onnx.save(exported(model, torch.zeros(SHAPE)), source)
        quantization.quantize_static(source, result, Pictures(), **form)
        return onnx.load(result)


def whole(name: str, seed: int) -> bool:
    """Write one quantised model; False, and nothing written, where a value stands on a kink."""
    proto = quantised(network(nn.ReLU, nn.MaxPool2d(2), seed), **FORMATS[name])
    x, cotangent = draw(*SHAPE, seed=seed), draw(2, 5, seed=2)
    graph, image = Quantised(proto), torch.from_numpy(x).double().requires_grad_()
    scores = graph(image)
    (gradient,) = torch.autograd.grad((scores * torch.tensor(cotangent)).sum(), image)
    if graph.margin < CLEAR:
        return False
    save(name, proto, x, cotangent, *(_single(each) for each in (scores, gradient)))
    return True


def main() -> None:
    warnings.simplefilter("ignore")
    halves()
    for name in FORMATS:
        seed = next(seed for seed in range(50) if whole(name, seed))
        print(f"{name}: seed {seed}")


if __name__ == "__main__":
    main()
