"""Small networks in PyTorch, exported to ONNX, for comparing maps of other packages with ours.

Every nonlinearity is a module of its own, because hooks of other packages need that. No activation stands right
before a MaxPool: there captum's DeepLift does not add up to the score, as its own convergence delta shows. No
network pools globally, because then several methods coincide.
"""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from onnxcam.arrays import Images

SIDE, CLASSES, TARGET, PATCH, WIDTH = 32, 5, 1, 8, 24


def make_curved() -> nn.Module:
    """Not linear anywhere, so that second derivatives and paths matter."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 8, 3, padding=1),
            early=nn.Softplus(),
            conv2=nn.Conv2d(8, 12, 3, stride=4, padding=1),
            layer=nn.Tanh(),
            flat=nn.Flatten(),
            hidden=nn.Linear(12 * 64, 16),
            bent=nn.Tanh(),
            second=nn.Linear(16, 12),
            active=nn.Softplus(),
            logits=nn.Linear(12, CLASSES),
        )
    )


class Residual(nn.Module):  # type: ignore[misc]  # torch may not be there to be typed
    """Convolutions without bias and normalizations with one, MaxPool, a residual block, and an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.MaxPool2d(2), nn.ReLU()
        )
        self.body = nn.Sequential(
            nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
            nn.Conv2d(12, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12),
        )  # fmt: skip
        self.side = nn.Sequential(nn.Conv2d(8, 12, 1, stride=2, bias=False), nn.BatchNorm2d(12))
        self.layer = nn.ReLU()
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(12 * 64, 16), nn.ReLU(), nn.Linear(16, CLASSES)
        )

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        return self.head(self.layer(self.body(x) + self.side(x)))


def normalized(*layers: nn.Module) -> nn.Sequential:
    """The first of them is a convolution, whose values are normalized before the others read them."""
    convolution, *others = layers
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), *others)


class Depthwise(nn.Module):  # type: ignore[misc]  # torch may not be there to be typed
    """Two inverted bottlenecks with ReLU6, the second one with a shortcut, and an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = normalized(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.ReLU6())
        self.down = self.bottleneck(8, 10, stride=2)
        self.same = self.bottleneck(10, 10)
        self.layer = normalized(nn.Conv2d(10, 12, 1, bias=False), nn.ReLU6())
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(12 * 64, 16), nn.ReLU6(), nn.Linear(16, CLASSES)
        )

    @staticmethod
    def bottleneck(channels: int, out: int, stride: int = 1) -> nn.Sequential:
        wide = 2 * channels
        return nn.Sequential(
            normalized(nn.Conv2d(channels, wide, 1, bias=False), nn.ReLU6()),
            normalized(nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.ReLU6()),
            normalized(nn.Conv2d(wide, out, 1, bias=False)),
        )

    def forward(self, image: Tensor) -> Tensor:
        x = self.down(self.stem(image))
        return self.head(self.layer(x + self.same(x)))


class Dense(nn.Module):  # type: ignore[misc]  # torch may not be there to be typed
    """A dense block, whose layers read what all before wrote, a transition, and an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 2, 1, bias=False)
        self.growth = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 4, 3, 1, 1, bias=False)
            )
            for width in (6, 10, 14)
        )
        self.transition = nn.Sequential(nn.BatchNorm2d(18), nn.ReLU(), nn.Conv2d(18, 9, 1))
        self.pool, self.norm, self.layer = nn.AvgPool2d(2), nn.BatchNorm2d(9), nn.ReLU()
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(9 * 64, 16), nn.ReLU(), nn.Linear(16, CLASSES)
        )

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        for layer in self.growth:
            x = torch.cat([x, layer(x)], 1)
        return self.head(self.layer(self.norm(self.pool(self.transition(x)))))


