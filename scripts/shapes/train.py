"""Train the bundled shapes model on the CPU and write models/: the .onnx, samples and README.

Needs the extra `train`. Everything is seeded; what is committed under models/ comes from running
this script with its defaults, about fifteen minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from onnxcam.digests import digest_bytes
from scripts.shapes.drawing import CLASSES, SIZE, ShapeImage, draw
from scripts.shapes.exporting import IMAGE_METADATA, export
from scripts.shapes.model_card import MODELS, write_section

METADATA = {**IMAGE_METADATA, "names": json.dumps(CLASSES)}
TRAIN_SEED, HELD_OUT_SEED, SAMPLE_SEED = 1, 2, 3
SAMPLE_INSTANCES = (2, 3, 4, 2, 3, 4, 2, 3, 2, 3, 1, 4)
WORKERS, SMOOTHING = 2, 0.05


@dataclass(frozen=True)
class Settings:
    images: int = 12_000
    held_out: int = 2_000
    epochs: int = 22
    batch: int = 64
    rate: float = 4e-3
    decay: float = 0.05
    seed: int = 0


def _draw_one(seed: int, index: int) -> tuple[NDArray[np.uint8], int, int]:
    image = draw(np.random.default_rng((seed, index)))
    return image.pixels, image.label, len(image.masks)


def draw_set(seed: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw images (N, 3, S, S) uint8, their labels (N,) and instance counts (N,), both int64.

    Every image has a generator of its own, so the number of workers changes nothing.
    """
    with Pool(WORKERS) as pool:
        drawn = pool.map(partial(_draw_one, seed), range(count), chunksize=100)
    pixels, labels, instances = zip(*drawn, strict=True)
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    return images, torch.tensor(labels), torch.tensor(instances)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Block(nn.Module):  # type: ignore[misc] # torch is not there when the types are checked
    """Two 3x3 convolutions and a shortcut, a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _conv(inputs, outputs, 3, stride)
        self.second = _conv(outputs, outputs, 3)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else _conv(inputs, outputs, 1, stride)

    def forward(self, features: Tensor) -> Tensor:
        hidden = torch.relu(self.first(features))
        return torch.relu(self.second(hidden) + self.shortcut(features))


class ShapesNet(nn.Module):  # type: ignore[misc]
    """(N, 3, 112, 112) RGB in [0, 1] to (N, 10) logits; its last feature map is (N, 64, 14, 14)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 24, 3, stride=2)
        self.blocks = nn.Sequential(
            Block(24, 32, stride=2),
            Block(32, 32, stride=1),
            Block(32, 64, stride=2),
            Block(64, 64, stride=1),
        )
        self.head = nn.Linear(64, len(CLASSES))

    def forward(self, image: Tensor) -> Tensor:
        centered = (image - 0.5) * 4.0
        features = self.blocks(torch.relu(self.stem(centered)))
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


def _vary(images: Tensor) -> Tensor:
    """Turn and mirror a batch, and swap its colors; none of the classes minds."""
    turned = torch.rot90(images, int(torch.randint(4, ())), (2, 3))
    mirrored = turned.flip(3) if torch.rand(()) < 0.5 else turned
    return mirrored[:, torch.randperm(3)]


