"""Compare the factorization of activations with scikit-learn's, and concepts with those of pytorch-grad-cam.

    python -m scripts.parity.concepts models/shapes.onnx models/samples/0*.png
    python -m scripts.parity.concepts DATA/models/resnet56_cifar10.onnx DATA/images/coco/img/*.jpg

Needs scikit-learn and grad-cam (the latter with OpenCV).
"""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import Any

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.concept_maps.factorization import factorize, relative_error
from onnxcam.concept_maps.source import as_cells
from onnxcam.explain.activations import open_activations, read_activations

COUNTS = (4, 8, 16)
STARTS = ("nndsvd", "nndsvda", "random")


def main(model: str, images: list[str]) -> None:
    rows = [*read_activations(open_activations(model), images)]
    cells = np.maximum(np.concatenate([as_cells(row.activation) for row in rows]), 0)
    print(f"{'concepts':>8}  {'ours':>8}  " + "  ".join(f"{start:>8}" for start in STARTS), end="")
    print(f"  {'grad-cam':>8}  cosines of its concepts with ours: worst, median")
    for count in COUNTS:
        result = factorize(cells, count)
        errors = [nmf_error(cells, count, start) for start in STARTS]
        error, concepts = peer_concepts(np.stack([row.activation for row in rows]), count)
        cosines = (result.directions @ concepts).max(axis=1)
        numbers = [result.error, *errors, error, cosines.min(), float(np.median(cosines))]
        print(f"{count:>8}  " + "  ".join(f"{number:8.5f}" for number in numbers))


def nmf_error(cells: Floats, count: int, start: str) -> float:
    """||A - W H|| / ||A|| of scikit-learn's factors."""
    nmf: Any = importlib.import_module("sklearn.decomposition").NMF
    model = nmf(count, init=start, random_state=0, max_iter=1000, tol=1e-5)
    return relative_error(cells, model.fit_transform(cells), model.components_)


def peer_concepts(activations: Any, count: int) -> tuple[float, Floats]:
    """The same of pytorch-grad-cam's factors, and its concepts (channels, K), of length 1."""
    package = "pytorch_grad_cam.feature_factorization.deep_feature_factorization"
    concepts, maps = importlib.import_module(package).dff(activations.copy(), count)
    cells = np.concatenate([as_cells(image) for image in activations])
    weights = np.concatenate([as_cells(image) for image in maps])
    error = relative_error(np.maximum(cells, 0), weights, concepts.T)
    return error, concepts / np.linalg.norm(concepts, axis=0)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1], sys.argv[2:])
