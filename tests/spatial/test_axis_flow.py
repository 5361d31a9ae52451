"""What the axes of tensors hold after reshapes, attention, windows and extra tokens."""

import re
from typing import Any

import pytest

from onnxcam.model.model import Model
from onnxcam.spatial.axes import Axes, GridLocation, Tokens, locate_grid, new_axis, regroup
from onnxcam.spatial.axis_flow import AxisFlow
from tests.model.support.texts import load_text

WIDE = {"w": (8, 3, 2, 2), "v": (8, 8), "cls": (1, 1, 8), "two": (1, 2, 8), "pos": (1, 7, 8)}
PATCHES = """
    c = Conv<strides = [2, 2]>(x, w)
    k = Constant<value_ints = [0, 8, -1]>()
    flat = Reshape(c, k)
    t = Transpose<perm = [0, 2, 1]>(flat)"""  # (N, 6, 8): a grid of 2 x 3


def net(body: str, sizes: str = "N, 3, 4, 6") -> Model:
    text = f"(float[{sizes}] x) => (float[a, b] out) {{ {body} out = Flatten(last) }}"
    return load_text(text, **_used_weights(body))


def _used_weights(body: str) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in WIDE.items() if re.search(rf"\b{name}\b", body)}


def locate(model: Model, name: str, layout: str = "NCHW") -> GridLocation | None:
    tensor = model.graph.tensors()[name]
    axes = AxisFlow(model.graph, "x", layout).axes_of(tensor)
    return None if axes is None else locate_grid(axes, tuple(tensor.shape))


def show(axes: Axes | None) -> str:
    """The factors of each axis, written as kind, size / stride: y4/2 counts 4 windows of 2 rows."""
    if axes is None:
        return "?"
    return " ".join(".".join(map(_show_factor, axis)) or "1" for axis in axes)


def _show_factor(factor: Any) -> str:
    if isinstance(factor, Tokens):
        return f"{factor.before}+({'.'.join(map(_show_factor, factor.cells))})+{factor.after}"
    return f"{factor.kind}{factor.size}" + (f"/{factor.stride}" if factor.stride > 1 else "")


def image_axes(*sizes: int) -> Axes:
    return tuple(new_axis(kind, size, kind) for kind, size in zip("ncyx", sizes, strict=True))


