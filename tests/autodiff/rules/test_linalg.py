"""MatMul and Gemm of vectors, matrices and batches."""

from itertools import product

import numpy as np
import pytest

from tests.autodiff.support.check import check_vjp, numbers

SHAPES = [
    ((3, 4), (4, 5)),
    ((4,), (4,)),
    ((4,), (4, 5)),
    ((3, 4), (4,)),
    ((2, 3, 4), (4,)),
    ((4,), (2, 4, 5)),
    ((2, 3, 4), (4, 5)),
    ((3, 4), (2, 4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (5, 4, 2)),
    ((1, 3, 4), (2, 4, 1)),
    ((1, 1), (1, 1)),
]


@pytest.mark.parametrize(
    ("dynamic", "name_by_size"), [((), True), ((0, 1, 2, 3), True), ((0,), False)]
)
@pytest.mark.parametrize(("a", "b"), SHAPES, ids=str)
def test_matmul_matches_differences(
    a: tuple[int, ...], b: tuple[int, ...], dynamic: tuple[int, ...], name_by_size: bool
) -> None:
    arrays = numbers(*a), numbers(*b, seed=1)
    check_vjp("MatMul", *arrays, wrt=(0, 1), dynamic=dynamic, name_by_size=name_by_size)


@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize(("a", "b"), SHAPES, ids=str)
def test_matmul_by_a_constant_matches_differences(
    a: tuple[int, ...], b: tuple[int, ...], slot: int
) -> None:
    check_vjp("MatMul", numbers(*a), numbers(*b, seed=1), wrt=(slot,), dynamic=(0,))


@pytest.mark.parametrize("bias", [None, (4, 5), (5,), (4, 1), (1, 1), ()], ids=str)
@pytest.mark.parametrize(("trans_a", "trans_b"), list(product((0, 1), repeat=2)))
@pytest.mark.parametrize("opset", [7, 9, 11, 13])
def test_gemm_matches_differences(
    trans_a: int, trans_b: int, bias: tuple[int, ...] | None, opset: int
) -> None:
    a, b = (
        numbers(*((3, 4) if trans_a else (4, 3))),
        numbers(*((5, 3) if trans_b else (3, 5)), seed=1),
    )
    if bias is None:
        if opset < 11:
            bias = (1, 5)  # required before
        else:
            check_vjp(
                "Gemm", a, b, wrt=(0, 1), opset=opset, alpha=0.5, transA=trans_a, transB=trans_b
            )
            return
    check_vjp(
        "Gemm",
        a,
        b,
        np.asarray(numbers(*bias, seed=2)),
        wrt=(0, 1, 2),
        opset=opset,
        alpha=0.5,
        beta=-2.0,
        transA=trans_a,
        transB=trans_b,
    )


@pytest.mark.parametrize("dynamic", [(0,), (0, 1)], ids=str)
def test_gemm_of_unknown_sizes_matches_differences(dynamic: tuple[int, ...]) -> None:
    arrays = numbers(4, 3), numbers(5, 3, seed=1), numbers(5, seed=2)
    check_vjp("Gemm", *arrays, wrt=(0, 1, 2), transB=1, dynamic=dynamic)
