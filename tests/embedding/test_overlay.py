"""The overlay of the graph is the one that is drawn in Python, up to 2 gray levels."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from onnxcam.embedding.overlay import shown_from_tensor, write_overlay
from onnxcam.errors import SettingError, UnknownNameError
from onnxcam.image.colormap import COLORMAPS
from onnxcam.image.overlay import overlay
from onnxcam.image.preprocess import PRESETS, Preprocessing, prepare, with_overrides
from onnxcam.specs import ImageInput
from tests.embedding.support.small_graphs import open_graph, write_graph

HEIGHT, WIDTH = 40, 56
LEVELS = 2  # the largest difference
Floats32 = NDArray[np.float32]
RANDOM = np.random.default_rng(5)


def drawing(**options: Any) -> Callable[..., Any]:
    """A function of `saliency` and `shown`."""

    def write(build: Any) -> dict[str, Any]:
        shape = ("N", HEIGHT, WIDTH)
        saliency = build.input("saliency", np.dtype(np.float32), shape)
        shown = build.input("shown", np.dtype(np.uint8), (*shape, 3))
        return {"overlay": write_overlay(saliency, shown, **options)}

    run = open_graph(write_graph(write))
    return lambda saliency, shown: run(saliency=saliency, shown=shown)[0]


def photograph(seed: int = 0) -> NDArray[np.uint8]:
    few = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), np.uint8)
    return np.asarray(Image.fromarray(few).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def maps() -> dict[str, Floats32]:
    """Raw maps (H, W) by name; each has evidence for the target."""
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    bump = np.exp(-4 * (x**2 + y**2))
    return {
        name: values.astype(np.float32)
        for name, values in {
            "bump": bump,
            "small": bump * 1e-12,
            "large": bump * 1e12,
            "signed": bump - 0.4,
            "negative": 0.1 - bump,
            "noise": RANDOM.normal(size=bump.shape),
            "constant": np.full(bump.shape, 3.0),
            "pixel": (bump == bump.max()) * 2.0,
            "ramp": x,
        }.items()
    }


def python_overlay(saliency: Floats32, shown: NDArray[np.uint8], **options: Any) -> Any:
    box = (0.0, 0.0, float(WIDTH), float(HEIGHT))
    return np.asarray(overlay(Image.fromarray(shown), saliency, box, **options)).astype(int)


@pytest.mark.parametrize("name", maps())
@pytest.mark.parametrize("signed", [False, True])
def test_overlay_is_that_of_python(name: str, signed: bool) -> None:
    saliency, shown = maps()[name], photograph()
    drawn = drawing(signed=signed)(saliency[np.newaxis], shown[np.newaxis])
    assert drawn.shape == (1, HEIGHT, WIDTH, 3)
    assert drawn.dtype == np.uint8
    difference = np.abs(drawn[0] - python_overlay(saliency, shown, signed=signed))
    assert difference.max() <= LEVELS
    assert difference.mean() <= 0.05
    assert (drawn[0] != shown).any()


@pytest.mark.parametrize("colormap", COLORMAPS)
@pytest.mark.parametrize("opacity", [0.0, 0.3, 1.0])
def test_colormaps_and_opacities_are_those_of_python(colormap: str, opacity: float) -> None:
    options = {"colormap": colormap, "opacity": opacity, "signed": COLORMAPS[colormap].diverging}
    saliency, shown = maps()["signed"], photograph(1)
    drawn = drawing(**options)(saliency[np.newaxis], shown[np.newaxis])[0]
    difference = np.abs(drawn - python_overlay(saliency, shown, **options))
    assert difference.max() <= LEVELS


@pytest.mark.parametrize("name", maps())
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("outliers", [0.01, 0.3])
def test_outliers_are_those_of_python(name: str, signed: bool, outliers: float) -> None:
    saliency, shown = maps()[name], photograph(2)
    options = {"signed": signed, "outliers": outliers}
    drawn = drawing(**options)(np.stack([saliency, maps()["bump"]]), np.stack([shown, shown]))
    assert np.abs(drawn[0] - python_overlay(saliency, shown, **options)).max() <= LEVELS
    assert np.abs(drawn[1] - python_overlay(maps()["bump"], shown, **options)).max() <= LEVELS


@pytest.mark.parametrize("signed", [False, True])
def test_map_without_evidence_is_the_plain_image(signed: bool) -> None:
    negative = -1.0 if not signed else 0.0
    saliency = np.stack(
        [
            np.zeros((HEIGHT, WIDTH)),
            np.full((HEIGHT, WIDTH), negative),
            np.full((HEIGHT, WIDTH), 1e-42),
        ]
    )
    shown = np.stack([photograph(number) for number in range(3)])
    drawn = drawing(signed=signed)(saliency.astype(np.float32), shown)
    np.testing.assert_array_equal(drawn, shown)


def test_maps_of_a_batch_have_scales_of_their_own() -> None:
    saliency = np.stack([maps()["bump"], maps()["small"], maps()["bump"] * 0, maps()["signed"]])
    shown = np.stack([photograph(number) for number in range(4)])
    draw = drawing()
    drawn = draw(saliency, shown)
    for number in range(4):
        one = draw(saliency[number : number + 1], shown[number : number + 1])
        np.testing.assert_array_equal(drawn[number], one[0])


def test_image_of_a_map_that_is_called_empty_is_returned_as_it_is() -> None:
    def write(build: Any) -> dict[str, Any]:
        saliency = build.input("saliency", np.dtype(np.float32), (2, HEIGHT, WIDTH))
        shown = build.input("shown", np.dtype(np.uint8), (2, HEIGHT, WIDTH, 3))
        empty = build.input("empty", np.dtype(np.bool_), (2,))
        return {"overlay": write_overlay(saliency, shown, is_empty=empty)}

    shown = np.stack([photograph(0), photograph(1)])
    saliency = np.stack([maps()["bump"]] * 2)
    run = open_graph(write_graph(write))
    drawn = run(saliency=saliency, shown=shown, empty=np.array([True, False]))[0]
    np.testing.assert_array_equal(drawn[0], shown[0])
    assert (drawn[1] != shown[1]).any()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"colormap": "polar"}, SettingError),
        ({"colormap": "ember", "signed": True}, SettingError),
        ({"colormap": "none"}, UnknownNameError),
        ({"opacity": 1.5}, SettingError),
        ({"outliers": 1.0}, SettingError),
    ],
    ids=str,
)
def test_unsuitable_options_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        drawing(**options)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("preprocessing", "dtype", "levels"),
    [
        *((PRESETS[name], "float32", 0) for name in ("imagenet", "tf", "caffe", "unit", "raw")),
        (PRESETS["imagenet"], "float16", 1),
        (PRESETS["raw"], "uint8", 0),
        (PRESETS["raw"], "int8", 0),
        (with_overrides(PRESETS["caffe"], std=(2.0, 3.0, 4.0)), "int8", 2),
    ],
    ids=str,
)
def test_shown_is_recovered_from_the_tensor(
    preprocessing: Preprocessing, dtype: str, levels: int, layout: str
) -> None:
    takes = ImageInput("x", layout, 3, HEIGHT, WIDTH, None, np.dtype(dtype))
    settings = with_overrides(preprocessing, fit="squash")
    image = photograph(3)
    tensor = prepare(Image.fromarray(image), settings, takes).tensor
    assert np.abs(recovered(tensor, settings, takes) - image.astype(int)).max() <= levels


def test_shown_of_one_channel_is_gray() -> None:
    takes = ImageInput("x", "NCHW", 1, HEIGHT, WIDTH, None, np.dtype(np.float32))
    image = Image.fromarray(photograph(3))
    tensor = prepare(image, PRESETS["unit"], takes).tensor
    expected = np.asarray(image.convert("L").convert("RGB"))
    np.testing.assert_array_equal(recovered(tensor, PRESETS["unit"], takes), expected)


def test_shown_of_values_beyond_pixels_is_saturated() -> None:
    takes = ImageInput("x", "NCHW", 3, HEIGHT, WIDTH, None, np.dtype(np.float32))
    tensor = np.full((1, 3, HEIGHT, WIDTH), 9.0, np.float32)
    assert recovered(tensor, PRESETS["imagenet"], takes).min() == 255
    assert recovered(-tensor, PRESETS["imagenet"], takes).max() == 0


def recovered(tensor: Any, preprocessing: Preprocessing, takes: ImageInput) -> Any:
    def write(build: Any) -> dict[str, Any]:
        value = build.input("x", takes.dtype, ("N", *tensor.shape[1:]))
        return {"shown": shown_from_tensor(value, preprocessing, takes)}

    shown = open_graph(write_graph(write))(x=tensor)[0]
    assert shown.dtype == np.uint8
    return shown[0]
