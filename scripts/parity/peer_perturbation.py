"""Maps of other packages that hide parts of the image: occlusion, LIME and RISE.

The same windows, subsets and segments as ours, where a package lets them be chosen.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import torch

from onnxcam.arrays import Floats
from onnxcam.methods.samplers.segments import Labels, grid_segments
from onnxcam.methods.samplers.subsets import draw_subsets
from onnxcam.methods.samplers.windows import place_windows
from scripts.parity.peer_maps import Peer, images, model_of
from scripts.parity.peer_nets import SIDE, Case

KERNEL = 0.25


def probabilities_of(case: Case) -> Any:
    """The model with Softmax, on tensors."""
    model = model_of(case)
    return lambda x: torch.softmax(model(x.to(torch.float32)), 1)


def probabilities_of_arrays(case: Case) -> Any:
    """The same on arrays (N, H, W, C)."""
    model = probabilities_of(case)

    def run(batch: Any) -> Any:
        with torch.no_grad():
            return model(torch.tensor(np.moveaxis(np.asarray(batch), 3, 1))).numpy()

    return run


def captum_occlusion(case: Case, settings: dict[str, Any]) -> Floats:
    attr = import_module("captum.attr")
    side, stride = settings["window"], settings["stride"]
    with torch.no_grad():
        attributions = attr.Occlusion(probabilities_of(case)).attribute(
            images(case),
            target=case.target,
            sliding_window_shapes=(3, side, side),
            strides=(3, stride, stride),
            baselines=settings["baseline"],
        )
    return attributions[:, 0].numpy()


def captum_ablation(case: Case, settings: dict[str, Any]) -> Floats:
    """The mean over windows, each of which is the only feature that is removed."""
    ablation = import_module("captum.attr").FeatureAblation(probabilities_of(case))
    placed = place_windows((SIDE, SIDE), settings["window"], settings["stride"])
    total, count = np.zeros((len(case.x), SIDE, SIDE)), np.zeros((SIDE, SIDE))
    for mask in 1 - placed.masks(*placed.corners):
        with torch.no_grad():
            attributions = ablation.attribute(
                images(case),
                target=case.target,
                baselines=settings["baseline"],
                feature_mask=torch.tensor(mask.astype(np.int64))[None, None],
            )
        total += attributions[:, 0].numpy() * mask
        count += mask
    return total / count


def subsets_of(settings: dict[str, Any]) -> tuple[Labels, Floats]:
    """The segments of an image, and the subsets of them."""
    labels = grid_segments((SIDE, SIDE), settings["superpixels"])
    return labels, draw_subsets(settings["samples"], int(labels.max()) + 1, 0).astype(np.float64)


def captum_lime(case: Case, settings: dict[str, Any]) -> Floats:
    """With our subsets, kernel and penalty; its own are others."""
    attr = import_module("captum.attr")
    linear = import_module("captum._utils.models.linear_model")
    labels, subsets = subsets_of(settings)
    maps = []
    for image in images(case).detach():
        remaining = iter(subsets)

        def next_subset(*_: Any, left: Any = remaining, **__: Any) -> Any:
            return torch.tensor(next(left))[None]

        def weight(*arguments: Any, **_: Any) -> Any:
            distance = 1 - torch.sqrt(arguments[2].double().mean())
            return torch.exp(-((distance / KERNEL) ** 2))

        lime = attr.Lime(
            probabilities_of(case),
            interpretable_model=linear.SkLearnRidge(alpha=settings["ridge"]),
            similarity_func=weight,
            perturb_func=next_subset,
        )
        with torch.no_grad():
            attributions = lime.attribute(
                image[None],
                target=case.target,
                baselines=torch.tensor(mean_colors(image.numpy(), labels))[None],
                feature_mask=torch.tensor(labels)[None, None],
                n_samples=len(subsets),
            )
        maps.append(attributions[0, 0].numpy())
    return np.stack(maps)


def mean_colors(image: Floats, labels: Labels) -> Floats:
    """(C, H, W), each segment in its mean color."""
    means = np.zeros_like(image)
    for label in np.unique(labels):
        inside = labels == label
        means[:, inside] = image[:, inside].mean(axis=1, keepdims=True)
    return means


def lime(kernel_width: float) -> Peer:
    """The original package, with our subsets."""

    def maps(case: Case, settings: dict[str, Any]) -> Floats:
        labels, subsets = subsets_of(settings)
        package = import_module("lime.lime_image")
        explainer = package.LimeImageExplainer(kernel_width, random_state=chosen(subsets))
        results = []
        for image in np.moveaxis(case.x.astype(np.float64), 1, 3):
            explanation = explainer.explain_instance(
                image,
                probabilities_of_arrays(case),
                labels=(case.target,),
                top_labels=None,
                num_samples=len(subsets),
                segmentation_fn=lambda _: labels,
                random_seed=0,
            )
            results.append(on_pixels(explanation.local_exp[case.target], labels))
        return np.stack(results)

    return maps


def chosen(subsets: Floats) -> Any:
    """A random state that draws these subsets."""

    class Chosen(np.random.RandomState):
        def randint(self, *_: Any, **__: Any) -> Any:
            return subsets.ravel().copy()

    return Chosen(0)


def on_pixels(coefficients: Any, labels: Labels) -> Floats:
    """The coefficients (segment, coefficient) at the pixels of their segments."""
    saliency = np.zeros(labels.shape)
    for segment, coefficient in coefficients:
        saliency[labels == segment] = coefficient
    return saliency


def openvino_rise(case: Case, settings: dict[str, Any]) -> Floats:
    """On the exported file. Its masks are enlarged with cubic interpolation."""
    openvino = import_module("openvino")
    rise = import_module("openvino_xai.methods.black_box.rise")

    def probabilities(outputs: Any) -> Floats:
        logits = torch.tensor(next(iter(outputs.values())))
        return np.asarray(torch.softmax(logits, 1).numpy())

    method = rise.RISE(openvino.Core().read_model(str(case.path)), probabilities)
    options = {"num_masks": settings["masks"], "num_cells": settings["grid"], "scale_output": False}
    return np.stack(
        [
            method.generate_saliency_map(image[None], [case.target], **options)[case.target]
            for image in case.x
        ]
    ) / (settings["masks"] * settings["probability"])
