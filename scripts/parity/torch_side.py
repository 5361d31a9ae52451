"""The torch side of parity.py: models with random weights, their export, and autograd's gradients."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scripts.bench.models import fill_zeros

# makes torchvision for CUDA importable beside torch for CPUs
with contextlib.suppress(ImportError):
    importlib.import_module("torchvision_cpu")
timm = importlib.import_module("timm")

CLASSES = 10
EXPORT_OPTIONS = {  # options of the exporter, tried in turn, and whether attention is one operator of torch's
    "script": (
        ({"opset_version": 17}, True),
        ({"opset_version": 17}, False),
        ({"opset_version": 20}, False),
    ),
    "dynamo": (({}, True), ({}, False)),
}


@dataclass(frozen=True)
class Gradients:
    """At the image, and at every tensor of torch's that is the layer by its values, by number. There may
    be several: a ReLU of what is not negative leaves it as it is.
    """

    image: Any
    layers: dict[int, Any]


def draw_inputs(shape: Any, seed: int) -> tuple[Any, Any]:
    """Two images and a cotangent of their scores, random. Of one image, torch 2.13's own gradient of a
    strided convolution that is read as tokens is wrong on CPUs (LeViT, XCiT).
    """
    torch.manual_seed(seed)
    return torch.randn(2, *shape[1:]), torch.randn(2, CLASSES)


def make_model(name: str, size: int | None, seed: int) -> tuple[Any, Any]:
    """The model with random weights, and two images of the size that it takes."""
    torch.manual_seed(seed)
    model = _create_at_size(name, size).eval()
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # autograd is asked for the gradient of every tensor
    fill_zeros(model)
    shape = getattr(model, "parity_size", model.pretrained_cfg["input_size"])
    return model, draw_inputs((2, *shape), seed)[0]


def _create_at_size(name: str, size: int | None) -> Any:
    """The model at a small size where it takes one, else at its own."""
    config = timm.get_pretrained_cfg(name)
    for chosen in (size, None) if not config.fixed_input_size else (2 * 64, 224, None):
        with contextlib.suppress(Exception):
            sized = {"img_size": chosen} if config.fixed_input_size and chosen else {}
            model = timm.create_model(name, pretrained=False, num_classes=CLASSES, **sized).eval()
            channels, height, width = config.input_size
            if chosen:
                height = width = chosen
            with torch.no_grad():
                model(torch.zeros(1, channels, height, width))
            model.parity_size = (channels, height, width)
            return model
    return timm.create_model(name, pretrained=False, num_classes=CLASSES)


def export_model(name: str, size: int, seed: int, path: Path, exporter: str) -> tuple[Any, Any]:
    """Write the model in the first way that torch can, and return it with two images: "script" with a
    dynamic batch at the usual opset, "dynamo" as it comes; at the model's own size if not at the small one.
    Raises what torch raised in the last way.
    """
    for (options, fused), chosen in itertools.product(EXPORT_OPTIONS[exporter], (size, None)):
        timm.layers.set_fused_attn(fused)
        model, x = make_model(name, chosen, seed)
        try:
            _export(model, x, path, exporter, options)
        except Exception as error:  # noqa: BLE001  torch raises whatever it likes
            refused = error
        else:
            return model, x
    raise refused


def _export(model: Any, x: Any, path: Path, exporter: str, options: dict[str, Any]) -> None:
    axes = {} if exporter == "dynamo" else {"dynamic_axes": {"x": {0: "N"}, "y": {0: "N"}}}
    names = {"input_names": ["x"], "output_names": ["y"]}
    with warnings.catch_warnings(), contextlib.redirect_stdout(None):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (x,), str(path), dynamo=exporter == "dynamo", **names, **axes, **options
        )


class Recording(torch.overrides.TorchFunctionMode):  # type: ignore[misc]  # torch may not be there to be typed
    """Keeps every tensor that a function of torch returns, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor) and tensor.requires_grad:
                self.tensors.append(tensor)
        return result


def gradients(model: Any, x: Any, weights: Any, values: Any, numbers: Collection[int]) -> Gradients:
    """Autograd's gradients of the weighted scores. The layer is any tensor with the given `values`, or
    those of the `numbers`.
    """
    x = x.clone().requires_grad_()
    with Recording() as record:
        scores = model(x)
    if values is not None:
        numbers = _nearest_tensors(record.tensors, values)
    tensors = [x, *(record.tensors[number] for number in numbers)]
    grads = torch.autograd.grad((scores * weights).sum(), tensors, allow_unused=True)
    arrays = [None if gradient is None else gradient.detach().numpy() for gradient in grads]
    numbered_arrays = zip(numbers, arrays[1:], strict=True)
    return Gradients(arrays[0], {i: array for i, array in numbered_arrays if array is not None})


def _nearest_tensors(tensors: list[Any], values: Any) -> list[int]:
    """The numbers of the tensors that are as near to the values as any. A block that adds next to nothing
    leaves almost what it was given, which is not the layer.
    """
    same_shape = [i for i, tensor in enumerate(tensors) if tuple(tensor.shape) == values.shape]
    far = {i: float(np.abs(tensors[i].detach().numpy() - values).max()) for i in same_shape}
    nearest = min(far.values(), default=np.inf)
    close = nearest <= 1e-4 * float(np.abs(values).max())
    return [i for i, distance in far.items() if close and distance <= nearest]
