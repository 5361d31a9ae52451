"""Where the evidence of detectors and segmenters lies: the energy of maps inside the objects, layer by layer.

    python -m scripts.parity.energy                        # all models; a few minutes each
    python -m scripts.parity.energy --only yolox_nano --methods grad-cam,hires-cam

For every photograph with annotated instances, the class with the largest instances is explained by its label,
if the model detects it. The figure is the share of the map's sum inside the masks of that class, divided by
their share of the area: a flat map has 1. Prints the median over the photographs, and how many maps are empty.

Models and photographs are those of `../shared` beside the checkout, or of `--shared FOLDER`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

import onnxcam
from onnxcam.image.preprocess import Preprocessing
from scripts.fixtures.files import DATA

METHODS = "grad-cam,smooth-grad-cam++,grad-cam++,layer-cam,hires-cam"
FEW: dict[str, Any] = {"samples": 8}
LEAST_AREA, LARGEST_AREA = 0.005, 0.6  # of the masks; others say little
UNIT = Preprocessing(fit="squash")
IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), fit="squash")
SIGNED = Preprocessing(scale=127.5, mean=(1.0,), fit="squash")
BGR = Preprocessing(scale=1.0, order="bgr", fit="squash")
VOC = {  # names in the photographs' annotations: classes of the segmenters
    "bicycle": 2, "bird": 3, "bottle": 5, "bus": 6, "car": 7, "chair": 9, "dining table": 11, "dog": 12,
    "horse": 13, "motorcycle": 14, "person": 15, "potted plant": 16, "sheep": 17, "couch": 18, "train": 19,
    "tv": 20,
}  # fmt: skip
AUTO = ("auto",)


@dataclass(frozen=True)
class Net:
    """A model: its preprocessing, the file with its class names (VOC without one), the layers that are compared
    besides the automatic ones, and the score from which a class counts as detected.
    """

    prepare: Preprocessing
    labels: str | None
    layers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    least: float = 0.3


@dataclass(frozen=True)
class Case:
    """A photograph, a class of its instances, and their masks."""

    image: Path
    category: str
    mask: NDArray[np.bool_]


@dataclass
class Row:
    """The figures of one method at some layers."""

    energies: list[float] = field(default_factory=list)
    empty: int = 0


NETS = {
    "yolox_nano": Net(
        BGR,
        "coco80.txt",
        {
            "raw head": ("1158", "1166", "1174"),
            "class scores": ("1045", "1087", "1129"),
            "after one Conv of the class branch": ("1036", "1078", "1120"),
            "before the branches": ("1028", "1070", "1112"),
            "neck": ("956", "990", "1024"),
        },
    ),
    "ssd_mobilenet_v3_float_nhwc": Net(SIGNED, "coco91_with_background.txt"),
    "picodet_xs_320": Net(
        IMAGENET,
        "coco80.txt",
        {
            "raw head": tuple(f"sqrt_{grid}.tmp_0" for grid in range(4)),
            "before the branches": tuple(f"hardswish_{n}.tmp_0" for n in (100, 106, 112, 118)),
            "neck": (*(f"hardswish_{number}.tmp_0" for number in (80, 86, 92)), "tmp_0"),
        },
    ),
    "fastestdet": Net(
        Preprocessing(order="bgr", fit="squash"),
        "coco80.txt",
        {
            "raw head": ("758",),
            "before the branches": ("onnx::Conv_738",),
            "neck": ("onnx::Conv_735",),
        },
    ),
    "deeplabv3_dm05_float_logits_nhwc": Net(
        SIGNED,
        None,
        {
            "output": ("logits",),
            "before the scores": ("Relu__94:0",),
            "joined pyramid": ("concat_prequant",),
            "one branch of the pyramid": ("Relu__90:0",),
        },
        least=-np.inf,
    ),
    "espnetv2_s2_voc": Net(
        IMAGENET,
        None,
        {"output": ("logits",), "before the scores": ("prelu_63",), "decoder": ("prelu_60",)},
        least=-np.inf,
    ),
}


def cases(shared: Path) -> Iterator[Case]:
    """The classes of all photographs, and the birds and dogs of the two with masks of their own."""
    images = shared / "data/images"
    listed = json.loads((images / "coco/annotations.json").read_text())["images"]
    for record in listed:
        pixels = np.asarray(Image.open(images / record["instance_mask"]))
        values: dict[str, list[int]] = {}
        for instance in record["instances"]:
            if not instance["iscrowd"]:
                values.setdefault(instance["category"], []).append(instance["value"])
        for category, of_category in values.items():
            yield Case(images / record["file"], category, np.isin(pixels, of_category))
    for name, category, mask, value in (
        ("bird_segmentation.png", "bird", "bird_segmentation_mask.png", 3),
        ("samoyed.png", "dog", "samoyed_trimap.png", 0),
    ):
        pixels = np.asarray(Image.open(images / "free" / mask))
        yield Case(images / "free" / name, category, pixels == value)


def largest_detected(
    net: Net, known: dict[str, int], explain: Any, all_cases: Sequence[Case]
) -> list[Case]:
    """Of each photograph, the class that covers most of it and is detected."""
    best: dict[Path, Case] = {}
    for case in all_cases:
        if case.category not in known or not LEAST_AREA <= case.mask.mean() <= LARGEST_AREA:
            continue
        score = float(explain(case.image, target=known[case.category]).scores[0])
        area = best[case.image].mask.mean() if case.image in best else 0.0
        if score >= net.least and case.mask.mean() > area:
            best[case.image] = case
    return list(best.values())


def energy(saliency: NDArray[Any], mask: NDArray[np.bool_]) -> float | None:
    """The share of the map inside the mask over the share of the area; None for an empty map."""
    height, width = saliency.shape
    inside = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
    total = float(saliency.sum())
    return float((saliency * inside).sum()) / total / inside.mean() if total > 0 else None


def measure(
    net: Net, model: Path, shared: Path, methods: Sequence[str], count: int
) -> Iterator[str]:
    """A table in Markdown."""
    names = (shared / "data/labels" / net.labels).read_text().splitlines() if net.labels else []
    known = {name.strip(): index for index, name in enumerate(names)} if net.labels else VOC
    options: dict[str, Any] = {"preprocess": net.prepare, "device": "cpu"}
    chosen = largest_detected(
        net, known, onnxcam.Explainer(model, "grad-cam", **options), list(cases(shared))
    )[:count]
    area = np.median([case.mask.mean() for case in chosen])
    yield f"\n{model.stem}: {len(chosen)} photographs, median area {area:.2f}\n"
    yield "| layers | " + " | ".join(methods) + " |"
    yield "|---|" + "---|" * len(methods)
    for name, layers in {"automatic": AUTO, **net.layers}.items():
        figures = [
            _median(_row(model, method, layers, known, chosen, options)) for method in methods
        ]
        yield f"| {name} | " + " | ".join(figures) + " |"


def _row(
    model: Path,
    method: str,
    layers: tuple[str, ...],
    known: dict[str, int],
    chosen: list[Case],
    options: Any,
) -> Row:
    settings = {
        name: value for name, value in FEW.items() if name in onnxcam.METHODS[method].settings
    }
    layer = "auto" if layers == AUTO else list(layers)
    explain, row = onnxcam.Explainer(model, method, layer, **options, **settings), Row()
    for case in chosen:
        explanation = explain(case.image, target=known[case.category])
        share = energy(explanation.maps[0], case.mask)
        row.empty += share is None
        row.energies.append(1.0 if share is None else share)
    return row


def _median(row: Row) -> str:
    empty = f" ({row.empty} empty)" if row.empty else ""
    return f"{np.median(row.energies):.2f}{empty}"


def main(
    shared: Annotated[Path | None, typer.Option(help="Holds data/models and data/images.")] = None,
    only: Annotated[str, typer.Option(help="Models with this in their names.")] = "",
    methods: Annotated[str, typer.Option(help="Commas between.")] = METHODS,
    count: Annotated[int, typer.Option(help="At most so many photographs.")] = 100,
) -> None:
    warnings.simplefilter("ignore")
    shared = shared or DATA.parents[2] / "shared"
    for name, net in NETS.items():
        if only in name:
            model = shared / f"data/models/{name}.onnx"
            for line in measure(net, model, shared, methods.split(","), count):
                print(line, flush=True)


if __name__ == "__main__":
    typer.run(main)
