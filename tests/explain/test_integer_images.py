"""Methods at the image for models that take integers: images are prepared as for any other method."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from PIL import Image

from onnxcam import Explainer
from tests.support.nets import DEEP


def model_of(kind: str) -> bytes:
    """DEEP with an input of integers, scaled inside."""
    net = replace(DEEP, lead="    cast = Cast<to = 1>(x)\n    scaled = Mul(cast, step)", x="scaled")
    proto = net.proto()
    number = onnx.TensorProto.DataType.Value(kind.upper())
    proto.graph.input[0].type.tensor_type.elem_type = number
    step = onnx.numpy_helper.from_array(np.array(1 / 64, np.float32), "step")
    proto.graph.initializer.append(step)
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_method_at_image_of_integers_prepares_images_like_one_at_a_layer(
    kind: str, cache: bool
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    at_image, at_layer = (
        Explainer(model_of(kind), method, cache=cache) for method in ("saliency", "grad-cam")
    )
    assert at_image.preprocessing == at_layer.preprocessing
    explanation = at_image(Image.fromarray(pixels))
    np.testing.assert_allclose(explanation.scores, at_layer(Image.fromarray(pixels)).scores)
    assert not explanation.is_empty.any()
