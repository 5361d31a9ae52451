"""Class names are read as they are meant, and are never executed."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxcam.errors import SettingError
from onnxcam.image.labels import NAME_KEYS, check_labels, metadata_labels, read_labels
from tests.image.support.texts import ANY_TEXT


@pytest.mark.parametrize(
    "text",
    [
        '["cat", "dog"]',
        '{"0": "cat", "1": "dog"}',
        '{"1": "dog", "0": "cat"}',
        "{0: 'cat', 1: 'dog'}",
        "['cat', 'dog']",
        "('cat', 'dog')",
        "cat\ndog\n",
        "cat\r\ndog\r\n\r\n",
        '{"0": ["n02", "cat"], "1": ["n03", "dog"]}',
    ],
)
@pytest.mark.parametrize("key", NAME_KEYS)
def test_labels_as_exporters_write_them(key: str, text: str) -> None:
    assert metadata_labels({key: text}) == ("cat", "dog")


def test_labels_may_have_gaps_and_numbers() -> None:
    assert metadata_labels({"names": "{1: 'person', 3: 'car'}"}) == ("0", "person", "2", "car")
    assert metadata_labels({"names": "[7, 8.5]"}) == ("7", "8.5")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "{'a': 'b'}",
        "{-1: 'b'}",
        "{9999999999: 'b'}",
        "{0: None}",
        "[[]]",
        "[{}]",
        "{1, 2}",
        "[cat, dog]",
        "{[]: 1}",
        "{0: __import__('os').system('true')}",
        "[" * 5000,
        "[" * 100_000 + "]" * 100_000,
        "{0: " + "-" * 50_000 + "1}",
        "[" + "1" * 5000 + "]",
        "{1e999: 'b'}",
        "x" * 4_000_001,
    ],
)
def test_malformed_labels_are_ignored(text: str) -> None:
    assert metadata_labels({"names": text}) is None
    assert metadata_labels({"names": text, "labels": "cat\ndog"}) == ("cat", "dog")


def test_no_labels() -> None:
    assert metadata_labels({}) is None


@pytest.mark.filterwarnings("ignore")  # Python warns of odd escapes in a literal
@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(ANY_TEXT)
def test_any_text_is_labels_or_none(text: str) -> None:
    labels = metadata_labels({"names": text})
    assert labels is None or all(isinstance(name, str) for name in labels)


@given(st.lists(st.text(min_size=1), min_size=1))
@settings(max_examples=50, derandomize=True, deadline=None, database=None)
def test_lists_come_back(names: list[str]) -> None:
    assert metadata_labels({"names": json.dumps(names)}) == tuple(names)
    assert metadata_labels({"names": repr(dict(enumerate(names)))}) == tuple(names)


def test_label_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffcat\r\n\n  große Katze \n\n\n".encode())
    assert read_labels(path) == ("cat", "", "große Katze")
    path.write_text('{"0": "cat", "1": "dog"}')
    assert read_labels(str(path)) == ("cat", "dog")


def test_file_without_labels_is_error(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    with pytest.raises(
        SettingError, match=r"labels\.txt: the labels cannot be read \(No such file"
    ):
        read_labels(path)
    with pytest.raises(SettingError, match="the labels cannot be read"):
        read_labels(tmp_path)
    with pytest.raises(SettingError, match="the labels cannot be read"):
        read_labels("a\0b")
    path.write_bytes(b"caf\xe9")
    with pytest.raises(SettingError, match=r"labels\.txt: the labels are not UTF-8"):
        read_labels(path)
    for text in ("", " \n", "[oops", "[]"):
        path.write_text(text)
        with pytest.raises(
            SettingError, match=r"labels\.txt: holds no labels; expected one name per line"
        ):
            read_labels(path)


CAT_AND_DOG = {
    "plain.txt": "cat\ndog\n",
    "numbered.txt": "0: cat\n1: dog\n",
    "numbered_backwards.txt": "1 dog\n0 cat\n",
    "numbered_by_tabs.txt": "0\tcat\n1\tdog",
    "old_mac.txt": "cat\rdog\r",
    "list.json": '["cat", "dog"]',
    "class_to_idx.json": '{"dog": 1, "cat": 0}',
    "config.json": '{"model_type": "vit", "id2label": {"0": "cat", "1": "dog"}, "label2id": {"cat": 7}}',
    "label2id_only.json": '{"label2id": {"cat": "0", "dog": "1"}}',
    "timm.json": '{"architecture": "resnet18", "num_classes": 2, "label_names": ["cat", "dog"]}',
    "index_to_name.json": '{"0": ["n02", "cat"], "1": ["n03", "dog"]}',
    "headed.csv": "index,name\n0,cat\n1,dog\n",
    "headed_backwards.csv": "id,label\n1,dog\n0,cat\n",
    "class_and_name.csv": "class,name\n1,dog\n0,cat\n",
    "three_columns.csv": 'Class ID,Synset,Class Name\n0,n02,cat\n1,n03,"dog"\n',
    "one_column.csv": "name\ncat\ndog\n",
    "no_heading.csv": "cat\ndog\n",
    "numbers_first.csv": "0,cat\n1,dog\n",
    "numbers_last.csv": "cat,0\ndog,1\n",
    "semicolons.csv": "index;name\r\n0;cat\r\n1;dog\r\n",
    "by_row.csv": "synset,name\nn02,cat\nn03,dog\n",
    "tabs.tsv": "name\tindex\ndog\t1\ncat\t0\n",
    "flow.yaml": "path: ../data  # where it lies\nnc: 2\nnames: ['cat', \"dog\"]  # two\n",
    "flow_mapping.yml": "names: {0: cat, 1: dog}\n",
    "flow_lines.yaml": "names: [\n  cat,  # the first\n  dog,\n]\nnc: 2\n",
    "block.yaml": "train: images/train\nnames:\n  0: cat\n  1: dog # barks\n\ndownload: |\n  import os\n",
    "block_list.yaml": "names:\n  - cat\n  - 'dog'\nnc: 2\n",
    "list_at_the_margin.yaml": "names:\n- cat\n- dog\nnc: 2\n",
    "whole_list.yaml": "---\n- cat\n- dog\n",
    "whole_mapping.yaml": "1: dog\n0: cat\n",
    "class_to_idx.yaml": "class_to_idx:\n  cat: 0\n  dog: 1\n",
    "other_key.yaml": "classes: 2\nclass_names: [cat, dog]\n",
}


@pytest.mark.parametrize("name", CAT_AND_DOG)
def test_files_of_labels(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(CAT_AND_DOG[name].encode())
    assert read_labels(path) == ("cat", "dog")


UNREADABLE = {
    "ragged.csv": "index,name\n0,cat, small\n",
    "two_texts.csv": "cat,small\ndog,large\n",
    "two_numbers.csv": "0,7\n1,8\n",
    "twice.csv": "index,name\n0,cat\n0,dog\n",
    "heading_only.csv": "index,name\n",
    "no_rows.csv": ",,\n",
    "nested.yaml": "names:\n  - name: cat\n",
    "deeper.yaml": "names:\n  0: cat\n    1: dog\n",
    "less_deep.yaml": "names:\n    0: cat\n  1: dog\n",
    "tabs.yaml": "names:\n\t0: cat\n",
    "anchor.yaml": "names: [*cat, dog]\n",
    "block_text.yaml": "names: |\n  cat\n  dog\n",
    "no_end.yaml": "names: [cat,\n  dog\n",
    "bad_escape.yaml": r'names: ["\q"]',
    "twice.yaml": "names: {0: cat, 0: dog}\n",
    "empty_name.yaml": "names:\n  0: cat\n  1:\n",
    "no_names.yaml": "nc: 80\ntrain: images\n",
    "word.yaml": "names: coco.names\n",
    "both_ways.json": "{0: 1, 1: 2, 2: 0}",
    "both_ways_with_gaps.json": '{"5": 3, "7": 9}',
    "one_index_for_two.json": '{"cat": 0, "dog": 0}',
    "one_index_twice.json": '{"0": "cat", "00": "dog"}',
    "no_index.json": '{"cat": "feline"}',
    "fractions.json": "{0.5: 'cat'}",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_files_that_can_be_read_in_no_or_two_ways(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(UNREADABLE[name])
    with pytest.raises(SettingError, match="holds no labels") as caught:
        read_labels(path)
    assert "\n" not in str(caught.value)
    assert "id2label" in str(caught.value)  # what would do


@pytest.mark.parametrize(
    ("mapping", "names"),
    [
        ({"0": 0, "1": 1, "10": 2, "2": 3}, ("0", "1", "10", "2")),  # folders of digits, sorted
        ({"1": 0, "0": 1}, ("1", "0")),
        ({"0": "7", "1": "3"}, ("7", "3")),
        ({0: "10", 1: "2"}, ("10", "2")),
        ({"0": 7, "1": 8}, ("7", "8")),
        ({0: 0, 1: 1}, ("0", "1")),
        ({0: 1, 1: 0}, ("1", "0")),  # the same either way
        ({"cat": 2, "dog": 0}, ("dog", "1", "cat")),
        ({"names": 0, "labels": 1}, ("names", "labels")),
        ({"id2label": {1: "b", 0: "a"}}, ("a", "b")),
    ],
)
def test_mappings_are_read_the_right_way_round(
    mapping: Mapping[Any, Any], names: tuple[str, ...], tmp_path: Path
) -> None:
    assert check_labels(mapping) == names
    path = tmp_path / "labels.json"
    path.write_text(repr(mapping))
    assert read_labels(path) == names


@pytest.mark.parametrize("lines", [["1 cent", "2 cent", "5 cent"], ["0", "1", "2"], ["0 a", "2 b"]])
def test_names_that_begin_with_numbers_stay(lines: list[str], tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("\n".join(lines))
    assert read_labels(path) == tuple(lines)


def test_odd_characters_do_not_shift_the_names(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    names = ("a\u2028b", "c\x0cd", "e\x85f", "\x1b[31mred")
    path.write_text("\n".join(names), encoding="utf-8")
    assert read_labels(path) == names


def test_unnamed_first_class_keeps_its_index(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("\ncat\n\ndog\n\n")
    assert read_labels(path) == ("", "cat", "", "dog")


def test_yaml_words_are_names(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("names: [no, on, 1.0, don't, 'it''s', \"a: b\", C#, top hat]")
    assert read_labels(path) == ("no", "on", "1.0", "don't", "it's", "a: b", "C#", "top hat")


def test_labels_that_python_hands_over() -> None:
    assert check_labels(name for name in ("a", "b")) == ("a", "b")
    for labels in ({"a", "b"}, 7, [], [None], [b"a"], [["a", None]], {"a": "b"}):
        with pytest.raises(SettingError, match="expected a name for each class"):
            check_labels(labels)


@pytest.mark.skipif(os.name == "nt", reason="pipes are files of Unix")
def test_labels_are_read_from_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    for path in (tmp_path / "pipe.txt", Path("/dev/zero")):
        with pytest.raises(
            SettingError, match=r"the labels cannot be read \(a .*, not a regular file"
        ):
            read_labels(path)
    (tmp_path / "sparse.txt").touch()
    os.truncate(tmp_path / "sparse.txt", 8 << 30)
    with pytest.raises(SettingError, match="holds no labels"):
        read_labels(tmp_path / "sparse.txt")


@pytest.mark.parametrize("text", ["80", "cat", "labels.txt", "imagenet", ""])
def test_word_in_metadata_is_not_a_list(text: str) -> None:
    assert metadata_labels({"classes": text}) is None


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(
    st.sampled_from(["yaml", "csv", "tsv", "json", "txt"]),
    st.sampled_from(["", "names: [", "names:\n- a\n", "names: {0: ", "index,name\n"]),
    st.text(alphabet="[]{}(\"'#:,;\n\r\t\\ -|&*0123ax\x00\x1b\u202e"),
)
def test_any_file_holds_labels_or_none(suffix: str, head: str, text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"labels.{suffix}"
        path.write_bytes((head + text).encode())
        with contextlib.suppress(SettingError):
            names = read_labels(path)
            assert names
            assert all(isinstance(name, str) for name in names)


@pytest.mark.parametrize(
    "text",
    [
        "names: [a" + " " * 400_000 + "{]",
        "names: [" + '"\\' * 200_000,
        "names: {a" + " " * 400_000 + "]}",
        "names:\n" + "- a\n" * 100_000 + " b",
        "names: [" + "[" * 200_000,
    ],
    ids=range(5),
)
def test_long_files_are_read_in_no_time(text: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.yaml"
    path.write_text(text)
    started = time.monotonic()
    with pytest.raises(SettingError, match="holds no labels"):
        read_labels(path)
    assert time.monotonic() - started < 5
