"""Any invalid input raises one of our errors, and the message names what is wrong."""

# mypy: disallow-untyped-decorators=False

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from PIL import Image

import onnxcam
from onnxcam.errors import (
    DeviceError,
    ImageError,
    ModelError,
    OnnxcamError,
    RunError,
    SettingError,
    TargetError,
    UnknownNameError,
)
from tests.support.bad_models import X, model
from tests.support.nets import DEEP, POOLED, Net

few = settings(derandomize=True, deadline=None, max_examples=40)


def explain(content: Any, source: Any = X, **settings: Any) -> None:
    """Explain an image, and save the results if there is a `folder`."""
    folder = settings.pop("folder", None)
    target = settings.pop("target", "top1")
    explainer = onnxcam.Explainer(content, device=settings.pop("device", "cpu"), **settings)
    explanation = explainer(source, target)
    if folder is not None:
        explanation.save(folder)


def error_message(*args: Any, **settings: Any) -> str:
    """The message of the error; no file remains in the folder of the results."""
    with tempfile.TemporaryDirectory() as folder:
        with pytest.raises(OnnxcamError) as caught:
            explain(*args, **settings, folder=Path(folder))
        assert not list(Path(folder).iterdir())
    message = str(caught.value)
    assert len(message) > 10
    return message


def explain_or_refuse(content: bytes) -> None:
    """With a changed byte, it may still be a model; any error other than ours is a bug."""
    try:
        explain(content, method="grad-cam")
    except OnnxcamError as error:
        assert len(str(error)) > 10  # noqa: PT017


# Models


@few
@given(st.integers(0, len(DEEP.content()) - 1))
def test_truncated_model_is_refused(length: int) -> None:
    error_message(DEEP.content()[:length])


def test_model_truncated_between_fields_is_refused() -> None:
    """Lengths up to the weights, where the fields are short."""
    content = DEEP.content()
    for length in (*range(0, 900, 31), len(content) - 1):
        message = error_message(content[:length])
        assert "given bytes" in message or "the model" in message


@few
@given(st.binary(max_size=300))
def test_random_bytes_as_model_are_refused(content: bytes) -> None:
    assert "the given bytes" in error_message(content)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 1499), st.integers(0, 255)), min_size=1, max_size=3))
@example([(137, 12)])  # pooling windows that leave no cell
@example([(137, 14)])  # or fewer than none
def test_changed_bytes_are_refused_or_explained(changes: list[tuple[int, int]]) -> None:
    content = bytearray(POOLED.content())
    for index, value in changes:
        content[index % len(content)] = value
    explain_or_refuse(bytes(content))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["w1", "b1", "w2", "v", "d"])
def test_weights_that_are_not_finite_raise_run_error(name: str, number: float) -> None:
    proto = POOLED.proto()
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            values = numpy_helper.to_array(tensor).copy()
            values.flat[0] = number
            tensor.CopyFrom(numpy_helper.from_array(values, name))
    for method in ("grad-cam", "smooth-grad-cam++"):
        try:
            maps = onnxcam.Explainer(proto.SerializeToString(), method, device="cpu")(X, 1).maps
        except RunError as error:
            assert "not finite" in str(error)  # noqa: PT017  minus infinity may die in a Relu
        else:
            assert number == -np.inf
            assert np.isfinite(maps).all()


def test_gradients_that_are_not_finite_raise_run_error() -> None:
    """sqrt at 0: the scores are finite, the gradient is 0 times infinity."""
    net = Net(
        head="""
    root = Sqrt(features)
    pooled = GlobalAveragePool(root)
    flat = Flatten(pooled)
    logits = Gemm<transB = 1>(flat, v, d)""",
        outputs="float[N, 5] logits",
    )
    assert (net.features(X) == 0).any()
    for method in ("grad-cam", "grad-cam++", "smooth-grad-cam++"):
        message = error_message(net.content(), method=method, layer="features")
        assert "features are not finite" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("(float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }", "no input accepts images"),
        (
            "(float[N, 3, 4, 4] x, float[1] z) => (float[N, 3, 4, 4] y) { y = Add(x, z) }",
            "has the input z in addition to the image 'x'",
        ),
        (
            "(float[N, 3, 4, 4] x) => (int64[N, 1, 4, 4] y) { y = ArgMax<axis = 1>(x) }",
            r"no output has one score per class",
        ),
        (
            "(float[N, 3, 1, 1] x) => (float[N, 3] y) { y = Flatten(x) }",
            "no spatial layer .*no spatial layer at all",
        ),
        (
            "(float[N, 3, 4, 4] x) => (float[N, 3] y) { r = Relu(x) y = Det2(r) }",
            "not a valid ONNX model",
        ),
    ],
)
def test_unexplainable_model_raises_model_error(text: str, words: str) -> None:
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 17]> net {text}')
    with pytest.raises(ModelError, match=words):
        explain(proto.SerializeToString(), np.zeros((1, 3, 4, 4), np.float32))


