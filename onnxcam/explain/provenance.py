"""What all explanations of an explainer have in common: the part of the manifest that repeats them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxcam._version import __version__
from onnxcam.image.preprocess import Preprocessing, to_dict
from onnxcam.methods import Method
from onnxcam.methods.settings import settings_to_json
from onnxcam.methods.subset import Subset
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import versions
from onnxcam.specs import Plan


def describe(
    plan: Plan,
    method: Method,
    *,
    model: str | None,
    settings: Mapping[str, Any],
    score: Mapping[str, Any],
    labels: str | None,
    subset: Subset,
    fuse: str,
    preprocessing: Preprocessing,
    files: Mapping[str, str],
    device: Device,
) -> dict[str, Any]:
    """The model, the method, and all that was chosen, as JSON values; `model` and `labels` are paths,
    `files` the digests of files beside the model that were used.
    """
    data = {"external_data": plan.data} if plan.data else {}
    task = {"task": plan.dense.task} if plan.dense else {}
    return {
        "model": {"name": plan.name, "source": model, "sha256": plan.digest, **data},
        "inputs": {bound.name: bound.to_json() for bound in plan.inputs},
        "method": {"name": method.name, "settings": settings_to_json(settings)},
        "score": {**score, **task, "tensor": plan.explained_tensor},
        "labels": labels,
        "subset": subset.to_json(),
        "fuse": fuse,
        "preprocessing": to_dict(preprocessing),
        **({"described_by": dict(files)} if files else {}),
        "device": str(device),
        "versions": {"onnxcam": __version__, **versions()},
    }
