"""Images that influence one another in a batch are run one at a time, or refused; others stay free."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxcam import Explainer
from onnxcam.errors import ModelError
from onnxcam.explain.batch_trial import UNTRIED
from onnxcam.runtime.batch_independence import are_close, contrasting_images
from onnxcam.runtime.session import Session
from tests.support.nets import ANY_SIZE, DEEP, FIXED, POOLED, random_images
from tests.support.nets import MIXING as MIXING_SCORES

SMOOTH: dict[str, Any] = {"samples": 9, "noise": 0.3, "seed": 1}
X = random_images(1)
FEATURES = """
    c1 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w1)
    r1 = Relu(c1)
"""
SCORES = """
    c2 = Conv<kernel_shape = [3, 3], strides = [2, 2]>(m, w2)
    r2 = Relu(c2)
    flat = Flatten(r2)
    h = MatMul(flat, u)
    t = Tanh(h)
    y = MatMul(t, v)
"""
SHAPES = {"w1": (4, 3, 3, 3), "w2": (6, 4, 3, 3), "u": (54, 8), "v": (8, 5)}
VECTORS = {"one": np.ones(4), "zero": np.zeros(4)}
AXIS = "    axis = Constant<value_ints = [0]>()\n"
MIXING = {  # from r1 (N, 4, 8, 8) to m
    "attention over the batch": """
        one_row = Constant<value_ints = [0, -1]>()
        rows = Reshape(r1, one_row)
        turned = Transpose<perm = [1, 0]>(rows)
        small = Constant<value_float = 0.02>()
        products = MatMul(rows, turned)
        scaled = Mul(products, small)
        share = Softmax<axis = -1>(scaled)
        mixed = MatMul(share, rows)
        like = Shape(r1)
        m = Reshape(mixed, like)""",
    "statistics of the batch": """
        m, rm, rv = BatchNormalization<training_mode = 1>(r1, one, zero, zero, one)""",
    "a mean over the batch": AXIS
    + """
        mean = ReduceMean<keepdims = 1>(r1, axis)
        m = Add(r1, mean)""",
    "a maximum over the batch": AXIS
    + """
        highest = ReduceMax<keepdims = 1>(r1, axis)
        m = Add(r1, highest)""",
    "what came before": """
        first = Constant<value = int64 {0}>()
        m = CumSum(r1, first)""",
    "a softmax over the batch": """
        share = Softmax<axis = 0>(r1)
        m = Mul(share, r1)""",
    "a range of the complete batch": """
        q, s, z = DynamicQuantizeLinear(r1)
        m = DequantizeLinear(q, s, z)""",
    "what comes after": """
        first = Constant<value = int64 {0}>()
        m = CumSum<reverse = 1>(r1, first)""",
    "images reversed": """
        ends = Constant<value_ints = [-1]>()
        starts = Constant<value_ints = [-1000]>()
        axis = Constant<value_ints = [0]>()
        back = Constant<value_ints = [-1]>()
        reversed = Slice(r1, ends, starts, axis, back)
        m = Add(r1, reversed)""",
}


def model(
    middle: str, shape: str = "N, 3, 8, 8", scores: str = "N, 5", head: str = SCORES
) -> bytes:
    text = f"""<ir_version: 9, opset_import: ["": 18]>
        net (float[{shape}] x) => (float[{scores}] y) {{ {FEATURES}{middle}{head} }}"""
    proto = onnx.parser.parse_model(text)
    draw = np.random.default_rng(3)
    arrays = {name: draw.normal(0, 0.3, size) for name, size in SHAPES.items()} | VECTORS
    used = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(
        numpy_helper.from_array(array.astype(np.float32), name)
        for name, array in arrays.items()
        if name in used
    )
    return bytes(proto.SerializeToString())


def make_explainer(content: bytes, **options: Any) -> Explainer:
    settings = {} if "method" in options else SMOOTH
    return Explainer(content, device="cpu", cache=False, **(settings | options))


def one_at_a_time(notices: tuple[str, ...]) -> list[str]:
    return [notice for notice in notices if "are run one by one" in notice]


NO_GRADIENT = {
    "statistics of the batch",
    "images reversed",
}  # their mixing comes before the layer, so no gradient passes through it


@pytest.mark.parametrize(
    ("what", "layer"),
    [(what, "r2") for what in MIXING]
    + [(what, "r1") for what in sorted(MIXING.keys() - NO_GRADIENT)],
)
def test_mixing_in_free_batch_is_run_one_by_one(what: str, layer: str) -> None:
    content = model(MIXING[what])
    explainers = [make_explainer(content, layer=layer, chunk=chunk) for chunk in (1, 8)]
    maps = [explainer(X, target=1) for explainer in explainers]
    assert all(one_at_a_time(array.notices) for array in maps)
    assert explainers[1].plan.image.batch == 1
    assert maps[0].maps.max() > 0
    np.testing.assert_array_equal(maps[0].maps, maps[1].maps)


def test_mixing_of_gradients_only_is_detected() -> None:
    """Too little for the quantizer's next step, but a derivative passes straight through it."""
    content = model(
        AXIS
        + """
        step = Constant<value_float = 1000.0>()
        zero_point = Constant<value = int8 {0}>()
        mean = ReduceSum<keepdims = 1>(r1, axis)
        q = QuantizeLinear(mean, step, zero_point)
        d = DequantizeLinear(q, step, zero_point)
        m = Add(r1, d)"""
    )
    explainer = make_explainer(content, layer="r1", chunk=8)
    assert one_at_a_time(explainer.notices)
    np.testing.assert_array_equal(
        explainer(X, target=1).maps, make_explainer(content, layer="r1", chunk=1)(X, target=1).maps
    )


