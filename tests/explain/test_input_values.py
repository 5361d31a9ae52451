"""Explainers of models with other inputs than the image: their values are part of the cache key, of pickles,
and of the manifest, and one row of values serves a batch of images.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxcam
from onnxcam.digests import digest_bytes
from onnxcam.errors import SettingError
from onnxcam.explain.compile import cache_key
from onnxcam.explain.model_files import ModelFiles
from onnxcam.explain.plan_json import as_json, from_json
from onnxcam.model.input_values import describe_input, input_arrays
from onnxcam.specs import PlanRequest

FEATURES = """c = Conv<pads = [1, 1, 1, 1]>(x, w) r = Relu(c) d = Conv<pads = [1, 1, 1, 1]>(r, v) u = Relu(d)
    g = GlobalAveragePool(u) f = Flatten(g)"""
HEADS = {
    "concat": "k = Concat<axis = 1>(f, m) h = MatMul(k, p) a = Tanh(h) y = MatMul(a, q)",
    "concat of a cast": """s = Cast<to = 11>(m) l = Cast<to = 1>(s) k = Concat<axis = 1>(l, f)
        h = MatMul(k, p) a = Tanh(h) y = MatMul(a, q)""",
    "product": """s = ReduceSum<keepdims = 1>(m, one) k = Mul(f, s) z = Concat<axis = 1>(k, k)
        b = Slice(z, zero, eight, one) h = MatMul(b, p) a = Tanh(h) y = MatMul(a, q)""",
}
METADATA = [[0.5, -1.0]]
DRAW = np.random.default_rng(0)
X = DRAW.standard_normal((1, 3, 8, 8)).astype(np.float32)


def proto_of(head: str, batch: str = "N") -> onnx.ModelProto:
    """A classifier of an image and two numbers."""
    text = f"(float[{batch}, 3, 8, 8] x, float[N, 2] m) => (float[N, 5] y) {{ {FEATURES} {HEADS[head]} }}"
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 17]> net {text}')
    shapes = {"w": (4, 3, 3, 3), "v": (6, 4, 3, 3), "p": (8, 9), "q": (9, 5)}
    draw = np.random.default_rng(1)
    weights: dict[str, Any] = {
        name: draw.standard_normal(shape).astype(np.float32) / 3 for name, shape in shapes.items()
    }
    weights |= {name: np.array([n]) for name, n in (("zero", 0), ("one", 1), ("eight", 8))}
    for name, values in weights.items():
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    return proto


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(proto_of("concat"), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def explainer_of(model: Any, inputs: Any, method: str = "smooth-grad-cam++") -> onnxcam.Explainer:
    settings: dict[str, Any] = {"samples": 3} if method == "smooth-grad-cam++" else {}
    return onnxcam.Explainer(model, method, "r", device="cpu", inputs=inputs, **settings)


@pytest.mark.parametrize("batch", ["N", "B", "1"])
@pytest.mark.parametrize("head", HEADS)
def test_one_row_of_values_serves_a_batch_of_images(head: str, batch: str) -> None:
    proto = proto_of(head, batch)
    together = explainer_of(proto, {"m": METADATA})
    assert together.plan.image.batch is None
    assert not together.notices
    alone = onnxcam.Explainer(
        proto, layer="r", device="cpu", inputs={"m": METADATA}, samples=3, chunk=1
    )
    np.testing.assert_allclose(together(X).maps, alone(X).maps, rtol=1e-4, atol=1e-9)


def test_rows_for_several_images_are_refused() -> None:
    with pytest.raises(SettingError, match=r"'m' has 2 rows.* give one row"):
        explainer_of(proto_of("concat"), {"m": METADATA * 2})


def test_loaded_model_takes_values(model: Path) -> None:
    expected = explainer_of(model, {"m": METADATA}, "grad-cam")(X)
    for explainer in (
        explainer_of(onnxcam.load(model), {"m": METADATA}, "grad-cam"),
        explainer_of(onnxcam.load(model, {"m": METADATA}), None, "grad-cam"),
    ):
        explanation = explainer(X)
        np.testing.assert_array_equal(explanation.maps, expected.maps)
        assert explanation.provenance["inputs"] == expected.provenance["inputs"]


def test_cached_plans_of_different_values_are_different(model: Path) -> None:
    scores = {
        values: explainer_of(model, {"m": [values]}, "grad-cam")(X, 0).scores[0]
        for values in [(0.5, -1.0), (1.0, -1.0), (-1.0, 0.5)]
    }
    assert len(set(scores.values())) == 3
    for values, score in scores.items():  # now from the cache
        assert explainer_of(model, {"m": [values]}, "grad-cam")(X, 0).scores[0] == score


def test_cache_key_covers_names_dtypes_shapes_and_contents() -> None:
    files, request = (
        ModelFiles("net.onnx", "digest", {}, ()),
        PlanRequest("default", ("activation",)),
    )
    values: list[dict[str, Any]] = [
        {}, {"m": [1, 2]}, {"n": [1, 2]}, {"m": [2, 1]}, {"m": [[1, 2]]}, {"m": [1.0, 2.0]},
        {"m": np.array([1, 2], np.int32)}, {"m": [1, 2], "n": [1, 2]}, {"m": [1], "n": [2]},
    ]  # fmt: skip
    keys = {cache_key(files, request, input_arrays(inputs)) for inputs in values}
    assert len(keys) == len(values)
    assert cache_key(files, request, input_arrays({"n": [1, 2], "m": [1, 2]})) in keys
    assert cache_key(files, request) in keys


def test_pickled_explainer_has_values(model: Path) -> None:
    metadata = np.array(METADATA)
    explainer = explainer_of(model, {"m": metadata}, "grad-cam")
    metadata[:] = 0  # the explainer has its own copy
    again = pickle.loads(pickle.dumps(explainer))
    np.testing.assert_array_equal(again(X).maps, explainer(X).maps)
    assert again.plan.inputs == explainer.plan.inputs != ()


@pytest.mark.parametrize(
    ("array", "values"),
    [
        (np.array([[640, -480]]), [[640, -480]]),
        (np.array(True), True),
        (np.array(0.5, np.float16), 0.5),
        (np.zeros((0, 2), np.float32), []),
        (np.arange(64), [*range(64)]),
    ],
)
def test_few_values_are_part_of_the_manifest(array: Any, values: Any) -> None:
    fields = describe_input("m", array).to_json()
    assert fields["values"] == values
    assert np.asarray(fields["values"]).dtype.kind == array.dtype.kind
    assert fields["sha256"] == digest_bytes(array.tobytes())


@pytest.mark.parametrize(
    "array", [np.arange(65), np.array([np.inf]), np.array([2**53 + 1]), np.array([-(2**63)])]
)
def test_many_or_unusual_values_are_only_digested(array: Any) -> None:
    fields = describe_input("m", array).to_json()
    assert fields == {
        "shape": [*array.shape],
        "dtype": array.dtype.name,
        "sha256": digest_bytes(array.tobytes()),
    }


@pytest.mark.parametrize("change", [lambda values: [values], lambda _: ["a"], lambda _: 1.0])
def test_plan_with_values_survives_json(model: Path, change: Callable[[Any], Any]) -> None:
    plan = explainer_of(model, {"m": METADATA}).plan
    scalar = describe_input("s", np.array(-1.5))
    plan = replace(plan, inputs=(*plan.inputs, scalar))
    assert from_json(as_json(plan)) == plan
    damaged = replace(plan, inputs=(replace(scalar, values=change(scalar.values)),))
    with pytest.raises(TypeError):
        as_json(damaged)
