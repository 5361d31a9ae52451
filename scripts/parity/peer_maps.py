"""Maps and attributions of other packages, in the shapes of ours.

A peer takes a case and the settings of our method, and returns attributions (N, C, H, W), maps (N, H, W) at the
image's size, or maps (N, h, w) at the layer's. Packages are imported when they are used.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeAlias
from unittest.mock import patch

import numpy as np
import torch

from onnxcam.arrays import Floats
from scripts.parity.peer_nets import Case

Peer: TypeAlias = Callable[[Case, dict[str, Any]], Floats]


def images(case: Case) -> Any:
    return torch.from_numpy(case.x).requires_grad_()


def model_of(case: Case) -> Any:
    """A copy, because packages leave hooks in models, or other modules."""
    return copy.deepcopy(case.model)


# captum


def captum(name: str, **options: Any) -> Peer:
    """One of its attributions that need no settings."""

    def attribute(case: Case, settings: dict[str, Any]) -> Floats:
        attribution = getattr(import_module("captum.attr"), name)(model_of(case))
        return attribution.attribute(images(case), target=case.target, **options).detach().numpy()

    return attribute


def captum_integrated_gradients(case: Case, settings: dict[str, Any]) -> Floats:
    return captum(
        "IntegratedGradients",
        baselines=settings["baseline"],
        n_steps=settings["steps"],
        method="gausslegendre",
    )(case, settings)


def captum_deep_lift(case: Case, settings: dict[str, Any]) -> Floats:
    return captum("DeepLift", baselines=settings["baseline"])(case, settings)


def captum_grad_cam(case: Case, settings: dict[str, Any]) -> Floats:
    model = model_of(case)
    grad_cam = import_module("captum.attr").LayerGradCam(model, model.layer)
    maps = grad_cam.attribute(images(case), target=case.target, relu_attributions=True)
    return maps[:, 0].detach().numpy()


def captum_guided_grad_cam(case: Case, settings: dict[str, Any]) -> Floats:
    model = model_of(case)
    guided = import_module("captum.attr").GuidedGradCam(model, model.layer)
    options = {"target": case.target, "interpolate_mode": "bilinear"}
    return guided.attribute(images(case), **options).detach().numpy()


# pytorch-grad-cam: maps between 0 and 1


def pytorch_grad_cam(name: str, *, oriented: bool = False) -> Peer:
    """One of its CAMs; `oriented` gives components the sign that ours have."""

    def maps(case: Case, settings: dict[str, Any]) -> Floats:
        package = import_module("pytorch_grad_cam")
        targets = import_module("pytorch_grad_cam.utils.model_targets")
        model = model_of(case)
        options = {"reshape_transform": tokens_to_maps(case.grid)} if case.grid else {}
        layers = [] if name == "FullGrad" else [model.layer]
        cam = getattr(package, name)(model, layers, **options)
        if oriented:
            cam.get_cam_image = orient(cam.get_cam_image)
        target = targets.ClassifierOutputTarget(case.target)
        result = np.asarray(cam(images(case).detach(), [target] * len(case.x)))
        cam.activations_and_grads.activations = cam.activations_and_grads.gradients = []
        return result

    return maps


def orient(get_cam_image: Callable[..., Floats]) -> Callable[..., Floats]:
    """Components with the sign that ours have: of the activation, or of it times the gradient."""

    def oriented(*arguments: Any) -> Floats:
        _, _, _, activation, gradient, _ = arguments
        maps = activation if gradient is None else activation * gradient
        components = get_cam_image(*arguments)
        return np.stack([sign_of(*pair) * pair[0] for pair in zip(components, maps, strict=True)])

    return oriented


def sign_of(component: Floats, maps: Floats) -> float:
    """The one of the correlation with the sum of the feature maps; where this sum is the same everywhere, the
    one that makes the largest magnitude positive.
    """
    deviations = maps - maps.mean((1, 2), keepdims=True)
    agreement = np.sum(component * deviations.sum(0))
    is_clear = abs(agreement) > 1e-6 * np.sum(np.abs(component) * np.abs(deviations).sum(0))
    return float(np.sign(agreement if is_clear else component.max() + component.min()))


def tokens_to_maps(grid: tuple[int, int]) -> Callable[[Any], Any]:
    """(N, 1 + h w, C) -> (N, C, h, w), without the class token."""
    return lambda tokens: tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, *grid)


def pytorch_grad_cam_guided(case: Case, settings: dict[str, Any]) -> Floats:
    guided = import_module("pytorch_grad_cam").GuidedBackpropReLUModel(model_of(case), device="cpu")
    pixels = [guided(image[None].detach(), case.target) for image in images(case)]
    return np.stack(pixels).transpose(0, 3, 1, 2)


# torch-cam


def torchcam(name: str) -> Peer:
    """One of its CAMs, as it leaves the layer."""

    def maps(case: Case, settings: dict[str, Any]) -> Floats:
        model = model_of(case)
        shape = case.x.shape[1:]
        extractor = getattr(import_module("torchcam.methods"), name)(model, "layer", shape)
        with extractor:
            scores = model(images(case))
            (result,) = extractor(case.target, scores, normalized=False)
        return np.maximum(result.detach().numpy(), 0)

    return maps


# zennit


def zennit(name: str) -> Peer:
    """The gradient that one of its composites makes."""

    def gradient(case: Case, settings: dict[str, Any]) -> Floats:
        composite = getattr(import_module("zennit.composites"), name)()
        x = images(case)
        with composite.context(model_of(case)) as model:
            (result,) = torch.autograd.grad(model(x)[:, case.target].sum(), x)
        return result.numpy()

    return gradient


# saliency: one image (H, W, C) at a time


def saliency(name: str, settings_of: Callable[[dict[str, Any]], dict[str, Any]]) -> Peer:
    """One of its masks, with our settings by its names."""

    def attributions(case: Case, settings: dict[str, Any]) -> Floats:
        package = import_module("saliency.core")
        gradients, options = gradients_of(case), settings_of(settings)
        with patch.object(np, "quantile", old_quantile):
            masks = [
                getattr(package, name)().GetMask(np.moveaxis(image, 0, 2), gradients, **options)
                for image in case.x.astype(np.float64)
            ]
        return np.moveaxis(np.stack(masks), 3, 1)

    return attributions


def gradients_of(case: Case) -> Callable[..., Any]:
    """What the package calls for the gradients at images (N, H, W, C)."""
    model, key = model_of(case), import_module("saliency.core").INPUT_OUTPUT_GRADIENTS

    def gradients(batch: Any, call_model_args: Any = None, expected_keys: Any = None) -> Any:
        x = torch.tensor(np.moveaxis(np.asarray(batch), 3, 1).astype(np.float32))
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(model(x)[:, case.target].sum(), x)
        return {key: np.moveaxis(gradient.numpy(), 1, 3)}

    return gradients


QUANTILE: Any = np.quantile


def old_quantile(array: Any, q: float, interpolation: str = "linear") -> Any:
    """The package names the method as NumPy did before version 2.4."""
    return QUANTILE(array, q, method=interpolation)


def guided_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Its baseline is 0 by default."""
    return {
        "x_steps": settings["steps"],
        "fraction": settings["fraction"],
        "max_dist": settings["max_distance"],
    }


def blur_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The derivative by sigma over one step, as ours; by default it is taken over 0.01."""
    steps, max_sigma = settings["steps"], settings["max_sigma"]
    return {"max_sigma": max_sigma, "steps": steps, "grad_step": max_sigma / steps}


# DIANNA


def dianna_rise(case: Case, settings: dict[str, Any]) -> Floats:
    rise = import_module("dianna.methods.rise_image").RISEImage(
        settings["masks"], settings["grid"], settings["probability"], {0: "channels"}
    )

    def probabilities(batch: Any) -> Any:
        with torch.no_grad():
            return torch.softmax(case.model(torch.tensor(batch)), 1).numpy()

    np.random.seed(0)  # noqa: NPY002  the package draws from the global generator
    return np.stack([rise.explain(probabilities, image, [case.target])[0] for image in case.x])
