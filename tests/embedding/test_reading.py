"""How often a model is read while its explanation is written."""

from collections.abc import Callable
from typing import Any

import pytest

import onnxcam
from onnxcam.bundled import bundled_model
from onnxcam.explain import loaded_model

METHOD = "grad-cam"
SHAPES_MODEL = bundled_model()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The sources that were read."""
    sources: list[object] = []
    read: Callable[..., Any] = loaded_model.read_model

    def count(source: object, inputs: object) -> Any:
        sources.append(source)
        return read(source, inputs)

    monkeypatch.setattr(loaded_model, "read_model", count)
    monkeypatch.setattr("onnxcam.embedding.write.read_model", count)
    return sources


@pytest.mark.parametrize("target", ["top1", "element:logits[2]"])
def test_model_is_read_once_with_and_without_a_cached_plan(
    reads: list[object], target: str
) -> None:
    for cache in (False, True, True):  # not cached, stored in the cache, found there
        onnxcam.embed(SHAPES_MODEL, METHOD, target=target, cache=cache)
    assert reads == [SHAPES_MODEL] * 3
