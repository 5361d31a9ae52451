"""Which attention matrices of a model are over the cells of the image, and which tokens the score reads."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxcam.errors import ModelError
from onnxcam.methods.place import AttentionMatrices
from onnxcam.model.load import load
from onnxcam.spatial.attention import attention_matrices
from tests.support.transformer import Transformer

WIDTH = 4


def attend(source: str, result: str, queries: str = "") -> str:
    """Nodes of one head: the tokens (N, T, C) of `source`, or those of `queries`, attend to `source`."""
    return f"""q_{result} = MatMul({queries or source}, wq) kt_{result} = Transpose<perm = [0, 2, 1]>({source})
        product_{result} = MatMul(q_{result}, kt_{result})
        soft_{result} = Softmax<axis = -1>(product_{result})
        mixed_{result} = MatMul(soft_{result}, {source})
        {result} = Add({queries or source}, mixed_{result})"""


def tokens_of(source: str, result: str) -> str:
    """Nodes that make tokens (N, T, C) of a grid (N, C, h, w)."""
    return f"""to_{result} = Constant<value_ints = [0, {WIDTH}, -1]>()
        flat_{result} = Reshape({source}, to_{result})
        {result} = Transpose<perm = [0, 2, 1]>(flat_{result})"""


def grid_of(source: str, result: str, side: int) -> str:
    """The reverse."""
    return f"""turned_{result} = Transpose<perm = [0, 2, 1]>({source})
        to_{result} = Constant<value_ints = [0, {WIDTH}, {side}, {side}]>()
        {result} = Reshape(turned_{result}, to_{result})"""


MEAN = "pooled = ReduceMean<axes = [1], keepdims = 0>(last) logits = MatMul(pooled, head)"
PATCHES = f"grid = Conv<strides = [2, 2]>(x, patch) {tokens_of('grid', 'tokens')}"
WINDOWS = f"""a = Constant<value_ints = [-1, {WIDTH}, 2, 2, 2, 2]>() b = Reshape(%s, a)
    c = Transpose<perm = [0, 2, 4, 3, 5, 1]>(b) d = Constant<value_ints = [-1, 4, {WIDTH}]>()
    windows = Reshape(c, d) {attend("windows", "changed")}
    e = Constant<value_ints = [-1, 16, {WIDTH}]>() last = Reshape(changed, e)"""
ROLLED = """zero = Constant<value_ints = [0]>() one = Constant<value_ints = [1]>()
    four = Constant<value_ints = [4]>() three = Constant<value_ints = [3]>()
    top = Slice(grid, zero, one, three) rest = Slice(grid, one, four, three)
    rolled = Concat<axis = 3>(rest, top)"""
BLUR = "blurred = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>"


def matrices(nodes: str, side: int | str = 8) -> AttentionMatrices:
    """Those of a model of these nodes between an image `x` and `logits`."""
    text = f"""<ir_version: 9, opset_import: ["": 17]>
        net (float[N, 3, {side}, {side}] x) => (float[N, 5] logits) {{ {nodes} }}"""
    proto = onnx.parser.parse_model(text)
    draw = np.random.default_rng(0)
    shapes = {
        "patch": (WIDTH, 3, 2, 2),
        "wq": (WIDTH, WIDTH),
        "head": (WIDTH, 5),
        "class_token": (1, 1, WIDTH),
        "within": (WIDTH, WIDTH, 2, 2),
    }
    for name, shape in shapes.items():
        array = draw.normal(size=shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    model = load(bytes(proto.SerializeToString()))
    return attention_matrices(model, "x", "logits")


def names(attention: AttentionMatrices) -> list[str]:
    return [matrix.tensor for matrix in attention.matrices]


def test_blocks_are_listed_in_order_with_their_grid() -> None:
    nodes = f"{PATCHES} {attend('tokens', 'next')} {attend('next', 'last')} {MEAN}"
    attention = matrices(nodes)
    assert names(attention) == ["soft_next", "soft_last"]
    assert (attention.before, attention.height, attention.width, attention.after) == (0, 4, 4, 0)
    assert attention.read == [tuple(range(16))]
    assert attention.left_out == []


@pytest.mark.parametrize(
    ("net", "read"),
    [
        (Transformer(before=2), [(0,)]),
        (Transformer(before=2, read="two"), [(0,), (1,)]),
        (Transformer(before=2, after=1, read="cells"), [tuple(range(2, 8))]),
        (Transformer(before=2, after=1, read="all"), [tuple(range(9))]),
    ],
)
def test_tokens_that_the_head_reads_are_listed_by_reader(
    net: Transformer, read: list[tuple[int, ...]]
) -> None:
    attention = attention_matrices(load(net.content()), "x", "logits")
    assert attention.read == read
    assert (attention.before, attention.after) == (net.before, net.after)


READINGS: dict[str, list[tuple[int, ...]]] = {
    """sizes = Constant<value_ints = [1, 15]>() one = Constant<value_ints = [1]>()
    first, others = Split<axis = 1>(last, sizes) picked = Squeeze(first, one)
    average = ReduceMean<axes = [1], keepdims = 0>(others)
    pooled = Add(picked, average)""": [(0,), tuple(range(1, 16))],
    """some = Constant<value_ints = [3, 5]>() picked = Gather<axis = 1>(last, some)
    pooled = ReduceMax<axes = [1], keepdims = 0>(picked)""": [(3, 5)],
    """zero = Constant<value_ints = [0]>() one = Constant<value_ints = [1]>()
    two = Constant<value_ints = [2]>() first = Slice(last, zero, one, one)
    second = Slice(last, one, two, one) sum = Add(first, second)
    pooled = Squeeze(sum, one)""": [(0,), (1,)],
    """end = Constant<value_ints = [-1]>() one = Constant<value_ints = [1]>()
    picked = Gather<axis = 1>(last, end) pooled = Squeeze(picked, one)""": [(15,)],
    """q, s, z = DynamicQuantizeLinear(last) i = Constant<value_int = 0>()
    scaled = DequantizeLinear(q, s, z) pooled = Gather<axis = 1>(scaled, i)""": [(0,)],
    """turned = Transpose<perm = [0, 2, 1]>(last)
    pooled = ReduceMean<axes = [2], keepdims = 0>(turned)""": [tuple(range(16))],
}


@pytest.mark.parametrize(("reading", "read"), READINGS.items())
def test_tokens_are_followed_through_what_picks_them(
    reading: str, read: list[tuple[int, ...]]
) -> None:
    nodes = f"{PATCHES} {attend('tokens', 'last')} {reading} logits = MatMul(pooled, head)"
    assert matrices(nodes).read == read


def test_attention_of_other_queries_is_left_out() -> None:
    """A class token that is joined with the others only for its queries has no square matrix."""
    count = "n = Shape<end = 1>(x) one = Constant<value_ints = [1, 4]>() size = Concat<axis = 0>(n, one)"
    query = f"{count} query = Expand(class_token, size)"
    pool = f"{attend('next', 'last', queries='query')} {MEAN}"
    attention = matrices(f"{PATCHES} {attend('tokens', 'next')} {query} {pool}")
    assert names(attention) == ["soft_next"]
    assert attention.left_out == ["soft_last"]
    assert attention.read == [tuple(range(16))]
    with pytest.raises(ModelError, match="no attention among the cells"):
        matrices(f"{PATCHES} {query} {attend('tokens', 'last', queries='query')} {MEAN}")


@pytest.mark.parametrize(
    "nodes", [WINDOWS % "grid", f"{ROLLED} {WINDOWS % 'rolled'}"], ids=["windows", "moved"]
)
def test_attention_in_windows_is_refused_by_name(nodes: str) -> None:
    with pytest.raises(ModelError, match=r"'soft_changed' .* within windows"):
        matrices(f"{PATCHES} {nodes} {MEAN}")


def test_last_matrices_over_one_grid_are_used() -> None:
    coarse = f"{grid_of('next', 'again', 4)} {BLUR}(again) {tokens_of('blurred', 'few')}"
    nodes = f"{PATCHES} {attend('tokens', 'next')} {coarse} {attend('few', 'last')} {MEAN}"
    attention = matrices(nodes)
    assert names(attention) == ["soft_last"]
    assert attention.left_out == ["soft_next"]
    assert (attention.height, attention.width) == (2, 2)


def test_pixels_of_patches_are_heads() -> None:
    """MobileViT: pixel k of every patch attends to pixel k of all patches."""
    unfold = f"""a = Constant<value_ints = [-1, {WIDTH}, 2, 2, 2, 2]>() b = Reshape(grid, a)
        c = Transpose<perm = [0, 3, 5, 2, 4, 1]>(b) d = Constant<value_ints = [-1, 4, {WIDTH}]>()
        patches = Reshape(c, d) {attend("patches", "changed")}
        e = Constant<value_ints = [-1, 16, {WIDTH}]>() last = Reshape(changed, e)"""
    attention = matrices(f"{PATCHES} {unfold} {MEAN}")
    (matrix,) = attention.matrices
    assert (attention.height, attention.width, attention.tokens) == (2, 2, 4)
    values = np.arange(3 * 4 * 4 * 4).reshape(12, 4, 4)
    np.testing.assert_array_equal(matrix.arrange(values), values.reshape(3, 4, 4, 4))


def test_parallel_branches_are_refused() -> None:
    nodes = f"{PATCHES} {attend('tokens', 'a1')} {attend('tokens', 'b1')} last = Add(a1, b1) {MEAN}"
    with pytest.raises(ModelError, match="'soft_a1' and 'soft_b1' are parallel"):
        matrices(nodes)


def test_grid_of_unknown_size_is_refused() -> None:
    with pytest.raises(ModelError, match=r"number of tokens .* is not fixed; export the model"):
        matrices(f"{PATCHES} {attend('tokens', 'last')} {MEAN}", side="S")


def test_softmax_over_cells_that_multiplies_no_values_is_no_attention() -> None:
    nodes = f"""{PATCHES} kt = Transpose<perm = [0, 2, 1]>(tokens) product = MatMul(tokens, kt)
        soft = Softmax<axis = -1>(product) mean = ReduceMean<axes = [2], keepdims = 1>(soft)
        last = Mul(tokens, mean) {MEAN}"""
    with pytest.raises(ModelError, match="no attention among the cells"):
        matrices(nodes)


def test_windows_of_patches_in_the_batch_are_refused() -> None:
    """As in a transformer within a transformer: the pixels of each patch attend to each other."""
    nodes = f"""{PATCHES} a = Constant<value_ints = [0, {WIDTH}, 2, 2, 2, 2]>() b = Reshape(grid, a)
        c = Transpose<perm = [0, 2, 4, 1, 3, 5]>(b) d = Constant<value_ints = [-1, {WIDTH}, 2, 2]>()
        patches = Reshape(c, d) mixed = Conv<pads = [0, 0, 1, 1]>(patches, within)
        e = Constant<value_ints = [-1, {WIDTH}, 4]>() flat = Reshape(mixed, e)
        pixels = Transpose<perm = [0, 2, 1]>(flat) {attend("pixels", "changed")}
        f = Constant<value_ints = [-1, 16, {WIDTH}]>() last = Reshape(changed, f)"""
    with pytest.raises(ModelError, match=r"'soft_changed' .* within windows"):
        matrices(f"{nodes} {MEAN}")


def test_heads_of_images_are_told_apart_where_sizes_have_no_names() -> None:
    """4 x N matrices, whose other sizes the shape inference does not know."""
    nodes = f"""{PATCHES} one = Constant<value_ints = [1]>() n = Shape<end = 1>(x)
        four = Constant<value_ints = [4]>() heads = Mul(n, four)
        rest = Constant<value_ints = [1, -1]>() to = Concat<axis = 0>(heads, rest)
        flat = Reshape(grid, to) rows = Squeeze(flat, one)
        per_head = Constant<value_ints = [16, 1]>() split = Concat<axis = 0>(heads, per_head)
        tokens_of_heads = Reshape(rows, split)
        kt = Transpose<perm = [0, 2, 1]>(tokens_of_heads) product = MatMul(tokens_of_heads, kt)
        soft = Softmax<axis = -1>(product) mixed = MatMul(soft, tokens_of_heads)
        back = Constant<value_ints = [-1, {WIDTH}, 16]>() joined = Reshape(mixed, back)
        last = Transpose<perm = [0, 2, 1]>(joined) {MEAN}"""
    (matrix,) = matrices(nodes).matrices
    values = np.arange(3 * 4 * 16 * 16).reshape(12, 16, 16)
    np.testing.assert_array_equal(matrix.arrange(values), values.reshape(3, 4, 16, 16))
