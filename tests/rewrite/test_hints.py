"""The hints of errors about blocked gradients work."""

import re
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnxcam.autodiff.rules import DEFAULT
from onnxcam.errors import BlockedError, MissingRuleError, ModelError
from onnxcam.methods import METHODS
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.rewrite.gradient import augment
from onnxcam.rewrite.planner import layers, plan
from onnxcam.specs import PlanRequest

SHAPES = {"w": (4, 3, 3, 3), "k": (4, 4, 3, 3), "v": (4, 5), "t": (4, 4), "one": (1, 5)}
GRAD_CAM = METHODS["grad-cam"].plan_request("auto")
SMOOTH = METHODS["smooth-grad-cam++"].plan_request("auto")


def net(body: str) -> onnx.ModelProto:
    """x -> c = Conv -> r = Relu -> body -> y."""
    text = f"""<ir_version: 9, opset_import: ["" : 17, "com.somebody": 1]>
    net (float[N, 3, 8, 8] x) => (float[N, 5] y) {{
        c = Conv<pads = [1, 1, 1, 1]>(x, w)
        r = Relu(c)
        {body}
    }}"""
    proto = parser.parse_model(text)
    draw = np.random.default_rng(0)
    read = {name for node in proto.graph.node for name in node.input}
    for name in SHAPES.keys() & read:
        weights = draw.standard_normal(SHAPES[name]).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(weights, name))
    return proto


def model(body: str) -> Model:
    return load(net(body))


POOLED = "p = GlobalAveragePool(r) f = Flatten(p) "
LAST = "p = GlobalAveragePool(e) f = Flatten(p) y = MatMul(f, v)"
WITHOUT_A_LAYER_AFTER = {
    "floor": (f"{POOLED} s = Floor(f) y = MatMul(s, v)", "Floor (s) is a step", "Identity in place", "f"),
    "round": (f"{POOLED} z = MatMul(f, v) y = Round(z)", "Round (y) is a step", "Identity in place", "z"),
    "greater": (
        "g = Greater(r, c) q = Cast<to = 1>(g) p = GlobalAveragePool(q) f = Flatten(p) y = MatMul(f, v)",
        "Greater (g) returns truth values", "Sigmoid in place of Greater", None,
    ),
    "indices": (
        """a = ArgMax<axis = 1, keepdims = 0>(r) e = Gather(t, a)
        m = ReduceMean<axes = [1, 2], keepdims = 0>(e) y = MatMul(m, v)""",
        "ArgMax (a) returns indices", "Softmax in place of ArgMax", None,
    ),
    "top": (
        """n = Constant<value_ints = [1]>() q = Flatten(r) a, i = TopK(q, n)
        j = Cast<to = 1>(i) y = MatMul(j, one)""",
        "TopK (a) passes on no float values", "export the model without it", "q",
    ),
}  # fmt: skip


@pytest.mark.parametrize("plan_request", [GRAD_CAM, SMOOTH], ids=["once", "smooth"])
@pytest.mark.parametrize("kind", WITHOUT_A_LAYER_AFTER)
def test_blocked_gradient_without_later_layer_suggests_export(
    kind: str, plan_request: PlanRequest
) -> None:
    body, obstacle, form, output = WITHOUT_A_LAYER_AFTER[kind]
    with pytest.raises(BlockedError) as caught:
        plan(model(body), plan_request)
    message = str(caught.value)
    assert obstacle in message
    assert "there is no layer after it" in message
    assert form in message
    assert "choose a layer" not in message
    named = re.search(r"--output (\S+)\)", message)
    assert (named and named[1]) == output


@pytest.mark.parametrize("kind", ["floor", "round"])
def test_named_output_can_be_explained(kind: str) -> None:
    body, _, _, output = WITHOUT_A_LAYER_AFTER[kind]
    planned = plan(model(body), replace(GRAD_CAM, output=output))
    assert [layer.name for layer in planned.plan.layers] == ["r"]


@pytest.mark.parametrize(
    "body",
    [
        f"s = Round(r) d = Conv<pads = [1, 1, 1, 1]>(s, k) e = Relu(d) {LAST}",
        f"s = Bernoulli(r) d = Conv<pads = [1, 1, 1, 1]>(s, k) e = Relu(d) {LAST}",
    ],
)
def test_blocked_gradient_suggests_later_layers_that_work(body: str) -> None:
    """The request was for a layer before the obstacle."""
    loaded = model(body)
    with pytest.raises((BlockedError, MissingRuleError)) as caught:
        plan(loaded, replace(GRAD_CAM, layers=("r",)))
    named = re.search(r"choose one of the layers that a gradient reaches: (.*)", str(caught.value))
    assert named
    assert named[1].startswith("e, d")
    for name in named[1].split(", "):
        assert plan(loaded, replace(GRAD_CAM, layers=(name,))).plan.layers[0].name == name


def test_missing_rule_without_later_layer_suggests_methods_without_gradient_or_rule() -> None:
    hint = r"there is no layer after it; use a method that needs no gradient \(.*rise.*\), or add a rule"
    with pytest.raises(MissingRuleError, match=rf"com\.somebody::Pool \(.*{hint}"):
        plan(model("h = com.somebody.Pool(r) y = MatMul(h, v)"), GRAD_CAM)


@pytest.mark.parametrize("kind", WITHOUT_A_LAYER_AFTER)
def test_layers_are_listed_if_none_can_be_explained(kind: str) -> None:
    spatial = layers(model(WITHOUT_A_LAYER_AFTER[kind][0]))
    assert not any(layer.auto_for_smoothing for layer in spatial)


def test_model_without_spatial_layer_is_refused() -> None:
    text = """<ir_version: 9, opset_import: ["" : 17]>
    net (float[N, 3, 8, 8] x) => (float[N, 192] y) { y = Flatten(x) }"""
    with pytest.raises(ModelError, match="no spatial layer at all"):
        plan(load(parser.parse_model(text)), GRAD_CAM)


def test_augment_error_gives_hint_that_is_not_circular() -> None:
    loaded = model(WITHOUT_A_LAYER_AFTER["floor"][0])
    with pytest.raises(BlockedError, match="if there is one") as caught:
        augment(loaded, ["r"], "y", DEFAULT)
    assert caught.value.node == "s"