@pytest.mark.parametrize(
    "head",
    [
        SCORES.replace("Flatten(r2)", "Reshape(r2, row)").replace(
            "flat =", "row = Constant<value_ints = [1, 54]>()\n flat ="
        ),
        SCORES.replace("flat = Flatten(r2)", "all = Flatten<axis = 0>(r2)\n flat = Identity(all)"),
    ],
    ids=["Reshape to one row", "Flatten of everything"],
)
def test_head_for_one_image_is_run_one_by_one(head: str) -> None:
    explainer = make_explainer(model("m = Identity(r1)", head=head))
    assert one_at_a_time(explainer.notices)
    expected = make_explainer(model("m = Identity(r1)"))
    np.testing.assert_allclose(
        explainer(X).layer_maps, expected(X).layer_maps, rtol=1e-4, atol=1e-7
    )
    assert not one_at_a_time(expected.notices)


PAIR = SCORES.replace("Flatten(r2)", "Reshape(r2, row)").replace(
    "flat =", "row = Constant<value_ints = [1, 108]>()\n flat ="
)


def test_one_score_for_two_images_is_refused() -> None:
    """Declared as two, it has no score of one image; as any number, no run of one or two works."""
    SHAPES_PAIR = {**SHAPES, "u": (108, 8)}
    original, SHAPES["u"] = SHAPES["u"], SHAPES_PAIR["u"]
    try:
        content = model("m = Identity(r1)", "2, 3, 8, 8", "1, 5", PAIR)
    finally:
        SHAPES["u"] = original
    for method in ("grad-cam", "smooth-grad-cam++"):
        with pytest.raises(
            ModelError, match=r"exactly 2 images.*a single image has no map; export it"
        ):
            Explainer(content, method, device="cpu", cache=False)


@pytest.mark.parametrize("method", ["grad-cam", "smooth-grad-cam++"])
@pytest.mark.parametrize("what", [*sorted(MIXING.keys() - NO_GRADIENT)])
def test_mixing_in_fixed_batch_is_refused(what: str, method: str) -> None:
    content = model(MIXING[what], "4, 3, 8, 8", "4, 5")
    with pytest.raises(
        ModelError, match=r"exactly 4 images at a time, and the result for one depends"
    ):
        Explainer(content, method, device="cpu", cache=False)


@pytest.mark.parametrize("method", ["grad-cam", "smooth-grad-cam++"])
def test_fixed_batch_without_mixing_is_explained(method: str) -> None:
    fixed, free = (
        Explainer(model("m = Identity(r1)", *shapes), method, device="cpu", cache=False)(
            X, target=2
        )
        for shapes in (("4, 3, 8, 8", "4, 5"), ("N, 3, 8, 8", "N, 5"))
    )
    np.testing.assert_allclose(fixed.maps, free.maps, rtol=1e-4, atol=1e-7)


