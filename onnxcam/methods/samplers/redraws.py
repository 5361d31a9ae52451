"""Copies of the image of which one window is drawn anew, to fit what is around it."""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from onnxcam.arrays import Floats, Maps
from onnxcam.errors import ImageError, SettingError
from onnxcam.methods.samplers.patches import PATCHES, Conditional, PatchGaussian, cut_patches
from onnxcam.methods.samplers.sampler import CleanRun, Computed, Samples, sampler
from onnxcam.methods.samplers.windows import Length, Windows, count_windows, place_windows
from onnxcam.methods.settings import Files, Range
from onnxcam.specs import Layer

STORED = 16  # ways in which a window lies in its patch
DRAWS = 256  # that are computed together
NO_BACKGROUND = (
    "what hides a window is drawn from patches of the image itself, which may show the object again; name "
    "typical images of other objects: --set background=FOLDER"
)


def check_background(value: Any) -> Any:
    """A folder, or a pattern of image files; None for none. SettingError if there are no files."""
    if value is None:
        return None
    if not isinstance(value, (str, Path)) or not background_files(str(value)):
        raise SettingError(
            f"background={str(value)!r}: expected a folder with image files, or a pattern like 'photos/*.jpg'"
        )
    return str(value)


def background_files(where: str) -> list[str]:
    """The files of a folder that are not hidden, or those that a pattern matches, by name; not more than there
    are patches.
    """
    folder = Path(where)
    paths = (
        [str(path) for path in folder.iterdir() if not path.name.startswith(".")]
        if folder.is_dir()
        else glob.glob(where, recursive=True)  # noqa: PTH207  a pattern may be absolute
    )
    files = sorted(path for path in paths if Path(path).is_file())
    return files[:: -(-len(files) // PATCHES) or 1]


def redrawing(
    pixels: Maps, windows: Windows, gaussian: PatchGaussian, patch: tuple[int, int], padding: int
) -> Callable[[Sequence[int], Floats, Floats], list[Maps]]:
    """A function that draws windows of an image (C, H, W) anew, each given what is around it in a patch, which
    is larger than the window by `padding` on every side or, at the border, shifted into the image. It takes the
    numbers of m windows and the random numbers of `Conditional.draw`, (m, n, P) and (m, n, d), and returns (n,
    C, h, w) for each. Windows that lie in their patch in the same way are drawn together.
    """

    @lru_cache(STORED)
    def conditional(hidden: bytes) -> Conditional:
        return Conditional(gaussian, np.frombuffer(hidden, bool))

    def cut(number: int) -> tuple[bytes, Floats]:
        """Which values of its patch a window hides, and the other values."""
        window = windows.place(number)
        starts = [
            min(max(part.start - padding, 0), size - side)
            for part, size, side in zip(window, pixels.shape[1:], patch, strict=True)
        ]
        around = [slice(start, start + side) for start, side in zip(starts, patch, strict=True)]
        mask = np.zeros(pixels.shape, bool)
        mask[:, *window] = True
        hidden = mask[:, *around].ravel()
        return hidden.tobytes(), pixels[:, *around].ravel()[~hidden]

    def draw(numbers: Sequence[int], deviates: Floats, noise: Floats) -> list[Maps]:
        parts, drawn = [cut(number) for number in numbers], [pixels] * len(numbers)
        count = deviates.shape[1]
        for hidden in dict.fromkeys(hidden for hidden, _ in parts):
            alike = [row for row, part in enumerate(parts) if part[0] == hidden]
            rest = np.repeat([parts[row][1] for row in alike], count, axis=0)
            flat = (array[alike].reshape(len(rest), -1) for array in (deviates, noise))
            values = conditional(hidden).draw(rest, *flat).reshape(len(alike), count, -1)
            for row, of_window in zip(alike, values, strict=True):
                shape = pixels[:, *windows.place(numbers[row])].shape
                drawn[row] = np.clip(of_window.reshape(count, *shape), *gaussian.limits)
        return drawn

    return draw


def random_numbers(
    seed: int, window: int, samples: int, factors: tuple[int, ...]
) -> tuple[Floats, Floats]:
    """The deviates (samples, P) and the noise (samples, d) of a window, from a random stream of its own."""
    stream = np.random.Generator(np.random.SFC64([seed, window]))
    count, size = factors
    return (
        stream.standard_normal((samples, count), np.float32),
        stream.standard_normal((samples, size), np.float32),
    )


def count_redraws(layer: Layer, settings: Mapping[str, Any]) -> int | None:
    """The number of samples, None if the model takes images of any size."""
    windows = count_windows(layer, settings)
    return None if windows is None else windows * int(settings["samples"])


@sampler(
    "redraws",
    varies="image",
    total=count_redraws,
    named=("window_rows", "window_columns", "class_count", "is_contrast"),
    not_embeddable="what it draws in a window depends on the pixels of the image around it",
)
def redraws(
    clean: CleanRun,
    *,
    window: Annotated[
        float, "side of a window in pixels; below 1, a part of the image's shorter side", Length
    ] = 0.1,
    stride: Annotated[
        float,
        "pixels from one window to the next, at most its side; below 1, a part of the window",
        Length,
    ] = 0.5,
    samples: Annotated[int, "draws of each window", Range(1, 1000)] = 10,
    padding: Annotated[int, "pixels around a window that its draws fit to", Range(0, 100)] = 2,
    background: Annotated[
        Any,
        "a folder or pattern of image files that tell how windows may look; by default, the image itself",
        check_background,
        Files(lambda where: background_files(where) if where else []),
    ] = None,
    seed: Annotated[
        int, "seed of the draws; the same seed gives the same map", Range(0, 2**63 - 1)
    ] = 0,
) -> Samples:
    """the model on copies of the image of which a window is drawn anew; several times for every window.

    With the default settings, that is 4000 times for 224 x 224 pixels. The draws are from a Gaussian of
    patches, given the pixels around the window. The formula may take `window_rows` and `window_columns` as from
    the sampler windows, `class_count` (N, 1), and `is_contrast` (N, 1): 1 for a contrast of classes, else 0.
    """
    layer = clean.layer
    (pixels,) = layer.channels_first(clean.image, 1.0)
    placed = place_windows(clean.grid, window, stride)
    patch = placed.side_with(padding)
    gaussian = _fit(clean, patch, background, seed)
    redraw = redrawing(pixels, placed, gaussian, patch, padding)
    together = max(1, DRAWS // samples)

    @lru_cache(2)
    def draw(block: int) -> list[Maps]:
        numbers = range(block * together, min((block + 1) * together, len(placed)))
        pairs = [
            random_numbers(seed, number, samples, gaussian.factors.shape) for number in numbers
        ]
        return redraw(numbers, *(np.stack(arrays) for arrays in zip(*pairs, strict=True)))

    def offsets(rows: slice) -> Floats:
        added = np.zeros((rows.stop - rows.start, *pixels.shape), np.float32)
        for row, sample in zip(added, range(rows.start, rows.stop), strict=True):
            number, place = sample // samples, placed.place(sample // samples)
            drawn = draw(number // together)[number % together][sample % samples]
            row[:, *place] = drawn - pixels[:, *place]
        return np.moveaxis(added, 1, layer.channel_axis)

    weights = clean.weights
    return Samples(
        len(placed) * samples,
        Computed(offsets),
        named={
            **placed.named,
            "class_count": np.full((1, 1), float(len(weights))),
            "is_contrast": np.full((1, 1), float(weights.min() < 0 < weights.max())),
        },
        notices=(NO_BACKGROUND,) if background is None else (),
    )


def _fit(
    clean: CleanRun, patch: tuple[int, int], background: str | None, seed: int
) -> PatchGaussian:
    """The Gaussian of the patches of background images, or of the image."""

    def fit(images: Sequence[Maps]) -> PatchGaussian:
        stream = np.random.Generator(np.random.SFC64([seed]))
        return PatchGaussian.fit(cut_patches(images, patch, stream))

    if background is None:
        return fit([clean.layer.channels_first(clean.image, 1.0)])
    files = background_files(background)
    gaussian: PatchGaussian = clean.recall(
        ("background", *files, patch, seed), lambda: fit([_read(clean, file) for file in files])
    )
    return gaussian


def _read(clean: CleanRun, file: str) -> Maps:
    try:
        return clean.layer.channels_first(clean.read_image(file), 1.0)
    except ImageError as error:
        raise SettingError(f"background: {error}") from error
