"""Pixels of any size become the tensor that `prepare` makes of the image with Pillow, up to 2 gray levels."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL import __version__ as pillow_version

from onnxcam.arrays import Array
from onnxcam.embedding.pixels import add_pixel_input
from onnxcam.embedding.resample import FILTERS
from onnxcam.errors import ModelError, NeedsOpsetError, SettingError
from onnxcam.image.geometry import FITS, Fit, place
from onnxcam.image.preprocess import PRESETS, RESAMPLING, Preprocessing, prepare, with_overrides
from onnxcam.image.read import read
from onnxcam.specs import ImageInput
from tests.embedding.support.small_graphs import OPSET, open_graph, write_graph

PHOTOGRAPHS = Path(__file__).parents[3] / "shared" / "data" / "images"
SMOOTH = ("bilinear", "hamming", "bicubic", "lanczos")  # their weights have no steps
LEVELS = 2  # the largest difference
TURNS = int(pillow_version.split(".")[0]) >= 13  # Pillow resamples the columns of tall images first
SIZES = [
    (640, 427),
    (33, 50),
    (1, 1),
    (1, 97),
    (97, 1),
    (1003, 3),
    (1201, 902),
    (64, 48),
    (130, 96),
]
RAW = Preprocessing(scale=1.0)


def takes(
    layout: str = "NCHW", channels: int | None = 3, dtype: str = "float32", size: Any = (64, 48)
) -> ImageInput:
    height, width = size
    return ImageInput("x", layout, channels, height, width, None, np.dtype(dtype))


def pixel_model(
    preprocessing: Preprocessing, model_input: ImageInput, opset: int = OPSET
) -> onnx.ModelProto:
    def write(build: Any) -> dict[str, Any]:
        result = add_pixel_input(build, preprocessing, model_input)
        return {"tensor": result.tensor, "shown": result.shown}

    return write_graph(write, opset)


def pixel_graph(
    preprocessing: Preprocessing, model_input: ImageInput
) -> Callable[[Array], tuple[Array, NDArray[np.uint8]]]:
    run = open_graph(pixel_model(preprocessing, model_input))

    def call(pixels: Array) -> tuple[Array, NDArray[np.uint8]]:
        tensor, shown = run(pixels=pixels)
        return tensor, shown

    return call


def images(width: int, height: int) -> Iterator[Image.Image]:
    """Independent pixels, hard edges, and slow changes."""
    random = np.random.default_rng(width * 7919 + height)
    yield Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
    yield Image.fromarray(random.integers(0, 2, (height, width, 3), np.uint8) * 255)
    few = random.integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8)
    yield Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC)


def differences(
    call: Callable[[Array], tuple[Array, Any]],
    image: Image.Image,
    preprocessing: Preprocessing,
    model_input: ImageInput,
) -> NDArray[np.float64]:
    """The tensor minus that of `prepare`, absolute; with RAW, in levels."""
    tensor, _ = call(np.asarray(image)[np.newaxis])
    reference = prepare(image, preprocessing, model_input).tensor
    assert tensor.shape == reference.shape
    assert tensor.dtype == reference.dtype
    return np.abs(tensor.astype(np.float64) - reference.astype(np.float64))


def test_filters_are_those_of_preprocessing() -> None:
    assert list(FILTERS) == list(RESAMPLING)


@pytest.mark.parametrize("resample", SMOOTH)
@pytest.mark.parametrize("fit", FITS)
def test_levels_are_those_of_pillow_up_to_two(fit: Fit, resample: str) -> None:
    preprocessing = Preprocessing(scale=1.0, fit=fit, resample=resample)
    call, means = pixel_graph(preprocessing, takes()), []
    for width, height in SIZES:
        for image in images(width, height):
            error = differences(call, image, preprocessing, takes())
            assert error.max() <= LEVELS, (width, height)
            means.append(error.mean())
    assert np.mean(means) <= 0.02


@pytest.mark.parametrize("resample", ["nearest", "box"])
@pytest.mark.parametrize("fit", FITS)
def test_levels_of_filters_with_steps_differ_only_at_edges_of_pixels(
    fit: Fit, resample: str
) -> None:
    preprocessing = Preprocessing(scale=1.0, fit=fit, resample=resample)
    call, compared = pixel_graph(preprocessing, takes()), 0
    for width, height in SIZES:
        is_clear = clear_of_edges((width, height), fit, resample)
        compared += int(is_clear.sum())
        for image in images(width, height):
            error = differences(call, image, preprocessing, takes())
            assert error[:, :, is_clear].max(initial=0.0) <= 1, (width, height)
    assert compared > len(SIZES) * 64 * 48 / 2


def clear_of_edges(size: tuple[int, int], fit: Fit, resample: str) -> NDArray[np.bool_]:
    """(H, W): where no end of a filter is exactly between two pixels: there, Pillow's rounding decides."""
    placement = place(size, (48, 64), fit, 0.875)
    axes = []
    for axis, count in ((1, 64), (0, 48)):
        start, end = placement.source[axis], placement.source[axis + 2]
        scale = (end - start) / placement.size[axis]
        center = start + (np.arange(count) - placement.corner[axis] + 0.5) * scale
        half = 0.0 if resample == "nearest" else max(scale, 1.0) / 2 - 0.5
        ends = np.stack([center - half, center + half])
        axes.append((np.abs(ends - np.rint(ends)) > 1e-4).all(axis=0))
    return np.asarray(axes[0][:, np.newaxis] & axes[1])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", [3, 1, None])
