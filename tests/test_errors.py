"""Errors of onnxcam reach another process as they were raised."""

import copy
import inspect
import pickle
from collections.abc import Callable

import pytest

from onnxcam import errors
from onnxcam.errors import (
    BlockedError,
    MissingRuleError,
    NeedsOpsetError,
    NodeError,
    OnnxcamError,
    UnforeseenError,
    unknown,
)

ERRORS = [
    BlockedError("no gradient reaches 'x'", "sign", "choose 'y'"),
    MissingRuleError({"Foo": ["a", "b"]}, {"Foo": "is random"}),
    NeedsOpsetError("Mish", 18),
    NodeError("wrong", "Conv", "conv_1"),
    UnforeseenError("a bug", "ZeroDivisionError", "Conv", "conv_1"),
    unknown("color", "embre", ["ember"]),
]
CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
PLAIN = [
    kind("message")
    for kind in CLASSES
    if issubclass(kind, OnnxcamError) and "__init__" not in vars(kind)
]


def test_every_error_with_arguments_is_pickled_below() -> None:
    with_arguments = {kind for kind in CLASSES if "__init__" in vars(kind)}
    assert with_arguments == {type(error) for error in ERRORS}


@pytest.mark.parametrize("duplicate", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy])
@pytest.mark.parametrize("error", [*ERRORS, *PLAIN], ids=lambda error: type(error).__name__)
def test_pickled_error_has_message_and_attributes(
    error: OnnxcamError, duplicate: Callable[[OnnxcamError], OnnxcamError]
) -> None:
    error.add_note("while a test ran")
    duplicated = duplicate(error)
    assert type(duplicated) is type(error)
    assert str(duplicated) == str(error)
    assert vars(duplicated) == vars(error)
