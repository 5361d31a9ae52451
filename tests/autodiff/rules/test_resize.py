"""Resize and Upsample: every mode in every opset, with fixed and unknown sizes.

A resize is linear, so <g, resize(x)> = <gradient, x>. The oracle is the runtime itself, since the reference
evaluator rounds differently and has no opset before 11.
"""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from onnxcam.arrays import Array
from onnxcam.errors import ModelError
from onnxcam.model.model import Model
from tests.autodiff.support.check import check_vjp, ints, numbers, one_node_model
from tests.autodiff.support.linear import check_linear

COORDINATES = [
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
]
ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
DYNAMIC = pytest.mark.parametrize("dynamic", [(), (0,), (2, 3), (0, 2, 3)], ids=str)
X = (2, 3, 5, 6)


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


def check_resize(
    *arrays: Any,
    op: str = "Resize",
    size: tuple[int, ...] = X,
    opset: int = 19,
    dynamic: tuple[int, ...] = (),
    **attributes: Any,
) -> Model:
    """Check the gradient against the runtime's own values; returns the model with it."""
    names = [f"c{i}" if array is not None else "" for i, array in enumerate(arrays)]
    node = helper.make_node(op, ["x", *names], ["y"], **attributes)
    x = numbers(*size)
    fixed = {name: array for name, array in zip(names, arrays, strict=True) if name}
    proto = one_node_model(node, {"x": x}, fixed, opset, dynamic)
    return check_linear(proto, x)


@DYNAMIC
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("scales", [(1, 1, 2, 3), (1, 1, 0.6, 1.7), (1, 1, 1, 2.5)], ids=str)
def test_nearest_matches_the_runtime(
    scales: tuple[float, ...], coordinates: str, rounding: str, dynamic: tuple[int, ...]
) -> None:
    check_resize(
        None,
        floats(*scales),
        dynamic=dynamic,
        mode="nearest",
        coordinate_transformation_mode=coordinates,
        nearest_mode=rounding,
    )


@DYNAMIC
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("scales", [(1, 1, 2, 3), (1, 1, 0.6, 1.7), (1, 1, 1, 2.5)], ids=str)
@pytest.mark.parametrize(
    "attributes",
    [
        {"mode": "linear"},
        {"mode": "cubic"},
        {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1},
        {"mode": "linear", "antialias": 1},
        {"mode": "cubic", "antialias": 1},
        {"mode": "linear", "antialias": 1, "exclude_outside": 1},
    ],
    ids=str,
)
def test_linear_and_cubic_match_the_runtime(
    attributes: dict[str, Any],
    scales: tuple[float, ...],
    coordinates: str,
    dynamic: tuple[int, ...],
) -> None:
    check_resize(
        None,
        floats(*scales),
        dynamic=dynamic,
        coordinate_transformation_mode=coordinates,
        **attributes,
    )


@DYNAMIC
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("sizes", [(2, 3, 10, 12), (2, 3, 3, 13), (2, 3, 1, 1)], ids=str)
@pytest.mark.parametrize("opset", [11, 13, 18, 19])
def test_resize_to_sizes_matches_the_runtime(
    opset: int, sizes: tuple[int, ...], mode: str, dynamic: tuple[int, ...]
) -> None:
    none = floats() if opset < 13 else None
    check_resize(none, none, ints(*sizes), opset=opset, dynamic=dynamic, mode=mode)


