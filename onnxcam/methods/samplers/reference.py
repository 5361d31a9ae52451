"""The image beside a baseline, for rule tables that compare the two."""

from __future__ import annotations

import numpy as np

from onnxcam.methods.baselines import Baseline, read_baseline
from onnxcam.methods.samplers.sampler import CleanRun, Repeated, Samples, sampler


@sampler("reference", varies="image", total=1, named=("baseline",))
def reference(clean: CleanRun, *, baseline: Baseline = 0.0) -> Samples:
    """the model once, on the image and on a baseline.

    The baseline is the input `reference` of a rule table, in the dtype of the image.
    """
    start = read_baseline(clean, baseline).astype(clean.image.dtype)
    complete = np.zeros_like(clean.image) + start if clean.is_written else start
    return Samples(
        1,
        inputs={"reference": Repeated(complete)},
        named={"baseline": clean.channels_first(start)},
    )
