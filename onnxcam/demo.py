"""One picture of what onnxcam does: methods side by side, and maps of a part of the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from onnxcam.arrays import Floats
from onnxcam.atomic_write import atomic_write
from onnxcam.explain.explainer import Explainer
from onnxcam.explain.explanation import Explanation
from onnxcam.heads.score import find_score
from onnxcam.image import overlay
from onnxcam.image import text as lettering
from onnxcam.image.colormap import legend
from onnxcam.image.read import read
from onnxcam.methods import DEFAULT_METHOD
from onnxcam.model.image_input import image_input
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.spatial.layers import candidates, spatial_layers
from onnxcam.specs import Layer

LIKED = "05_hourglass.png"  # several instances of its class, and other things between them
METHODS = ("cam", "grad-cam", "grad-cam++", DEFAULT_METHOD)
COLUMNS, CELL, MARGIN = 5, 232, 32
TITLE, HEADING, PROSE, GAP = 40, 26, 16, 8  # pixels
BREAK = 28  # pixels above a heading
AROUND = 2  # cells on each side of a peak that belong to it


@dataclass(frozen=True)
class Row:
    """Pictures of one kind, each with its caption, and what they show."""

    title: str
    meaning: str
    panels: tuple[tuple[str, Image.Image], ...]


@dataclass(frozen=True)
class Demo:
    """The rows of the demonstration, and of which picture they are."""

    picture: Path
    answer: str
    rows: tuple[Row, ...]

    def sheet(self) -> Image.Image:
        """All of it as one picture."""
        bands = [
            *_headed("Where did the model look?", self.answer, TITLE),
            *(band for row in self.rows for band in _bands(row)),
            _key(),
        ]
        return _down(bands)

    def save(self, path: Path) -> Path:
        """Write the picture, whole or not at all. OutputError where that fails."""
        sheet = self.sheet()
        with atomic_write(path) as part:
            sheet.save(part, format="PNG")
        return path


def drawn(model: Path, pictures: Sequence[Path]) -> Demo:
    """The demonstration with a model that takes these pictures: the one with several instances of its
    class if it is among them, else the first.
    """
    picture = next((each for each in pictures if each.name == LIKED), pictures[0])
    loaded = load(model)
    layers = _layers(loaded)
    whole = Explainer(loaded, "grad-cam", layers[-1].name)(str(picture))
    answer = (
        f"{model.name} answers: {whole.targets[0]}. Yellow is the evidence for that answer. "
        "Every map below is of this one picture."
    )
    rows = (
        _methods(loaded, picture, layers[-2], layers[-1]),
        _of_layers(loaded, picture, layers),
        _of_feature_maps(loaded, picture, layers[-2]),
        _of_neurons(loaded, picture, layers[-1]),
    )
    return Demo(picture, answer, rows)


def _layers(model: Model) -> list[Layer]:
    """The last four layers that everything passes through, in the graph's order."""
    image, score = image_input(model), find_score(model)
    layers = candidates(model, spatial_layers(model, image.name, score.logits))
    return layers[: COLUMNS - 1][::-1]


def _methods(model: Model, picture: Path, earlier: Layer, last: Layer) -> Row:
    panels = [("the picture", _enlarged(read(picture)))]
    for method in METHODS:
        layer = last if method == "cam" else earlier
        found = Explainer(model, method, layer.name)(str(picture))
        panels.append((f"{method}{' (last layer only)' * (method == 'cam')}", _map(found)))
    return Row(
        "Four methods",
        f"At {earlier.name} ({_cells(earlier)} cells), the last layer where they differ: Grad-CAM weighs a "
        "feature map by its mean gradient, Grad-CAM++ by each of its cells, for several instances of a class, "
        "and Smooth Grad-CAM++ does so with derivatives averaged over noisy copies of the picture.",
        tuple(panels),
    )


def _of_layers(model: Model, picture: Path, layers: Sequence[Layer]) -> Row:
    panels = [("the picture", _enlarged(read(picture)))]
    for layer in layers:
        found = Explainer(model, DEFAULT_METHOD, layer.name)(str(picture))
        panels.append((f"{layer.name}, {_cells(layer)} cells", _map(found)))
    return Row(
        "A layer of your choice (--layer)",
        f"{DEFAULT_METHOD} from an early layer to the last: fine outlines first, more of the object later.",
        tuple(panels),
    )


def _of_feature_maps(model: Model, picture: Path, layer: Layer) -> Row:
    explainer = Explainer(model, DEFAULT_METHOD, layer.name)
    panels = [(f"all {layer.channels} feature maps", _map(explainer(str(picture))))]
    best = _heaviest(Explainer(model, "grad-cam++", layer.name), picture, layer)
    for chosen in (best[:COLUMNS], *([each] for each in best[: COLUMNS - 2])):
        explainer.channels = chosen
        alone = (
            f"only map {chosen[0]}" if len(chosen) == 1 else f"the {len(chosen)} that weigh most"
        )
        panels.append((alone, _map(explainer(str(picture)))))
    return Row(
        "Feature maps of your choice (--channels)",
        f"What some of the {layer.channels} feature maps of {layer.name} add, together and alone.",
        tuple(panels),
    )


