"""Which tensors are layers, and which of them the automatic choice is made among."""

import pytest

from onnxcam.errors import UnknownNameError
from onnxcam.model.model import Model
from onnxcam.spatial.layers import candidates, choose_layers, find_layer, spatial_layers
from onnxcam.specs import Layer
from tests.model.support.texts import load_text as model

KERNEL = {"w": (3, 3, 1, 1)}


def classifier(body: str, opset: int = 17) -> Model:
    """x -> body -> last -> pooled scores."""
    return model(
        f"""(float[N, 3, 8, 8] x) => (float[N, 3] scores) {{
            {body}
            pooled = GlobalAveragePool(last)
            scores = Flatten(pooled) }}""",
        opset,
        **KERNEL,
    )


def layers(it: Model) -> list[Layer]:
    return spatial_layers(it, "x", "scores")


def automatic(it: Model) -> list[str]:
    return [each.name for each in candidates(it, layers(it))]


def test_layers_lie_between_the_picture_and_the_score() -> None:
    found = layers(
        classifier(
            "c = Conv(x, w) r = Relu(c) side = Sigmoid(c) unused = Tanh(side) last = Conv(r, w)"
        )
    )
    assert [each.name for each in found] == ["c", "r", "last"]
    assert found[0] == Layer("c", "Conv", ("N", 3, 8, 8), 1, is_bottleneck=True)
    assert (found[0].layout, found[0].grid, found[0].channels) == ("NCHW", (8, 8), 3)


def test_channels_last() -> None:
    (_, turned, _) = layers(
        classifier(
            "c = Conv(x, w) t = Transpose<perm = [0, 2, 3, 1]>(c) "
            "last = Transpose<perm = [0, 3, 1, 2]>(t)"
        )
    )
    assert (turned.name, turned.layout, turned.grid, turned.channels) == ("t", "NHWC", (8, 8), 3)


def test_a_branch_is_not_whole() -> None:
    found = layers(classifier("c = Conv(x, w) a = Conv(c, w) b = Sigmoid(c) last = Add(a, b)"))
    assert {each.name: each.is_bottleneck for each in found} == {
        "c": True, "a": False, "b": False, "last": True,
    }  # fmt: skip


def test_gates_of_one_cell_are_no_layers() -> None:
    """Squeeze and excitation: (N, C, 1, 1)."""
    found = layers(
        classifier(
            "c = Conv(x, w) g = GlobalAveragePool(c) s = Sigmoid(g) m = Mul(c, s) last = Relu(m)"
        )
    )
    assert [each.name for each in found] == ["c", "m", "last"]


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
def test_the_last_layer_comes_first(body: str, first: str) -> None:
    assert automatic(classifier(body))[0] == first


@pytest.mark.parametrize(
    "body",
    [
        "c = Conv(x, w) r = Relu(c) last = Conv(r, w)",
        "c = Conv(x, w) s = Sigmoid(c) m = Mul(c, s) last = Conv(m, w)",
        "c = Conv(x, w) s = HardSigmoid(c) m = Mul(c, s) last = Conv(m, w)",
        "c = Conv(x, w) p = LeakyRelu(c) q = Cast<to = 1>(p) last = Conv(q, w)",
    ],
)
def test_what_an_activation_finishes_is_no_candidate(body: str) -> None:
    assert "c" not in automatic(classifier(body))
    assert len(automatic(classifier(body))) >= 2


def test_no_candidate_is_an_empty_list() -> None:
    """Two branches from the picture to the score."""
    it = model(
        """(float[N, 3, 8, 8] x) => (float[N, 3] scores) {
            a = Conv(x, w) b = Sigmoid(x)
            p = GlobalAveragePool(a) q = GlobalAveragePool(b)
            s = Add(p, q) scores = Flatten(s) }""",
        **KERNEL,
    )
    assert [each.name for each in layers(it)] == ["a", "b"]
    assert candidates(it, layers(it)) == []


def test_integers_come_before_the_layers() -> None:
    """No derivative flows through bytes, but what follows them are layers."""
    it = model(
        """(uint8[N, 8, 8, 3] x) => (float[N, 3] scores) {
            t = Transpose<perm = [0, 3, 1, 2]>(x)
            f = Cast<to = 1>(t) c = Conv(f, w)
            p = GlobalAveragePool(c) scores = Flatten(p) }""",
        **KERNEL,
    )
    assert [(each.name, each.is_bottleneck) for each in layers(it)][-2:] == [
        ("f", True),
        ("c", True),
    ]


def test_the_size_of_the_picture_is_no_way_to_the_score() -> None:
    """A Reshape by the picture's own Shape does not make a branch."""
    it = model(
        """(float[N, 3, H, W] x) => (float[N, 3] scores) {
            c = Conv(x, w) s = Shape(x) r = Reshape(c, s) last = Relu(r)
            p = GlobalAveragePool(last) scores = Flatten(p) }""",
        **KERNEL,
    )
    assert all(each.is_bottleneck for each in layers(it))


