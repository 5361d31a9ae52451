"""Programs: what is run for the quantities of the image, of samples of it, and of changed activations."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import onnxcam
from onnxcam.arrays import Floats, Images
from onnxcam.errors import MissingRuleError, ModelError
from onnxcam.methods import QUANTITIES
from onnxcam.model.load import load
from onnxcam.rewrite.answers import PlannedModel
from onnxcam.rewrite.planner import plan
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from onnxcam.specs import (
    CONSTANT,
    HEAD,
    MODEL,
    OFFSET,
    RANK,
    REFERENCE,
    SAMPLED,
    SCALE,
    SEED,
    Output,
    PlanRequest,
    Program,
)
from tests.support.layered_nets import CURVED, PIECEWISE, LayeredNet
from tests.support.nets import CLASSES, DEEP, MLP, NHWC, POOLED, SKIP, SOFTMAX, Net, random_images

DATA = Path("tests/data")
X = random_images(5)
SEEDS = np.random.default_rng(0).standard_normal((5, CLASSES), dtype=np.float32)


def write(
    content: Any, *quantities: str, at: str = "layer", varies: str = "", layer: str = "features"
) -> PlannedModel:
    layers = ("auto",) if at == "image" else (layer,)
    return plan(load(content), PlanRequest("default", quantities, at, varies, layers))


def run(planned: PlannedModel, program: Program, **feeds: Any) -> dict[str, Any]:
    """The outputs of a program by quantity; inputs that its model does not have are left out."""
    model = planned.models[program.model]
    onnx.checker.check_model(model.proto(), full_check=True)
    session = Session(model.bytes(), Device("cpu"), threads=1)
    names = {"seed": SEED, "offset": OFFSET, "scale": SCALE, "rank": RANK}
    all_feeds = {names.get(key, key): array for key, array in feeds.items()}
    known: Mapping[str, Any] = {
        name: all_feeds[name] for name in session.inputs if name in all_feeds
    }
    arrays = session.run(program.tensors, known)
    return {output.quantity: array for output, array in zip(program.outputs, arrays, strict=True)}


def no_change(count: int, rank: int = 4) -> dict[str, Any]:
    return {
        "offset": np.zeros((1, *[1] * (rank - 1)), np.float32),
        "scale": np.zeros(count, np.float32),
        "rank": np.zeros(count, np.int64),
    }


# The image itself


def test_clean_program_returns_quantities_of_image() -> None:
    planned = write(DEEP.content(), "activation", "gradient", "score")
    assert planned.plan.programs == (
        planned.plan.clean,
        Program(MODEL),
        Program(MODEL),
        Program(MODEL),
    )
    results = run(planned, planned.plan.clean, x=X, seed=SEEDS, **no_change(5))
    features = DEEP.features(X)
    np.testing.assert_allclose(results["activation"], features, rtol=1e-4, atol=1e-5)
    expected = [DEEP.slope(f[None], s)[0] for f, s in zip(features, SEEDS, strict=True)]
    np.testing.assert_allclose(results["gradient"], expected, rtol=1e-4, atol=1e-5)
    scores = np.sum(DEEP.logits(features) * SEEDS, axis=1)
    np.testing.assert_allclose(results["score"], scores, rtol=1e-4, atol=1e-5)


def test_quantities_at_image_are_those_of_image_tensor() -> None:
    planned = write(DEEP.content(), "activation", "gradient", "image_gradient", at="image")
    results = run(planned, planned.plan.clean, x=X, seed=SEEDS, **no_change(5))
    np.testing.assert_array_equal(results["activation"], X)
    np.testing.assert_array_equal(results["gradient"], results["image_gradient"])
    assert np.any(results["gradient"])


WITHOUT_RULE = Net(
    head="    odd = Det(features)\n    logits = Flatten(odd)", outputs="float[N, 6] logits"
)


def test_activation_alone_writes_no_gradient() -> None:
    """So it works on a model whose operators have no rule."""
    planned = write(WITHOUT_RULE.content(), "activation")
    unused = np.zeros((5, 6), np.float32)
    operators = [node.op for node in planned.models[MODEL].graph.nodes]
    assert operators == [node.op for node in load(WITHOUT_RULE.content()).graph.nodes]
    assert planned.plan.clean == Program(MODEL, (Output("activation", 0, "features"),))
    assert RANK not in {tensor.name for tensor in planned.models[MODEL].graph.inputs}
    results = run(planned, planned.plan.clean, x=X, seed=unused)
    np.testing.assert_allclose(
        results["activation"], WITHOUT_RULE.features(X), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(MissingRuleError):
        write(WITHOUT_RULE.content(), "activation", "gradient")


def test_score_without_gradient_needs_no_rules() -> None:
    planned = write(WITHOUT_RULE.content(), "sample_scores", at="image", varies="image")
    seeds = np.eye(6, dtype=np.float32)[:5]
    results = run(planned, planned.plan.sampled, x=X, seed=seeds, **no_change(5))
    expected = np.diagonal(np.linalg.det(WITHOUT_RULE.features(X)))
    np.testing.assert_allclose(results["sample_scores"], expected, rtol=1e-3, atol=1e-5)


def test_tensor_with_name_of_an_output_is_refused() -> None:
    occupied = load(DEEP.content())
    occupied.graph.tensors()["c1"].name = "d2/features"
    request = PlanRequest("default", ("d2",), varies="image", layers=("features",))
    with pytest.raises(ModelError, match="already has a tensor named 'd2/features', a reserved"):
        plan(occupied, request)


def test_names_of_outputs_do_not_depend_on_how_quantities_are_asked() -> None:
    names = ("d1", "d2", "mean_activation")
    planned = write(DEEP.content(), *names, varies="image")
    assert planned.plan.sampled.tensors == [f"{name}/features" for name in names]


# Means over samples


@pytest.mark.parametrize("scale", [1.0, 1e-14])
def test_means_are_sums_of_powers_in_float64(scale: float) -> None:
    """In float64: the cube of a gradient of 1e-14 is 0 in float32."""
    planned = write(DEEP.content(), "gradient", "d1", "d2", "d3", at="image", varies="image")
    seeds = SEEDS * np.float32(scale)
    gradients = run(planned, planned.plan.clean, x=X, seed=seeds, **no_change(5))["gradient"]
    exact = np.asarray(gradients, np.float64)
    assert np.abs(exact).max() > 0
    sums = run(planned, planned.plan.sampled, x=X, seed=seeds, **no_change(5))
    for power, name in enumerate(("d1", "d2", "d3"), start=1):
        assert sums[name].dtype == np.float64
        expected = np.sum(exact**power, axis=0, keepdims=True)
        np.testing.assert_allclose(
            sums[name], expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max()
        )
        assert np.any(sums[name])


def test_samples_are_those_of_offset_and_scale() -> None:
    offsets = np.random.default_rng(4).standard_normal((5, 3, 8, 8), dtype=np.float32)
    scales = np.linspace(0, 1, 5, dtype=np.float32)
    planned = write(DEEP.content(), "mean_activation", "d1", "sample_scores", varies="image")
    results = run(planned, planned.plan.sampled, x=X[:1], seed=SEEDS, offset=offsets, scale=scales)
    features = DEEP.features(X[:1] + scales[:, None, None, None] * offsets)
    expected = np.sum(features, axis=0, keepdims=True)
    np.testing.assert_allclose(results["mean_activation"], expected, rtol=1e-4, atol=1e-5)
    slopes = [DEEP.slope(f[None], s)[0] for f, s in zip(features, SEEDS, strict=True)]
    np.testing.assert_allclose(
        results["d1"], np.sum(slopes, axis=0, keepdims=True), rtol=1e-4, atol=1e-5
    )
    assert results["sample_scores"].shape == (5,)
    np.testing.assert_allclose(
        results["sample_scores"],
        np.sum(DEEP.logits(features) * SEEDS, axis=1),
        rtol=1e-4,
        atol=1e-5,
    )


def test_samples_of_constant_gradient_need_no_forward_pass() -> None:
    planned = write(POOLED.content(), "d2", "mean_activation", varies="image")
    assert planned.plan.constant_sampled == Program(CONSTANT, (Output("d2", 0, "d2/features"),))
    assert [output.quantity for output in planned.plan.sampled.outputs] == ["mean_activation"]
    assert planned.plan.gradient_is_constant
    assert not planned.plan.one_sample_is_enough  # the activation differs between samples
    alone = write(POOLED.content(), "d2", varies="image")
    assert alone.plan.one_sample_is_enough
    results = run(alone, alone.plan.constant_sampled, seed=SEEDS)
    expected = [POOLED.slope(np.zeros((1, 6, 4, 4)), seed)[0] ** 2 for seed in SEEDS]
    np.testing.assert_allclose(results["d2"], np.sum(expected, axis=0, keepdims=True), rtol=1e-5)


# Changed activations


def own_head(model: onnxcam.Model, layer: str, score: str, feeds: Mapping[str, Any]) -> Any:
    """What the rest of a model computes from the values of a layer, by ONNX Runtime: they are an input instead
    of the result of their node.
    """
    proto = onnx.shape_inference.infer_shapes(model.proto())
    values = {v.name: v for v in (*proto.graph.value_info, *proto.graph.output)}
    for node in proto.graph.node:
        node.output[:] = [f"{name}/before" if name == layer else name for name in node.output]
    proto.graph.input.append(values[layer])
    del proto.graph.output[:]
    proto.graph.output.append(onnx.helper.make_empty_tensor_value_info(score))
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    return np.asarray(session.run([score], dict(feeds))[0], np.float64)


CHANNELS_LAST = Net(
    head="    last = Transpose<perm = [0, 2, 3, 1]>(features)\n    bent = Tanh(last)\n"
    + MLP.replace("{flatten}", "Flatten(bent)")
    + SOFTMAX
)
CUTS = {
    "NCHW": (DEEP.content(), "features", "NCHW"),
    "NHWC image": (NHWC.content(), "features", "NCHW"),
    "NHWC layer": (CHANNELS_LAST.content(), "bent", "NHWC"),
    "no bottleneck": (SKIP.content(), "features", "NCHW"),
    "tokens": (DATA / "torchscript_vit.onnx", "", "NTC"),
    "float16": (DATA / "float16.onnx", "", "NCHW"),
}


# Samples that alone need a gradient at the image

AT_IMAGE: dict[str, Any] = {"at": "image", "varies": "image"}


@pytest.mark.parametrize("net", [DEEP, NHWC])
def test_gradient_of_samples_at_image_is_model_of_its_own(net: Net) -> None:
    """So scores are computed without it; the numbers are those of a model with both."""
    apart = write(net.content(), "activation", "score", "d1", **AT_IMAGE)
    joint = write(net.content(), "activation", "gradient", "score", "d1", **AT_IMAGE)
    assert (apart.plan.sampled.model, joint.plan.sampled.model) == (SAMPLED, MODEL)
    convolutions = [
        sum(node.op.startswith("Conv") for node in model.graph.nodes)
        for model in (load(net.content()), *(apart.models[name] for name in (MODEL, SAMPLED)))
    ]
    assert convolutions[0] == convolutions[1] < convolutions[2]
    draw = np.random.default_rng(3)
    images = X if net is not NHWC else np.moveaxis(X, 1, -1)
    feeds: dict[str, Any] = {
        "x": images,
        "seed": SEEDS,
        "rank": np.zeros(5, np.int64),
        "offset": draw.standard_normal(images.shape, dtype=np.float32),
        "scale": np.linspace(-1, 1, 5).astype(np.float32),
    }
    for program in ("clean", "sampled"):
        results = run(apart, getattr(apart.plan, program), **feeds)
        expected = run(joint, getattr(joint.plan, program), **feeds)
        for quantity, array in results.items():
            np.testing.assert_allclose(array, expected[quantity], rtol=1e-5, atol=1e-7)
    assert np.any(results["d1"])


def test_gradient_of_samples_stays_in_model_at_layer_or_with_large_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_layer = write(DEEP.content(), "activation", "d1", varies="image")
    assert at_layer.plan.models == [MODEL]
    monkeypatch.setattr("onnxcam.rewrite.programs.MAX_REPEATED_BYTES", 0)
    assert write(DEEP.content(), "activation", "d1", **AT_IMAGE).plan.models == [MODEL]


def test_score_of_reference_is_part_of_run_on_samples() -> None:
    request = PlanRequest("deep-lift", ("reference_score", "d1"), "image", "image")
    planned = plan(load(DEEP.content()), request)
    assert {output.quantity for output in planned.plan.sampled.outputs} == {*request.quantities}
    reference = X[:1] / 2
    feeds = {"x": X, "seed": SEEDS, REFERENCE: reference, **no_change(5)}
    score = run(planned, planned.plan.sampled, **feeds)["reference_score"]
    logits = DEEP.logits(DEEP.features(reference))
    np.testing.assert_allclose(score, [np.sum(logits * SEEDS)], rtol=1e-5)


def test_reference_score_without_reference_is_refused() -> None:
    with pytest.raises(ModelError, match="the rules 'default' compare with no reference"):
        write(DEEP.content(), "reference_score", "d1", **AT_IMAGE)


@pytest.mark.parametrize("case", CUTS)
def test_cut_model_equals_head_of_model(case: str) -> None:
    """For changed values of the layer, and what the clean pass computes of the image beside it."""
    content, name, layout = CUTS[case]
    model = load(content)
    layer = next(
        layer
        for layer in onnxcam.layers(model)[::-1]
        if layer.name == name or (not name and layer.is_bottleneck)
    )
    assert (layer.layout, layer.is_bottleneck) == (layout, case != "no bottleneck")
    request = PlanRequest(
        "default", ("activation", "sample_scores"), varies="activation", layers=(layer.name,)
    )
    planned = plan(model, request)
    image, score = planned.plan.image, planned.plan.explained_tensor
    random = np.random.default_rng(1)
    shape = tuple(size if isinstance(size, int) else 8 for size in image.shape[1:])
    x = random.standard_normal((1, *shape)).astype(image.dtype)
    unused = np.zeros((1, planned.plan.score.classes), np.float32)
    clean = run(planned, planned.plan.clean, seed=unused, **{image.name: x}, **no_change(1))
    values = clean["activation"]
    offsets = random.standard_normal((3, *values.shape[1:]), dtype=np.float32)
    scales = np.array([0.0, 0.5, -1.0], np.float32)
    seeds = random.standard_normal((3, planned.plan.score.classes), dtype=np.float32)
    feeds = {
        layer.name: values,
        **{key: a.repeat(3, axis=0) for key, a in beside(planned, x).items()},
    }
    results = run(planned, planned.plan.sampled, seed=seeds, offset=offsets, scale=scales, **feeds)
    assert planned.plan.sampled.model == HEAD
    changed = (
        values.astype(np.float32) + scales.reshape(-1, *[1] * (values.ndim - 1)) * offsets
    ).astype(values.dtype)
    expected = own_head(
        model, layer.name, score, {layer.name: changed, image.name: np.repeat(x, 3, axis=0)}
    )
    scores = np.sum(expected.reshape(3, -1) * seeds, axis=1)
    tolerance = 1e-2 if values.dtype == np.float16 else 1e-4
    np.testing.assert_allclose(results["sample_scores"], scores, rtol=tolerance, atol=tolerance)
    assert len(np.unique(expected[:, 0])) == 3


def beside(planned: PlannedModel, x: Images) -> dict[str, Any]:
    """The image, and the tensors beside the layer."""
    names = planned.plan.beside
    feeds = planned.plan.feeds(x, np.zeros((len(x), planned.plan.score.classes)))
    session = Session(planned.models[MODEL].bytes(), Device("cpu"), threads=1)
    known = {name: feeds[name] for name in session.inputs}
    arrays = session.run(names, known) if names else []
    return {planned.plan.image.name: x, **dict(zip(names, arrays, strict=True))}


WINDOWS = Net(
    head="""    side = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(early)
    size = Constant<value_ints = [-1, 5, 2, 2]>()
    windows = Reshape(side, size)
    others = Reshape(features, size)
    joined = Add(windows, others)
    target = Constant<value_ints = [-1, 80]>()
    scores = Reshape(joined, target)""",
    outputs="float[N, 80] scores",
)


@pytest.mark.parametrize("net", [SKIP, WINDOWS], ids=["rows", "rows before windows"])
def test_tensor_beside_the_layer_is_computed_once(net: Net) -> None:
    """Windows have no row per image, so that what they are cut from is read."""
    planned = write(net.content(), "activation", "sample_scores", varies="activation")
    assert planned.plan.beside == ("side",)
    head = planned.models[HEAD].graph
    assert {tensor.name for tensor in head.inputs} == {"features", "side", SEED, OFFSET, SCALE}
    assert "AveragePool" not in {node.op for node in head.nodes}
    assert "side" in {tensor.name for tensor in planned.models[MODEL].graph.outputs}


def test_tensor_beside_the_layer_without_a_known_row_is_computed_from_the_image() -> None:
    content = replace(SKIP, shape="3, 3, 8, 8", outputs="float[3, 10] scores").content()
    planned = write(content, "activation", "sample_scores", varies="activation")
    assert planned.plan.beside == ()
    assert "x" in {tensor.name for tensor in planned.models[HEAD].graph.inputs}


def test_cut_model_computes_only_rows_that_the_score_reads() -> None:
    """Of the tokens after the last attention, the class token."""
    request = PlanRequest("default", ("activation", "sample_scores"), varies="activation")
    head = plan(load(DATA / "torchscript_vit.onnx"), request).models[HEAD].graph
    normed = [node.outputs[0].shape for node in head.nodes if node.op == "LayerNormalization"]
    assert normed
    assert {shape[1] for shape in normed} == {1}


def test_cut_model_has_no_layers_before_cut() -> None:
    planned = write(DEEP.content(), "activation", "sample_probabilities", varies="activation")
    assert {tensor.name for tensor in planned.models[HEAD].graph.inputs} == {
        "features",
        SEED,
        OFFSET,
        SCALE,
    }
    assert "Conv" not in {node.op for node in planned.models[HEAD].graph.nodes}
    assert OFFSET not in {tensor.name for tensor in planned.models[MODEL].graph.inputs}


def test_probabilities_of_changed_activations_are_those_of_softmax() -> None:
    planned = write(DEEP.content(), "activation", "sample_probabilities", varies="activation")
    values = DEEP.features(X[:1]).astype(np.float32)
    kept = np.linspace(-1, 0, 4, dtype=np.float32)
    classes = np.eye(CLASSES, dtype=np.float32)[[2, 2, 0, 1]]
    results = run(
        planned, planned.plan.sampled, features=values, seed=classes, offset=values, scale=kept
    )
    logits = DEEP.logits(values * (1 + kept[:, None, None, None]))
    powers = np.exp(logits)
    expected = np.sum(classes * powers / powers.sum(axis=1, keepdims=True), axis=1)
    np.testing.assert_allclose(results["sample_probabilities"], expected, rtol=1e-4)


def test_several_layers_cannot_be_changed() -> None:
    layers = ("features", "early")
    request = PlanRequest(
        "default", ("sample_scores",), varies="activation", single_layer=True, layers=layers
    )
    with pytest.raises(
        ModelError, match="makes samples from the values of one layer, but there are 2"
    ):
        plan(load(DEEP.content()), request)


# Second derivatives

STEP = 1e-4


def hessian_product(net: LayeredNet, features: Floats, target: int) -> Floats:
    """The derivative of the gradient along the activation, as a central difference in float64."""
    further, nearer = (net.head_gradient(features * (1 + step), target) for step in (STEP, -STEP))
    return (further - nearer) / (2 * STEP)


def test_second_derivative_equals_differences_of_gradients() -> None:
    planned = write(CURVED.content(), "activation", "hvp")
    target = 2
    seeds = np.eye(CLASSES, dtype=np.float32)[[target] * 5]
    results = run(planned, planned.plan.clean, x=X, seed=seeds, **no_change(5))
    expected = np.stack([hessian_product(CURVED, CURVED.features(x), target) for x in X])
    size = np.abs(expected).max()
    assert size > 1e-3
    np.testing.assert_allclose(results["hvp"], expected, rtol=0, atol=1e-4 * size)
    assert not any("second derivatives" in notice for notice in planned.plan.notices)


def test_second_derivative_of_piecewise_linear_model_is_zero_with_notice() -> None:
    planned = write(PIECEWISE.content(), "activation", "hvp")
    (program,) = (
        program
        for program in planned.plan.programs
        if "hvp" in {output.quantity for output in program.outputs}
    )
    seeds = np.eye(CLASSES, dtype=np.float32)
    results = run(planned, program, x=X, seed=seeds, **no_change(5))
    assert results["hvp"].shape == (5, 6, 4, 4)
    assert not np.any(results["hvp"])
    assert any(
        "all operators after features are piecewise linear" in notice
        for notice in planned.plan.notices
    )


def test_every_quantity_has_a_meaning() -> None:
    assert all(quantity.meaning for quantity in QUANTITIES.values())
