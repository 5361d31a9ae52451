"""From a model and a method to what is run: the layer, the score, and whether smoothing can matter."""

from dataclasses import replace
from typing import Any

import onnx
import pytest

import onnxcam
from onnxcam.errors import MissingRuleError, ModelError, UnknownNameError
from onnxcam.methods import METHODS
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import gradient
from onnxcam.rewrite.planner import layers, plan
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from onnxcam.specs import Plan
from tests.support.nets import ANY_SIZE, DEEP, POOLED, TWO_OUTPUTS, Net

GRAD_CAM, SMOOTH = METHODS["grad-cam"], METHODS["smooth-grad-cam++"]


def planned(*given: Any, **asked: Any) -> Plan:
    return plan(*given, **asked)[0]


def loaded(net: Net) -> onnxcam.Model:
    return load(net.content())


@pytest.mark.parametrize(
    ("net", "layer", "constant"),
    [
        (POOLED, "features", True),
        (POOLED, "c2", False),  # a relu is on the way
        (POOLED, "early", False),
        (DEEP, "features", False),
        (ANY_SIZE, "features", True),  # the size of the picture is not the picture
    ],
)
def test_constant_gradients_are_proven_from_the_graph(net: Net, layer: str, constant: bool) -> None:
    assert planned(loaded(net), GRAD_CAM, layer).gradient_is_constant is constant


def test_the_softmax_makes_the_gradient_depend_on_the_picture() -> None:
    found = planned(loaded(POOLED), GRAD_CAM, "features", probability=True)
    assert not found.gradient_is_constant
    assert found.explained_tensor == "probabilities"


def test_what_is_exposed() -> None:
    found, model, alone = plan(loaded(TWO_OUTPUTS), GRAD_CAM, ["features", "early"])
    assert not found.has_gradient_model
    assert alone is None
    assert found.gradients == ["gradient/features", "gradient/early"]
    assert found.activations == ["features", "early"]
    assert (found.explained_tensor, found.score.output, found.image.name) == (
        "logits",
        "probabilities",
        "x",
    )
    session = Session(model.bytes(), Device("cpu"))
    assert session.outputs == [found.explained_tensor, *found.activations, *found.gradients]
    assert session.inputs == {"x", "seed"}


def test_the_automatic_layer_is_marked() -> None:
    found = planned(loaded(DEEP), GRAD_CAM)
    assert [(each.name, each.automatic) for each in found.layers] == [("features", True)]
    assert not planned(loaded(DEEP), GRAD_CAM, "features").layers[0].automatic
    listed = layers(loaded(DEEP))
    assert [each.name for each in listed] == ["c1", "early", "c2", "features"]
    assert [each.name for each in listed if each.automatic] == ["features"]


def test_smoothing_takes_the_last_layer_whose_gradient_depends_on_the_picture() -> None:
    assert planned(loaded(DEEP), SMOOTH).layers[0].name == "features"
    assert planned(loaded(POOLED), GRAD_CAM).layers[0].name == "features"
    found = planned(loaded(POOLED), SMOOTH)
    assert (found.layers[0].name, found.layers[0].automatic, found.gradient_is_constant) == (
        "early",
        True,
        False,
    )
    listed = layers(loaded(POOLED))
    assert [each.name for each in listed if each.auto_for_smoothing] == ["early"]
    assert [each.name for each in listed if each.automatic] == ["features"]


def linear() -> onnxcam.Model:
    net = Net(head="    pooled = GlobalAveragePool(c2)\n    flat = Flatten(pooled)\n"
              "    logits = Gemm<transB = 1>(flat, v, d)", outputs="float[N, 5] logits")  # fmt: skip
    proto = net.proto()
    for node in proto.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Identity"
    return load(proto)


def test_smoothing_a_linear_model_takes_the_last_layer() -> None:
    found = planned(linear(), SMOOTH)
    assert (found.layers[0].name, found.gradient_is_constant) == (
        planned(linear(), GRAD_CAM).layers[0].name,
        True,
    )


@pytest.mark.parametrize(("body", "layer"), [("", "early"), ("Identity", "c2")])
def test_smoothing_asks_no_further_than_the_rules_reach(body: str, layer: str) -> None:
    """Bernoulli has no rule; without a Relu no layer behind it has a gradient that depends on the picture."""
    proto = replace(
        POOLED, lead="    before = Relu(x)\n    drawn = Bernoulli(before)\n", x="drawn"
    ).proto()
    for node in proto.graph.node:
        if body and node.op_type == "Relu":
            node.op_type = body
    assert planned(load(proto), SMOOTH).layers[0].name == layer


