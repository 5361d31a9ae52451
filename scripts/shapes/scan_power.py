"""How well subset scans tell unusual images, and groups of them, from clean ones: tables of AUC on generated
images.

    python -m scripts.shapes.scan_power            # ten minutes: 400 background images, 200 of each kind
    python -m scripts.shapes.scan_power --count 50

AUC is the share of pairs of an unusual and a clean image of which the unusual one has the smaller p-value; 0.5
is chance. All images are scanned against the same background, other images than those that are made unusual.
Groups of images, all of one kind, are compared by their scores, which their p-values follow.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
import typer
from numpy.typing import NDArray
from onnxruntime import quantization

from onnxcam.arrays import Floats
from onnxcam.explain.activations import open_activations, read_activations
from onnxcam.scanning.group_scores import at_levels, score_group
from onnxcam.scanning.reference import Members, Reference
from onnxcam.scanning.settings import ScanSettings
from scripts.shapes import anomalies
from scripts.shapes.anomalies import Pixels

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "shapes.onnx"
Rows: TypeAlias = list[tuple[Floats, int]]  # activations (C, h, w) and classes of images
LAYERS = ("relu_2", "relu_4", "relu_6", "relu_8")
DEQUANTIZED = "_DequantizeLinear_Output"  # what the quantized model reads in the place of a layer
LAST = LAYERS[-1]
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "alpha_max 0.5": {"alpha_max": 0.5},
    "alpha_max 0.02": {"alpha_max": 0.02},
    "higher criticism": {"statistic": "higher-criticism"},
    "left tail": {"tail": "left"},
    "both tails": {"tail": "both"},
    "same class": {"same_class": True},
    "same class, alpha_max 0.5": {"same_class": True, "alpha_max": 0.5},
    "same class, left tail": {"same_class": True, "tail": "left"},
    "same class, both tails, 0.5": {"same_class": True, "tail": "both", "alpha_max": 0.5},
}
OF_GROUPS = (
    "defaults",
    "alpha_max 0.5",
    "both tails",
    "same class",
    "same class, alpha_max 0.5",
    "same class, both tails, 0.5",
)
MEMBERS, GROUPS = 10, 40  # images of a group, and groups of each kind


def make_images(count: int) -> tuple[dict[str, Pixels], NDArray[np.bool_]]:
    """The kinds of images, the clean ones first, and where the foreign objects are."""
    usual = anomalies.clean_images(102, count)
    foreign, masks = anomalies.insert_discs(usual, 0)
    kinds = {
        "clean": usual,
        "foreign object": foreign,
        "noise 0.05": anomalies.add_noise(usual, 1, 0.05),
        "noise 0.1": anomalies.add_noise(usual, 1, 0.1),
        "FGSM 2/255": anomalies.attack(MODEL, usual, 2 / 255),
        "FGSM 8/255": anomalies.attack(MODEL, usual, 8 / 255),
        "random pixels": anomalies.random_pixels(usual, 2),
        "plain color": anomalies.plain_colors(usual, 3),
        "int8 model": usual,
    }
    return kinds, masks


class Calibration(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Images that set the ranges of the quantized model."""

    def __init__(self, images: Pixels) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, Pixels] | None:
        """The next image; None after the last."""
        image = next(self._images, None)
        return None if image is None else {"image": image[None]}


