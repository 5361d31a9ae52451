"""Detectors of torch with random weights, whose boxes are decoded by the code here: for every form, its
outputs, the scores of all classes at all positions, and the boxes in pixels.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

CLASSES, CHANNELS = 5, 6
Module: Any = nn.Module


class Answer(NamedTuple):
    """Outputs, scores (N, positions, classes), and boxes (N, positions, 4): x0, y0, x1, y1."""

    outputs: tuple[Any, ...]
    scores: Any
    boxes: Any


class Pyramid(Module):  # type: ignore[misc]  # torch may not be there to be typed
    """Feature maps of the strides, and one convolution for each of them and each of the widths."""

    def __init__(self, strides: Sequence[int], *widths: int) -> None:
        super().__init__()
        torch.manual_seed(sum(widths))
        self.strides = strides
        steps = [strides[0], *(2 for _ in strides[1:])]
        inputs = [3, *(CHANNELS for _ in strides[1:])]
        self.stages = nn.ModuleList(
            nn.Conv2d(i, CHANNELS, 2 * step - 1, step, step - 1)
            for i, step in zip(inputs, steps, strict=True)
        )
        self.heads = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(CHANNELS, width, 1) for width in widths) for _ in strides
        )

    def forward(self, x: Any) -> list[list[Any]]:
        """Per stride, the maps of all widths."""
        maps = []
        for stage, heads in zip(self.stages, self.heads, strict=True):
            x = torch.relu(stage(x))
            maps.append([head(x) for head in heads])
        return maps


class Detector(Module):  # type: ignore[misc]
    """`answer` is what a subclass computes; `forward` returns the outputs."""

    strides: tuple[int, ...] = (8, 16, 32)
    widths: tuple[int, ...] = (4, CLASSES)
    names: tuple[str, ...] = ()  # of the outputs

    def __init__(self) -> None:
        super().__init__()
        self.pyramid = Pyramid(self.strides, *self.widths)

    def forward(self, x: Any) -> Any:
        outputs = self.answer(x).outputs
        return outputs if len(outputs) > 1 else outputs[0]

    def answer(self, x: Any) -> Answer:
        raise NotImplementedError

    def maps(self, x: Any) -> list[list[Any]]:
        maps: list[list[Any]] = self.pyramid(x)
        return maps

    def cells(self, maps: list[list[Any]], repeats: int = 1) -> tuple[Any, Any]:
        """Column and row of the cells of all grids, (positions, 2), and their strides (positions, 1)."""
        cells, strides = [], []
        for (first, *_), stride in zip(maps, self.strides, strict=True):
            height, width = first.shape[2:]
            y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            points = torch.stack([x, y], -1).reshape(-1, 1, 2).repeat(1, repeats, 1).reshape(-1, 2)
            cells.append(points.float())
            strides.append(torch.full_like(points[:, :1], stride).float())
        return torch.cat(cells), torch.cat(strides)


def rows(tensor: Any) -> Any:
    """(N, width, h, w) as (N, h w, width)."""
    return tensor.flatten(2).transpose(1, 2)


def joined(maps: list[list[Any]], index: int) -> Any:
    """One of the widths at the positions of all grids."""
    return torch.cat([rows(tensors[index]) for tensors in maps], 1)


def corners(centers: Any) -> Any:
    return torch.cat(
        [
            centers[..., :2] - centers[..., 2:] / 2,
            centers[..., :2] + centers[..., 2:] / 2,
        ],
        -1,
    )


def means_of_bins(bins: Any) -> Any:
    """(N, positions, 4 x bins) as the mean of each side's distribution."""
    weights = bins.unflatten(2, (4, -1)).softmax(-1)
    return (weights * torch.arange(weights.shape[-1])).sum(-1)


