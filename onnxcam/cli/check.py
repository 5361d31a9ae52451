"""`onnxcam check`"""

from __future__ import annotations

from typing import Any

from typer import Exit

from onnxcam.cli.options import Json, ModelFile, ScoreTensor
from onnxcam.cli.plain import WRONG
from onnxcam.cli.said import as_json, facts, say, table

EPILOG = """\b
Exit code 0 if the model can be explained at its automatic layer, else 2.

\b
Examples:
  onnxcam check model.onnx
  onnxcam check model.onnx --output logits --json
"""


def check(model: ModelFile, output: ScoreTensor = None, json: Json = False) -> None:
    """Say whether a model can be explained.

    Looked at are its input and its score, whether there is a gradient rule for each operator, the layers
    within reach, the devices, and whether a trial run gives finite gradients.
    """
    from onnxcam.cli.checkup import checkup

    found = checkup(model, output)
    if json:
        as_json(found)
    else:
        _tell(found)
    if not found["explainable"]:
        raise Exit(WRONG)


def _tell(found: dict[str, Any]) -> None:
    facts(
        [
            ("model", _model(found["model"])),
            ("input", _input(found["input"])),
            ("score", _score(found["score"])),
            ("layer", found["layer"] or "no automatic choice"),
            ("reach", _reach(found["reach"])),
            *(("device", _device(each)) for each in found["devices"]),
            ("trial", _trial(found["trial"])),
            *(("note", each) for each in found["trial"]["notices"]),
        ]
    )
    say()
    operators = found["operators"]
    table(
        ("operator", "count", "rule", "first without"),
        [
            (each["operator"], each["count"], "yes" if each["rule"] else "NO", each["without"])
            for each in operators
        ],
    )
    verdict = "can be explained" if found["explainable"] else "cannot be explained as it is"
    say("", f"{found['model']['name']} {verdict}")


def _model(model: dict[str, Any]) -> str:
    return (
        f"{model['name']}: opset {model['opset']}, IR {model['ir_version']}, {model['nodes']} nodes"
    )


def _input(image: dict[str, Any]) -> str:
    size = " x ".join(str(image[each] or "any") for each in ("height", "width"))
    batch = image["batch"] or "any"
    return (
        f"{image['name']}: {image['layout']}, {image['channels'] or 'any'} channels of {size} pixels, "
        f"{image['dtype']}, batch {batch}"
    )


def _score(score: dict[str, Any]) -> str:
    behind = f", the logits before {score['squashing']}" if score["squashing"] else ""
    return f"{score['logits']}: {score['classes']} classes{behind} (output {score['output']})"


def _reach(reach: dict[str, Any]) -> str:
    if not reach["layers"]:
        return "no spatial layer between the picture and the score"
    if reach["explainable"] == reach["layers"]:
        return f"all {reach['layers']} layers"
    if not reach["explainable"]:
        return f"none of {reach['layers']} layers"
    return f"{reach['explainable']} of {reach['layers']} layers, {reach['earliest']} and those behind it"


def _device(device: dict[str, Any]) -> str:
    return f"{device['name']}: {'yes' if device['usable'] else device['fault']}"


def _trial(trial: dict[str, Any]) -> str:
    if trial["fault"]:
        return f"failed: {trial['fault']}"
    return f"finite gradients at {trial['layer']} on {trial['device']}"
