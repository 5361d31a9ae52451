"""Draw what the bundled classifier responds to and what its layers know, for the README of `onnxcam/ascent`:

python -m scripts.ascent_figures
"""

from pathlib import Path

from PIL import Image

import onnxcam
from onnxcam.ascent.pixel_range import to_images
from onnxcam.image.overlay import sheet, thumbnail

MODELS = Path(__file__).resolve().parents[1] / "models"
MODEL, PHOTO = MODELS / "shapes.onnx", MODELS / "samples" / "05_hourglass.png"
CLASSES = ["arrow", "crescent", "cross", "heart", "hourglass", "ring", "star", "triangle"]
CELL, COLORS = 128, 128  # pixels of an image, colors of a file


def draw(images: list[Image.Image], titles: list[str], columns: int, path: Path) -> None:
    cells = [thumbnail(image, CELL) for image in images]
    drawn = sheet(cells, titles, columns=columns, cell=CELL)
    drawn.quantize(COLORS, Image.Quantize.MAXCOVERAGE, kmeans=4).save(path, optimize=True)
    print(path, path.stat().st_size, "bytes")


def main() -> None:
    made = onnxcam.visualize(MODEL, CLASSES, count=1, decay=0.5, device="cpu")
    draw(made.images, list(made.names), 4, MODELS / "onnxcam-visualize.png")
    known = onnxcam.invert(MODEL, PHOTO, device="cpu")
    errors = zip(known.layers, known.errors, strict=True)
    titles = ["the image", *(f"{layer}: {error:.2g}" for layer, error in errors)]
    images = [*to_images(known.original[None]), *known.images]
    draw(images, titles, len(images), MODELS / "onnxcam-invert.png")


if __name__ == "__main__":
    main()