def quantize(path: Path, images: Pixels) -> Path:
    """The model with 8-bit weights and activations."""
    quantization.quantize_static(
        MODEL,
        path,
        Calibration(images),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    return path


def read(model: Path, layer: str, images: Pixels) -> Rows:
    """The activations and the class of images."""
    explainer = open_activations(model, layer, device="cpu")
    return [
        (row.activation, int(row.scores.argmax())) for row in read_activations(explainer, images)
    ]


def references_of(background: Rows, settings: ScanSettings) -> dict[int, Reference]:
    """What images are compared with, by their class, or all of them as class 0."""
    references: dict[int, Reference] = {}
    labels = {label if settings.same_class else 0 for _, label in background}
    for label in labels:
        chosen = [
            activation for activation, its in background if its == label or not settings.same_class
        ]
        members = Members(chosen[0].size, len(chosen))
        for activation in chosen:
            members.add(activation, ())
        if len(chosen) >= settings.needed:
            references[label] = Reference(members, settings)
    return references


def compare(background: Rows, rows: Rows, settings: ScanSettings) -> Floats:
    """(N,): the p-values of images; those of a class with too few background images count as the smallest."""
    references, p_values = references_of(background, settings), []
    for activation, its in rows:
        reference = references.get(its if settings.same_class else 0)
        p_values.append(reference.compare(activation, ()).p_value if reference else 0.0)
    return np.array(p_values)


def auc(p_values: Floats, clean: Floats) -> float:
    """The share of pairs in which the first has the smaller p-value; equal ones count half."""
    first, second = p_values[:, None], clean[None]
    return float((first < second).mean() + (first == second).mean() / 2)


def score_groups(references: dict[int, Reference], rows: Rows, settings: ScanSettings) -> Floats:
    """(groups, 2): the scores of the blocks, and those of all images, of random groups of images: of the same
    ones for all kinds, as far as they have enough background images.
    """
    levels = max(reference.background.levels for reference in references.values())
    ranks = []
    for activation, label in rows:
        reference = references.get(label if settings.same_class else 0)
        if reference is not None:
            own = reference.background.ranks(activation.reshape(1, -1))
            ranks.append(at_levels(own, reference.background.levels, levels)[0])
    random, scores = np.random.default_rng(0), []
    for _ in range(GROUPS):
        chosen = random.choice(len(ranks), MEMBERS, replace=len(ranks) < MEMBERS)
        result = score_group(np.stack([ranks[n] for n in chosen]), levels, settings)
        scores.append((result.block.score, result.common_score))
    return np.array(scores)


def group_lines(background: Rows, rows: dict[str, Rows]) -> Iterator[str]:
    """The lines of the table of groups."""
    names = [name for name in rows if name != "clean"]
    yield f"| {MEMBERS} images at `{LAST}` | {' | '.join(names)} |"
    yield "|---" * (len(names) + 1) + "|"
    for title in OF_GROUPS:
        settings = ScanSettings(**SETTINGS[title], restarts=0)
        references = references_of(background, settings)
        if not references:
            yield f"| {title}: too few background images |"
            continue
        clean = score_groups(references, rows["clean"], settings)
        cells = []
        for name in names:
            scores = score_groups(references, rows[name], settings)
            areas = (auc(-own, -usual) for own, usual in zip(scores.T, clean.T, strict=True))
            cells.append(" / ".join(f"{area:.2f}" for area in areas))
        yield f"| {title} | {' | '.join(cells)} |"


def mean_lines(background: Rows, rows: dict[str, Rows]) -> Iterator[str]:
    """The lines of both tables, if the nodes are the means of the feature maps."""
    usual, means = means_of(background), {name: means_of(own) for name, own in rows.items()}
    names = [name for name in rows if name != "clean"]
    yield ""
    yield f"| means at `{LAST}` | {' | '.join(names)} | clean: KS |"
    yield "|---" * (len(names) + 2) + "|"
    for title in OF_GROUPS:
        yield _line(title, usual, means, ScanSettings(**SETTINGS[title]))
    yield ""
    yield from group_lines(usual, means)


def means_of(rows: Rows) -> Rows:
    """The means (C, 1, 1) of the feature maps instead of the activations."""
    return [
        (activation.mean(axis=(1, 2), keepdims=True, dtype=np.float64), label)
        for activation, label in rows
    ]


def distance_from_uniform(p_values: Floats) -> float:
    """The statistic of Kolmogorov and Smirnov."""
    ordered = np.sort(p_values)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    return float(max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()))


def location(background: Rows, rows: Rows, masks: Any) -> float:
    """The mean AUC of the cells on foreign objects against the others, by the map of the scan."""
    members = Members(background[0][0].size, len(background))
    for activation, _ in background:
        members.add(activation, ())
    reference, areas = Reference(members, ScanSettings()), []
    for (activation, _), mask in zip(rows, masks, strict=True):
        height, width = activation.shape[1:]
        comparison = reference.compare(activation, ())
        subset = comparison.ranks <= comparison.alpha * comparison.levels * (1 + 1e-9)
        on_object = mask.reshape(height, len(mask) // height, width, -1).mean(axis=(1, 3)) > 0.5
        share = subset.mean(axis=0)
        areas.append(auc(-share[on_object], -share[~on_object]))
    return float(np.mean(areas))


def table(count: int, background_count: int) -> Iterator[str]:
    """The lines of the tables, in Markdown."""
    background = anomalies.clean_images(101, background_count)
    kinds, masks = make_images(count)
    names = [name for name in kinds if name != "clean"]
    with tempfile.TemporaryDirectory() as folder:
        quantized = quantize(Path(folder) / "int8.onnx", background[:64])
        yield f"| layer | {' | '.join(names)} | cells of the object | clean: KS |"
        yield "|---" * (len(names) + 3) + "|"
        for layer in LAYERS:
            usual = read(MODEL, layer, background)
            rows = {name: read(MODEL, layer, images) for name, images in kinds.items()}
            rows["int8 model"] = read(quantized, layer + DEQUANTIZED, kinds["int8 model"])
            yield _line(f"`{layer}`", usual, rows, ScanSettings(), masks)
    yield ""
    yield f"| at `{LAST}` | {' | '.join(names)} | clean: KS |"
    yield "|---" * (len(names) + 2) + "|"
    for name, changes in SETTINGS.items():
        yield _line(name, usual, rows, ScanSettings(**changes))
    yield ""
    yield from group_lines(usual, rows)
    yield from mean_lines(usual, rows)


def _line(
    title: str,
    background: Rows,
    rows: dict[str, Rows],
    settings: ScanSettings,
    masks: Any = None,
) -> str:
    p_values = {name: compare(background, own, settings) for name, own in rows.items()}
    clean = p_values.pop("clean")
    cells = [f"{auc(values, clean):.2f}" for values in p_values.values()]
    if masks is not None:
        cells.append(f"{location(background, rows['foreign object'], masks):.2f}")
    return f"| {title} | {' | '.join([*cells, f'{distance_from_uniform(clean):.3f}'])} |"


def main(
    count: Annotated[int, typer.Option(help="Images of each kind.")] = 200,
    background: Annotated[int, typer.Option(help="Background images.")] = 400,
) -> None:
    """Print the tables."""
    for line in table(count, background):
        print(line, flush=True)


if __name__ == "__main__":
    typer.run(main)
