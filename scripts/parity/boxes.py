"""Whether the boxes of detectors are decoded rightly: how much they overlap the annotated ones.

    python -m scripts.parity.boxes                         # all models; a minute each
    python -m scripts.parity.boxes --only yolox_nano

For every annotated object of a photograph, the best boxes of its class are explained, as many as there are
objects of that class, if the model detects them. The figure is the largest intersection over union of the
object's box with one of them. Prints the median over the objects, and the share above one half.

Models and photographs are those of `../shared` beside the checkout, or of `--shared FOLDER`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import onnxcam
from onnxcam.errors import OnnxcamError
from onnxcam.image.preprocess import Preprocessing
from scripts.fixtures.files import DATA
from scripts.parity.energy import NETS, Net

LEAST_AREA = 0.02  # of an object's box in the photograph
SIZE = [[320, 320]]
DETECTORS: dict[str, Net] = {
    **{name: net for name, net in NETS.items() if net.labels},
    "deimv2_atto": Net(Preprocessing(fit="squash"), "coco80.txt"),
}
Corners = tuple[float, float, float, float]


def overlap(first: Corners, second: Corners) -> float:
    """Intersection over union."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    intersection = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return intersection / (sum(areas) - intersection)


def objects(record: dict[str, Any]) -> dict[str, list[Corners]]:
    """The boxes of a photograph's larger objects, by class."""
    area = record["width"] * record["height"]
    boxes: dict[str, list[Corners]] = {}
    for instance in record["instances"]:
        x, y, width, height = instance["bbox_xywh"]
        if not instance["iscrowd"] and width * height >= LEAST_AREA * area:
            boxes.setdefault(instance["category"], []).append((x, y, x + width, y + height))
    return boxes


def detections(explain: Any, image: Path, index: int, count: int, least: float) -> list[Corners]:
    """The best boxes of a class that the model is sure enough of."""
    boxes: list[Corners] = []
    for rank in range(1, count + 1):
        try:
            explanation = explain(image, target=f"class:{index}@box:{rank}")
        except OnnxcamError:  # there are not so many
            break
        probabilities = explanation.probabilities
        score = explanation.scores if probabilities is None else probabilities
        if score[0] < least:
            break
        boxes.append(explanation.marks[0].box)
    return boxes


def measure(name: str, net: Net, shared: Path) -> Iterator[float]:
    """The largest overlap of each object of a class that is detected."""
    labels = (shared / "data/labels" / str(net.labels)).read_text().splitlines()
    known = {label.strip(): index for index, label in enumerate(labels)}
    options: dict[str, Any] = {"inputs": {"orig_target_sizes": SIZE}} if "deim" in name else {}
    explain = onnxcam.Explainer(
        shared / f"data/models/{name}.onnx",
        "grad-cam",
        preprocess=net.prepare,
        device="cpu",
        **options,
    )
    folder = shared / "data/images"
    for record in json.loads((folder / "coco/annotations.json").read_text())["images"]:
        for category, boxes in objects(record).items():
            if category in known:
                detected = detections(
                    explain, folder / record["file"], known[category], len(boxes), net.least
                )
                if detected:
                    yield from (max(overlap(box, b) for b in detected) for box in boxes)


def main(
    shared: Annotated[Path | None, typer.Option(help="Holds data/models and data/images.")] = None,
    only: Annotated[str, typer.Option(help="Models with this in their names.")] = "",
) -> None:
    warnings.simplefilter("ignore")
    shared = shared or DATA.parents[2] / "shared"
    print("| Model | objects | median IoU | above 0.5 |\n|---|---|---|---|")
    for name, net in DETECTORS.items():
        if only in name:
            ious = np.array(list(measure(name, net, shared)))
            share = np.mean(ious > 0.5)
            print(f"| {name} | {len(ious)} | {np.median(ious):.2f} | {share:.0%} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
