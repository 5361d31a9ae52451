"""Packages that draw random numbers, with those of our samplers in their place, so that maps are equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from onnxcam.arrays import Array, Floats
from onnxcam.methods.samplers.gaussian import GaussianNoise
from onnxcam.methods.samplers.random_path import random_shares
from scripts.parity import peer_maps
from scripts.parity.peer_maps import Peer, images, model_of
from scripts.parity.peer_nets import Case


@contextmanager
def same_noise(shape: tuple[int, ...]) -> Iterator[None]:
    """The noise of our copies of an image (C, H, W), in order: torch.normal returns that of several copies,
    np.random.normal that of one with the channels last.
    """
    noise, taken = GaussianNoise(0, shape), [0]

    def take(count: int) -> Any:
        start, taken[0] = taken[0], taken[0] + count
        return noise[start : taken[0]]

    def several(_: float, deviations: Any) -> Any:
        return deviations * torch.from_numpy(take(len(deviations)))

    def one(_: float, deviation: float, size: tuple[int, ...]) -> Floats:
        values: Floats = deviation * np.moveaxis(take(1)[0], 0, 2)
        assert values.shape == size
        return values

    with patch.object(torch, "normal", several), patch.object(np.random, "normal", one):
        yield


@contextmanager
def same_points(samples: int, baselines: int) -> Iterator[None]:
    """Our random points between baselines and the image: their shares of the way, and the baselines."""
    shares, numbers = random_shares(samples, baselines, 0)

    def uniform(low: float, high: float, count: int) -> Floats:
        return low + (high - low) * shares[:count]

    def choice(_: int, count: int) -> Array:
        return numbers[:count]

    with patch.object(np.random, "uniform", uniform), patch.object(np.random, "choice", choice):
        yield


def one_by_one(attribute: Callable[[Any, float], Any], case: Case, noise: float) -> Floats:
    """The attributions (N, C, H, W) of images one at a time, as the noise depends on their range."""
    rows = []
    for image in images(case):
        with same_noise(case.x.shape[1:]):
            rows.append(attribute(image[None], noise * float(image.max() - image.min())))
    return torch.cat(rows).detach().numpy()


def captum_tunnel(kind: str) -> Peer:
    """A mean or variance of gradients over noisy copies."""

    def attributions(case: Case, settings: dict[str, Any]) -> Floats:
        attr = import_module("captum.attr")
        tunnel = attr.NoiseTunnel(attr.Saliency(model_of(case)))

        def attribute(image: Any, deviation: float) -> Any:
            return tunnel.attribute(
                image,
                target=case.target,
                nt_type=kind,
                nt_samples=settings["samples"],
                stdevs=deviation,
                abs=False,
            )

        return one_by_one(attribute, case, settings["noise"])

    return attributions


def captum_gradient_shap(case: Case, settings: dict[str, Any]) -> Floats:
    shap = import_module("captum.attr").GradientShap(model_of(case))
    starts, samples = settings["baseline"], settings["samples"]

    def attribute(image: Any, deviation: float) -> Any:
        with same_points(samples, len(starts)):
            return shap.attribute(
                image,
                torch.from_numpy(starts),
                n_samples=samples,
                stdevs=deviation,
                target=case.target,
            )

    return one_by_one(attribute, case, settings["noise"])


def saliency_smooth_grad(*, magnitude: bool) -> Peer:
    """The mean of gradients over noisy copies, or that of their squares."""

    def attributions(case: Case, settings: dict[str, Any]) -> Floats:
        package = import_module("saliency.core")
        gradients = peer_maps.gradients_of(case)
        masks = []
        for image in case.x.astype(np.float64):
            with same_noise(case.x.shape[1:]):
                mask = package.GradientSaliency().GetSmoothedMask(
                    np.moveaxis(image, 0, 2),
                    gradients,
                    stdev_spread=settings["noise"],
                    nsamples=settings["samples"],
                    magnitude=magnitude,
                )
            masks.append(np.moveaxis(mask, 2, 0))
        return np.stack(masks)

    return attributions
