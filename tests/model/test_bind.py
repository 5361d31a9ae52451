"""Inputs whose values are given become constants, and the model computes the same as if they were fed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

import onnxcam
from onnxcam.errors import ModelError, OnnxcamError, SettingError, UnknownNameError
from onnxcam.model.image_input import image_input
from onnxcam.model.load import bind_inputs, load

IMAGE = "float[N, 3, 4, 4] x"
GENERATOR = np.random.default_rng(0)
X = GENERATOR.standard_normal((1, 3, 4, 4)).astype(np.float32)


def parse(text: str, ir: int = 9, **initializers: Any) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(f'<ir_version: {ir}, opset_import: ["": 17]> net {text}')
    for name, values in initializers.items():
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    return proto


def run(content: bytes, feeds: Mapping[str, Any]) -> list[Any]:
    return list(ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, feeds))


def error_of(text: str, inputs: Mapping[str, Any], **initializers: Any) -> OnnxcamError:
    with pytest.raises(OnnxcamError) as caught:
        load(parse(text, **initializers), inputs)
    return caught.value


SCALED = f"({IMAGE}, float[1] s) => (float[N, 3, 4, 4] y) {{ y = Mul(x, s) }}"
SIZED = f"""({IMAGE}, int64[N, 2] sizes) => (float[N, 3, 4, 4] y) {{
    f = Cast<to = 1>(sizes) m = ReduceMax<keepdims = 0>(f) y = Mul(x, m) }}"""
MASKED = f"({IMAGE}, float[N, 1, H, W] m) => (float[N, 3, 4, 4] y) {{ y = Mul(x, m) }}"
BRANCHED = f"""({IMAGE}, bool training) => (float[N, 3, 4, 4] y) {{
    y = If(training) <
        then_branch = a () => (float[N, 3, 4, 4] t) {{ t = Neg(x) }},
        else_branch = b () => (float[N, 3, 4, 4] e) {{ e = Relu(x) }}
    > }}"""
TOKENS = f"""({IMAGE}, int64[K, L] ids) => (float[N, K] y)
    <float[3, 4] table = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}> {{
    w = Gather(table, ids) t = ReduceMean<axes = [1], keepdims = 0>(w)
    p = ReduceMean<axes = [1, 2], keepdims = 0>(x)
    r = Transpose<perm = [1, 0]>(t) y = MatMul(p, r) }}"""
HALF = f"""({IMAGE}, float16 s) => (float[N, 3, 4, 4] y) {{ f = Cast<to = 1>(s) y = Mul(x, f) }}"""
EMPTY = f"({IMAGE}, float[E, 3, 4, 4] e) => (float[M, 3, 4, 4] y) {{ y = Concat<axis = 0>(x, e) }}"

CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    # the graph, the values, and what they are in the model
    "a number": (SCALED, {"s": 2}, {"s": np.full(1, 2, np.float32)}),
    "sizes": (SIZED, {"sizes": [4, 5]}, {"sizes": np.array([[4, 5]], np.int64)}),
    "a mask": (MASKED, {"m": np.tri(4, dtype=bool)}, {"m": np.tri(4)[None, None]}),
    "a flag": (BRANCHED, {"training": 0}, {"training": np.array(False)}),
    "a true flag": (BRANCHED, {"training": True}, {"training": np.array(True)}),
    "tokens": (TOKENS, {"ids": [[0, 1], [2, 2]]}, {"ids": np.array([[0, 1], [2, 2]])}),
    "float64": (HALF, {"s": 0.1}, {"s": np.float16(0.1)}),
    "nothing": (EMPTY, {"e": np.zeros((0, 3, 4, 4))}, {"e": np.zeros((0, 3, 4, 4), np.float32)}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("is_loaded", [False, True])
def test_bound_model_computes_what_fed_model_computes(case: str, is_loaded: bool) -> None:
    text, inputs, fed = CASES[case]
    proto = parse(text)
    dtypes = {t.name: t.type.tensor_type.elem_type for t in proto.graph.input}
    feeds = {
        name: np.asarray(values, onnx.helper.tensor_dtype_to_np_dtype(dtypes[name]))
        for name, values in fed.items()
    }
    model = bind_inputs(load(proto), inputs) if is_loaded else load(proto, inputs)
    assert [tensor.name for tensor in model.graph.inputs] == ["x"]
    assert image_input(model).name == "x"
    expected = run(proto.SerializeToString(), {"x": X, **feeds})
    np.testing.assert_allclose(run(model.bytes(), {"x": X}), expected, rtol=1e-6)
    (bound,) = model.inputs
    (name, values) = next(iter(feeds.items()))
    assert (bound.name, bound.dtype, bound.shape) == (name, values.dtype.name, values.shape)
    assert bound.to_json()["values"] == values.tolist()


def test_bound_flag_folds_branches() -> None:
    model = load(parse(BRANCHED), {"training": False})
    assert {node.op for node in model.graph.nodes} == {"Relu", "Identity"}
    assert model.digest == load(parse(BRANCHED)).digest


def test_explainer_of_bound_model_equals_explainer_of_constant_model(tmp_path: Path) -> None:
    text = f"""({IMAGE}, float[1] s) => (float[N, 2] y) <float[2, 3, 1, 1] w = {{1, 2, 3, -1, 2, 1}}>
        {{ c = Conv(x, w) r = Relu(c) p = Mul(r, s) g = GlobalAveragePool(p) y = Flatten(g) }}"""
    fixed = parse(text, s=np.array([3], np.float32))
    del fixed.graph.input[1]
    expected = onnxcam.Explainer(load(fixed), "grad-cam", "r")(X)
    (tmp_path / "net.onnx").write_bytes(parse(text).SerializeToString())
    for _ in range(2):  # built, and then from the cache
        explainer = onnxcam.Explainer(tmp_path / "net.onnx", "grad-cam", "r", inputs={"s": 3})
        explanation = explainer(X)
        np.testing.assert_array_equal(explanation.maps, expected.maps)
        recorded = explanation.provenance["inputs"]["s"]
        assert (recorded["shape"], recorded["dtype"]) == ([1], "float32")
        assert recorded["values"] == [3.0]
        assert explainer.notices == onnxcam.Explainer(load(fixed), "grad-cam", "r").notices


def test_image_is_the_input_that_is_not_bound() -> None:
    text = """(float[N, 1, 8, 8] m, float[N, 3, 4, 4] x) => (float[N, 3, 4, 4] y)
        { s = ReduceMean<axes = [1, 2, 3]>(m) y = Mul(x, s) }"""
    with pytest.raises(
        ModelError, match=r"input x .* image 'm'.* --input x=IMAGE .*if the image is 'x'"
    ):
        image_input(load(parse(text)))
    assert image_input(load(parse(text), {"m": np.ones((1, 1, 8, 8))})).name == "x"


def test_input_of_text_is_refused_before_values_are_asked_for() -> None:
    text = f"""({IMAGE}, string[1] t, float s) => (float[N, 3, 4, 4] y, string[1] u)
        {{ y = Mul(x, s) u = Identity(t) }}"""
    with pytest.raises(ModelError, match=r"inputs t, s .*only numbers .*'t' takes others"):
        image_input(load(parse(text)))


def test_default_value_is_replaced() -> None:
    proto = parse(f"({IMAGE}, float[1] s) => (float[N, 3, 4, 4] y) {{ y = Mul(x, s) }}", 3)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([5], np.float32), "s"))
    (result,) = run(load(proto, {"s": 2}).bytes(), {"x": X})
    np.testing.assert_array_equal(result, 2 * X)


def test_named_sizes_of_a_mask_fix_those_of_the_image() -> None:
    text = (
        """(float[N, 3, H, W] x, float[N, 1, H, W] m) => (float[N, 3, H, W] y) { y = Mul(x, m) }"""
    )
    image = image_input(load(parse(text), {"m": np.ones((1, 1, 6, 7))}))
    assert (image.batch, image.height, image.width) == (None, 6, 7)


def test_value_that_nothing_reads_is_reported() -> None:
    text = f"({IMAGE}, float[1] s) => (float[N, 3, 4, 4] y) {{ y = Relu(x) }}"
    model = load(parse(text), {"s": 1})
    assert model.notices == ("the value of the input 's' is ignored, because nothing reads it",)


@pytest.mark.parametrize(
    ("text", "inputs", "kind", "words"),
    [
        (SCALED, {"S": 1}, UnknownNameError, r"no input 'S' among x \(float32, shape \(N, 3, 4, 4\)\), s "),
        (SIZED, {"size": [1, 2]}, UnknownNameError, r"did you mean sizes\?"),
        (SCALED, {"s": [1, 2]}, SettingError, r"'s' \(float32, shape \(1\)\): got .* \(2,\)"),
        (SCALED, {"s": [[1]]}, SettingError, r"got an array of shape \(1, 1\)"),
        (SIZED, {"sizes": [0.5, 2]}, SettingError, r"0.5 does not fit int64"),
        (SIZED, {"sizes": [np.inf, 2]}, SettingError, r"inf does not fit int64"),
        (SIZED, {"sizes": np.array([2**63, 2], np.uint64)}, SettingError, r"does not fit int64"),
        (SCALED, {"s": np.nan}, SettingError, "contains NaN"),
        (SCALED, {"s": 1e39}, SettingError, r"1e\+39 does not fit float32"),
        (SCALED, {"s": 2**24 + 1}, SettingError, "16777217 does not fit float32"),
        (HALF, {"s": 70000}, SettingError, "70000 does not fit float16"),
        (BRANCHED, {"training": 2}, SettingError, "2 does not fit bool"),
        (SCALED, {"s": "two"}, SettingError, "the values of 's' are not numbers"),
        (SCALED, [1], SettingError, "expected a mapping of names to arrays, not list"),
        (SCALED, {"s": None}, SettingError, "the values of 's' are not numbers"),
        (SCALED, {"s": 1j}, SettingError, "the values of 's' are not numbers"),
        (TOKENS, {"ids": [[1], [1, 2]]}, SettingError, "the values of 'ids' are not an array"),
        (MASKED, {"x": X, "m": X[:, :1]}, SettingError, "'x' is the image"),
        (
            f"({IMAGE}, string[1] t) => (float[N, 3, 4, 4] y, string[1] u) {{ y = Relu(x) u = Identity(t) }}",
            {"t": 1},
            SettingError,
            r"'t' \(text, shape \(1\)\) cannot be given",
        ),
    ],
)  # fmt: skip
def test_value_that_does_not_fit_is_refused(
    text: str, inputs: Any, kind: type[OnnxcamError], words: str
) -> None:
    error = error_of(text, inputs)
    assert type(error) is kind
    with pytest.raises(kind, match=words):
        raise error
    assert "\n" not in str(error)


def test_all_faults_are_in_one_error() -> None:
    message = str(error_of(SCALED, {"s": np.nan, "t": 1, "x": [0]}))
    assert "shape (1, 1, 1, 1)" not in message
    assert all(words in message for words in ("contains NaN", "no input 't'", "'x' is the image"))
    assert message.count("model: ") == 1
