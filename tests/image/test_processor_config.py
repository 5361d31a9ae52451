"""Images are prepared as the image processors of Hugging Face do it, by the files that they save."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxcam.image.description import Description
from onnxcam.image.preprocess import PRESETS, Preprocessing
from onnxcam.image.processor_config import from_processor, is_processor

HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
MEAN, STD = PRESETS["imagenet"].mean, PRESETS["imagenet"].std
FULL = {"do_normalize": True, "do_rescale": True, "do_resize": True, "rescale_factor": 1 / 255}


def describe(*parts: Mapping[str, Any], **more: Any) -> Description:
    config: dict[str, Any] = {}
    for part in parts:
        config |= part
    assert is_processor(config)
    return from_processor(config | more)


def fitting(*parts: Mapping[str, Any], **more: Any) -> tuple[Any, ...]:
    """Fit, size, crop ratio, and whether the fit is assumed."""
    description = describe(*parts, **more)
    chosen = description.preprocessing
    return chosen.fit, chosen.size, chosen.crop_ratio, "fit" in description.assumed


def test_vit_squashes_to_its_size() -> None:
    description = describe(
        FULL, HALF, image_processor_type="ViTImageProcessor", resample=2,
        size={"height": 224, "width": 192},
    )  # fmt: skip
    chosen = description.preprocessing
    assert (chosen.mean, chosen.std) == ((0.5,) * 3, (0.5,) * 3)
    assert chosen.scale == pytest.approx(255)
    assert (chosen.fit, chosen.size, chosen.resample) == ("squash", (224, 192), "bilinear")
    assert description.assumed == ()


def test_clip_crops_its_short_side_and_interpolates_by_cubics() -> None:
    description = describe(
        FULL, IMAGENET, do_center_crop=True, crop_size={"height": 224, "width": 224}, resample=3,
        size={"shortest_edge": 256}, do_convert_rgb=True,
    )  # fmt: skip
    chosen = description.preprocessing
    assert (chosen.fit, chosen.size, chosen.crop_ratio) == ("crop", (224, 224), 224 / 256)
    assert (chosen.resample, chosen.mean) == ("bicubic", MEAN)
    assert description.assumed == ()


@pytest.mark.parametrize(
    ("kind", "more", "expected"),
    [
        ("ViTFeatureExtractor", {"size": 224}, ("squash", (224, 224), 1.0, False)),
        ("SegformerFeatureExtractor", {"size": 512}, ("squash", (512, 512), 1.0, False)),
        (
            "CLIPFeatureExtractor",
            {"size": 224, "do_center_crop": True, "crop_size": 224},
            ("crop", (224, 224), 1.0, False),
        ),
        (
            "MobileNetV2ImageProcessor",
            {"size": {"shortest_edge": 256}, "do_center_crop": True,
             "crop_size": {"height": 224, "width": 224}},
            ("crop", (224, 224), 0.875, False),
        ),
        (
            "ConvNextFeatureExtractor",
            {"size": 224, "crop_pct": 0.875},
            ("crop", (224, 224), 0.875, False),
        ),
        (
            "ConvNextImageProcessor",
            {"size": {"shortest_edge": 384}, "crop_pct": 1.0},
            ("squash", (384, 384), 1.0, False),
        ),
        (
            "LevitFeatureExtractor",
            {"size": 224, "do_center_crop": True, "crop_size": 224},
            ("crop", (224, 224), 0.875, False),
        ),
        (
            "PoolFormerImageProcessor",
            {"size": {"shortest_edge": 224}, "crop_pct": 0.9, "do_center_crop": True,
             "crop_size": {"height": 224, "width": 224}},
            ("crop", (224, 224), 224 / 248, False),
        ),
        (
            "DeiTFeatureExtractor",
            {"size": 256, "do_center_crop": True, "crop_size": 224},
            ("squash-crop", (224, 224), 0.875, False),
        ),
        (  # cropped first, which no fit does
            "PerceiverImageProcessor",
            {"size": {"height": 224, "width": 224}, "do_center_crop": True, "crop_size": 256},
            ("squash-crop", (256, 256), 1.0, True),
        ),
        (
            "MobileViTImageProcessor",
            {"size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": 256},
            ("crop", (256, 256), 1.0, True),
        ),
        (
            "DonutImageProcessor",
            {"size": {"height": 64, "width": 48}, "do_pad": True, "do_thumbnail": True},
            ("squash", (64, 48), 1.0, True),
        ),
        (
            "DetrFeatureExtractor",
            {"size": 800, "max_size": 1333},
            ("letterbox-corner", (800, 800), 1.0, True),
        ),
        (
            "DetrImageProcessor",
            {"size": {"shortest_edge": 800, "longest_edge": 1333}, "do_pad": False},
            ("squash", (800, 800), 1.0, True),
        ),
        (
            "SamImageProcessor",
            {"size": {"longest_edge": 1024}, "pad_size": {"height": 1024, "width": 1024},
             "do_pad": True},
            ("letterbox-corner", (1024, 1024), 1.0, False),
        ),
        (
            "RTDetrImageProcessor",
            {"size": {"height": 640, "width": 640}, "do_pad": False},
            ("squash", (640, 640), 1.0, False),
        ),
        ("ViTImageProcessor", {"do_resize": False, "size": 224}, ("squash", None, 1.0, True)),
    ],
)  # fmt: skip
def test_processors_fit_images_in_their_ways(
    kind: str, more: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    name = "image_processor_type" if kind.endswith("ImageProcessor") else "feature_extractor_type"
    assert fitting(FULL, IMAGENET, {name: kind}, **more) == expected


def test_padding_of_detr_is_the_mean() -> None:
    chosen = describe(
        FULL, IMAGENET, size={"shortest_edge": 800, "longest_edge": 1333}
    ).preprocessing
    assert chosen.pad == pytest.approx([255 * mean for mean in MEAN])


def test_mobilevit_has_bgr_without_normalization() -> None:
    chosen = describe(
        {"do_flip_channel_order": True, "do_rescale": True, "rescale_factor": 1 / 255},
        size={"shortest_edge": 288}, do_center_crop=True, crop_size={"height": 256, "width": 256},
    ).preprocessing  # fmt: skip
    assert (chosen.order, chosen.mean, chosen.std) == ("bgr", (0.0,), (1.0,))
    assert chosen.crop_ratio == 256 / 288


def test_flags_switch_steps_off() -> None:
    chosen = describe(FULL, IMAGENET, do_normalize=False, size=224).preprocessing
    assert (chosen.mean, chosen.std) == ((0.0,), (1.0,))
    chosen = describe(FULL, IMAGENET, do_rescale=False, do_normalize=False, size=224).preprocessing
    assert (chosen.scale, chosen.mean) == (1.0, (0.0,))


def test_offset_centers_pixels() -> None:
    chosen = describe(
        FULL, do_normalize=False, rescale_factor=1 / 127.5, rescale_offset=True, size=224
    ).preprocessing
    assert (chosen.mean, chosen.std) == ((1.0,), (1.0,))
    assert chosen.scale == pytest.approx(127.5)


def test_efficientnet_divides_by_its_deviation_twice() -> None:
    kind = {"image_processor_type": "EfficientNetImageProcessor"}
    chosen = describe(FULL, IMAGENET, kind, include_top=True, size=224).preprocessing
    assert chosen.std == pytest.approx([value**2 for value in STD])


def test_normalization_without_numbers_is_assumed() -> None:
    description = describe(FULL, size=224)
    assert description.preprocessing.mean == MEAN
    assert description.assumed == ("mean", "std")


@pytest.mark.parametrize(
    "config",
    [{}, {"size": 224}, {"image_size": 224, "model_type": "vit"}, {"do_resize": True}],
)
def test_other_objects_are_no_processors(config: dict[str, Any]) -> None:
    assert not is_processor(config)


@pytest.mark.parametrize(
    "damage",
    [
        {"image_mean": "half"},
        {"image_std": [0.0, 0.0, 0.0]},
        {"image_mean": [0.5, 0.5]},
        {"size": {"width": 5}},
        {"size": {"height": "big", "width": 4}},
        {"size": {"height": 10**6, "width": 10**6}},
        {"rescale_factor": "all"},
        {"rescale_factor": -1},
    ],
)
def test_values_without_sense_are_errors(damage: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, LookupError)):
        describe(FULL, IMAGENET, {"size": 224}, damage)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
KEYS = st.sampled_from(
    ["image_mean", "image_std", "do_normalize", "do_rescale", "do_resize", "rescale_factor",
     "size", "crop_size", "do_center_crop", "crop_pct", "resample", "image_processor_type"]
)  # fmt: skip


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(st.dictionaries(KEYS, JSON))
def test_any_object_is_preprocessing_or_an_error(config: dict[str, Any]) -> None:
    try:
        assert isinstance(from_processor(config).preprocessing, Preprocessing)
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError):
        return
