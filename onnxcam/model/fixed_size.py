"""Fix the size of the images of a model that is recurrent along them: gradients need its number of steps."""

from __future__ import annotations

from dataclasses import replace

import onnx_graphsurgeon as gs

from onnxcam.errors import ModelError, SettingError
from onnxcam.graph.node_errors import name_of, reports_node
from onnxcam.model.image_input import describe_image, is_image
from onnxcam.model.image_shape import shape_images
from onnxcam.model.model import Model

RECURRENT = ("RNN", "GRU", "LSTM")


@reports_node
def fix_size(model: Model, size: tuple[int, int] | None) -> Model:
    """The model for images of this size (height, width), if a recurrent operator has an unknown number of
    steps; otherwise the model itself. SettingError for a size that it does not run with.
    """
    nodes = [node for node in model.graph.nodes if has_free_steps(node)]
    image = next(filter(is_image, model.graph.inputs), None)
    if size is None or not nodes or image is None:
        return model
    declared = describe_image(model, image)
    try:
        sides = declared.height or size[0], declared.width or size[1]
        fixed = shape_images(model.copy(), image.name, size=sides)
    except ModelError as error:
        raise SettingError(
            f"{model.name}: cannot be run for images of {size[0]} x {size[1]} pixels; choose another --size"
        ) from error
    notice = (
        f"the size of the images is fixed at {size[0]} x {size[1]} (--size), on which the steps of "
        f"{nodes[0].op} ({name_of(nodes[0])}) depend"
    )
    return replace(fixed, notices=(*fixed.notices, notice))


def has_free_steps(node: gs.Node) -> bool:
    """Whether a node is recurrent over an unknown number of steps."""
    if node.op not in RECURRENT or node.domain:
        return False
    shape = node.inputs[0].shape
    return shape is None or not isinstance(shape[1 if node.attrs.get("layout") else 0], int)
