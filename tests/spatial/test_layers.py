"""Which tensors are layers, and which of them are chosen automatically."""

import pytest

from onnxcam.model.model import Model
from onnxcam.spatial.layers import candidates, choose_layers
from onnxcam.specs import Layer
from tests.model.support.texts import load_text
from tests.spatial.support.classifiers import (
    KERNEL,
    candidate_names,
    classifier,
    layers,
    pyramid,
)


def test_layers_lie_between_image_and_score() -> None:
    built = layers(
        classifier(
            "c = Conv(x, w) r = Relu(c) side = Sigmoid(c) unused = Tanh(side) last = Conv(r, w)"
        )
    )
    assert [layer.name for layer in built] == ["c", "r", "last"]
    assert built[0] == Layer("c", "Conv", ("N", 3, 8, 8), 1, is_bottleneck=True, number=1)
    assert [layer.number for layer in built] == [1, 2, 3]
    assert (built[0].layout, built[0].grid, built[0].channels) == ("NCHW", (8, 8), 3)


def test_layer_after_transpose_has_channels_last() -> None:
    (_, transposed, _) = layers(
        classifier(
            "c = Conv(x, w) t = Transpose<perm = [0, 2, 3, 1]>(c) "
            "last = Transpose<perm = [0, 3, 1, 2]>(t)"
        )
    )
    assert (transposed.name, transposed.layout) == ("t", "NHWC")
    assert (transposed.grid, transposed.channels) == ((8, 8), 3)


def test_branch_is_no_bottleneck() -> None:
    built = layers(classifier("c = Conv(x, w) a = Conv(c, w) b = Sigmoid(c) last = Add(a, b)"))
    assert {layer.name: layer.is_bottleneck for layer in built} == {
        "c": True, "a": False, "b": False, "last": True,
    }  # fmt: skip


def test_tensor_of_one_cell_is_no_layer() -> None:
    """Squeeze and excitation: (N, C, 1, 1)."""
    built = layers(
        classifier(
            "c = Conv(x, w) g = GlobalAveragePool(c) s = Sigmoid(g) m = Mul(c, s) last = Relu(m)"
        )
    )
    assert [layer.name for layer in built] == ["c", "m", "last"]


@pytest.mark.parametrize(
    ("body", "first"),
    [
        ("c = Conv(x, w) last = Relu(c)", "last"),
        ("c = Conv(x, w) last = Conv(c, w)", "last"),
        ("c = Conv(x, w) s = Sigmoid(c) last = Mul(c, s)", "last"),
        ("c = Conv(x, w) s = HardSigmoid(c) last = Mul(c, s)", "last"),
        ("a = Conv(x, w) b = Relu(a) c = Conv(a, w) last = Add(b, c)", "last"),
    ],
)
def test_last_layer_is_first_candidate(body: str, first: str) -> None:
    assert candidate_names(classifier(body))[0] == first


@pytest.mark.parametrize(
    "body",
    [
        "c = Conv(x, w) r = Relu(c) last = Conv(r, w)",
        "c = Conv(x, w) s = Sigmoid(c) m = Mul(c, s) last = Conv(m, w)",
        "c = Conv(x, w) s = HardSigmoid(c) m = Mul(c, s) last = Conv(m, w)",
        "c = Conv(x, w) p = LeakyRelu(c) q = Cast<to = 1>(p) last = Conv(q, w)",
    ],
)
def test_preactivation_is_no_candidate(body: str) -> None:
    assert "c" not in candidate_names(classifier(body))
    assert len(candidate_names(classifier(body))) >= 2


def test_separate_branches_have_no_candidate() -> None:
    model = load_text(
        """(float[N, 3, 8, 8] x) => (float[N, 3] scores) {
            a = Conv(x, w) b = Sigmoid(x)
            p = GlobalAveragePool(a) q = GlobalAveragePool(b)
            s = Add(p, q) scores = Flatten(s) }""",
        **KERNEL,
    )
    assert [layer.name for layer in layers(model)] == ["a", "b"]
    assert candidates(model, layers(model)) == []


def test_tensors_after_integers_are_layers() -> None:
    model = load_text(
        """(uint8[N, 8, 8, 3] x) => (float[N, 3] scores) {
            t = Transpose<perm = [0, 3, 1, 2]>(x)
            f = Cast<to = 1>(t) c = Conv(f, w)
            p = GlobalAveragePool(c) scores = Flatten(p) }""",
        **KERNEL,
    )
    assert [(layer.name, layer.is_bottleneck) for layer in layers(model)][-2:] == [
        ("f", True),
        ("c", True),
    ]


