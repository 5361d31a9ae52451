"""Between images in which -1 is black and 1 is white, and the tensor that a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from onnxcam.arrays import FLOAT32, Array, Floats, Images, cast_saturating
from onnxcam.image.preprocess import Preprocessing, gray_level
from onnxcam.specs import ImageInput


@dataclass(frozen=True)
class PixelRange:
    """The preprocessing as a line for each channel: `black` and `white` are the values (1, C, 1, 1) that 0 and
    255 become, in the channel order of the model. Images x (N, C, H, W) are gray or RGB. Values between -1 and
    1 become what preprocessing can produce, and nothing else.
    """

    black: Floats
    white: Floats
    is_reversed: bool
    takes: ImageInput

    @classmethod
    def of(cls, preprocessing: Preprocessing, takes: ImageInput) -> PixelRange:
        """The range of a model. SettingError for a number of channels that images do not have."""
        ends = [gray_level(preprocessing, takes, level) for level in (0.0, 1.0)]
        black, white = (_channels_first(end, takes).astype(np.float64) for end in ends)
        return cls(black, white, preprocessing.order == "bgr", takes)

    @property
    def channels(self) -> int:
        """1 for gray images, 3 for RGB."""
        return self.black.shape[1]

    @property
    def tensor_dtype(self) -> np.dtype[Any]:
        """That of the images of the gradient model."""
        return self.takes.dtype if self.takes.dtype.kind == "f" else FLOAT32

    def to_tensor(self, x: Floats) -> Images:
        """The images as the gradient model takes them: not rounded, even where the model takes integers."""
        middle, half = (self.black + self.white) / 2, (self.white - self.black) / 2
        values = middle + half * self._reorder(x)
        return np.ascontiguousarray(_to_layout(values, self.takes), self.tensor_dtype)

    def to_gradient(self, gradient: Floats) -> Floats:
        """The gradient at x, of one at the tensor."""
        first = _channels_first(gradient, self.takes).astype(np.float64)
        return self._reorder(first * (self.white - self.black) / 2)

    def to_model(self, x: Floats) -> Images:
        """The images as the model itself takes them: rounded if it takes integers."""
        return cast_saturating(self.to_tensor(x), self.takes.dtype)

    def from_tensor(self, tensor: Array) -> Floats:
        """The images x of a tensor of the model."""
        first = _channels_first(tensor, self.takes).astype(np.float64)
        span = np.where(self.white == self.black, 1.0, self.white - self.black)
        return self._reorder((2 * first - self.black - self.white) / span)

    def _reorder(self, values: Floats) -> Floats:
        """RGB in the channel order of the model, or back."""
        return values[:, ::-1] if self.is_reversed and values.shape[1] == 3 else values


def _channels_first(array: Array, takes: ImageInput) -> Any:
    return array if takes.layout == "NCHW" else np.moveaxis(array, 3, 1)


def _to_layout(values: Floats, takes: ImageInput) -> Floats:
    return values if takes.layout == "NCHW" else np.moveaxis(values, 1, 3)


def to_images(x: Floats) -> Sequence[Image.Image]:
    """Images x (N, 1 or 3, H, W) as images of Pillow."""
    levels = np.clip(np.rint(127.5 * (x + 1)), 0, 255).astype(np.uint8)
    rows = np.moveaxis(levels, 1, 3)
    return [
        Image.fromarray(row if row.shape[2] == 3 else row[..., 0]).convert("RGB") for row in rows
    ]
