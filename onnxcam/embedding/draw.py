"""Draw the samples of all images on graph Values, by the sampler that also draws them on arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import onnx_graphsurgeon as gs

from onnxcam.arrays import FLOAT32, Array
from onnxcam.errors import SettingError
from onnxcam.explain.formula import BoundFormula
from onnxcam.graph.tracing import Builder, Value
from onnxcam.methods.samplers.sampler import CleanRun, Samples
from onnxcam.specs import ImageInput, Layer

NEWEST_TRIED = 18  # the opset of the graph on which samples are counted


@dataclass(frozen=True)
class Drawing:
    """What a sampler needs besides the images.

    Attributes:
        formula: the method with its settings.
        image: the image input of the model, with its size.
        color: the values of a gray level in the image tensor.
        read_image: reads an image file as an image tensor.
    """

    formula: BoundFormula
    image: ImageInput
    color: Callable[[float], Array]
    read_image: Callable[[str], Array]

    def draw(
        self, images: Value, values: Value | None = None, layer: Layer | None = None
    ) -> Samples | None:
        """The samples of images (N, ...); None if the method has none. `values` are those of a layer, if the
        samples differ in them.
        """
        sampler = self.formula.method.sampler
        if sampler.draw is None:
            return None
        image: Any = images.astype(FLOAT32)
        varied: Any = image if values is None else values.astype(FLOAT32)
        clean = CleanRun(
            image=image,
            weights=np.zeros(0),
            values=varied,
            layer=layer or self.image.as_layer(),
            aspect_ratio=(self.image.height or 1) / (self.image.width or 1),
            read_image=self.read_image,
            color=self.color,
            scores=_no_samples,
            to_device=lambda array: array,
            recall=lambda _, make: make(),
            compute=_no_samples,
        )
        settings = self.formula.method.sampler_settings(self.formula.settings)
        return sampler.draw(clean, **settings)

    def trial(self) -> Samples | None:
        """The samples of one image, to count them."""
        build = Builder(gs.Graph(opset=NEWEST_TRIED, import_domains=[]))
        shape = (1, *self.image.shape[1:])
        return self.draw(build.input("image", self.image.dtype, shape))


def _no_samples(_: Samples) -> NoReturn:
    raise SettingError("samples are not run while an explanation is written into a model")
