"""`onnxcam check`: check whether a model can be explained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer import Exit

from onnxcam.cli.errors import EXIT_ERROR
from onnxcam.cli.options import (
    HeadText,
    InputValues,
    Json,
    Labels,
    ModelFile,
    Photo,
    ScoreTensor,
    Size,
    TaskName,
)
from onnxcam.cli.output import print_facts, print_json, print_table, say

EPILOG = """\b
The trial run is what `onnxcam explain` does by default, on a random input. Exit code 0 if it succeeds,
2 if not.

\b
Examples:
  onnxcam check model.onnx
  onnxcam check model.onnx cat.jpg
  onnxcam check model.onnx --size 384,384
  onnxcam check model.onnx --output logits --json
"""


def check(
    model: ModelFile,
    photo: Photo = None,
    labels: Labels = None,
    output: ScoreTensor = None,
    task: TaskName = None,
    head: HeadText = None,
    inputs: InputValues = None,
    size: Size = None,
    json: Json = False,
) -> None:
    """Check whether a model can be explained.

    Reports the input, the score, the layers that gradients reach, the devices, and the gradient rule of
    each operator. A trial run on a random input must give finite gradients. Where gradients do not pass, the
    methods that need none are named.

    With an IMAGE, the best answers of the model under each plausible preprocessing are listed: the one that
    names what is there is likely the right one.
    """
    from onnxcam.cli.parsing import parse_inputs, parse_size
    from onnxcam.diagnostics import checkup
    from onnxcam.runtime.model_validity import blames_invalid_models

    with blames_invalid_models(model):
        report = checkup(
            model,
            output,
            parse_size(size),
            parse_inputs(inputs or []),
            photo,
            labels or "auto",
            task=task,
            head=head,
        )
    if json:
        print_json(report)
    else:
        _print_report(report)
    if not report["explainable"]:
        raise Exit(EXIT_ERROR)


def _print_report(report: dict[str, Any]) -> None:
    print_facts(
        [
            ("model", _format_model(report["model"])),
            ("input", _format_input(report["input"])),
            *(("value", _format_value(*pair)) for pair in report["values"].items()),
            ("score", _format_score(report["score"])),
            *(("outputs", line) for line in _format_outputs(report["outputs"])),
            ("layer", _format_layer(report["layer"], report["layer_smoothed"])),
            ("reach", _format_reach(report["reach"])),
            *(("device", _format_device(device)) for device in report["devices"]),
            ("tried", _describe_trial(report["trial"], report["input"])),
            ("trial", _format_trial_outcome(report["trial"])),
            *(("note", notice) for notice in report["trial"]["notices"]),
        ]
    )
    say()
    operators = report["operators"]
    print_table(
        ("operator", "count", "rule", "first node without a rule"),
        [(row["operator"], row["count"], _rule_mark(row), row["without"]) for row in operators],
    )
    if "presets" in report:
        _print_presets(report)
    say("", f"{report['model']['name']} {_format_verdict(report)}")


def _print_presets(report: dict[str, Any]) -> None:
    say(
        "",
        f"What the model says about {report['photo']} (*: how `onnxcam explain` prepares it):",
        "",
    )
    rows = [
        (
            "*" if preset["is_default"] else "",
            preset["options"],
            "" if preset["confidence"] is None else f"{preset['confidence']:.3f}",
            preset["error"] or ", ".join(map(_format_answer, preset["answers"])) or "nothing",
        )
        for preset in report["presets"]
    ]
    print_table(("", "prepared by", "confidence", "best answers"), rows)
    for notice in report["preset_notices"]:
        say(f"note: {notice}")


def _format_answer(answer: dict[str, Any]) -> str:
    name = answer["name"].partition(",")[0]  # of synonyms, as ImageNet has them, the first
    known = answer["probability"]
    return f"{name} {answer['score'] if known is None else known:.3g}"


def _rule_mark(row: dict[str, Any]) -> str:
    """Whether gradients pass through an operator; a flat one stops them, whatever its rule."""
    return "flat" if row["flat"] else "yes" if row["rule"] else "NO"


def _format_model(model: dict[str, Any]) -> str:
    return (
        f"{model['name']}: opset {model['opset']}, IR {model['ir_version']}, {model['nodes']} nodes"
    )


def _format_input(image: dict[str, Any]) -> str:
    sides = [image["height"], image["width"]]
    size = (
        f"{' x '.join(str(side or 'any') for side in sides)} pixels" if any(sides) else "any size"
    )
    channels = image["channels"] or "any number of"
    return (
        f"{image['name']}: {image['layout']}, {channels} channels of {size}, {image['dtype']}, "
        f"batch {image['batch'] or 'any'}"
    )


def _format_value(name: str, value: dict[str, Any]) -> str:
    """An input that was given, with its numbers if they are few."""
    from onnxcam.model.input_values import type_text

    numbers = f" {value['values']}" if "values" in value else ""
    return f"{name}:{numbers} ({type_text(value['dtype'], value['shape'])})"


def _format_score(score: dict[str, Any]) -> str:
    before = (
        f", the logits before {score['output_activation']}" if score["output_activation"] else ""
    )
    return f"{score['logits']}: {score['classes']} classes{before} (output {score['output']})"


def _format_outputs(outputs: dict[str, Any]) -> Iterator[str]:
    """What the outputs are taken for."""
    yield f"{outputs['task']}, because {outputs['reason']}; by default, {outputs['target']}"
    tensors = ", ".join(f"{name} {shape}" for name, shape in outputs["tensors"].items())
    axis, columns = outputs["class_axis"], outputs["columns"]
    numbers = f", numbers {columns[0]} to {columns[1] - 1}" if columns else ""
    along = "" if axis is None else f" along axis {axis}{numbers}"
    batch = outputs["batch_axis"]
    images = "one image" if batch is None else f"images along axis {batch}"
    yield f"{tensors}: {images}, {outputs['classes']} classes{along}; activation: {outputs['activation']}"
    if outputs["objectness"] is not None:
        yield f"times the objectness, {outputs['objectness']}"
    if outputs["nothing"] is not None:
        yield f"class {outputs['nothing']['class']} is the {outputs['nothing']['name']}"


def _format_layer(plain: str | None, smoothed: str | None) -> str:
    """The automatic choices."""
    if smoothed in (None, plain):
        return plain or "no automatic choice"
    return f"{plain}; for methods that smooth: {smoothed}"


def _format_reach(reach: dict[str, Any]) -> str:
    count = reach["layers"]
    if not count:
        return "no spatial layer between the image and the score"
    if reach["explainable"] == count:
        return "gradients reach " + ("the only layer" if count == 1 else f"all {count} layers")
    if not reach["explainable"]:
        return (
            "gradients do not reach the only layer"
            if count == 1
            else f"gradients reach none of {count} layers"
        )
    return (
        f"gradients reach {reach['explainable']} of {count} layers, {reach['earliest']} and "
        "those after it"
    )


def _format_device(device: dict[str, Any]) -> str:
    return f"{device['name']}: {'available' if device['usable'] else device['error']}"


def _describe_trial(trial: dict[str, Any], image: dict[str, Any]) -> str:
    """What the trial did, with the option that changes the size."""
    if trial["layer"] is None:
        return "nothing, because the model could not be rewritten"
    height, width = trial["size"]
    option = " (--size)" if None in (image["height"], image["width"]) else ""
    batch = f"{trial['batch']} at a time" if trial["batch"] else "together"
    others = f" and {len(trial['layers']) - 1} more" if len(trial["layers"]) > 1 else ""
    return (
        f"{trial['method']} at {trial['layer']}{others}, {trial['samples']} noisy copies of a random input of "
        f"{height} x {width} pixels{option}, run {batch} on {trial['device']}"
    )


def _format_trial_outcome(trial: dict[str, Any]) -> str:
    return f"failed: {trial['error']}" if trial["error"] else "finite scores and gradients"


def _format_verdict(report: dict[str, Any]) -> str:
    if report["explainable"]:
        return "can be explained"
    reach = report["reach"]
    another_may_work = report["layer"] is None or reach["explainable"] < reach["layers"]
    names = ", ".join(report["without_gradient"])
    if report["trial"]["layer"] is None and reach["earliest"] is not None and another_may_work:
        alternative = f", or a --method that needs no gradient: {names}" if names else ""
        return f"cannot be explained at its automatic layer; try --layer {reach['earliest']}{alternative}"
    if names:
        return f"cannot be explained by gradients; try a --method that needs none: {names}"
    return "cannot be explained as it is"