def test_path_through_shape_is_no_branch() -> None:
    model = load_text(
        """(float[N, 3, H, W] x) => (float[N, 3] scores) {
            c = Conv(x, w) s = Shape(x) r = Reshape(c, s) last = Relu(r)
            p = GlobalAveragePool(last) scores = Flatten(p) }""",
        **KERNEL,
    )
    assert all(layer.is_bottleneck for layer in layers(model))


# Tokens: t is (N, 16, 4), the cells of a grid of 4 x 4

TOKENS = """
    c = Conv<strides = [2, 2]>(x, p)
    s = Constant<value_ints = [0, 4, -1]>()
    flat = Reshape(c, s)
    t = Transpose<perm = [0, 2, 1]>(flat)
"""
BLOCK = """
    ln = LayerNormalization(t, g)
    {qkv}
    kt = Transpose<perm = [0, 2, 1]>(k)
    qk = MatMul(q, kt)
    a = Softmax<axis = -1>(qk)
    m = MatMul(a, v)
    sum = Add(t, m)
    last = LayerNormalization(sum, g)
"""
SEPARATE = "q = MatMul(ln, e) k = MatMul(ln, e) v = MatMul(ln, e)"
JOINED = "qkv = MatMul(ln, w) q, k, v = Split<axis = 2>(qkv)"
FIRST = "i = Constant<value_int = 0>() picked = Gather<axis = 1>(last, i)"
MEAN = "picked = ReduceMean<axes = [1], keepdims = 0>(last)"


def transformer(qkv: str, reading: str) -> Model:
    """A classifier that reads the first token, or the mean of all."""
    weights = {"p": (4, 3, 2, 2), "g": (4,), "e": (4, 4), "w": (4, 12), "h": (4, 3)}
    body = TOKENS + BLOCK.format(qkv=qkv) + reading
    used = {
        name: shape for name, shape in weights.items() if name in ("p", "g", "h") or name in qkv
    }
    text = f"(float[N, 3, 8, 8] x) => (float[N, 3] scores) {{ {body} scores = Gemm(picked, h) }}"
    return load_text(text, **used)


@pytest.mark.parametrize("qkv", [SEPARATE, JOINED])
def test_class_token_model_prefers_input_of_last_attention(qkv: str) -> None:
    """After its normalization, and not queries, keys and values, which some exporters keep in one tensor."""
    assert candidate_names(transformer(qkv, FIRST))[0] == "ln"


@pytest.mark.parametrize("qkv", [SEPARATE, JOINED])
def test_mean_of_tokens_prefers_last_layer(qkv: str) -> None:
    assert candidate_names(transformer(qkv, MEAN))[:2] == ["last", "sum"]


def test_token_tensors_are_layers() -> None:
    built = {layer.name: layer for layer in layers(transformer(SEPARATE, MEAN))}
    assert list(built) == ["c", "flat", "t", "ln", "q", "k", "v", "kt", "m", "sum", "last"]
    assert (built["t"].layout, built["t"].grid, built["t"].channels) == ("NTC", (4, 4), 4)
    assert (built["flat"].layout, built["flat"].grid, built["flat"].channels) == ("NCT", (4, 4), 4)
    assert not built["t"].tokens


def test_attention_weights_are_no_layer() -> None:
    assert not {"qk", "a"} & {layer.name for layer in layers(transformer(SEPARATE, MEAN))}


def test_query_of_class_token_alone_is_no_candidate() -> None:
    """As in CaiT: the path of the class token carries no evidence of the cells."""
    model = load_text(
        f"""(float[1, 3, 8, 8] x) => (float[1, 3] scores) {{ {TOKENS}
            z = Constant<value_ints = [0]>() o = Constant<value_ints = [1]>()
            both = Concat<axis = 1>(one, t) ln = LayerNormalization(both, g)
            first = Slice(ln, z, o, o) q = MatMul(first, e) k = MatMul(ln, e) v = MatMul(ln, e)
            kt = Transpose<perm = [0, 2, 1]>(k) qk = MatMul(q, kt) a = Softmax<axis = -1>(qk)
            m = MatMul(a, v) cls = Add(one, m) last = Concat<axis = 1>(cls, t) {FIRST}
            scores = Gemm(picked, h) }}""",
        p=(4, 3, 2, 2),
        g=(4,),
        e=(4, 4),
        h=(4, 3),
        one=(1, 1, 4),
    )
    assert candidate_names(model)[:2] == ["ln", "both"]
    assert [layer.name for layer in layers(model) if layer.ignored_by_score] == ["last"]


# Several branches of a model


def chosen_names(model: Model) -> list[str]:
    return [layer.name for layer in choose_layers(model, "x", "scores", layers(model))]


