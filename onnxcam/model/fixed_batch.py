"""Fix the batch of a model, so that no size is left to be computed when it runs."""

from __future__ import annotations

from onnxcam.errors import ModelError, SettingError, first_line
from onnxcam.graph.node_errors import reports_node
from onnxcam.model.image_input import is_image
from onnxcam.model.image_shape import shape_images
from onnxcam.model.model import Model


@reports_node
def fix_batch(model: Model, images: int) -> Model:
    """The model for exactly so many images at once. Inputs whose first axis has the name of the batch get the
    same size. SettingError if the model takes another number of images, or if it does not run with this one.
    """
    if images < 1:
        raise SettingError(f"batch={images}: expected an integer, 1 or more")
    image = next(filter(is_image, model.graph.inputs), None)
    batch = image and image.shape[0]
    if batch == images:
        return model
    if image is None or isinstance(batch, int):
        taken = "has no input for images" if image is None else f"takes {batch} images at once"
        raise SettingError(
            f"{model.name}: {taken}, so the batch cannot be {images}; leave it out, or export the model with "
            "a dynamic batch"
        )
    try:
        return shape_images(model.copy(), image.name, images)
    except ModelError as error:
        raise SettingError(
            f"{model.name}: does not run with a batch of {images} ({first_line(error)}); leave the batch out"
        ) from error
