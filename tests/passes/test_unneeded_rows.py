"""Rows that nothing reads are left out, and no value or gradient changes by that."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import onnxcam
from onnxcam.arrays import Array
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.passes.unneeded_rows import drop_unneeded_rows
from onnxcam.rewrite.gradient import gradient
from onnxcam.specs import SEED
from scripts.fixtures import restored
from tests.autodiff.support.check import numbers, run

DATA = Path(__file__).parents[1] / "data"
CONSTANTS: dict[str, Array] = {
    "first": np.array(0),
    "last": np.array(-1),
    "list": np.array([1]),
    "two": np.array([6, 2]),
    "again": np.array([2, 2]),
    "pairs": np.array([[6, 2], [2, -3]]),
    "joined": np.array([0, 0, -1]),
    **{f"i{each}": np.array([each]) for each in (0, 1, 2, 3, 4, 7, 9)},
    "end": np.array([2**62]),
    "back": np.array([-(2**62)]),
    "minus": np.array([-1]),
    "minus2": np.array([-2]),
    "w": numbers(8, 8, seed=1),
    "scale": numbers(8, seed=2),
    "pos": numbers(1, 9, 8, seed=3),
    "table": numbers(9, 8, seed=4),
    "column": numbers(9, 1, seed=5),
    "mask": np.arange(9).reshape(9, 1) % 2 == 0,
    "heads": np.array([0, 9, 2, 4]),
    "merged": np.array([-1, 9, 8]),
    "flat": np.array([-1, 72]),
    "halves": np.array([4, 4]),
    "half": np.array(0.5, np.float32),
    "step": np.array(0.03, np.float32),
    "zero": np.array(3, np.uint8),
    "steps": np.linspace(0.02, 0.04, 9, dtype=np.float32),
    "zeros": np.full(9, 3, np.uint8),
    "turned": np.array([-1, 8, 9]),
    "alone": np.array([1, 3, 2, 4]),
}


def model(body: str, x: str = "N, 9, 8", opset: int = 17, outputs: str = "float[N, k] y") -> Model:
    """A model of one input whose last tensor is `y`."""
    text = f'<ir_version: 8, opset_import: ["": {opset}]> net (float[{x}] x) => ({outputs}) {{ {body} }}'
    proto = parser.parse_model(text)
    used = [
        (n, each) for n, each in CONSTANTS.items() if any(n in e.input for e in proto.graph.node)
    ]
    proto.graph.initializer.extend(numpy_helper.from_array(each, n) for n, each in used)
    return load(proto)


def narrowed(it: Model) -> list[str]:
    """The operators that were narrowed, in order."""
    return [e.op for e in it.graph.nodes if any("/rows/" in each.name for each in e.outputs)]


def checked(
    it: Model, wrt: Sequence[str], patch: pytest.MonkeyPatch, x: Array | None = None, of: str = "y"
) -> Model:
    """The model with its gradients, after all that it returns was compared with what it is without."""
    after = gradient(it, wrt, of)
    patch.setattr("onnxcam.rewrite.gradient.drop_unneeded_rows", lambda graph, kept: None)
    before = gradient(it, wrt, of)
    names = [each.name for each in before.graph.outputs]
    assert [each.name for each in after.graph.outputs] == names
    given = it.graph.inputs[0]
    shape = [each if isinstance(each, int) else 2 for each in given.shape]
    feed: dict[str, Any] = {given.name: numbers(*shape) if x is None else x}
    feed[SEED] = numbers(*run(it.proto(), feed, [of])[0].shape, seed=7)
    onnx.checker.check_model(after.proto(), full_check=True)
    pairs = zip(run(after.proto(), feed, names), run(before.proto(), feed, names), strict=True)
    for name, (found, expected) in zip(names, pairs, strict=True):
        assert found.shape == expected.shape, name
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=name)
    return after


PICK = "y = Gather<axis = 1>(z, first)"


def test_attention_keeps_all_keys_and_values(monkeypatch: pytest.MonkeyPatch) -> None:
    it = model(f"""
        q = MatMul(x, w) k = Tanh(x) v = Neg(x)
        t = Transpose<perm = [0, 2, 1]>(k) s = MatMul(q, t) p = Softmax(s) o = MatMul(p, v)
        z = Add(o, x) {PICK}""")
    found = checked(it, ["x"], monkeypatch)
    assert narrowed(found) == ["MatMul", "MatMul", "Softmax", "MatMul", "Add"]
    assert [each.op for each in found.graph.nodes].count("Slice") == 1  # for q and the residual sum


PICKS = {
    "scalar": ("y = Gather<axis = 1>(z, first)", 1),
    "from the end": ("y = Gather<axis = 1>(z, last)", 1),
    "list of one": ("y = Gather<axis = 1>(z, list)", 1),
    "two, in any order": ("y = Gather<axis = 1>(z, two)", 2),
    "twice the same": ("y = Gather<axis = 1>(z, again)", 1),
    "pairs": ("y = Gather<axis = 1>(z, pairs)", 2),
    "slice": ("y = Slice(z, i2, i4, i1)", 2),
    "slice with steps": ("y = Slice(z, i1, i9, i1, i7)", 2),
    "slice from the end": ("y = Slice(z, minus2, end, i1)", 2),
    "slice backwards": ("y = Slice(z, i1, back, i1, minus)", 2),
}


@pytest.mark.parametrize(("pick", "rows"), PICKS.values(), ids=PICKS)
def test_how_rows_are_picked(pick: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    it = model(f"a = Tanh(x) z = MatMul(a, w) {pick}", outputs="float[N, k, l] y")
    found = checked(it, ["x"], monkeypatch)
    product = next(each for each in found.graph.nodes if each.op == "MatMul")
    assert product.outputs[0].shape[1] == rows


def test_sizes_are_not_rows() -> None:
    it = model(
        "s = Shape(x) c = Concat<axis = 0>(s, s) d = Mul(c, c) y = Gather(d, first)",
        outputs="int64 y",
    ).copy()
    drop_unneeded_rows(it.graph, set())
    assert narrowed(it) == []


def test_an_old_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    it = model("z = Tanh(x) y = Slice<axes = [1], starts = [0], ends = [2]>(z)", opset=9)
    assert narrowed(checked(it, ["x"], monkeypatch)) == ["Tanh"]


@pytest.mark.parametrize(
    "pick",
    [
        "y = Slice(z, i1, end, i1)",  # eight of nine
        "y = Slice(z, i4, i4, i1)",  # none
        "y = Gather<axis = 0>(z, first)",  # a picture
        "s = Shape(x) n = Gather(s, first) y = Gather<axis = 1>(z, n)",  # known at run time
        "a = Transpose<perm = [1, 0, 2]>(z) y = Gather<axis = 1>(a, first)",  # a picture
    ],
)
def test_what_is_not_worth_it_or_not_rows(pick: str) -> None:
    it = model(f"z = Tanh(x) {pick}", "N, 9, m").copy()
    before = [each.op for each in it.graph.nodes]
    drop_unneeded_rows(it.graph, set())
    assert [each.op for each in it.graph.nodes] == before


@pytest.mark.parametrize("pick", ["Gather<axis = 1>(z, first)", "Slice(z, i0, i1, i1)"])
def test_an_axis_of_unknown_size(pick: str, monkeypatch: pytest.MonkeyPatch) -> None:
    it = model(f"a = MatMul(x, w) z = Tanh(a) y = {pick}", "N, T, 8")
    assert narrowed(checked(it, ["x"], monkeypatch, numbers(2, 9, 8))) == ["MatMul", "Tanh"]


def test_the_last_row_of_an_axis_of_unknown_size(monkeypatch: pytest.MonkeyPatch) -> None:
    it = model("a = MatMul(x, w) z = Tanh(a) y = Gather<axis = 1>(z, last)", "N, T, 8")
    assert narrowed(checked(it, ["x"], monkeypatch, numbers(2, 9, 8))) == ["MatMul", "Tanh"]


def test_two_sizes_that_are_unknown_and_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """(N, T, T) seen as (N, 1, T, T): rows of the last axis, while the second last is left as it is."""
    it = model(
        """t = Transpose<perm = [0, 2, 1]>(x) m = MatMul(x, t) s = Shape(m) n = Slice(s, i0, i1)
        r = Slice(s, i1, i3) c = Concat<axis = 0>(n, i1, r) q = Reshape(m, c) z = Tanh(q)
        y = Gather<axis = 3>(z, first)""",
        "N, T, 8",
        outputs="float[N, a, b] y",
    )
    assert "Tanh" in narrowed(checked(it, ["x"], monkeypatch, numbers(2, 9, 8)))


BLOCK = f"a = MatMul(x, w) b = Tanh(a) c = Add(a, b) d = Exp(c) z = Mul(c, d) {PICK}"


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ("x", ["MatMul", "Tanh", "Add", "Exp", "Mul"]),
        ("a", ["Tanh", "Add", "Exp", "Mul"]),
        ("b", ["Add", "Exp", "Mul"]),
        ("d", ["Mul"]),
        ("z", []),
    ],
)
def test_layers_stay_whole(kept: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    it = model(BLOCK)
    found = checked(it, [kept], monkeypatch)
    assert narrowed(found) == expected
    assert found.graph.tensors()[kept].shape == it.graph.tensors()[kept].shape


def test_outputs_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    it = model(BLOCK, outputs="float[N, k] y, float[N, 9, 8] c")
    assert narrowed(checked(it, ["x"], monkeypatch)) == ["Exp", "Mul"]


def test_the_model_itself_is_left_as_it_is() -> None:
    it = model(BLOCK)
    gradient(it, ["x"], "y")
    assert narrowed(it) == []
    assert it.graph.tensors()["z"].shape == ["N", 9, 8]


def test_a_reader_of_all_rows_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    it = model(
        f"a = Tanh(x) z = Exp(a) m = ReduceSum(a, i1) {PICK} o = Neg(m)",
        outputs="float[N, k] y, float[N, 1, 8] o",
    )
    assert narrowed(checked(it, ["x"], monkeypatch)) == ["Exp"]


def test_several_readers_share_the_rows_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    it = model("""a = MatMul(x, w) z = Tanh(a) n = Neg(a)
        f = Gather<axis = 1>(z, last) g = Gather<axis = 1>(n, first) y = Add(f, g)""")
    found = checked(it, ["x"], monkeypatch)
    assert narrowed(found) == ["MatMul", "Tanh", "Neg"]
    written = [
        each.outputs[0] for each in found.graph.nodes if each.op in ("MatMul", "Tanh", "Neg")
    ]
    assert [each.shape[1] for each in written[:3]] == [2, 1, 1]


def test_readers_of_rows_along_different_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    it = model("""a = Tanh(x) f = Gather<axis = 1>(a, first) e = Slice(a, i0, i1, i2)
        s = ReduceSum(e, i1) c = Squeeze(s, i1) y = Add(f, c)""")
    assert narrowed(checked(it, ["x"], monkeypatch)) == []


def test_what_was_read_for_its_shape_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in exports of Transformers: what is reshaped is asked for its own shape first."""
    it = model(f"""a = MatMul(x, w) s = Shape(a) n = Slice(s, i0, i2) c = Concat<axis = 0>(n, i2, i4)
        h = Reshape(a, c) t = Tanh(h) u = Shape(t) m = Slice(u, i0, i2) d = Concat<axis = 0>(m, minus)
        z = Reshape(t, d) {PICK}""")
    found = checked(it, ["x"], monkeypatch)
    assert narrowed(found) == ["MatMul", "Reshape", "Tanh", "Reshape"]


