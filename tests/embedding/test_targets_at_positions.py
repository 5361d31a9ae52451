"""Targets of models that read text or segment images, in a file and in Python."""

from pathlib import Path

import numpy as np
import pytest

import onnxcam
from onnxcam.errors import TargetError
from tests.embedding.support.explained import assert_close, explain, run_embedded

TRAINED = Path(__file__).parents[1] / "data/trained"
WORDS, SEGMENTER = TRAINED / "words.onnx", TRAINED / "segmenter.onnx"


@pytest.mark.parametrize("target", [3, 4])
def test_class_that_is_not_read_is_explained_where_it_is_likeliest(target: int) -> None:
    """Where the probability is largest, which is not where the score is."""
    draw = np.random.default_rng(0)
    images = draw.uniform(0, 1, (2, 3, 32, 96)).astype(np.float32)
    run = run_embedded(WORDS, "grad-cam", images, target=target)
    assert_close(run.maps, explain(WORDS, "grad-cam", images, target), 1e-5)


@pytest.mark.parametrize("target", ["top2", "not top1"])
def test_rank_of_a_text_is_refused(target: str) -> None:
    with pytest.raises(TargetError, match="the text has no rank"):
        onnxcam.embed(WORDS, "grad-cam", target=target)


@pytest.mark.parametrize("target", ["top1", "top1@all", "top2@all", "not top1@all"])
def test_classes_are_ranked_at_a_place_as_in_python(target: str) -> None:
    """The background ranks last among regions, but has a mean like all classes."""
    draw = np.random.default_rng(0)
    images = draw.uniform(0, 1, (2, 3, 64, 64)).astype(np.float32)
    run = run_embedded(SEGMENTER, "grad-cam++", images, target=target)
    assert_close(run.maps, explain(SEGMENTER, "grad-cam++", images, target), 1e-5)
