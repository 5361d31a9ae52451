"""Einsum: axes that are shared, summed, repeated, implicit or in an ellipsis."""

import pytest

from tests.autodiff.support.check import check_vjp, numbers

SIZES = {"b": 2, "h": 3, "i": 4, "j": 5, "k": 3, "d": 2}
PLAIN = [
    *("ij->ji", "ij->i", "ij->", "i->i", "bij->bj", "ij,jk->ik", "bij,bjk->bik", "ij,jk", "ji"),
    *("i,j->ij", "ij,ij->", "ij,ij->ij", "bhid,bhjd->bhij", "bij,jk,kd->bid", "i,i", "ij,k->i"),
    *(" b i j , j k -> b i k", "ij,jk,k->", "bi,bj,bk->ijk"),
]
DIAGONAL = ["ii->i", "ii", "ii->", "bii->bi", "bii->ib", "ii,i->i", "ij,jj->i", "iji->j", "iii->i"]
DYNAMIC = pytest.mark.parametrize("dynamic", [(), (0,), (0, 1, 2, 3)], ids=str)


def check_einsum(equation: str, dynamic: tuple[int, ...], *, name_by_size: bool = True) -> None:
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    xs = [numbers(*(SIZES[letter] for letter in t), seed=i) for i, t in enumerate(terms)]
    slots = range(len(terms))
    check_vjp(
        "Einsum", *xs, wrt=slots, dynamic=dynamic, name_by_size=name_by_size, equation=equation
    )


@DYNAMIC
@pytest.mark.parametrize("equation", PLAIN)
def test_einsum_matches_differences(equation: str, dynamic: tuple[int, ...]) -> None:
    check_einsum(equation, dynamic)


@pytest.mark.parametrize("equation", PLAIN)
def test_einsum_with_sizes_of_different_names_matches_differences(equation: str) -> None:
    check_einsum(equation, (0, 1, 2, 3), name_by_size=False)


@DYNAMIC
@pytest.mark.parametrize("equation", DIAGONAL)
def test_einsum_with_a_repeated_letter_matches_differences(
    equation: str, dynamic: tuple[int, ...]
) -> None:
    check_einsum(equation, dynamic)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("...ij->...ji", [(2, 3, 4, 5)]),
        ("...i->...", [(2, 3, 4)]),
        ("...ij,...jk->...ik", [(2, 3, 4, 5), (2, 3, 5, 2)]),
        ("...ij,...jk->...ik", [(2, 1, 4, 5), (1, 3, 5, 2)]),
        ("...ij,jk->...ik", [(2, 3, 4, 5), (5, 2)]),
        ("...ij,...jk", [(2, 4, 5), (2, 5, 3)]),
        ("i...,i...->...", [(3, 2, 4), (3, 2, 4)]),
        ("b...i,b...i->b...", [(2, 3, 4), (2, 3, 4)]),
    ],
    ids=str,
)
@pytest.mark.parametrize("dynamic", [(), (0, 1, 2, 3)], ids=str)
def test_einsum_with_ellipsis_matches_differences(
    dynamic: tuple[int, ...], equation: str, shapes: list[tuple[int, ...]]
) -> None:
    """Only ellipses of the same rank: ONNX allows no others."""
    xs = [numbers(*shape, seed=i) for i, shape in enumerate(shapes)]
    for name_by_size in (True, False):
        slots = range(len(xs))
        check_vjp(
            "Einsum", *xs, wrt=slots, dynamic=dynamic, name_by_size=name_by_size, equation=equation
        )


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(4, 1), (5, 2)]),
        ("ij,jk->ik", [(4, 5), (1, 2)]),
        ("bi,bi->bi", [(1, 3), (2, 3)]),
        ("bi,bi->i", [(2, 3), (1, 3)]),
        ("bi,bi->", [(2, 1), (1, 3)]),
    ],
    ids=str,
)
# with fixed sizes, onnx infers a wrong shape
@pytest.mark.parametrize("dynamic", [(0,), (0, 1)], ids=str)
def test_einsum_with_sizes_of_one_matches_differences(
    dynamic: tuple[int, ...], equation: str, shapes: list[tuple[int, ...]]
) -> None:
    """They broadcast to any size, also to one that is known at run time only."""
    xs = [numbers(*shape, seed=i) for i, shape in enumerate(shapes)]
    slots = range(len(xs))
    check_vjp("Einsum", *xs, wrt=slots, dynamic=dynamic, name_by_size=False, equation=equation)