def test_a_branch_reads_all_of_what_is_around_it() -> None:
    it = model(f"""a = Tanh(x) z = Exp(a) s = ReduceSum<keepdims = 0>(x) k = Greater(s, half)
        q = If(k) <then_branch = t () => (float[N, 9, 8] r) {{ r = Neg(a) }},
                   else_branch = e () => (float[N, 9, 8] v) {{ v = Abs(a) }}>
        o = ReduceSum(q) {PICK}""", outputs="float[N, k] y, float[1, 1, 1] o").copy()  # fmt: skip
    drop_unneeded_rows(it.graph, set())
    assert narrowed(it) == ["Exp"]


VITS = sorted(path.name for path in DATA.glob("*vit*.onnx"))
NARROWED = {"dynamo_vit.onnx": 10, "torchscript_vit.onnx": 10, "timm_test_vit_script.onnx": 22}


@pytest.mark.parametrize("name", VITS)
def test_vision_transformers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others pool over all tokens."""
    path = DATA / name
    it = onnxcam.load(restored(path) if name.startswith("timm_") else path)
    wrt = [each.name for each in onnxcam.layers(it) if each.auto_for_smoothing]
    found = checked(it, wrt, monkeypatch, of=it.graph.outputs[0].name)
    assert len(narrowed(found)) == NARROWED.get(name, 0)
