"""Plans choose the layer and the score, and know whether the gradient is constant."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import onnx
import pytest

import onnxcam
from onnxcam.errors import MissingRuleError, ModelError, UnknownNameError
from onnxcam.heads.positions import CLASS_PROBABILITIES
from onnxcam.methods import METHODS
from onnxcam.model.load import load
from onnxcam.rewrite.gradient import gradient, gradients
from onnxcam.rewrite.planner import layers, plan
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from onnxcam.specs import MODEL, RANK, SEED, Output, Plan, Program
from tests.support.nets import ANY_SIZE, DEEP, POOLED, TWO_OUTPUTS, Net

GRAD_CAM, SMOOTH = METHODS["grad-cam"], METHODS["smooth-grad-cam++"]


def make_plan(
    model: onnxcam.Model,
    method: onnxcam.Method,
    layer: str | list[str] = "auto",
    *,
    probability: bool = False,
) -> Plan:
    return plan(model, method.plan_request(layer, probability=probability)).plan


def load_net(net: Net) -> onnxcam.Model:
    return load(net.content())


@pytest.mark.parametrize(
    ("net", "layer", "constant"),
    [
        (POOLED, "features", True),
        (POOLED, "c2", False),  # a ReLU lies after it
        (POOLED, "early", False),
        (DEEP, "features", False),
        (ANY_SIZE, "features", True),  # depends on the size of the image only
    ],
)
def test_constant_gradient_is_proven_from_graph(net: Net, layer: str, constant: bool) -> None:
    assert make_plan(load_net(net), GRAD_CAM, layer).gradient_is_constant is constant


def test_probability_makes_gradient_depend_on_image() -> None:
    planned = make_plan(load_net(POOLED), GRAD_CAM, "features", probability=True)
    assert not planned.gradient_is_constant
    assert planned.explained_tensor == "probabilities"


def test_plan_exposes_layers_and_gradients() -> None:
    planned, models = plan(load_net(TWO_OUTPUTS), GRAD_CAM.plan_request(["features", "early"]))
    assert [*models] == [MODEL]
    assert not planned.gradient_is_constant
    assert planned.clean == Program(
        MODEL,
        (
            Output("activation", 0, "features"),
            Output("activation", 1, "early"),
            Output("gradient", 0, "gradient/features"),
            Output("gradient", 1, "gradient/early"),
        ),
    )
    assert (planned.explained_tensor, planned.score.output, planned.image.name) == (
        "logits",
        "probabilities",
        "x",
    )
    session = Session(models[MODEL].bytes(), Device("cpu"))
    assert session.outputs == [planned.explained_tensor, *planned.clean.tensors]
    assert session.inputs == {"x", SEED, RANK}


def test_automatic_layer_is_marked() -> None:
    planned = make_plan(load_net(DEEP), GRAD_CAM)
    assert [(layer.name, layer.automatic) for layer in planned.layers] == [("features", True)]
    assert not make_plan(load_net(DEEP), GRAD_CAM, "features").layers[0].automatic
    listed = layers(load_net(DEEP))
    assert [layer.name for layer in listed] == ["c1", "early", "c2", "features"]
    assert [layer.name for layer in listed if layer.automatic] == ["features"]


def test_smoothing_takes_last_layer_with_varying_gradient() -> None:
    assert make_plan(load_net(DEEP), SMOOTH).layers[0].name == "features"
    assert make_plan(load_net(POOLED), GRAD_CAM).layers[0].name == "features"
    planned = make_plan(load_net(POOLED), SMOOTH)
    assert (planned.layers[0].name, planned.layers[0].automatic, planned.gradient_is_constant) == (
        "early",
        True,
        False,
    )
    listed = layers(load_net(POOLED))
    assert [layer.name for layer in listed if layer.auto_for_smoothing] == ["early"]
    assert [layer.name for layer in listed if layer.automatic] == ["features"]


def linear() -> onnxcam.Model:
    net = Net(head="    pooled = GlobalAveragePool(c2)\n    flat = Flatten(pooled)\n"
              "    logits = Gemm<transB = 1>(flat, v, d)", outputs="float[N, 5] logits")  # fmt: skip
    proto = net.proto()
    for node in proto.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Identity"
    return load(proto)


def test_smoothing_linear_model_takes_last_layer() -> None:
    planned = make_plan(linear(), SMOOTH)
    assert (planned.layers[0].name, planned.gradient_is_constant) == (
        make_plan(linear(), GRAD_CAM).layers[0].name,
        True,
    )


@pytest.mark.parametrize(("body", "layer"), [("", "early"), ("Identity", "c2")])
def test_smoothing_stops_at_operator_without_rule(body: str, layer: str) -> None:
    """Bernoulli has no rule; without a Relu no layer after it has a gradient that depends on the image."""
    proto = replace(
        POOLED, lead="    before = Relu(x)\n    drawn = Bernoulli(before)\n", x="drawn"
    ).proto()
    for node in proto.graph.node:
        if body and node.op_type == "Relu":
            node.op_type = body
    assert make_plan(load(proto), SMOOTH).layers[0].name == layer


def test_smoothing_stops_at_integers() -> None:
    """In a model of byte images, no gradient reaches a tensor of bytes."""
    lead = "    bytes = Abs(x)\n    floats = Cast<to = 1>(bytes)\n"
    proto = replace(POOLED, lead=lead, x="floats").proto()
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    assert make_plan(load(proto), SMOOTH).layers[0].name == "early"


def test_noise_on_integers_upgrades_opset() -> None:
    lead = "    floats = Cast<to = 1>(x)\n"
    proto = replace(POOLED, lead=lead, x="floats").proto(opset=10)
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    assert [layer.name for layer in layers(load(proto)) if layer.auto_for_smoothing] == ["early"]
    assert make_plan(load(proto), SMOOTH).layers[0].name == "early"


def test_layers_write_gradient_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the last layer, for the one before it, and for that one with means over samples."""
    calls: list[str] = []

    def counted(write: Callable[..., onnxcam.Model]) -> Callable[..., onnxcam.Model]:
        def count(*arguments: Any) -> onnxcam.Model:
            calls.append(write.__name__)
            return write(*arguments)

        return count

    monkeypatch.setattr("onnxcam.rewrite.planner.gradient", counted(gradient))
    monkeypatch.setattr("onnxcam.rewrite.programs.gradients", counted(gradients))
    layers(load_net(POOLED))
    assert len(calls) == 3