class YoloV8(Detector):
    """(N, 4 + classes, positions): centers and sizes, then probabilities."""

    widths = 64, CLASSES
    classes = CLASSES

    def decoded(self, x: Any) -> tuple[Any, Any, Any]:
        """The first corner, the second one, and the logits."""
        maps = self.maps(x)
        joint = torch.cat([torch.cat(tensors, 1).flatten(2) for tensors in maps], 2)
        bins, logits = joint.split([64, self.classes], 1)
        cells, strides = self.cells(maps)
        distances = means_of_bins(bins.transpose(1, 2)).transpose(1, 2)
        first, second = distances.chunk(2, 1)
        points = (cells + 0.5).T[None]
        return points - first, points + second, (logits, strides.T)

    def answer(self, x: Any) -> Answer:
        low, high, (logits, strides) = self.decoded(x)
        boxes = torch.cat([(low + high) / 2, high - low], 1) * strides
        output = torch.cat([boxes, logits.sigmoid()], 1)
        ends = torch.cat([low, high], 1) * strides
        return Answer((output,), logits.transpose(1, 2), ends.transpose(1, 2))


class YoloV10(YoloV8):
    """(N, detections, 6): corners, score and class of the best positions, chosen twice by TopK."""

    def answer(self, x: Any) -> Answer:
        low, high, (logits, strides) = self.decoded(x)
        joint = torch.cat([torch.cat([low, high], 1) * strides, logits.sigmoid()], 1)
        boxes, scores = joint.transpose(1, 2).split([4, CLASSES], 2)
        best = scores.amax(2).topk(20)[1].unsqueeze(2)
        near, chosen = boxes.gather(1, best.repeat(1, 1, 4)), scores.gather(1, best.repeat(1, 1, 5))
        values, index = chosen.flatten(1).topk(20)
        final = near.gather(1, (index // CLASSES).unsqueeze(2).repeat(1, 1, 4))
        output = torch.cat([final, values[..., None], (index % CLASSES)[..., None].float()], 2)
        return Answer((output,), logits.transpose(1, 2), boxes)


class YoloV5(Detector):
    """(N, positions, 5 + classes): centers, sizes, objectness and classes, three boxes per cell."""

    widths = (3 * (5 + CLASSES),)
    anchors = (
        ((10, 13), (16, 30), (33, 23)),
        ((30, 61), (62, 45), (59, 119)),
        ((116, 90), (156, 198), (373, 326)),
    )

    def answer(self, x: Any) -> Answer:
        grids = []
        for (tensor,), stride, anchors in zip(
            self.maps(x), self.strides, self.anchors, strict=True
        ):
            height, width = tensor.shape[2:]
            numbers = tensor.unflatten(1, (3, 5 + CLASSES)).permute(0, 1, 3, 4, 2).sigmoid()
            y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            cells = torch.stack([x, y], 2)[None, None].float() - 0.5
            sizes = torch.tensor(anchors).float().view(1, 3, 1, 1, 2)
            xy, wh, others = numbers.split([2, 2, 1 + CLASSES], 4)
            decoded = torch.cat([(xy * 2 + cells) * stride, (wh * 2) ** 2 * sizes, others], 4)
            grids.append(decoded.flatten(1, 3))
        output = torch.cat(grids, 1)
        return Answer((output,), output[..., 5:] * output[..., 4:5], corners(output[..., :4]))


class YoloV5Raw(YoloV5):
    """Three outputs (N, 3, rows, columns, 5 + classes) of logits."""

    def answer(self, x: Any) -> Answer:
        grids = [
            tensor.unflatten(1, (3, 5 + CLASSES)).permute(0, 1, 3, 4, 2)
            for (tensor,) in self.maps(x)
        ]
        _, scores, boxes = super().answer(x)
        return Answer(tuple(grids), scores, boxes)


class YoloX(Detector):
    """(N, positions, 5 + classes): offsets, logarithms of sizes, and probabilities."""

    widths = 4, 1, CLASSES

    def parts(self, x: Any) -> tuple[Any, Any, Any]:
        """The raw numbers, their boxes as centers, and the probabilities of objectness and classes."""
        maps = self.maps(x)
        numbers = torch.cat(
            [torch.cat([m[0], *(t.sigmoid() for t in m[1:])], 1).flatten(2) for m in maps], 2
        )
        numbers = numbers.transpose(1, 2)
        cells, strides = self.cells(maps)
        centers = (numbers[..., :2] + cells) * strides, numbers[..., 2:4].exp() * strides
        return numbers, torch.cat(centers, 2), numbers[..., 4:]

    def answer(self, x: Any) -> Answer:
        numbers, centers, probabilities = self.parts(x)
        scores = probabilities[..., 1:] * probabilities[..., :1]
        return Answer((numbers,), scores, corners(centers))


class YoloXDecoded(YoloX):
    """The same with the boxes in the graph."""

    def answer(self, x: Any) -> Answer:
        _, scores, boxes = super().answer(x)
        _, centers, probabilities = self.parts(x)
        return Answer((torch.cat([centers, probabilities], 2),), scores, boxes)


class YoloNas(Detector):
    """Two outputs: corners (N, positions, 4), and probabilities (N, positions, classes)."""

    def answer(self, x: Any) -> Answer:
        maps = self.maps(x)
        cells, strides = self.cells(maps)
        sides, points = joined(maps, 0).exp(), cells + 0.5
        boxes = torch.cat([points - sides[..., :2], points + sides[..., 2:]], 2) * strides
        logits = joined(maps, 1)
        return Answer((boxes, logits.sigmoid()), logits, boxes)


class PpYoloE(YoloNas):
    """The scores as (N, classes, positions)."""

    def answer(self, x: Any) -> Answer:
        (boxes, scores), logits, _ = super().answer(x)
        return Answer((boxes, scores.transpose(1, 2)), logits, boxes)


class Fcos(Detector):
    """One output of distances and one of logits per grid, (N, numbers, rows, columns)."""

    def answer(self, x: Any) -> Answer:
        maps = self.maps(x)
        cells, strides = self.cells(maps)
        sides, points = joined(maps, 0).exp(), cells + 0.5
        boxes = torch.cat([points - sides[..., :2], points + sides[..., 2:]], 2) * strides
        distances = [m[0].exp().flatten(2).transpose(1, 2) for m in maps]
        scores = [m[1].sigmoid().flatten(2).transpose(1, 2) for m in maps]
        return Answer((*scores, *distances), joined(maps, 1), boxes)


class NanoDetPlus(Detector):
    """(N, positions, classes + 32): probabilities, then bins, on four grids."""

    strides = 8, 16, 32, 64
    widths = 32, CLASSES

    def answer(self, x: Any) -> Answer:
        maps = self.maps(x)
        cells, strides = self.cells(maps)
        output = torch.cat([torch.cat([m[1].sigmoid(), m[0]], 1).flatten(2) for m in maps], 2)
        sides, points = means_of_bins(joined(maps, 0)) * strides, cells * strides
        boxes = torch.cat([points - sides[..., :2], points + sides[..., 2:]], 2)
        return Answer((output.transpose(1, 2),), joined(maps, 1).sigmoid(), boxes)


class PicoDet(Detector):
    """Per grid one output of probabilities and one of bins."""

    widths = 32, CLASSES

    def answer(self, x: Any) -> Answer:
        maps = self.maps(x)
        cells, strides = self.cells(maps)
        sides, points = means_of_bins(joined(maps, 0)) * strides, (cells + 0.5) * strides
        boxes = torch.cat([points - sides[..., :2], points + sides[..., 2:]], 2)
        scores, bins = [rows(m[1].sigmoid()) for m in maps], [rows(m[0]) for m in maps]
        return Answer((*scores, *bins), joined(maps, 1), boxes)


class Scrfd(Detector):
    """Per grid one output of probabilities (positions, 1) and one of distances (positions, 4), of one image."""

    widths = 8, 2

    def answer(self, x: Any) -> Answer:
        maps = self.maps(x)
        cells, strides = self.cells(maps, 2)
        logits = [m[1].permute(0, 2, 3, 1).reshape(-1, 1) for m in maps]
        sides = [m[0].permute(0, 2, 3, 1).reshape(-1, 4) * 0.7 for m in maps]
        distances, points = torch.cat(sides) * strides, cells * strides
        boxes = torch.cat([points - distances[:, :2], points + distances[:, 2:]], 1)
        return Answer(
            (*(t.sigmoid() for t in logits), *sides), torch.cat(logits)[None], boxes[None]
        )


class RetinaFace(Detector):
    """Encodings of boxes, probabilities of background and face, and landmarks, for two squares per cell."""

    widths = 8, 4, 20
    squares = ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))

    def answer(self, x: Any) -> Answer:
        maps = self.maps(x)
        codes, logits, points = (
            torch.cat([m[i].permute(0, 2, 3, 1).reshape(x.shape[0], -1, width) for m in maps], 1)
            for i, width in enumerate((4, 2, 10))
        )
        cells, strides = self.cells(maps, 2)
        centers = (cells + 0.5) * strides
        sides = torch.cat(
            [
                torch.tensor(lengths).repeat(m[0].shape[2] * m[0].shape[3])
                for lengths, m in zip(self.squares, maps, strict=True)
            ]
        )[:, None]
        boxes = torch.cat(
            [centers + 0.1 * codes[..., :2] * sides, sides * (0.2 * codes[..., 2:]).exp()], 2
        )
        return Answer((codes, logits.softmax(2), points), logits, corners(boxes))


