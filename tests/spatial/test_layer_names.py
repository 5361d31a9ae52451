"""Which layers a text names: by name, row, part of a name, or pattern, alone or in a list."""

from __future__ import annotations

import pytest

from onnxcam.errors import UnknownNameError
from onnxcam.spatial.layer_names import find_layer, find_layers
from onnxcam.specs import Layer
from tests.spatial.support.classifiers import classifier, layers


def named(*names: str) -> list[Layer]:
    return [
        Layer(name, "Relu", ("N", 3, 8, 8), 1, True, number=number)
        for number, name in enumerate(names, 1)
    ]


def test_find_layer_by_exact_name() -> None:
    built = layers(classifier("features = Conv(x, w) last = Relu(features)"))
    assert find_layer(built, "features").name == "features"
    with pytest.raises(UnknownNameError, match="no layer 'featuers'; did you mean features"):
        find_layer(built, "featuers")
    with pytest.raises(UnknownNameError, match="layers --all"):
        find_layer(built, "pooled")
    with pytest.raises(UnknownNameError, match="'auto' cannot be combined with others"):
        find_layer(built, "auto")


NAMED = named("a/b1/relu", "a/b1/relu_2", "a/b12/add")


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("a/b1/relu", "a/b1/relu"),  # exact, although another name contains it
        ("relu_", "a/b1/relu_2"),
        ("b12", "a/b12/add"),
        ("*b1?/*", "a/b12/add"),
        ("*_[0-9]", "a/b1/relu_2"),
        ("3", "a/b12/add"),
        ("2", "a/b1/relu_2"),  # the row, although names contain a 2
        ("#1", "a/b1/relu"),
        ("#03", "a/b12/add"),
    ],
)
def test_find_layer_by_part_of_name_pattern_or_row(query: str, name: str) -> None:
    assert find_layer(NAMED, query).name == name


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("b1/", "matches 2 layers: #1 a/b1/relu, #2 a/b1/relu_2; name one of them, or its number"),
        ("*", "matches 3 layers: #1 a/b1/relu, #2 a/b1/relu_2, #3 a/b12/add; name one"),
        ("*b3*", "no layer '.b3.'"),
        ("", "no layer ''"),
        ("RELU_2", "did you mean a/b1/relu_2"),
        ("#", "no layer '#'"),
        ("-1", "no layer '-1'"),
    ],
)
def test_find_layer_refuses_no_match_and_several(query: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        find_layer(NAMED, query)


@pytest.mark.parametrize("query", ["0", "#0", "4", "#4", "9" * 5000])
def test_find_layer_in_missing_row_says_how_many_there_are(query: str) -> None:
    with pytest.raises(
        UnknownNameError, match=r"3 layers, numbered from 1 \(see `onnxcam layers --all`\)$"
    ):
        find_layer(NAMED, query)


def test_find_layer_in_missing_row_suggests_names_with_that_number() -> None:
    with pytest.raises(UnknownNameError, match="did you mean a/b12/add") as raised:
        find_layer(NAMED, "12")
    assert raised.value.close == ["a/b12/add"]


def test_find_layer_named_by_digits_before_row() -> None:
    digits = named("2", "1", "#1")
    assert find_layer(digits, "2").number == 1
    assert find_layer(digits, "#2").number == 2
    assert find_layer(digits, "#1").number == 1


def test_find_layer_error_lists_twelve_matches() -> None:
    numbered = named(*(f"relu{i}" for i in range(30)))
    with pytest.raises(UnknownNameError, match=r"30 layers: #1 relu0, .*#12 relu11, …; name one"):
        find_layer(numbered, "relu")


COMMAS = named("a", "b", "a,b", "pool(1,2)/x", "c,", "[3]")


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["a", "b"], [1, 2]),
        (["2,1"], [2, 1]),
        (["[3], #1"], [6, 1]),
        (["a,b"], [3]),  # a name, not a list
        (["b,a"], [2, 1]),
        (["b,a,b"], [2, 3]),  # the longest name in a list
        (["c,,a"], [5, 1]),
        (["(1,2)"], [4]),  # part of a name
        (["*(1,*"], [4]),
        (["1,2"], [1, 2]),  # rows, although a name contains the text
        (["1", "a", "#1,a"], [1]),
    ],
)
def test_find_layers_splits_lists_at_commas(texts: list[str], numbers: list[int]) -> None:
    assert [layer.number for layer in find_layers(COMMAS, texts)] == numbers


@pytest.mark.parametrize("text", ["a,,b", "b,", ", b"])
def test_find_layers_refuses_list_with_gap(text: str) -> None:
    with pytest.raises(UnknownNameError, match="no layer ''"):
        find_layers(COMMAS, [text])