def _batches(images: Tensor, labels: Tensor, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    for rows in torch.randperm(len(images)).split(batch):
        chosen = _vary(images[rows].float() / 255)
        yield chosen.contiguous(memory_format=torch.channels_last), labels[rows]


def train(images: Tensor, labels: Tensor, settings: Settings) -> ShapesNet:
    """Fit a fresh ShapesNet with AdamW on a one-cycle schedule."""
    torch.manual_seed(settings.seed)
    net = ShapesNet().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), settings.rate, weight_decay=settings.decay)
    steps = settings.epochs * -(-len(images) // settings.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.rate, steps)
    for epoch in range(settings.epochs):
        total = 0.0
        for batch, target in _batches(images, labels, settings.batch):
            loss = nn.functional.cross_entropy(net(batch), target, label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(target)
        print(f"epoch {epoch + 1:2d}: loss {total / len(images):.4f}", flush=True)
    return net.eval()


def logits_of(path: Path, images: Tensor) -> NDArray[np.float32]:
    """Run the exported model over (N, 3, S, S) uint8 images: (N, classes)."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    runs = [
        session.run(None, {"image": part.numpy()}) for part in (images.float() / 255).split(250)
    ]
    return np.concatenate([run[0] for run in runs])


def check_export(net: ShapesNet, path: Path, images: Tensor) -> float:
    """Return the largest difference of a logit between torch and ONNX Runtime."""
    with torch.no_grad():
        expected = net(images.float() / 255).numpy()
    difference = float(np.abs(logits_of(path, images) - expected).max())
    if difference > 1e-4:
        raise SystemExit(
            f"exported logits differ from torch by {difference}, expected at most 1e-4"
        )
    return difference


def write_samples(folder: Path) -> list[tuple[str, ShapeImage]]:
    """Write NN_class.png and NN_class.mask.png; return the names with the images."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    rng = np.random.default_rng(SAMPLE_SEED)
    samples = []
    for index, instances in enumerate(SAMPLE_INSTANCES):
        image = draw(rng, label=index % len(CLASSES), instances=instances)
        name = f"{index:02d}_{CLASSES[image.label]}"
        numbers = np.arange(1, instances + 1, dtype=np.uint8)[:, None, None]
        Image.fromarray(image.pixels).save(folder / f"{name}.png", optimize=True)
        Image.fromarray((image.masks * numbers).max(0)).save(folder / f"{name}.mask.png")
        samples.append((name, image))
    return samples


def _sample_rows(samples: list[tuple[str, ShapeImage]], path: Path) -> str:
    pixels = np.stack([image.pixels for _, image in samples])
    scores = logits_of(path, torch.from_numpy(pixels).permute(0, 3, 1, 2))
    shares = torch.from_numpy(scores).softmax(1).numpy()
    rows = []
    for (name, image), share in zip(samples, shares, strict=True):
        others = ", ".join(CLASSES[kind] for kind in image.distractor_labels) or "none"
        answer = f"{CLASSES[int(share.argmax())]} ({share.max():.2f})"
        rows.append(f"| `{name}` | {len(image.masks)} | {others} | {answer} |")
    return "\n".join(rows)


CARD = """\
## shapes.onnx

A small residual network that names the class of object which covers the largest area of an image.

| | |
|---|---|
| Classes, in order of the logits | {classes} |
| Input | `image`, float32 (batch, 3, {size}, {size}), RGB in [0, 1]; the model itself centers and scales it |
| Output | `logits`, float32 (batch, {count}), no softmax |
| Architecture | 3x3 stem of 24 channels, stride 2; four residual blocks of two 3x3 convolutions \
of 32 (stride 2), 32, 64 (stride 2) and 64 channels, ReLU; global average pool; one linear layer |
| Last feature map | (batch, 64, 14, 14), the output of the last ReLU |
| Parameters | {parameters:,} in training; the export folds BatchNorm into the convolutions |
| ONNX | opset {opset}, IR version {ir}, {bytes:,} bytes, one file |
| Metadata | `names` (JSON list of the classes) and the `Image.*` keys of the ONNX standard |
| License | Apache-2.0: the model, the images and the masks |
| SHA-256 | `{sha256}` |

**Held-out top-1 accuracy: {accuracy:.2%}** of {held_out:,} images of another seed, measured on
the exported file with ONNX Runtime ({crowd:.2%} of the {crowd_count:,} of them that show two
instances or more). No logit of these differs from PyTorch's by more than {difference:.1e}.

By class: {by_class}.

## The images

`scripts/shapes/drawing.py` draws them: one to four instances of the labeled class and up to three
distractors, each of another class and of at most 40 % of the labeled area, in random sizes,
angles, colors and textures, over textured backgrounds with lines, scribbles and blobs. Background
and clutter do not depend on the label.

Training: {images:,} images (seed {train_seed}; held out: seed {held_out_seed}), {epochs} epochs
in batches of {batch}, with random quarter turns, mirrors and color swaps; AdamW (weight decay
{decay}) on a one-cycle schedule up to a rate of {rate}, label smoothing {smoothing}, seed {seed},
2 threads, PyTorch {torch}. Another CPU may round differently and end with slightly different weights.

## samples

Images of seed {sample_seed}, which are in neither set. `NN_class.png` is the image. `NN_class.mask.png`
(8 bits) is 1 to K on the visible pixels of the K instances of the class, 0 on the background *and*
on the distractors.

| sample | instances | distractors | answer of the model (softmax) |
|---|---|---|---|
{samples}
"""


def _facts(path: Path, images: Tensor, labels: Tensor, instances: Tensor) -> dict[str, object]:
    """What the README says of the file and of its accuracy on the held-out images."""
    right = logits_of(path, images).argmax(1) == labels.numpy()
    crowd = instances.numpy() >= 2
    shares = [f"{name} {right[labels.numpy() == k].mean():.1%}" for k, name in enumerate(CLASSES)]
    content = path.read_bytes()
    model = onnx.load_from_string(content)
    return {
        "accuracy": right.mean(),
        "crowd": right[crowd].mean(),
        "crowd_count": int(crowd.sum()),
        "by_class": ", ".join(shares),
        "bytes": len(content),
        "sha256": digest_bytes(content),
        "opset": model.opset_import[0].version,
        "ir": model.ir_version,
    }


def write_readme(folder: Path, settings: Settings, facts: dict[str, object]) -> None:
    """Fill CARD with the settings and the facts."""
    constants = {
        "classes": ", ".join(f"`{name}`" for name in CLASSES),
        "count": len(CLASSES),
        "size": SIZE,
        "train_seed": TRAIN_SEED,
        "held_out_seed": HELD_OUT_SEED,
        "sample_seed": SAMPLE_SEED,
        "smoothing": SMOOTHING,
        "torch": torch.__version__,
        "parameters": sum(parameter.numel() for parameter in ShapesNet().parameters()),
    }
    text = CARD.format(**{**asdict(settings), **constants, **facts})
    write_section(folder, "shapes", text.rstrip())


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
    """Draw, train, export, check, and write the samples and the README."""
    settings, out = _arguments()
    torch.set_num_threads(WORKERS)
    torch.use_deterministic_algorithms(True)
    start = time.perf_counter()
    held_images, held_labels, held_instances = draw_set(HELD_OUT_SEED, settings.held_out)
    images, labels, _ = draw_set(TRAIN_SEED, settings.images)
    print(f"{settings.images} + {settings.held_out} images: {time.perf_counter() - start:.0f} s")
    net = train(images, labels, settings)
    samples = write_samples(out / "samples")
    path = out / "shapes.onnx"
    export(net, {"image": torch.zeros(2, 3, SIZE, SIZE)}, ["logits"], path, METADATA, "shapes")
    difference = check_export(net, path, held_images)
    facts = _facts(path, held_images, held_labels, held_instances)
    rows = {"samples": _sample_rows(samples, path), "difference": difference}
    write_readme(out, settings, {**facts, **rows})
    print(f"held-out accuracy {facts['accuracy']:.2%}, {time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
