"""DeformConv by ONNX Runtime and decomposed: groups, strides, pads, masks, positions outside the image."""

from typing import Any

import pytest

from onnxcam.errors import ModelError
from onnxcam.passes.expand_functions import has_function_body
from tests.autodiff.support.check import check_vjp, numbers

FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "pads": {"pads": [1, 0, 2, 1]},
    "strides": {"strides": [2, 1], "pads": [1, 1, 1, 1]},
    "dilations": {"dilations": [2, 1], "pads": [1, 1, 1, 1]},
    "groups": {"group": 2},
    "offset groups": {"offset_group": 2},
}


@pytest.mark.parametrize("masked", [False, True], ids=["no mask", "mask"])
@pytest.mark.parametrize("form", FORMS)
def test_deform_conv_matches_differences(form: str, masked: bool) -> None:
    attributes = FORMS[form]
    strides = attributes.get("strides", [1, 1])
    dilations = attributes.get("dilations", [1, 1])
    pads, kernel = attributes.get("pads", [0] * 4), (3, 2)
    rows, columns = (
        (size + pads[i] + pads[i + 2] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1
        for i, size in enumerate((5, 6))
    )
    groups, taps = attributes.get("offset_group", 1), 6
    offset = numbers(2, groups * taps * 2, rows, columns, low=-2.3, high=2.4)
    mask = numbers(2, groups * taps, rows, columns, low=0.1, high=1) if masked else None
    weight = numbers(4, 4 // attributes.get("group", 1), *kernel)
    operands = [numbers(2, 4, 5, 6), weight, offset, numbers(4), *([mask] if masked else [])]
    for dynamic in ((), (0,)):
        wrt = (0, 2, 4) if masked else (0, 2)
        check_vjp("DeformConv", *operands, wrt=wrt, opset=19, dynamic=dynamic, **attributes)


def test_deform_conv_of_dynamic_sizes_matches_differences() -> None:
    x, offset = numbers(1, 2, 4, 5), numbers(1, 8, 3, 4, low=-1.3, high=1.2)
    check_vjp(
        "DeformConv",
        x,
        numbers(3, 2, 2, 2),
        offset,
        wrt=(0, 2),
        opset=19,
        dynamic=(0, 2, 3),
        name_by_size=False,
    )
    assert has_function_body("DeformConv", 19)


def test_weights_of_dynamic_size_are_refused() -> None:
    operands = numbers(1, 2, 4, 5), numbers(3, 2, 2, 2), numbers(1, 8, 3, 4)
    with pytest.raises(ModelError, match="the DeformConv that reads 'x0' needs a fixed number"):
        check_vjp(
            "DeformConv", *operands, wrt=(0, 1, 2), opset=19, dynamic=(2,), name_by_size=False
        )
