"""The formula gets few images at a time where a layer is large, with the same results."""

from typing import Any

import numpy as np
import pytest

from onnxcam import Explainer
from onnxcam.explain import block, pipeline
from tests.support.nets import DEEP, POOLED, random_images

X = random_images(5)
TARGETS: list[int | str] = ["top1", 2, "not 3", "1-4", "top2"]


@pytest.mark.parametrize("method", ["grad-cam", "cam", "saliency", "smooth-grad", "activation-map"])
@pytest.mark.parametrize("images", [1, 2, 4])
def test_block_in_parts_returns_the_same(
    monkeypatch: pytest.MonkeyPatch, method: str, images: int
) -> None:
    settings: dict[str, Any] = {"samples": 2} if method == "smooth-grad" else {}
    net = DEEP if method != "cam" else POOLED
    explainer = Explainer(net.content(), method, **settings)
    expected = explainer(X, TARGETS)
    counts: list[int] = []
    real = block.Block._explain

    def count_images(self: Any, clean: Any, *rest: Any) -> Any:
        counts.append(len(clean.images))
        monkeypatch.setattr(block, "MAX_BYTES", images * clean.image_bytes)
        return real(self, clean, *rest)

    monkeypatch.setattr(block.Block, "_explain", count_images)
    explainer(X[:1], TARGETS[:1])
    counts.clear()
    parts = explainer(X, TARGETS)
    assert max(counts) <= images
    for name in ("maps", "layer_maps", "attributions", "scores", "probabilities"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(expected, name))
    assert parts.targets == expected.targets
    assert parts.layers == expected.layers


def test_large_images_run_in_smaller_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "MAX_VALUES", 2 * X[0].size)
    explainer = Explainer(DEEP.content(), "grad-cam")
    counts: list[int] = []
    real = block.Block.clean_pass

    def count_images(self: Any, images: Any, *rest: Any) -> Any:
        counts.append(len(images))
        return real(self, images, *rest)

    monkeypatch.setattr(block.Block, "clean_pass", count_images)
    explainer(X, TARGETS)
    assert counts == [2, 2, 1]