def _of_neurons(model: Model, picture: Path, layer: Layer) -> Row:
    explainer = Explainer(model, DEFAULT_METHOD, layer.name)
    whole = explainer(str(picture))
    panels = [("all neurons", _map(whole))]
    for rows, columns in _peaks(whole.layer_maps[0]):
        explainer.region = f"{rows.start}:{rows.stop},{columns.start}:{columns.stop}"
        panels.append((f"--region {explainer.region}", _map(explainer(str(picture)))))
    return Row(
        "Neurons of your choice (--region)",
        f"What the neurons in a part of {layer.name} ({_cells(layer)} cells) add: one instance at a time.",
        tuple(panels),
    )


def _heaviest(explainer: Explainer, picture: Path, layer: Layer) -> list[int]:
    """The feature maps by how much evidence each gives alone, the most first."""
    evidence = []
    for channel in range(layer.channels if isinstance(layer.channels, int) else 0):
        explainer.channels = [channel]
        evidence.append(float(explainer(str(picture)).layer_maps.sum()))
    return [int(each) for each in np.argsort(evidence)[::-1]]


def _peaks(coarse: Floats) -> Iterator[tuple[slice, slice]]:
    """Cells around the strongest spots of a map, each spot outside of those before it."""
    left = np.array(coarse)
    for _ in range(COLUMNS - 1):
        y, x = (int(each) for each in np.unravel_index(left.argmax(), left.shape))
        rows = slice(max(y - AROUND, 0), min(y + AROUND + 1, left.shape[0]))
        columns = slice(max(x - AROUND, 0), min(x + AROUND + 1, left.shape[1]))
        left[rows, columns] = 0.0
        yield rows, columns


def _cells(layer: Layer) -> str:
    return " x ".join(map(str, layer.grid))


def _enlarged(picture: Image.Image) -> Image.Image:
    """At least as large as it is shown, so that the map over it is drawn without steps."""
    by = max(1, -(-CELL * 2 // max(picture.size)))
    return picture.resize((picture.width * by, picture.height * by), Image.Resampling.LANCZOS)


def _map(found: Explanation) -> Image.Image:
    original = found.images[0]
    large = _enlarged(original.image)
    left, top, right, bottom = (each * large.width / original.image.width for each in original.box)
    box = (left, top, min(right, large.width), min(bottom, large.height))
    return overlay.overlay(large, found.maps[0], box, opacity=0.75)


@dataclass(frozen=True)
class _Band:
    """A part of the sheet, moved so that its contents begin at the margin."""

    image: Image.Image
    above: int = GAP
    left: int = 0


def _bands(row: Row) -> list[_Band]:
    captions, panels = zip(*row.panels, strict=True)
    sheet = overlay.grid([list(panels)], column_titles=list(captions), cell=CELL)
    return [*_headed(row.title, row.meaning, HEADING), _Band(sheet)]


def _headed(title: str, prose: str, size: int) -> list[_Band]:
    width = COLUMNS * (CELL + GAP) - GAP
    heading, text = (
        lettering.strip(words, width, font) for words, font in ((title, size), (prose, PROSE))
    )
    return [_Band(heading, BREAK, -(size // 2)), _Band(text, -GAP, -(PROSE // 2))]


def _key() -> _Band:
    """The colours from no evidence to the most."""
    words = [lettering.strip(each, 116, PROSE) for each in ("no evidence", "the most")]
    placed = [(words[0], (0, 0)), (legend(width=256, height=16), (116, 6)), (words[1], (372, 0))]
    return _Band(_pasted(placed, (488, words[0].height)), BREAK, -(PROSE // 2))


def _down(bands: Sequence[_Band]) -> Image.Image:
    """The bands one under another, on white, with a margin around them."""
    placed: list[tuple[Image.Image, tuple[int, int]]] = []
    top = MARGIN - BREAK
    for band in bands:
        placed.append((band.image, (MARGIN + band.left, top + band.above)))
        top += band.above + band.image.height
    width = max(each.image.width for each in bands)
    return _pasted(placed, (width + 2 * MARGIN, top + MARGIN))


def _pasted(
    placed: Sequence[tuple[Image.Image, tuple[int, int]]], size: tuple[int, int]
) -> Image.Image:
    sheet = Image.new("RGB", size, lettering.PAPER)
    for each, corner in placed:
        sheet.paste(each, corner)
    return sheet
