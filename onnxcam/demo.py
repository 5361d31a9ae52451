"""One image that shows what onnxcam does: methods side by side, parts of the network, detections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from onnxcam.arrays import Floats
from onnxcam.atomic_write import atomic_write
from onnxcam.defaults import DEFAULT_METHOD
from onnxcam.embedding.metadata import OVERLAY, PIXELS, SALIENCY, TARGET, metadata_of
from onnxcam.errors import ModelError
from onnxcam.explain.explainer import Explainer
from onnxcam.explain.explanation import OPACITY, Explanation
from onnxcam.heads.score import find_score
from onnxcam.image import overlay
from onnxcam.image.colormap import legend
from onnxcam.image.read import read
from onnxcam.image.text import render_text
from onnxcam.methods import METHODS
from onnxcam.model.image_input import image_input
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.runtime.device import find_device
from onnxcam.runtime.session import open_session
from onnxcam.spatial.layers import candidates, spatial_layers
from onnxcam.specs import Layer

PREFERRED = "05_hourglass.png"  # several instances of its class, with other objects between them
ALL = "all"  # every detection
STRONG = 0.75  # opacity, since the maps of the sheet are small
AUTOMATIC = -1  # the class with the highest score
SHOWN = ("cam", "grad-cam", "grad-cam++", DEFAULT_METHOD)  # the sheet describes them in words
OF_DETECTIONS = SHOWN[
    1
]  # counts evidence against a detection, too, so that little of the map is elsewhere
WITHOUT_SAMPLES = SHOWN[2]  # the default method without noise, for many quick maps
COLUMNS, CELL, MARGIN = 5, 232, 32
TITLE, HEADING, PROSE, GAP = 40, 26, 16, 8  # pixels
BREAK = 28  # pixels above a heading
RADIUS = 2  # cells on each side of a peak that belong to it


@dataclass(frozen=True)
class Row:
    """One row of the sheet: a title, an explanation, and images with captions."""

    title: str
    meaning: str
    panels: tuple[tuple[str, Image.Image], ...]


@dataclass(frozen=True)
class Demo:
    """The rows of the demonstration, the image that they explain, and the model's answer."""

    image: Path
    answer: str
    rows: tuple[Row, ...]

    def sheet(self) -> Image.Image:
        """All rows as one image."""
        bands = [
            *_heading_bands("Where did the model look?", self.answer, TITLE),
            *(band for row in self.rows for band in _bands(row)),
            _color_key(),
        ]
        return _stack(bands)

    def save(self, path: Path) -> Path:
        """Write the sheet, completely or not at all. OutputError if that fails."""
        sheet = self.sheet()
        with atomic_write(path) as unfinished:
            sheet.save(unfinished, format="PNG")
        return path


def make_demo(model: Path, images: Sequence[Path], detector: Path, scene: Path) -> Demo:
    """The demonstration with a model and one of these images: the one with several instances of its class if it
    is among them, else the first. Its last row is of a detector and an image of several objects.
    """
    image = next((path for path in images if path.name == PREFERRED), images[0])
    loaded_model = load(model)
    layers = _last_bottlenecks(loaded_model)
    explanation = Explainer(loaded_model, WITHOUT_SAMPLES, layers[-1].name)(str(image))
    answer = (
        f'For the image at the top left, {model.name} answers "{explanation.targets[0]}". All maps show the '
        "evidence for that answer: the brighter, the more."
    )
    rows = (
        _method_row(loaded_model, image, layers[-2], layers[-1]),
        _layer_row(loaded_model, image, layers),
        _feature_map_row(loaded_model, image, layers[-2]),
        _region_row(loaded_model, image, layers[-1]),
        _detection_row(detector, scene),
    )
    return Demo(image, answer, rows)


