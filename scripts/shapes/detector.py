"""A small one-stage detector in the manner of YOLOv8: its network, and what it is trained with.

Two strides; at each position four distances to the sides of a box and a score per class. There is no
objectness, and the distances are numbers, not distributions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scripts.shapes.drawing import CLASSES

SIZE = 128  # pixels a side
STRIDES = (8, 16)
LARGEST_SIDE = 40.0  # pixels of a box; larger ones belong to the last stride
REACH = 1.5  # strides between the center of a box and the positions that are trained to find it
PRIOR = 0.02  # score of every class at the start


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution, BatchNorm and ReLU."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class Residual(nn.Module):  # type: ignore[misc] # torch is not there when the types are checked
    """Two 3x3 convolutions that are added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(conv(channels, channels, 3), conv(channels, channels, 3))

    def forward(self, features: Tensor) -> Tensor:
        return features + self.convs(features)


class DetectorNet(nn.Module):  # type: ignore[misc]
    """(N, 3, 128, 128) RGB in [0, 1] to (N, 4 + classes, 320): the center, width and height of a box in pixels,
    and the scores of its classes after a Sigmoid, at 16 x 16 and then at 8 x 8 positions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Sequential(conv(3, 16, 3, 2), conv(16, 32, 3, 2))
        self.middle = nn.Sequential(conv(32, 48, 3, 2), Residual(48))
        self.late = nn.Sequential(conv(48, 64, 3, 2), Residual(64), conv(64, 48, 1))
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.fuse = conv(96, 48, 1)
        self.down = conv(48, 48, 3, 2)
        self.boxes = nn.Sequential(conv(48, 32, 3), nn.Conv2d(32, 4, 1))  # shared by the strides
        self.scores = nn.Sequential(conv(48, 48, 3), nn.Conv2d(48, len(CLASSES), 1))
        nn.init.constant_(self.scores[-1].bias, float(torch.logit(torch.tensor(PRIOR))))
        centers, strides = positions()
        self.register_buffer("centers", centers, persistent=False)
        self.register_buffer("strides", strides, persistent=False)

    def pyramid(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The features (N, 48, 16, 16) and (N, 48, 8, 8) that the heads read."""
        middle = self.middle(self.early((image - 0.5) * 4.0))
        late = self.late(middle)
        fine = self.fuse(torch.cat((self.upsample(late), middle), 1))
        return fine, self.down(fine) + late

    def heads(self, *pyramid: Tensor) -> tuple[Tensor, Tensor]:
        """The distances (N, 4, n) to the left, top, right and bottom side in strides, and logits (N, C, n)."""
        boxes, scores = (
            torch.cat([branch(features).flatten(2) for features in pyramid], 2)
            for branch in (self.boxes, self.scores)
        )
        return nn.functional.softplus(boxes), scores

    def corners(self, distances: Tensor) -> Tensor:
        """Distances (N, 4, n) as boxes (N, 4, n) of x0, y0, x1, y1 in pixels."""
        lengths = distances * self.strides
        return torch.cat((self.centers - lengths[:, :2], self.centers + lengths[:, 2:]), 1)

    def forward(self, image: Tensor) -> Tensor:
        distances, scores = self.heads(*self.pyramid(image))
        first, last = self.corners(distances).chunk(2, 1)
        return torch.cat(((first + last) / 2, last - first, scores.sigmoid()), 1)


def positions() -> tuple[Tensor, Tensor]:
    """The centers (1, 2, n) of the positions, x and y in pixels, and their strides (1, 1, n)."""
    centers, strides = [], []
    for stride in STRIDES:
        steps = (torch.arange(SIZE // stride) + 0.5) * stride
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        centers.append(torch.stack((x.flatten(), y.flatten())))
        strides.append(torch.full((1, x.numel()), float(stride)))
    return torch.cat(centers, 1)[None], torch.cat(strides, 1)[None]


def assign(boxes: Tensor, is_object: Tensor, centers: Tensor, strides: Tensor) -> Tensor:
    """The object (N, n) that each position is trained to find, -1 for none.

    An object belongs to the positions around its center, at the stride that fits its size; of several
    objects, a position gets the smallest.

    Args:
        boxes: (N, K, 4) of x0, y0, x1, y1 in pixels.
        is_object: (N, K) bool, False for rows that only fill up a batch.
        centers, strides: those of `positions`.
    """
    sizes = boxes[..., 2:] - boxes[..., :2]
    middles = (boxes[..., 2:] + boxes[..., :2]) / 2
    is_large = sizes.amax(2) > LARGEST_SIDE
    offsets = (centers.transpose(1, 2)[:, None] - middles[:, :, None]).abs().amax(3)
    is_at_stride = (strides[0, 0] == STRIDES[-1]) == is_large[..., None]
    is_near = is_at_stride & (offsets < REACH * strides[0]) & is_object[..., None]
    areas = sizes.prod(2)[..., None].where(is_near, torch.inf)
    smallest, index = areas.min(1)
    return torch.where(smallest.isinf(), -1, index)


def overlap(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """The IoU and the generalized IoU (...) of pairs of boxes (..., 4).

    Rezatofighi et al. 2019, Generalized Intersection over Union, algorithm 1.
    """
    inner = torch.minimum(boxes[..., 2:], others[..., 2:]) - torch.maximum(
        boxes[..., :2], others[..., :2]
    )
    outer = torch.maximum(boxes[..., 2:], others[..., 2:]) - torch.minimum(
        boxes[..., :2], others[..., :2]
    )
    intersection = inner.clamp(min=0).prod(-1)
    areas = [(corners[..., 2:] - corners[..., :2]).prod(-1) for corners in (boxes, others)]
    union = areas[0] + areas[1] - intersection
    hull = outer.prod(-1)
    ratio = intersection / union.clamp(min=1e-6)
    return ratio, ratio - (hull - union) / hull.clamp(min=1e-6)


def detection_loss(
    net: DetectorNet, image: Tensor, boxes: Tensor, labels: Tensor, is_object: Tensor
) -> Tensor:
    """The quality focal loss of the scores plus twice the loss of the boxes of the assigned positions.

    The wanted score of an assigned position is the IoU of its box, elsewhere 0 (Li et al. 2020, Generalized
    Focal Loss, eq. 2 with beta = 2).
    """
    distances, logits = net.heads(*net.pyramid(image))
    corners = net.corners(distances).transpose(1, 2)
    assigned = assign(boxes, is_object, net.centers, net.strides)
    is_assigned = assigned >= 0
    rows, columns = is_assigned.nonzero(as_tuple=True)
    objects = assigned[rows, columns]
    ratio, generalized = overlap(corners[rows, columns], boxes[rows, objects])
    wanted = torch.zeros_like(logits)
    wanted[rows, labels[rows, objects], columns] = ratio.detach()
    error = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    focal = (wanted - logits.sigmoid()).square() * error
    return (focal.sum() + 2.0 * (1 - generalized).sum()) / max(len(rows), 1)
