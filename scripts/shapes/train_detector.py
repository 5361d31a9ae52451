"""Train the bundled detector on the CPU and write models/shapes-detector.onnx, its sample and its model card.

Needs the extra `train`. Everything is seeded; what is committed comes from running this script with its
defaults, about six minutes on two cores.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from onnxcam.digests import digest_bytes
from scripts.shapes.average_precision import average_precisions, detect
from scripts.shapes.detector import SIZE, STRIDES, DetectorNet, detection_loss
from scripts.shapes.drawing import CLASSES
from scripts.shapes.exporting import IMAGE_METADATA, export, fold_batch_norms
from scripts.shapes.model_card import MODELS, write_section
from scripts.shapes.scenes import Scene, draw_labels, draw_scene

NAME = "shapes-detector"
METADATA = {  # the keys that exporters of YOLO models write
    "description": "one-stage detector of ten shapes",
    "license": "Apache-2.0",
    "task": "detect",
    "stride": str(max(STRIDES)),
    "imgsz": str([SIZE, SIZE]),
    "names": str(dict(enumerate(CLASSES))),
    **IMAGE_METADATA,
}
TRAIN_SEED, HELD_OUT_SEED, SAMPLE_SEED = 11, 12, 13
MOST_OBJECTS = 6
WORKERS = 2


@dataclass(frozen=True)
class Settings:
    images: int = 6_000
    held_out: int = 500
    epochs: int = 10
    batch: int = 32
    rate: float = 4e-3
    decay: float = 0.05
    seed: int = 0


@dataclass(frozen=True)
class Examples:
    """Images (N, 3, S, S) uint8 with boxes (N, K, 4) and classes (N, K) of their objects; `is_object` (N, K) is
    False for rows that only fill up."""

    images: Tensor
    boxes: Tensor
    labels: Tensor
    is_object: Tensor

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Some of the images as floats in [0, 1], turned and mirrored at random, with their objects."""
        images, boxes = vary(self.images[rows].float() / 255, self.boxes[rows])
        return images, boxes, self.labels[rows], self.is_object[rows]


def draw_one(seed: int, index: int) -> Scene:
    rng = np.random.default_rng((seed, index))
    return draw_scene(rng, SIZE, draw_labels(rng, MOST_OBJECTS))


def draw_scenes(seed: int, count: int) -> list[Scene]:
    """Every scene has a generator of its own, so the number of workers changes nothing."""
    with Pool(WORKERS) as pool:
        return pool.map(partial(draw_one, seed), range(count), chunksize=50)


def to_examples(scenes: Sequence[Scene]) -> Examples:
    """The scenes as tensors, objects filled up with rows of zeros."""
    count = len(scenes)
    boxes, labels = torch.zeros(count, MOST_OBJECTS, 4), torch.zeros(count, MOST_OBJECTS).long()
    is_object = torch.zeros(count, MOST_OBJECTS, dtype=torch.bool)
    for row, scene in enumerate(scenes):
        objects = len(scene.labels)
        boxes[row, :objects] = torch.from_numpy(scene.boxes)
        labels[row, :objects] = torch.from_numpy(scene.labels)
        is_object[row, :objects] = True
    images = torch.from_numpy(np.stack([scene.pixels for scene in scenes])).permute(0, 3, 1, 2)
    return Examples(images, boxes, labels, is_object)


def vary(images: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Mirror a batch in both directions and along the diagonal, and swap its colors, each by chance."""
    x0, y0, x1, y1 = boxes.unbind(-1)
    if torch.rand(()) < 0.5:
        images, x0, x1 = images.flip(3), SIZE - x1, SIZE - x0
    if torch.rand(()) < 0.5:
        images, y0, y1 = images.flip(2), SIZE - y1, SIZE - y0
    if torch.rand(()) < 0.5:
        images, x0, y0, x1, y1 = images.transpose(2, 3), y0, x0, y1, x1
    return images[:, torch.randperm(3)], torch.stack((x0, y0, x1, y1), -1)


def train(examples: Examples, settings: Settings) -> DetectorNet:
    """Fit a fresh DetectorNet with AdamW on a one-cycle schedule."""
    torch.manual_seed(settings.seed)
    net = DetectorNet().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), settings.rate, weight_decay=settings.decay)
    steps = settings.epochs * -(-len(examples.images) // settings.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.rate, steps)
    for epoch in range(settings.epochs):
        losses = []
        for rows in torch.randperm(len(examples.images)).split(settings.batch):
            images, *objects = examples.batch(rows)
            loss = detection_loss(
                net, images.contiguous(memory_format=torch.channels_last), *objects
            )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1:2d}: loss {np.mean(losses):.4f}", flush=True)
    return net.eval()


def run_model(path: Path, images: Tensor) -> NDArray[np.float32]:
    """The output (N, 4 + C, n) of the exported model for (N, 3, S, S) uint8 images."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    parts = (images.float() / 255).split(50)
    return np.concatenate([session.run(None, {"images": part.numpy()})[0] for part in parts])


def measure(outputs: NDArray[np.float32], scenes: Sequence[Scene]) -> list[float]:
    """The average precision of each class at an overlap of 0.5."""
    detections = [detect(numbers) for numbers in outputs]
    return average_precisions(
        detections, [(scene.boxes, scene.labels) for scene in scenes], len(CLASSES)
    )


def write_sample(folder: Path, seed: int = SAMPLE_SEED) -> Scene:
    """Write an image with an object of each of several classes and two of one: `scene.png`."""
    rng = np.random.default_rng(seed)
    labels = [CLASSES.index(name) for name in ("star", "disc", "heart", "star", "arrow", "ring")]
    scene = draw_scene(rng, SIZE, labels)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene.pixels).save(folder / "scene.png", optimize=True)
    return scene


