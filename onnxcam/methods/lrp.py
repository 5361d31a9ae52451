"""The score, handed back to the pixels layer by layer, in float64."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Floats, Maps
from onnxcam.methods.completeness import completeness
from onnxcam.methods.method import method


def conservation(attributions: Floats, absorbed: Floats, score: Floats) -> dict[str, Floats]:
    """The relevance that constants absorb, in units of the score, and how far it and that of the pixels are
    from adding up to the score, as a fraction of it.
    """
    count = len(score)
    total = np.sum(np.reshape(attributions, (count, -1)), axis=1) + absorbed
    facts = completeness(np.reshape(total, (count, 1)), score, np.zeros(count))
    return {"absorbed": absorbed, "completeness_gap": facts["completeness_gap"]}


@method(
    "lrp",
    source="Bach et al. 2015; Kohlbrenner et al. 2020, section 3",
    rules="lrp",
    at="image",
    signed=True,
    report=conservation,
    remedy="operators whose rule keeps no sum are listed in the documentation of rule tables",
)
def lrp(relevance: Maps) -> Maps:
    """Layer-wise relevance propagation: the score, divided among the inputs of every layer.

    The relevance of the pixels (N, C, H, W), by the rule table `lrp`: flat at the first layer, z+ in
    convolutions, epsilon in linear layers.
    """
    return relevance
