"""Small models of timm through both exporters of PyTorch, without their weights, which are seeded numbers.

    pip install '.[oracle]' timm
    python -m scripts.export_timm

The gradients are autograd's in float64, at the picture and, where it is a tensor of torch's, at the layer
that is chosen by itself. TorchScript is told not to fold constants nor to merge normalisations into
convolutions, so that the weights stay what they were; the new exporter writes what it writes.

A net with kinks (ReLU, MaxPool) may stand on one to within rounding. The first seed of the weights is taken
at which it does not: torch in float32, and torch in float64 at pictures that are off by a millionth, give
the same gradient to `STEADY` of its largest value.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

import onnxcam
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from scripts.fixtures import COTANGENT, PICTURE, Seeded, emptied, write
from scripts.parity_torch import Gradients, gradients, timm

MODELS = {
    "test_resnet": "script",  # convolutions, batch norm
    "test_efficientnet": "script",  # depthwise, squeeze and excite
    "test_byobnet": "script",
    "test_nfnet": "script",  # weights normalised in the graph
    "test_coatnet": "script",  # convolutions, then attention with relative positions
    "test_vit": "script",  # a class token
    "test_vit3": "dynamo",  # registers
    "test_vit4": "dynamo",  # no class token, RMS norm
    "test_convnext": "dynamo",  # channels last
    "test_mambaout": "dynamo",  # gated, channels last
    "gmlp_ti16_224": "dynamo",  # an MLP over tokens
}
SIZE, CLASSES, OPSET = PICTURE.shape[-1], COTANGENT.shape[-1], 17
STEADY = 1e-5  # of the largest gradient


def network(name: str, seed: int) -> tuple[Any, list[Seeded]]:
    """The model, and the recipes of its parameters and its statistics: as wide as timm draws them."""
    torch.manual_seed(0)
    fixed = timm.get_pretrained_cfg(name).fixed_input_size
    sized = {"img_size": SIZE} if fixed else {}
    model = timm.create_model(name, num_classes=CLASSES, **sized).eval()
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # autograd is asked for the gradient of every tensor
    statistics = [(n, b) for n, b in model.named_buffers() if "running_" in n]
    recipes = []
    for key, tensor in [*model.named_parameters(), *statistics]:
        recipes.append(_recipe(key, tensor.detach(), seed))
        tensor.data.copy_(torch.from_numpy(recipes[-1].values()))
    return model, recipes


def _recipe(name: str, tensor: Any, seed: int) -> Seeded:
    """Numbers about the mean of what timm drew, as wide; wider where all were the same."""
    drawn = float(tensor.std(correction=0)) * 3**0.5
    least = 0.1 if tensor.ndim < 2 else tensor[0].numel() ** -0.5
    scale = drawn if drawn > 1e-3 else least
    return Seeded(name, tuple(tensor.shape), round(float(tensor.mean()), 1), round(scale, 4), seed)


def exported(model: Any, x: Any, exporter: str) -> onnx.ModelProto:
    more: dict[str, Any] = {"dynamo": True, "verbose": False}
    if exporter == "script":
        more = {"dynamo": False, "opset_version": OPSET, "do_constant_folding": False}
        more["training"] = torch.onnx.TrainingMode.PRESERVE
        more["dynamic_axes"] = {"x": {0: "N"}, "y": {0: "N"}}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(None):
        path = Path(folder) / "model.onnx"
        torch.onnx.export(model, (x,), str(path), input_names=["x"], output_names=["y"], **more)
        return onnx.load(path)


def golden(model: Any, x: Any, weights: Any, values: Any) -> tuple[Gradients, bool]:
    """Autograd's gradients in float64, and whether no kink is near."""
    single = gradients(model.float(), x, weights, values, ())
    exact = model.double()
    double = gradients(exact, x.double(), weights.double(), None, single.layers)
    beside = [x.double() * (1 + 1e-6 * torch.randn(x.shape, dtype=torch.float64)) for _ in range(3)]
    others = [gradients(exact, each, weights.double(), None, single.layers) for each in beside]
    return double, all(_near(each, double) for each in (single, *others))


def _near(one: Gradients, other: Gradients) -> bool:
    pairs = [(one.image, other.image), *((one.layers[i], b) for i, b in other.layers.items())]
    return all(np.abs(a - b).max() <= STEADY * np.abs(b).max() for a, b in pairs)


def fixture(name: str, exporter: str, seed: int) -> bool:
    """Write the fixture of one model; False, and nothing written, where a kink is near."""
    model, recipes = network(name, seed)
    x, weights = (torch.from_numpy(each.values()) for each in (PICTURE, COTANGENT))
    proto = exported(model, x, exporter)
    loaded = onnxcam.load(proto)
    layer = next(each.name for each in onnxcam.layers(loaded) if each.automatic)
    session = Session(onnxcam.gradient(loaded, [layer]).bytes(), Device("cpu"))
    feeds = {"x": x.numpy(), "seed": weights.numpy()}
    (values,) = session.run([layer], feeds)
    found, steady = golden(model, x, weights, values)
    if not steady:
        return False
    emptied(proto, recipes)
    scores = model(x.double()).detach().numpy()
    arrays = {"scores": scores.astype(np.float32), "gradient": found.image.astype(np.float32)}
    if len(found.layers) == 1:  # of several tensors with the layer's values none is known to be it
        (own,) = found.layers.values()
        arrays |= {"layer": np.array(layer), "layer_gradient": own.astype(np.float32)}
    write(f"timm_{name}_{exporter}", proto, arrays)
    return True


def main() -> None:
    warnings.simplefilter("ignore")
    for name, exporter in MODELS.items():
        if not sys.argv[1:] or name in sys.argv[1:]:
            seed = next(seed for seed in range(50) if fixture(name, exporter, seed))
            print(f"{name}: seed {seed}", flush=True)


if __name__ == "__main__":
    main()