CARD = """\
## shapes-detector.onnx

A small detector of the same ten classes, in the manner of YOLOv8.

| | |
|---|---|
| Input | `images`, float32 (batch, 3, {size}, {size}), RGB in [0, 1] |
| Output | `output0`, float32 (batch, 14, 320): center x, center y, width and height in pixels, then ten \
scores after a Sigmoid, at 16 x 16 positions of stride 8 and then at 8 x 8 of stride 16 |
| Architecture | 3x3 convolutions of 16, 32, 48 and 64 channels, each of stride 2, two with a residual block; \
features of both strides exchanged; two convolutions for boxes and two for scores, shared by the strides |
| Parameters | {parameters:,} in training; the export folds BatchNorm into the convolutions |
| ONNX | opset 18, {bytes:,} bytes, one file |
| Metadata | `task`, `names`, `stride` and `imgsz`, as exporters of YOLO models write them, and the `Image.*` \
keys of the ONNX standard |
| License | Apache-2.0: the model and the images |
| SHA-256 | `{sha256}` |

**Held-out mAP50: {mean:.1%}** on {held_out:,} images of another seed, measured on the exported file with ONNX
Runtime. No number of the output differs from PyTorch's by more than {difference:.1e}.

By class: {by_class}.

`scripts/shapes/scenes.py` draws the images: one to {most} objects of any classes on textured grounds with up to
four lines, scribbles and blobs. `detector/scene.png` is one of another seed.

Training: {images:,} images (seed {train_seed}; held out: seed {held_out_seed}), {epochs} epochs in batches of
{batch}, with random mirrors, quarter turns and color swaps; AdamW (weight decay {decay}) on a one-cycle
schedule up to a rate of {rate}, seed {seed}, one thread, PyTorch {torch}. Another CPU may round
differently and end with slightly different weights."""


def _facts(path: Path, precisions: Sequence[float], difference: float) -> dict[str, object]:
    content = path.read_bytes()
    shares = zip(CLASSES, precisions, strict=True)
    return {
        "size": SIZE,
        "parameters": sum(parameter.numel() for parameter in DetectorNet().parameters()),
        "bytes": len(content),
        "sha256": digest_bytes(content),
        "mean": float(np.mean(precisions)),
        "by_class": ", ".join(f"{name} {share:.1%}" for name, share in shares),
        "difference": difference,
        "most": MOST_OBJECTS,
        "train_seed": TRAIN_SEED,
        "held_out_seed": HELD_OUT_SEED,
        "torch": torch.__version__,
    }


def _arguments() -> tuple[Settings, Path]:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in asdict(Settings()).items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=type(value), default=value, help=f"default {value}")
    parser.add_argument("--out", type=Path, default=MODELS, help="folder to write to")
    arguments = vars(parser.parse_args())
    out = arguments.pop("out")
    return Settings(**arguments), out


def main() -> None:
    """Draw, train, export, check, and write the sample and the model card."""
    settings, out = _arguments()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    start = time.perf_counter()
    held_out = draw_scenes(HELD_OUT_SEED, settings.held_out)
    examples = to_examples(draw_scenes(TRAIN_SEED, settings.images))
    print(f"{settings.images} + {settings.held_out} images: {time.perf_counter() - start:.0f} s")
    net = train(examples, settings)
    path = out / f"{NAME}.onnx"
    example = torch.zeros(2, 3, SIZE, SIZE)
    export(fold_batch_norms(net), {"images": example}, ["output0"], path, METADATA, NAME)
    images = to_examples(held_out).images
    outputs = run_model(path, images)
    with torch.no_grad():
        difference = float(np.abs(net(images[:50].float() / 255).numpy() - outputs[:50]).max())
    precisions = measure(outputs, held_out)
    write_sample(out / "detector")
    facts = _facts(path, precisions, difference)
    write_section(out, NAME, CARD.format(**{**asdict(settings), **facts}))
    print(f"held-out mAP50 {facts['mean']:.2%}, {time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
