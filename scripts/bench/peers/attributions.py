"""captum, zennit and saliency."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np

from scripts.bench.contestants import CLASS, Run, random_image
from scripts.bench.peers.running import (
    at_fastest_batch,
    tensor_image,
    torch_and_model,
    torch_device,
)

EIGHT = 8  # images of a gradient

# captum

CAPTUM = {
    "saliency": "Saliency",
    "gradient-x-input": "InputXGradient",
    "deconvnet": "Deconvolution",
    "guided-backprop": "GuidedBackprop",
    "deep-lift": "DeepLift",
}
TUNNELS = {
    "smooth-grad": "smoothgrad",
    "smooth-grad-squared": "smoothgrad_sq",
    "var-grad": "vargrad",
}

OTHER_CAPTUM = ("grad-cam", "guided-grad-cam", "integrated-gradients", "gradient-shap", "occlusion")


def captum(job: dict[str, Any]) -> Run:
    """captum's attributions of one image; its Saliency of eight for the row of the gradient."""
    _, model = torch_and_model(job)
    attr = import_module("captum.attr")
    method = job["method"]
    x = tensor_image(job, EIGHT if method == "gradient" else 1)
    if method == "gradient":
        return lambda: attr.Saliency(model).attribute(x, target=CLASS, abs=False)
    if method == "guided-grad-cam":
        guided = attr.GuidedGradCam(model, model.get_submodule(job["module"]))
        return lambda: guided.attribute(x, target=CLASS)
    if method == "grad-cam":
        grad_cam = attr.LayerGradCam(model, model.get_submodule(job["module"]))
        return lambda: grad_cam.attribute(x, target=CLASS, relu_attributions=True)
    if method in CAPTUM:
        attribution = getattr(attr, CAPTUM[method])(model)
        return lambda: attribution.attribute(x, target=CLASS)
    return _captum_of_samples(job, attr, model, x)


def _captum_of_samples(job: dict[str, Any], attr: Any, model: Any, x: Any) -> Run:
    method, settings = job["method"], job["settings"]
    options: dict[str, Any]
    if method in TUNNELS:
        count = settings["samples"]
        attribution, batch_name = attr.NoiseTunnel(attr.Saliency(model)), "nt_samples_batch_size"
        options = {"nt_type": TUNNELS[method], "nt_samples": count, "abs": False}
    elif method == "integrated-gradients":
        count = settings["steps"]
        attribution, batch_name = attr.IntegratedGradients(model), "internal_batch_size"
        options = {"n_steps": count}
    elif method == "gradient-shap":
        count = settings["samples"]
        shap = attr.GradientShap(model)  # which runs all samples together
        return lambda: shap.attribute(x, 0 * x.detach(), count, stdevs=0.1, target=CLASS)
    else:
        window, stride = settings["window"], settings["stride"]
        count = math.ceil((x.shape[2] - window) / stride + 1) ** 2
        attribution, batch_name = attr.Occlusion(model), "perturbations_per_eval"
        options = {"sliding_window_shapes": (3, window, window), "strides": (3, stride, stride)}

    def make_run(batch: int) -> Run:
        size = {batch_name: batch}
        return lambda: attribution.attribute(x, target=CLASS, **options, **size)

    return at_fastest_batch(make_run, count)


# zennit

ZENNIT = {"guided-backprop": "GuidedBackprop", "lrp": "EpsilonPlusFlat"}


def zennit(job: dict[str, Any]) -> Run:
    """The gradient under one of its composites, which stays registered."""
    torch, model = torch_and_model(job)
    canonizers = [import_module("zennit.canonizers").SequentialMergeBatchNorm()]
    composite = getattr(import_module("zennit.composites"), ZENNIT[job["method"]])
    composite(canonizers=canonizers).register(model)
    x = tensor_image(job)
    return lambda: torch.autograd.grad(model(x)[:, CLASS].sum(), x)[0].cpu()


# saliency: one image (H, W, C) at a time


QUANTILE = np.quantile


def _quantile(array: Any, q: float, interpolation: str = "linear") -> Any:
    return QUANTILE(array, q, method=interpolation)  # type: ignore[call-overload]


def saliency(job: dict[str, Any]) -> Run:
    """Paths of its own, whose gradients are taken in PyTorch."""
    torch, model = torch_and_model(job)
    package = import_module("saliency.core")
    key, steps = package.INPUT_OUTPUT_GRADIENTS, job["settings"].get("steps")

    def gradients(batch: Any, **_: Any) -> Any:
        x = torch.tensor(np.moveaxis(np.asarray(batch), 3, 1).astype(np.float32))
        x = x.to(torch_device(job)).requires_grad_()
        (gradient,) = torch.autograd.grad(model(x)[:, CLASS].sum(), x)
        return {key: np.moveaxis(gradient.cpu().numpy(), 1, 3)}

    image = np.moveaxis(random_image(job)[0], 0, 2).astype(np.float64)
    if job["method"] == "guided-ig":
        path, black = package.GuidedIG(), np.zeros_like(image)
        setattr(np, "quantile", _quantile)  # noqa: B010  as NumPy had it when the package was written
        return lambda: path.GetMask(
            image, gradients, x_baseline=black, x_steps=steps, fraction=0.25, max_dist=0.02
        )
    blurred = package.BlurIG()

    def make_run(batch: int) -> Run:
        return lambda: blurred.GetMask(image, gradients, steps=steps, batch_size=batch)

    return at_fastest_batch(make_run, steps)
