"""The trained models of tests/data/trained, and PyTorch's gradients of one of their scores."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from PIL import Image

import onnxcam

FOLDER = Path(__file__).parents[2] / "data" / "trained"
MODELS = Path(__file__).parents[3] / "models"


@dataclass(frozen=True)
class TrainedModel:
    """A model and what was recorded of it: see `scripts.fixtures.trained.recording.Case`."""

    path: Path
    arrays: dict[str, Any]

    @property
    def layer(self) -> str:
        return str(self.arrays["layer"])

    @property
    def scores(self) -> Any:
        """(N,): what is explained."""
        return self.arrays["scores"]

    @property
    def gradient(self) -> Any:
        """(N, 3, H, W): of the scores, at the images."""
        return self.arrays["gradient"]

    def images(self) -> list[Image.Image]:
        return [Image.fromarray(pixels) for pixels in self.arrays["pixels"]]

    def metadata(self, key: str) -> list[str]:
        """A list of words in the model's metadata."""
        texts = {prop.key: prop.value for prop in onnx.load(self.path).metadata_props}
        return list(json.loads(texts[key]))

    def run(self, pixels: Any, *tensors: str, **inputs: Any) -> list[Any]:
        """What ONNX Runtime computes for images (N, H, W, 3) of uint8: the outputs, or these tensors."""
        proto = onnx.load(self.path)
        for name in tensors:
            proto.graph.output.append(onnx.ValueInfoProto(name=name))
        session = onnxruntime.InferenceSession(proto.SerializeToString())
        image = session.get_inputs()[0].name
        feeds = {image: np.moveaxis(pixels, 3, 1).astype(np.float32) / 255, **inputs}
        return list(session.run(list(tensors) or None, feeds))

    def explain(self, method: str, row: int, target: Any, **options: Any) -> onnxcam.Explanation:
        """One of the images."""
        layer = self.layer if method != "saliency" else "auto"
        explainer = onnxcam.Explainer(self.path, method, layer, device="cpu", **options)
        return explainer(self.images()[row], target)

    def hires_cam(self, row: int, **inputs: Any) -> Any:
        """(h, w): HiResCAM at the layer by PyTorch's gradient."""
        (features,) = self.run(self.arrays["pixels"], self.layer, **inputs)
        return np.maximum((features[row] * self.arrays["feature_gradient"][row]).sum(axis=0), 0)


def load_trained_model(name: str) -> TrainedModel:
    path = MODELS / f"{name}.onnx" if name == "shapes-detector" else FOLDER / f"{name}.onnx"
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return TrainedModel(path, dict(arrays))


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-4) -> None:
    """The largest difference is below this share of the largest expected number."""
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()
    assert np.abs(expected).max() > 0