def test_a_layer_is_found_by_name() -> None:
    found = layers(classifier("features = Conv(x, w) last = Relu(features)"))
    assert find_layer(found, "features").name == "features"
    with pytest.raises(UnknownNameError, match="no layer 'featuers'; did you mean features"):
        find_layer(found, "featuers")
    with pytest.raises(UnknownNameError, match="layers --all"):
        find_layer(found, "pooled")


NAMED = [
    Layer(name, "Relu", ("N", 3, 8, 8), 1, True)
    for name in ("a/b1/relu", "a/b1/relu_2", "a/b12/add")
]


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("a/b1/relu", "a/b1/relu"),  # exactly, though another holds it
        ("relu_", "a/b1/relu_2"),
        ("b12", "a/b12/add"),
        ("*b1?/*", "a/b12/add"),
        ("*_[0-9]", "a/b1/relu_2"),
    ],
)
def test_a_layer_is_found_by_a_part_of_its_name_or_a_pattern(wanted: str, name: str) -> None:
    assert find_layer(NAMED, wanted).name == name


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("b1/", "matches 2 layers: a/b1/relu, a/b1/relu_2; name one"),
        ("*", "matches 3 layers: a/b1/relu, a/b1/relu_2, a/b12/add; name one"),
        ("*b3*", "no layer '.b3.'"),
        ("", "no layer ''"),
        ("RELU_2", "did you mean a/b1/relu_2"),
    ],
)
def test_names_that_fit_several_layers_or_none(wanted: str, said: str) -> None:
    with pytest.raises(UnknownNameError, match=said):
        find_layer(NAMED, wanted)


def test_of_many_fitting_layers_a_dozen_is_told() -> None:
    many = [Layer(f"relu{i}", "Relu", ("N", 3, 8, 8), 1, True) for i in range(30)]
    with pytest.raises(UnknownNameError, match=r"30 layers: relu0, .*relu11, …; name one"):
        find_layer(many, "relu")


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
APART = "q = MatMul(ln, e) k = MatMul(ln, e) v = MatMul(ln, e)"
TOGETHER = "qkv = MatMul(ln, w) q, k, v = Split<axis = 2>(qkv)"
FIRST = "i = Constant<value_int = 0>() picked = Gather<axis = 1>(last, i)"
MEAN = "picked = ReduceMean<axes = [1], keepdims = 0>(last)"


def transformer(qkv: str, reading: str) -> Model:
    """The first cell stands for a class token: it is read alone, or the mean of all."""
    weights = {"p": (4, 3, 2, 2), "g": (4,), "e": (4, 4), "w": (4, 12), "h": (4, 3)}
    body = TOKENS + BLOCK.format(qkv=qkv) + reading
    used = {name: each for name, each in weights.items() if name in ("p", "g", "h") or name in qkv}
    text = f"(float[N, 3, 8, 8] x) => (float[N, 3] scores) {{ {body} scores = Gemm(picked, h) }}"
    return model(text, **used)


@pytest.mark.parametrize("qkv", [APART, TOGETHER])
def test_where_one_token_is_read_the_input_of_the_last_attention_is_taken(qkv: str) -> None:
    """Its normalised form; and not queries, keys and values, which some exporters keep in one tensor."""
    assert automatic(transformer(qkv, FIRST))[0] == "ln"


@pytest.mark.parametrize("qkv", [APART, TOGETHER])
def test_where_all_tokens_are_read_the_last_one_is_taken(qkv: str) -> None:
    assert automatic(transformer(qkv, MEAN))[:2] == ["last", "sum"]


def test_tokens_are_layers() -> None:
    found = {each.name: each for each in layers(transformer(APART, MEAN))}
    assert list(found) == ["c", "flat", "t", "ln", "q", "k", "v", "kt", "m", "sum", "last"]
    assert (found["t"].layout, found["t"].grid, found["t"].channels) == ("NTC", (4, 4), 4)
    assert (found["flat"].layout, found["flat"].grid, found["flat"].channels) == ("NCT", (4, 4), 4)
    assert not found["t"].tokens


def test_pairs_of_tokens_are_no_layer() -> None:
    assert not {"qk", "a"} & {each.name for each in layers(transformer(APART, MEAN))}


