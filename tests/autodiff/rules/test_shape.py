"""Operators that move values: every form of every opset, with fixed and with unknown sizes."""

from typing import Any

import numpy as np
import pytest
from onnx import parser

from onnxcam.arrays import Array
from onnxcam.errors import ModelError
from tests.autodiff.support.check import check_model, check_vjp, numbers

FIXED_AND_NOT = pytest.mark.parametrize("dynamic", [(), (0,), (0, 2)], ids=str)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


@FIXED_AND_NOT
@pytest.mark.parametrize(
    "shape", [(2, 12), (0, -1), (-1, 4), (2, 3, 2, 2), (24,), (0, 0, 0), (-1, 1, 12)]
)
def test_reshape(shape: tuple[int, ...], dynamic: tuple[int, ...]) -> None:
    check_vjp("Reshape", numbers(2, 3, 4), ints(*shape), dynamic=dynamic)


@FIXED_AND_NOT
@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_flatten(axis: int, dynamic: tuple[int, ...]) -> None:
    check_vjp("Flatten", numbers(2, 3, 4), axis=axis, dynamic=dynamic)


@FIXED_AND_NOT
@pytest.mark.parametrize("perm", [None, [2, 0, 1], [0, 1, 2], [1, 0, 2]], ids=str)
def test_transpose(perm: list[int] | None, dynamic: tuple[int, ...]) -> None:
    given: dict[str, Any] = {"perm": perm} if perm else {}
    check_vjp("Transpose", numbers(2, 3, 4), dynamic=dynamic, **given)


@pytest.mark.parametrize("axes", [(1,), (-3,), (1, 3), None], ids=str)
def test_squeeze(axes: tuple[int, ...] | None) -> None:
    x = numbers(2, 1, 3, 1)
    if axes is None:
        check_vjp("Squeeze", x, opset=11)
        check_vjp("Squeeze", x, opset=13)
        return
    check_vjp("Squeeze", x, opset=11, axes=list(axes))
    check_vjp("Squeeze", x, ints(*axes), opset=13, dynamic=(0, 2))


@pytest.mark.parametrize("axes", [(0,), (-1,), (1, 3), (0, 4)])
def test_unsqueeze(axes: tuple[int, ...]) -> None:
    check_vjp("Unsqueeze", numbers(2, 3, 4), opset=11, axes=list(axes))
    check_vjp("Unsqueeze", numbers(2, 3, 4), ints(*axes), opset=13, dynamic=(0, 2))


@pytest.mark.parametrize("dynamic", [(), (0, 1, 2)], ids=str)
@pytest.mark.parametrize(
    ("size", "shape"), [((3, 1), (2, 3, 4)), ((1,), (5,)), ((3, 4), (1, 1)), ((2, 1, 4), (1, 3, 1))]
)
def test_expand(size: tuple[int, ...], shape: tuple[int, ...], dynamic: tuple[int, ...]) -> None:
    check_vjp("Expand", numbers(*size), ints(*shape), dynamic=dynamic)


@pytest.mark.parametrize(("dynamic", "alike"), [((), True), ((0, 1, 2), True), ((0, 1, 2), False)])
@pytest.mark.parametrize("axis", [1, -2])
def test_concat(axis: int, dynamic: tuple[int, ...], alike: bool) -> None:
    arrays = [numbers(2, n, 3, seed=n) for n in (4, 1, 2)]
    check_vjp("Concat", *arrays, wrt=(0, 1, 2), axis=axis, dynamic=dynamic, alike=alike)
    check_vjp("Concat", *arrays, wrt=(0, 2), axis=axis, dynamic=dynamic, alike=alike)
    check_vjp("Concat", *arrays, wrt=(0, 1, 2), axis=axis % 3, opset=9)


@FIXED_AND_NOT
@pytest.mark.parametrize("of", [0, 1, 2])
def test_split(of: int, dynamic: tuple[int, ...]) -> None:
    x = numbers(2, 6, 3)
    check_vjp("Split", x, outputs=3, of=of, opset=11, axis=1, split=[1, 3, 2], dynamic=dynamic)
    check_vjp("Split", x, outputs=3, of=of, opset=11, axis=1, dynamic=dynamic)
    check_vjp("Split", x, ints(1, 3, 2), outputs=3, of=of, opset=13, axis=-2, dynamic=dynamic)
    check_vjp("Split", x, outputs=3, of=of, opset=13, axis=1, dynamic=dynamic)
    check_vjp("Split", x, outputs=3, of=of, opset=18, axis=1, num_outputs=3, dynamic=dynamic)