class Block(nn.Module):  # type: ignore[misc]  # torch may not be there to be typed
    """Attention with one head, and an MLP; `norm` is what reads the block's input."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.softmax = nn.Softmax(-1)
        self.mlp = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 48), nn.GELU(), nn.Linear(48, WIDTH)
        )

    def forward(self, x: Tensor, normed: Tensor) -> Tensor:
        q, k, v = self.qkv(normed).chunk(3, -1)
        x = x + self.out(self.softmax(q @ k.transpose(1, 2) / math.sqrt(WIDTH)) @ v)
        return x + self.mlp(x)


class Vit(nn.Module):  # type: ignore[misc]  # torch may not be there to be typed
    """16 patches and a class token, two blocks. The layer is the normalization before the second one."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.randn(1, 17, WIDTH))
        self.norm, self.first, self.second = nn.LayerNorm(WIDTH), Block(), Block()
        self.layer, self.last = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.logits = nn.Linear(WIDTH, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        x = self.first(x, self.norm(x))
        x = self.second(x, self.layer(x))
        return self.logits(self.last(x)[:, 0])


class AttentionBlock(nn.Module):  # type: ignore[misc]  # torch may not be there to be typed
    """PyTorch's own attention with three heads, and an MLP, under the names of torchvision."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.self_attention = nn.MultiheadAttention(WIDTH, 3, batch_first=True)
        nn.init.normal_(self.self_attention.in_proj_weight, std=0.5)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 48), nn.GELU(), nn.Linear(48, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.ln_1(x)
        x = x + self.self_attention(normed, normed, normed, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Encoder(nn.Module):  # type: ignore[misc]  # torch may not be there to be typed
    """Three blocks and a normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(AttentionBlock() for _ in range(3)))
        self.ln = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.ln(self.layers(x))


class Transformer(nn.Module):  # type: ignore[misc]  # torch may not be there to be typed
    """16 patches and a class token, under the names of torchvision. The layer is what the blocks read."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.randn(1, 17, WIDTH))
        self.layer, self.encoder = nn.LayerNorm(WIDTH), Encoder()
        self.heads = nn.Linear(WIDTH, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.heads(self.encoder(self.layer(x))[:, 0])

    def read(self, tokens: Tensor) -> Tensor:
        """The scores of the class token after a block."""
        return self.heads(self.encoder.ln(tokens)[:, 0])


NETS = {
    "curved": make_curved,
    "residual": Residual,
    "vit": Vit,
    "depthwise": Depthwise,
    "dense": Dense,
    "transformer": Transformer,
}


@dataclass(frozen=True)
class Case:
    """A network with its exported file and two images. `layer` is the name of the layer's tensor in the file,
    whose module is `model.layer`; `grid` the height and width of its tokens, after one class token.
    """

    name: str
    model: Any
    path: Path
    layer: str
    x: Images
    target: int = TARGET
    grid: tuple[int, int] | None = None


def make_cases(folder: Path) -> Iterator[Case]:
    """One for every net, with random weights and statistics."""
    for number, (name, make) in enumerate(NETS.items()):
        torch.manual_seed(number)
        model = make().eval()
        randomize(model)
        path = folder / f"{name}.onnx"
        x = np.random.default_rng(number).normal(size=(2, 3, SIDE, SIDE)).astype(np.float32)
        export(model, torch.from_numpy(x), path)
        side = SIDE // PATCH
        grid = (side, side) if name in ("vit", "transformer") else None
        yield Case(name, model, path, layer_of(path), x, grid=grid)


def randomize(model: nn.Module) -> None:
    """Weights that keep curves bent, and statistics and biases as after a training."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=1.7 / math.sqrt(module.weight[0].numel()))
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)


def export(model: nn.Module, x: Tensor, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (x,), str(path), dynamo=False, opset_version=17, input_names=["image"],
            output_names=["logits"], dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
        )  # fmt: skip


def layer_of(path: Path) -> str:
    """The last tensor of the module `layer`; the exporter writes the names of modules into those of tensors."""
    names = [name for node in onnx.load(path).graph.node for name in node.output]
    return [name for name in names if name.startswith("/layer/")][-1]
