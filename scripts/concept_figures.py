"""Draw the images of onnxcam/concept_maps/README.md, and the feature maps of onnxcam/cli/README.md, again.

python -m scripts.concept_figures
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import onnxcam
from scripts.shapes.drawing import draw

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "models"
COUNT, SEED = 80, 20261127  # images, and a seed that neither training nor testing of the model used
WIDTH, COLORS = 600, 96  # pixels, and colors of the palette: a small file


def main() -> None:
    chance = np.random.default_rng(SEED)
    images = [Image.fromarray(draw(chance).pixels) for _ in range(COUNT)]
    concepts = onnxcam.concepts(MODELS / "shapes.onnx", images, count=10, best=4)
    save(concepts.sheet(), "onnxcam-concepts.png")
    explained = concepts.contributions(MODELS / "samples" / "06_ring.png")
    save(explained.chart(), "onnxcam-contributions.png")
    save(concepts.surrogate("gam", "star").chart(), "onnxcam-surrogate.png")
    explainer = onnxcam.Explainer(MODELS / "shapes.onnx", top_channels=8)
    explanation = explainer(MODELS / "samples" / "05_hourglass.png")
    save(explanation.channel_sheet(), "onnxcam-channels.png")


def save(image: Image.Image, name: str) -> None:
    """Write an image at the width of a page, in a palette."""
    size = (WIDTH, round(image.height * WIDTH / image.width))
    small = image.resize(size, Image.Resampling.LANCZOS)
    palette = small.quantize(COLORS, Image.Quantize.MAXCOVERAGE, kmeans=8, dither=Image.Dither.NONE)
    palette.save(MODELS / name, optimize=True)
    print(f"{name}: {(MODELS / name).stat().st_size} bytes")


if __name__ == "__main__":
    main()