@pytest.mark.parametrize(
    ("sizes", "shapes", "expected"),
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
def test_reshape_regroups_factors(sizes: Any, shapes: Any, expected: str) -> None:
    axes: Axes | None = image_axes(*sizes)
    for shape in shapes:
        assert axes is not None
        axes = regroup(axes, shape)
    assert show(axes) == expected or ("?" in expected and axes is None)


def test_axis_transposed_between_reshapes_is_not_joined() -> None:
    axes = regroup(image_axes(2, 3, 4, 6), (2, 3, 2, 2, 6))
    assert axes is not None
    transposed = tuple(axes[i] for i in (0, 1, 3, 2, 4))
    assert show(regroup(transposed, (2, 3, 4, 6))) == "n2 c3 y2.y2/2 x6"


def test_patches_of_convolution_keep_their_grid() -> None:
    model = net(PATCHES + " last = MatMul(t, v)")
    assert locate(model, "flat") == GridLocation(1, (2, 3))
    assert locate(model, "t") == locate(model, "last") == GridLocation(2, (2, 3))


def test_patches_by_reshape_form_grid() -> None:
    """(N, 3, 4, 6) in patches of 2 x 2: rows and columns within a patch become features."""
    model = net(
        """ k = Constant<value_ints = [0, 3, 2, 2, 3, 2]>() m = Constant<value_ints = [0, 6, 12]>()
        cut = Reshape(x, k) turned = Transpose<perm = [0, 2, 4, 3, 5, 1]>(cut)
        last = Reshape(turned, m)"""
    )
    assert locate(model, "last") == GridLocation(2, (2, 3))


def test_columns_before_rows_are_no_grid() -> None:
    model = net(
        PATCHES.replace("c = Conv", "d = Conv").replace(
            "k = ", "c = Transpose<perm = [0, 1, 3, 2]>(d) k = "
        )
        + " last = Relu(t)"
    )
    assert locate(model, "last") is None


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
def test_extra_tokens_are_counted(tokens: str, before: int, after: int, batch: str) -> None:
    size = "unit = Constant<value_ints = [1]>() sh = Shape<end = 1>(x) s = Concat<axis = 0>(sh, unit, unit) "
    model = net(f"{PATCHES} {size} {tokens} last = Relu(all)", f"{batch}, 3, 4, 6")
    assert locate(model, "last") == GridLocation(2, (2, 3), before, after)


def test_extra_tokens_follow_from_size_of_added_positions() -> None:
    """In exported models, the Expand of the class token has no known size; the sum with positions has one."""
    model = net(
        f"""{PATCHES} shape = Shape(x) m = Constant<value_ints = [8]>()
        o = Mul(shape, shape) e = ReduceMin<keepdims = 0>(o) f = CastLike(e, m)
        n = Constant<value_ints = [0]>() g = Unsqueeze(f, n) s = Concat<axis = 0>(g, g, m)
        many = Expand(cls, s) all = Concat<axis = 1>(many, t) last = Add(all, pos)"""
    )
    assert locate(model, "all") is None
    assert locate(model, "last") == GridLocation(2, (2, 3), 1, 0)


def test_slice_of_all_cells_is_the_grid() -> None:
    model = net(
        f"""{PATCHES} all = Concat<axis = 1>(cls, t)
        a = Constant<value_ints = [1]>() b = Constant<value_ints = [99]>()
        cells = Slice(all, a, b, a) z = Constant<value_ints = [0]>() first = Slice(all, z, a, a)
        some = Constant<value_ints = [3]>() part = Slice(all, some, b, a)
        last = Concat<axis = 1>(cells, first, part)""",
        "1, 3, 4, 6",
    )
    assert locate(model, "cells") == GridLocation(2, (2, 3))
    assert locate(model, "first") is None
    assert locate(model, "part") is None


ATTENTION = """
    q = MatMul(t, v) tt = Transpose<perm = [0, 2, 1]>(q) s = MatMul(q, tt)
    p = Softmax<axis = -1>(s) o = MatMul(p, q)"""


def test_attention_output_has_positions_of_queries() -> None:
    model = net(PATCHES + ATTENTION + " last = Add(t, o)")
    assert locate(model, "s") is None
    assert locate(model, "p") is None
    assert locate(model, "o") == locate(model, "last") == GridLocation(2, (2, 3))
    assert locate(model, "tt") == GridLocation(1, (2, 3))


def test_attention_as_einsum_keeps_grid() -> None:
    model = net(
        PATCHES
        + """ s = Einsum<equation = "bid,bjd->bij">(t, t)
        last = Einsum<equation = "bij, bjd -> bid">(s, t)"""
    )
    assert locate(model, "s") is None
    assert locate(model, "last") == GridLocation(2, (2, 3))


WINDOWS = """
    k = Constant<value_ints = [0, 2, 2, 3, 2, 3]>() m = Constant<value_ints = [-1, 4, 3]>()
    back = Constant<value_ints = [-1, 2, 3, 2, 2, 3]>() full = Constant<value_ints = [-1, 4, 6, 3]>()
    h = Transpose<perm = [0, 2, 3, 1]>(x)
    cut = Reshape(h, k) turned = Transpose<perm = [0, 1, 3, 2, 4, 5]>(cut)
    windows = Reshape(turned, m) r = Relu(windows)
    b = Reshape(r, back) u = Transpose<perm = [0, 1, 3, 2, 4, 5]>(b)
    joined = Reshape(u, full)"""


@pytest.mark.parametrize("batch", ["N", "1", "2"])
def test_windows_are_no_grid_until_joined(batch: str) -> None:
    model = net(WINDOWS + " last = Relu(joined)", f"{batch}, 3, 4, 6")
    assert locate(model, "h") == GridLocation(3)
    assert locate(model, "windows") is None
    assert locate(model, "joined") == GridLocation(3)


def test_rolled_rows_are_no_grid() -> None:
    model = net(
        """ z = Constant<value_ints = [0]>() a = Constant<value_ints = [1]>() d = Constant<value_ints = [2]>()
        e = Constant<value_ints = [9]>() top = Slice(x, z, a, d) bottom = Slice(x, a, e, d)
        rolled = Concat<axis = 2>(bottom, top) r = Relu(rolled) sum = Add(x, r) last = Relu(sum)"""
    )
    assert locate(model, "r") is None
    assert locate(model, "sum") == GridLocation(1)


def test_channel_shuffle_keeps_grid() -> None:
    model = net(
        """ k = Constant<value_ints = [0, 3, 1, 4, 6]>() m = Constant<value_ints = [0, 3, 4, 6]>()
        cut = Reshape(x, k) turned = Transpose<perm = [0, 2, 1, 3, 4]>(cut) c = Reshape(turned, m)
        last = Relu(c)"""
    )
    assert locate(model, "c") == GridLocation(1)


def test_single_row_is_a_grid() -> None:
    model = net(" r = Relu(x) last = Relu(r)", "N, 3, 1, 6")
    assert locate(model, "r") == GridLocation(1)


def test_grid_of_named_sizes() -> None:
    model = net(
        """ k = Constant<value_ints = [0, 3, -1]>() flat = Reshape(x, k)
        last = Transpose<perm = [0, 2, 1]>(flat)""",
        "N, 3, H, W",
    )
    assert locate(model, "last") == GridLocation(2, ("H", "W"))


def test_window_over_named_sizes_makes_new_grid() -> None:
    model = net(PATCHES + " last = Relu(flat)", "N, 3, H, W")
    assert locate(model, "last") == GridLocation(1, ("(H-2)//2+1", "(W-2)//2+1"))


def test_channels_last_bytes_are_followed() -> None:
    model = load_text(
        """(uint8[N, 4, 6, 3] x) => (float[N, 4, 6, 3] last) {
            f = Cast<to = 1>(x) last = Relu(f) }"""
    )
    assert locate(model, "last", "NHWC") == GridLocation(3)


def test_operator_that_loses_positions_has_no_grid() -> None:
    model = net(" k = Constant<value_ints = [2]>() top, i = TopK<axis = 3>(x, k) last = Relu(top)")
    assert locate(model, "top") is None


def patches_by_tables(rows: str, columns: str, batch: str = "N") -> Model:
    """Patches by tables of positions as in im2col: (rows in a patch, patches), and the same for columns."""
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
    ],  # next to each other, overlapping
)
def test_patches_by_table_of_positions_form_grid(rows: str, columns: str, batch: str) -> None:
    assert locate(patches_by_tables(rows, columns, batch), "last") == GridLocation(2, (2, 3))


