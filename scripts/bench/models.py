"""The models of bench.py: networks of timm (or torchvision) with random weights, exported, and layers that
torch has, too.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

NAMES = {
    "ResNet-18": "resnet18",
    "ResNet-50": "resnet50",
    "MobileNetV2": "mobilenetv2_100",
    "MobileNetV3": "mobilenetv3_large_100",
    "EfficientNet-B0": "efficientnet_b0",
    "DenseNet-121": "densenet121",
    "ConvNeXt-T": "convnext_tiny",
    "ViT-B/16": "vit_base_patch16_224",
    "Swin-T": "swin_tiny_patch4_window7_224",
}
IN_TORCHVISION = {  # the same architectures, if timm is not installed
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "mobilenetv2_100": "mobilenet_v2",
    "mobilenetv3_large_100": "mobilenet_v3_large",
    "efficientnet_b0": "efficientnet_b0",
    "densenet121": "densenet121",
    "convnext_tiny": "convnext_tiny",
    "vit_base_patch16_224": "vit_b_16",
    "swin_tiny_patch4_window7_224": "swin_t",
}
SHAPE, CLASSES = (3, 224, 224), 1000


@dataclass(frozen=True)
class BenchLayer:
    """A layer of the exported model, and the module of torch that writes it ("" where none does)."""

    where: str
    layer: str
    layout: str
    cells: int
    module: str
    channels: int = 0


def torch_model(name: str) -> Any:
    """The network in inference mode, the same weights for everyone."""
    torch = importlib.import_module("torch")
    with contextlib.suppress(ImportError):
        importlib.import_module("torchvision_cpu")  # declares what torchvision for CUDA asks for
    torch.manual_seed(0)
    model = _architecture(name).eval()
    fill_zeros(model)
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # hooks on a module whose result is overwritten would fail
    return model


def _architecture(name: str) -> Any:
    try:
        return importlib.import_module("timm").create_model(name, pretrained=False)
    except ImportError:
        models = importlib.import_module("torchvision.models")
        return models.get_model(IN_TORCHVISION[name], weights=None)


def fill_zeros(model: Any) -> None:
    """Random numbers for what starts at zero (heads, last scales of a block): nothing would flow."""
    torch = importlib.import_module("torch")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.abs().max() < 1e-3 and not name.endswith("bias"):
                weight.normal_(0, 0.1 if weight.ndim < 2 else weight[0].numel() ** -0.5)
            elif not weight.any():
                weight.normal_(0, 0.05)


def export(model: Any, path: Path, batch: int | None = None) -> None:
    """Write the network with a dynamic batch, or a fixed one."""
    torch = importlib.import_module("torch")
    axes = {} if batch else {"dynamic_axes": {"x": {0: "N"}, "y": {0: "N"}}}
    names = {"input_names": ["x"], "output_names": ["y"]}
    with warnings.catch_warnings(), contextlib.redirect_stdout(None):
        warnings.simplefilter("ignore")
        x = torch.zeros(batch or 2, *SHAPE)
        torch.onnx.export(model, (x,), str(path), dynamo=False, opset_version=17, **names, **axes)


def bench_layers(model: Any, path: Path) -> list[BenchLayer]:
    """The last layer, the last one whose gradient depends on the image, and the one in the middle; of
    equals those that a module of torch writes.
    """
    from onnxcam.methods import METHODS
    from onnxcam.rewrite.planner import plan

    loaded, layers = _layers_with_modules(model, path)
    chosen = []
    smooth = METHODS["smooth-grad-cam++"]
    for where, constant in (("last", True), ("dependent", False)):
        for name, layer in layers.items():
            if plan(loaded, smooth.plan_request(name))[0].gradient_is_constant is constant:
                chosen.append(replace(layer, where=where))
                break
    remaining_work = _multiplications_after(loaded)
    half = max(remaining_work.values()) / 2
    middle = min(layers, key=lambda name: abs(remaining_work[name] - half))
    return [*chosen, replace(layers[middle], where="middle")]


def narrow_layer(model: Any, path: Path) -> BenchLayer:
    """The layer with the fewest channels; of equals the last one."""
    _, layers = _layers_with_modules(model, path)
    return replace(min(layers.values(), key=lambda layer: layer.channels), where="narrow")


def _layers_with_modules(model: Any, path: Path) -> tuple[Any, dict[str, BenchLayer]]:
    """The model loaded, and the layers that a module of torch writes, by name; last ones first."""
    import onnxcam
    from onnxcam.spatial.layers import candidates

    loaded = onnxcam.load(path)
    layers = onnxcam.layers(loaded)
    modules = _writing_modules(model, path, [layer.name for layer in layers])
    chosen = (layer for layer in candidates(loaded, layers) if modules.get(layer.name))
    return loaded, {layer.name: _bench_layer(layer, modules[layer.name]) for layer in chosen}


def _bench_layer(layer: Any, module: str) -> BenchLayer:
    cells = math.prod(dim for dim in layer.grid if isinstance(dim, int))
    channels = layer.shape[layer.channel_axis]
    return BenchLayer("", layer.name, layer.layout, cells, module, channels)


def _writing_modules(model: Any, path: Path, names: list[str]) -> dict[str, str]:
    """The last module that writes each tensor: the one with the same values."""
    torch = importlib.import_module("torch")
    x = np.random.default_rng(1).standard_normal((1, *SHAPE), dtype=np.float32)
    written: dict[str, Any] = {}
    hooks = [
        module.register_forward_hook(
            lambda _m, _i, out, name=name: (
                written.setdefault(name, out) if isinstance(out, torch.Tensor) else None
            )
        )
        for name, module in model.named_modules()
    ]
    with torch.no_grad():
        model(torch.from_numpy(x))
    for hook in hooks:
        hook.remove()
    values = _tensor_values(path, names, x)
    return dict(_matching_modules(values, written))


def _matching_modules(values: dict[str, Any], written: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        scale = float(np.abs(value).max()) or 1.0
        for module, tensor in written.items():
            has_shape = module and tuple(tensor.shape) == value.shape
            if has_shape and float(np.abs(tensor.numpy() - value).max()) <= 1e-3 * scale:
                yield name, module


def _tensor_values(path: Path, names: list[str], x: Any) -> dict[str, Any]:
    import onnx
    import onnxruntime

    proto = onnx.load(path)
    have = {tensor.name for tensor in proto.graph.output}
    proto.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in have
    )
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return dict(zip(names, session.run(names, {"x": x}), strict=True))


def _multiplications_after(model: Any) -> dict[str, float]:
    """The multiplications behind each tensor, up to the score."""
    total, before = 0.0, {}
    for node in model.graph.nodes:
        total += _multiplications(node)
        for tensor in node.outputs:
            before[tensor.name] = total
    return {name: total - work for name, work in before.items()}


def _multiplications(node: Any) -> float:
    """Of one image: the sizes written times the weights that each number takes."""
    if node.op not in ("Conv", "Gemm", "MatMul"):
        return 0.0
    written = math.prod(dim for dim in node.outputs[0].shape or () if isinstance(dim, int))
    second = node.inputs[1].shape
    if node.op == "Conv":
        return float(written * math.prod(second[1:]))
    inner = node.inputs[0].shape[-1]
    return float(written * inner) if isinstance(inner, int) else 0.0
