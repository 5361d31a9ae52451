"""Compare our maps with those that other packages compute of the same networks in PyTorch.

    python -m scripts.parity.peers            # every method that a package has, too
    python -m scripts.parity.peers -m blur-ig

Prints a line for each method, package and network: the lowest correlation of two images, and the largest
difference divided by the largest value; then a table with the worst of each method, in Markdown.
pytorch-grad-cam scales its maps from 0 to 1, so ours are scaled, too. Exit code 1 if a correlation is below
0.999, or an error above 1e-3, and no known difference explains it. Where samples are random, the peer may be
twice as far from our map as a map with another seed.

Needs torch (extra `oracle`); of captum, grad-cam, torchcam, zennit, saliency, dianna, lime and openvino-xai,
those that are installed are compared. They do not all install beside each other: `pip install --no-deps
--target FOLDER …` and `PYTHONPATH=.:FOLDER` is one way.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import onnxcam
from onnxcam.arrays import Floats
from onnxcam.errors import OnnxcamError
from scripts.parity import peer_draws, peer_maps, peer_perturbation, peer_relevance, peer_scores
from scripts.parity.peer_maps import Peer
from scripts.parity.peer_nets import SIDE, Case, make_cases

BOUND, ERROR_BOUND = 0.999, 1e-3
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
    "occlusion": {"window": 8, "stride": 4, "baseline": 0.25},
    "lime": {"samples": 300, "superpixels": 16, "segments": "grid", "ridge": 1.0},
    "rise": {"masks": 8000, "grid": 7, "probability": 0.5, "seed": 0},
}


@dataclass(frozen=True)
class Comparison:
    """Our method and the peer's. `difference` is why the peer's maps are known to be others; `scaled` says that
    its maps lie between 0 and 1.
    """

    method: str
    package: str
    peer: Peer
    nets: tuple[str, ...] = ALL
    at_layer: bool = False
    scaled: bool = False
    difference: str = ""

    @property
    def is_random(self) -> bool:
        return "seed" in SETTINGS.get(self.method, {})


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
    Comparison("occlusion", "captum", peer_perturbation.captum_occlusion),
    Comparison("occlusion", "captum", peer_perturbation.captum_ablation),
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


@dataclass(frozen=True)
class Row:
    comparison: Comparison
    net: str
    outcome: str
    correlation: float = np.nan
    error: float = np.nan

    @property
    def failed(self) -> bool:
        return self.outcome.startswith("FAILS")

    @property
    def agrees(self) -> bool:
        return self.outcome.startswith(("equal", "as near"))

    def __str__(self) -> str:
        known = not np.isnan(self.correlation)
        numbers = f"{self.correlation:9.6f} {self.error:8.1e}" if known else " " * 18
        of = self.comparison
        return f"{of.method:22}{of.package:18}{self.net:10}{numbers}  {self.outcome}"


def explain(case: Case, comparison: Comparison, peer: Floats, **settings: Any) -> Floats:
    """Ours in the peer's shape: attributions, maps at the image's size, or maps of the layer."""
    options: dict[str, Any] = {"layer": case.layer} if comparison.at_layer else {}
    explainer = onnxcam.Explainer(
        case.path, method=comparison.method, device="cpu", cache=False, **options, **settings
    )
    explanation: Any = explainer(case.x, case.target)
    if peer.ndim == 4:
        return np.asarray(explanation.attributions)
    is_image = peer.shape[1:] == case.x.shape[2:]
    return np.asarray(explanation.maps if is_image else explanation.layer_maps)


def scale(maps: Floats) -> Floats:
    """From 0 to 1, one image at a time."""
    axes = tuple(range(1, maps.ndim))
    low, high = maps.min(axes, keepdims=True), maps.max(axes, keepdims=True)
    return (maps - low) / np.maximum(high - low, 1e-30)


def correlation(first: Floats, second: Floats) -> float:
    """The lowest of all images; NaN if a map is the same everywhere."""
    pairs = zip(first, second, strict=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.min([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs]))


def compare(case: Case, comparison: Comparison) -> Row:
    if comparison.method not in onnxcam.METHODS:
        return Row(comparison, case.name, "no such method yet")
    if importlib.util.find_spec(comparison.package) is None:
        return Row(comparison, case.name, "not installed")
    settings = SETTINGS.get(comparison.method, {})
    try:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
            peer = np.asarray(comparison.peer(case, settings), np.float64)  # and progress bars
    except Exception as error:  # noqa: BLE001  other packages raise whatever they like
        return Row(comparison, case.name, f"the package raises {type(error).__name__}: {error}")
    try:
        ours = explain(case, comparison, peer, **settings)
        bound = BOUND
        if comparison.is_random:
            other = explain(case, comparison, peer, **{**settings, "seed": 1})
            bound = min(BOUND, 1 - 2 * (1 - correlation(ours, other)))
    except OnnxcamError as error:
        return Row(comparison, case.name, f"FAILS: {error}")
    return judge(comparison, case.name, ours, peer, bound)


def judge(comparison: Comparison, net: str, ours: Floats, peer: Floats, bound: float) -> Row:
    if comparison.scaled:
        ours, peer = scale(ours), scale(peer)
    similarity = correlation(ours, peer)
    error = float(np.abs(ours - peer).max() / max(np.abs(peer).max(), 1e-30))
    if comparison.is_random and similarity >= bound:
        outcome = f"as near as another seed ({bound:.4f})"
    elif similarity >= bound and error <= ERROR_BOUND:
        outcome = "equal"
    elif comparison.difference:
        outcome = f"known: {comparison.difference}"
    else:
        limit = f"below {bound:.4f}" if not similarity >= bound else f"error above {ERROR_BOUND:g}"
        outcome = f"FAILS: {limit}"
    return Row(comparison, net, outcome, similarity, error)


def compare_all(method: str | None) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages
        cases = {case.name: case for case in make_cases(Path(folder))}
        for comparison in COMPARISONS:
            if method in (None, comparison.method):
                for net in comparison.nets:
                    yield compare(cases[net], comparison)


def summarize(rows: Sequence[Row]) -> Iterator[str]:
    """A table in Markdown: of each method the packages that agree, the worst figures of these, and the packages
    that differ, with the reason.
    """
    yield "| method | equal to | lowest correlation | largest error | others |"
    yield "|---|---|---|---|---|"
    for method in dict.fromkeys(row.comparison.method for row in rows):
        own = [row for row in rows if row.comparison.method == method]
        agreeing = [row for row in own if row.agrees]
        packages = ", ".join(dict.fromkeys(row.comparison.package for row in agreeing))
        others = "; ".join(
            dict.fromkeys(
                f"{row.comparison.package}: {row.outcome}" for row in own if not row.agrees
            )
        )
        correlation = min((row.correlation for row in agreeing), default=np.nan)
        error = max((row.error for row in agreeing), default=np.nan)
        figures = f"{correlation:.6f} | {error:.1e}" if agreeing else "– | –"
        yield f"| `{method}` | {packages or '–'} | {figures} | {others} |"


def main(
    method: Annotated[str | None, typer.Option("--method", "-m", help="Only this one.")] = None,
) -> None:
    rows = []
    for row in compare_all(method):
        print(row, flush=True)
        rows.append(row)
    print("", *summarize(rows), sep="\n")
    if any(row.failed for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
