"""The torch side of parity.py: models with random weights, their export, and autograd's gradients."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

with contextlib.suppress(
    ImportError
):  # makes torchvision for CUDA importable beside torch for CPUs
    importlib.import_module("torchvision_cpu")
timm = importlib.import_module("timm")

CLASSES, OPSET = 10, 17


@dataclass(frozen=True)
class Gradients:
    """At the picture, and at the layer if it is one of torch's tensors, the `found`-th it makes."""

    image: Any
    layer: Any
    found: int | None


def made(name: str, size: int, seed: int) -> tuple[Any, Any, Any]:
    """The model, two pictures, and a cotangent of their scores, all random. Of one picture, torch 2.13's own
    gradient of a strided convolution that is read as tokens is wrong on CPUs (LeViT, XCiT).
    """
    torch.manual_seed(seed)
    model = _of_size(name, size).eval()
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # autograd is asked for the gradient of every tensor
    _fill_zeros(model)
    channels, height, width = getattr(model, "parity_size", model.pretrained_cfg["input_size"])
    return model, torch.randn(2, channels, height, width), torch.randn(2, CLASSES)


def _of_size(name: str, size: int) -> Any:
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


def _fill_zeros(model: Any) -> None:
    """Random numbers for what starts at zero (heads, last scales of a block): nothing would flow."""
    with torch.no_grad():
        for name, each in model.named_parameters():
            if each.abs().max() < 1e-3 and not name.endswith("bias"):
                each.normal_(0, 0.1 if each.ndim < 2 else each[0].numel() ** -0.5)
            elif not each.any():
                each.normal_(0, 0.05)


def exported(model: Any, x: Any, path: Path, exporter: str) -> None:
    """Write the model: "script" with a free batch at the usual opset, "dynamo" as it comes."""
    more: dict[str, Any] = {"dynamo": True}
    if exporter == "script":
        more = {"dynamo": False, "opset_version": OPSET, "dynamic_axes": {"x": {0: "N"}}}
        more["dynamic_axes"]["y"] = {0: "N"}
    with warnings.catch_warnings(), contextlib.redirect_stdout(None):
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (x,), str(path), input_names=["x"], output_names=["y"], **more)


class Recording(torch.overrides.TorchFunctionMode):  # type: ignore[misc]  # torch may not be there to be typed
    """Keeps every tensor that a function of torch returns, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(each, torch.Tensor) and each.requires_grad:
                self.tensors.append(each)
        return result


def gradients(model: Any, x: Any, weights: Any, values: Any, found: int | None) -> Gradients:
    """Autograd's gradients of the weighted scores. The layer is the first tensor with the given
    `values`, or the one of that number.
    """
    x = x.clone().requires_grad_()
    with Recording() as record:
        scores = model(x)
    if values is not None:
        found = next((i for i, t in enumerate(record.tensors) if _alike(t, values)), None)
    wanted = [x] if found is None else [x, record.tensors[found]]
    grads = torch.autograd.grad((scores * weights).sum(), wanted, allow_unused=True)
    arrays = [None if each is None else each.detach().numpy() for each in grads]
    return Gradients(arrays[0], arrays[1] if found is not None else None, found)


def _alike(tensor: Any, values: Any) -> bool:
    if tuple(tensor.shape) != values.shape:
        return False
    scale = float(np.abs(values).max())
    return bool(np.abs(tensor.detach().numpy() - values).max() <= 1e-4 * scale)
