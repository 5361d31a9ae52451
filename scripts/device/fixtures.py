"""The fixtures of the device check, in a process of its own: gradients and maps on a device and on the CPU.

    python -m scripts.device.fixtures cuda timm_test_resnet_script qlinear

Prints a line of JSON for each. For a model that the device cannot run, `passed` is null and `error` says why.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.bench.contestants import load_cuda_libraries, peak_memory
from scripts.fixtures.files import COTANGENT, DATA, IMAGE, load_fixture

BUNDLED = "bundled"  # the model that comes with onnxcam
METHODS: dict[str, dict[str, Any]] = {"grad-cam": {}, "smooth-grad-cam++": {"samples": 8}}
# The largest difference from the CPU divided by the largest value: rounding errors in float32, in TF32's eleven
# bits, in half precision; and of a quantizer, where rounding may change a value by a step.
LIMITS = {"float32": 1e-3, "tf32": 5e-2, "half": 5e-2, "quantized": 5e-2}
COPIES = ("MemcpyFromHost", "MemcpyToHost")
MB = 1 << 20


def names() -> list[str]:
    """Every fixture, the bundled model first."""
    return [BUNDLED, *sorted(path.stem for path in DATA.glob("*.npz"))]


def check(name: str, device: str) -> dict[str, Any]:
    """One fixture on one device."""
    import onnxcam

    proto = _load_proto(name)
    kind = _kind(proto)
    limit = max(LIMITS[kind], LIMITS["tf32"] if device.endswith("+tf32") else 0.0)
    row: dict[str, Any] = {"check": "fixture", "device": device, "fixture": name, "kind": kind}
    row |= {"limit": limit, "error": None}
    try:
        model = onnxcam.load(proto)
        golden = _expected_arrays(name, model)
        layer = next((layer.name for layer in onnxcam.layers(model) if layer.automatic), None)
        row |= {"layer": layer} | _gradients(model, golden, layer, device)
        if layer is not None:
            row["maps"] = _map_errors(model, golden["x"][:1], device)
    except ArithmeticError as error:
        return row | {"error": str(error), "passed": False}
    except Exception as error:  # noqa: BLE001  any failure is the result
        row["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    row["passed"] = None if row["error"] else max(_errors(row)) <= limit
    return row


def _errors(row: Mapping[str, Any]) -> list[float]:
    named = [row[name] for name in ("scores", "gradient", "framework") if row.get(name) is not None]
    return [*named, *row.get("maps", {}).values()]


def _load_proto(name: str) -> Any:
    import onnx

    from onnxcam.bundled import bundled_model

    return onnx.load(bundled_model()) if name == BUNDLED else load_fixture(DATA / f"{name}.onnx")


def _kind(model: Any) -> str:
    from onnx import TensorProto

    if any("Quantize" in node.op_type or "QLinear" in node.op_type for node in model.graph.node):
        return "quantized"
    halves = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
    return (
        "half"
        if any(tensor.data_type in halves for tensor in model.graph.initializer)
        else "float32"
    )


def _expected_arrays(name: str, model: Any) -> dict[str, Any]:
    """Input, cotangent, and, if stored, the gradient from the framework that the fixture comes from."""
    image, score = model.graph.inputs[0], model.graph.outputs[0]
    if name == BUNDLED:
        draw = np.random.default_rng(0)
        x = draw.standard_normal((2, *image.shape[1:]), dtype=np.float32)
        return {"x": x, "cotangent": draw.standard_normal((2, *score.shape[1:]), dtype=np.float32)}
    stored = dict(np.load(DATA / f"{name}.npz"))
    golden = {"x": IMAGE.values(), "cotangent": COTANGENT.values(), **stored}
    return golden | {"x": golden["x"].astype(image.dtype)}


def _gradients(
    model: Any, golden: Mapping[str, Any], layer: str | None, device: str
) -> dict[str, Any]:
    """Errors of the scores and of the gradients at the input and the layer, and where the nodes ran."""
    import onnxcam

    image, score = model.graph.inputs[0].name, model.graph.outputs[0].name
    wrt = [image] if layer is None else [image, layer]
    augmented = onnxcam.gradient(model, wrt, score)
    feeds = {image: golden["x"], "seed": golden["cotangent"]}
    outputs = [score, *(f"gradient/{tensor}" for tensor in wrt)]
    tested, nodes = _run(augmented.bytes(), outputs, feeds, device)
    row: dict[str, Any] = {"framework": None, **nodes}
    if "gradient" in golden:
        row["framework"] = relative_error(tested[1], golden["gradient"])
    try:
        expected, _ = _run(augmented.bytes(), outputs, feeds, "cpu")
    except Exception as error:
        if row["framework"] is None:
            raise
        return row | {"scores": None, "gradient": None, "note": f"not on the CPU: {error}"[:200]}
    pairs = list(zip(tested, expected, strict=True))
    gradients = [relative_error(*pair) for pair in pairs[1:]]
    return row | {"scores": relative_error(*pairs[0]), "gradient": max(gradients)}


def _map_errors(model: Any, x: Any, device: str) -> dict[str, float]:
    """The error of the map of each method."""
    import onnxcam

    errors = {}
    for method, settings in METHODS.items():
        tested, expected = (
            onnxcam.Explainer(model, method, device=where, cache=False, **settings)(x, 0).maps
            for where in (device, "cpu")
        )
        errors[method] = relative_error(tested, expected)
    return errors


def _run(
    content: bytes, outputs: Sequence[str], feeds: Mapping[str, Any], device: str
) -> tuple[list[Any], dict[str, Any]]:
    """The outputs, and where each node ran."""
    import onnxruntime

    from onnxcam.runtime.device import find_device

    providers = find_device(device).providers
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(content, options, providers=providers)
        if len(session.get_providers()) < len(providers):
            raise RuntimeError(f"ONNX Runtime fell back to {', '.join(session.get_providers())}")
        results = session.run(list(outputs), dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text())
    return results, count_placements(events, "CUDAExecutionProvider" if len(providers) > 1 else "")


def count_placements(events: Sequence[Mapping[str, Any]], expected: str) -> dict[str, Any]:
    """From a profile: how many nodes ran, which of them not on the expected provider ("": any will do), and
    which only copy between host and device.
    """
    ran = [
        event["args"]
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    ]
    copies = Counter(args["op_name"] for args in ran if args["op_name"] in COPIES)
    others = Counter(
        args["op_name"]
        for args in ran
        if expected and args["provider"] != expected and args["op_name"] not in COPIES
    )
    return {"nodes": len(ran), "fell_back": dict(others), "copies": dict(copies)}


def relative_error(tested: Any, expected: Any) -> float:
    """The largest difference divided by the largest expected value. ArithmeticError for arrays that cannot be
    compared.
    """
    tested, expected = (np.asarray(array, np.float64) for array in (tested, expected))
    if tested.shape != expected.shape:
        raise ArithmeticError(f"a result of shape {tested.shape}, not {expected.shape}")
    if not np.isfinite(tested).all():
        raise ArithmeticError("a result that is not finite")
    return float(np.abs(tested - expected).max() / (np.abs(expected).max() or 1.0))


def main(device: str, chosen: Sequence[str]) -> None:
    if device.startswith("cuda"):
        load_cuda_libraries()
    for name in chosen:
        print(json.dumps(check(name, device)), flush=True)
    peak = peak_memory("cuda" if device.startswith("cuda") else "cpu") / MB
    row = {"check": "memory", "device": device, "of": "fixtures"}
    print(json.dumps(row | {"mb": None if math.isnan(peak) else peak}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
