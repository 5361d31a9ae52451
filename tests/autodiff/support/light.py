"""The nine architectures in the onnx wheel, whose weights are constant there, with random weights."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from onnxcam.arrays import Array

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NAMES = tuple(sorted(each.stem.removeprefix("light_") for each in FOLDER.glob("light_*.onnx")))
HIDDEN = {
    4096: 64
}  # units of AlexNet's and VGG's heads: half a gigabyte of weights would test nothing more
NORMALISATION = {
    1: (0.5, 1.5),
    2: (-0.1, 0.1),
    3: (-0.1, 0.1),
    4: (0.5, 1.5),
}  # scale bias mean var


def weighted(name: str) -> onnx.ModelProto:
    """The model with weights that neither blow its activations up nor let them vanish."""
    proto = onnx.load(FOLDER / f"light_{name}.onnx")
    shapes = {
        each.name: numpy_helper.to_array(each).tolist()
        for each in proto.graph.initializer
        if each.data_type == onnx.TensorProto.INT64
    }
    fillers = [each for each in proto.graph.node if each.op_type == "ConstantOfShape"]
    generator = np.random.default_rng(len(name))
    weights = [
        numpy_helper.from_array(
            _weight(each.output[0], shapes[each.input[0]], proto, generator), each.output[0]
        )
        for each in fillers
    ]
    gone = {each.input[0] for each in fillers}
    kept = [each for each in proto.graph.node if each.op_type != "ConstantOfShape"]
    inputs = [each for each in proto.graph.input if each.name not in gone]
    inputs += [  # IR version 3 wants initializers among the inputs
        onnx.helper.make_tensor_value_info(each.name, each.data_type, each.dims) for each in weights
    ]
    constants = [each for each in proto.graph.initializer if each.name not in gone]
    for field, values in (("node", kept), ("input", inputs), ("initializer", constants + weights)):
        proto.graph.ClearField(field)
        getattr(proto.graph, field).extend(values)
    proto.graph.ClearField("value_info")
    return proto


def _weight(
    name: str, shape: list[int], proto: onnx.ModelProto, generator: np.random.Generator
) -> Array:
    sizes = [HIDDEN.get(each, each) for each in shape]
    node, slot = next(
        (node, list(node.input).index(name)) for node in proto.graph.node if name in node.input
    )
    if node.op_type in ("Conv", "Gemm") and slot == 1:
        inputs = int(np.prod(sizes[1:]))
        return (generator.standard_normal(sizes, np.float32) * np.sqrt(2 / inputs)).astype(
            np.float32
        )
    low, high = NORMALISATION[slot] if node.op_type == "BatchNormalization" else (-0.1, 0.1)
    if node.op_type == "Unsqueeze" and _scales(node, proto):
        low, high = 0.5, 1.5
    return generator.uniform(low, high, sizes).astype(np.float32)


def _scales(node: onnx.NodeProto, proto: onnx.ModelProto) -> bool:
    return any(each.op_type == "Mul" and node.output[0] in each.input for each in proto.graph.node)


def picture(proto: onnx.ModelProto) -> dict[str, Array]:
    """A random picture for the model's one input that is not a weight."""
    constants = {each.name for each in proto.graph.initializer}
    (given,) = [each for each in proto.graph.input if each.name not in constants]
    shape = [each.dim_value for each in given.type.tensor_type.shape.dim]
    return {given.name: np.random.default_rng(3).normal(size=shape).astype(np.float32)}


def logits(proto: onnx.ModelProto) -> str:
    """What the last Softmax is taken of, or the last output."""
    last = proto.graph.node[-1]
    return str(last.input[0] if last.op_type == "Softmax" else last.output[0])
