"""Vision transformers: cells are separated from other tokens, and maps agree with a NumPy net."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxcam
from onnxcam.arrays import Floats
from onnxcam.errors import UnknownNameError
from onnxcam.methods.subset import apply_subset
from onnxcam.rewrite.planner import layers
from onnxcam.specs import infer_grid
from tests.explain.support.explained import assert_same_map
from tests.methods.support.formulas import run
from tests.support.nets import random_images

WIDTH, CLASSES, HEIGHT, COLUMNS = 6, 5, 2, 3
X = random_images(2, (3, 4, 6))


@dataclass(frozen=True)
class Vit:
    """One block of attention on a grid of 2 x 3 patches. Read is the first token, the mean of the cells, or
    the mean of all tokens; `extra` class tokens stand before the cells, or after them.
    """

    extra: int = 1
    cells_first: bool = False
    read: str = "token"
    batch: str = "N"

    @property
    def weights(self) -> dict[str, Any]:
        draw = np.random.default_rng(3)
        shapes = {
            "w": (WIDTH, 3, 2, 2), "cls": (1, self.extra, WIDTH), "q": (WIDTH, WIDTH),
            "k": (WIDTH, WIDTH), "v": (WIDTH, WIDTH), "scale": (WIDTH,), "bias": (WIDTH,),
            "head": (CLASSES, WIDTH), "mlp": (WIDTH, WIDTH),
        }  # fmt: skip
        return {name: draw.normal(0, 0.7, shape) for name, shape in shapes.items()}

    @property
    def cells(self) -> slice:
        start = 0 if self.cells_first else self.extra
        return slice(start, start + HEIGHT * COLUMNS)

    def content(self) -> bytes:
        joined = "(patches, many)" if self.cells_first else "(many, patches)"
        first = HEIGHT * COLUMNS if self.cells_first else 0
        reading = {
            "token": f"i = Constant<value_int = {first}>() picked = Gather<axis = 1>(normed, i)",
            "mean": f"""a = Constant<value_ints = [{self.cells.start}]>()
                b = Constant<value_ints = [{self.cells.stop}]>() one = Constant<value_ints = [1]>()
                cells = Slice(normed, a, b, one)
                picked = ReduceMean<axes = [1], keepdims = 0>(cells)""",
            "all": "picked = ReduceMean<axes = [1], keepdims = 0>(normed)",
        }[self.read]
        text = f"""<ir_version: 9, opset_import: ["": 17]>
        net (float[{self.batch}, 3, 4, 6] x) => (float[{self.batch}, {CLASSES}] logits) {{
            conv = Conv<strides = [2, 2]>(x, w)
            shape = Constant<value_ints = [0, {WIDTH}, -1]>()
            flat = Reshape(conv, shape)
            patches = Transpose<perm = [0, 2, 1]>(flat)
            size = Shape<end = 1>(x)
            rest = Constant<value_ints = [{self.extra}, {WIDTH}]>()
            full = Concat<axis = 0>(size, rest)
            many = Expand(cls, full)
            tokens = Concat<axis = 1>{joined}
            ln = LayerNormalization(tokens, scale, bias)
            queries = MatMul(ln, q) keys = MatMul(ln, k) values = MatMul(ln, v)
            turned = Transpose<perm = [0, 2, 1]>(keys)
            logit = MatMul(queries, turned)
            attention = Softmax<axis = -1>(logit)
            mixed = MatMul(attention, values)
            sum = Add(tokens, mixed)
            hidden = MatMul(sum, mlp) active = Tanh(hidden) stream = Add(sum, active)
            normed = LayerNormalization(stream, scale, bias)
            {reading}
            logits = Gemm<transB = 1>(picked, head) }}"""
        proto = onnx.parser.parse_model(text)
        for name, array in self.weights.items():
            single = array.astype(np.float32)
            proto.graph.initializer.append(numpy_helper.from_array(single, name))
        return bytes(proto.SerializeToString())

    # The twin

    def tokens(self, x: Floats) -> Floats:
        """(T, WIDTH) of one image (3, 4, 6)."""
        patches = x.astype(np.float64).reshape(3, HEIGHT, 2, COLUMNS, 2)
        cells = np.einsum("chiwj,kcij->hwk", patches, self.weights["w"]).reshape(-1, WIDTH)
        extra = self.weights["cls"][0]
        return np.concatenate([cells, extra] if self.cells_first else [extra, cells])

    def norm(self, tokens: Floats) -> Floats:
        centered = tokens - tokens.mean(-1, keepdims=True)
        normalized = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5)
        return normalized * self.weights["scale"] + self.weights["bias"]

    def block(self, tokens: Floats, ln: Floats) -> Floats:
        w = self.weights
        weights = np.exp(ln @ w["q"] @ (ln @ w["k"]).T)
        total = tokens + weights / weights.sum(-1, keepdims=True) @ (ln @ w["v"])
        return total + np.tanh(total @ w["mlp"])

    def logits(self, normed: Floats) -> Floats:
        first = HEIGHT * COLUMNS if self.cells_first else 0
        read = {
            "token": normed[first],
            "mean": normed[self.cells].mean(0),
            "all": normed.mean(0),
        }[self.read]
        return read @ self.weights["head"].T

    def probed(self, x: Floats, layer: str, target: int) -> dict[str, Floats]:
        """Activation and gradient (1, C, h, w) at "ln", or before the head, by central differences."""
        tokens = self.tokens(x)
        values = self.norm(tokens)
        if layer != "ln":
            values = self.norm(self.block(tokens, values))

        def score(at: Floats) -> float:
            last = self.norm(self.block(tokens, at)) if layer == "ln" else at
            return float(self.logits(last)[target])

        slope = np.zeros_like(values)
        for i in np.ndindex(*values.shape):
            step = np.zeros_like(values)
            step[i] = 1e-5
            slope[i] = (score(values + step) - score(values - step)) / 2e-5
        return {"activation": self.grid(values), "gradient": self.grid(slope)}

    def grid(self, tokens: Floats) -> Floats:
        cells: Floats = tokens[self.cells].T.reshape(1, WIDTH, HEIGHT, COLUMNS)
        return cells


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
    with pytest.raises(UnknownNameError, match=r"'s\*m' matches 2 layers: sum, stream"):
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
