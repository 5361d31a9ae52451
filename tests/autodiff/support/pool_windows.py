"""Windows of pools: with overlap, gaps, tails, pads, dilations, in one to three dimensions."""

from typing import Any

WINDOWS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "plain": ((2, 3, 6, 8), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "overlap": ((1, 2, 7, 8), {"kernel_shape": [3, 3], "strides": [2, 2]}),
    "stride 1": ((1, 2, 5, 6), {"kernel_shape": [3, 2]}),
    "gap and tail": ((1, 2, 8, 9), {"kernel_shape": [2, 2], "strides": [3, 4]}),
    "pads": ((1, 2, 6, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "uneven pads": (
        (1, 2, 6, 7),
        {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [0, 2, 1, 0]},
    ),
    "ceil": ((1, 2, 6, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "ceil, pads": (
        (1, 2, 6, 8),
        {"kernel_shape": [3, 3], "strides": [2, 3], "ceil_mode": 1, "pads": [1, 0, 1, 1]},
    ),
    "one dimension": ((2, 2, 9), {"kernel_shape": [4], "strides": [3], "pads": [1, 2]}),
    "three dimensions": ((1, 2, 4, 5, 4), {"kernel_shape": [2, 3, 2], "strides": [2, 1, 2]}),
    "same upper": (
        (1, 2, 7, 8),
        {"kernel_shape": [3, 2], "strides": [2, 3], "auto_pad": "SAME_UPPER"},
    ),
    "same lower": (
        (1, 2, 7, 8),
        {"kernel_shape": [4, 2], "strides": [2, 3], "auto_pad": "SAME_LOWER"},
    ),
    "same, stride 1": ((1, 2, 5, 6), {"kernel_shape": [2, 4], "auto_pad": "SAME_UPPER"}),
    "valid": ((1, 2, 7, 8), {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "VALID"}),
    "whole": ((1, 2, 4, 5), {"kernel_shape": [4, 5]}),
}


DILATED: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "dilations": ((1, 2, 8, 9), {"kernel_shape": [3, 2], "dilations": [2, 3]}),
    "dilations, stride, pads": (
        (1, 2, 8, 9),
        {"kernel_shape": [2, 3], "dilations": [3, 2], "strides": [2, 2], "pads": [1, 2, 0, 1]},
    ),
    "dilations, ceil": (
        (1, 2, 8, 9),
        {"kernel_shape": [2, 2], "dilations": [2, 3], "strides": [3, 2], "ceil_mode": 1},
    ),
}


SIZES = [(), (0,), (2, 3), (0, 2, 3, 4)]
