"""The options of all commands that open an `Explainer`, in one place."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from onnxcam.cli.option_group import Command, options_of
from onnxcam.cli.options import (
    Chunk,
    DeviceName,
    Fit,
    HeadText,
    InputValues,
    Labels,
    Mean,
    NoCache,
    Order,
    Pad,
    Preprocess,
    Scale,
    ScoreKind,
    ScoreTensor,
    Size,
    Std,
    TaskName,
)

PARAMETER = "arguments"  # of a command, in whose place the options stand


def explainer_options_without(*missing: str) -> Callable[[Command], Command]:
    """A decorator that puts the options of an `Explainer`, but for the `missing` ones, in the place of a
    command's parameter `arguments`, which gets the arguments that they stand for.
    """
    missing_arguments = {name.removeprefix("no_") for name in missing}  # --no-cache: `cache`

    def group(**options: Any) -> dict[str, Any]:
        arguments = _arguments(**options)
        return {name: value for name, value in arguments.items() if name not in missing_arguments}

    group.__signature__ = inspect.signature(_arguments, eval_str=True)  # type: ignore[attr-defined]
    return options_of(group, PARAMETER, missing)


def _arguments(
    labels: Labels = None,
    score: ScoreKind = "logit",
    output: ScoreTensor = None,
    task: TaskName = None,
    head: HeadText = None,
    inputs: InputValues = None,
    preprocess: Preprocess = "auto",
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    scale: Scale = None,
    order: Order = None,
    fit: Fit = None,
    pad: Pad = None,
    device: DeviceName = "auto",
    chunk: Chunk = None,
    no_cache: NoCache = False,
) -> dict[str, Any]:
    """The arguments of an `Explainer`. SettingError and ImageError for texts that are none."""
    from onnxcam.cli import parsing

    return {
        "labels": labels or "auto",
        "score": score,
        "output": output,
        "task": task,
        "head": head,
        "inputs": parsing.parse_inputs(inputs or []),
        "preprocess": preprocess,
        "pixels": parsing.pixel_settings(scale, order, fit, size, mean, std, pad),
        "device": device,
        "chunk": chunk,
        "cache": not no_cache,
    }


explainer_options = explainer_options_without()