@pytest.mark.parametrize(
    ("preprocessing", "dtype"),
    [
        *((PRESETS[name], "float32") for name in ("imagenet", "tf", "caffe", "unit", "raw")),
        (PRESETS["imagenet"], "float16"),
        (PRESETS["raw"], "uint8"),
        (PRESETS["raw"], "int8"),
        (PRESETS["tf"], "float64"),
        (with_overrides(PRESETS["tf"], scale=1.0, mean=(5.4, 8.5, 3.0)), "int8"),
        (
            Preprocessing(scale=1.0, order="bgr", mean=(1.0, 2.0, 3.0), pad=(7.5, 80.0, 250.0)),
            "int32",
        ),
    ],
    ids=str,
)
def test_tensor_of_unresized_image_has_the_bits_of_prepare(
    preprocessing: Preprocessing, dtype: str, channels: int | None, layout: str
) -> None:
    settings = with_overrides(preprocessing, fit="letterbox")
    model_input = takes(layout, channels, dtype)
    call = pixel_graph(settings, model_input)
    for size in ((48, 64), (48, 40), (30, 64)):
        for image in images(*size):
            assert differences(call, image, settings, model_input).max() == 0


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", FITS)
def test_shown_is_the_image_of_the_tensor(fit: Fit, channels: int, order: Any) -> None:
    pad = (10.0, 100.0, 250.0)
    settings = Preprocessing(scale=1.0, fit=fit, order=order, pad=pad)
    call = pixel_graph(settings, takes("NHWC", channels))
    image = next(images(200, 77))
    tensor, shown = call(np.asarray(image)[np.newaxis])
    assert shown.shape == (1, 64, 48, 3)
    assert shown.dtype == np.uint8
    if channels == 1:
        gray = np.asarray(Image.fromarray(shown[0]).convert("L"))
        np.testing.assert_array_equal(tensor[0, ..., 0], gray)
    else:
        np.testing.assert_array_equal(tensor, shown[..., :: 1 if order == "rgb" else -1])


@pytest.mark.parametrize("fit", FITS)
def test_images_of_a_batch_do_not_mix(fit: Fit) -> None:
    settings = Preprocessing(fit=fit)
    call = pixel_graph(settings, takes())
    pixels = np.stack([np.asarray(image) for image in images(90, 120)])
    tensor, shown = call(pixels)
    for number in range(len(pixels)):
        one_tensor, one_shown = call(pixels[number : number + 1])
        np.testing.assert_array_equal(tensor[number], one_tensor[0])
        np.testing.assert_array_equal(shown[number], one_shown[0])


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (15, 33), (224, 299), (131, 130)], ids=str)
def test_every_size_of_a_model_divides_into_blocks(size: tuple[int, int]) -> None:
    settings = Preprocessing(scale=1.0, resample="bicubic")
    model_input = takes(size=size)
    call = pixel_graph(settings, model_input)
    for image in (*images(300, 200), *images(400, 17)):
        assert differences(call, image, settings, model_input).max() <= LEVELS


@pytest.mark.skipif(not TURNS, reason="before version 13, Pillow always resamples the rows first")
@pytest.mark.parametrize("resample", SMOOTH)
@pytest.mark.parametrize("fit", FITS)
def test_columns_of_tall_image_are_resampled_first(fit: Fit, resample: str) -> None:
    settings = Preprocessing(scale=1.0, fit=fit, resample=resample)
    for size in ((64, 48), (48, 64), (224, 100)):
        call = pixel_graph(settings, takes(size=size))
        limit = size[0] + 2 * (150 - size[1])
        for width, height in ((17, 400), (60, 300), (96, 130), (150, limit), (150, limit + 1)):
            for image in images(width, height):
                error = differences(call, image, settings, takes(size=size))
                assert error.max() <= LEVELS, (size, width, height)
                assert error.mean() <= 0.15, (size, width, height)


