"""What the axes of tensors hold, followed through reshapes, attention, windows and extra tokens."""

import re
from typing import Any

import pytest

from onnxcam.model.model import Model
from onnxcam.spatial.axes import Axes, GridLocation, Tokens, locate_grid, new_axis, regroup
from onnxcam.spatial.axis_flow import AxisFlow
from tests.model.support.texts import load_text as model

WIDE = {"w": (8, 3, 2, 2), "v": (8, 8), "cls": (1, 1, 8), "two": (1, 2, 8), "pos": (1, 7, 8)}
PATCHES = """
    c = Conv<strides = [2, 2]>(x, w)
    k = Constant<value_ints = [0, 8, -1]>()
    flat = Reshape(c, k)
    t = Transpose<perm = [0, 2, 1]>(flat)"""  # (N, 6, 8): a grid of 2 x 3


def net(body: str, picture: str = "N, 3, 4, 6") -> Model:
    text = f"(float[{picture}] x) => (float[a, b] out) {{ {body} out = Flatten(last) }}"
    return model(text, **_used(body))


def _used(body: str) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in WIDE.items() if re.search(rf"\b{name}\b", body)}


def placed(it: Model, name: str, layout: str = "NCHW") -> GridLocation | None:
    tensor = it.graph.tensors()[name]
    axes = AxisFlow(it.graph, "x", layout).axes_of(tensor)
    return None if axes is None else locate_grid(axes, tuple(tensor.shape))


def show(axes: Axes | None) -> str:
    """y4/2 is the outer part of an axis of rows, 4 parts of 2 each."""
    if axes is None:
        return "?"
    return " ".join(".".join(map(_one, axis)) or "1" for axis in axes)


def _one(factor: Any) -> str:
    if isinstance(factor, Tokens):
        return f"{factor.before}+({'.'.join(map(_one, factor.cells))})+{factor.after}"
    return f"{factor.kind}{factor.size}" + (f"/{factor.stride}" if factor.stride > 1 else "")


def picture(*sizes: int) -> Axes:
    return tuple(new_axis(kind, size, kind) for kind, size in zip("ncyx", sizes, strict=True))


@pytest.mark.parametrize(
    ("sizes", "shapes", "found"),
    [
        ((2, 3, 4, 6), [(2, 3, 24)], "n2 c3 y4.x6"),
        ((2, 3, 4, 6), [(2, 3, 24), (2, 3, 4, 6)], "n2 c3 y4 x6"),
        ((2, 3, 4, 6), [(2, 3, 2, 2, 3, 2)], "n2 c3 y2/2 y2 x3/2 x2"),
        ((2, 3, 4, 6), [(2, 3, 2, 2, 3, 2), (2, 3, 4, 6)], "n2 c3 y4 x6"),
        ((2, 3, 4, 6), [("M", 3, 24)], "n2 c3 y4.x6"),
        ((2, 3, 4, 6), [(2, 3, "M")], "n2 c3 y4.x6"),
        ((2, 3, 4, 6), [(6, "M", 6)], "n2.c3 y4 x6"),
        ((2, 3, 4, 6), [("M", 72)], "n2 c3.y4.x6"),
        ((1, 3, 4, 6), [(1, 72)], "n1 c3.y4.x6"),
        ((1, 3, 4, 6), [(1, 1, 3, 24)], "n1 1 c3 y4.x6"),
        ((2, 3, 4, 6), [(2, 3, 3, 8)], "n2 c3 ? ?"),
        ((2, 3, 4, 6), [(2, "M", "K")], "?"),
    ],
)
def test_a_reshape_deals_out_factors(sizes: Any, shapes: Any, found: str) -> None:
    axes: Axes | None = picture(*sizes)
    for shape in shapes:
        assert axes is not None
        axes = regroup(axes, shape)
    assert show(axes) == found or ("?" in found and axes is None)


