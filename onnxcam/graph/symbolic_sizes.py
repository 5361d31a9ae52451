"""Arithmetic with sizes that may be known only by name: N + 0 is N, N x 2 is "2x[N]", N + 1 is unknown."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any, TypeAlias

Size: TypeAlias = float | str | None  # a number or bool, the name of a dimension, or unknown
LARGEST = 1 << 62  # larger products are unknown


def are_numbers(*sizes: Size) -> bool:
    """Whether all sizes are known."""
    return all(isinstance(size, (int, float)) for size in sizes)


def add(first: Any, second: Any) -> Size:
    """The sum; unknown for a name and a number other than 0."""
    if are_numbers(first, second):
        return first + second
    return second if first == 0 else first if second == 0 else None


def subtract(first: Any, second: Any) -> Size:
    """The difference."""
    return add(first, -second) if are_numbers(second) else None


def multiply(first: Any, second: Any) -> Size:
    """The product; if a factor is a name, so is the product: the batch of all windows is "64x[N]"."""
    if are_numbers(first, second):
        return first * second if abs(first * second) < LARGEST else None
    number, name = (first, second) if are_numbers(first) else (second, first)
    if not are_numbers(number) or number != int(number) or number < 1 or name is None:
        return None
    factor, base = split_product(name)
    return _format_product(int(number) * factor, base)


def split_product(name: str) -> tuple[int, str]:
    """The number and the name whose product a name is: "64x[N]" -> 64, "N"."""
    number, bracket, rest = name.partition("x[")
    return (int(number), rest[:-1]) if bracket and number.isdigit() else (1, name)


def _format_product(factor: int, base: str) -> Size:
    if factor >= LARGEST:
        return None
    return base if factor == 1 else f"{factor}x[{base}]"


def divide(first: Any, second: Any) -> Size:
    """The quotient. Integers are rounded toward 0; "64x[N]" / 64 is N, N / 2 is unknown."""
    if isinstance(first, int) and isinstance(second, int):
        sign = -1 if (first < 0) != (second < 0) else 1
        return sign * (abs(first) // abs(second))
    if are_numbers(first, second):
        return first / second
    if not isinstance(first, str) or not are_numbers(second) or second < 1:
        return None
    factor, base = split_product(first)
    return None if factor % second else _format_product(int(factor // second), base)


def divide_products(first: Any, second: Any) -> int | None:
    """The quotient of two products with the same name, if it is an integer: "64x[N]" / "4x[N]" is 16."""
    if not isinstance(first, str) or not isinstance(second, str):
        return None
    (factor, base), (divisor, same_base) = split_product(first), split_product(second)
    return factor // divisor if base == same_base and factor % divisor == 0 else None


def minimum(first: Any, second: Any) -> Size:
    """The smaller one, if both are numbers or the same name."""
    return min(first, second) if are_numbers(first, second) or first == second else None


def maximum(first: Any, second: Any) -> Size:
    """The larger one, if both are numbers or the same name."""
    return max(first, second) if are_numbers(first, second) or first == second else None


def equal(first: Any, second: Any) -> bool:
    """Whether two sizes are equal. ValueError for a name that may or may not be that number."""
    if first is None or second is None:
        raise ValueError("an unknown size may be equal")
    if are_numbers(first, second) or first == second:
        return bool(first == second)
    numbers = [size for size in (first, second) if are_numbers(size)]
    if numbers and numbers[0] < 0:  # Reshape's -1 is not a size
        return False
    raise ValueError(f"{first!r} may be equal to {second!r}")


def product(sizes: Iterable[Any]) -> Size:
    """The product of all sizes; for a shape, the number of elements."""
    one: Size = 1
    return reduce(multiply, sizes, one)
