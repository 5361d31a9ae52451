"""Join the results of images into one explanation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.errors import TargetError
from onnxcam.explain.block import BlockResult
from onnxcam.explain.explanation import ExplainedImage, Explanation
from onnxcam.explain.probabilities import join_images
from onnxcam.methods import Method
from onnxcam.methods.postprocess import are_empty
from onnxcam.targets.classes import Labels, shared_label_notice


class Origin(NamedTuple):
    """What all explanations of an explainer have in common."""

    method: Method
    notices: tuple[str, ...]
    provenance: Mapping[str, Any]
    labels: Labels = None


def join_results(
    images: Sequence[ExplainedImage],
    results: Sequence[BlockResult],
    notices: Sequence[str | None],
    origin: Origin,
) -> Explanation:
    """The explanation of images, one after the other; `notices` come before those about single images.
    TargetError if the layers of their targets differ.
    """
    layers = _common_layers(results)
    tensors = dict.fromkeys(tensor for result in results for tensor in result.tensors)
    score = {**origin.provenance["score"], "tensor": ", ".join(tensors)}
    targets = [target for result in results for target in result.targets]
    about_images = (about for result in results for about in result.notices)
    more = [*notices, *(shared_label_notice(target, origin.labels) for target in targets)]
    more += (image.notice for image in images)
    more += (notice for about in about_images for notice in about)
    maps = np.concatenate([result.maps for result in results])
    signed = origin.method.signed
    return Explanation(
        maps=maps,
        layer_maps=_join([result.layer_maps for result in results]),
        scores=np.concatenate([result.scores for result in results]),
        targets=tuple(target.name for target in targets),
        indices=tuple(target.index for target in targets),
        target_specs=tuple(target.spec for target in targets),
        layers=layers,
        is_empty=are_empty(maps, signed=signed),
        notices=(*origin.notices, *dict.fromkeys(notice for notice in more if notice)),
        method=origin.method.name,
        images=tuple(images),
        provenance={**origin.provenance, "score": score},
        signed=signed,
        is_relative=origin.method.is_relative,
        attributions=_join([result.attributions for result in results]),
        probabilities=join_images([p for result in results for p in result.probabilities]),
        facts=tuple(facts for result in results for facts in result.facts),
        marks=tuple(target.mark for target in targets),
        channels=tuple(top for result in results for top in result.channels),
    )


def _common_layers(results: Sequence[BlockResult]) -> tuple[str, ...]:
    different = dict.fromkeys(layers for result in results for layers in result.layers)
    if len(different) > 1:
        listed = "; ".join(", ".join(layers) for layers in different)
        raise TargetError(
            f"the last layer is another one for some of the targets ({listed}); name a layer, or "
            "explain targets of one kind at a time"
        )
    return next(iter(different))


def _join(parts: Sequence[Floats | None]) -> Any:
    """The arrays of all images in one; None if there are none."""
    arrays = [part for part in parts if part is not None]
    return np.concatenate(arrays) if arrays else None