BRANCHES = Net(
    head="""
    side = Sigmoid(x)
    p = GlobalAveragePool(features)
    q = GlobalAveragePool(side)
    both = Concat<axis = 1>(p, q)
    scores = Flatten(both)""",
    outputs="float[N, 9] scores",
)


def test_automatic_layers_of_branches_are_fused() -> None:
    planned = make_plan(load_net(BRANCHES), GRAD_CAM)
    assert [(layer.name, layer.automatic) for layer in planned.layers] == [
        ("features", True),
        ("side", True),
    ]
    assert ["the maps of 2 layers are fused" in notice for notice in planned.notices] == [True]
    assert [layer.name for layer in make_plan(load_net(BRANCHES), SMOOTH).layers] == [
        "features",
        "side",
    ]
    assert make_plan(load_net(BRANCHES), GRAD_CAM, "features").notices == ()
    listed = layers(load_net(BRANCHES))
    assert [layer.name for layer in listed if layer.automatic] == ["features", "side"]
    assert [layer.name for layer in listed if layer.auto_for_smoothing] == ["features", "side"]


def test_branch_without_layer_has_no_automatic_layer() -> None:
    net = replace(
        BRANCHES, head=BRANCHES.head.replace("side = Sigmoid(x)", "side = GlobalMaxPool(x)")
    )
    with pytest.raises(ModelError, match="from 'x' to 'scores'; choose one"):
        make_plan(load_net(net), GRAD_CAM)
    assert make_plan(load_net(net), GRAD_CAM, "features").layers[0].name == "features"
    assert not any(layer.automatic for layer in layers(load_net(net)))


@pytest.mark.parametrize("layer", ["fetures", ["features", "fetures"], "pooled", "x", "auto "])
def test_unknown_layer_is_refused(layer: str | list[str]) -> None:
    with pytest.raises(UnknownNameError, match="no layer"):
        make_plan(load_net(POOLED), GRAD_CAM, layer)


def test_empty_list_of_layers_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="no layer was named"):
        make_plan(load_net(POOLED), GRAD_CAM, [])


def test_operators_without_a_rule_are_listed() -> None:
    net = Net(
        head="    odd = Det(features)\n    logits = Flatten(odd)", outputs="float[N, 6] logits"
    )
    with pytest.raises(MissingRuleError, match=r"rule: Det \("):
        make_plan(load_net(net), GRAD_CAM, "features")


def test_probability_of_logsoftmax_is_refused() -> None:
    net = Net(head=POOLED.head.replace("Softmax", "LogSoftmax"))
    assert make_plan(load_net(net), GRAD_CAM).explained_tensor == "logits"
    with pytest.raises(ModelError, match="does not end in Softmax or Sigmoid"):
        make_plan(load_net(net), GRAD_CAM, probability=True)


def test_plan_does_not_change_model() -> None:
    model = load_net(POOLED)
    before = model.bytes()
    make_plan(model, GRAD_CAM)
    assert model.bytes() == before


def test_probability_of_pixels_is_their_mean() -> None:
    """The probabilities of the pixels are averaged, not the logits."""
    net = Net(
        "    probabilities = Softmax<axis = 1>(features)", outputs="float[N, 6, 4, 4] probabilities"
    )
    planned = make_plan(load_net(net), GRAD_CAM, "early", probability=True)
    assert planned.explained_tensor == CLASS_PROBABILITIES
    assert planned.dense is not None
    assert planned.dense.activation == "Softmax"