def make_embedded_demo(explained: Path, model: Path, images: Sequence[Path]) -> Demo:
    """What a file with an explanation returns for some images, run with ONNX Runtime alone, next to the maps
    that onnxcam computes for its original, `model`. ModelError if there is no explanation in the file.
    """
    explanation = metadata_of(explained)
    if explanation is None or explanation.score is None or explanation.labels is None:
        raise ModelError(f"{explained}: holds no explanation of classes; install onnxcam again")
    settings = dict(explanation.settings)
    explainer = Explainer(model, explanation.method, list(explanation.layers), **settings)
    session = open_session(explained, find_device("cpu"))
    panels: list[tuple[str, Image.Image]] = []
    panels_of_python: list[tuple[str, Image.Image]] = []
    differences = []
    for path in images[:COLUMNS]:
        feeds = {PIXELS: np.asarray(read(path))[np.newaxis], TARGET: np.array([AUTOMATIC])}
        outputs = [explanation.score.output, SALIENCY, OVERLAY]
        scores, saliency, overlaid = (np.asarray(array) for array in session.run(outputs, feeds))
        drawn = overlay.enlarge(Image.fromarray(overlaid[0].astype(np.uint8)), CELL)
        panels.append((explanation.labels[int(scores.argmax())], drawn))
        expected = explainer(str(path))
        panels_of_python.append((expected.targets[0], _draw_map(expected, opacity=OPACITY)))
        differences.append(_relative_difference(saliency.astype(np.float64), expected.maps))
    rows = (
        Row(
            "The file alone",
            f"What {explained.name} returns when ONNX Runtime runs it: the class, the map, and the map drawn "
            "over the image. No other program is needed.",
            tuple(panels),
        ),
        Row(
            "The same in Python",
            f"What onnxcam computes for {model.name} by {explanation.method}, with the same noise. The "
            f"largest difference between the maps is {max(differences):.0e} of the largest value.",
            tuple(panels_of_python),
        ),
    )
    return Demo(images[0], f"{explained.name} returns its answer and where it looked.", rows)


def _relative_difference(first: Floats, second: Floats) -> float:
    """The largest difference, as a share of the largest value."""
    return float(np.abs(first - second).max() / np.abs(second).max())


def _last_bottlenecks(model: Model) -> list[Layer]:
    """The last layers that everything passes through, in the graph's order."""
    image, score = image_input(model), find_score(model)
    layers = candidates(model, spatial_layers(model, image.name, score.logits))
    return layers[: COLUMNS - 1][::-1]


def _method_row(model: Model, image: Path, earlier: Layer, last: Layer) -> Row:
    panels = [("the image", overlay.enlarge(read(image), CELL))]
    for method in SHOWN:
        is_limited = METHODS[method].check is not None  # to layers before a pooled linear head
        explanation = Explainer(model, method, (last if is_limited else earlier).name)(str(image))
        caption = f"{method} (last layer only)" if is_limited else method
        panels.append((caption, _draw_map(explanation)))
    return Row(
        "Four methods",
        f"At {earlier.name} ({_grid(earlier)} cells), the last layer where they differ. Grad-CAM weights a "
        "feature map by its mean gradient. Grad-CAM++ weights it by the positive gradients in its cells, to "
        "find all objects of a class. Smooth Grad-CAM++ first averages derivatives over noisy copies of the "
        "image.",
        tuple(panels),
    )


def _layer_row(model: Model, image: Path, layers: Sequence[Layer]) -> Row:
    panels = [("the image", overlay.enlarge(read(image), CELL))]
    for layer in layers:
        explanation = Explainer(model, DEFAULT_METHOD, layer.name)(str(image))
        panels.append((f"{layer.name}, {_grid(layer)} cells", _draw_map(explanation)))
    return Row(
        "A layer of your choice (--layer)",
        f"{DEFAULT_METHOD} at layers from early to late. Early layers show fine outlines, later ones more of "
        "each object.",
        tuple(panels),
    )


def _feature_map_row(model: Model, image: Path, layer: Layer) -> Row:
    explainer = Explainer(model, DEFAULT_METHOD, layer.name)
    panels = [(f"all {layer.channels} feature maps", _draw_map(explainer(str(image))))]
    best = _rank_channels(Explainer(model, WITHOUT_SAMPLES, layer.name), image, layer)
    for channels in (best[:COLUMNS], *([channel] for channel in best[: COLUMNS - 2])):
        count = len(channels)
        caption = f"only map {channels[0]}" if count == 1 else f"the {count} that contribute most"
        panels.append((caption, _draw_map(explainer(str(image), channels=channels))))
    return Row(
        "Feature maps of your choice (--channels)",
        f"What some of the {layer.channels} feature maps of {layer.name} contribute, together and one at a "
        "time.",
        tuple(panels),
    )


def _region_row(model: Model, image: Path, layer: Layer) -> Row:
    explainer = Explainer(model, DEFAULT_METHOD, layer.name)
    explanation = explainer(str(image))
    panels = [("all cells", _draw_map(explanation))]
    for rows, columns in _peak_regions(explanation.layer_maps[0]):
        region = f"{rows.start}:{rows.stop},{columns.start}:{columns.stop}"
        panels.append((f"--region {region}", _draw_map(explainer(str(image), region=region))))
    return Row(
        "Cells of your choice (--region)",
        f"What the cells in one region of {layer.name} ({_grid(layer)} cells) contribute: one object at a "
        "time.",
        tuple(panels),
    )


