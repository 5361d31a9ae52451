"""LIME: a linear model of how the score depends on the segments that are shown."""

from __future__ import annotations

import numpy as np

from onnxcam.arrays import Floats, Maps, Saliency
from onnxcam.methods.method import method


@method(
    "lime",
    source="Ribeiro et al. 2016, eq. 1 and section 3.4",
    sampler="subsets",
    at="image",
    signed=True,
)
def lime(sample_probabilities: Floats, projection: Maps, segment_numbers: Saliency) -> Saliency:
    """The weights of segments in a linear model of the target's probability, without a gradient.

    beta (N, H, W), at each pixel that of its segment, which minimizes sum_i pi_i (p_c(x_i) - b - beta z_i)^2 +
    ridge |beta|^2, where z_i says which segments x_i shows; the others have their mean color.
    """
    changes = sample_probabilities - sample_probabilities[:, :1]  # only the intercept depends on it
    weights = np.matmul(projection, np.expand_dims(changes, 2))[:, :, 0]
    count, height, width = segment_numbers.shape
    numbers = np.reshape(segment_numbers, (count, height * width)).astype(np.int64)
    return np.reshape(np.take_along_axis(weights, numbers, axis=1), (count, height, width))
