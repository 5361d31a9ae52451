"""Samples of float16 images are drawn in float32, as in Python."""

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import onnxcam
from onnxcam.embedding.write import embed
from tests.explain.test_half_precision import convert_to_half
from tests.support.nets import NHWC, random_images


@pytest.mark.parametrize("baseline", ["noise", "mean"])
def test_path_of_float16_images_is_that_of_python(baseline: str) -> None:
    """A path in float16 has its points elsewhere: the map differed by 1 %."""
    content = convert_to_half(NHWC.proto()).SerializeToString()
    images = random_images(2).transpose(0, 2, 3, 1).astype(np.float16)
    settings: dict[str, Any] = {"steps": 6, "baseline": baseline}
    explainer = onnxcam.Explainer(
        content, "integrated-gradients", device="cpu", cache=False, **settings
    )
    expected = np.asarray(explainer(images, 1).maps)
    explained = embed(content, "integrated-gradients", target=1, **settings).model.bytes()
    session = ort.InferenceSession(explained, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    taken = np.float16 if image.type == "tensor(float16)" else np.float32
    computed = np.asarray(session.run(["saliency"], {image.name: images.astype(taken)})[0])
    np.testing.assert_allclose(computed, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