class Detr(Module):  # type: ignore[misc]
    """Logits (N, queries, classes + 1), the last of them "no object", and centers in fractions of the image."""

    names: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem = nn.Conv2d(3, CHANNELS, 9, 8)
        self.queries = nn.Linear(CHANNELS, 20 * CHANNELS)
        self.classes, self.boxes = nn.Linear(CHANNELS, CLASSES + 1), nn.Linear(CHANNELS, 4)

    def forward(self, x: Any) -> Any:
        return self.answer(x).outputs

    def answer(self, x: Any) -> Answer:
        pooled = torch.relu(self.stem(x)).mean((2, 3))
        queries = self.queries(pooled).view(-1, 20, CHANNELS)
        logits, centers = self.classes(queries), self.boxes(queries * 20).sigmoid()
        size = torch.tensor([x.shape[3], x.shape[2]] * 2).float()
        return Answer((logits, centers), logits, corners(centers) * size)


class RtDetr(Detr):
    """Class, corners and score of the best detections, in pixels of an image of another size."""

    def answer(self, x: Any) -> Answer:
        (logits, centers), _, boxes = super().answer(x)
        values, index = logits.sigmoid().flatten(1).topk(15)
        ends = corners(centers) * torch.tensor([640.0, 480.0, 640.0, 480.0])
        best = (index // (CLASSES + 1)).unsqueeze(2).repeat(1, 1, 4)
        return Answer((index % (CLASSES + 1), ends.gather(1, best), values), logits, boxes)


class YuNet(Detector):
    """Per grid, probabilities of a face and of an object, boxes as in YOLOX, and landmarks."""

    widths = 1, 1, 4, 10
    names = tuple(
        f"{word}_{stride}" for word in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)
    )

    def answer(self, x: Any) -> Answer:
        maps = self.maps(x)
        cells, strides = self.cells(maps)
        faces, objects, codes, _ = (joined(maps, index) for index in range(4))
        centers = (codes[..., :2] + cells) * strides, codes[..., 2:].exp() * strides
        outputs = [rows(tensors[index]) for index in range(4) for tensors in maps]
        outputs[:6] = [tensor.sigmoid() for tensor in outputs[:6]]
        scores = faces.sigmoid() * objects.sigmoid()
        return Answer(tuple(outputs), scores, corners(torch.cat(centers, 2)))


