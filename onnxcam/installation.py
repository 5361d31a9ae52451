"""Check this installation and its devices, for `onnxcam doctor`."""

from __future__ import annotations

import base64
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from onnxcam._version import __version__
from onnxcam.errors import DeviceError, OnnxcamError, one_line
from onnxcam.explain import cache
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import gradient
from onnxcam.runtime import telemetry
from onnxcam.runtime.device import cuda_device_count, find_device, why_no_cuda
from onnxcam.runtime.session import Session, open_session
from onnxcam.runtime.session import versions as runtime_versions

PACKAGES = ("onnx", "onnx-graphsurgeon", "numpy", "pillow", "typer")
# score = mean(layer^2), layer = 2 x, for an image of 2 x 2: its gradient at the layer is layer / 2 = x.
TEXT = """<ir_version: 8, opset_import: ["" : 13]>
tiny (float[1, 1, 2, 2] x) => (float[1, 1] score)
<float[1, 1, 1, 1] w = {2.0}>
{
  layer = Conv(x, w)
  square = Mul(layer, layer)
  mean = GlobalAveragePool(square)
  score = Flatten(mean)
}"""
MODEL = (  # TEXT as a file
    "CAg6xgEKFQoBeAoBdxIFbGF5ZXIiBENvbnY6AAodCgVsYXllcgoFbGF5ZXISBnNxdWFyZSIDTXVsOgAKIwoGc3F1YXJlEgRt"
    "ZWFuIhFHbG9iYWxBdmVyYWdlUG9vbDoAChgKBG1lYW4SBXNjb3JlIgdGbGF0dGVuOgASBHRpbnkqEwgBCAEIAQgBEAEiBAAA"
    "AEBCAXdaGwoBeBIWChQIARIQCgIIAQoCCAEKAggCCgIIAmIXCgVzY29yZRIOCgwIARIICgIIAQoCCAFCBAoAEA0="
)


def examine_installation() -> dict[str, Any]:
    """Everything that `onnxcam doctor` reports."""
    tests = {name: _self_test(name) for name in ("cpu", "cuda")}
    auto = open_session(base64.b64decode(MODEL), find_device("auto"))
    runtime = runtime_versions()
    return {
        "versions": {**_package_versions(), "onnxruntime": runtime["onnxruntime"]},
        "providers": runtime["providers"].split(", "),
        "cuda_devices": cuda_device_count(),
        "devices": list(tests.values()),
        "auto": str(auto.device),
        "cache": {
            "folder": str(cache.folder()),
            "bytes": cache.size(),
            "limit": cache.limit(),
            "problem": cache.problem(),
        },
        "telemetry": telemetry(),
        "notices": list(auto.notices),
        "healthy": tests[auto.device.kind]["passed"],
    }


def _package_versions() -> dict[str, str]:
    versions = {"onnxcam": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not found"
    return versions


def _self_test(name: str) -> dict[str, Any]:
    """The self-test on a device, "cpu" or "cuda"."""
    if name == "cuda" and (problem := why_no_cuda(0)):
        return {"device": name, "usable": False, "passed": False, "error": problem}
    try:
        passed = _computes_right_gradient(name)
    except DeviceError as error:
        return {"device": name, "usable": False, "passed": False, "error": one_line(error)}
    except OnnxcamError as error:
        return {"device": name, "usable": True, "passed": False, "error": one_line(error)}
    error_text = None if passed else "the gradient of the self-test is wrong"
    return {"device": name, "usable": True, "passed": passed, "error": error_text}


def _computes_right_gradient(name: str) -> bool:
    """Whether the gradient of the tiny model is correct."""
    device = find_device(name)
    model = gradient(load(base64.b64decode(MODEL)), ["layer"], "score")
    x = np.array([[[[1.0, 2.0], [-3.0, 4.0]]]], np.float32)
    feeds = {"x": x, "seed": np.ones((1, 1), np.float32)}
    (computed,) = Session(model.bytes(), device).run(["gradient/layer"], feeds)
    return bool(np.allclose(computed, x, rtol=1e-3))
