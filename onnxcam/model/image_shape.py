"""The shape of a model's image input, from which the shapes of all other tensors are inferred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnx_graphsurgeon as gs

from onnxcam.arrays import Dim
from onnxcam.errors import ModelError, first_line
from onnxcam.model.channel_axis import image_channel_axis
from onnxcam.model.model import Model
from onnxcam.passes.canonicalize import canonicalize

Size = tuple[int | None, int | None]  # height, width


def shape_images(model: Model, image: str, batch: Dim = None, size: Size | None = None) -> Model:
    """The model for so many images at once (a number, or the name of a free size) of this size at its input
    `image`. The graph is changed in place. None leaves the batch or a side as it is.

    Other inputs with the name of the former batch get the new one, too. The shapes of all other tensors are
    inferred again. ModelError if the model does not run with these sizes.
    """
    inputs = model.graph.inputs
    images = next(tensor for tensor in inputs if tensor.name == image)
    if batch is not None:
        _set_batch(inputs, images, batch)
    if size is not None:
        _set_size(model.graph, images, size)
    own = {id(tensor) for tensor in inputs}
    for tensor in model.graph.tensors().values():
        if isinstance(tensor, gs.Variable) and id(tensor) not in own:
            tensor.shape = None
    try:
        return replace(model, graph=canonicalize(model.graph))
    except ValueError as error:
        raise ModelError(first_line(error)) from error


def _set_batch(inputs: Sequence[gs.Tensor], image: gs.Tensor, batch: Dim) -> None:
    """Set the batch of the images, and all sizes of its name, in place."""
    name = image.shape[0] if isinstance(image.shape[0], str) else None
    image.shape = [batch, *image.shape[1:]]
    for tensor in inputs if name else ():
        tensor.shape = [batch if dim == name else dim for dim in tensor.shape or ()]


def _set_size(graph: gs.Graph, image: gs.Tensor, size: Size) -> None:
    """Set the sides of the images that are named, in place."""
    first = 2 if image_channel_axis(graph, image) == 1 else 1
    sides = [new or old for new, old in zip(size, image.shape[first:], strict=False)]
    image.shape = [*image.shape[:first], *sides, *image.shape[first + 2 :]]
