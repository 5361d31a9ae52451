"""The names of a model's classes: from a file, from its metadata, or from Python objects.
`label_fit.py` matches them to the classes.

Nothing in them is executed. Ambiguous text is not read at all.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

from onnxcam.errors import SettingError
from onnxcam.image.label_tables import names_in_csv, names_in_yaml
from onnxcam.regular_files import open_regular

# Keys of names in the metadata of models, in config.json of Hugging Face and timm, and in data.yaml.
NAME_KEYS = (
    "names",
    "id2label",
    "labels",
    "class_names",
    "label_names",
    "classes",
    "class_to_idx",
    "label2id",
)
_EXPECTED = (
    "expected one name per line, a JSON list or object, id2label of a config.json, class_to_idx, "
    "names of a data.yaml, or a CSV file with a name in each row"
)
_LONGEST_TEXT = 4_000_000  # characters
_LARGEST_LABEL = 100_000
_INDEX = re.compile(r"\s*\d{1,6}\s*", re.ASCII)
_NUMBERED = re.compile(r"(\d{1,6})(?:\s*[:,\t]\s*|\s+)(\S.*)")


def metadata_labels(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """The names of the classes in a model's `metadata_props`, in order of class, or None.

    A key of `NAME_KEYS` may hold a JSON list or object, a Python list or dict (as exporters of
    detectors write it), or one name per line. A single word or number is not a list of names.
    """
    texts = (metadata[key].strip() for key in NAME_KEYS if key in metadata)
    parsed = (_parse(text) for text in texts if text[:1] in tuple("[{(") or "\n" in text)
    return next((names for names in parsed if names), None)


def read_labels(path: str | Path) -> tuple[str, ...]:
    """The labels in a UTF-8 file, in order of class.

    One per line (the first is class 0; blank lines at the end are dropped, any other is a class
    without a name), JSON or YAML (a list, index to name, or name to index, also under a key of
    `NAME_KEYS`), or CSV with or without a heading.

    Raises:
        SettingError: The file cannot be read, is not UTF-8, or holds no labels.
    """
    try:
        with open_regular(path) as stream:
            content = stream.read(4 * _LONGEST_TEXT + 1)
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingError(f"{path}: the labels are not UTF-8 text; save them as UTF-8") from error
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise SettingError(
            f"{path}: the labels cannot be read ({cause}); check the path"
        ) from error
    try:
        names = _parse(text, Path(path).suffix.lower())
    except ValueError as error:
        raise SettingError(f"{path}: holds no labels: {error}; {_EXPECTED}") from error
    if not names:
        raise SettingError(f"{path}: holds no labels; {_EXPECTED}")
    return names


def check_labels(labels: Any) -> tuple[str, ...]:
    """The names in a sequence, a mapping of index to name, or of name to index. SettingError for others."""
    if isinstance(labels, Iterable) and not isinstance(labels, Mapping | Set | str | bytes):
        labels = list(labels)
    names = _names_in(labels)
    if names is None:
        raise SettingError(
            f"labels of type {type(labels).__name__}: expected a name for each class, or a mapping of index "
            "to name or of name to index"
        )
    return names


def _parse(text: str, suffix: str = "") -> tuple[str, ...] | None:
    lines, text = re.split(r"\r\n|\r|\n", text.rstrip()), text.strip()
    if not text or len(text) > _LONGEST_TEXT:
        return None
    if suffix in (".yaml", ".yml"):
        return _names_in(names_in_yaml(text, NAME_KEYS))
    if suffix in (".csv", ".tsv"):
        return _names_in(names_in_csv(text, suffix))
    if text[0] not in "[{(":
        return _names_on_lines([line.strip() for line in lines])
    return _names_in(_parse_literal(text))


def _names_on_lines(lines: list[str]) -> tuple[str, ...]:
    """The name on each line; sorted by number if all lines begin with one, from 0 and without gaps."""
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    by_index = {int(match[1]): match[2] for match in numbered if match}
    if len(lines) > 1 and sorted(by_index) == list(range(len(lines))):
        return tuple(by_index[index] for index in range(len(lines)))
    return tuple(lines)


def _parse_literal(text: str) -> Any:
    """The JSON or Python literal in `text`, or None."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return None


def _names_in(value: Any) -> tuple[str, ...] | None:
    """The names in a sequence or mapping, or in what a mapping holds under a key of `NAME_KEYS`."""
    if isinstance(value, Mapping):
        nested = (value[key] for key in NAME_KEYS if key in value)
        value = next((inner for inner in nested if isinstance(inner, list | tuple | dict)), value)
    if isinstance(value, Mapping):
        return _sort_by_index(value)
    return _to_texts(value) if isinstance(value, list | tuple) else None


def _sort_by_index(mapping: Mapping[Any, Any]) -> tuple[str, ...] | None:
    """The names in order of their index; an index without a name is named by itself.

    The indices are the values if these count from 0 and the keys are text (`class_to_idx`, whose names
    may be numbers), else the keys. None if both may be indices and disagree.
    """
    to_name, to_index = (
        _key_by_index(mapping.items()),
        _key_by_index((i, name) for name, i in mapping.items()),
    )
    values_are_integers = all(type(index) is int for index in mapping.values())
    if to_name and to_index and values_are_integers:
        counts_from_zero = sorted(to_index) == list(range(len(to_index)))
        if counts_from_zero and all(isinstance(name, str) for name in mapping):
            to_name = None
        elif sorted(to_name) == list(range(len(to_name))) and not counts_from_zero:
            to_index = None
        elif {i: str(name) for i, name in to_name.items()} != {
            i: str(name) for i, name in to_index.items()
        }:
            return None
    by_index = to_name or to_index
    if not by_index:
        return None
    return _to_texts(by_index.get(index, str(index)) for index in range(max(by_index) + 1))


def _key_by_index(pairs: Iterable[tuple[Any, Any]]) -> dict[int, Any] | None:
    """Index to name, or None if the first of a pair is not an index or occurs twice."""
    pair_list = list(pairs)
    if not pair_list or not all(_INDEX.fullmatch(str(index)) for index, _ in pair_list):
        return None
    by_index = {int(index): name for index, name in pair_list}
    return by_index if len(by_index) == len(pair_list) and max(by_index) <= _LARGEST_LABEL else None


def _to_texts(names: Iterable[Any]) -> tuple[str, ...] | None:
    """Names as text; of a pair such as ["n01440764", "tench"] the last. None if one is not a name."""
    texts = [name[-1] if isinstance(name, list | tuple) and name else name for name in names]
    if not all(isinstance(name, str | int | float) for name in texts):
        return None
    return tuple(str(name) for name in texts) or None