def test_free_size_of_model_is_the_one_of_the_preprocessing() -> None:
    settings = Preprocessing(size=(40, 56))
    call = pixel_graph(settings, takes(size=(None, None)))
    assert call(np.zeros((2, 9, 9, 3), np.uint8))[0].shape == (2, 3, 40, 56)


def test_large_photograph_keeps_its_precision() -> None:
    settings = Preprocessing(scale=1.0)
    model_input = takes(size=(16, 4000))
    image = next(images(4100, 50))
    error = differences(pixel_graph(settings, model_input), image, settings, model_input)
    assert error.max() <= LEVELS


def test_opset_before_12_is_reported() -> None:
    with pytest.raises(NeedsOpsetError):
        pixel_model(RAW, takes(), opset=11)


@pytest.mark.parametrize("opset", [12, 13, 18, 21])
def test_graph_is_valid_in_later_opsets(opset: int) -> None:
    run = open_graph(pixel_model(RAW, takes(), opset))
    pixels = np.asarray(next(images(100, 75)))[np.newaxis]
    expected = pixel_graph(RAW, takes())(pixels)[0]
    np.testing.assert_array_equal(run(pixels=pixels)[0], expected)


def test_input_of_five_channels_is_refused() -> None:
    with pytest.raises(SettingError, match="expects 5 channels"):
        pixel_model(RAW, takes(channels=5))


def test_preprocessing_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(SettingError, match="preset 'raw'"):
        pixel_model(PRESETS["imagenet"], takes(dtype="uint8"))


def test_name_of_a_tensor_of_the_model_is_refused() -> None:
    def write(build: Any) -> dict[str, Any]:
        build.input("pixels", np.dtype(np.float32), (1,))
        return {"tensor": add_pixel_input(build, RAW, takes()).tensor}

    with pytest.raises(ModelError, match="'pixels'"):
        write_graph(write)


def test_operators_are_those_that_runtimes_have() -> None:
    """Neither loops, nor Resize, whose antialiasing OpenVINO ignores; and no float64, which WebGPU refuses."""
    pairs: list[tuple[Fit, str]] = [("crop", resample) for resample in RESAMPLING]
    for fit, resample in pairs + [(fit, "bilinear") for fit in FITS]:
        model = pixel_model(Preprocessing(fit=fit, resample=resample), takes())
        operators = {node.op_type for node in model.graph.node}
        assert not operators & {"Loop", "Scan", "If", "Resize", "NonZero"}
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        types = {value.type.tensor_type.elem_type for value in inferred.graph.value_info}
        types |= {tensor.data_type for tensor in model.graph.initializer}
        assert onnx.TensorProto.DOUBLE not in types


@pytest.mark.parametrize(
    ("fit", "resample"),
    [
        ("crop", "bilinear"),
        ("crop", "bicubic"),
        ("letterbox", "lanczos"),
        ("squash-crop", "nearest"),
    ],
)
def test_openvino_computes_the_same_levels(fit: Fit, resample: str) -> None:
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    settings = Preprocessing(scale=1.0, fit=fit, resample=resample)
    model = pixel_model(settings, takes())
    core, hints = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", hints)
    call = pixel_graph(settings, takes())
    for width, height in ((640, 427), (33, 50), (50, 300)):
        pixels = np.stack([np.asarray(image) for image in images(width, height)])
        other = compiled({"pixels": pixels})
        for own, output in zip(call(pixels), (other[0], other[1]), strict=True):
            error = np.abs(own.astype(float) - output.astype(float))
            assert error.max() <= 1
            assert error.mean() <= 1e-3


@pytest.mark.skipif(not PHOTOGRAPHS.exists(), reason="the photographs are not part of the project")
@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
def test_levels_of_photographs_are_those_of_pillow_up_to_two(resample: str) -> None:
    settings, model_input = Preprocessing(scale=1.0, resample=resample), takes(size=(224, 224))
    call = pixel_graph(settings, model_input)
    paths = sorted(PHOTOGRAPHS.glob("*/*.png"))[:8] + sorted(PHOTOGRAPHS.glob("*/img/*.jpg"))[:12]
    for path in paths:
        error = differences(call, read(path), settings, model_input)
        assert error.max() <= LEVELS, path.name
        assert error.mean() <= 0.1, path.name