def test_what_is_transposed_between_is_no_longer_one_axis() -> None:
    axes = regroup(picture(2, 3, 4, 6), (2, 3, 2, 2, 6))
    assert axes is not None
    turned = tuple(axes[i] for i in (0, 1, 3, 2, 4))
    assert show(regroup(turned, (2, 3, 4, 6))) == "n2 c3 y2.y2/2 x6"


def test_patches_of_a_convolution_keep_their_grid() -> None:
    it = net(PATCHES + " last = MatMul(t, v)")
    assert placed(it, "flat") == GridLocation(1, (2, 3))
    assert placed(it, "t") == placed(it, "last") == GridLocation(2, (2, 3))


def test_patches_cut_by_reshapes() -> None:
    """(N, 3, 4, 6) in patches of 2 x 2: the rest of the rows and columns go into the features."""
    it = net(
        """ k = Constant<value_ints = [0, 3, 2, 2, 3, 2]>() m = Constant<value_ints = [0, 6, 12]>()
        cut = Reshape(x, k) turned = Transpose<perm = [0, 2, 4, 3, 5, 1]>(cut)
        last = Reshape(turned, m)"""
    )
    assert placed(it, "last") == GridLocation(2, (2, 3))


def test_the_order_of_rows_and_columns_matters() -> None:
    """Columns before rows are no picture that the cells could be laid out as."""
    it = net(
        PATCHES.replace("c = Conv", "d = Conv").replace(
            "k = ", "c = Transpose<perm = [0, 1, 3, 2]>(d) k = "
        )
        + " last = Relu(t)"
    )
    assert placed(it, "last") is None


@pytest.mark.parametrize(
    ("tokens", "before", "after"),
    [
        ("many = Expand(cls, s) all = Concat<axis = 1>(many, t)", 1, 0),
        ("many = Expand(two, s) all = Concat<axis = 1>(many, t)", 2, 0),
        ("many = Expand(cls, s) all = Concat<axis = 1>(t, many)", 0, 1),
        ("m = Expand(cls, s) o = Concat<axis = 1>(m, t) all = Concat<axis = 1>(o, m)", 1, 1),
    ],
)
@pytest.mark.parametrize("batch", ["N", "2"])
def test_extra_tokens(tokens: str, before: int, after: int, batch: str) -> None:
    size = "unit = Constant<value_ints = [1]>() sh = Shape<end = 1>(x) s = Concat<axis = 0>(sh, unit, unit) "
    it = net(f"{PATCHES} {size} {tokens} last = Relu(all)", f"{batch}, 3, 4, 6")
    assert placed(it, "last") == GridLocation(2, (2, 3), before, after)


def test_tokens_whose_number_is_told_by_the_positions_added() -> None:
    """Exporters leave the class token's Expand without a size; the sum with the positions has one."""
    it = net(
        f"""{PATCHES} shape = Shape(x) m = Constant<value_ints = [8]>()
        o = Mul(shape, shape) e = ReduceMin<keepdims = 0>(o) f = CastLike(e, m)
        n = Constant<value_ints = [0]>() g = Unsqueeze(f, n) s = Concat<axis = 0>(g, g, m)
        many = Expand(cls, s) all = Concat<axis = 1>(many, t) last = Add(all, pos)"""
    )
    assert placed(it, "all") is None
    assert placed(it, "last") == GridLocation(2, (2, 3), 1, 0)


def test_the_cells_are_cut_out_again() -> None:
    it = net(
        f"""{PATCHES} all = Concat<axis = 1>(cls, t)
        a = Constant<value_ints = [1]>() b = Constant<value_ints = [99]>()
        cells = Slice(all, a, b, a) z = Constant<value_ints = [0]>() first = Slice(all, z, a, a)
        some = Constant<value_ints = [3]>() part = Slice(all, some, b, a)
        last = Concat<axis = 1>(cells, first, part)""",
        "1, 3, 4, 6",
    )
    assert placed(it, "cells") == GridLocation(2, (2, 3))
    assert placed(it, "first") is None
    assert placed(it, "part") is None


