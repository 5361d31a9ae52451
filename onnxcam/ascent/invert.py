"""Inversion: images with the activations of a given one, which show what a layer still knows of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from onnxcam.arrays import Array, Floats, Images
from onnxcam.ascent.checkpoint import Checkpoint, checkpoint_of
from onnxcam.ascent.depth import choose_names
from onnxcam.ascent.descent import Descent, Step, run
from onnxcam.ascent.objectives import open_distance
from onnxcam.ascent.opened_model import OpenedModel, open_model
from onnxcam.ascent.pixel_range import to_images
from onnxcam.ascent.recipes import reconstruction, split_arguments
from onnxcam.ascent.result import describe, file_stem, save_result
from onnxcam.digests import digest_bytes
from onnxcam.errors import ImageError, ModelError, OnnxcamError, OutOfMemoryError, RunError
from onnxcam.explain.arguments import LayerSource, layer_names
from onnxcam.explain.inputs import ImageSource, PreparedInput, as_sources, input_loaders
from onnxcam.explain.result_files import INVERT
from onnxcam.image.overlay import CELL, sheet, thumbnail
from onnxcam.image.png import encode_png
from onnxcam.specs import AUTO

if TYPE_CHECKING:
    from onnxcam.model.model import Model


@dataclass(frozen=True)
class Inversion:
    """An image, and L images with nearly the same activations, one for each of L layers.

    Attributes:
        tensor: (L, …) as the model takes it, in its layout and dtype.
        x: (L, C, H, W), gray or RGB, where -1 is black and 1 is white; `original` (C, H, W) is the image.
        layers: the names of the layers.
        errors: (L,), ||f(x) - f(x0)|| / ||f(x0)|| of `tensor` at its layer.
        history: (L, steps), the squares of these before each step, without the penalties.
        image: the name of the image, its file, the digest of that, and the box that the model saw.
        notices: what a user should know.
        stem: the beginning of the names of the files.
        provenance: what is needed to make the images again, as JSON values.
    """

    tensor: Images
    x: Floats
    original: Floats
    layers: tuple[str, ...]
    errors: Floats
    history: Floats
    image: Mapping[str, Any]
    notices: tuple[str, ...]
    stem: str
    provenance: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def images(self) -> list[Image.Image]:
        """What preprocessing would turn into `tensor`."""
        return [*to_images(self.x)]

    def sheet(self) -> Image.Image:
        """The image as the model saw it, and a row of reconstructions with their relative errors."""
        titles = [
            f"{layer}: {error:.2g}" for layer, error in zip(self.layers, self.errors, strict=True)
        ]
        drawn = [*to_images(self.original[None]), *self.images]
        cells = [thumbnail(image, CELL) for image in drawn]
        return sheet(cells, [str(self.image["name"]), *titles], columns=len(cells))

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return encode_png(self.sheet())

    def manifest(self) -> dict[str, Any]:
        """Which layers were inverted and how, with the errors, as JSON values."""
        results = [
            {"layer": layer, "relative_error": float(error)}
            for layer, error in zip(self.layers, self.errors, strict=True)
        ]
        return describe(self, self.image, INVERT, results)

    def arrays(self) -> dict[str, Array]:
        """What is in the .npz."""
        return {"tensor": self.tensor, "errors": self.errors, "history": self.history}

    def save(self, folder: str | Path = ".", *, overwrite: bool = False) -> Path:
        """Write STEM.png with the row, STEM.1.png and so on with one image, STEM.npz with `tensor`, `errors`
        and `history`, and STEM.json, all or none; returns the first. Files of an earlier result are replaced;
        OutputError for others, unless `overwrite` is True.
        """
        return save_result(self, folder, overwrite=overwrite)


LayerCallback = Callable[[str, Step], None]


def _no_callback(layer: str, step: Step) -> None:
    """The default callback: does nothing."""


def invert(
    model: str | Path | bytes | Model,
    image: ImageSource,
    layer: LayerSource = AUTO,
    *,
    checkpoints: str | Path | None = None,
    progress: LayerCallback = _no_callback,
    **arguments: Any,
) -> Inversion:
    """Images whose activations are those of an image: one for each of several layers, which are inverted alone.

    Args:
        model: path, bytes, ModelProto, or a loaded `Model`.
        image: a path, bytes, a PIL image, or an array that is preprocessed already.
        layer: layers, or tensors of floats by their exact names; "auto" for five layers from the first to the
            last, without those that cannot be inverted, which a notice tells.
        checkpoints: a folder in which the states are kept. A later call with the same arguments goes on from
            them, also for more steps.
        progress: gets the name of the layer and a `Step` after each one.
        arguments: steps, seed and the other settings of `recipes.reconstruction`; and device, preprocess,
            pixels, output, task, head, inputs and chunk, which are those of an `Explainer`.

    Raises what an `Explainer` raises, UnknownNameError for a layer or a setting, RunError for a layer whose
    activations are all 0, and OutputError.
    """
    options, settings = split_arguments(reconstruction, arguments)
    opened = open_model(model, **options)
    prepared = _prepare(opened, image)
    size = opened.image.size_of(prepared.tensor)  # an array may have another one than images
    descent = reconstruction(size, opened.range.channels, **settings)
    planned = _Planned(opened, prepared, descent, settings)
    results, skipped = dict[str, _Result](), list[OnnxcamError]()
    names = choose_names(opened, layer)
    for number, name in enumerate(names):
        report = partial(_report_of_layer, progress, name, number, len(names))
        try:
            results[name] = planned.run(name, checkpoints, report)
        except (ModelError, RunError) as error:
            if layer_names(layer) != (AUTO,) or isinstance(error, OutOfMemoryError):
                raise
            skipped.append(error)
    if not results:
        raise skipped[0]
    return planned.join(results, [f"a layer is left out: {error}" for error in skipped])


def _report_of_layer(
    progress: LayerCallback, name: str, number: int, count: int, step: Step
) -> None:
    """Report a step of a layer, which has this number among so many."""
    progress(name, step._replace(layer=number, layers=count))


class _Result(NamedTuple):
    """The image x (1, C, H, W) of a layer, its relative error, the squared errors of the steps, and notices."""

    x: Floats
    error: float
    history: Floats
    notices: tuple[str, ...]


def _prepare(opened: OpenedModel, image: ImageSource) -> PreparedInput:
    """The one image that is inverted."""
    loaders = [*input_loaders(as_sources(image), opened.preprocessing, opened.image)]
    if len(loaders) != 1:
        raise ImageError(f"there are {len(loaders)} images to invert; pass one")
    return loaders[0][1]()


@dataclass(frozen=True)
class _Planned:
    """An inversion before it is run."""

    opened: OpenedModel
    prepared: PreparedInput
    descent: Descent
    settings: Mapping[str, Any]

    @property
    def stem(self) -> str:
        """The beginning of the names of the files."""
        return file_stem(self.prepared.image.name, Path(self.opened.model.name).stem, INVERT)

    @property
    def image(self) -> dict[str, Any]:
        """The image as a manifest has it."""
        image = self.prepared.image
        return {**image.to_json(), "box": list(image.box)}

    @property
    def provenance(self) -> dict[str, Any]:
        """What is needed to make the images again."""
        return self.opened.provenance({}, self.settings)

    def run(
        self, layer: str, folder: str | Path | None, progress: Callable[[Step], None]
    ) -> _Result:
        """The inversion of one layer."""
        distance = open_distance(self.opened, layer, np.asarray(self.prepared.tensor))
        keeper = None if folder is None else self._keeper(Path(folder), layer)
        x, history = run(self.descent, distance, keeper, progress)
        error = distance.of_tensors(self.opened.range.to_model(x))
        notices = (*distance.source.notices, *(keeper.notices if keeper else ()))
        return _Result(x, float(error[0]), history[:, 0], notices)

    def _keeper(self, folder: Path, layer: str) -> Checkpoint:
        """The file in which the state of a layer is kept."""
        pixels = digest_bytes(np.ascontiguousarray(self.prepared.tensor).tobytes())
        contents = [self.opened.content_digest, pixels]
        described = {**self.provenance, "layer": layer, "contents": contents}
        return checkpoint_of(folder, f"{self.stem}.{file_stem(layer)}", described)

    def join(self, by_layer: Mapping[str, _Result], more: Sequence[str]) -> Inversion:
        """The inversions of all layers, and more notices."""
        results = [*by_layer.values()]
        x = np.concatenate([result.x for result in results])
        notices = (notice for result in results for notice in result.notices)
        return Inversion(
            self.opened.range.to_model(x),
            x,
            self.opened.range.from_tensor(np.asarray(self.prepared.tensor))[0],
            tuple(by_layer),
            np.array([result.error for result in results]),
            np.stack([result.history for result in results]),
            self.image,
            tuple(dict.fromkeys([*self.opened.notices, *notices, *more])),
            self.stem,
            self.provenance,
        )
