"""What files must not hold, so that runtimes open them quietly."""

from collections.abc import Iterator

import onnx
import pytest

import onnxcam
from onnxcam.bundled import bundled_model
from onnxcam.heads.score import find_score
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import augment, gradient


def scopes(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from scopes(attribute.g)


def _written_files() -> dict[str, onnx.ModelProto]:
    model = load(bundled_model())
    score = find_score(model).logits
    layer = next(node.outputs[0].name for node in model.graph.nodes if node.op == "Relu")
    return {
        "augmented": augment(model, [layer]).proto(),
        "gradient": gradient(model, [model.graph.inputs[0].name], score).proto(),
        "embedded": onnxcam.embed(bundled_model(), samples=3, rounds=1).model.proto(),
        "in a loop": onnxcam.embed(bundled_model(), samples=4, rounds=2).model.proto(),
        "of the image": onnxcam.embed(bundled_model(), "grad-cam").model.proto(),
    }


@pytest.fixture(scope="module")
def files() -> dict[str, onnx.ModelProto]:
    return _written_files()


def test_every_initializer_is_read(files: dict[str, onnx.ModelProto]) -> None:
    """ONNX Runtime warns on standard output of those that are not."""
    for name, proto in files.items():
        read = {
            tensor
            for graph in scopes(proto.graph)
            for node in graph.node
            for tensor in (*node.input, *(output.name for output in graph.output))
        }
        stored = {tensor.name for graph in scopes(proto.graph) for tensor in graph.initializer}
        assert stored
        assert stored <= read, name


def test_no_step_has_an_offset_of_zero(files: dict[str, onnx.ModelProto]) -> None:
    for name, proto in files.items():
        for graph in scopes(proto.graph):
            for node in graph.node:
                numbers = {a.name: a.f for a in node.attribute if node.op_type == "HardSigmoid"}
                assert all(numbers.values()), name
