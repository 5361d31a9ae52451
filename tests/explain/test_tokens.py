"""Vision transformers: cells are separated from other tokens, and maps agree with a NumPy net."""

from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.errors import UnknownNameError
from onnxcam.methods.subset import apply_subset
from onnxcam.rewrite.planner import layers
from onnxcam.specs import infer_grid
from tests.explain.support.explained import assert_same_map
from tests.explain.support.vit import CLASSES, COLUMNS, HEIGHT, Vit
from tests.methods.support.formulas import run
from tests.support.nets import random_images

X = random_images(2, (3, 4, 6))


def make_explainer(net: Vit, method: str = "grad-cam", **settings: Any) -> onnxcam.Explainer:
    return onnxcam.Explainer(net.content(), method, device="cpu", preprocess="unit", **settings)


CLASS_TOKEN, AT_THE_END, REGISTERS = Vit(), Vit(cells_first=True), Vit(extra=3)
MEAN, ALL = Vit(read="mean"), Vit(read="all")
NETS = [
    (CLASS_TOKEN, "ln"), (AT_THE_END, "ln"), (REGISTERS, "ln"), (Vit(batch="1"), "ln"),
    (MEAN, "cells"), (Vit(read="mean", cells_first=True), "cells"), (ALL, "normed"),
]  # fmt: skip


@pytest.mark.parametrize(("net", "layer"), NETS)
@pytest.mark.parametrize("method", ["grad-cam", "grad-cam++"])
def test_token_maps_agree_with_numpy(net: Vit, layer: str, method: str) -> None:
    explainer = make_explainer(net, method)
    assert [layer.name for layer in explainer.plan.layers] == [layer]
    explanation = explainer(X, target=2)
    assert explanation.layer_maps.shape == (2, HEIGHT, COLUMNS)
    assert explanation.maps.shape == (2, 4, 6)
    for x in X:
        maps = {number: run(method, net.probed(x, layer, number)) for number in range(CLASSES)}
        target = max(
            maps, key=lambda index: maps[index].max()
        )  # the maps of some classes are empty
        assert_same_map(explainer(x[None], target=target).layer_maps, maps[target])


@pytest.mark.parametrize("net", [CLASS_TOKEN, REGISTERS, AT_THE_END])
def test_score_of_numpy_net_agrees(net: Vit) -> None:
    explanation = make_explainer(net)(X, target=1)
    for x, score in zip(X, explanation.scores, strict=True):
        tokens = net.tokens(x)
        twin = net.logits(net.norm(net.block(tokens, net.norm(tokens))))
        np.testing.assert_allclose(score, twin[1], rtol=1e-5)


def test_smoothing_takes_last_layer_with_varying_gradient() -> None:
    assert make_explainer(MEAN, "smooth-grad-cam++").plan.layers[0].name == "stream"
    assert make_explainer(CLASS_TOKEN, "smooth-grad-cam++").plan.layers[0].name == "ln"


def test_cells_after_last_attention_are_ignored_by_score() -> None:
    listed = {layer.name: layer for layer in layers(onnxcam.load(CLASS_TOKEN.content()))}
    assert [name for name, layer in listed.items() if layer.ignored_by_score] == [
        "mixed", "sum", "hidden", "active", "stream", "normed"
    ]  # fmt: skip
    assert [name for name, layer in listed.items() if layer.is_bottleneck] == [
        "conv", "flat", "patches", "tokens", "ln"
    ]  # fmt: skip
    explanation = make_explainer(CLASS_TOKEN, layer="stream")(X)
    assert explanation.is_empty.all()
    assert ["next to the cells of stream" in notice for notice in explanation.notices] == [True]
    assert not make_explainer(CLASS_TOKEN, layer="ln").notices


def test_mean_over_tokens_reads_all_cells() -> None:
    listed = layers(onnxcam.load(MEAN.content()))
    assert not any(layer.ignored_by_score for layer in listed)
    assert {"stream", "normed", "cells"} <= {layer.name for layer in listed if layer.is_bottleneck}


def test_regions_and_channels_select_tokens() -> None:
    source = CLASS_TOKEN.probed(X[0], "ln", 2)
    mask = np.zeros((HEIGHT, COLUMNS))
    mask[0:2, 1:3] = 1
    explanation = make_explainer(CLASS_TOKEN, "grad-cam++", region="0:2,1:3", channels="1,4,5")(
        X[:1], target=2
    )
    assert_same_map(
        explanation.layer_maps, run("grad-cam++", apply_subset(source, [1, 4, 5], mask))
    )


def test_token_and_convolution_layers_are_fused() -> None:
    explanation = make_explainer(CLASS_TOKEN, layer=["conv", "ln"])(X[:1])
    assert explanation.layer_maps.shape == (1, HEIGHT, COLUMNS)


def test_unique_part_of_name_selects_layer() -> None:
    assert make_explainer(CLASS_TOKEN, layer="patch").plan.layers[0].name == "patches"
    with pytest.raises(UnknownNameError, match=r"'s\*m' matches 2 layers: #11 sum, #14 stream"):
        make_explainer(CLASS_TOKEN, layer="s*m")


@pytest.mark.parametrize(
    ("grid", "count", "aspect_ratio", "expected"),
    [
        ((2, 3), 6, 1.0, (2, 3)),
        (("h", 3), 6, 1.0, (2, 3)),
        ((2, "w"), 6, 1.0, (2, 3)),
        (("h", "w"), 24, 1.5, (6, 4)),
        (("h", "w"), 24, 4 / 6, (4, 6)),
        (("h", "w"), 49, 1.0, (7, 7)),
    ],
)
def test_infer_grid_finds_grid_of_cell_count(
    grid: Any, count: int, aspect_ratio: float, expected: tuple[int, int]
) -> None:
    assert infer_grid(grid, count, aspect_ratio) == expected
