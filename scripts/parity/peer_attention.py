"""Methods on attention: written once more with hooks of PyTorch, and LeGrad of torchcam.

The small transformers have 4 x 4 patches after a class token, which their heads read.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from onnxcam.arrays import Floats
from scripts.parity.peer_maps import Peer, images, model_of
from scripts.parity.peer_nets import Case


class Recorded:
    """The net of `vit` on the images of a case, with its attention (N, T, T) and the outputs of its blocks."""

    def __init__(self, case: Case) -> None:
        self.model, self.attention, self.outputs = model_of(case), list[Tensor](), list[Tensor]()
        for block in (self.model.first, self.model.second):
            block.softmax.register_forward_hook(
                lambda _module, _inputs, y: self.attention.append(y)
            )
            block.register_forward_hook(lambda _module, _inputs, y: self.outputs.append(y))
        self.score = self.model(images(case))[:, case.target].sum()

    def gradients(self, of: Tensor, at: list[Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(of, at, retain_graph=True)


def attention_rollout(case: Case, _: dict[str, Any]) -> Floats:
    """Abnar and Zuidema 2020, as products of complete matrices."""
    matrices = Recorded(case).attention
    count = matrices[0].shape[-1]
    rollout = torch.eye(count)
    for matrix in matrices:
        mixed = matrix + torch.eye(count)
        rollout = mixed / mixed.sum(-1, keepdim=True) @ rollout
    return enlarged(case, rollout[:, 0])


def transformer_attribution(case: Case, _: dict[str, Any]) -> Floats:
    """Chefer et al., ICCV 2021, eq. 5 and 6."""
    recorded = Recorded(case)
    relevance = torch.eye(recorded.attention[0].shape[-1])
    gradients = recorded.gradients(recorded.score, recorded.attention)
    for matrix, gradient in zip(recorded.attention, gradients, strict=True):
        relevance = relevance + (gradient * matrix).clamp(min=0) @ relevance
    return enlarged(case, relevance[:, 0])


def legrad(case: Case, _: dict[str, Any]) -> Floats:
    """Bousselham et al. 2024, with the class token that the head reads."""
    recorded = Recorded(case)
    rows = []
    for matrix, output in zip(recorded.attention, recorded.outputs, strict=True):
        scores = recorded.model.logits(recorded.model.last(output)[:, 0])
        (gradient,) = recorded.gradients(scores[:, case.target].sum(), [matrix])
        rows.append(gradient.clamp(min=0).mean(1))
    return enlarged(case, torch.stack(rows).mean(0))


def enlarged(case: Case, row: Tensor) -> Floats:
    """(N, H, W): the cells of rows of tokens (N, T), brought up to the image."""
    height, width = case.x.shape[2:]
    cells = row[:, 1:].reshape(len(row), 1, *(case.grid or ()))
    return interpolate(cells, (height, width), mode="bilinear")[:, 0].detach().numpy()


def torchcam_legrad(*, mended: bool) -> Peer:
    """With the tail of the model or, as it is, with the mean of all tokens in place of the class token."""

    def maps(case: Case, _: dict[str, Any]) -> Floats:
        model = model_of(case)
        tail = {"score_projection": model.read} if mended else {}
        blocks = list(model.encoder.layers)
        package = import_module("torchcam.methods")
        with package.LeGrad(model, blocks, grid_shape=case.grid, **tail) as extractor:
            scores = model(images(case))
            (result,) = extractor(case.target, scores, normalized=False)
        height, width = case.x.shape[2:]
        larger = interpolate(result[:, None], (height, width), mode="bilinear")
        return np.asarray(larger[:, 0].detach())

    return maps
