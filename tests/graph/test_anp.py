"""Formulas compute the same on arrays (by NumPy) and as graphs of Values (by ONNX Runtime)."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import parser

from onnxcam.errors import ModelError, NeedsOpsetError
from onnxcam.graph import anp
from onnxcam.graph.opset import IR_VERSION, NEWEST
from onnxcam.graph.tracing import WRITERS, Builder, Value
from onnxcam.model.load import load
from tests.autodiff.support.check import numbers, run

FEED = {"a": numbers(2, 3, 4, low=0.5, high=1.5), "b": numbers(3, 1, seed=1, low=0.4, high=1.6)}
TEXT = """<ir_version: {ir_version}, opset_import: ["" : {opset}]>
net ({dtype}[{shape}] a, {dtype}[3, 1] b) => ({dtype}[{shape}] c) {{ c = Add(a, b) }}"""
DTYPES = {"float": np.float32, "double": np.float64}
FIXED, DYNAMIC = "2, 3, 4", "N, 3, w"
OPSETS = [8, 9, 10, 11, 12, 13, 18, NEWEST]
TIES = np.array([3.0, 1.0, 3.0, 1.0])

FORMULAS: dict[str, Callable[[Any, Any], Any]] = {
    "arithmetic": lambda a, b: (a + b) * a - b / a + 2 * a - 1 / b + (3 - a) ** 2,
    "negative": lambda a, b: -a,
    "maximum": lambda a, b: np.maximum(a, b) - np.minimum(a, 1.0),
    "matmul": lambda a, b: np.swapaxes(a, 1, 2) @ b,
    "smooth": lambda a, b: np.exp(a) + np.log(b) + np.sqrt(a) + np.square(b) + np.tanh(a),
    "trigonometry": lambda a, b: np.sin(a) + np.cos(b) + np.sinh(a) + np.cosh(b),
    "steps": lambda a, b: (
        np.abs(a - 1)
        + np.sign(a - 1)
        + np.floor(a)
        + np.rint(a)
        + np.clip(a, 0.7, 1.2)
        + np.reciprocal(b)
    ),
    "where": lambda a, b: np.where(a > b, a, 0.0),
    "where of numbers": lambda a, b: np.where(a <= b, 1.0, b),
    "comparisons": lambda a, b: np.where(
        np.logical_or(np.logical_and(a > 1, b >= 1), np.logical_not(a < b)), a, b
    ),
    "equality": lambda a, b: np.where(a == a, 1.0, a) + np.where(a != a, 1.0, a),
    "sum": lambda a, b: np.sum(a, axis=(0, -1)),
    "sum of all": lambda a, b: np.sum(a),
    "keepdims": lambda a, b: np.sum(a, axis=1, keepdims=True) + np.mean(a, axis=-1, keepdims=True),
    "mean": lambda a, b: np.mean(a, axis=2),
    "extrema": lambda a, b: np.max(a, axis=(1, 2)) - np.min(a, axis=(2, 1)),
    "product": lambda a, b: np.prod(a, axis=-1),
    "reshape": lambda a, b: np.reshape(a, (4, -1)),
    "transpose": lambda a, b: np.transpose(a, (2, 0, 1)),
    "transpose of all": lambda a, b: np.transpose(a),
    "broadcast": lambda a, b: np.broadcast_to(b, (2, 3, 4)),
    "concatenate": lambda a, b: np.concatenate([a, a * 2, a], axis=1),
    "expand": lambda a, b: np.expand_dims(a, (0, -1)),
    "squeeze": lambda a, b: np.squeeze(b, axis=-1),
    "squeeze of all": lambda a, b: np.squeeze(b) * 2.0,
    "swap axes": lambda a, b: np.swapaxes(a, -1, 0),
    "move axis": lambda a, b: np.moveaxis(a, 1, -1),
    "move axes": lambda a, b: np.moveaxis(a, (0, -1), (-1, 1)),
    "stack": lambda a, b: np.stack([a, a * 2], axis=-1) - np.stack([a, -a], 3),
    "stack first": lambda a, b: np.stack([b, np.ones((3, 1)), 1.0 - b]),
    "concatenate with array": lambda a, b: np.concatenate([np.zeros((3, 2)), b], axis=-1),
    "reshape to known": lambda a, b: np.reshape(b, (1, 3)) + np.reshape(b, -1),
    "reshape of shape": lambda a, b: np.reshape(a * b, (a.shape[0], 3, a.shape[2], 1)),
    "reshape to names": lambda a, b: np.reshape(a, (a.shape[2], a.shape[0], 3)),
    "reshape with rest": lambda a, b: np.reshape(a, (*a.shape[:1], -1)),
    "broadcast of shape": lambda a, b: np.broadcast_to(a, (5, *a.shape)),
    "zeros, ones": lambda a, b: np.zeros_like(a) - np.ones_like(b) + np.full_like(a, 0.25),
    "filled with dtype": lambda a, b: b * np.ones_like(a > 1, dtype=np.float32),
    "variance": lambda a, b: (
        np.var(a, axis=(1, 2))[:, None, None] - np.var(a, axis=0, keepdims=True)
    ),
    "deviation": lambda a, b: np.std(a, axis=-1, keepdims=True) + np.std(a),
    "norm": lambda a, b: np.linalg.norm(a, axis=1, keepdims=True) - np.linalg.norm(a),
    "norm along axis": lambda a, b: (
        np.linalg.norm(a, ord=1, axis=-1) + np.linalg.norm(a, 2, 2, keepdims=False)
    ),
    "logarithm": lambda a, b: np.log2(a),
    "finite": lambda a, b: np.where(np.isfinite(1.0 / np.floor(a)), a, 0.0),
    "not finite": lambda a, b: np.where(np.isfinite(np.log(1.0 - a)), 1.0, b),
    "nan": lambda a, b: np.where(np.isnan(np.log(1.0 - a)), a, b),
    "masks": lambda a, b: np.where((a > 0.8) & ~(a > 1.2) | (b > a), a, 0.0),
    "mask times numbers": lambda a, b: (a > b) * a - 2.0 * (a > 1.0),
    "mean of mask": lambda a, b: (
        np.mean(a > 1.0, axis=-1, keepdims=True) - np.sum(a > b, axis=1, keepdims=True)
    ),
    "truth": lambda a, b: np.where(
        np.any(a > 1.4, axis=-1) | np.all(a > 0.6, axis=(1, 2), keepdims=True)[0], 1.0, b[:, 0]
    ),
    "array as condition": lambda a, b: np.where(np.arange(3.0)[:, None] > 0, a, b),
    "limits": lambda a, b: np.clip(a, None, 1.0) * np.clip(a, b, None),
    "integers": lambda a, b: (
        b * (np.argsort(b, axis=0) + 0.5) / np.full_like(np.argmax(b, axis=0), 3)
    ),
    "largest": lambda a, b: a * np.argmax(a, axis=-1, keepdims=True) - np.argmin(a),
    "sort": lambda a, b: np.sort(a) - np.sort(b, axis=0),
    "order": lambda a, b: np.argsort(a, axis=1, kind="stable") * b,
    "descending order": lambda a, b: b * np.argsort(-(b + TIES), axis=-1, stable=True),
    "order of ties": lambda a, b: b * np.argsort(0.0 * b + TIES, kind="stable"),
    "cumulative sum": lambda a, b: np.cumsum(a, axis=-1) + np.cumsum(b, axis=0),
    "contraction": lambda a, b: np.einsum("kh,nkw->nwh", b, a),
    "contraction of arrays": lambda a, b: np.einsum(
        "...k,nkw->nw...", np.ones((2, 3)), a, optimize=True
    ),
    "outer product": lambda a, b: np.einsum("i..., jo", b, b),
    "broadcast contraction": lambda a, b: np.einsum("kw,nkw->nw", b, a),
    "index": lambda a, b: a[0, ..., -1] + a[1:2, :, 2] + a[:, 0][:, None, 0],
    "slices": lambda a, b: a[:, 1:, ::2] - a[:, :-1, -2:] * b[::-1][1:],
    "slices from the end": lambda a, b: a[:, :, ::-1] + a[:, 2:1:-1, -1:-5:-1],
    "new axes": lambda a, b: a[:, None, :, 0, None] + b[None, ..., np.newaxis],
    "list of indices": lambda a, b: a[:, [2, 0, -1]] * b[np.array([0, 2, 2])],
    "table of indices": lambda a, b: a[..., 1:, [[0, 1], [2, -1]]],
    "computed indices": lambda a, b: b[np.argsort(b[:, 0])] * a,
    "take": lambda a, b: (
        np.take(a, np.array([2, -1, 1]), axis=1) + np.take(b, [[0]], axis=-1)[:, 0]
    ),
    "take one": lambda a, b: np.take(a, 1, axis=0) * b,
    "take along axis": lambda a, b: np.take_along_axis(b, np.argsort(b, axis=0)[:2], axis=0),
    "take along axis the same": lambda a, b: np.take_along_axis(
        a, np.argmax(np.sum(a, axis=1, keepdims=True), axis=2, keepdims=True), axis=2
    ),
    "array operand": lambda a, b: a * np.arange(4.0) + np.ones((3, 1)),
    "array first": lambda a, b: np.arange(4.0) * a - np.float64(2) / a,
}

FIRST_OPSET = {  # at which a formula can be written, if it is not 8
    **dict.fromkeys(["trigonometry", "where", "where of numbers", "comparisons", "finite"], 9),
    **dict.fromkeys(["not finite", "nan", "masks", "truth", "array as condition"], 9),
    **dict.fromkeys(["slices", "slices from the end"], 10),
    **dict.fromkeys(["steps", "equality", "cumulative sum"], 11),
    **dict.fromkeys(["take along axis", "take along axis the same"], 11),
}
FIRST_OPSET_OF_DYNAMIC = {**FIRST_OPSET, "sort": 10, "table of indices": 11}
WITH_INTEGERS = {  # which make float64 of float32, as in NumPy
    *("mask times numbers", "mean of mask", "integers", "largest"),
    *("order", "descending order", "order of ties"),
}
NOT_IN_DOUBLE = {"trigonometry"}  # ONNX Runtime has no Sinh in float64


def compute(
    formula: Callable[[Any, Any], Any], opset: int, dtype: str = "float", shape: str = FIXED
) -> tuple[Value, Any]:
    """The Value of a formula, and what ONNX Runtime computes for it."""
    text = TEXT.format(opset=opset, ir_version=min(IR_VERSION, 8), dtype=dtype, shape=shape)
    model = load(parser.parse_model(text))
    build = Builder(model.graph)
    value = formula(build.value("a"), build.value("b"))
    model.graph.outputs.append(value.tensor)
    feed = {name: array.astype(np.dtype(DTYPES[dtype])) for name, array in FEED.items()}
    return value, run(model.proto(), feed, [value.name])[0]


def expect(formula: Callable[[Any, Any], Any]) -> Any:
    """What NumPy computes in float64."""
    with np.errstate(all="ignore"):
        return formula(*(operand.astype(np.float64) for operand in FEED.values()))


@pytest.mark.parametrize("shape", [FIXED, DYNAMIC])
@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", FORMULAS)
def test_formula_on_values_equals_formula_on_arrays(name: str, opset: int, shape: str) -> None:
    formula, expected = FORMULAS[name], expect(FORMULAS[name])
    first_opset = (FIRST_OPSET if shape == FIXED else FIRST_OPSET_OF_DYNAMIC).get(name, 8)
    if opset < first_opset:
        with pytest.raises(NeedsOpsetError) as caught:
            compute(formula, opset, shape=shape)
        assert opset < caught.value.opset <= first_opset
        return
    value, array = compute(formula, opset, shape=shape)
    np.testing.assert_allclose(array, expected, rtol=2e-6, atol=1e-6)
    assert array.dtype == value.dtype == (np.float64 if name in WITH_INTEGERS else np.float32)
    assert value.ndim == expected.ndim
    if shape == FIXED:
        assert value.shape == expected.shape


@pytest.mark.parametrize("name", [name for name in FORMULAS if name not in NOT_IN_DOUBLE])
def test_formula_on_values_in_double_precision_equals_formula_on_arrays(name: str) -> None:
    _, array = compute(FORMULAS[name], NEWEST, "double")
    np.testing.assert_allclose(array, expect(FORMULAS[name]), rtol=1e-13, atol=1e-13)
    assert array.dtype == np.float64


def test_formulas_use_every_function_of_anp() -> None:
    """Every function that can be written into a graph is checked above."""
    used: set[Any] = set()

    class Spy:
        shape, ndim = (2, 3, 4), 3

        def __getitem__(self, index: Any) -> Any:
            used.add(operator.getitem)
            return self

        def __array_ufunc__(self, ufunc: Any, method: str, *xs: Any, **options: Any) -> Any:
            used.add(ufunc)
            return self

        def __array_function__(self, function: Any, types: Any, xs: Any, options: Any) -> Any:
            used.add(function)
            return self

    class Operand(Spy, np.lib.mixins.NDArrayOperatorsMixin):
        pass

    for formula in FORMULAS.values():
        formula(Operand(), Operand())
    assert (WRITERS.keys()) - used == set()


def test_anp_has_every_function_under_numpys_name() -> None:
    rows = {name: value for name, value in vars(anp).items() if value in [*WRITERS]}
    numpys_names = {"abs": np.absolute, "norm": np.linalg.norm}
    assert {numpys_names.get(name) or getattr(np, name) for name in rows} == (
        WRITERS.keys() - {operator.getitem}
    )
    assert all(WRITERS[function].__qualname__.startswith("np.") for function in rows.values())


UNSUPPORTED: dict[str, Callable[[Any, Any], Any]] = {
    "np.arctan2": lambda a, b: np.arctan2(a, b),
    "np.linalg.svd": lambda a, b: np.linalg.svd(a),
    "np.add.reduce": lambda a, b: np.add.reduce(a),
    "np.divide with where=": lambda a, b: np.divide(a, b, where=a > 0),
    "np.add with out=": lambda a, b: np.add(a, b, out=a),
    "np.sum() got an unexpected keyword argument 'dtype'": lambda a, b: np.sum(a, dtype=float),
    "np.sum() takes from 1 to 2 positional arguments": lambda a, b: np.sum(a, 1, float),
    "np.mean() got an unexpected keyword argument 'where'": lambda a, b: np.mean(a, where=a > 0),
    "np.var() got an unexpected keyword argument 'ddof'": lambda a, b: np.var(a, ddof=1),
    "np.reshape() got an unexpected": lambda a, b: np.reshape(a, (4, 6), order="F"),
    "np.take() got an unexpected": lambda a, b: np.take(a, [7], axis=0, mode="clip"),
    "np.take() missing 1 required": lambda a, b: np.take(a, [7]),
    "np.cumsum() missing 1 required": lambda a, b: np.cumsum(a),
    "np.where() missing 2 required": lambda a, b: np.where(a > 0),
    "np.linalg.norm with ord=2, axis=None": lambda a, b: np.linalg.norm(b, ord=2),
    "np.linalg.norm with ord=inf": lambda a, b: np.linalg.norm(b, ord=np.inf, axis=0),
    "np.argmax over all axes": lambda a, b: np.argmax(a, keepdims=True),
    "no letter twice": lambda a, b: np.einsum("nii->n", a),
    "takes an equation": lambda a, b: np.einsum(a, [0, 1, 2], [0]),
    "one list of indices": lambda a, b: a[[0, 1], [1, 2]],
    "beside slices": lambda a, b: a[0, :, [1, 2]],
    "integers are possible": lambda a, b: a[[True, False]],
    "bool ('N', 3, 'w')); integers are possible": lambda a, b: a[a > 0],
    "numbers, slices, None": lambda a, b: a[True],
    "written for bool, and Value(a": lambda a, b: a & b,
    "'text' is no number and no array": lambda a, b: a + "text",
    "until the graph runs": lambda a, b: np.array([a, b]),
    "is no array: it has no numbers": lambda a, b: np.asarray(a),
    "iterated over": lambda a, b: [*a],
    "is unknown until": lambda a, b: 1.0 in a,
    "use np.where": lambda a, b: b if a > b else a * b,
    "which axes of": lambda a, b: np.squeeze(a),
    "none of its sizes": lambda a, b: np.reshape(a, ("N", "h", -1)),
    "which is not its own": lambda a, b: np.broadcast_to(b, (a.shape[0], 3, 1)),
    "of the same shape": lambda a, b: np.take_along_axis(a, np.zeros((1, 3, 1), int), axis=0),
    "1j is no number": lambda a, b: a * 1j,
}


@pytest.mark.parametrize("message", UNSUPPORTED)
def test_unsupported_call_is_type_error(message: str) -> None:
    build = dynamic_builder()
    with pytest.raises(TypeError) as caught:
        UNSUPPORTED[message](build.value("a"), build.value("b"))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "formula",
    [
        lambda a: a[:, 3],
        lambda a: a[:, -4],
        lambda a: a[0, 0, 0, 0],
        lambda a: np.take(a, [0, 3], axis=1),
        lambda a: np.sum(a, axis=3),
        lambda a: np.swapaxes(a, 0, 3),
        lambda a: np.concatenate([a, a], axis=-4),
    ],
)
def test_index_or_axis_out_of_range_is_index_error(formula: Callable[[Any], Any]) -> None:
    with pytest.raises(IndexError):
        formula(dynamic_builder().value("a"))


def dynamic_builder() -> Builder:
    text = TEXT.format(opset=17, ir_version=8, dtype="float", shape=DYNAMIC)
    return Builder(load(parser.parse_model(text)).graph)


@pytest.mark.parametrize("opset", [8, 10, 11, NEWEST])
def test_equal_elements_stay_in_order(opset: int) -> None:
    """Of many equal elements: a sort that is not stable would exchange some."""
    values = np.random.default_rng(0).integers(0, 4, (3, 100)).astype(np.float32)
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]>
    net (float[3, 100] a) => (float[3, 100] c) {{ c = Abs(a) }}"""
    model = load(parser.parse_model(text))
    a: Any = Builder(model.graph).value("a")
    orders: list[Any] = [np.argsort(a), np.argsort(-a)]
    model.graph.outputs.extend(order.tensor for order in orders)
    ascending, descending = run(model.proto(), {"a": values}, [order.name for order in orders])
    np.testing.assert_array_equal(ascending, np.argsort(values, kind="stable"))
    np.testing.assert_array_equal(descending, np.argsort(-values, kind="stable"))


def test_named_sizes_are_kept() -> None:
    a: Any = dynamic_builder().value("a")
    assert np.reshape(a, (a.shape[0], 3, a.shape[2], 1)).shape == ("N", 3, "w", 1)
    assert np.reshape(a, (a.shape[2], 3, a.shape[0])).shape == ("w", 3, "N")
    assert np.moveaxis(a, 1, -1).shape == ("N", "w", 3)
    assert np.sort(a).shape == np.zeros_like(a).shape == a[:, ::-1].shape == ("N", 3, "w")
    assert a[:, 0][:, None].shape == ("N", 1, "w")
    assert np.einsum("nkw,k->nw", a, np.ones(3)).shape == ("N", "w")


def test_unknown_shape_is_model_error() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[a, b] x, int64[n] s) => (float[c, d] y) { r = Reshape(x, s) y = Flatten(r) }"""
    build = Builder(load(parser.parse_model(text)).graph)
    with pytest.raises(ModelError, match="shape of tensor 'r'"):
        _ = build.value("r").shape
    assert build.value("r").dtype == np.float32
