"""The image input of a model: its layout, channels, and size."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnxcam.dense import WHERE
from onnxcam.errors import ModelError
from onnxcam.graph.node_errors import reports_node
from onnxcam.graph.operators import is_elementwise, traits_of
from onnxcam.model.channel_axis import image_channel_axis
from onnxcam.model.explained_model import refuse_explained
from onnxcam.model.input_values import how_to_give, is_numeric
from onnxcam.model.model import Model
from onnxcam.specs import ImageInput


@reports_node
def image_input(model: Model) -> ImageInput:
    """The image input of a model. ModelError if there is none, if there are other inputs, or if the model holds
    an explanation already.
    """
    refuse_explained(model.metadata, model.name)
    images = [tensor for tensor in model.graph.inputs if is_image(tensor)]
    if not images:
        listed = ", ".join(f"{tensor.name} {tensor.shape}" for tensor in model.graph.inputs)
        flat = [repr(tensor.name) for tensor in model.graph.inputs if _may_be_flat(tensor)]
        hint = f"; if {flat[0]} holds flat images, give their size: --size H,W" if flat else ""
        raise ModelError(
            f"{model.name}: no input accepts images (four axes); its inputs: {listed or 'none'}{hint}"
        )
    image = images[0]
    others = [t for t in model.graph.inputs if t is not image and t.name != WHERE]
    if others:
        raise ModelError(_other_inputs(model.name, image.name, others))
    return describe_image(model, image)


def is_image(tensor: gs.Tensor) -> bool:
    """Whether an input has the four axes of images."""
    return len(tensor.shape or ()) == len("NCHW")


def _may_be_flat(tensor: gs.Tensor) -> bool:
    """Whether an input of numbers has the one or two axes of flat images."""
    return bool(tensor.shape) and len(tensor.shape) <= len("NC") and is_numeric(tensor.dtype)


def describe_image(model: Model, image: gs.Tensor) -> ImageInput:
    """What an input of four axes takes. ModelError if its channels contradict the convolution that reads it."""
    axis = image_channel_axis(model.graph, image)
    sizes = [dim if isinstance(dim, int) else None for dim in image.shape]
    height, width = (sizes[2], sizes[3]) if axis == 1 else (sizes[1], sizes[2])
    layout = "NCHW" if axis == 1 else "NHWC"
    channels = _channels(model, image, sizes[axis])
    return ImageInput(image.name, layout, channels, height, width, sizes[0], image.dtype)


def _other_inputs(model: str, image: str, others: list[gs.Tensor]) -> str:
    """The message for inputs whose values must be given, with what to type."""
    listed = ", ".join(tensor.name for tensor in others)
    inputs, their = ("input", "its") if len(others) == 1 else ("inputs", "their")
    if no_numbers := [repr(tensor.name) for tensor in others if not is_numeric(tensor.dtype)]:
        return (
            f"{model}: has the {inputs} {listed} in addition to the image {image!r}; only numbers "
            f"can be given, and {', '.join(no_numbers)} takes others: export the model without it"
        )
    images = [repr(tensor.name) for tensor in others if is_image(tensor)]
    which = f"; if the image is {' or '.join(images)}, give the value of {image!r} instead"
    hint = how_to_give({tensor.name: (tensor.dtype, tensor.shape) for tensor in others})
    return (
        f"{model}: has the {inputs} {listed} in addition to the image {image!r}; give {their} values: {hint}"
        f"{which if images else ''}"
    )


def _channels(model: Model, image: gs.Tensor, declared: int | None) -> int | None:
    """The declared number of channels, or else that of the first convolution. ModelError if they disagree."""
    read = _convolution_channels(model.graph, image.name)
    if read and (declared or 1) > 1 and declared != read:  # one channel may be broadcast to several
        raise ModelError(
            f"{model.name}: the input {image.name!r} is declared with {declared} channels, but the "
            f"convolution that reads it expects {read}; export the model again"
        )
    return declared or read


def _convolution_channels(graph: gs.Graph, image: str) -> int | None:
    """How many channels the weights of the first convolution expect; None if that is unknown."""
    same_channels = {image}  # tensors with the channels of the input
    for node in graph.nodes:
        if not node.inputs or not node.outputs or node.inputs[0].name not in same_channels:
            continue
        if node.op == "Conv" and isinstance(node.inputs[1], gs.Constant):
            return int(node.inputs[1].shape[1]) * int(node.attrs.get("group", 1))
        traits = traits_of(node)
        if is_elementwise(traits) or traits.moves == "transpose":
            same_channels.add(node.outputs[0].name)
    return None