def test_unordered_table_of_positions_is_no_grid() -> None:
    assert locate(patches_by_tables("0, 2, 1, 3", "0, 5, 4, 1, 3, 2"), "last") is None


def test_rows_gathered_as_windows_are_rows_when_joined() -> None:
    model = net(
        """i = Constant<value = int64[2, 2] {0, 1, 2, 3}>() k = Constant<value_ints = [0, 3, 4, 6]>()
        cut = Gather<axis = 2>(x, i) joined = Reshape(cut, k) last = Relu(joined)"""
    )
    axes = AxisFlow(model.graph, "x", "NCHW").axes_of(model.graph.tensors()["cut"])
    assert show(axes) == "nN c3 y2/2 y2 x6"
    assert locate(model, "joined") == GridLocation(1)


def test_patches_within_batch_are_no_grid() -> None:
    """As in TNT, which runs a network on each patch: the patches of all images are one batch."""
    model = net(
        PATCHES
        + """ s = Shape(x) z = Constant<value_ints = [0]>() six = Constant<value_ints = [6]>()
        eight = Constant<value_ints = [8]>() part = Constant<value_ints = [2, 4]>()
        n = Gather(s, z) m = Mul(n, six) inside = Concat<axis = 0>(m, part) p = Reshape(t, inside)
        r = Relu(p) full = Concat<axis = 0>(n, six, eight) back = Reshape(r, full) last = Relu(back)"""
    )
    assert tuple(model.graph.tensors()["r"].shape) == ("6x[N]", 2, 4)
    assert locate(model, "r") is None
    assert locate(model, "last") == GridLocation(2, (2, 3))


@pytest.mark.parametrize("shape", [(2, 3, 24), (2, 0, 5), (0,), (6, "n")])
def test_reshape_of_empty_axes_does_not_fail(shape: tuple[int | str, ...]) -> None:
    axes = regroup(image_axes(2, 3, 0, 6), shape)
    assert axes is None or len(axes) == len(shape)