def test_missing_model_is_named_in_error(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("missing.onnx", "text.onnx", "empty.onnx", "."):
        assert str(tmp_path / name) in error_message(tmp_path / name)


# Images


def png(width: int = 40, height: int = 30) -> bytes:
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(file.name)
        return Path(file.name).read_bytes()


@few
@given(st.floats(0, 0.99))
def test_truncated_image_is_refused(fraction: float) -> None:
    content = png()
    assert "the bytes: " in error_message(model(), content[: int(fraction * len(content))])


@few
@given(st.binary(max_size=100))
def test_random_bytes_as_image_are_refused(content: bytes) -> None:
    assert "the bytes: " in error_message(model(), content)


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
def test_image_without_pixels_is_refused(size: tuple[int, int]) -> None:
    assert "no pixels" in error_message(model(), Image.new("RGB", size))


@pytest.mark.parametrize(
    "source", [[], None, 5, 1.5, [None], {}, object(), "missing.png", "", Path("missing.png"), "\0"]
)
def test_other_object_as_image_raises_image_error(source: Any) -> None:
    with pytest.raises(ImageError):
        explain(model(), source)
    error_message(model(), source)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((), np.float32),
        np.zeros(5, np.float32),
        np.zeros((8, 8), np.float32),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((1, 8, 8), np.float32),
        np.zeros((3, 8, 9), np.float32),
        np.zeros((1, 3, 9, 8), np.float32),
        np.zeros((1, 1, 3, 8, 8), np.float32),
        np.zeros((0, 3, 8, 8), np.float32),
        np.full((3, 8, 8), "a"),
        np.full((3, 8, 8), None),
        np.zeros((3, 8, 8), complex),
        np.zeros((3, 8, 8), "datetime64[s]"),
    ],
    ids=lambda array: f"{array.shape}-{array.dtype}",
)
def test_array_of_wrong_shape_or_dtype_raises_image_error(array: Any) -> None:
    with pytest.raises(
        ImageError, match=r"'x' expects preprocessed numbers of shape \(N, 3, 8, 8\)"
    ) as caught:
        explain(model(), array)
    assert str(array.shape) in str(caught.value)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e300])
def test_array_that_is_not_finite_raises_image_error(number: float) -> None:
    array = np.zeros((3, 8, 8))
    array[1, 2, 3] = number
    with pytest.raises(ImageError, match="'x' holds NaN, infinite or far too large"):
        explain(model(), array)


def test_largest_finite_numbers_give_error_or_finite_map() -> None:
    checkered = np.where(np.indices((3, 8, 8)).sum(axis=0) % 2, 3e38, -3e38).astype(np.float32)
    for method in ("grad-cam", "smooth-grad-cam++"):
        for array in (checkered, abs(checkered)):
            try:
                maps = onnxcam.Explainer(model(), method, device="cpu")(array).maps
            except RunError as error:
                assert "not finite" in str(error)  # noqa: PT017  either is right
            else:
                assert np.isfinite(maps).all()


# Names, numbers and targets


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"method": "grad-cma"}, UnknownNameError, "did you mean grad-cam"),
        ({"method": ""}, UnknownNameError, "no method ''"),
        ({"layer": "featuers"}, UnknownNameError, "did you mean features"),
        ({"layer": "logits"}, UnknownNameError, "no layer 'logits'"),
        ({"layer": ["features", "nonsense"]}, UnknownNameError, "'nonsense'"),
        ({"layer": []}, UnknownNameError, "no layer was named"),
        ({"preprocess": "imagenett"}, UnknownNameError, "did you mean imagenet"),
        ({"output": "logit"}, UnknownNameError, "did you mean logits"),
        ({"device": "gpu"}, DeviceError, "'gpu'"),
        ({"device": ""}, DeviceError, "''"),
        ({"labels": "missing.txt"}, SettingError, "missing.txt"),
        ({"samples": 0}, SettingError, "samples=0"),
        ({"noise": -1}, SettingError, "noise=-1"),
        ({"noise": float("nan")}, SettingError, "noise=nan"),
        ({"sampels": 3}, SettingError, "'sampels'"),
        ({"method": "grad-cam", "noise": 1}, SettingError, "grad-cam has no setting 'noise'"),
        ({"score": "odds"}, SettingError, "score='odds'"),
        ({"fuse": "sum"}, SettingError, "fuse='sum'"),
        ({"chunk": 0}, SettingError, "chunk=0"),
        ({"chunk": 1.5}, SettingError, "chunk=1.5"),
        ({"chunk": "8"}, SettingError, "chunk='8'"),
        ({"channels": "6"}, SettingError, "no channel 6; the layer has channels 0 to 5"),
        ({"channels": "a"}, SettingError, "'a'"),
        ({"region": "0:9,0:9"}, SettingError, "4 x 4"),
        ({"region": np.zeros((4, 4), bool)}, SettingError, "no cell"),
        ({"target": 5}, TargetError, "target 5: the model has 5 classes"),
        ({"target": -1}, TargetError, "target -1"),
        ({"target": "top6"}, TargetError, "'top6'"),
        ({"target": "cat"}, UnknownNameError, "no label 'cat'"),
        ({"target": "1-1"}, TargetError, "contrasted with itself"),
        ({"target": None}, TargetError, "target None"),
        ({"target": 1.5}, TargetError, "target 1.5"),
        ({"target": []}, SettingError, "number of targets is 0, that of images 1"),
        ({"target": [1, 2]}, SettingError, "number of targets is 2, that of images 1"),
    ],
    ids=str,
)
def test_invalid_name_or_number_is_refused(
    arguments: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words.replace("(", r"\(")):
        explain(model(), **arguments)
    error_message(model(), **arguments)


@few
@given(st.text(max_size=12), st.sampled_from(["target", "layer", "method", "channels", "region"]))
def test_any_text_is_accepted_or_refused(text: str, setting: str) -> None:
    try:
        arguments: dict[str, Any] = {"layer": "features", "samples": 1, setting: text}
        explain(model(), **arguments)
    except OnnxcamError as error:
        assert len(str(error)) > 10  # noqa: PT017  some texts are names
