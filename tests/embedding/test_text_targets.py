"""Targets of a model that reads text, in a file and in Python."""

from pathlib import Path

import numpy as np
import pytest

import onnxcam
from onnxcam.errors import TargetError
from tests.embedding.support.explained import assert_close, explain, run_embedded

WORDS = Path(__file__).parents[1] / "data/trained/words.onnx"


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
