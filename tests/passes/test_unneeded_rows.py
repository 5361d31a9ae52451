"""Dropping rows that nothing reads changes no value and no gradient."""

from pathlib import Path

import pytest

import onnxcam
from onnxcam.passes.unneeded_rows import drop_unneeded_rows
from onnxcam.rewrite.gradient import gradient
from scripts.fixtures.files import load_fixture
from tests.autodiff.support.check import numbers
from tests.passes.support.row_models import PICK, check_gradient, model_of, narrowed_operators

DATA = Path(__file__).parents[1] / "data"


def test_attention_keeps_all_keys_and_values() -> None:
    model = model_of(f"""
        q = MatMul(x, w) k = Tanh(x) v = Neg(x)
        t = Transpose<perm = [0, 2, 1]>(k) s = MatMul(q, t) p = Softmax(s) o = MatMul(p, v)
        z = Add(o, x) {PICK}""")
    narrow_model = check_gradient(model, ["x"])
    assert narrowed_operators(narrow_model) == ["MatMul", "MatMul", "Softmax", "MatMul", "Add"]
    assert [node.op for node in narrow_model.graph.nodes].count(
        "Slice"
    ) == 1  # for q and the residual sum


PICKS = {
    "scalar": ("y = Gather<axis = 1>(z, first)", 1),
    "from the end": ("y = Gather<axis = 1>(z, last)", 1),
    "list of one": ("y = Gather<axis = 1>(z, list)", 1),
    "two, in any order": ("y = Gather<axis = 1>(z, two)", 2),
    "the same row twice": ("y = Gather<axis = 1>(z, repeated)", 1),
    "pairs": ("y = Gather<axis = 1>(z, pairs)", 2),
    "slice": ("y = Slice(z, i2, i4, i1)", 2),
    "slice with steps": ("y = Slice(z, i1, i9, i1, i7)", 2),
    "slice from the end": ("y = Slice(z, minus2, end, i1)", 2),
    "slice backwards": ("y = Slice(z, i1, back, i1, minus)", 2),
}


@pytest.mark.parametrize(("pick", "rows"), PICKS.values(), ids=PICKS)
def test_picked_rows_are_kept(pick: str, rows: int) -> None:
    model = model_of(f"a = Tanh(x) z = MatMul(a, w) {pick}", outputs="float[N, k, l] y")
    narrow_model = check_gradient(model, ["x"])
    product = next(node for node in narrow_model.graph.nodes if node.op == "MatMul")
    assert product.outputs[0].shape[1] == rows


def test_indices_of_a_shape_drop_no_rows() -> None:
    model = model_of(
        "s = Shape(x) c = Concat<axis = 0>(s, s) d = Mul(c, c) y = Gather(d, first)",
        outputs="int64 y",
    ).copy()
    drop_unneeded_rows(model.graph, set())
    assert narrowed_operators(model) == []


def test_slice_with_attributes_picks_rows() -> None:
    model = model_of("z = Tanh(x) y = Slice<axes = [1], starts = [0], ends = [2]>(z)", opset=9)
    assert narrowed_operators(check_gradient(model, ["x"])) == ["Tanh"]


@pytest.mark.parametrize(
    "pick",
    [
        "y = Slice(z, i1, end, i1)",  # eight of nine
        "y = Slice(z, i4, i4, i1)",  # none
        "y = Gather<axis = 0>(z, first)",  # an image of the batch
        "s = Shape(x) n = Gather(s, first) y = Gather<axis = 1>(z, n)",  # known at run time
        "a = Transpose<perm = [1, 0, 2]>(z) y = Gather<axis = 1>(a, first)",  # an image of the batch
    ],
)
def test_pick_without_benefit_changes_nothing(pick: str) -> None:
    model = model_of(f"z = Tanh(x) {pick}", "N, 9, m").copy()
    before = [node.op for node in model.graph.nodes]
    drop_unneeded_rows(model.graph, set())
    assert [node.op for node in model.graph.nodes] == before


@pytest.mark.parametrize("pick", ["Gather<axis = 1>(z, first)", "Slice(z, i0, i1, i1)"])
def test_first_row_of_an_unknown_size_is_kept(pick: str) -> None:
    model = model_of(f"a = MatMul(x, w) z = Tanh(a) y = {pick}", "N, T, 8")
    assert narrowed_operators(check_gradient(model, ["x"], numbers(2, 9, 8))) == ["MatMul", "Tanh"]


def test_last_row_of_an_unknown_size_is_kept() -> None:
    model = model_of("a = MatMul(x, w) z = Tanh(a) y = Gather<axis = 1>(z, last)", "N, T, 8")
    assert narrowed_operators(check_gradient(model, ["x"], numbers(2, 9, 8))) == ["MatMul", "Tanh"]


def test_reshape_between_two_axes_of_one_unknown_size() -> None:
    """(N, T, T) as (N, 1, T, T): rows of the last axis, while the second-last keeps its size."""
    model = model_of(
        """t = Transpose<perm = [0, 2, 1]>(x) m = MatMul(x, t) s = Shape(m) n = Slice(s, i0, i1)
        r = Slice(s, i1, i3) c = Concat<axis = 0>(n, i1, r) q = Reshape(m, c) z = Tanh(q)
        y = Gather<axis = 3>(z, first)""",
        "N, T, 8",
        outputs="float[N, a, b] y",
    )
    assert "Tanh" in narrowed_operators(check_gradient(model, ["x"], numbers(2, 9, 8)))


