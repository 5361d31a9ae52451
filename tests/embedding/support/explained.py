"""Run a model with an embedded explanation, and explain the same images in Python."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort

import onnxcam
from onnxcam.arrays import Array, Floats, Images
from onnxcam.embedding.metadata import LAYER_MAP, SALIENCY, TARGET
from onnxcam.methods import choose_method

DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class Run(NamedTuple):
    """What a file returned, by name, and how it was written."""

    arrays: Mapping[str, Array]
    embedded: onnxcam.EmbeddedModel

    @property
    def maps(self) -> Floats:
        maps: Floats = np.asarray(self.arrays[SALIENCY], np.float32)
        return maps


def open_content(content: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run_content(content: bytes, images: Images, target: Any = None) -> dict[str, Array]:
    """All outputs for images, and for classes if the file takes them."""
    session = open_content(content)
    image = session.get_inputs()[0]
    feeds = {image.name: images.astype(DTYPES.get(image.type, images.dtype))}
    if target is not None:
        feeds[TARGET] = np.asarray(target, np.int64)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def run_embedded(
    model: Any, method: str, images: Images, *, classes: Any = None, **options: Any
) -> Run:
    embedded = onnxcam.embed(
        model, method, outputs=[SALIENCY, LAYER_MAP], target_input=classes is not None, **options
    )
    return Run(run_content(embedded.model.bytes(), images, classes), embedded)


def explain(model: Any, method: str, images: Images, target: Any, **options: Any) -> Floats:
    """The maps of the Python path with the same noise."""
    chosen, _ = choose_method(method, {})
    noise = {
        name: value for name, value in chosen.sampler.embedded.items() if name in chosen.settings
    }
    explainer = onnxcam.Explainer(model, method, device="cpu", cache=False, **{**noise, **options})
    return explainer(images, target).maps


def assert_close(actual: Any, expected: Any, tolerance: float, terms: float = 0.0) -> None:
    """Equal up to a fraction of the largest magnitude, which is not 0, or of what is added up to it."""
    largest = max(float(np.max(np.abs(expected))), terms)
    assert np.any(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * largest)
