"""PyTorch modules through both of its exporters: a ConvNeXt-like block, a ViT-like one, half precision.

pip install '.[oracle]'
"""

from __future__ import annotations

import io
import tempfile
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from scripts.fixtures import draw, save


class ConvNext(nn.Module):  # type: ignore[misc]
    """Depthwise 7 x 7, channels last, layer norm, GELU, a learned scale."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 4, 4)
        self.depthwise = nn.Conv2d(12, 12, 7, padding=3, groups=12)
        self.norm = nn.LayerNorm(12)
        self.mlp = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))
        self.scale = nn.Parameter(torch.full((12,), 0.5))
        self.head = nn.Linear(12, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        y = self.mlp(self.norm(self.depthwise(x).permute(0, 2, 3, 1))) * self.scale
        return self.head((x + y.permute(0, 3, 1, 2)).mean((2, 3)))


class Vit(nn.Module):  # type: ignore[misc]
    """Patches, a class token, positions, attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.positions = nn.Parameter(torch.randn(1, 31, 16))
        self.norm, self.last = nn.LayerNorm(16), nn.LayerNorm(16)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        qkv = self.qkv(self.norm(x)).reshape(x.shape[0], 31, 3, 2, 8).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        x = x + self.out(y.transpose(1, 2).reshape(x.shape))
        return self.head(self.last(x)[:, 0])


def exported(model: nn.Module, x: Tensor, dynamo: bool) -> onnx.ModelProto:
    names = {"input_names": ["image"], "output_names": ["scores"]}
    if not dynamo:
        buffer = io.BytesIO()
        torch.onnx.export(
            model,
            (x,),
            buffer,
            dynamo=False,
            opset_version=17,
            dynamic_axes={"image": {0: "N"}},
            **names,
        )
        return onnx.load_from_string(buffer.getvalue())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        shapes = ({0: torch.export.Dim("N", min=1, max=64)},)
        torch.onnx.export(
            model, (x,), path, dynamo=True, dynamic_shapes=shapes, external_data=False, **names
        )
        return onnx.load(path)


def main() -> None:
    warnings.simplefilter("ignore")
    for name, network in (("convnext", ConvNext), ("vit", Vit)):
        torch.manual_seed(0)
        model = network().eval()
        x, cotangent = draw(2, 3, 24, 20, seed=1), draw(2, 5, seed=2)
        image = torch.tensor(x, requires_grad=True)
        scores = model(image)
        (gradient,) = torch.autograd.grad((scores * torch.tensor(cotangent)).sum(), image)
        for kind in ("torchscript", "dynamo"):
            found = exported(model, torch.tensor(x), kind == "dynamo")
            save(f"{kind}_{name}", found, x, cotangent, scores.detach().numpy(), gradient.numpy())


if __name__ == "__main__":
    main()