ODD = (
    SCORES.replace(
        "c2 =", "same = Constant<value_ints = [0, 4, 40, 40]>()\n e = Reshape(m, same)\n c2 ="
    )
    .replace("(m, w2)", "(e, w2)")
    .replace("flat = Flatten(r2)", "g = GlobalAveragePool(r2)\n flat = Flatten(g)")
)


def test_failed_trial_is_run_one_by_one() -> None:
    """Height and width are declared free, but only 40 x 40 runs, which is not tried."""
    original, SHAPES["u"] = SHAPES["u"], (6, 8)
    try:
        content = model("m = Identity(r1)", "N, 3, H, W", head=ODD)
    finally:
        SHAPES["u"] = original
    explainer = make_explainer(content)
    assert [notice for notice in explainer.notices if "a test run with two images failed" in notice]
    assert explainer(random_images(1, (3, 40, 40))).maps.max() > 0


@pytest.mark.parametrize("side", [224, 32, 28])
def test_trial_finds_only_size_that_runs(side: int) -> None:
    content = model(
        "m = Identity(r1)",
        "N, 3, H, W",
        head=ODD.replace("40, 40", f"{side}, {side}"),
    )
    proto = onnx.load_from_string(content)
    for tensor in proto.graph.initializer:
        if tensor.name == "u":
            tensor.CopyFrom(numpy_helper.from_array(np.ones((6, 8), np.float32), "u"))
    explainer = make_explainer(proto.SerializeToString())
    assert explainer.plan.image.batch is None
    assert not explainer.notices


@pytest.mark.parametrize("unit", [1e-12, 1e-8, 1e6])
@pytest.mark.parametrize("what", ["a mean over the batch", "a maximum over the batch"])
def test_mixing_is_detected_for_scores_of_any_scale(what: str, unit: float) -> None:
    """A millionth of a layer's values is not a rounding error if all scores are as small."""
    head = (
        SCORES.replace("y = MatMul(t, v)", "s = MatMul(t, v)")
        + f"""
        unit = Constant<value_float = {unit!r}>()
        y = Mul(s, unit)"""
    )
    explainer = make_explainer(model(MIXING[what], head=head), layer="r1")
    assert one_at_a_time(explainer.notices)
    assert not one_at_a_time(
        make_explainer(model("m = Identity(r1)", head=head), layer="r1").notices
    )


@pytest.mark.parametrize("net", [POOLED, DEEP, ANY_SIZE, FIXED])
def test_batch_without_mixing_stays_free(net: Any) -> None:
    explainer = make_explainer(net.content())
    assert explainer.plan.image.batch is None
    assert not one_at_a_time(explainer.notices)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.float16, np.float64])
