"""Files with an explanation return the outputs of the original model, whatever axes and names these have."""

from typing import Any

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam.embedding.metadata import SALIENCY
from onnxcam.errors import ModelError
from tests.embedding.support.explained import assert_close, explain, run_content, run_embedded
from tests.support.nets import ANY_SIZE, MLP, Net, random_images

METHOD = "smooth-grad-cam++"
NET = Net(head=MLP, outputs="float[N, 5] logits")
MULTIPLIED = """
    level = ReduceMean<axes = [0], keepdims = 1>(logits)
    scores = Mul(logits, level)"""
MIXING = Net(head=MLP + MULTIPLIED, outputs="float[N, 5] scores")
OUTPUTS = {
    "batch as second axis": "float[1, N, 5] y = Unsqueeze(logits, zero)",
    "classes first": "float[5, N] y = Transpose(logits)",
    "one number": "float y = ReduceMean<keepdims = 0>(logits)",
    "mean over images": "float[5] y = ReduceMean<axes = [0], keepdims = 0>(logits)",
    "mixed rows": "float[N, 5] y = Softmax<axis = 0>(logits)",
    "shape": "int64[4] y = Shape(x)",
    "text": "string[N, 1] y = Cast<to = 8>(best)",
    "class": "int64[N, 1] y = Identity(best)",
}
DTYPES = {  # negative numbers become large ones where there is no sign
    "uint8": "Cast<to = 2>(best)",
    "int8": "Cast<to = 3>(negative)",
    "uint16": "Cast<to = 4>(best)",
    "int16": "Cast<to = 5>(negative)",
    "uint32": "Cast<to = 12>(negative)",
    "uint64": "Cast<to = 13>(negative)",
    "bool": "Cast<to = 9>(best)",
    "float16": "Cast<to = 10>(logits)",
    "double": "Cast<to = 11>(logits)",
}


def with_output(text: str) -> bytes:
    kind, _, node = text.partition(" y = ")
    lead = "best = ArgMax<axis = 1>(logits) zero = Constant<value_ints = [0]>()"
    head = f"{MLP}\n    {lead} negative = Neg(best) y = {node}"
    return Net(head=head, outputs=f"float[N, 5] logits, {kind} y").content()


def renamed(old: str, new: str) -> bytes:
    proto = NET.proto()
    for node in proto.graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
    for tensor in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        tensor.name = new if tensor.name == old else tensor.name
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize("options", [{"rounds": 1}, {"rounds": 2}, {"batch": 2}], ids=str)
@pytest.mark.parametrize("output", OUTPUTS)
def test_output_and_map_equal_those_of_original_model(output: str, options: dict[str, Any]) -> None:
    content, images = with_output(OUTPUTS[output]), random_images(2)
    run = run_embedded(content, METHOD, images, samples=3, output="logits", **options)
    expected = run_content(content, images)
    assert run.arrays["y"].dtype == expected["y"].dtype
    assert run.arrays["y"].shape == expected["y"].shape
    if expected["y"].dtype.kind == "f":
        assert_close(run.arrays["y"], expected["y"], 1e-5)
    else:
        assert (run.arrays["y"] == expected["y"]).all()
    maps = explain(content, METHOD, images, "top1", samples=3, output="logits")
    assert_close(run.maps, maps, 1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_output_of_any_dtype_is_kept_over_rounds(dtype: str) -> None:
    size = 5 if dtype in ("float16", "double") else 1
    content = with_output(f"{dtype}[N, {size}] y = {DTYPES[dtype]}")
    images = random_images(3)
    embedded = onnxcam.embed(content, METHOD, samples=3, rounds=2, output="logits")
    returned = run_content(embedded.model.bytes(), images)["y"]
    expected = run_content(content, images)["y"]
    assert returned.dtype == expected.dtype
    wide, wide_expected = returned.astype(np.float64), expected.astype(np.float64)
    np.testing.assert_allclose(wide, wide_expected, rtol=2e-3 if dtype == "float16" else 1e-5)


def test_output_of_size_that_differs_from_batch_fixes_one_image() -> None:
    content = with_output("float[M] y = Reshape(logits, minus)")
    proto = onnx.load_from_string(content)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1]), "minus"))
    images = random_images(1)
    run = run_embedded(proto.SerializeToString(), METHOD, images, samples=3, output="logits")
    assert run.embedded.model.graph.inputs[0].shape[0] == 1
    assert any("takes 1 image at a time" in notice for notice in run.embedded.notices)
    assert_close(run.arrays["y"], run.arrays["logits"].reshape(-1), 1e-6)


def test_images_that_influence_each_other_are_taken_one_by_one() -> None:
    images, content = random_images(1), MIXING.content()
    run = run_embedded(content, METHOD, images, samples=3, rounds=2)
    assert_close(run.maps, explain(content, METHOD, images, "top1", samples=3), 1e-5)
    assert run.embedded.model.graph.inputs[0].shape[0] == 1
    assert any("4 rounds of a Loop" in notice for notice in run.embedded.notices)
    with pytest.raises(ModelError, match="takes 1 image at a time"):
        onnxcam.embed(content, METHOD, batch=2)


