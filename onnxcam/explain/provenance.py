"""What all explanations of an explainer have in common: the part of the manifest that repeats them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnxcam._version import __version__
from onnxcam.explain.arguments import path_text
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
    arguments: Mapping[str, Any],
    *,
    settings: Mapping[str, Any],
    subset: Subset,
    preprocessing: Preprocessing,
    files: Mapping[str, str],
    device: Device,
) -> dict[str, Any]:
    """The model, the method, and all that was chosen, as JSON values; `arguments` are those of the explainer,
    `files` the digests of files beside the model that were used.
    """
    data = {"external_data": plan.data} if plan.data else {}
    task = {"task": plan.task} if plan.task else {}
    return {
        "model": {
            "name": plan.name,
            "source": path_text(arguments["model"]),
            "sha256": plan.digest,
            **data,
            **task,
        },
        "inputs": {bound.name: bound.to_json() for bound in plan.inputs},
        "method": {"name": method.name, "settings": settings_to_json(settings)},
        "score": {
            "kind": arguments["score"],
            **{name: arguments[name] for name in ("output", "task", "head")},
            "tensor": plan.explained_tensor,
        },
        "labels": path_text(arguments["labels"]),
        "subset": subset.to_json(),
        "fuse": arguments["fuse"],
        "preprocessing": to_dict(preprocessing),
        **({"described_by": dict(files)} if files else {}),
        "device": str(device),
        "versions": {"onnxcam": __version__, **versions()},
    }