def test_batch_of_any_dtype_stays_free(dtype: Any) -> None:
    proto = onnx.load_from_string(model("m = Identity(r1)"))
    proto.graph.input[0].type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(
        np.dtype(dtype)
    )
    cast = onnx.helper.make_node("Cast", ["x"], ["as_float"], to=onnx.TensorProto.FLOAT)
    proto.graph.node.insert(0, cast)
    proto.graph.node[1].input[0] = "as_float"
    assert not make_explainer(proto.SerializeToString(), layer="r1").notices


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One item per session that was opened for a trial."""
    opened: list[int] = []
    real = Session

    def count_session(*args: Any, **options: Any) -> Any:
        opened.append(1)
        return real(*args, **options)

    monkeypatch.setattr("onnxcam.explain.batch_trial.Session", count_session)
    return opened


def test_trial_is_not_repeated_for_cached_plan(tmp_path: Path, trials: list[int]) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(model(MIXING["a mean over the batch"]))
    first, second = (Explainer(path, device="cpu", **SMOOTH) for _ in range(2))
    assert trials == [1]
    assert first.notices == second.notices
    assert one_at_a_time(second.notices)


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam++", "smooth-grad-cam++"])
def test_trial_runs_once_for_any_method(trials: list[int], method: str) -> None:
    """Methods of one pass run several images together, too."""
    Explainer(POOLED.content(), method, device="cpu", cache=False)
    assert trials == [1]


def test_fixed_batch_of_one_needs_no_trial(trials: list[int]) -> None:
    explainer = Explainer(MIXING_SCORES.content(), "grad-cam", device="cpu", cache=False)
    assert explainer.plan.image.batch == 1
    assert trials == []


STATEFUL = {"statistics of the batch"}  # ONNX Runtime keeps them from run to run


@pytest.mark.parametrize("what", sorted(MIXING.keys() - STATEFUL))
def test_mixing_is_run_one_by_one_by_method_of_one_pass(what: str) -> None:
    images = random_images(3)
    explainer = make_explainer(model(MIXING[what]), method="grad-cam", layer="r2")
    explanation = explainer(images, target=1)
    assert one_at_a_time(explanation.notices)
    alone = [explainer(image, target=1).maps for image in images]
    assert max(float(one.max()) for one in alone) > 0
    np.testing.assert_array_equal(explanation.maps, np.concatenate(alone))


@pytest.mark.parametrize("batch", ["N", "1", "4"])
def test_model_without_cpu_kernels_is_not_refused(
    batch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial is on the CPU, which lacks kernels that CUDA has: nothing is known, nothing is refused."""

    def refuse_session(*_: Any, **__: Any) -> None:
        raise ModelError("no kernel")

    for module in ("batch_trial", "free_batch_proof"):
        monkeypatch.setattr(f"onnxcam.explain.{module}.Session", refuse_session)
    explainer = make_explainer(model("m = Identity(r1)", f"{batch}, 3, 8, 8", f"{batch}, 5"))
    assert explainer.plan.image.batch == (4 if batch == "4" else 1)
    assert (UNTRIED in explainer.notices) == (batch == "N")
    assert not explainer(X, target=1).is_empty.any()


# Training mode


def test_training_mode_is_reported() -> None:
    explainer = make_explainer(model(MIXING["statistics of the batch"]), layer="r2")
    (notice,) = [notice for notice in explainer.notices if "training mode" in notice]
    assert notice.startswith("BatchNormalization (m) in training mode")


@pytest.mark.parametrize(
    "drawn",
    [
        """half = Constant<value_float = 0.5>()
        yes = Constant<value = bool {1}>()
        m = Dropout(r1, half, yes)""",
        "noise = RandomNormalLike(r1)\n m = Add(r1, noise)",
        "p = Sigmoid(r1)\n b = Bernoulli(p)\n m = Mul(r1, b)",
    ],
    ids=["Dropout", "RandomNormalLike", "Bernoulli"],
)
@pytest.mark.parametrize("method", ["grad-cam", "smooth-grad-cam++"])
def test_random_operators_are_reported(drawn: str, method: str) -> None:
    explainer = Explainer(model(drawn), method, layer="r2", device="cpu", cache=False)
    assert [
        notice for notice in explainer.notices if "scores and maps differ from run to run" in notice
    ]


def test_dropout_in_evaluation_mode_is_not_reported() -> None:
    half = "half = Constant<value_float = 0.5>()\n no = Constant<value = bool {0}>()\n"
    assert not make_explainer(model(half + "m = Dropout(r1, half, no)"), layer="r2").notices


# What is compared


def test_unlike_images_differ() -> None:
    for dtype in (np.float32, np.uint8, np.int8):
        first, second = np.asarray(contrasting_images((3, 16, 16), np.dtype(dtype)), np.float64)
        assert abs(first.mean() - second.mean()) > 5
        assert min(first.std(), second.std()) > 0.9
        assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("actual", "expected", "agrees"),
    [
        ([1.0, 2.0], [1.0, 2.0], True),
        ([1.0005, 2.0], [1.0, 2.0], True),
        ([1.01, 2.0], [1.0, 2.0], False),
        ([1.0, 2.0, 3.0], [1.0, 2.0], False),
        ([np.nan, 2.0], [np.nan, 2.0], True),
        ([np.nan, 2.0], [1.0, 2.0], False),
        ([1e-9, 0.0], [0.0, 1e-9], True),  # below the floor
        ([1e-3, 0.0], [0.0, 1e-3], False),
    ],
)
def test_agree_compares_with_tolerance_and_floor(
    actual: list[float], expected: list[float], agrees: bool
) -> None:
    assert are_close(np.array(actual), np.array(expected), 1e-3, 1e-7) is agrees
