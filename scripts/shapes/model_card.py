"""The sections of models/README.md, each written by the script that trains the model."""

from __future__ import annotations

from pathlib import Path

MODELS = Path(__file__).resolve().parents[2] / "models"
HEADER = """\
# models

Written by `python -m scripts.shapes.train`, `python -m scripts.shapes.train_detector` and
`python -m scripts.shapes.explained` with their defaults; do not edit by hand.

"""


def write_section(folder: Path, name: str, text: str) -> None:
    """Write the section of a model: the text between its marks, which follow the other sections if there are
    none yet.
    """
    path = folder / "README.md"
    document = path.read_text(encoding="utf-8") if path.exists() else HEADER
    begin, end = f"<!-- {name}: written by its script -->", f"<!-- {name} end -->"
    before, mark, rest = document.partition(begin)
    start = before if mark else f"{document.rstrip()}\n\n"
    after = rest.partition(end)[2] or "\n"
    path.write_text(f"{start}{begin}\n{text}\n{end}{after}", encoding="utf-8")
