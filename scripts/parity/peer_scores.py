"""Maps of other packages whose feature maps are weighted by scores: as they are, and with what is known to
differ from the papers mended, which must make them equal to ours.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from itertools import count
from typing import Any
from unittest import mock

import numpy as np
import torch

from onnxcam.arrays import Floats
from onnxcam.methods.samplers.gaussian import GaussianNoise
from scripts.parity.peer_maps import Peer, images, model_of, pytorch_grad_cam, tokens_to_maps
from scripts.parity.peer_nets import Case

ALL_AT_ONCE = 1 << 20  # samples of a batch

# pytorch-grad-cam


def pgc_score_cam_of_pixel_centers(case: Case, settings: dict[str, Any]) -> Floats:
    """Masks enlarged between the centers of the cells, as the authors' code does, not from corner to corner."""

    def upsample(size: Any) -> Any:
        return torch.nn.Upsample(size=size, mode="bilinear", align_corners=False)

    with mock.patch("torch.nn.UpsamplingBilinear2d", upsample):
        return pytorch_grad_cam("ScoreCAM")(case, settings)


def pgc_ablation_cam(*, mended: bool) -> Peer:
    """As it is or, `mended`, with cells that are set to 0, and the sign of the score kept."""

    def maps(case: Case, _: dict[str, Any]) -> Floats:
        package = import_module("pytorch_grad_cam")
        targets = import_module("pytorch_grad_cam.utils.model_targets")
        layers = import_module("pytorch_grad_cam.ablation_layer")
        kind = layers.AblationLayerVit if case.grid else layers.AblationLayer
        model = model_of(case)
        options = {"reshape_transform": tokens_to_maps(case.grid)} if case.grid else {}
        layer = zero_cells(kind)() if mended else kind()
        cam = package.AblationCAM(model, [model.layer], ablation_layer=layer, **options)
        if mended:
            cam.get_cam_weights = keep_sign(cam.get_cam_weights, model, case)
        target = targets.ClassifierOutputTarget(case.target)
        return np.asarray(cam(images(case).detach(), [target] * len(case.x)))

    return maps


def zero_cells(kind: Any) -> Any:
    """A layer that sets a feature map to 0, and no class token, instead of to a very negative number."""

    class ZeroCells(kind):  # type: ignore[misc]
        def __call__(self, _: Any) -> Any:
            for row, channel in zip(self.activations, self.indices, strict=False):
                if row.ndim == 2:
                    row[1:, channel] = 0
                else:
                    row[channel] = 0
            return self.activations

    return ZeroCells


def keep_sign(weights_of: Callable[..., Floats], model: Any, case: Case) -> Callable[..., Floats]:
    """Divided by the magnitude of the score instead of by the score."""
    with torch.no_grad():
        signs = np.sign(model(images(case))[:, case.target].numpy())
    return lambda *arguments: weights_of(*arguments) * signs[:, None]


# torch-cam


def torchcam_scores(name: str, *, mended: bool, **options: Any) -> Peer:
    """One of its Score-CAMs; `mended`, with masks that are enlarged before they are scaled, no weight for flat
    feature maps, and the noise and the steps of ours.
    """

    def maps(case: Case, _: dict[str, Any]) -> Floats:
        model, shape = model_of(case), case.x.shape[1:]
        kind = getattr(import_module("torchcam.methods"), name)
        torch.manual_seed(0)
        extractor = kind(model, "layer", batch_size=ALL_AT_ONCE, input_shape=shape, **options)
        if mended:
            mend(extractor, name)
        with extractor, torch.no_grad():
            scores = model(images(case))
            (result,) = extractor(case.target, scores, normalized=False)
        return np.maximum(result.detach().numpy(), 0)

    return maps


def mend(extractor: Any, name: str) -> None:
    def enlarge(activation: Any, _: int) -> Any:
        masks = extractor._upsample(activation)
        low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
        return (masks - low) / (high - low).clamp(min=1e-30)

    weights_of = extractor._get_score_weights

    def without_flat_maps(masks: list[Any], *more: Any) -> list[Any]:
        (weight,) = weights_of(masks, *more)
        weight = weight * masks[0].flatten(2).any(2)
        return [weight / weight.sum(1, keepdim=True)]

    extractor._normalize, extractor._get_score_weights = enlarge, without_flat_maps
    if name == "SSCAM":
        extractor._distrib = SharedNoise(extractor.std)
    if name == "ISCAM":
        score, numbers = extractor._score_input, count(1)
        # the sum of i / N from 1 to i is i (i + 1) / (2 N); the paper multiplies by i / N
        extractor._score_input = lambda masked, *more: score(
            masked * 2 / (next(numbers) + 1), *more
        )


class SharedNoise:
    """Noise that all feature maps share."""

    def __init__(self, std: float) -> None:
        self.std, self.numbers = std, count()

    def sample(self, size: Any) -> Any:
        number = next(self.numbers)
        noise = GaussianNoise(0, tuple(size[2:]))[number : number + 1]
        return torch.from_numpy(self.std * np.asarray(noise)).expand(size)
