"""What is run, told without the graph: all that an explainer needs to know of a model once it is planned."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from onnxcam.arrays import Array, Floats, ImageInput, Images
from onnxcam.graph.chosen import Layer, Score

AUTO = "auto"
POWERS = (1, 2, 3)  # of the gradient, whose sums over noisy samples a model returns
SEED = "seed"  # the input of a model with gradients that takes the cotangents
NOISE, SPREAD = "onnxcam/noise", "onnxcam/spread"  # the inputs of what is added to the picture
NO_NOISE = np.zeros((1, 1, 1, 1), np.float32)


def gradient_at(layer: str) -> str:
    """The output that holds the gradient at a layer."""
    return f"gradient/{layer}"


def moment(power: int, layer: str) -> str:
    """The output that holds the sum of the gradient's power over the batch at a layer."""
    return f"moment{power}/{layer}"


@dataclass(frozen=True)
class Plan:
    """A model that returns `of`, the layers, and for the cotangent `seed` the gradients.

    `name`, `digest`, `metadata` and `notices` are those of the `Model`. `constant` says that the graph proves
    the gradients not to depend on the picture, and `apart` that a second model returns them, which takes the
    cotangent alone. `seed_shape` is that of the cotangent of one picture, `seed_dtype` the name of its type.
    """

    name: str
    digest: str
    metadata: dict[str, str]
    notices: tuple[str, ...]
    image: ImageInput
    score: Score
    of: str
    layers: tuple[Layer, ...]
    constant: bool
    apart: bool
    seed_shape: tuple[int, ...]
    seed_dtype: str

    @property
    def gradients(self) -> list[str]:
        """The outputs that hold the gradients, in the order of the layers."""
        return [gradient_at(each.name) for each in self.layers]

    @property
    def activations(self) -> list[str]:
        """The outputs that hold the layers' values."""
        return [each.name for each in self.layers]

    def seeds(self, weights: Floats) -> Array:
        """Cotangents (N, classes) in the shape and dtype of the score."""
        shape = (len(weights), *self.seed_shape)
        return weights.reshape(shape).astype(self.seed_dtype)

    def feeds(
        self, images: Images, weights: Floats, noise: Any = None, spread: float = 0.0
    ) -> dict[str, Any]:
        """Everything that its models take, by name: images, cotangents (N, classes), and noise."""
        return {
            self.image.name: images,
            NOISE: NO_NOISE.repeat(len(weights), axis=0) if noise is None else noise,
            SPREAD: np.array(spread, np.float32),
            SEED: self.seeds(weights),
        }


def as_json(plan: Plan) -> str:
    """The plan as text. TypeError or ValueError for one that JSON cannot keep."""
    told = asdict(plan)
    told["image"]["dtype"] = np.dtype(plan.image.dtype).name
    text = json.dumps(told)
    if from_json(text) != plan:
        raise ValueError(f"{plan.name}: its plan reads back as another one")
    return text


def from_json(text: str | bytes) -> Plan:
    """The plan that `as_json` wrote. LookupError, TypeError or ValueError for any other text."""
    told: dict[str, Any] = json.loads(text)
    image = {**told["image"], "dtype": np.dtype(told["image"]["dtype"])}
    made = {
        "image": ImageInput(**image),
        "score": Score(**told["score"]),
        "layers": tuple(Layer(**_tuples(each)) for each in told["layers"]),
    }
    return Plan(**_tuples(told) | made)


def _tuples(told: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists only."""
    return {name: tuple(each) if isinstance(each, list) else each for name, each in told.items()}