def test_branches_are_each_chosen_at_their_end() -> None:
    model = load_text(
        """(float[N, 3, 8, 8] x) => (float[N, 3] scores) {
            a = Conv(x, w) b = Relu(a) c = Conv<strides = [2, 2]>(x, w) d = Relu(c)
            p = GlobalAveragePool(b) q = GlobalAveragePool(d)
            s = Add(p, q) scores = Flatten(s) }""",
        **KERNEL,
    )
    assert chosen_names(model) == ["b", "d"]


def test_bottleneck_is_chosen_alone() -> None:
    body = "c = Conv(x, w) a = Conv(c, w) b = Sigmoid(c) last = Add(a, b)"
    assert chosen_names(classifier(body)) == ["last"]


def test_path_without_layer_leaves_no_choice() -> None:
    model = load_text(
        """(float[N, 3, 8, 8] x) => (float[N, 3] scores) {
            a = Conv(x, w) p = GlobalAveragePool(a) q = GlobalAveragePool(x)
            s = Add(p, q) scores = Flatten(s) }""",
        **KERNEL,
    )
    assert chosen_names(model) == []


def test_too_many_branches_leave_no_choice() -> None:
    branches = " ".join(f"c{i} = Conv(x, w) p{i} = GlobalAveragePool(c{i})" for i in range(9))
    text = f"""(float[N, 3, 8, 8] x) => (float[N, 3] scores) {{ {branches}
        s = Sum({", ".join(f"p{i}" for i in range(9))}) scores = Flatten(s) }}"""
    assert chosen_names(load_text(text, **KERNEL)) == []


@pytest.mark.parametrize("size", ["32", "S"])
def test_detector_is_chosen_at_its_heads(size: str) -> None:
    """Everything passes through the stem, but the features continue to coarser grids after it."""
    model = pyramid(size)
    assert candidate_names(model)[0] == "c3"
    assert chosen_names(model) == ["fc3", "fc4", "fc5"]


def test_detector_with_one_head_is_chosen_there() -> None:
    assert chosen_names(pyramid("32", "coarse, coarse")) == ["fc5"]


def test_layers_with_one_grid_are_no_heads() -> None:
    """Features and the weights of their sum: the layer that both are computed from is chosen."""
    model = load_text(
        """(float[N, 3, 8, 8] x) => (float[N, 3] scores) {
            a = Conv(x, w) b = Relu(a) c = Conv<strides = [2, 2]>(b, w) d = Conv<strides = [2, 2]>(b, w)
            p = GlobalAveragePool(c) q = GlobalAveragePool(d)
            s = Add(p, q) scores = Flatten(s) }""",
        **KERNEL,
    )
    assert chosen_names(model) == ["b"]


def test_segmenter_with_pooled_pixels_is_chosen_at_its_pixels() -> None:
    model = load_text(
        """(float[N, 3, 8, 8] x) => (float[N, 3] scores) {
            a = Conv<strides = [2, 2]>(x, w) b = Relu(a)
            f = Constant<value_floats = [1.0, 1.0, 2.0, 2.0]>() c = Conv(b, w)
            pixels = Resize<mode = "linear">(c, , f)
            scores = ReduceMean<axes = [2, 3], keepdims = 0>(pixels) }""",
        **KERNEL,
    )
    assert chosen_names(model) == ["pixels"]


def test_branches_joined_at_class_tokens_are_each_chosen() -> None:
    """As in CrossViT: no layer sees both branches; each is chosen at the input of its last attention."""
    branch = """
        c{0} = Conv<strides = [{1}, {1}]>(x, p{0}) f{0} = Reshape(c{0}, s)
        t{0} = Transpose<perm = [0, 2, 1]>(f{0})
        ln{0} = LayerNormalization(t{0}, g) q{0} = MatMul(ln{0}, e) k{0} = MatMul(ln{0}, e)
        kt{0} = Transpose<perm = [0, 2, 1]>(k{0}) qk{0} = MatMul(q{0}, kt{0}) a{0} = Softmax<axis = -1>(qk{0})
        m{0} = MatMul(a{0}, ln{0}) sum{0} = Add(t{0}, m{0}) cls{0} = Gather<axis = 1>(sum{0}, i)"""
    model = load_text(
        f"""(float[1, 3, 8, 8] x) => (float[1, 3] scores) {{
            s = Constant<value_ints = [0, 4, -1]>() i = Constant<value_int = 0>()
            {branch.format("A", 2)} {branch.format("B", 4)}
            both = Add(clsA, clsB) scores = Gemm(both, h) }}""",
        pA=(4, 3, 2, 2),
        pB=(4, 3, 4, 4),
        g=(4,),
        e=(4, 4),
        h=(4, 3),
    )
    assert chosen_names(model) == ["lnA", "lnB"]
