"""torch-cam and pytorch-grad-cam."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from scripts.bench.contestants import CLASS, Run
from scripts.bench.peers.running import (
    at_fastest_batch,
    tensor_image,
    torch_and_model,
    torch_device,
)

# torch-cam

TORCH_CAM: dict[str, tuple[str, dict[str, str]]] = {  # the class, and its names of our settings
    "cam": ("CAM", {}),
    "grad-cam": ("GradCAM", {}),
    "grad-cam++": ("GradCAMpp", {}),
    "smooth-grad-cam++": ("SmoothGradCAMpp", {"samples": "num_samples"}),
    "xgrad-cam": ("XGradCAM", {}),
    "layer-cam": ("LayerCAM", {}),
    "score-cam": ("ScoreCAM", {}),
    "ss-cam": ("SSCAM", {"samples": "num_samples"}),
    "is-cam": ("ISCAM", {"steps": "num_samples", "samples": "num_samples"}),
}
BATCHED_TORCH_CAM = ("score-cam", "ss-cam", "is-cam")


def torch_cam(job: dict[str, Any]) -> Run:
    """The same method of torch-cam at the module that writes the layer."""
    torch, model = torch_and_model(job)
    name, names = TORCH_CAM[job["method"]]
    options = {names[key]: value for key, value in job["settings"].items() if key in names}
    make = getattr(import_module("torchcam.methods"), name)
    x = tensor_image(job)

    def make_run(batch: int | None = None) -> Run:
        batched = {} if batch is None else {"batch_size": batch}
        extractor = make(model, target_layer=job["module"], **options, **batched)
        extractor.disable_hooks()

        def run() -> object:
            extractor.enable_hooks()
            with torch.set_grad_enabled(batch is None):
                maps = extractor(CLASS, model(x))
            extractor.disable_hooks()
            return [saliency.detach().cpu() for saliency in maps]

        return run

    if job["method"] in BATCHED_TORCH_CAM:
        return at_fastest_batch(make_run, job["channels"])
    return make_run()


# pytorch-grad-cam

PYTORCH_GRAD_CAM = {
    "grad-cam": "GradCAM",
    "grad-cam++": "GradCAMPlusPlus",
    "xgrad-cam": "XGradCAM",
    "layer-cam": "LayerCAM",
    "hires-cam": "HiResCAM",
    "elementwise-grad-cam": "GradCAMElementWise",
    "eigen-cam": "EigenCAM",
    "eigen-grad-cam": "EigenGradCAM",
    "kpca-cam": "KPCA_CAM",
    "fem": "FEM",
    "shapley-cam": "ShapleyCAM",
    "full-grad": "FullGrad",
    "score-cam": "ScoreCAM",
    "ablation-cam": "AblationCAM",
}
BATCHED_PYTORCH_GRAD_CAM = ("score-cam", "ablation-cam")


def pytorch_grad_cam(job: dict[str, Any]) -> Run:
    """The same method of pytorch-grad-cam."""
    _, model = torch_and_model(job)
    package = import_module("pytorch_grad_cam")
    if job["method"] == "guided-backprop":
        guided = package.GuidedBackpropReLUModel(model, torch_device(job))
        x = tensor_image(job)
        return lambda: guided(x.detach(), CLASS)
    targets = import_module("pytorch_grad_cam.utils.model_targets")
    layers = [model.get_submodule(job["module"])] if job.get("module") else []
    make = getattr(package, PYTORCH_GRAD_CAM[job["method"]])
    x = tensor_image(job).detach()

    def make_run(batch: int | None = None) -> Run:
        extractor = make(model, layers, reshape_transform=_reshape(job))
        extractor.batch_size = batch
        return lambda: extractor(input_tensor=x, targets=[targets.ClassifierOutputTarget(CLASS)])

    if job["method"] in BATCHED_PYTORCH_GRAD_CAM:
        return at_fastest_batch(make_run, job["channels"])
    return make_run()


def _reshape(job: dict[str, Any]) -> Callable[[Any], Any] | None:
    if job.get("layout", "NCHW") == "NCHW":
        return None
    if job["layout"] == "NHWC":
        return lambda tensor: tensor.permute(0, 3, 1, 2)
    side = int(np.sqrt(job["cells"]))

    def grid(tensor: Any) -> Any:
        cells = tensor[:, tensor.shape[1] - side * side :]
        return cells.reshape(len(cells), side, side, -1).permute(0, 3, 1, 2)

    return grid
