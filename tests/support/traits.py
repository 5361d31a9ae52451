"""The table of traits, asked from the other side: which operators have a trait."""

from collections.abc import Callable

from onnxcam.graph.operators import TRAITS
from onnxcam.graph.traits import Traits


def operators_with(test: Callable[[Traits], bool]) -> frozenset[str]:
    """The operators whose traits pass a test, as tables name them."""
    return frozenset(name for name, row in TRAITS.items() if test(row))
