"""Read what a target compares with: an array of numpy.save, or the answer of the model to another image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.errors import TargetError
from onnxcam.explain.run import Runner
from onnxcam.image.preprocess import Preprocessing, prepare
from onnxcam.image.read import read


def read_reference(path: str, runner: Runner, preprocessing: Preprocessing) -> Floats:
    """The numbers in a .npy file, or those that the model explains of an image.

    Raises TargetError for a file that holds no numbers, ImageError for one that is no image.
    """
    if Path(path).suffix.lower() == ".npy":
        return load_numbers(path)
    plan = runner.plan
    tensor = np.asarray(prepare(read(path), preprocessing, plan.image).tensor)
    images = tensor.astype(plan.image_dtype, copy=False)
    scores: Floats = runner.clean(images, np.zeros((1, plan.score.classes))).scores[0]
    return scores


def load_numbers(path: str) -> Floats:
    """The numbers in a file of numpy.save. TargetError if it holds none."""
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # of a damaged file, NumPy and zipfile raise all kinds of exceptions
        raise TargetError(f"{path} cannot be read as an array of numpy.save ({error})") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise TargetError(f"{path} holds no numbers")
    if not np.isfinite(array).all():
        raise TargetError(f"{path} holds NaN or infinite values")
    return np.asarray(array, np.float64)
