"""What a user should know about a file with an explanation, and how its images are prepared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from onnxcam.dense import DETECTION, IMAGE, SEGMENTATION
from onnxcam.embedding.pixels import describe_steps
from onnxcam.explain.arguments import unused_target_notice
from onnxcam.explain.explainer import Explainer
from onnxcam.heads.description import OTHER_TARGETS
from onnxcam.image.preprocess import Preprocessing, tensor_size
from onnxcam.targets.classes import Spec

HELD_TARGETS = {  # what a file can hold instead of `OTHER_TARGETS`
    DETECTION: "--target CLASS chooses another class, CLASS@position:K the box at a position of the output",
    SEGMENTATION: "--target CLASS@all explains the mean over all pixels",
    IMAGE: "--target CHANNEL chooses another channel",
}


def suggest_held_targets(notices: Iterable[str]) -> Iterator[str]:
    """Notices of a model, which suggest only targets that a file can hold."""
    for notice in notices:
        for task, advice in HELD_TARGETS.items():
            notice = notice.replace(OTHER_TARGETS[task], advice)
        yield notice


def setting_notices(explainer: Explainer, options: Mapping[str, Any]) -> Iterator[str]:
    """The settings that are not the defaults, and that the user did not choose."""
    for name, value in explainer.method.sampler.embedded.items():
        if name in explainer.settings and name not in options:
            yield (
                f"embedded with {name}={value}, because a file cannot hold the default; `onnxcam explain --set "
                f"{name}={value}` gives the same map"
            )


def target_notices(explainer: Explainer, target: Spec, target_input: bool) -> Iterator[str]:
    """What a target changes of a method whose map is the same for every class: nothing."""
    named = [target, *["--target-input"] * target_input]
    yield from filter(None, (unused_target_notice(explainer.method, named),))


def image_notices(
    explainer: Explainer, options: Mapping[str, Any], takes_pixels: bool, draws: bool
) -> Iterator[str]:
    """How images are prepared, in the file or by its caller; the file `draws` the map over them or not."""
    image = explainer.plan.image
    if takes_pixels or draws:  # else it does not matter to the file
        yield from filter(None, (explainer.preprocessing_notice,))
    if takes_pixels:
        yield from filter(None, (describe_steps(explainer.preprocessing),))
        return
    if None in (image.height, image.width):
        height, width = tensor_size(explainer.preprocessing, image)
        yield f"the file takes images of {height} x {width} pixels; --size chooses others"
    settings = options.get("pixels") or {}
    chosen = [name for name, value in settings.items() if value is not None and name != "size"]
    if chosen and not draws:
        yield (
            f"the file takes the tensor {image.name!r}, and {', '.join(f'--{name}' for name in chosen)} only "
            "tells how its caller prepares it; --preprocess NAME makes a file that prepares pixels itself"
        )


def describe_images(
    explainer: Explainer, size: tuple[int, int], takes_pixels: bool, draws: bool
) -> Preprocessing | None:
    """How images of this size are prepared; None if neither the user nor the model says so, and the file does
    not depend on it.
    """
    if explainer.preprocessing_choice.assumed and not (takes_pixels or draws):
        return None
    return replace(explainer.preprocessing, size=size)
