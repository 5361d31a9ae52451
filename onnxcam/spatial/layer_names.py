"""Find layers by name, by row of `onnxcam layers`, by a part of the name, or by a pattern."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from onnxcam.errors import UnknownNameError, unknown
from onnxcam.specs import AUTO, Layer

LISTED = "`onnxcam layers --all`"
MAX_LISTED = 12  # layers that an error lists
ROW = re.compile(r"#?0*(?P<number>\d+)", re.ASCII)


def find_layers(layers: Sequence[Layer], texts: Iterable[str]) -> list[Layer]:
    """The layers that these texts name, without repetitions. A text is what `find_layer` takes, or a list of
    that, separated by commas. A name, part, or pattern that has a comma is not split, if there is such a layer.
    """
    names = {layer.name for layer in layers}
    parts = [part for text in texts for part in _split_list(text, names)]
    return list(dict.fromkeys(find_layer(layers, part) for part in parts))


def find_layer(layers: Sequence[Layer], text: str) -> Layer:
    """The layer with this name; or in this row ("72", or "#72" if a layer may be named "72"); or the one whose
    name contains the text, or matches it as a pattern (`*block3*Relu*`).

    UnknownNameError that lists the layers that match, if there are several, or similar names, if there is none.
    """
    row, by_name = ROW.fullmatch(text), {layer.name: layer for layer in layers}
    if row is not None and (text.startswith("#") or text not in by_name):
        return _layer_in_row(layers, text, row["number"])
    names = [text] if text in by_name else _matching_names(by_name, text)
    if len(names) > 1:
        listed = ", ".join(f"#{by_name[name].number} {name}" for name in names[:MAX_LISTED])
        listed += ", …" if len(names) > MAX_LISTED else ""
        message = (
            f"layer {text!r} matches {len(names)} layers: {listed}; name one of them, or its number"
        )
        raise UnknownNameError(message, text, by_name, names)
    if not names:
        alone = "'auto' cannot be combined with others, so name them all; " if text == AUTO else ""
        raise unknown("layer", text, by_name, f"{alone}see {LISTED}")
    return by_name[names[0]]


def _layer_in_row(layers: Sequence[Layer], text: str, number: str) -> Layer:
    """UnknownNameError, with the layers whose name contains the text, if there is no such row."""
    rows = {str(layer.number): layer for layer in layers}
    if number in rows:
        return rows[number]
    names = [layer.name for layer in layers]
    close = _matching_names(names, text)[:3]
    advice = f"; did you mean {' or '.join(close)}?" if close else ""
    count = f"{len(layers)} layer{'' if len(layers) == 1 else 's'}"
    message = f"layer {text!r}: the model has {count}, numbered from 1 (see {LISTED}){advice}"
    raise UnknownNameError(message, text, names, close)


def _split_list(text: str, names: Collection[str]) -> Iterator[str]:
    """The members of a list that is separated by commas. Names with commas of their own stay together."""
    if "," not in text or text in names:
        return iter((text,))
    parts = [part.strip() for part in text.split(",")]
    is_part = not all(map(ROW.fullmatch, parts)) and _matching_names(names, text)
    return iter((text,)) if is_part else _members(text.split(","), names)


def _members(parts: list[str], names: Collection[str]) -> Iterator[str]:
    most = 1 + max((name.count(",") for name in names), default=0)
    while parts:
        joined = [",".join(parts[:count]).strip() for count in range(most, 1, -1)]
        member = next((name for name in joined if name in names), parts[0].strip())
        yield member
        del parts[: 1 + member.count(",")]


def _matching_names(names: Iterable[str], pattern: str) -> list[str]:
    if set(pattern) & set("*?["):
        return [name for name in names if fnmatchcase(name, pattern)]
    return [name for name in names if pattern and pattern in name]
