"""The nine architectures in the onnx wheel, whose weights are constant there, with random weights."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from onnxcam.arrays import Array

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NAMES = tuple(sorted(path.stem.removeprefix("light_") for path in FOLDER.glob("light_*.onnx")))
HIDDEN = {4096: 64}  # units of AlexNet's and VGG's heads: half a gigabyte of weights adds no test
# scale bias mean var
NORMALIZATION = {
    1: (0.5, 1.5),
    2: (-0.1, 0.1),
    3: (-0.1, 0.1),
    4: (0.5, 1.5),
}


def with_tame_weights(name: str) -> onnx.ModelProto:
    """The model with weights that neither blow its activations up nor let them vanish."""
    proto = onnx.load(FOLDER / f"light_{name}.onnx")
    shapes = {
        tensor.name: numpy_helper.to_array(tensor).tolist()
        for tensor in proto.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT64
    }
    fillers = [node for node in proto.graph.node if node.op_type == "ConstantOfShape"]
    generator = np.random.default_rng(len(name))
    weights = []
    for node in fillers:
        array = _weight(node.output[0], shapes[node.input[0]], proto, generator)
        weights.append(numpy_helper.from_array(array, node.output[0]))
    unused = {node.input[0] for node in fillers}
    nodes = [node for node in proto.graph.node if node.op_type != "ConstantOfShape"]
    inputs = [tensor for tensor in proto.graph.input if tensor.name not in unused]
    inputs += [  # IR version 3 wants initializers among the inputs
        onnx.helper.make_tensor_value_info(w.name, w.data_type, w.dims) for w in weights
    ]
    constants = [tensor for tensor in proto.graph.initializer if tensor.name not in unused]
    for field, values in (("node", nodes), ("input", inputs), ("initializer", constants + weights)):
        proto.graph.ClearField(field)
        getattr(proto.graph, field).extend(values)
    proto.graph.ClearField("value_info")
    return proto


def _weight(
    name: str, shape: list[int], proto: onnx.ModelProto, generator: np.random.Generator
) -> Array:
    sizes = [HIDDEN.get(size, size) for size in shape]
    node, slot = next(
        (node, list(node.input).index(name)) for node in proto.graph.node if name in node.input
    )
    if node.op_type in ("Conv", "Gemm") and slot == 1:
        inputs = int(np.prod(sizes[1:]))
        return (generator.standard_normal(sizes, np.float32) * np.sqrt(2 / inputs)).astype(
            np.float32
        )
    low, high = NORMALIZATION[slot] if node.op_type == "BatchNormalization" else (-0.1, 0.1)
    if node.op_type == "Unsqueeze" and _scales(node, proto):
        low, high = 0.5, 1.5
    return generator.uniform(low, high, sizes).astype(np.float32)


def _scales(node: onnx.NodeProto, proto: onnx.ModelProto) -> bool:
    return any(n.op_type == "Mul" and node.output[0] in n.input for n in proto.graph.node)


def random_image(proto: onnx.ModelProto) -> dict[str, Array]:
    """A random image for the model's one input that is not a weight."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    (tensor,) = [tensor for tensor in proto.graph.input if tensor.name not in constants]
    shape = [dim.dim_value for dim in tensor.type.tensor_type.shape.dim]
    return {tensor.name: np.random.default_rng(3).normal(size=shape).astype(np.float32)}


def logits(proto: onnx.ModelProto) -> str:
    """The input of the last Softmax, or the last output."""
    last = proto.graph.node[-1]
    return str(last.input[0] if last.op_type == "Softmax" else last.output[0])