SLICES: list[
    tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...] | None, tuple[int, ...] | None]
] = [
    ((1,), (4,), (1,), None),
    ((0, 1), (2, 9), None, None),
    ((1, 2), (2**31 - 1, 2**63 - 1), (1, 2), None),
    ((-3,), (-1,), (1,), None),
    ((1, 0), (6, 8), (1, 2), (2, 3)),
    ((0,), (7,), (-1,), (4,)),
    ((-1,), (-(2**63),), (1,), (-1,)),
    ((6, 4), (0, -9), (2, 1), (-2, -3)),
    ((3,), (3,), (1,), None),
    ((-20,), (3,), (2,), None),
    ((1,), (2,), (2,), (5,)),
]


@pytest.mark.parametrize(("starts", "ends", "axes", "steps"), SLICES, ids=str)
def test_slice(
    starts: tuple[int, ...],
    ends: tuple[int, ...],
    axes: tuple[int, ...] | None,
    steps: tuple[int, ...] | None,
) -> None:
    given = [None if each is None else ints(*each) for each in (axes, steps)]
    check_vjp("Slice", numbers(2, 6, 8), ints(*starts), ints(*ends), *given)
    check_vjp("Slice", numbers(2, 6, 8), ints(*starts), ints(*ends), *given, dynamic=(0,))
    if steps is None and (axes is None or min(axes) >= 0):
        attributes: dict[str, Any] = {"starts": starts, "ends": ends}
        if axes is not None:
            attributes["axes"] = axes
        check_vjp("Slice", numbers(2, 6, 8), opset=9, **attributes)


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"), [*SLICES[:3], *SLICES[4:6], SLICES[10]], ids=str
)
def test_slice_of_unknown_sizes(
    starts: tuple[int, ...],
    ends: tuple[int, ...],
    axes: tuple[int, ...] | None,
    steps: tuple[int, ...] | None,
) -> None:
    given = [None if each is None else ints(*each) for each in (axes, steps)]
    check_vjp("Slice", numbers(2, 6, 8), ints(*starts), ints(*ends), *given, dynamic=(0, 1, 2))


@pytest.mark.parametrize("bounds", ["one, near", "one, size", "minus, size"])
def test_slice_between_computed_bounds(bounds: str) -> None:
    model = parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, C, W] x) => (float[a, b, c] y)
    <int64[1] one = {{1}}, int64[1] minus = {{-3}}, int64[1] two = {{2}}> {{
        shape = Shape(x)
        size = Gather<axis = 0>(shape, two)
        near = Sub(size, two)
        y = Slice(x, {bounds}, two)
    }}""")
    check_model(model, {"x": numbers(2, 3, 8)}, ["x"], "y")


PADS = [(0, 1, 2, 0, 2, 1), (1, 0, 0, 0, 0, 0), (0, -1, 2, 0, 1, -2), (0, 0, -1, -1, 0, 0)]


@pytest.mark.parametrize("dynamic", [(), (0,), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("pads", PADS, ids=str)
def test_pad(pads: tuple[int, ...], dynamic: tuple[int, ...]) -> None:
    x = numbers(2, 4, 5)
    check_vjp("Pad", x, opset=10, pads=list(pads), dynamic=dynamic)
    for opset in (11, 13, 18):
        check_vjp("Pad", x, ints(*pads), np.float32(0.5), opset=opset, dynamic=dynamic)


@pytest.mark.parametrize("dynamic", [(), (0,)], ids=str)
@pytest.mark.parametrize("pads", [PADS[0], (0, 0, 3, 0, 2, 2), (1, 0, 0, 1, 0, 0)], ids=str)
@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_pad_by_copies(mode: str, pads: tuple[int, ...], dynamic: tuple[int, ...]) -> None:
    x = numbers(2, 4, 5)
    if pads[0] or pads[3]:
        dynamic = ()  # an axis that is copied from needs a fixed size
    if mode != "wrap":
        check_vjp("Pad", x, opset=10, pads=list(pads), mode=mode, dynamic=dynamic)
        check_vjp("Pad", x, ints(*pads), opset=11, mode=mode, dynamic=dynamic)
    check_vjp("Pad", x, ints(*pads), opset=19, mode=mode, dynamic=dynamic)


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_copies_of_an_unknown_size_are_refused(mode: str) -> None:
    with pytest.raises(ModelError, match="needs a fixed size of axis 1"):
        check_vjp("Pad", numbers(2, 4, 5), ints(*PADS[0]), opset=19, mode=mode, dynamic=(1,))


def test_pad_of_some_axes() -> None:
    check_vjp("Pad", numbers(2, 4, 5), ints(1, 2, 0, 3), None, ints(-1, 1), opset=18, dynamic=(0,))


def test_pad_by_a_computed_amount() -> None:
    model = parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, C, W] x) => (float[a, b, c] y) <int64[6] share = {9, 2, 3, 9, 9, 4}> {
        shape = Shape(x)
        twice = Concat<axis = 0>(shape, shape)
        pads = Div(twice, share)
        y = Pad(x, pads)
    }""")
    check_model(model, {"x": numbers(2, 3, 8)}, ["x"], "y")
