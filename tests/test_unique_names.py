"""Unique names of files."""

from onnxcam.unique_names import make_unique


def test_names_that_differ_by_case_only_get_numbers() -> None:
    assert make_unique(["cat", "Cat", "dog", "cat", "Straße", "strasse"]) == [
        *("cat", "Cat-2", "dog", "cat-3", "Straße", "strasse-2")
    ]


def test_number_that_is_a_name_itself_is_skipped() -> None:
    assert make_unique(["cat", "cat-2", "cat"]) == ["cat", "cat-2", "cat-3"]
