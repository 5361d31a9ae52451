"""Which of our methods is compared with what in other packages, on which networks, and where they are known to
differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scripts.parity import (
    peer_attention,
    peer_draws,
    peer_maps,
    peer_openvino,
    peer_perturbation,
    peer_relevance,
    peer_scores,
)
from scripts.parity.peer_maps import Peer
from scripts.parity.peer_nets import SIDE

CONVOLUTIONAL = ("curved", "residual", "depthwise", "dense")
ALL, RECTIFIED = (*CONVOLUTIONAL, "vit"), ("residual", "dense")  # rectified by ReLU alone
NOISY: dict[str, Any] = {"samples": 25, "noise": 0.15}  # with the same noise
STARTS = np.random.default_rng(5).normal(size=(3, 3, SIDE, SIDE)).astype(np.float32)
SETTINGS: dict[str, dict[str, Any]] = {
    "integrated-gradients": {"steps": 50, "baseline": 0.0},
    "deep-lift": {"baseline": 0.0},
    "smooth-grad": NOISY,
    "smooth-grad-squared": NOISY,
    "var-grad": NOISY,
    "gradient-shap": {**NOISY, "baseline": STARTS},
    "guided-ig": {"steps": 200, "fraction": 0.25, "max_distance": 0.02, "baseline": 0.0},
    "blur-ig": {"steps": 50, "max_sigma": 5.0},
    "recipro-cam": {"kernel": "cell"},
    "occlusion": {"window": 8, "stride": 4, "baseline": 0.25},
    "lime": {"samples": 300, "superpixels": 16, "segments": "grid", "ridge": 1.0},
    "rise": {"masks": 8000, "grid": 7, "probability": 0.5, "seed": 0},
}


@dataclass(frozen=True)
class Comparison:
    """Our method and the peer's. `difference` is why the peer's maps are known to be others; `scaled` says that
    its maps lie between 0 and 1. `others` are settings other than those of SETTINGS.
    """

    method: str
    package: str
    peer: Peer
    nets: tuple[str, ...] = ALL
    at_layer: bool = False
    scaled: bool = False
    difference: str = ""
    others: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        return {**SETTINGS.get(self.method, {}), **self.others}

    @property
    def is_random(self) -> bool:
        return "seed" in self.settings


def pgc(method: str, name: str, nets: tuple[str, ...] = ALL, difference: str = "") -> Comparison:
    peer = peer_maps.pytorch_grad_cam(name)
    at_layer = name != "FullGrad"
    return Comparison(method, "pytorch_grad_cam", peer, nets, at_layer, True, difference)


def component(method: str, name: str) -> tuple[Comparison, Comparison]:
    """A principal component as the package returns it, and with our sign."""
    oriented = peer_maps.pytorch_grad_cam(name, oriented=True)
    return (
        pgc(method, name, difference="leaves the sign of the component to chance"),
        Comparison(method, "pytorch_grad_cam", oriented, ALL, at_layer=True, scaled=True),
    )


def scores(
    method: str, package: str, difference: str, peer: Peer, mended: Peer, nets: tuple[str, ...]
) -> tuple[Comparison, Comparison]:
    """A map as the package returns it, and with what is known to differ mended."""
    is_scaled = package == "pytorch_grad_cam"
    return (
        Comparison(method, package, peer, nets, True, is_scaled, difference),
        Comparison(method, package, mended, nets, True, is_scaled),
    )


def torchcam_scores(method: str, name: str, difference: str) -> tuple[Comparison, Comparison]:
    peer, mended = (peer_scores.torchcam_scores(name, mended=mended) for mended in (False, True))
    return scores(method, "torchcam", difference, peer, mended, CONVOLUTIONAL)


def torchcam(method: str, name: str, difference: str = "") -> Comparison:
    peer = peer_maps.torchcam(name)
    return Comparison(method, "torchcam", peer, CONVOLUTIONAL, True, False, difference)


COMPARISONS = (
    pgc("grad-cam", "GradCAM"),
    torchcam("grad-cam", "GradCAM"),
    Comparison("grad-cam", "captum", peer_maps.captum_grad_cam, CONVOLUTIONAL, at_layer=True),
    pgc("grad-cam++", "GradCAMPlusPlus", RECTIFIED, "adds 1e-6 to the denominator"),
    torchcam("grad-cam++", "GradCAMpp", "divides a copy, so that alpha has no denominator"),
    pgc("xgrad-cam", "XGradCAM"),
    torchcam("xgrad-cam", "XGradCAM"),
    pgc("layer-cam", "LayerCAM"),
    torchcam("layer-cam", "LayerCAM"),
    pgc("hires-cam", "HiResCAM"),
    pgc("elementwise-grad-cam", "GradCAMElementWise"),
    *component("eigen-cam", "EigenCAM"),
    *component("eigen-grad-cam", "EigenGradCAM"),
    pgc(
        "fem",
        "FEM",
        difference="weighs A by the share of unusual cells, not these by the mean of A",
    ),
    *scores(
        "score-cam",
        "pytorch_grad_cam",
        "enlarges masks from corner to corner",
        peer_maps.pytorch_grad_cam("ScoreCAM"),
        peer_scores.pgc_score_cam_of_pixel_centers,
        ALL,
    ),
    *torchcam_scores(
        "score-cam", "ScoreCAM", "scales masks before it enlarges them, and flat ones count"
    ),
    *torchcam_scores(
        "ss-cam", "SSCAM", "scales masks first, counts flat ones, and draws noise for each mask"
    ),
    *torchcam_scores(
        "is-cam", "ISCAM", "scales masks first, counts flat ones, and adds up the steps"
    ),
    *scores(
        "ablation-cam",
        "pytorch_grad_cam",
        "sets maps with negative values to -1e7, and divides by negative scores",
        peer_scores.pgc_ablation_cam(mended=False),
        peer_scores.pgc_ablation_cam(mended=True),
        ALL,
    ),
    *component("kpca-cam", "KPCA_CAM"),
    pgc("shapley-cam", "ShapleyCAM", CONVOLUTIONAL),  # it raises an error for tokens
    pgc("full-grad", "FullGrad", CONVOLUTIONAL, "scales every channel from 0 to 1 by itself"),
    Comparison("activation-map", "openvino_xai", peer_openvino.activation_map, CONVOLUTIONAL, True),
    Comparison("recipro-cam", "openvino_xai", peer_openvino.recipro_cam, ALL, True),
    Comparison("guided-grad-cam", "captum", peer_maps.captum_guided_grad_cam, RECTIFIED, True),
    Comparison("saliency", "captum", peer_maps.captum("Saliency", abs=False)),
    Comparison("saliency", "saliency", peer_maps.saliency("GradientSaliency", lambda _: {})),
    Comparison("gradient-x-input", "captum", peer_maps.captum("InputXGradient")),
    Comparison("smooth-grad", "captum", peer_draws.captum_tunnel("smoothgrad")),
    Comparison("smooth-grad", "saliency", peer_draws.saliency_smooth_grad(magnitude=False)),
    Comparison("smooth-grad-squared", "captum", peer_draws.captum_tunnel("smoothgrad_sq")),
    Comparison("smooth-grad-squared", "saliency", peer_draws.saliency_smooth_grad(magnitude=True)),
    Comparison("var-grad", "captum", peer_draws.captum_tunnel("vargrad")),
    Comparison("gradient-shap", "captum", peer_draws.captum_gradient_shap),
    Comparison("guided-ig", "saliency", peer_maps.saliency("GuidedIG", peer_maps.guided_settings)),
    Comparison("integrated-gradients", "captum", peer_maps.captum_integrated_gradients),
    Comparison("blur-ig", "saliency", peer_maps.saliency("BlurIG", peer_maps.blur_settings)),
    Comparison(
        "deep-lift",
        "captum",
        peer_maps.captum_deep_lift,
        ("curved", "residual", "dense"),
        difference="its sum misses the difference of the scores where a ReLU reads a MaxPool",
    ),
    Comparison(
        "deep-lift",
        "captum",
        peer_maps.captum_deep_lift,
        ("depthwise",),
        difference="takes the gradient of ReLU6",
    ),
    Comparison("guided-backprop", "captum", peer_maps.captum("GuidedBackprop"), RECTIFIED),
    Comparison("guided-backprop", "zennit", peer_maps.zennit("GuidedBackprop"), RECTIFIED),
    Comparison("guided-backprop", "pytorch_grad_cam", peer_maps.pytorch_grad_cam_guided, RECTIFIED),
    Comparison("deconvnet", "captum", peer_maps.captum("Deconvolution"), RECTIFIED),
    Comparison("deconvnet", "zennit", peer_maps.zennit("DeconvNet"), RECTIFIED),
    Comparison("lrp", "zennit", peer_relevance.zennit_lrp, ("curved",)),
    Comparison(
        "lrp",
        "zennit",
        peer_relevance.zennit_lrp,
        ("residual", "depthwise"),
        difference="counts the relevance of a sum twice where the sum is no module of its own",
    ),
    # it fails for `dense`, where it merges normalizations with convolutions that others read, too
    Comparison(
        "lrp", "zennit", peer_relevance.zennit_lrp_mended, ("residual", "depthwise", "dense")
    ),
    Comparison("attention-rollout", "torch", peer_attention.attention_rollout, ("vit",)),
    Comparison(
        "transformer-attribution", "torch", peer_attention.transformer_attribution, ("vit",)
    ),
    Comparison("legrad", "torch", peer_attention.legrad, ("vit",)),
    Comparison(
        "legrad",
        "torchcam",
        peer_attention.torchcam_legrad(mended=False),
        ("transformer",),
        difference="reads the mean of all tokens where the head reads the class token",
    ),
    Comparison("legrad", "torchcam", peer_attention.torchcam_legrad(mended=True), ("transformer",)),
    Comparison("occlusion", "captum", peer_perturbation.captum_occlusion),
    Comparison("occlusion", "captum", peer_perturbation.captum_ablation),
    Comparison(
        "occlusion",
        "captum",
        peer_perturbation.captum_occlusion,
        ("residual",),
        difference="cuts windows off at the border; ours are moved into the image",
        others={"window": 7},
    ),
    Comparison("lime", "lime", peer_perturbation.lime(0.25 / math.sqrt(2.0))),
    Comparison(
        "lime",
        "lime",
        peer_perturbation.lime(0.25),
        ("residual",),
        difference="takes the root of the paper's weights exp(-D^2 / sigma^2)",
    ),
    Comparison("lime", "captum", peer_perturbation.captum_lime),
    Comparison("rise", "dianna", peer_maps.dianna_rise, RECTIFIED),
    Comparison(
        "rise",
        "openvino_xai",
        peer_perturbation.openvino_rise,
        RECTIFIED,
        difference="enlarges masks by cubic interpolation",
    ),
)
