"""Models whose channels ONNX Runtime stored in blocks (NCHWc), decomposed."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxcam.errors import ModelError
from onnxcam.model.load import load
from onnxcam.passes.ort import nchwc_ops
from onnxcam.passes.ort.nchwc_block_size import set_nchwc_block_size
from onnxcam.passes.ort.registry import NCHWC
from onnxcam.rewrite.gradient import gradient
from tests.passes.ort.support.fused_case import floats
from tests.passes.support.parsed import run


@pytest.mark.parametrize("block", [8, 16])
@pytest.mark.parametrize("shape", [(16, 3, 3, 2), (32, 16, 1, 3), (32, 48, 2, 1)])
def test_weights_are_unblocked(shape: tuple[int, ...], block: int) -> None:
    """Number by number, by the definition of the layout."""
    kernels = floats(*shape)
    m, c, height, width = shape
    stored = []
    for m0 in range(0, m, block):
        for c0 in range(0, c, block if c >= block else 1):
            for h, w in np.ndindex(height, width):
                for inner in range(block if c >= block else 1):
                    stored += [kernels[m0 + o, c0 + inner, h, w] for o in range(block)]
    if c < block:  # one input channel after another
        stored = [
            kernels[m0 + o, i, h, w]
            for m0 in range(0, m, block)
            for i, h, w in np.ndindex(c, height, width)
            for o in range(block)
        ]
    flat = np.array(stored, np.float32).reshape(shape)
    np.testing.assert_array_equal(nchwc_ops.unblock_weights(flat, block), kernels)


def in_blocks(outputs: int, inputs: int, channels: int) -> onnx.GraphProto:
    make = onnx.helper.make_node
    nodes = [
        make("ReorderInput", ["x"], ["b"], domain=NCHWC),
        make("Conv", ["b", "w"], ["c"], domain=NCHWC),
        make("Relu", ["c"], ["r"]),
        make("ReorderOutput", ["r"], ["y"], domain=NCHWC, channels=channels),
    ]
    weight = numpy_helper.from_array(np.zeros((outputs, inputs, 1, 1), np.float32), "w")
    return onnx.helper.make_graph(nodes, "net", [], [], [weight])


@pytest.mark.parametrize(
    ("outputs", "inputs", "channels", "expected"),
    [(24, 16, 24, 8), (32, 16, 24, 16), (32, 16, 20, 16), (32, 12, 32, 16), (8, 3, 8, 8)],
)
def test_block_size_follows_from_channels(
    outputs: int, inputs: int, channels: int, expected: int
) -> None:
    graph = in_blocks(outputs, inputs, channels)
    assert set_nchwc_block_size(graph) is None
    sizes = [a.i for n in graph.node for a in n.attribute if a.name == "block"]
    assert sizes == [expected] * 3


def test_assumed_block_size_gives_a_notice() -> None:
    graph = in_blocks(32, 16, 32)
    notice = set_nchwc_block_size(graph)
    assert notice is not None
    assert "ORT_ENABLE_EXTENDED" in notice
    assert set_nchwc_block_size(graph) is None, "noticed once"


@pytest.mark.parametrize("block", [8, 16])
def test_blocks_as_an_axis_of_their_own(block: int) -> None:
    """As ONNX Runtime multiplies every channel of a blocked tensor by a number."""
    make, target = onnx.helper.make_node, np.array([0, -1, 0, 0])
    nodes = [
        make("ReorderInput", ["x"], ["b"], domain=NCHWC),
        make("Reshape", ["b", "into"], ["split"]),
        make("Mul", ["split", "number"], ["scaled"]),
        make("Reshape", ["scaled", "out"], ["merged"]),
        make("ReorderOutput", ["merged"], ["y"], domain=NCHWC, channels=32),
    ]
    number = np.arange(32, dtype=np.float32)
    arrays = {"into": np.array([*target, block]), "out": target}
    arrays["number"] = number.reshape(1, -1, 1, 1, block)
    sizes = ["N", 32, "H", "W"]
    graph = onnx.helper.make_graph(
        nodes,
        "net",
        [onnx.helper.make_tensor_value_info("x", 1, sizes)],
        [onnx.helper.make_tensor_value_info("y", 1, sizes)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    imports = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(NCHWC, 1)]
    loaded = load(onnx.helper.make_model(graph, opset_imports=imports, ir_version=8))
    assert not loaded.notices
    x = floats(2, 32, 3, 5)
    np.testing.assert_array_equal(run(loaded.proto(), x=x)[0], x * number[:, None, None])
    seed = floats(2, 32, 3, 4)[..., :1] + 0 * x
    slope = run(gradient(loaded, ["x"], "y").proto(), x=x, seed=seed)[-1]
    np.testing.assert_array_equal(slope, seed * number[:, None, None])


def test_unknown_operator_on_blocks_is_refused_with_a_hint() -> None:
    graph = in_blocks(24, 16, 24)
    graph.node[1].op_type = "Novelty"
    graph.input.append(onnx.helper.make_tensor_value_info("x", 1, [1, 16, 4, 4]))
    graph.output.append(onnx.helper.make_tensor_value_info("y", 1, [1, 24, 4, 4]))
    imports = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(NCHWC, 1)]
    with pytest.raises(ModelError, match=r"Novelty.*ORT_ENABLE_EXTENDED"):
        load(onnx.helper.make_model(graph, opset_imports=imports, ir_version=8))