def _detection_row(detector: Path, scene: Path) -> Row:
    explanation = Explainer(load(detector), OF_DETECTIONS)(str(scene), ALL)
    panels = [("the image", overlay.enlarge(read(scene), CELL))]
    for index in range(min(len(explanation), COLUMNS - 1)):
        caption = explanation.targets[index]
        if explanation.probabilities is not None:
            caption = f"{caption} {explanation.probabilities[index]:.2f}"
        panels.append((caption, _draw_map(explanation, index)))
    return Row(
        "Detections (--target all)",
        f"What {detector.name} finds in another image, one map of {OF_DETECTIONS} for each box. A map is not "
        "cut at its box, which only chooses what is explained.",
        tuple(panels),
    )


def _rank_channels(explainer: Explainer, image: Path, layer: Layer) -> list[int]:
    """The feature maps in the order of the evidence that each contributes alone, most first."""
    evidence = []
    for channel in range(layer.channels if isinstance(layer.channels, int) else 0):
        explanation = explainer(str(image), channels=[channel])
        evidence.append(float(explanation.layer_maps.sum()))
    return [int(channel) for channel in np.argsort(evidence)[::-1]]


def _peak_regions(layer_map: Floats) -> Iterator[tuple[slice, slice]]:
    """The cells around the strongest peaks of a map, each peak outside the cells of those before it."""
    remaining = np.array(layer_map)
    height, width = remaining.shape
    for _ in range(COLUMNS - 1):
        y, x = map(int, np.unravel_index(remaining.argmax(), remaining.shape))
        rows = slice(max(y - RADIUS, 0), min(y + RADIUS + 1, height))
        columns = slice(max(x - RADIUS, 0), min(x + RADIUS + 1, width))
        remaining[rows, columns] = 0.0
        yield rows, columns


def _grid(layer: Layer) -> str:
    return " x ".join(map(str, layer.grid))


def _draw_map(explanation: Explanation, index: int = 0, opacity: float = STRONG) -> Image.Image:
    original = explanation.images[index]
    large = overlay.enlarge(original.image, CELL)
    scale = large.width / original.image.width
    left, top, right, bottom = (edge * scale for edge in original.box)
    frame = explanation.marks[index].box if explanation.marks else None
    if frame is not None:
        frame = (frame[0] * scale, frame[1] * scale, frame[2] * scale, frame[3] * scale)
    box = (left, top, right, bottom)
    return overlay.overlay(large, explanation.maps[index], box, opacity=opacity, frame=frame)


@dataclass(frozen=True)
class _Band:
    """An image on the sheet: `above` is the space above it, `left` its offset from the margin, in pixels."""

    image: Image.Image
    above: int = GAP
    left: int = 0


def _bands(row: Row) -> list[_Band]:
    captions, panels = zip(*row.panels, strict=True)
    sheet = overlay.grid([list(panels)], column_titles=list(captions), cell=CELL)
    return [*_heading_bands(row.title, row.meaning, HEADING), _Band(sheet)]


def _heading_bands(title: str, prose: str, size: int) -> list[_Band]:
    width = COLUMNS * (CELL + GAP) - GAP
    heading, text = (
        render_text(words, width, font) for words, font in ((title, size), (prose, PROSE))
    )
    return [_Band(heading, BREAK, -(size // 2)), _Band(text, -GAP, -(PROSE // 2))]


def _color_key() -> _Band:
    """The color scale, from no evidence to the most."""
    words = [render_text(text, 116, PROSE) for text in ("no evidence", "the most")]
    pasted = [(words[0], (0, 0)), (legend(width=256, height=16), (116, 6)), (words[1], (372, 0))]
    return _Band(overlay.compose(pasted, (488, words[0].height)), BREAK, -(PROSE // 2))


def _stack(bands: Sequence[_Band]) -> Image.Image:
    """The bands below each other, on white, with a margin around them."""
    placed: list[tuple[Image.Image, tuple[int, int]]] = []
    top = MARGIN - BREAK
    for band in bands:
        placed.append((band.image, (MARGIN + band.left, top + band.above)))
        top += band.above + band.image.height
    width = max(band.image.width for band in bands)
    return overlay.compose(placed, (width + 2 * MARGIN, top + MARGIN))
