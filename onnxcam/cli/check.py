"""`onnxcam check`"""

from __future__ import annotations

from typing import Any

from typer import Exit

from onnxcam.cli.errors import WRONG
from onnxcam.cli.options import Json, ModelFile, ScoreTensor, Size
from onnxcam.cli.output import print_facts, print_json, say, table

EPILOG = """\b
Exit code 0 if the trial run succeeds, else 2. The trial is what `onnxcam explain` does by default, on a
random input.

\b
Examples:
  onnxcam check model.onnx
  onnxcam check model.onnx --size 384,384
  onnxcam check model.onnx --output logits --json
"""


def check(
    model: ModelFile, output: ScoreTensor = None, size: Size = None, json: Json = False
) -> None:
    """Say whether a model can be explained.

    Checks the input and the score, the gradient rule of each operator, the layers that gradients reach, and
    the devices. A trial run on a random input must give finite gradients.
    """
    from onnxcam.cli import parsing as settings
    from onnxcam.diagnostics import checkup
    from onnxcam.runtime.model_validity import blames_invalid_models

    with blames_invalid_models(model):
        found = checkup(model, output, settings.size(size))
    if json:
        print_json(found)
    else:
        _tell(found)
    if not found["explainable"]:
        raise Exit(WRONG)


def _tell(found: dict[str, Any]) -> None:
    print_facts(
        [
            ("model", _model(found["model"])),
            ("input", _input(found["input"])),
            ("score", _score(found["score"])),
            ("layer", _layer(found["layer"], found["layer_smoothed"])),
            ("reach", _reach(found["reach"])),
            *(("device", _device(each)) for each in found["devices"]),
            ("tried", _tried(found["trial"], found["input"])),
            ("trial", _trial(found["trial"])),
            *(("note", each) for each in found["trial"]["notices"]),
        ]
    )
    say()
    operators = found["operators"]
    table(
        ("operator", "count", "rule", "first without"),
        [(row["operator"], row["count"], _rule(row), row["without"]) for row in operators],
    )
    say("", f"{found['model']['name']} {_verdict(found)}")


def _rule(row: dict[str, Any]) -> str:
    """Whether gradients pass through an operator; a flat one stops them, whatever its rule."""
    return "flat" if row["flat"] else "yes" if row["rule"] else "NO"


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
    behind = (
        f", the logits before {score['output_activation']}" if score["output_activation"] else ""
    )
    return f"{score['logits']}: {score['classes']} classes{behind} (output {score['output']})"


def _layer(plain: str | None, smoothed: str | None) -> str:
    """The automatic choices."""
    if smoothed in (None, plain):
        return plain or "no automatic choice"
    return f"{plain}; for methods that smooth {smoothed}"


def _reach(reach: dict[str, Any]) -> str:
    if not reach["layers"]:
        return "no spatial layer is known between the image and the score"
    if reach["explainable"] == reach["layers"]:
        return f"gradients reach all {reach['layers']} layers"
    if not reach["explainable"]:
        return f"gradients reach none of {reach['layers']} layers"
    return (
        f"gradients reach {reach['explainable']} of {reach['layers']} layers, {reach['earliest']} and "
        "those after it"
    )


def _device(device: dict[str, Any]) -> str:
    return f"{device['name']}: {'yes' if device['usable'] else device['fault']}"


def _tried(trial: dict[str, Any], image: dict[str, Any]) -> str:
    """What the trial did, with the option that changes the size."""
    if trial["layer"] is None:
        return "nothing: the model could not be prepared"
    height, width = trial["size"]
    option = " (--size)" if None in (image["height"], image["width"]) else ""
    batch = f"{trial['batch']} at a time" if trial["batch"] else "together"
    more = f" and {len(trial['layers']) - 1} more" if len(trial["layers"]) > 1 else ""
    return (
        f"{trial['method']} at {trial['layer']}{more}, {trial['samples']} noisy copies of a random input of "
        f"{height} x {width} pixels{option}, run {batch} on {trial['device']}"
    )


def _trial(trial: dict[str, Any]) -> str:
    return f"failed: {trial['fault']}" if trial["fault"] else "finite scores and gradients"


def _verdict(found: dict[str, Any]) -> str:
    if found["explainable"]:
        return "can be explained"
    earliest = found["reach"]["earliest"]
    if found["trial"]["layer"] is None and earliest is not None:
        return f"cannot be explained at its automatic layer; try --layer {earliest}"
    return "cannot be explained as it is"
