"""Pad in every mode, with negative and computed pads."""

import numpy as np
import pytest
from onnx import parser

from onnxcam.errors import ModelError
from tests.autodiff.support.check import check_model, check_vjp, ints, numbers

PADS = [(0, 1, 2, 0, 2, 1), (1, 0, 0, 0, 0, 0), (0, -1, 2, 0, 1, -2), (0, 0, -1, -1, 0, 0)]


@pytest.mark.parametrize("dynamic", [(), (0,), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("pads", PADS, ids=str)
def test_pad_with_zeros_matches_differences(
    pads: tuple[int, ...], dynamic: tuple[int, ...]
) -> None:
    x = numbers(2, 4, 5)
    check_vjp("Pad", x, opset=10, pads=list(pads), dynamic=dynamic)
    for opset in (11, 13, 18):
        check_vjp("Pad", x, ints(*pads), np.float32(0.5), opset=opset, dynamic=dynamic)


@pytest.mark.parametrize("dynamic", [(), (0,)], ids=str)
@pytest.mark.parametrize("pads", [PADS[0], (0, 0, 3, 0, 2, 2), (1, 0, 0, 1, 0, 0)], ids=str)
@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_pad_with_copies_matches_differences(
    mode: str, pads: tuple[int, ...], dynamic: tuple[int, ...]
) -> None:
    x = numbers(2, 4, 5)
    if pads[0] or pads[3]:
        dynamic = ()  # copies need a fixed size
    if mode != "wrap":
        check_vjp("Pad", x, opset=10, pads=list(pads), mode=mode, dynamic=dynamic)
        check_vjp("Pad", x, ints(*pads), opset=11, mode=mode, dynamic=dynamic)
    check_vjp("Pad", x, ints(*pads), opset=19, mode=mode, dynamic=dynamic)


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_pad_with_copies_of_unknown_size_is_refused(mode: str) -> None:
    with pytest.raises(ModelError, match="needs a fixed size of axis 1"):
        check_vjp("Pad", numbers(2, 4, 5), ints(*PADS[0]), opset=19, mode=mode, dynamic=(1,))


def test_pad_of_some_axes_matches_differences() -> None:
    check_vjp("Pad", numbers(2, 4, 5), ints(1, 2, 0, 3), None, ints(-1, 1), opset=18, dynamic=(0,))


def test_pad_with_computed_pads_matches_differences() -> None:
    model = parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, C, W] x) => (float[a, b, c] y) <int64[6] share = {9, 2, 3, 9, 9, 4}> {
        shape = Shape(x)
        twice = Concat<axis = 0>(shape, shape)
        pads = Div(twice, share)
        y = Pad(x, pads)
    }""")
    check_model(model, {"x": numbers(2, 3, 8)}, ["x"], "y")
