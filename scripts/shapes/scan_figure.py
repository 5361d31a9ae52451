"""Draw the image of the README of subset scans, models/onnxcam-scan.png: foreign objects, and what is unusual.

python -m scripts.shapes.scan_figure
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from onnxcam.image.overlay import grid
from onnxcam.scanning.scanner import Scanner
from scripts.shapes.anomalies import Pixels, clean_images, insert_discs

ROOT = Path(__file__).resolve().parents[2]
LAYER = "relu_6"
SHOWN = (0, 5, 7, 11)
CELL = 200  # pixels of an image


def to_image(pixels: Pixels) -> Image.Image:
    """The image, enlarged."""
    image = Image.fromarray((pixels.transpose(1, 2, 0) * 255).round().astype(np.uint8))
    return image.resize((CELL, CELL), Image.Resampling.BICUBIC)


def main() -> None:
    """Write the image."""
    foreign, _ = insert_discs(clean_images(102, max(SHOWN) + 1), 0)
    scanner = Scanner(ROOT / "models" / "shapes.onnx", clean_images(101, 300), LAYER, device="cpu")
    chosen = [to_image(foreign[number]) for number in SHOWN]
    panels = []
    for original, scanned in zip(chosen, scanner.stream(chosen), strict=True):
        panels += [original, scanned.overlay()]
        print(f"{scanned.image.name}: p = {scanned.p_value:.2f}")
    drawn = grid([panels[:4], panels[4:]], column_titles=["image", "unusual"] * 2, cell=CELL)
    path = ROOT / "models" / "onnxcam-scan.png"
    colors = drawn.quantize(192, Image.Quantize.MAXCOVERAGE, 8, dither=Image.Dither.NONE)
    colors.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