ATTENTION = """
    q = MatMul(t, v) tt = Transpose<perm = [0, 2, 1]>(q) s = MatMul(q, tt)
    p = Softmax<axis = -1>(s) o = MatMul(p, q)"""


def test_attention_gives_the_queries_places_to_the_values() -> None:
    it = net(PATCHES + ATTENTION + " last = Add(t, o)")
    assert placed(it, "s") is None
    assert placed(it, "p") is None
    assert placed(it, "o") == placed(it, "last") == GridLocation(2, (2, 3))
    assert placed(it, "tt") == GridLocation(1, (2, 3))


def test_attention_as_einsum() -> None:
    it = net(
        PATCHES
        + """ s = Einsum<equation = "bid,bjd->bij">(t, t)
        last = Einsum<equation = "bij, bjd -> bid">(s, t)"""
    )
    assert placed(it, "s") is None
    assert placed(it, "last") == GridLocation(2, (2, 3))


WINDOWS = """
    k = Constant<value_ints = [0, 2, 2, 3, 2, 3]>() m = Constant<value_ints = [-1, 4, 3]>()
    back = Constant<value_ints = [-1, 2, 3, 2, 2, 3]>() whole = Constant<value_ints = [-1, 4, 6, 3]>()
    h = Transpose<perm = [0, 2, 3, 1]>(x)
    cut = Reshape(h, k) turned = Transpose<perm = [0, 1, 3, 2, 4, 5]>(cut)
    windows = Reshape(turned, m) r = Relu(windows)
    b = Reshape(r, back) u = Transpose<perm = [0, 1, 3, 2, 4, 5]>(b)
    joined = Reshape(u, whole)"""


@pytest.mark.parametrize("batch", ["N", "1", "2"])
def test_windows_are_no_layer_and_are_joined_again(batch: str) -> None:
    it = net(WINDOWS + " last = Relu(joined)", f"{batch}, 3, 4, 6")
    assert placed(it, "h") == GridLocation(3)
    assert placed(it, "windows") is None
    assert placed(it, "joined") == GridLocation(3)


def test_rolled_rows_are_not_where_they_were() -> None:
    it = net(
        """ z = Constant<value_ints = [0]>() a = Constant<value_ints = [1]>() d = Constant<value_ints = [2]>()
        e = Constant<value_ints = [9]>() top = Slice(x, z, a, d) rest = Slice(x, a, e, d)
        rolled = Concat<axis = 2>(rest, top) r = Relu(rolled) sum = Add(x, r) last = Relu(sum)"""
    )
    assert placed(it, "r") is None
    assert placed(it, "sum") == GridLocation(1)


def test_channels_of_a_shuffle_do_not_hide_the_grid() -> None:
    it = net(
        """ k = Constant<value_ints = [0, 3, 1, 4, 6]>() m = Constant<value_ints = [0, 3, 4, 6]>()
        cut = Reshape(x, k) turned = Transpose<perm = [0, 2, 1, 3, 4]>(cut) c = Reshape(turned, m)
        last = Relu(c)"""
    )
    assert placed(it, "c") == GridLocation(1)


def test_one_row() -> None:
    it = net(" r = Relu(x) last = Relu(r)", "N, 3, 1, 6")
    assert placed(it, "r") == GridLocation(1)


def test_the_sizes_may_be_free() -> None:
    it = net(
        """ k = Constant<value_ints = [0, 3, -1]>() flat = Reshape(x, k)
        last = Transpose<perm = [0, 2, 1]>(flat)""",
        "N, 3, H, W",
    )
    assert placed(it, "last") == GridLocation(2, ("H", "W"))


def test_a_window_leaves_another_grid_also_of_free_sizes() -> None:
    it = net(PATCHES + " last = Relu(flat)", "N, 3, H, W")
    assert placed(it, "last") == GridLocation(1, ("(H-2)//2+1", "(W-2)//2+1"))


