"""`onnxcam inspect`: tell what an .onnx file is, and what explanation it holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from onnxcam.cli.options import Json, ModelFile
from onnxcam.cli.output import format_bytes, print_facts, print_json, say

EPILOG = """\b
`onnxcam check` tells whether and how a model can be explained; this command only describes the file.

\b
Examples:
  onnxcam inspect explained.onnx
  onnxcam inspect model.onnx --json
"""
SHOWN_LABELS, SHOWN_OPERATORS = 5, 12


def inspect(model: ModelFile, json: Json = False) -> None:
    """Tell what an .onnx file is, and what explanation it holds.

    Of a file that `onnxcam embed` wrote: the method, the layer, the target, the settings, the original model,
    and what its inputs and outputs mean. Of one that `onnxcam augment` wrote: the layers of the gradients. Of
    any other: inputs, outputs, task, labels, how images are prepared, weights, operators, quantization, and
    whether its external data is complete. Weights are not read.
    """
    from onnxcam.inspection import inspect_file

    facts = inspect_file(model)
    if json:
        print_json(facts)
        return
    explanation = facts["explanation"]
    print_facts([*_file_lines(facts), *([] if explanation else _model_lines(facts))])
    if explanation:
        say()
        print_facts(list(_explanation_lines(explanation)))


def _file_lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    opsets = ", ".join(f"{domain} {version}".strip() for domain, version in facts["opsets"].items())
    producer = f", written by {facts['producer']}" if facts["producer"] else ""
    yield "file", f"{facts['name']}: {format_bytes(facts['bytes'])}, opset {opsets}{producer}"
    yield from (("input", _format_value(value)) for value in facts["inputs"])
    yield from (("output", _format_value(value)) for value in facts["outputs"])
    types = ", ".join(f"{name} {format_bytes(n)}" for name, n in facts["weights"].items())
    yield "weights", f"{facts['parameters']:,} parameters; {types or 'no constants'}"
    yield "operators", _format_operators(facts["operators"])
    yield "quantized", facts["quantization"] or "no"
    for file in facts["external_data"]:
        state = file["problem"] or f"{format_bytes(file['bytes'])}, complete"
        yield "data", f"{file['name']}: {state}"


def _model_lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    task, labels, prepared = facts["task"], facts["labels"], facts["preprocessing"]
    if facts["gradients"]:
        layers = ", ".join(facts["gradients"])
        yield "gradients", f"at {layers}; written by `onnxcam augment`, explain the original model"
    else:
        yield "task", f"unknown: {facts['problem']}" if task is None else _format_task(task)
    yield (
        "labels",
        "none" if labels is None else f"{_format_labels(labels['names'])} ({labels['source']})",
    )
    yield (
        "images",
        "the file does not say how they are prepared"
        if prepared is None
        else _format_preprocessing(prepared, prepared["source"]),
    )


def _explanation_lines(explanation: dict[str, Any]) -> Iterator[tuple[str, str]]:
    count = explanation["samples"]
    runs = f"{count} sample{'s' * (count > 1)}" if count else "no samples"
    rounds = f", in {explanation['rounds']} rounds" if explanation["rounds"] > 1 else ""
    yield "method", f"{explanation['method']}: {runs}{rounds}"
    yield "layer", ", ".join(explanation["layers"]) or "none: the map is of the image"
    named = "the class that the input 'target' names; -1: "
    yield "target", f"{named * explanation['takes_target']}{explanation['target']}"
    settings = ", ".join(f"{name}={value}" for name, value in explanation["settings"].items())
    yield "settings", settings or "none"
    prepared = explanation["preprocessing"]
    where = "in the file" if explanation["takes_pixels"] else "by the caller"
    yield (
        "images",
        "prepared by the caller; how is not known"
        if prepared is None
        else _format_preprocessing(prepared, f"prepared {where}"),
    )
    yield "labels", _format_labels(explanation["labels"])
    yield "original", f"{explanation['model_name']}, SHA-256 {explanation['model_sha256']}"
    yield "written by", f"onnxcam {explanation['version']}"


def _format_value(value: dict[str, Any]) -> str:
    """An input or output: its name, dtype and shape, and what it means."""
    sizes = "any shape" if value["shape"] is None else _format_shape(value["shape"])
    meaning = f": {value['meaning']}" if "meaning" in value else ""
    return f"{value['name']} {value['dtype']} {sizes}{meaning}"


def _format_shape(sizes: Sequence[object]) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in sizes)})"


def _format_task(task: dict[str, Any]) -> str:
    tensors = ", ".join(f"{name} {_format_shape(shape)}" for name, shape in task["tensors"].items())
    return (
        f"{task['task']}, because {task['reason']}; {task['classes']} classes in {tensors}; "
        f"activation: {task['activation']}"
    )


def _format_labels(names: Sequence[str] | None) -> str:
    if not names:
        return "none"
    more = ", ..." if len(names) > SHOWN_LABELS else ""
    return f"{len(names)}: {', '.join(names[:SHOWN_LABELS])}{more}"


def _format_preprocessing(settings: dict[str, Any], source: str) -> str:
    listed = (f"{name} {_format_setting(settings[name])}" for name in ("scale", "mean", "std"))
    size = settings["size"]
    pixels = f", {size[0]} x {size[1]} pixels" if size else ""
    return f"{settings['fit']}, {', '.join(listed)}, {settings['order']}{pixels} ({source})"


def _format_setting(value: object) -> str:
    numbers = value if isinstance(value, list) else [value]
    return " ".join(f"{number:g}" for number in numbers)


def _format_operators(operators: dict[str, int]) -> str:
    rows = [f"{name} {count}" for name, count in operators.items()]
    more = len(rows) - SHOWN_OPERATORS
    rest = [f"and {more} more kinds"] if more > 0 else []
    return ", ".join([*rows[:SHOWN_OPERATORS], *rest])