def test_smoothing_asks_no_further_than_the_floats_reach() -> None:
    """A picture of bytes: nothing flows back to what is computed of them as bytes."""
    lead = "    bytes = Abs(x)\n    floats = Cast<to = 1>(bytes)\n"
    proto = replace(POOLED, lead=lead, x="floats").proto()
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    assert planned(load(proto), SMOOTH).layers[0].name == "early"


def test_whole_numbers_under_noise_need_an_opset_that_rounds() -> None:
    lead = "    floats = Cast<to = 1>(x)\n"
    proto = replace(POOLED, lead=lead, x="floats").proto(opset=10)
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    assert [each.name for each in layers(load(proto)) if each.auto_for_smoothing] == ["early"]
    assert planned(load(proto), SMOOTH).layers[0].name == "early"


def test_how_often_the_gradient_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the last layer, of the one before it, and of that with what is run."""
    written: list[int] = []

    def counted(model: onnxcam.Model, wrt: list[str], *rest: Any) -> onnxcam.Model:
        written.append(len(wrt))
        return gradient(model, wrt, *rest)

    monkeypatch.setattr("onnxcam.rewrite.planner.gradient", counted)
    layers(loaded(POOLED))
    assert len(written) == 3


BRANCHES = Net(
    head="""
    side = Sigmoid(x)
    p = GlobalAveragePool(features)
    q = GlobalAveragePool(side)
    both = Concat<axis = 1>(p, q)
    scores = Flatten(both)""",
    outputs="float[N, 9] scores",
)


def test_without_a_layer_that_everything_passes_through_one_of_each_branch_is_taken() -> None:
    found = planned(loaded(BRANCHES), GRAD_CAM)
    assert [(each.name, each.automatic) for each in found.layers] == [
        ("features", True),
        ("side", True),
    ]
    assert ["the maps of 2 are fused" in each for each in found.notices] == [True]
    assert [each.name for each in planned(loaded(BRANCHES), SMOOTH).layers] == ["features", "side"]
    assert planned(loaded(BRANCHES), GRAD_CAM, "features").notices == ()
    listed = layers(loaded(BRANCHES))
    assert [each.name for each in listed if each.automatic] == ["features", "side"]
    assert [each.name for each in listed if each.auto_for_smoothing] == ["features", "side"]


def test_a_branch_without_a_layer() -> None:
    net = replace(
        BRANCHES, head=BRANCHES.head.replace("side = Sigmoid(x)", "side = GlobalMaxPool(x)")
    )
    with pytest.raises(ModelError, match="from 'x' to 'scores'; choose one"):
        planned(loaded(net), GRAD_CAM)
    assert planned(loaded(net), GRAD_CAM, "features").layers[0].name == "features"
    assert not any(each.automatic for each in layers(loaded(net)))


@pytest.mark.parametrize("wanted", ["fetures", ["features", "fetures"], "pooled", "x", "auto "])
def test_layers_that_are_not_there(wanted: str | list[str]) -> None:
    with pytest.raises(UnknownNameError, match="no layer"):
        planned(loaded(POOLED), GRAD_CAM, wanted)


def test_no_layer_at_all() -> None:
    with pytest.raises(UnknownNameError, match="no layer was named"):
        planned(loaded(POOLED), GRAD_CAM, [])


def test_operators_without_a_rule_are_listed() -> None:
    net = Net(
        head="    odd = Det(features)\n    logits = Flatten(odd)", outputs="float[N, 6] logits"
    )
    with pytest.raises(MissingRuleError, match="Det x1"):
        planned(loaded(net), GRAD_CAM, "features")


def test_a_probability_of_what_ends_in_logsoftmax() -> None:
    net = Net(head=POOLED.head.replace("Softmax", "LogSoftmax"))
    assert planned(loaded(net), GRAD_CAM).explained_tensor == "logits"
    with pytest.raises(ModelError, match="does not end in Softmax or Sigmoid"):
        planned(loaded(net), GRAD_CAM, probability=True)


def test_the_model_that_was_given_does_not_change() -> None:
    model = loaded(POOLED)
    before = model.bytes()
    planned(model, GRAD_CAM)
    assert model.bytes() == before


def test_a_probability_of_what_is_pooled() -> None:
    """Each pixel's numbers end in Softmax, their mean does not."""
    net = Net(
        "    probabilities = Softmax<axis = 1>(features)", outputs="float[N, 6, 4, 4] probabilities"
    )
    with pytest.raises(ModelError, match="mean or maximum over pixels or boxes, which are not"):
        planned(loaded(net), GRAD_CAM, "early", probability=True)