def test_scores_are_those_of_the_model_before_its_batch_is_fixed() -> None:
    content, images = with_output(OUTPUTS["one number"]), random_images(1)
    run = run_embedded(content, METHOD, images, samples=3, batch=1)
    assert_close(run.maps, explain(content, METHOD, images, "top1", samples=3), 1e-5)


@pytest.mark.parametrize("rounds", [1, 2])
def test_output_that_is_the_image_is_returned(rounds: int) -> None:
    proto, images = NET.proto(), random_images(2)
    proto.graph.output.append(proto.graph.input[0])
    run = run_embedded(proto.SerializeToString(), METHOD, images, samples=3, rounds=rounds)
    np.testing.assert_array_equal(run.arrays["x"], images)
    assert_close(run.maps, explain(NET.content(), METHOD, images, "top1", samples=3), 1e-5)


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("old", ["features", "w2"])
@pytest.mark.parametrize("new", ["saliency", "layer_map", "target", "pixels"])
def test_inner_tensor_may_have_the_name_of_an_output(new: str, old: str, rounds: int) -> None:
    images = random_images(2)
    run = run_embedded(renamed(old, new), METHOD, images, samples=3, rounds=rounds, classes=[1, -1])
    expected = run_embedded(NET.content(), METHOD, images, samples=3, rounds=1, classes=[1, -1])
    assert_close(run.maps, expected.maps, 1e-5)


@pytest.mark.parametrize(("old", "new"), [("logits", SALIENCY), ("x", SALIENCY), ("x", "target")])
def test_input_or_output_with_the_name_of_one_of_the_explanation_is_refused(
    old: str, new: str
) -> None:
    with pytest.raises(ModelError, match=f"has an input or output named '{new}'"):
        onnxcam.embed(renamed(old, new), METHOD, target_input=True)


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("method", ["integrated-gradients", "smooth-grad-cam++"])
@pytest.mark.parametrize("kind", ["UINT8", "INT32"])
def test_image_of_integers_stays_one(kind: str, method: str, rounds: int) -> None:
    lead = "    real = Cast<to = 1>(x)\n"
    proto = Net(head=MLP, outputs="float[N, 5] logits", x="real", lead=lead).proto()
    proto.graph.input[0].type.tensor_type.elem_type = getattr(onnx.TensorProto, kind)
    proto.graph.output.append(proto.graph.input[0])
    content = proto.SerializeToString()
    images = (random_images(2) * 30 + 60).clip(0, 120).astype(kind.lower())
    settings = {"steps": 4} if method == "integrated-gradients" else {"samples": 3}
    run = run_embedded(content, method, images, rounds=rounds, **settings)
    assert run.embedded.model.graph.inputs[0].dtype == images.dtype
    np.testing.assert_array_equal(run.arrays["x"], images)
    assert_close(run.maps, explain(content, method, images, "top1", **settings), 1e-5)


def test_rows_of_given_inputs_are_as_many_as_images() -> None:
    head = MLP + "rows = Concat<axis = 1>(logits, extra) scores = Gemm<transB = 1>(rows, mix)"
    proto = Net(head=head, outputs="float[N, 5] scores").proto()
    extra = onnx.helper.make_tensor_value_info("extra", onnx.TensorProto.FLOAT, ["N", 2])
    mix = np.arange(35, dtype=np.float32).reshape(5, 7) % 4
    proto.graph.input.append(extra)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(mix, "mix"))
    content, images = proto.SerializeToString(), random_images(2)
    inputs = {"extra": np.ones((1, 2), np.float32)}
    expected = explain(content, "grad-cam", images, "top1", inputs=inputs)
    for model in (content, onnxcam.load(content)):
        run = run_embedded(model, "grad-cam", images, inputs=inputs)
        assert_close(run.maps, expected, 1e-5)


def test_free_size_is_fixed_with_notice() -> None:
    notices = onnxcam.embed(ANY_SIZE.content(), "grad-cam", pixels={"size": (8, 8)}).notices
    assert "the file takes images of 8 x 8 pixels; --size chooses others" in notices


@pytest.mark.parametrize("options", [{"rounds": 1}, {"rounds": 2}, {"batch": 2}], ids=str)
@pytest.mark.parametrize(
    ("dtype", "code"), [("float8e4m3fn", 17), ("float8e5m2", 19), ("uint4", 21), ("int4", 22)]
)
def test_output_of_a_type_without_row_operators_is_refused_with_samples(
    dtype: str, code: int, options: dict[str, Any]
) -> None:
    """It ended in an error of the operator that selects rows, or in a TypeError."""
    content = with_output(f"{dtype}[N, 5] y = Cast<to = {code}>(logits)")
    name = dtype.replace("float8", "float8_")
    with pytest.raises(ModelError, match=f"the output 'y' is {name}, which ONNX cannot divide"):
        onnxcam.embed(content, METHOD, output="logits", samples=3, **options)


def test_output_of_float8_is_kept_without_samples() -> None:
    content, images = with_output("float8e4m3fn[N, 5] y = Cast<to = 17>(logits)"), random_images(2)
    run = run_embedded(content, "grad-cam", images, output="logits")
    assert_close(run.maps, explain(content, "grad-cam", images, "top1", output="logits"), 1e-5)