class UltralyticsRaw(Detector):
    """One output (N, 64 + classes, rows, columns) of logits per grid."""

    widths = 64, CLASSES

    def answer(self, x: Any) -> Answer:
        maps = self.maps(x)
        cells, strides = self.cells(maps)
        sides, points = means_of_bins(joined(maps, 0)) * strides, (cells + 0.5) * strides
        boxes = torch.cat([points - sides[..., :2], points + sides[..., 2:]], 2)
        return Answer(tuple(torch.cat(m, 1) for m in maps), joined(maps, 1), boxes)


class YoloV4(Detector):
    """Corners in fractions of the image (N, positions, 1, 4), and probabilities."""

    def answer(self, x: Any) -> Answer:
        maps = self.maps(x)
        cells, strides = self.cells(maps)
        size = torch.tensor([x.shape[3], x.shape[2]]).float()
        centers = (joined(maps, 0)[..., :2].sigmoid() + cells) * strides / size
        sizes = joined(maps, 0)[..., 2:].exp() * strides / size
        low = centers - sizes * 0.5
        boxes = torch.cat([low, low + sizes], 2)
        scores = joined(maps, 1).sigmoid()
        return Answer((boxes[:, :, None], scores), joined(maps, 1), boxes * size.repeat(2))


class OneClass(YoloV8):
    """YOLOv8 with a single class."""

    widths = 64, 1
    classes = 1
