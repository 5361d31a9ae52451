"""Seeded images of simple objects on cluttered grounds, with the mask of every object.

An image shows one to four instances of its labeled class and up to three distractors, each of a
class of its own. The label is the class that covers the largest area: a distractor covers at most
`MOST_DISTRACTOR` of the area of the label. Ground, clutter, colors, textures, sizes and angles are
drawn from the same distributions for every class, so only the objects reveal the label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Polygon: TypeAlias = NDArray[np.float64]  # (P, 2) corners, x right and y down
Plane: TypeAlias = NDArray[np.float64]  # (S, S) in [0, 1]
Canvas: TypeAlias = NDArray[np.float64]  # (S, S, 3) RGB in [0, 1]
Color: TypeAlias = NDArray[np.float64]  # (3,) RGB in [0, 1]

SIZE = 112  # pixels a side; radii and lengths below are shares of the side
SUPERSAMPLE = 4
RADII = {1: (0.11, 0.30), 2: (0.11, 0.22), 3: (0.10, 0.19), 4: (0.10, 0.16)}  # by instance count
DISTRACTOR_RADII = (0.08, 0.18)
MOST_DISTRACTORS = 3
MOST_DISTRACTOR = 0.4  # of the labeled area; the aim below leaves room for pixel steps
AIMED_DISTRACTOR = (0.12, 0.36)
CONTRAST = 0.45  # least RGB distance of an object's colors from the ground under it
SQUEEZE = (0.88, 1.0)

# --- classes: each an outline inside the unit circle; polygons after the first are holes ---------


def _polar(radii: NDArray[np.float64]) -> Polygon:
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False) - np.pi / 2
    return radii[:, None] * np.stack((np.cos(angles), np.sin(angles)), axis=1)


def _arc(center: float, radius: float, start: float, stop: float) -> Polygon:
    angles = np.linspace(start, stop, 32)
    return np.stack((center + radius * np.cos(angles), radius * np.sin(angles)), axis=1)


def _crescent(horn: float = 0.9, bite: float = 0.5) -> Polygon:
    """Unit circle less a circle about (bite, 0) through the horns at the angles +-horn."""
    x, y = np.cos(horn) - bite, np.sin(horn)
    half = np.arctan2(y, x)
    outer = _arc(0.0, 1.0, horn, 2 * np.pi - horn)
    inner = _arc(bite, float(np.hypot(x, y)), 2 * np.pi - half, half)
    return np.concatenate((outer, inner))


def _heart() -> Polygon:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    height = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack((16 * np.sin(t) ** 3, -2.5 - height), axis=1) / 17


def _cross(arm: float = 0.3) -> Polygon:
    quarter = np.array(((arm, -arm), (0.95, -arm), (0.95, arm)))
    turn = np.array(((0.0, 1.0), (-1.0, 0.0)))
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])


_CIRCLE = _polar(np.ones(48))
_ARROW = np.array(
    ((1, 0), (0.1, 0.75), (0.1, 0.26), (-0.95, 0.26), (-0.95, -0.26), (0.1, -0.26), (0.1, -0.75)),
)
_HOURGLASS = np.array(
    ((-0.65, -0.75), (0.65, -0.75), (0.12, 0), (0.65, 0.75), (-0.65, 0.75), (-0.12, 0)),
)

OUTLINES: dict[str, tuple[Polygon, ...]] = {
    "arrow": (_ARROW,),
    "crescent": (_crescent(),),
    "cross": (_cross(),),
    "disc": (_CIRCLE,),
    "heart": (_heart(),),
    "hourglass": (_HOURGLASS,),
    "ring": (_CIRCLE, 0.55 * _CIRCLE),
    "square": (_polar(np.ones(4)),),
    "star": (_polar(np.tile((1.0, 0.42), 5)),),
    "triangle": (_polar(np.ones(3)),),
}
CLASSES: tuple[str, ...] = tuple(OUTLINES)


def _area(polygon: Polygon) -> float:
    x, y = polygon.T
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)


AREAS = tuple(_area(outer) - sum(map(_area, holes)) for outer, *holes in OUTLINES.values())

# --- coverage: how much of each pixel a figure covers ---------------------------------------------


@dataclass(frozen=True)
class Spot:
    """One object to be drawn: `kind` indexes CLASSES; place and radius are in pixels."""

    kind: int
    x: float
    y: float
    radius: float


def _sheet(size: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    side = size * SUPERSAMPLE
    sheet = Image.new("L", (side, side))
    return sheet, ImageDraw.Draw(sheet)


def _coverage(sheet: Image.Image) -> Plane:
    return np.asarray(sheet.reduce(SUPERSAMPLE), dtype=np.float64) / 255


def _corners(polygon: Polygon) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in polygon * SUPERSAMPLE]


def _random_rotation(rng: Generator) -> NDArray[np.float64]:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array(((np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))))


def stamp(rng: Generator, spot: Spot, size: int) -> Plane:
    """How much of each pixel (S, S) an object at this spot covers, at a random angle."""
    squeezed = (1.0, rng.uniform(*SQUEEZE))
    turn = _random_rotation(rng)
    sheet, pen = _sheet(size)
    for layer, polygon in enumerate(OUTLINES[CLASSES[spot.kind]]):
        placed = (polygon * squeezed) @ turn * spot.radius + (spot.x, spot.y)
        pen.polygon(_corners(placed), fill=0 if layer else 255)
    return _coverage(sheet)


def _rod(rng: Generator, size: int) -> Plane:
    """A straight line that may run off the image."""
    ends = rng.uniform(-0.2, 1.2, (2, 2)) * size
    sheet, pen = _sheet(size)
    pen.line(_corners(ends), fill=255, width=int(rng.integers(3, 16)))
    return _coverage(sheet)


def _scribble(rng: Generator, size: int) -> Plane:
    """A thin open curve: a walk whose heading wanders."""
    heading = np.cumsum(rng.normal(0, 0.45, 14)) + rng.uniform(0, 2 * np.pi)
    steps = np.stack((np.cos(heading), np.sin(heading)), axis=1) * rng.uniform(0.02, 0.05)
    sheet, pen = _sheet(size)
    track = _corners((rng.random(2) + np.cumsum(steps, axis=0)) * size)
    pen.line(track, fill=255, width=int(rng.integers(3, 9)), joint="curve")
    return _coverage(sheet)


def _blob(rng: Generator, size: int) -> Plane:
    """A long wobbly patch, so that it looks like none of the classes."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    waves = [rng.uniform(-0.22, 0.22) * np.sin(k * angles + rng.uniform(0, 6)) for k in (2, 3, 4)]
    wobble = _polar(1 + np.sum(waves, axis=0)) * (1.0, rng.uniform(0.3, 0.55))
    placed = wobble @ _random_rotation(rng) * rng.uniform(0.03, 0.13) + rng.random(2)
    sheet, pen = _sheet(size)
    pen.polygon(_corners(placed * size), fill=255)
    return _coverage(sheet)