@DYNAMIC
@pytest.mark.parametrize("coordinates", ["half_pixel", "align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_of_one_cell_matches_the_runtime(
    mode: str, coordinates: str, dynamic: tuple[int, ...]
) -> None:
    """As in the pooled branch of segmentation heads."""
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
    check_resize(None, None, ints(2, 3, 4, 5), size=(2, 3, 1, 1), dynamic=dynamic, **attributes)


@DYNAMIC
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("roi", [(0, 0, 0.2, 0.4, 1, 1, 0.7, 1), (0, 0, 0.2, -0.3, 1, 1, 1.4, 0.8)])
def test_crop_with_extrapolation_matches_the_runtime(
    roi: tuple[float, ...], mode: str, dynamic: tuple[int, ...]
) -> None:
    check_resize(
        floats(*roi),
        None,
        ints(2, 3, 7, 4),
        dynamic=dynamic,
        mode=mode,
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=10.0,
    )


@DYNAMIC
@pytest.mark.parametrize("axes", [(2, 3), (3, 2), (-1, -2), (3,)], ids=str)
def test_resize_of_some_axes_matches_the_runtime(
    axes: tuple[int, ...], dynamic: tuple[int, ...]
) -> None:
    attributes: dict[str, Any] = {"mode": "linear", "axes": axes}
    check_resize(None, floats(*(1.6, 0.7)[: len(axes)]), dynamic=dynamic, **attributes)
    check_resize(None, None, ints(*(9, 3)[: len(axes)]), dynamic=dynamic, **attributes)


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_aspect_ratio_policy_matches_the_runtime(mode: str, policy: str) -> None:
    attributes: dict[str, Any] = {"mode": mode, "axes": [2, 3], "keep_aspect_ratio_policy": policy}
    check_resize(None, None, ints(8, 13), **attributes)
    check_resize(None, None, ints(8, 13), dynamic=(0,), **attributes)
    check_resize(None, None, ints(3, 5), size=(2, 3, 7, 9), **attributes)


def test_aspect_ratio_policy_with_unknown_sizes_is_refused() -> None:
    with pytest.raises(ModelError, match="keeps the aspect ratio, so it needs fixed sizes"):
        check_resize(
            None,
            None,
            ints(8, 13),
            axes=[2, 3],
            keep_aspect_ratio_policy="not_larger",
            dynamic=(2, 3),
        )


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(
    ("size", "scales"),
    [((2, 3, 5), (1, 1, 1.7)), ((1, 2, 3, 4, 3), (1, 1, 2, 1.5, 0.7)), ((5, 6), (2, 1.3))],
    ids=str,
)
def test_resize_of_any_rank_matches_the_runtime(
    size: tuple[int, ...], scales: tuple[float, ...], mode: str
) -> None:
    check_resize(None, floats(*scales), size=size, mode=mode)
    check_resize(None, floats(*scales), size=size, mode=mode, dynamic=(0, *range(2, len(size))))


@pytest.mark.parametrize("dynamic", [(), (0,), (1, 2), (0, 1, 2)], ids=str)
def test_resize_with_channels_last_matches_the_runtime(dynamic: tuple[int, ...]) -> None:
    size = (2, 5, 6, 3)
    attributes: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}
    check_resize(None, floats(1, 2, 1.5, 1), size=size, dynamic=dynamic, **attributes)
    check_resize(None, None, ints(2, 10, 9, 3), size=size, dynamic=dynamic, **attributes)


@DYNAMIC
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scales", [(1, 1, 2, 3), (1, 1, 1.5, 2.5), (1, 1, 0.6, 0.5)], ids=str)
def test_resize_before_opset_11_matches_the_runtime(
    scales: tuple[float, ...], mode: str, dynamic: tuple[int, ...]
) -> None:
    check_resize(floats(*scales), opset=10, mode=mode, dynamic=dynamic)
    if min(scales) >= 1:
        check_resize(floats(*scales), op="Upsample", opset=9, mode=mode, dynamic=dynamic)
        if not dynamic:  # sizes at run time need opset 9
            attributes: dict[str, Any] = {"scales": [float(scale) for scale in scales]}
            check_resize(op="Upsample", opset=7, mode=mode, **attributes)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_computed_sizes_match_the_runtime(mode: str) -> None:
    """As exporters write `interpolate(x, size=other.shape[2:])`."""
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 3, H, W] x) => (float[N, 3, A, B] y)
    <int64[4] times = {{1, 1, 2, 3}}> {{
        shape = Shape(x)
        sizes = Mul(shape, times)
        y = Resize<mode = "{mode}">(x, , , sizes)
    }}""")
    check_linear(model, numbers(2, 3, 5, 4))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_computed_scales_match_the_runtime(mode: str) -> None:
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 3, H, W] x) => (float[N, 3, A, B] y)
    <float[4] times = {{1, 1, 0.45, 0.4}}, float[2] ones = {{1, 1}}, int64[1] two = {{2}},
     int64[1] four = {{4}}> {{
        shape = Shape(x)
        lengths = Cast<to = 1>(shape)
        all = Mul(lengths, times)
        some = Slice(all, two, four)
        scales = Concat<axis = 0>(ones, some)
        y = Resize<mode = "{mode}">(x, , scales)
    }}""")
    check_linear(model, numbers(2, 3, 5, 4))


@pytest.mark.parametrize("dynamic", [(), (0, 2, 3)], ids=str)
def test_repeated_cells_are_summed_by_one_convolution(dynamic: tuple[int, ...]) -> None:
    model = check_resize(
        None,
        floats(1, 1, 2, 2),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
        dynamic=dynamic,
    )
    assert [node.op for node in model.graph.nodes] == ["Resize", "Conv", "Identity"]


def test_resize_matches_differences() -> None:
    check_vjp("Resize", numbers(*X), None, floats(1, 1, 1.7, 2.2), mode="linear")
    check_vjp("Upsample", numbers(*X), floats(1, 1, 2, 2), opset=9, mode="nearest")
