"""Tables of how well maps cover the objects: on fresh images of the shapes model, and on photographs.

    python -m scripts.shapes.measure shapes                 # 200 images with several instances
    python -m scripts.shapes.measure photographs DATA       # real models and photographs with instance masks

The rows compare variants of Smooth Grad-CAM++ with the other methods: at the last layer, at the last
layer whose gradient depends on the image, and with the activation averaged over the noisy samples.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

import onnxcam
from onnxcam.image.preprocess import Preprocessing
from onnxcam.model.model import Model
from scripts.shapes.drawing import draw
from scripts.shapes.localization import Figures, Mask, figures, mean

ROOT = Path(__file__).resolve().parents[2]
FRESH = 20261121  # a seed that neither training nor testing of the model used


@dataclass(frozen=True)
class Row:
    """One contestant: a method, at the "last" or the last "dependent" layer, and its settings."""

    method: str
    where: str
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        more = "".join(f" {key}={value}" for key, value in self.settings.items())
        return f"{self.method}{more} @ {self.where}"


ROWS = [
    Row("cam", "last", {}),
    Row("grad-cam", "last", {}),
    Row("grad-cam++", "last", {}),
    Row("smooth-grad-cam++", "last", {}),
    Row("smooth-grad-cam++", "last", {"numerator": "d1"}),
    Row("smooth-grad-cam++", "last", {"activation": "mean"}),
    Row("grad-cam", "dependent", {}),
    Row("grad-cam++", "dependent", {}),
    Row("smooth-grad-cam++", "dependent", {}),
    Row("smooth-grad-cam++", "dependent", {"numerator": "d1"}),
    Row("smooth-grad-cam++", "dependent", {"score": "exp"}),
    Row("smooth-grad-cam++", "dependent", {"activation": "mean"}),
]


@dataclass(frozen=True)
class Case:
    """An image, the class that is explained, and the masks of its instances."""

    image: Image.Image
    target: int
    masks: Mask


def explainers(model: Model, **shared: Any) -> Iterator[tuple[Row, onnxcam.Explainer]]:
    """An explainer for each row that the model takes."""
    listed = onnxcam.layers(model)
    last = next(layer.name for layer in listed if layer.automatic)
    dependent = next(layer.name for layer in listed if layer.auto_for_smoothing)
    print(f"{model.name}: last layer {last}, last dependent layer {dependent}")
    for row in ROWS:
        layer = dependent if row.where == "dependent" else last
        settings = dict(row.settings)
        score = settings.pop("score", "logit")
        try:
            yield (
                row,
                onnxcam.Explainer(model, row.method, layer, score=score, **settings, **shared),
            )
        except onnxcam.OnnxcamError as reason:
            print(f"  {row.name}: left out ({reason})")


def measure(explainer: onnxcam.Explainer, cases: Iterable[Case]) -> list[Figures]:
    """The figures of one explainer over all cases."""
    results = []
    for case in cases:
        explanation = explainer(case.image, target=case.target)
        results.append(figures(explanation.maps[0], explanation.layer_maps[0], case.masks))
    return results


def recognize(model: Model, cases: Iterable[Case], top: int, **shared: Any) -> list[Case]:
    """The cases whose class the model ranks among its first `top`: a map of another says nothing."""
    explainer = onnxcam.Explainer(model, "grad-cam", **shared)
    recognized = []
    for case in cases:
        ranked = explainer([case.image] * top, target=[f"top{k + 1}" for k in range(top)])
        if case.target in ranked.indices:
            recognized.append(case)
    return recognized


def report(rows: dict[str, list[Figures]]) -> None:
    """Print a table, one line a row."""
    names = list(Figures.__dataclass_fields__)
    print(f"\n{'':52}" + "".join(f"{name:>10}" for name in names))
    for name, results in rows.items():
        print(f"{name:52}" + "".join(f"{value:10.3f}" for value in mean(results).values()))


app = typer.Typer(add_completion=False, help=__doc__, rich_markup_mode=None)


@app.command()
def shapes(
    count: Annotated[int, typer.Option(help="Images.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the images.")] = FRESH,
) -> None:
    """Fresh images with two to four instances, for the model in models/."""
    draws = np.random.default_rng(seed)
    images = [draw(draws, instances=2 + i % 3) for i in range(count)]
    cases = [Case(Image.fromarray(p.pixels), p.label, p.masks) for p in images]
    model = onnxcam.load(ROOT / "models" / "shapes.onnx")
    report({row.name: measure(explainer, cases) for row, explainer in explainers(model)})


REAL = {  # model: its preprocessing as its makers give it, and what is added to an ImageNet index
    "mobilenet_v2_1.0_224_float_nhwc": ("tf", 1),
    "mobilenet_v1_0.25_128_float_nhwc": ("tf", 1),
    "mobilenet_edgetpu_0.75_float_nhwc": ("tf", 1),
    "mcunet_320kb_fp32": ("tf", 0),
    "squeezenet1.0_dc": ("caffe", 0),
    "tiny_darknet": ("unit", 0),
    "shufflenet_v2_float": ("imagenet", 0),
}


@app.command()
def photographs(
    data: Annotated[Path, typer.Argument(help="The folder with models/ and images/coco/.")],
    only: Annotated[str, typer.Option(help="Only models with this in their names.")] = "",
) -> None:
    """Photographs with instance masks, for every real classifier."""
    everything: dict[str, list[Figures]] = {}
    for name, (preset, offset) in REAL.items():
        if only not in name:
            continue
        model = onnxcam.load(data / "models" / f"{name}.onnx")
        image = next(iter(model.graph.inputs)).shape
        size = (int(image[2]), int(image[2]))
        chosen = onnxcam.PRESETS[preset]
        squash = Preprocessing(chosen.scale, chosen.mean, chosen.std, chosen.order, "squash")
        cases = recognize(model, _photographs(data, offset, size), 5, preprocess=squash)
        print(f"\n{name}: {len(cases)} images whose class is among its first five")
        rows = {
            row.name: measure(explainer, cases)
            for row, explainer in explainers(model, preprocess=squash)
        }
        report(rows)
        for row, results in rows.items():
            everything.setdefault(row, []).extend(results)
    print("\nAll models together")
    report(everything)


def _photographs(data: Path, offset: int, size: tuple[int, int]) -> Iterator[Case]:
    """One case for each image and class that a classifier knows, masks squashed to the model's size."""
    listed = json.loads((data / "images/coco/annotations.json").read_text())["images"]
    for record in listed:
        pixels = Image.open(data / "images" / record["instance_mask"])
        small = np.asarray(pixels.resize(size[::-1], Image.Resampling.NEAREST))
        for hit in record["classifier_hits"]:
            masks = [
                small == instance["value"]
                for instance in record["instances"]
                if instance["category"] == hit["category"] and not instance["iscrowd"]
            ]
            masks = [mask for mask in masks if mask.sum() >= 0.002 * mask.size]
            if masks:
                image = Image.open(data / "images" / record["file"])
                yield Case(image, hit["imagenet_index"] + offset, np.stack(masks))


if __name__ == "__main__":
    sys.exit(app())
