"""The tables of methods in the documents are those of the code."""

import pytest

from onnxcam.methods import METHODS
from scripts.methods import BEGIN, END, ROOT, TABLES, replace_between_marks


@pytest.mark.parametrize("name", TABLES)
def test_table_of_document_is_up_to_date(name: str) -> None:
    document = (ROOT / name).read_text(encoding="utf-8")
    assert replace_between_marks(document, TABLES[name]()) == document, (
        "a method was added or changed: run python -m scripts.methods"
    )


@pytest.mark.parametrize("name", TABLES)
def test_table_names_every_method(name: str) -> None:
    words = "\n".join(TABLES[name]()).replace("`", " ").replace(",", " ").split()
    assert {*METHODS} <= {*words}


def test_only_lines_between_marks_are_replaced() -> None:
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert replace_between_marks(document, ["new"]) == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    with pytest.raises(SystemExit, match="lost its marks"):
        replace_between_marks("nothing", ["new"])