BLOCK = f"a = MatMul(x, w) b = Tanh(a) c = Add(a, b) d = Exp(c) z = Mul(c, d) {PICK}"


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ("x", ["MatMul", "Tanh", "Add", "Exp", "Mul"]),
        ("a", ["Tanh", "Add", "Exp", "Mul"]),
        ("b", ["Add", "Exp", "Mul"]),
        ("d", ["Mul"]),
        ("z", []),
    ],
)
def test_layer_keeps_all_rows(layer: str, expected: list[str]) -> None:
    model = model_of(BLOCK)
    narrow_model = check_gradient(model, [layer])
    assert narrowed_operators(narrow_model) == expected
    assert narrow_model.graph.tensors()[layer].shape == model.graph.tensors()[layer].shape


def test_output_keeps_all_rows() -> None:
    model = model_of(BLOCK, outputs="float[N, k] y, float[N, 9, 8] c")
    assert narrowed_operators(check_gradient(model, ["x"])) == ["Exp", "Mul"]


def test_gradient_leaves_the_model_unchanged() -> None:
    model = model_of(BLOCK)
    gradient(model, ["x"], "y")
    assert narrowed_operators(model) == []
    assert model.graph.tensors()["z"].shape == ["N", 9, 8]


def test_reader_of_all_rows_keeps_them() -> None:
    model = model_of(
        f"a = Tanh(x) z = Exp(a) m = ReduceSum(a, i1) {PICK} o = Neg(m)",
        outputs="float[N, k] y, float[N, 1, 8] o",
    )
    assert narrowed_operators(check_gradient(model, ["x"])) == ["Exp"]


def test_readers_of_different_rows_keep_the_union() -> None:
    model = model_of("""a = MatMul(x, w) z = Tanh(a) n = Neg(a)
        f = Gather<axis = 1>(z, last) g = Gather<axis = 1>(n, first) y = Add(f, g)""")
    narrow_model = check_gradient(model, ["x"])
    assert narrowed_operators(narrow_model) == ["MatMul", "Tanh", "Neg"]
    written = [
        node.outputs[0] for node in narrow_model.graph.nodes if node.op in ("MatMul", "Tanh", "Neg")
    ]
    assert [tensor.shape[1] for tensor in written[:3]] == [2, 1, 1]


def test_readers_of_rows_along_different_axes_keep_all() -> None:
    model = model_of("""a = Tanh(x) f = Gather<axis = 1>(a, first) e = Slice(a, i0, i1, i2)
        s = ReduceSum(e, i1) c = Squeeze(s, i1) y = Add(f, c)""")
    assert narrowed_operators(check_gradient(model, ["x"])) == []


def test_reader_of_a_shape_keeps_no_rows() -> None:
    """As in exports of Transformers, which compute the target of a Reshape from the shape of its input."""
    model = model_of(f"""a = MatMul(x, w) s = Shape(a) n = Slice(s, i0, i2) c = Concat<axis = 0>(n, i2, i4)
        h = Reshape(a, c) t = Tanh(h) u = Shape(t) m = Slice(u, i0, i2) d = Concat<axis = 0>(m, minus)
        z = Reshape(t, d) {PICK}""")
    narrow_model = check_gradient(model, ["x"])
    assert narrowed_operators(narrow_model) == ["MatMul", "Reshape", "Tanh", "Reshape"]


def test_branch_keeps_all_rows_that_it_captures() -> None:
    model = model_of(f"""a = Tanh(x) z = Exp(a) s = ReduceSum<keepdims = 0>(x) k = Greater(s, half)
        q = If(k) <then_branch = t () => (float[N, 9, 8] r) {{ r = Neg(a) }},
                   else_branch = e () => (float[N, 9, 8] v) {{ v = Abs(a) }}>
        o = ReduceSum(q) {PICK}""", outputs="float[N, k] y, float[1, 1, 1] o").copy()  # fmt: skip
    drop_unneeded_rows(model.graph, set())
    assert narrowed_operators(model) == ["Exp"]


VITS = sorted(path.name for path in DATA.glob("*vit*.onnx"))
NARROWED = {"dynamo_vit.onnx": 10, "torchscript_vit.onnx": 10, "timm_test_vit_script.onnx": 22}


@pytest.mark.parametrize("name", VITS)
def test_rows_of_vision_transformers(name: str) -> None:
    """Models that are not in NARROWED pool over all tokens."""
    path = DATA / name
    model = onnxcam.load(load_fixture(path) if name.startswith("timm_") else path)
    wrt = [layer.name for layer in onnxcam.layers(model) if layer.auto_for_smoothing]
    narrow_model = check_gradient(model, wrt, of=model.graph.outputs[0].name)
    assert len(narrowed_operators(narrow_model)) == NARROWED.get(name, 0)
