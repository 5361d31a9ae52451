"""Whatever comes in that is not what was asked for, one of our errors goes out, and it names the thing."""

# mypy: disallow-untyped-decorators=False

import tempfile
from functools import cache
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
from tests.support.nets import DEEP, POOLED, Net, pictures

X = pictures(1)
few = settings(derandomize=True, deadline=None, max_examples=40)


@cache
def model() -> onnxcam.Model:
    return onnxcam.load(DEEP.content())


def explained(content: Any, source: Any = X, **given: Any) -> None:
    """The whole way, up to the files if a folder is given."""
    folder = given.pop("folder", None)
    target = given.pop("target", "top1")
    made = onnxcam.Explainer(content, device=given.pop("device", "cpu"), **given)
    found = made(source, target)
    if folder is not None:
        found.save(folder)


def refused(*given: Any, **named: Any) -> str:
    """The message of the error; no file is left where the results go."""
    with tempfile.TemporaryDirectory() as folder:
        with pytest.raises(OnnxcamError) as caught:
            explained(*given, **named, folder=Path(folder))
        assert not list(Path(folder).iterdir())
    message = str(caught.value)
    assert len(message) > 10
    return message


def works_or_is_refused(content: bytes) -> None:
    """A changed byte may still be a model; anything but our error is a bug."""
    try:
        explained(content, method="grad-cam")
    except OnnxcamError as fault:
        assert len(str(fault)) > 10  # noqa: PT017


# Models


@few
@given(st.integers(0, len(DEEP.content()) - 1))
def test_a_model_that_is_cut_off(length: int) -> None:
    refused(DEEP.content()[:length])


def test_a_model_that_is_cut_off_between_its_parts() -> None:
    """Every length up to the weights, where the fields are short."""
    content = DEEP.content()
    for length in (*range(0, 900, 31), len(content) - 1):
        message = refused(content[:length])
        assert "given bytes" in message or "the model" in message


@few
@given(st.binary(max_size=300))
def test_random_bytes(content: bytes) -> None:
    assert "the given bytes" in refused(content)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 1499), st.integers(0, 255)), min_size=1, max_size=3))
@example([(137, 12)])  # windows that leave no cell
@example([(137, 14)])  # or fewer than none
def test_changed_bytes(changes: list[tuple[int, int]]) -> None:
    content = bytearray(POOLED.content())
    for place, value in changes:
        content[place % len(content)] = value
    works_or_is_refused(bytes(content))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["w1", "b1", "w2", "v", "d"])
def test_weights_that_are_not_finite(name: str, number: float) -> None:
    proto = POOLED.proto()
    for each in proto.graph.initializer:
        if each.name == name:
            values = numpy_helper.to_array(each).copy()
            values.flat[0] = number
            each.CopyFrom(numpy_helper.from_array(values, name))
    for method in ("grad-cam", "smooth-grad-cam++"):
        try:
            found = onnxcam.Explainer(proto.SerializeToString(), method, device="cpu")(X, 1)
        except RunError as fault:
            assert "not finite" in str(fault)  # noqa: PT017  minus infinity may die in a Relu
        else:
            assert number == -np.inf
            assert np.isfinite(found.maps).all()


def test_gradients_that_are_not_finite() -> None:
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
        message = refused(net.content(), method=method, layer="features")
        assert "features are not finite" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }", "no input takes images"),
        (
            "(float[N, 3, 4, 4] x, float[1] z) => (float[N, 3, 4, 4] y) { y = Add(x, z) }",
            "has the inputs z in addition to the image 'x'",
        ),
        (
            "(float[N, 3, 4, 4] x) => (int64[N, 1, 4, 4] y) { y = ArgMax<axis = 1>(x) }",
            r"no output has one number a class",
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
def test_models_that_cannot_be_explained(text: str, said: str) -> None:
    proto = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 17]> net {text}')
    with pytest.raises(ModelError, match=said):
        explained(proto.SerializeToString(), np.zeros((1, 3, 4, 4), np.float32))


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("missing.onnx", "text.onnx", "empty.onnx", "."):
        assert str(tmp_path / name) in refused(tmp_path / name)


# Pictures


def png(width: int = 40, height: int = 30) -> bytes:
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(file.name)
        return Path(file.name).read_bytes()


@few
@given(st.floats(0, 0.99))
def test_a_picture_that_is_cut_off(part: float) -> None:
    content = png()
    assert "the given bytes" in refused(model(), content[: int(part * len(content))])


@few
@given(st.binary(max_size=100))
def test_random_bytes_for_a_picture(content: bytes) -> None:
    assert "the given bytes" in refused(model(), content)


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
def test_pictures_without_pixels(size: tuple[int, int]) -> None:
    assert "no pixels" in refused(model(), Image.new("RGB", size))


@pytest.mark.parametrize(
    "source", [[], None, 5, 1.5, [None], {}, object(), "missing.png", "", Path("missing.png"), "\0"]
)
def test_what_is_no_picture(source: Any) -> None:
    with pytest.raises(ImageError):
        explained(model(), source)
    refused(model(), source)


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
def test_arrays_that_do_not_fit(array: Any) -> None:
    with pytest.raises(ImageError, match=r"'x' takes numbers of shape \(N, 3, 8, 8\)") as caught:
        explained(model(), array)
    assert str(array.shape) in str(caught.value)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e300])
def test_arrays_that_are_not_finite(number: float) -> None:
    array = np.zeros((3, 8, 8))
    array[1, 2, 3] = number
    with pytest.raises(ImageError, match="'x' holds NaN, infinite or far too large"):
        explained(model(), array)


def test_the_largest_finite_numbers_end_in_an_error_or_a_finite_map() -> None:
    checkered = np.where(np.indices((3, 8, 8)).sum(axis=0) % 2, 3e38, -3e38).astype(np.float32)
    for method in ("grad-cam", "smooth-grad-cam++"):
        for array in (checkered, abs(checkered)):
            try:
                maps = onnxcam.Explainer(model(), method, device="cpu")(array).maps
            except RunError as fault:
                assert "not finite" in str(fault)  # noqa: PT017  either is right
            else:
                assert np.isfinite(maps).all()


# Names, numbers and targets


@pytest.mark.parametrize(
    ("given", "kind", "named"),
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
        ({"channels": "6"}, SettingError, "channel 6; the layer has 6"),
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
        ({"target": []}, SettingError, "0 targets for 1 pictures"),
        ({"target": [1, 2]}, SettingError, "2 targets for 1 pictures"),
    ],
    ids=str,
)
def test_names_and_numbers(given: dict[str, Any], kind: type[Exception], named: str) -> None:
    with pytest.raises(kind, match=named.replace("(", r"\(")):
        explained(model(), **given)
    refused(model(), **given)


@few
@given(st.text(max_size=12), st.sampled_from(["target", "layer", "method", "channels", "region"]))
def test_any_text(text: str, where: str) -> None:
    try:
        given: dict[str, Any] = {"layer": "features", "samples": 1, where: text}
        explained(model(), **given)
    except OnnxcamError as fault:
        assert len(str(fault)) > 10  # noqa: PT017  some texts are names
