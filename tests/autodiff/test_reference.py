"""The second copy of the forward nodes, on the reference."""

import numpy as np
import onnx
import pytest

from onnxcam.autodiff.backward import backward
from onnxcam.autodiff.reference import write_reference
from onnxcam.autodiff.tables import RULE_TABLES
from onnxcam.graph.tracing import Builder
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.specs import REFERENCE
from tests.autodiff.support.bent import written
from tests.autodiff.support.check import numbers, run

TEXT = """weights = Abs(scale) c = Mul(x, weights) n = Shape(x) k = ConstantOfShape(n)
    r = Relu(c) other = Neg(r) y = Add(r, k)"""

CONSTANTS = "float[4, 1, 1] scale = {-1.0, 2.0, -3.0, 4.0}"


def model() -> tuple[Model, Builder]:
    loaded = load(written(TEXT, constants=CONSTANTS))
    return loaded, Builder(loaded.graph)


def test_copy_has_the_values_of_the_reference() -> None:
    loaded, build = model()
    reference = write_reference(build, "x", "y")
    build.output(reference(build.value("y")), "y0")
    x, x0 = numbers(2, 4, 3, 3), numbers(1, 4, 3, 3, seed=1)
    y, y0 = run(loaded.proto(), {"x": x, REFERENCE: x0}, ["y", "y0"])
    (expected,) = run(written(TEXT, constants=CONSTANTS), {"x": x0}, ["y"])
    np.testing.assert_array_equal(y0, np.repeat(expected, 2, axis=0))
    assert np.abs(y - y0).max() > 0


def test_copy_shares_weights_and_omits_nodes_after_the_score() -> None:
    loaded, build = model()
    count = len(loaded.graph.nodes)
    reference = write_reference(build, "x", "y")
    new = [node.op for node in loaded.graph.nodes[count:]]
    assert new.count("Mul") == new.count("Relu") == new.count("Add") == 1
    assert not {"Abs", "Neg", "ConstantOfShape"} & set(new)
    scale = build.value("c").tensor.inputs[0].inputs[1]
    assert reference(build.value("c")).tensor.inputs[0].inputs[1] is scale


def test_rules_that_compare_are_refused_without_a_reference() -> None:
    _, build = model()
    seed = build.input("seed", np.dtype(np.float32), build.value("y").shape)
    with pytest.raises(ValueError, match="write_reference"):
        backward(build, {"y": seed}, ["x"], RULE_TABLES["deep-lift"])


def test_reference_has_the_type_and_sizes_of_the_image_and_a_batch_of_its_own() -> None:
    loaded, build = model()
    write_reference(build, "x", "y")
    tensor = loaded.graph.inputs[-1]
    assert tensor.name == REFERENCE
    assert tensor.dtype == np.float32
    assert tensor.shape[1:] == [4, 3, 3]
    assert tensor.shape[0] not in (1, "n")
    onnx.checker.check_model(loaded.proto())
