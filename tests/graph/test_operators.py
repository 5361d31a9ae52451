"""An operator is in the table where, and only where, ONNX Runtime computes every number of its own place; and
which one of them stands in a model changes nothing of how layers are chosen.
"""

import numpy as np
import onnxruntime
import pytest
from onnx import defs, helper

from onnxcam.autodiff.rules import DEFAULT
from onnxcam.graph.operators import BROADCASTING, ELEMENTWISE, UNARY
from onnxcam.model.model import Model
from onnxcam.passes.row_dependence import ROWWISE
from onnxcam.spatial.layers import FINISHING
from onnxcam.spatial.token_mixing import IN_PLACE
from tests.model.test_image_input import model
from tests.spatial.test_layers import automatic, classifier, layers

OPSET = 24
FLOATING = sorted(UNARY & DEFAULT.keys())  # what a derivative is known of
OTHERS = sorted(set(FLOATING) - {"Relu", "PRelu", "CastLike", "Cast", "Dropout", "Identity"})
PASSING = {"Squeeze", "Optional", "OptionalGetElement"}  # which compute nothing


def keeps_places(operator: str) -> bool:
    """Whether an operator writes, of numbers in another order, the same numbers in that order."""
    node = helper.make_node(operator, ["x"], ["y"])
    shape = (3, 4, 5, 2)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_empty_tensor_value_info("y")],
    )
    content = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10
    ).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001  not of one float tensor and no attributes
        return False
    draw = np.random.default_rng(1)
    x, order = draw.uniform(0.1, 0.9, shape).astype(np.float32), draw.permutation(120)
    there = np.ravel(x)[order].reshape(shape)
    first, second = (session.run(None, {"x": image})[0] for image in (x, there))
    if not isinstance(first, np.ndarray) or first.shape != shape:
        return False
    return bool(np.allclose(np.ravel(first)[order], np.ravel(second), equal_nan=True))


def test_every_operator_that_keeps_places_is_in_the_table() -> None:
    """Of all operators of ONNX that take one tensor."""
    names = sorted({schema.name for schema in defs.get_all_schemas() if not schema.domain})
    keeping = {name for name in names if keeps_places(name)}
    assert len(keeping) > 40
    assert keeping - ELEMENTWISE - PASSING == set()


@pytest.mark.parametrize(
    "operator", sorted(UNARY - {"Cast", "CastLike", "PRelu", "BitwiseNot", "Not"})
)
def test_operator_of_the_table_keeps_places(operator: str) -> None:
    if defs.has(operator):
        assert keeps_places(operator)


def test_sets_that_choose_layers_hold_every_elementwise_operator() -> None:
    assert FINISHING >= UNARY
    assert IN_PLACE >= ELEMENTWISE
    assert ROWWISE.keys() >= ELEMENTWISE - {"CastLike", "Dropout"}
    assert not UNARY & BROADCASTING


BODIES = {
    "plain": "c = Conv(x, w) r = {op}(c) d = Conv(r, w) last = {op}(d)",
    "twice": "c = Conv(x, w) r = {op}(c) q = {op}(r) d = Conv(q, w) last = {op}(d)",
    "residual": "c = Conv(x, w) r = {op}(c) d = Conv(r, w) e = Add(d, r) last = {op}(e)",
    "branches": "c = Conv(x, w) r = {op}(c) a = Conv(r, w) b = {op}(r) d = Add(a, b) last = Identity(d)",
    "mask": "c = Conv(x, w) r = {op}(c) s = Sigmoid(c) d = Mul(r, s) last = Conv(d, w)",
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("operator", OTHERS)
def test_another_activation_changes_no_choice_among_convolutions(operator: str, body: str) -> None:
    first, second = (classifier(BODIES[body].format(op=op), OPSET) for op in ("Relu", operator))
    assert automatic(first) == automatic(second)
    names = [
        [(each.name, each.is_bottleneck) for each in layers(built)] for built in (first, second)
    ]
    assert names[0] == names[1]


def transformer(operator: str) -> Model:
    """The class token's row is read alone behind an attention and an MLP."""
    return model(
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


@pytest.mark.parametrize("operator", OTHERS)
def test_another_activation_changes_no_choice_among_tokens(operator: str) -> None:
    """Whatever it is, the MLP behind the last attention does not mix tokens: none but the first is read."""
    first, second = transformer("Relu"), transformer(operator)
    assert automatic(second)[0] == automatic(first)[0] == "ln"
    assert {each.name for each in layers(first) if each.ignored_by_score} == {
        each.name for each in layers(second) if each.ignored_by_score
    }