CLUTTER: tuple[Callable[[Generator, int], Plane], ...] = (_rod, _scribble, _blob)

# --- textures: how far each pixel goes from the first color to the second ------------------------


def _ramp(rng: Generator, size: int) -> Plane:
    """Distance in pixels along a random direction, (S, S), from a random start."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:size, :size]
    return np.cos(angle) * x + np.sin(angle) * y + rng.uniform(0, size)


def _smooth_step(wave: NDArray[np.float64]) -> Plane:
    return np.clip(0.5 + 2 * wave, 0, 1)


def _plain(rng: Generator, size: int) -> Plane:
    del rng
    return np.zeros((size, size))


def _gradient(rng: Generator, size: int) -> Plane:
    return np.asarray(0.5 + 0.5 * np.sin(_ramp(rng, size) * np.pi / (size * rng.uniform(0.3, 1.0))))


def _stripes(rng: Generator, size: int) -> Plane:
    return _smooth_step(np.sin(_ramp(rng, size) * 2 * np.pi / (size * rng.uniform(0.05, 0.14))))


def _lattice(rng: Generator, size: int) -> tuple[Plane, Plane]:
    angle, period = rng.uniform(0, 2 * np.pi), size * rng.uniform(0.06, 0.14)
    y, x = np.mgrid[:size, :size] * (2 * np.pi / period)
    across, along = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    return np.sin(across), np.sin(along)


def _checks(rng: Generator, size: int) -> Plane:
    across, along = _lattice(rng, size)
    return _smooth_step(2 * across * along)


def _dots(rng: Generator, size: int) -> Plane:
    across, along = _lattice(rng, size)
    return _smooth_step(across + along - 0.7)


def _noise(rng: Generator, size: int) -> Plane:
    cells = int(rng.choice((5, 9, 17, 33, 65)))
    grid = Image.fromarray(rng.integers(0, 256, (cells, cells), dtype=np.uint8))
    return np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC), np.float64) / 255


Texture: TypeAlias = Callable[[Generator, int], Plane]
TEXTURES: tuple[Texture, ...] = (_plain, _gradient, _stripes, _checks, _dots, _noise)


def _texture(rng: Generator, size: int) -> Plane:
    return TEXTURES[rng.integers(len(TEXTURES))](rng, size)


def _paint(canvas: Canvas, cover: Plane, blend: Plane, first: Color, second: Color) -> Canvas:
    paint = first + blend[..., None] * (second - first)
    return np.asarray(canvas + cover[..., None] * (paint - canvas))


def _far_color(rng: Generator, ground: Color) -> Color:
    """The first of some random colors that is far enough from the ground."""
    colors = rng.random((32, 3))
    far = np.linalg.norm(colors - ground, axis=1) >= CONTRAST
    return np.asarray(colors[np.argmax(far)])


def paint_ground(rng: Generator, size: int, clutter: tuple[int, int] = (3, 16)) -> Canvas:
    """A textured ground with as many lines, scribbles and blobs as this range says."""
    canvas = np.broadcast_to(rng.random(3), (size, size, 3))
    for share in (rng.uniform(0.5, 1.0), rng.uniform(0.2, 0.6), rng.uniform(0.1, 0.4)):
        tint = np.clip(canvas.mean((0, 1)) + rng.normal(0, 0.25, 3), 0, 1)
        canvas = _paint(canvas, share * _texture(rng, size), np.zeros((size, size)), tint, tint)
    for _ in range(rng.integers(*clutter)):
        cover = rng.uniform(0.3, 0.9) * CLUTTER[rng.integers(len(CLUTTER))](rng, size)
        canvas = _paint(canvas, cover, _texture(rng, size), rng.random(3), rng.random(3))
    return canvas


def paint_object(rng: Generator, canvas: Canvas, cover: Plane) -> Canvas:
    """The canvas with an object in two random colors that are far from those under it."""
    under = np.asarray(np.average(canvas, axis=(0, 1), weights=np.stack([cover] * 3, axis=2)))
    first, second = _far_color(rng, under), _far_color(rng, under)
    return _paint(canvas, cover, _texture(rng, len(cover)), first, second)


def to_pixels(rng: Generator, canvas: Canvas) -> NDArray[np.uint8]:
    """Uneven light, then the grain of a sensor, in 8 bits."""
    size = len(canvas)
    light = 1 + rng.uniform(0, 0.25) * (_gradient(rng, size) - 0.5)
    grain = rng.normal(0, rng.uniform(0.0, 0.04), canvas.shape)
    return np.asarray((canvas * light[..., None] + grain).clip(0, 1) * 255).round().astype(np.uint8)


def find_spot(
    rng: Generator, kind: int, radius: float, taken: Sequence[Spot], size: int
) -> Spot | None:
    """A spot inside the image and clear of those taken; None if 60 tries find no room."""
    for x, y in rng.uniform(radius, size - radius, (60, 2)):
        if all(np.hypot(x - s.x, y - s.y) > 0.96 * (radius + s.radius) for s in taken):
            return Spot(kind, float(x), float(y), radius)
    return None


def _place_instances(rng: Generator, label: int, count: int, size: int) -> list[Spot]:
    spots: list[Spot] = []
    while len(spots) < count:  # a crowd that leaves no room starts anew
        radius = float(rng.uniform(*RADII[count]) * size)
        spot = find_spot(rng, label, radius, spots, size)
        spots = [*spots, spot] if spot else []
    return spots


def _place_distractors(rng: Generator, instances: list[Spot], size: int) -> list[Spot]:
    label = instances[0].kind
    area = AREAS[label] * sum(spot.radius**2 for spot in instances)
    others = rng.permutation([kind for kind in range(len(CLASSES)) if kind != label])
    spots: list[Spot] = []
    for kind in others[: rng.integers(MOST_DISTRACTORS + 1)]:
        share = rng.uniform(*AIMED_DISTRACTOR)
        radius = min(np.sqrt(share * area / AREAS[kind]), DISTRACTOR_RADII[1] * size)
        roomy = radius >= DISTRACTOR_RADII[0] * size  # smaller ones could not be told by their form
        spot = (
            find_spot(rng, int(kind), float(radius), [*instances, *spots], size) if roomy else None
        )
        spots += [spot] if spot else []
    return spots


@dataclass(frozen=True)
class ShapeImage:
    """An image and where its objects are visible; the masks are pairwise disjoint.

    pixels: (S, S, 3) uint8, sRGB.
    label: index into CLASSES of the class that covers the largest area.
    masks: (K, S, S) bool, one per instance of the label, K = 1..4.
    distractors: (D, S, S) bool, one per object of another class, D = 0..3, no class twice.
    distractor_labels: D indices into CLASSES.
    """

    pixels: NDArray[np.uint8]
    label: int
    masks: NDArray[np.bool_]
    distractors: NDArray[np.bool_]
    distractor_labels: tuple[int, ...]


def draw(
    rng: Generator,
    size: int = SIZE,
    label: int | None = None,
    instances: int | tuple[int, int] | None = None,
) -> ShapeImage:
    """Draw one image; all chance comes from `rng`, so the same state gives the same image.

    Args:
        rng: the source of chance.
        size: pixels a side.
        label: index into CLASSES; None for any.
        instances: of the labeled class, 1..4: a number, (least, most), or None for any.
    """
    label = int(rng.integers(len(CLASSES))) if label is None else label
    least, most = (instances, instances) if isinstance(instances, int) else instances or (1, 4)
    canvas = paint_ground(rng, size)
    labeled = _place_instances(rng, label, int(rng.integers(least, most + 1)), size)
    others = _place_distractors(rng, labeled, size)
    covers = [stamp(rng, spot, size) for spot in (*labeled, *others)]
    for index in rng.permutation(len(covers)):
        canvas = paint_object(rng, canvas, covers[index])
    # Circles keep the objects apart but for a pixel of two corners; that pixel goes to the fuller.
    stack = np.stack(covers)
    visible = (stack >= 0.5) & (np.arange(len(covers))[:, None, None] == stack.argmax(axis=0))
    kinds = tuple(spot.kind for spot in others)
    return ShapeImage(
        to_pixels(rng, canvas), label, visible[: len(labeled)], visible[len(labeled) :], kinds
    )
