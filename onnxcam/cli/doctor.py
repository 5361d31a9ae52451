"""`onnxcam doctor`"""

from __future__ import annotations

import base64
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from typer import Exit

from onnxcam.cli.errors import WRONG
from onnxcam.cli.options import Json
from onnxcam.cli.output import print_facts, print_json, say
from onnxcam.errors import DeviceError, OnnxcamError, one_line

EPILOG = """\b
Exit code 0 if the self-test passes on the device that `--device auto` takes, else 2.

\b
Examples:
  onnxcam doctor
  onnxcam doctor --json
"""
PACKAGES = ("onnx", "onnx-graphsurgeon", "numpy", "pillow", "typer")
# score = mean(layer^2), layer = 2 x, on a picture of 2 x 2: its gradient at the layer is layer / 2 = x.
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
    """Look at this installation and its devices.

    Told are versions, providers, devices and the cache, and whether a self-test passes. Where a GPU is not used
    it says why, and what would help.
    """
    found = examined()
    if json:
        print_json(found)
    else:
        _tell(found)
    if not found["healthy"]:
        raise Exit(WRONG)


def examined() -> dict[str, Any]:
    """Everything that `onnxcam doctor` says."""
    from onnxcam.explain import cache
    from onnxcam.runtime import telemetry
    from onnxcam.runtime.device import cuda_devices, device
    from onnxcam.runtime.session import open_session, versions

    tested = {name: _tested(name) for name in ("cpu", "cuda")}
    auto = open_session(base64.b64decode(MODEL), device("auto"))
    runtime = versions()
    return {
        "versions": {**_versions(), "onnxruntime": runtime["onnxruntime"]},
        "providers": runtime["providers"].split(", "),
        "cuda_devices": cuda_devices(),
        "devices": list(tested.values()),
        "auto": str(auto.device),
        "cache": {
            "folder": str(cache.folder()),
            "bytes": cache.size(),
            "limit": cache.limit(),
            "problem": cache.problem(),
        },
        "telemetry": telemetry(),
        "notices": list(auto.notices),
        "healthy": tested[auto.device.kind]["passed"],
    }


def _versions() -> dict[str, str]:
    from onnxcam._version import __version__

    found = {"onnxcam": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not found"
    return found


def _tested(name: str) -> dict[str, Any]:
    """The self-test on a device."""
    try:
        right = _is_right(name)
    except DeviceError as fault:
        return {"device": name, "usable": False, "passed": False, "fault": one_line(fault)}
    except OnnxcamError as fault:
        return {"device": name, "usable": True, "passed": False, "fault": one_line(fault)}
    wrong = None if right else "the gradient of the self-test came out wrong"
    return {"device": name, "usable": True, "passed": right, "fault": wrong}


def _is_right(name: str) -> bool:
    """Whether the gradient of the tiny model is what it must be."""
    import numpy as np

    from onnxcam.model.load import load
    from onnxcam.rewrite.gradient import gradient
    from onnxcam.runtime.device import device
    from onnxcam.runtime.session import Session

    chosen = device(name)
    model = gradient(load(base64.b64decode(MODEL)), ["layer"], "score")
    x = np.array([[[[1.0, 2.0], [-3.0, 4.0]]]], np.float32)
    feeds = {"x": x, "seed": np.ones((1, 1), np.float32)}
    (found,) = Session(model.bytes(), chosen).run(["gradient/layer"], feeds)
    return bool(np.allclose(found, x, rtol=1e-3))


def _tell(found: dict[str, Any]) -> None:
    print_facts(list(found["versions"].items()))
    say()
    print_facts(
        [
            ("providers compiled in", ", ".join(found["providers"])),
            ("CUDA devices of the driver", found["cuda_devices"]),
            *((f"self-test on {each['device']}", _said(each)) for each in found["devices"]),
            ("--device auto takes", found["auto"]),
            ("cache", _cache(found["cache"])),
            ("ONNX Runtime telemetry", _telemetry(found["telemetry"])),
            *(("note", each) for each in found["notices"]),
        ]
    )


def _cache(cache: dict[str, Any]) -> str:
    used, limit = (f"{each / 1e6:.0f} MB" for each in (cache["bytes"], cache["limit"]))
    if cache["problem"]:
        return f"{cache['folder']}: not used, because {cache['problem']}; set ONNXCAM_CACHE to another folder"
    return f"{cache['folder']}: {used} of at most {limit}; delete the folder to empty it"


def _telemetry(telemetry: dict[str, Any]) -> str:
    return f"{'off' if telemetry['disabled'] else 'ON'} ({telemetry['setting']})"


def _said(tested: dict[str, Any]) -> str:
    return (
        "passed"
        if tested["passed"]
        else f"{'FAILED' if tested['usable'] else 'no'}: {tested['fault']}"
    )
