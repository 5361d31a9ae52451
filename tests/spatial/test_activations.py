"""Which elementwise operator a model uses as its activation does not change the choice of layers."""

import pytest

from onnxcam.autodiff.rules import DEFAULT
from onnxcam.model.model import Model
from tests.model.support.texts import load_text
from tests.spatial.support.classifiers import candidate_names, classifier, layers
from tests.support.traits import operators_with

OPSET = 24
UNARY = operators_with(lambda traits: traits.elementwise == "unary")
EXCEPT = {
    "Relu",
    "PRelu",
    "CastLike",
    "Cast",
    "Dropout",
    "Identity",
}  # the reference; no activations
ACTIVATIONS = sorted((UNARY & DEFAULT.keys()) - EXCEPT)
BODIES = {
    "plain": "c = Conv(x, w) r = {op}(c) d = Conv(r, w) last = {op}(d)",
    "twice": "c = Conv(x, w) r = {op}(c) q = {op}(r) d = Conv(q, w) last = {op}(d)",
    "residual": "c = Conv(x, w) r = {op}(c) d = Conv(r, w) e = Add(d, r) last = {op}(e)",
    "branches": "c = Conv(x, w) r = {op}(c) a = Conv(r, w) b = {op}(r) d = Add(a, b) last = Identity(d)",
    "mask": "c = Conv(x, w) r = {op}(c) s = Sigmoid(c) d = Mul(r, s) last = Conv(d, w)",
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("operator", ACTIVATIONS)
def test_activation_changes_no_choice_among_convolutions(operator: str, body: str) -> None:
    relu, built = (classifier(BODIES[body].format(op=op), OPSET) for op in ("Relu", operator))
    assert candidate_names(relu) == candidate_names(built)
    names = [[(layer.name, layer.is_bottleneck) for layer in layers(net)] for net in (relu, built)]
    assert names[0] == names[1]


def transformer(operator: str) -> Model:
    """A classifier that reads the class token alone, after an attention and an MLP."""
    return load_text(
        f"""(float[N, 3, 8, 8] x) => (float[N, 3] scores) {{
            c = Conv<strides = [2, 2]>(x, p)
            s = Constant<value_ints = [0, 4, -1]>()
            flat = Reshape(c, s)
            t = Transpose<perm = [0, 2, 1]>(flat)
            ln = LayerNormalization(t, g)
            q = MatMul(ln, e)
            kt = Transpose<perm = [0, 2, 1]>(ln)
            qk = MatMul(q, kt)
            a = Softmax<axis = -1>(qk)
            m = MatMul(a, ln)
            sum = Add(t, m)
            up = MatMul(sum, e)
            act = {operator}(up)
            down = MatMul(act, e)
            last = Add(sum, down)
            i = Constant<value_int = 0>()
            picked = Gather<axis = 1>(last, i)
            scores = Gemm(picked, h) }}""",
        OPSET,
        p=(4, 3, 2, 2), g=(4,), e=(4, 4), h=(4, 3),
    )  # fmt: skip


@pytest.mark.parametrize("operator", ACTIVATIONS)
def test_activation_changes_no_choice_among_tokens(operator: str) -> None:
    """Whatever it is, the MLP after the last attention does not mix tokens: only the first is read."""
    relu, built = transformer("Relu"), transformer(operator)
    assert candidate_names(built)[0] == candidate_names(relu)[0] == "ln"
    assert {layer.name for layer in layers(relu) if layer.ignored_by_score} == {
        layer.name for layer in layers(built) if layer.ignored_by_score
    }
