"""Methods on attention, compared with their slow twins on a transformer of several blocks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.arrays import Floats
from onnxcam.errors import ModelError
from onnxcam.methods.place import (
    PLACES,
    AttentionMatrices,
    AttentionMatrix,
    ModelView,
    unchanged,
)
from onnxcam.methods.postprocess import resize_bilinear
from tests.methods.support import attention_twins
from tests.support.nets import DEEP, random_images
from tests.support.transformer import SHAPE, Transformer

X, TARGET = random_images(3, SHAPE), 1
TWINS: dict[str, Callable[..., Floats]] = {
    "attention-rollout": attention_twins.attention_rollout,
    "transformer-attribution": attention_twins.transformer_attribution,
    "legrad": attention_twins.legrad,
}
NETS = {
    "class token": Transformer(blocks=3),
    "registers": Transformer(before=3, after=2),
    "two tokens": Transformer(before=2, read="two"),
    "mean of cells": Transformer(read="cells"),
    "mean of all": Transformer(before=0, read="all"),
    "heads beside images": Transformer(form="folded"),
    "one head": Transformer(form="single"),
    "heads first": Transformer(form="turned"),
    "node of ONNX": Transformer(form="fused", opset=23),
    "node of ONNX Runtime": Transformer(form="contrib"),
    "one block": Transformer(blocks=1),
    "tokens first": Transformer(form="tokens first"),
    "tokens of one image first": Transformer(form="tokens first", batch="1"),
    "one image": Transformer(form="folded", batch="1"),
}
"""Whose tokens, and whose attention matrices, are arranged in different ways."""


def explain(method: str, net: Transformer, **options: Any) -> onnxcam.Explanation:
    explainer = onnxcam.Explainer(net.content(), method, device="cpu", cache=False, **options)
    return explainer(X, TARGET)


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
@pytest.mark.parametrize("method", TWINS)
def test_map_equals_twin(method: str, net: Transformer) -> None:
    expected = TWINS[method](net, X[0], TARGET)[None]
    assert np.abs(expected).max() > 0
    maps = explain(method, net).maps[:1]
    enlarged = resize_bilinear(expected, *SHAPE[1:])
    assert np.abs(maps - enlarged).max() <= 1e-5 * np.abs(enlarged).max()


@pytest.mark.parametrize(
    "nodes",
    [
        "used = Dropout(soft)",
        "one = Constant<value_float = 1.0>() used = Mul(soft, one)",
        "narrow = Cast<to = 10>(soft) used = Cast<to = 1>(narrow)",
        "s = Constant<value_float = 0.01>() q = QuantizeLinear(soft, s) used = DequantizeLinear(q, s)",
        "isnan = IsNaN(soft) zero = Constant<value_float = 0.0>() used = Where(isnan, zero, soft)",
        """split = Constant<value_ints = [-1, 2, 7, 1, 7]>() long = Reshape(soft, split)
        join = Constant<value_ints = [-1, 2, 7, 7]>() used = Reshape(long, join)""",
        "turned = Transpose<perm = [0, 1, 3, 2]>(soft) used = Transpose<perm = [0, 1, 3, 2]>(turned)",
    ],
)
def test_attention_is_recognized_before_it_is_changed_a_little(nodes: str) -> None:
    """As dropout, masks, half precision and integers are exported."""
    numbered = Transformer(blocks=1, after_softmax=nodes)
    plain = Transformer(blocks=1)
    maps, expected = (explain("attention-rollout", net).maps for net in (numbered, plain))
    np.testing.assert_allclose(maps, expected, rtol=1e-6)


@pytest.mark.parametrize("read", ["token", "two"])
def test_tail_of_quantized_model_reads_output_of_block(read: str) -> None:
    """Not the integers of the last one, nor rounded to its range: in 16 bits, which is precise for that one."""
    steps = "s = Constant<value_float = 0.0005>() z = Constant<value = uint16 {32768}>()"
    rounded = "q = QuantizeLinear(stream, s, z) end = DequantizeLinear(q, s, z)"
    net = Transformer(blocks=3, read=read, opset=21, before_tail=f"{steps} {rounded}")
    expected = resize_bilinear(attention_twins.legrad(net, X[0], TARGET)[None], *SHAPE[1:])
    maps = explain("legrad", net).maps[:1]
    assert np.abs(maps - expected).max() <= 1e-3 * np.abs(expected).max()


def test_rollout_gives_notice_about_target() -> None:
    assert any(
        "same map for every target" in n
        for n in explain("attention-rollout", NETS["registers"]).notices
    )


def test_matrices_that_are_not_used_are_counted_in_a_notice() -> None:
    attention = AttentionMatrices(
        [AttentionMatrix("soft", unchanged, "")], ["a", "b"], 0, 2, 3, 0, [(0,)]
    )
    model = ModelView([], lambda tensor: None, lambda: attention)
    (place,) = PLACES["attention"](model)
    assert place.notice == (
        "only 1 of 3 attention matrices are used, the last ones in which all 2 x 3 cells attend to each other"
    )
    with pytest.raises(
        ModelError, match="block of the attention 'soft' has no residual connection"
    ):
        PLACES["attention-blocks"](model)


def test_model_without_attention_is_refused_with_other_methods() -> None:
    with pytest.raises(
        ModelError, match=r"no attention among the cells .* use a method at a layer"
    ):
        onnxcam.Explainer(DEEP.content(), "attention-rollout", device="cpu")
