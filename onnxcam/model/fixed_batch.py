"""Fix the batch of a model, so that no size is left to be computed when it runs."""

from __future__ import annotations

from dataclasses import replace

import onnx_graphsurgeon as gs

from onnxcam.errors import ModelError, SettingError, first_line
from onnxcam.graph.node_errors import reports_node
from onnxcam.model.image_input import is_image
from onnxcam.model.model import Model
from onnxcam.passes.canonicalize import canonicalize


@reports_node
def fix_batch(model: Model, images: int) -> Model:
    """The model for exactly so many images at once. Inputs whose first axis has the name of the batch get the
    same size. SettingError if the model takes another number of images, or if it does not run with this one.
    """
    if images < 1:
        raise SettingError(f"batch={images}: expected an integer, 1 or more")
    batch = next(
        (tensor.shape[0] for tensor in model.graph.inputs if is_image(tensor)),
        None,
    )
    if batch == images:
        return model
    if batch is None or isinstance(batch, int):
        taken = "has no input for images" if batch is None else f"takes {batch} images at once"
        raise SettingError(
            f"{model.name}: {taken}, so the batch cannot be {images}; leave it out, or export the model with "
            "a dynamic batch"
        )
    fixed = model.copy()
    for tensor in fixed.graph.inputs:
        tensor.shape = [images if size == batch else size for size in tensor.shape or ()]
    inputs = {id(tensor) for tensor in fixed.graph.inputs}
    for tensor in fixed.graph.tensors().values():
        if isinstance(tensor, gs.Variable) and id(tensor) not in inputs:
            tensor.shape = None
    try:
        return replace(fixed, graph=canonicalize(fixed.graph))
    except (ModelError, ValueError) as error:
        raise SettingError(
            f"{model.name}: does not run with a batch of {images} ({first_line(error)}); leave the batch out"
        ) from error
