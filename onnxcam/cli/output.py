"""What commands print. Everything goes through `say`, so that no name from a file or a model can control the
terminal.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from onnxcam.cli.narrow_table import GAP, fit
from onnxcam.cli.visible_text import visible, width
from onnxcam.errors import ModelError, OutputError


def say(*lines: object, err: bool = False, bold: bool = False) -> None:
    """Print lines on standard output or standard error; without arguments, an empty line.

    They are made `visible`: a newline within a line, as in the name of a layer, is escaped.
    """
    stream = sys.stderr if err else sys.stdout
    write = getattr(stream, "write_styled", stream.write)
    for line in lines or ("",):
        text = visible(str(line))
        write(f"{_make_bold(text) if bold and stream.isatty() else text}\n")
    stream.flush()


def _make_bold(text: str) -> str:
    is_plain = os.name == "nt" or "NO_COLOR" in os.environ
    return text if is_plain else f"\x1b[1m{text}\x1b[0m"


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under headings, in columns as wide as their widest cell: never cut off, easy to grep."""
    _print_lines([[visible(str(cell)) for cell in line] for line in (headings, *rows)])


def print_table_of_names(
    headings: Sequence[str],
    rows: Sequence[Sequence[object]],
    names: str,
    optional: Sequence[str] = (),
) -> None:
    """The same, but fitted to the terminal, if it is one: long `names` are cut in the middle, and `optional`
    columns are left out, with a note. Both are headings.
    """
    lines = [[visible(str(cell)) for cell in line] for line in (headings, *rows)]
    columns = _terminal_columns()
    if columns is None:
        _print_lines(lines)
        return
    indices = [headings.index(heading) for heading in optional]
    fitted, omitted = fit(lines, headings.index(names), indices, columns)
    _print_lines(fitted)
    if omitted:
        listed = ", ".join(headings[i] for i in sorted(omitted))
        say(
            f"left out to fit: {listed} (`| cat` or --json shows them)",
            err=True,
        )


def _terminal_columns() -> int | None:
    """How wide the terminal is; None if standard output is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _print_lines(lines: Sequence[Sequence[str]]) -> None:
    """Lines of visible cells, the first one bold."""
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        cells = (_pad(cell, columns) for cell, columns in zip(line, widths, strict=True))
        say(GAP.join(cells).rstrip(), bold=number == 0)


def print_facts(pairs: Sequence[tuple[str, object]]) -> None:
    """Print pairs of a name and a fact, in two columns."""
    names = [visible(name) for name, _ in pairs]
    columns = max(map(width, names))
    for name, (_, fact) in zip(names, pairs, strict=True):
        say(f"{_pad(name, columns)}  {fact}".rstrip())


def _pad(text: str, columns: int) -> str:
    return text + " " * (columns - width(text))


def print_json(value: Any) -> None:
    """Print a value as JSON, in ASCII, which any terminal can show."""
    say(*json_text(value, indent=2).splitlines())


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON in printable ASCII (and newlines, with an indent)."""
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")  # DEL is ASCII, too


def require_writable(model: Path, out: Path, *, force: bool) -> None:
    """OutputError for an output file that is a folder, the model itself or a file with its weights, or that
    exists and may not be overwritten.
    """
    if out.is_dir():
        raise OutputError(f"{out} is a folder; name a file in it")
    if out.exists() and model.exists() and out.samefile(model):
        raise OutputError(f"{out} is the model itself; choose another output file")
    if out.exists() and not force:
        raise OutputError(
            f"{out} already exists; choose another file, or overwrite it with --force"
        )
    if out.exists() and any(out.samefile(file) for file in weight_files(model)):
        raise OutputError(f"{out} holds weights of {model}; choose another output file")


def weight_files(model: Path) -> list[Path]:
    """The files with the external data of a model; none if it cannot be read, or not twice."""
    if not model.is_file():
        return []
    from onnxcam.model.file_facts import external_files

    try:
        return external_files(model)
    except ModelError:
        return []


def format_bytes(size: int) -> str:
    """A number of bytes, from 100,000 on in megabytes."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size:,} bytes"


def format_size(files: Iterable[Path]) -> str:
    """The bytes of all files together."""
    return format_bytes(sum(file.stat().st_size for file in files))


def format_type(tensor: object) -> str:
    """The dtype and shape of a tensor."""
    dtype, shape = getattr(tensor, "dtype", None), getattr(tensor, "shape", None)
    return f"{dtype} ({', '.join(map(str, shape or ()))})"


def make_folder(out: Path) -> None:
    """Make the output folder, with those above it, if they are not there. OutputError if that fails."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot create the folder {out} ({error.strerror}); choose another --out"
        ) from error


def list_failures(failures: Iterable[tuple[Path, object]]) -> None:
    """Print why images failed, on standard error."""
    for path, error in failures:
        text = str(error)
        say(text if text.startswith(str(path)) else f"{path}: {text}", err=True)
