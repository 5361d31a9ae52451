"""`onnxcam doctor`: check this installation and its devices."""

from __future__ import annotations

import base64
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from typer import Exit

from onnxcam.cli.errors import EXIT_ERROR
from onnxcam.cli.options import Json
from onnxcam.cli.output import print_facts, print_json, say
from onnxcam.errors import DeviceError, OnnxcamError, one_line

EPILOG = """\b
Exit code 0 if the self-test passes on the device that `--device auto` selects, 2 if not.

\b
Examples:
  onnxcam doctor
  onnxcam doctor --json
"""
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


def doctor(json: Json = False) -> None:
    """Check this installation and its devices.

    Reports versions, providers, devices and the cache, and whether a self-test passes. If a GPU is not used,
    the report explains why and how to fix it.
    """
    report = examine()
    if json:
        print_json(report)
    else:
        _print_report(report)
    if not report["healthy"]:
        raise Exit(EXIT_ERROR)


def examine() -> dict[str, Any]:
    """Everything that `onnxcam doctor` reports."""
    from onnxcam.explain import cache
    from onnxcam.runtime import telemetry
    from onnxcam.runtime.device import cuda_device_count, device
    from onnxcam.runtime.session import open_session, versions

    tests = {name: _self_test(name) for name in ("cpu", "cuda")}
    auto = open_session(base64.b64decode(MODEL), device("auto"))
    runtime = versions()
    return {
        "versions": {**_versions(), "onnxruntime": runtime["onnxruntime"]},
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


def _versions() -> dict[str, str]:
    from onnxcam._version import __version__

    versions = {"onnxcam": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not found"
    return versions


def _self_test(name: str) -> dict[str, Any]:
    """The self-test on a device."""
    try:
        passed = _gradient_is_right(name)
    except DeviceError as error:
        return {"device": name, "usable": False, "passed": False, "error": one_line(error)}
    except OnnxcamError as error:
        return {"device": name, "usable": True, "passed": False, "error": one_line(error)}
    problem = None if passed else "the gradient of the self-test is wrong"
    return {"device": name, "usable": True, "passed": passed, "error": problem}


def _gradient_is_right(name: str) -> bool:
    """Whether the gradient of the tiny model is correct."""
    import numpy as np

    from onnxcam.model.load import load
    from onnxcam.rewrite.gradient import gradient
    from onnxcam.runtime.device import device
    from onnxcam.runtime.session import Session

    chosen = device(name)
    model = gradient(load(base64.b64decode(MODEL)), ["layer"], "score")
    x = np.array([[[[1.0, 2.0], [-3.0, 4.0]]]], np.float32)
    feeds = {"x": x, "seed": np.ones((1, 1), np.float32)}
    (computed,) = Session(model.bytes(), chosen).run(["gradient/layer"], feeds)
    return bool(np.allclose(computed, x, rtol=1e-3))


def _print_report(report: dict[str, Any]) -> None:
    print_facts(list(report["versions"].items()))
    say()
    print_facts(
        [
            ("available providers", ", ".join(report["providers"])),
            ("CUDA devices", report["cuda_devices"]),
            *((f"self-test on {test['device']}", _outcome(test)) for test in report["devices"]),
            ("--device auto selects", report["auto"]),
            ("cache", _cache(report["cache"])),
            ("ONNX Runtime telemetry", _telemetry(report["telemetry"])),
            *(("note", notice) for notice in report["notices"]),
        ]
    )


def _cache(cache: dict[str, Any]) -> str:
    used, limit = (f"{size / 1e6:.0f} MB" for size in (cache["bytes"], cache["limit"]))
    if cache["problem"]:
        return f"{cache['folder']}: not used, because {cache['problem']}; set ONNXCAM_CACHE to another folder"
    return f"{cache['folder']}: {used} of at most {limit}; delete the folder to empty it"


def _telemetry(telemetry: dict[str, Any]) -> str:
    return f"{'off' if telemetry['disabled'] else 'ON'} ({telemetry['setting']})"


def _outcome(test: dict[str, Any]) -> str:
    if test["passed"]:
        return "passed"
    return f"{'FAILED' if test['usable'] else 'not available'}: {test['error']}"
