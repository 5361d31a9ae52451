"""Fix the size of the images of a model that is recurrent along them: gradients need its number of steps."""

from __future__ import annotations

from dataclasses import replace

import onnx_graphsurgeon as gs

from onnxcam.errors import SettingError
from onnxcam.graph.node_errors import name_of, reports_node
from onnxcam.model.channel_axis import image_channel_axis
from onnxcam.model.free_batch import infer_again
from onnxcam.model.model import Model

RECURRENT = ("RNN", "GRU", "LSTM")


@reports_node
def fix_size(model: Model, size: tuple[int, int] | None) -> Model:
    """The model for images of this size (height, width), if a recurrent operator has an unknown number of
    steps; otherwise the model itself. SettingError for a size that it does not run with.
    """
    nodes = [node for node in model.graph.nodes if has_free_steps(node)]
    images = [tensor for tensor in model.graph.inputs if len(tensor.shape or ()) == len("NCHW")]
    if size is None or not nodes or not images:
        return model
    fixed = model.copy()
    image = fixed.graph.tensors()[images[0].name]
    channels = image_channel_axis(fixed.graph, image)
    axes = [axis for axis in range(1, len(image.shape)) if axis != channels]
    for axis, side in zip(axes, size, strict=True):
        image.shape[axis] = image.shape[axis] if isinstance(image.shape[axis], int) else side
    inferred = infer_again(fixed, image.name)
    if inferred is None:
        raise SettingError(
            f"{model.name}: cannot be run for images of {size[0]} x {size[1]} pixels; choose another --size"
        )
    notice = (
        f"the size of the images is fixed at {size[0]} x {size[1]} (--size), on which the steps of "
        f"{nodes[0].op} ({name_of(nodes[0])}) depend"
    )
    return replace(inferred, notices=(*inferred.notices, notice))


def has_free_steps(node: gs.Node) -> bool:
    """Whether a node is recurrent over an unknown number of steps."""
    if node.op not in RECURRENT or node.domain:
        return False
    shape = node.inputs[0].shape
    return shape is None or not isinstance(shape[1 if node.attrs.get("layout") else 0], int)