def test_bytes_and_channels_last() -> None:
    it = model(
        """(uint8[N, 4, 6, 3] x) => (float[N, 4, 6, 3] last) {
            f = Cast<to = 1>(x) last = Relu(f) }"""
    )
    assert placed(it, "last", "NHWC") == GridLocation(3)


def test_operators_that_are_not_known_say_nothing_of_another_shape() -> None:
    it = net(" k = Constant<value_ints = [2]>() top, i = TopK<axis = 3>(x, k) last = Relu(top)")
    assert placed(it, "top") is None


def unfolded(rows: str, columns: str, batch: str = "N") -> Model:
    """Patches cut out by tables of places, (rows in a patch, patches) and so of columns, as im2col."""
    return net(
        f"""i = Constant<value = int64[2, 2] {{{rows}}}>() j = Constant<value = int64[2, 3] {{{columns}}}>()
        a = Gather<axis = 2>(x, i) b = Gather<axis = 4>(a, j)
        c = Transpose<perm = [0, 1, 2, 4, 3, 5]>(b) k = Constant<value_ints = [0, 12, 6]>()
        flat = Reshape(c, k) t = Transpose<perm = [0, 2, 1]>(flat) last = Relu(t)""",
        f"{batch}, 3, 4, 6",
    )


@pytest.mark.parametrize("batch", ["N", "1", "2"])
@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        ("0, 2, 1, 3", "0, 2, 4, 1, 3, 5"),
        ("0, 2, 1, 3", "0, 1, 2, 1, 2, 3"),
    ],  # side by side, over each other
)
def test_patches_cut_out_by_a_table(rows: str, columns: str, batch: str) -> None:
    assert placed(unfolded(rows, columns, batch), "last") == GridLocation(2, (2, 3))


def test_a_table_of_places_in_no_order() -> None:
    assert placed(unfolded("0, 2, 1, 3", "0, 5, 4, 1, 3, 2"), "last") is None


def test_patches_put_together_again() -> None:
    """Cut side by side and joined in the old order, rows are the rows that they were."""
    it = net(
        """i = Constant<value = int64[2, 2] {0, 1, 2, 3}>() k = Constant<value_ints = [0, 3, 4, 6]>()
        cut = Gather<axis = 2>(x, i) joined = Reshape(cut, k) last = Relu(joined)"""
    )
    axes = AxisFlow(it.graph, "x", "NCHW").axes_of(it.graph.tensors()["cut"])
    assert show(axes) == "nN c3 y2/2 y2 x6"
    assert placed(it, "joined") == GridLocation(1)


def test_patches_in_the_batch() -> None:
    """A net of its own in every patch, as TNT has it: all patches of all pictures are one batch."""
    it = net(
        PATCHES
        + """ s = Shape(x) z = Constant<value_ints = [0]>() six = Constant<value_ints = [6]>()
        eight = Constant<value_ints = [8]>() part = Constant<value_ints = [2, 4]>()
        n = Gather(s, z) m = Mul(n, six) inside = Concat<axis = 0>(m, part) p = Reshape(t, inside)
        r = Relu(p) whole = Concat<axis = 0>(n, six, eight) back = Reshape(r, whole) last = Relu(back)"""
    )
    assert tuple(it.graph.tensors()["r"].shape) == ("6x[N]", 2, 4)
    assert placed(it, "r") is None
    assert placed(it, "last") == GridLocation(2, (2, 3))


@pytest.mark.parametrize("shape", [(2, 3, 24), (2, 0, 5), (0,), (6, "n")])
def test_axes_of_no_size_are_dealt_out_or_not(shape: tuple[int | str, ...]) -> None:
    """A size of 0 divides nothing: it is no error, whatever it is reshaped to."""
    axes = regroup(picture(2, 3, 0, 6), shape)
    assert axes is None or len(axes) == len(shape)
