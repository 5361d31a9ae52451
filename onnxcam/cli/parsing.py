"""Parse the text of options into the settings of an explainer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxcam.errors import ImageError, SettingError, first_line


def method_settings(
    method: str, assignments: Sequence[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings in NAME=VALUE assignments and those with an option of their own, checked.

    Raises UnknownNameError for the method, SettingError for a setting.
    """
    from onnxcam.methods import choose_method

    settings = assigned_settings(assignments, options)
    chosen, own = choose_method(method, settings)
    chosen.resolve_settings(own)
    return settings


def assigned_settings(assignments: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in NAME=VALUE assignments and those with an option of their own. SettingError for other
    text, and for one that is set twice.
    """
    settings = {name: value for name, value in options.items() if value is not None}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not (equals and name.strip()):
            raise SettingError(f"--set {assignment!r}: expected NAME=VALUE, like samples=50")
        if name.strip() in settings:
            raise SettingError(f"--set {assignment!r}: {name.strip()} is set twice")
        settings[name.strip()] = value.strip()
    return settings


def score_kind(option: str, setting: str | None) -> str:
    """The score kind of `--score` or `--set score=...`. SettingError if both are set."""
    if setting is not None and option != "logit":
        raise SettingError(f"--score {option} and --set score={setting}: set only one of them")
    return setting or option


def pixel_settings(
    scale: float | None,
    order: str | None,
    fit: str | None,
    size: str | None,
    mean: str | None,
    std: str | None,
    pad: str | None,
) -> dict[str, Any]:
    """Settings of the preprocessing, None for those that do not change. SettingError for other text."""
    return {
        "scale": scale,
        "order": order,
        "fit": fit,
        "size": parse_size(size),
        "mean": parse_numbers("--mean", mean),
        "std": parse_numbers("--std", std),
        "pad": parse_numbers("--pad", pad),
    }


def parse_numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """The numbers in "0.5" or "0.485,0.456,0.406". SettingError for other text."""
    if text is None:
        return None
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise SettingError(
            f"{option} {text!r}: expected a number, or one per channel, like 0.485,0.456,0.406"
        ) from None


def parse_inputs(assignments: Sequence[str]) -> dict[str, Any]:
    """The values of inputs, by name, in "NAME=NUMBERS" and "NAME=FILE": arrays, and the paths of images.
    SettingError for other text.

    Numbers hold no "=", so the last one ends the name; a path may, so the first one does.
    """
    inputs: dict[str, Any] = {}
    for assignment in assignments:
        is_file = _names_file(assignment)
        name, equals, text = assignment.partition("=") if is_file else assignment.rpartition("=")
        option = f"--input {assignment!r}"
        if not (equals and name):
            raise SettingError(
                f"{option}: expected NAME=VALUES, like sizes=640,480, mask=mask.npy or template=dog.jpg"
            )
        if name in inputs:
            raise SettingError(f"{option}: {name} is set twice")
        inputs[name] = _read_file(option, text) if is_file else _parse_rows(option, text)
    return inputs


def _names_file(text: str) -> bool:
    """Whether an assignment ends with the name of an array or an image; ".5e3" is the end of a number."""
    if not re.search(r"\.[a-z][^./\\]*$", text, re.IGNORECASE):
        return False
    from onnxcam.image.read import readable_suffixes
    from onnxcam.image.read_array import file_of, is_array_file

    return is_array_file(text) or file_of(text).suffix.lower() in readable_suffixes()


def _read_file(option: str, path: str) -> Any:
    """The array in a file, or the path of an image."""
    from onnxcam.image.read_array import file_of, is_array_file, read_array_file

    if not is_array_file(path):
        return Path(path)
    if file_of(path).suffix.lower() == ".npy":
        return _read_array(option, path)
    try:
        return read_array_file(path)
    except ImageError as error:
        raise SettingError(f"{option}: {error}") from error


def _parse_rows(option: str, text: str) -> Any:
    """A number, a list of numbers, or a list of rows."""
    try:
        rows = [[_parse_number(number) for number in row.split(",")] for row in text.split(";")]
    except ValueError:
        raise SettingError(
            f"{option}: expected numbers, true or false, like 640,480 (rows end with ;), FILE.npy, or an image"
        ) from None
    if len({len(row) for row in rows}) > 1:
        raise SettingError(f"{option}: its rows have different numbers of values")
    if len(rows) > 1:
        return rows
    return rows[0] if len(rows[0]) > 1 else rows[0][0]


def _parse_number(text: str) -> float | int | bool:
    text = text.strip().lower()
    if text in ("true", "false"):
        return text == "true"
    return int(text) if re.fullmatch(r"[+-]?[0-9]+", text) else float(text)


def _read_array(option: str, path: str) -> Any:
    """The array in a .npy file. Pickled objects, which could run code, are refused."""
    import numpy as np

    from onnxcam.regular_files import open_regular

    try:
        with open_regular(path) as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise SettingError(
            f"{option}: {path} cannot be read ({reason}); write it with numpy.save"
        ) from error


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Height and width in "224,320" or "224x320". SettingError for other text."""
    if text is None:
        return None
    sides = re.fullmatch(r"\s*(\d+)\s*[,x]\s*(\d+)\s*", text)
    if not sides:
        raise SettingError(f"--size {text!r}: expected height,width in pixels, like 224,320")
    return int(sides[1]), int(sides[2])
