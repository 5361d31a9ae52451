"""Other packages as contestants: the same method of the same network in PyTorch or OpenVINO.

A contestant takes the job and returns what is timed. Where a package runs several samples together, it does so
at the fastest of a few batch sizes. Results are copied to the CPU, which waits for the device, as NumPy arrays
do. Packages are imported when they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from scripts.bench.contestants import Run
from scripts.bench.peers.attributions import (
    CAPTUM,
    OTHER_CAPTUM,
    TUNNELS,
    ZENNIT,
    captum,
    saliency,
    zennit,
)
from scripts.bench.peers.cams import PYTORCH_GRAD_CAM, TORCH_CAM, pytorch_grad_cam, torch_cam
from scripts.bench.peers.perturbations import OPENVINO_XAI, dianna, legrad, lime, openvino_xai


@dataclass(frozen=True)
class Package:
    """What prepares its runs, and the methods of ours that it has."""

    prepare: Callable[[dict[str, Any]], Run]
    methods: Collection[str]


PACKAGES = {
    "torch-cam": Package(torch_cam, TORCH_CAM),
    "pytorch-grad-cam": Package(pytorch_grad_cam, (*PYTORCH_GRAD_CAM, "guided-backprop")),
    "captum": Package(captum, (*CAPTUM, *TUNNELS, *OTHER_CAPTUM)),
    "zennit": Package(zennit, ZENNIT),
    "saliency": Package(saliency, ("guided-ig", "blur-ig")),
    "dianna": Package(dianna, ("rise",)),
    "lime": Package(lime, ("lime",)),
    "openvino-xai": Package(openvino_xai, OPENVINO_XAI),
    "legrad-torch": Package(legrad, ("legrad",)),
}


def packages_with(method: str) -> tuple[str, ...]:
    """The names of the packages that have a method."""
    return tuple(name for name, package in PACKAGES.items() if method in package.methods)
