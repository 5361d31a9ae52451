"""Small torch models, one for each building block of vision networks that a gradient may get wrong."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Tensor = Any
Module: Any = nn.Module


class Residual(Module):  # type: ignore[misc]  # torch may not be there to be typed
    """y = relu(body(x) + side(x))."""

    def __init__(self, body: nn.Module, side: nn.Module) -> None:
        super().__init__()
        self.body, self.side = body, side

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.side(x))


class Branches(Module):  # type: ignore[misc]  # torch may not be there to be typed
    """The outputs of all branches, concatenated along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class SqueezeExcite(Module):  # type: ignore[misc]  # torch may not be there to be typed
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = x.mean((2, 3), keepdim=True)
        return x * nn.functional.hardsigmoid(self.up(torch.relu(self.down(scale))))


class Shuffle(Module):  # type: ignore[misc]  # torch may not be there to be typed
    """Channels of two groups dealt out in turn, the shapes computed as people write it."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def conv(a: int, b: int, k: int = 3, **options: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(a, b, k, **options), nn.BatchNorm2d(b), nn.ReLU())


TRUNKS: dict[str, Callable[[], Any]] = {
    "residual": lambda: nn.Sequential(
        conv(3, 6, padding=1),
        Residual(conv(6, 8, stride=2, padding=1), nn.Conv2d(6, 8, 1, stride=2)),
    ),
    "dense": lambda: nn.Sequential(
        Branches(nn.Identity(), conv(3, 4, padding=1)),
        Branches(nn.Identity(), conv(7, 4, padding=1)),
    ),
    "depthwise": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 1),
        nn.Hardswish(),
        nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=6),
        nn.Hardswish(),
    ),
    "squeeze-excite": lambda: nn.Sequential(conv(3, 6), SqueezeExcite(6)),
    "overlapping pool": lambda: nn.Sequential(
        conv(3, 6), nn.MaxPool2d(3, 2, ceil_mode=True), conv(6, 5, padding=1)
    ),
    "dilated": lambda: nn.Sequential(
        conv(3, 6, padding=2, dilation=2), conv(6, 4, padding=3, dilation=3)
    ),
    "stride with a tail": lambda: nn.Sequential(conv(3, 6, stride=3), conv(6, 4, 2, stride=2)),
    "shuffle": lambda: nn.Sequential(
        conv(3, 8, padding=1), conv(8, 8, 1, groups=2), Shuffle(), conv(8, 4, groups=2)
    ),
    "average pool": lambda: nn.Sequential(conv(3, 6), nn.AvgPool2d(3, 2, padding=1), conv(6, 4, 1)),
    "branches": lambda: Branches(
        conv(3, 4, 1), conv(3, 4, 3, padding=1), nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(3, 2, 1))
    ),
    "local response": lambda: nn.Sequential(
        conv(3, 7), nn.LocalResponseNorm(5, alpha=0.5), conv(7, 4)
    ),
    "smooth": lambda: nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.SiLU(), nn.Conv2d(5, 4, 2), nn.ELU(), nn.Tanh()
    ),
}


class Net(Module):  # type: ignore[misc]  # torch may not be there to be typed
    """A trunk, its maps doubled for a name, their mean, and a head."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.trunk: Any = TRUNKS[name]()
        with torch.no_grad():
            channels = self.trunk.eval()(torch.zeros(1, 3, 17, 18)).shape[1]
        self.head = nn.Linear(channels, 5)

    def maps(self, x: Tensor) -> Tensor:
        return self.trunk(x) * 2.0

    def scores(self, maps: Tensor) -> Tensor:
        return self.head(torch.tanh(maps).mean((2, 3)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.maps(x)
        return self.scores(maps), maps


class Attention(Module):  # type: ignore[misc]  # torch may not be there to be typed
    """A transformer block: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        parts = self.qkv(self.norm(x)).reshape(n, tokens, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        weights = torch.softmax(q @ k.transpose(-1, -2) * 4.0, -1)
        y = x + self.project((weights @ v).transpose(1, 2).reshape(n, tokens, width))
        return y + self.mlp(y)


class Transformer(Module):  # type: ignore[misc]  # torch may not be there to be typed
    """Patches, a class token, two blocks, and a head."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.blocks = nn.Sequential(Attention(width, 3), Attention(width, 3))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(tokens.shape[0], -1, -1), tokens], 1)
        return self.head(self.norm(self.blocks(tokens))[:, 0])


def randomized(make: Callable[[], Any], seed: int = 3) -> Any:
    """A model for inference, with random statistics of normalization."""
    torch.manual_seed(seed)
    model = make().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return model


def net(name: str) -> Net:
    """The model of that trunk, with random statistics of normalization."""
    return randomized(lambda: Net(name), len(name))


class Block(Module):  # type: ignore[misc]  # torch may not be there to be typed
    """A residual block whose activations are modules of their own, which hooks need."""

    def __init__(self, channels: int, activation: Callable[[], Any]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            activation(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.last = activation()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(x) + x)


def classifier(*layers: Any, features: int) -> Any:
    """Layers, the mean over the cells, and a head of five classes that is not linear."""
    head = (nn.Linear(features, 7), nn.ReLU(), nn.Linear(7, 5))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head)


BENT: dict[str, Callable[[], Any]] = {  # all activations are modules of their own
    "pooled": lambda: classifier(
        *(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
        *(nn.Conv2d(6, 8, 3), nn.ReLU(), nn.MaxPool2d(2)),
        features=8,
    ),
    "residual": lambda: classifier(
        *(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU()),
        *(Block(6, nn.ReLU), Block(6, nn.ReLU)),
        features=6,
    ),
    "pool between convolutions": lambda: classifier(
        *(nn.Conv2d(3, 6, 3), nn.MaxPool2d(2), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3)),
        features=8,
    ),
    "silu": lambda: classifier(
        *(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.SiLU()),
        *(Block(6, nn.SiLU), SqueezeExcite(6), nn.Conv2d(6, 6, 1), nn.Hardswish()),
        features=6,
    ),
    "group norm": lambda: classifier(
        *(nn.Conv2d(3, 6, 3, stride=2), nn.GroupNorm(2, 6), nn.GELU()),
        *(nn.Conv2d(6, 8, 3), nn.InstanceNorm2d(8, affine=True), nn.Mish(), nn.MaxPool2d(2)),
        features=8,
    ),
    "sigmoids": lambda: classifier(
        *(nn.Conv2d(3, 6, 3, stride=2), nn.ELU(), nn.Conv2d(6, 6, 3), nn.Tanh()),
        *(nn.Conv2d(6, 6, 1), nn.Softplus(), nn.Conv2d(6, 6, 1), nn.Sigmoid()),
        features=6,
    ),
    "transformer": Transformer,
}
