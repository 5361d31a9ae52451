"""Operators that change shapes: every form in every opset, with fixed and unknown sizes."""

from typing import Any

import pytest

from tests.autodiff.support.check import check_vjp, ints, numbers

DYNAMIC = pytest.mark.parametrize("dynamic", [(), (0,), (0, 2)], ids=str)


@DYNAMIC
@pytest.mark.parametrize(
    "shape", [(2, 12), (0, -1), (-1, 4), (2, 3, 2, 2), (24,), (0, 0, 0), (-1, 1, 12)]
)
def test_reshape_matches_differences(shape: tuple[int, ...], dynamic: tuple[int, ...]) -> None:
    check_vjp("Reshape", numbers(2, 3, 4), ints(*shape), dynamic=dynamic)


@DYNAMIC
@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_flatten_matches_differences(axis: int, dynamic: tuple[int, ...]) -> None:
    check_vjp("Flatten", numbers(2, 3, 4), axis=axis, dynamic=dynamic)


@DYNAMIC
@pytest.mark.parametrize("perm", [None, [2, 0, 1], [0, 1, 2], [1, 0, 2]], ids=str)
def test_transpose_matches_differences(perm: list[int] | None, dynamic: tuple[int, ...]) -> None:
    attributes: dict[str, Any] = {"perm": perm} if perm else {}
    check_vjp("Transpose", numbers(2, 3, 4), dynamic=dynamic, **attributes)


@pytest.mark.parametrize("axes", [(1,), (-3,), (1, 3), None], ids=str)
def test_squeeze_matches_differences(axes: tuple[int, ...] | None) -> None:
    x = numbers(2, 1, 3, 1)
    if axes is None:
        check_vjp("Squeeze", x, opset=11)
        check_vjp("Squeeze", x, opset=13)
        return
    check_vjp("Squeeze", x, opset=11, axes=list(axes))
    check_vjp("Squeeze", x, ints(*axes), opset=13, dynamic=(0, 2))


@pytest.mark.parametrize("axes", [(0,), (-1,), (1, 3), (0, 4)])
def test_unsqueeze_matches_differences(axes: tuple[int, ...]) -> None:
    check_vjp("Unsqueeze", numbers(2, 3, 4), opset=11, axes=list(axes))
    check_vjp("Unsqueeze", numbers(2, 3, 4), ints(*axes), opset=13, dynamic=(0, 2))


@pytest.mark.parametrize("dynamic", [(), (0, 1, 2)], ids=str)
@pytest.mark.parametrize(
    ("size", "shape"), [((3, 1), (2, 3, 4)), ((1,), (5,)), ((3, 4), (1, 1)), ((2, 1, 4), (1, 3, 1))]
)
def test_expand_matches_differences(
    size: tuple[int, ...], shape: tuple[int, ...], dynamic: tuple[int, ...]
) -> None:
    check_vjp("Expand", numbers(*size), ints(*shape), dynamic=dynamic)


@pytest.mark.parametrize(
    ("dynamic", "name_by_size"), [((), True), ((0, 1, 2), True), ((0, 1, 2), False)]
)
@pytest.mark.parametrize("axis", [1, -2])
def test_concat_matches_differences(
    axis: int, dynamic: tuple[int, ...], name_by_size: bool
) -> None:
    arrays = [numbers(2, n, 3, seed=n) for n in (4, 1, 2)]
    check_vjp(
        "Concat", *arrays, wrt=(0, 1, 2), axis=axis, dynamic=dynamic, name_by_size=name_by_size
    )
    check_vjp("Concat", *arrays, wrt=(0, 2), axis=axis, dynamic=dynamic, name_by_size=name_by_size)
    check_vjp("Concat", *arrays, wrt=(0, 1, 2), axis=axis % 3, opset=9)


@DYNAMIC
@pytest.mark.parametrize("output", [0, 1, 2])
def test_split_matches_differences(output: int, dynamic: tuple[int, ...]) -> None:
    x = numbers(2, 6, 3)
    check_vjp(
        "Split", x, outputs=3, output=output, opset=11, axis=1, split=[1, 3, 2], dynamic=dynamic
    )
    check_vjp("Split", x, outputs=3, output=output, opset=11, axis=1, dynamic=dynamic)
    check_vjp(
        "Split", x, ints(1, 3, 2), outputs=3, output=output, opset=13, axis=-2, dynamic=dynamic
    )
    check_vjp("Split", x, outputs=3, output=output, opset=13, axis=1, dynamic=dynamic)
    check_vjp(
        "Split", x, outputs=3, output=output, opset=18, axis=1, num_outputs=3, dynamic=dynamic
    )
