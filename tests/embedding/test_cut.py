"""Samples of a layer's values: the model after the layer takes a row per sample, however sizes are written."""

from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest

import onnxcam
from onnxcam.embedding.write import embed
from onnxcam.errors import ModelError
from tests.support.nets import DEEP, MIXING, random_images

CONSTANTS = """
    one_row = Constant<value_ints = [1, -1]>()
    joined = Constant<value_ints = [-1, 96]>()
    zero = Constant<value_ints = [0]>()
    features_of_row = Constant<value_ints = [96]>()
"""
FLATTENED = {
    "a constant shape of one image": "Reshape(features, one_row)",
    "a constant shape": "Reshape(features, joined)",
    "the shape of the image": "Reshape(features, of_image)",
    "the shape of the layer": "Reshape(features, of_layer)",
}
SIZES = """
    sizes_of_image = Shape(x)
    images = Gather<axis = 0>(sizes_of_image, zero)
    of_image = Concat<axis = 0>(images, features_of_row)
    sizes_of_layer = Shape(features)
    rows = Gather<axis = 0>(sizes_of_layer, zero)
    of_layer = Concat<axis = 0>(rows, features_of_row)
"""


@pytest.mark.parametrize(
    ("flattened", "count"),
    [(name, count) for name in FLATTENED for count in (1, 2) if count == 1 or "one" not in name],
)
def test_map_of_samples_of_a_layer_is_that_of_python(flattened: str, count: int) -> None:
    size = "1" if "one" in flattened else "N"
    net = replace(
        DEEP,
        head=SIZES + DEEP.head,
        shape=f"{size}, 3, 8, 8",
        outputs=f"float[{size}, 5] probabilities",
        lead=CONSTANTS,
        flatten=FLATTENED[flattened],
    )
    images = random_images(count)
    explainer = onnxcam.Explainer(
        net.content(), "recipro-cam", "features", device="cpu", cache=False
    )
    expected = np.asarray(explainer(images, 1).maps)
    content = embed(net.content(), "recipro-cam", "features", target=1).model.bytes()
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    computed = np.asarray(session.run(["saliency"], {"x": images})[0])
    assert expected.any()
    np.testing.assert_allclose(computed, expected, rtol=0, atol=1e-5 * expected.max())


def test_model_whose_images_influence_each_other_is_refused() -> None:
    """Its samples, too, would influence each other."""
    with pytest.raises(ModelError, match="this model runs images one by one; export it for any"):
        embed(MIXING.content(), "recipro-cam", "features", target=1)