def test_a_query_of_the_class_token_alone() -> None:
    """As in CaiT: the class token that asks is no evidence of the cells, and the way it takes is none."""
    it = model(
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
    assert automatic(it)[:2] == ["ln", "both"]
    assert [each.name for each in layers(it) if each.ignored_by_score] == ["last"]


# Several branches


def chosen(it: Model) -> list[str]:
    return [each.name for each in choose_layers(it, "x", "scores", layers(it))]


def test_the_last_layer_of_every_branch() -> None:
    it = model(
        """(float[N, 3, 8, 8] x) => (float[N, 3] scores) {
            a = Conv(x, w) b = Relu(a) c = Conv<strides = [2, 2]>(x, w) d = Relu(c)
            p = GlobalAveragePool(b) q = GlobalAveragePool(d)
            s = Add(p, q) scores = Flatten(s) }""",
        **KERNEL,
    )
    assert chosen(it) == ["b", "d"]


def test_one_layer_that_sees_all_is_taken_alone() -> None:
    body = "c = Conv(x, w) a = Conv(c, w) b = Sigmoid(c) last = Add(a, b)"
    assert chosen(classifier(body)) == ["last"]


def test_a_way_without_a_layer_leaves_no_choice() -> None:
    it = model(
        """(float[N, 3, 8, 8] x) => (float[N, 3] scores) {
            a = Conv(x, w) p = GlobalAveragePool(a) q = GlobalAveragePool(x)
            s = Add(p, q) scores = Flatten(s) }""",
        **KERNEL,
    )
    assert chosen(it) == []


def test_more_branches_than_a_map_can_be_made_of() -> None:
    many = " ".join(f"c{i} = Conv(x, w) p{i} = GlobalAveragePool(c{i})" for i in range(9))
    text = f"""(float[N, 3, 8, 8] x) => (float[N, 3] scores) {{ {many}
        s = Sum({", ".join(f"p{i}" for i in range(9))}) scores = Flatten(s) }}"""
    assert chosen(model(text, **KERNEL)) == []


def pyramid(size: str, heads: str = "fine, middle, coarse") -> Model:
    """A detector: features of three sizes, a head with scores of each, and the best score of all boxes."""
    head = """{0} = Relu({1}) h{1} = Conv({0}, w) f{1} = Reshape(h{1}, k)"""
    names = zip(("fine", "middle", "coarse"), ("c3", "c4", "c5"), strict=True)
    parts = {"fine": "fc3", "middle": "fc4", "coarse": "fc5"}
    read = ", ".join(parts[each.strip()] for each in heads.split(","))
    return model(
        f"""(float[N, 3, {size}, {size}] x) => (float[N, 3] scores) {{
            k = Constant<value_ints = [0, 3, -1]>() stem = Conv<strides = [2, 2]>(x, w) c3 = Relu(stem)
            c4 = Conv<strides = [2, 2]>(c3, w) c5 = Conv<strides = [2, 2]>(c4, w)
            {" ".join(head.format(*each) for each in names)}
            boxes = Concat<axis = 2>({read}) scores = ReduceMax<axes = [2], keepdims = 0>(boxes) }}""",
        **KERNEL,
    )


@pytest.mark.parametrize("size", ["32", "S"])
def test_the_heads_of_a_detector(size: str) -> None:
    """The stem sees everything, but the features go on to coarser grids behind it."""
    it = pyramid(size)
    assert automatic(it)[0] == "c3"
    assert chosen(it) == ["fc3", "fc4", "fc5"]


def test_one_head_of_a_detector() -> None:
    assert chosen(pyramid("32", "coarse, coarse")) == ["fc5"]


def test_two_layers_of_one_grid_are_no_heads() -> None:
    """Features of a coarser grid and the weights that they are added up with: what both come from is taken."""
    it = model(
        """(float[N, 3, 8, 8] x) => (float[N, 3] scores) {
            a = Conv(x, w) b = Relu(a) c = Conv<strides = [2, 2]>(b, w) d = Conv<strides = [2, 2]>(b, w)
            p = GlobalAveragePool(c) q = GlobalAveragePool(d)
            s = Add(p, q) scores = Flatten(s) }""",
        **KERNEL,
    )
    assert chosen(it) == ["b"]


def test_a_segmenter_whose_pixels_are_pooled() -> None:
    it = model(
        """(float[N, 3, 8, 8] x) => (float[N, 3] scores) {
            a = Conv<strides = [2, 2]>(x, w) b = Relu(a)
            f = Constant<value_floats = [1.0, 1.0, 2.0, 2.0]>() c = Conv(b, w)
            pixels = Resize<mode = "linear">(c, , f)
            scores = ReduceMean<axes = [2, 3], keepdims = 0>(pixels) }""",
        **KERNEL,
    )
    assert chosen(it) == ["pixels"]


def test_two_transformers_that_meet_behind_their_class_tokens() -> None:
    """As in CrossViT: no tensor sees both pictures; of each branch the input of its last attention is taken."""
    branch = """
        c{0} = Conv<strides = [{1}, {1}]>(x, p{0}) f{0} = Reshape(c{0}, s)
        t{0} = Transpose<perm = [0, 2, 1]>(f{0})
        ln{0} = LayerNormalization(t{0}, g) q{0} = MatMul(ln{0}, e) k{0} = MatMul(ln{0}, e)
        kt{0} = Transpose<perm = [0, 2, 1]>(k{0}) qk{0} = MatMul(q{0}, kt{0}) a{0} = Softmax<axis = -1>(qk{0})
        m{0} = MatMul(a{0}, ln{0}) sum{0} = Add(t{0}, m{0}) cls{0} = Gather<axis = 1>(sum{0}, i)"""
    it = model(
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
    assert chosen(it) == ["lnA", "lnB"]
