"""What a sampler is: a function that draws the inputs on which a method runs the model.

Sample s runs the model on x + scale_s * offset_s, where x is the image, or the activation of a layer at which
the model is cut; its cotangent is the target's times weight_s.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from onnxcam.arrays import Array, Floats, Images, Maps
from onnxcam.methods.quantities import QUANTITIES
from onnxcam.methods.settings import Setting, require_described, settings_of
from onnxcam.registry import Registry
from onnxcam.specs import Layer, infer_grid


class Rows(Protocol):
    """An array with a row per sample, or an object that computes the rows of a slice when they are run."""

    def __getitem__(self, samples: slice, /) -> Any:
        """The rows of these samples."""


@dataclass(frozen=True)
class Repeated:
    """One row that all samples share."""

    row: Floats

    def __getitem__(self, samples: slice, /) -> Floats:
        return self.row


@dataclass(frozen=True)
class Computed:
    """Rows that are computed when they are run, so that memory does not grow with the number of samples."""

    rows: Callable[[slice], Floats]

    def __getitem__(self, samples: slice, /) -> Floats:
        return self.rows(samples)


@dataclass(frozen=True)
class Tabulated:
    """Rows that a function computes from tables, and from images, when they are run. The function is called on
    arrays or, if the samples are written into a graph, on Values, so it uses NumPy's functions only.

    Attributes:
        compute: a function of the tables, then the images, then what is shared: of k rows of every table and
            one row of every image, which broadcast to each other, or of R = N k rows of all of them, one for
            each pair of an image and a sample; it returns as many rows. Without images it returns k rows, which
            are those of every image.
        tables: arrays (n, ...) with a row per sample, which are small and stored in their own dtype; or a Value
            that is made of constants.
        images: arrays (1, ...), or Values (N, ...), with a row per image.
        shared: arrays or Values that are the same for all rows.
    """

    compute: Callable[..., Any]
    tables: tuple[Rows, ...]
    images: tuple[Any, ...] = ()
    shared: tuple[Any, ...] = ()

    def __getitem__(self, samples: slice, /) -> Any:
        return self.compute(*(table[samples] for table in self.tables), *self.images, *self.shared)


@dataclass(frozen=True)
class Samples:
    """The samples of one image; or, written into a graph, of N images: rows are `Repeated` or `Tabulated` then.

    Attributes:
        count: their number n.
        offsets: (n, ...) or (1, ...) float32 in the layout of what is varied; None if nothing is added.
        scales: (n,), 1 by default; or a Value (N, 1) or (N, n).
        weights: (n,), the factors of the cotangents, 1 by default.
        inputs: arrays with a row per sample that quantities are written from, such as `mask` or `step`.
        named: arrays (1, ...) that the formula may take by these names, such as `baseline`; with the channels
            first, in float64. In a graph, Values (N, ...), or arrays that broadcast to them; without those that
            are scores of samples, which only reports take.
        notices: sentences that a user should see, such as that something was missing.
        columns: (n,), where the numbers of the samples are in stacked quantities, which then have `width`
            columns, and 0 in the others; by default, the samples are the columns.
    """

    count: int
    offsets: Rows | None = None
    scales: Floats | None = None
    weights: Floats | None = None
    inputs: Mapping[str, Rows] = field(default_factory=dict)
    named: Mapping[str, Floats] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    columns: NDArray[np.intp] | None = None
    width: int = 0

    def __post_init__(self) -> None:
        """ValueError for no samples, or another number of scales, weights or columns."""
        if self.count < 1:
            raise ValueError(f"a sampler returned {self.count} samples; expected at least 1")
        arrays = {"scales": self.scales, "weights": self.weights, "columns": self.columns}
        for name, numbers in arrays.items():
            if numbers is not None and not self._has_rows(numbers):
                raise ValueError(
                    f"{name} of {self.count} samples have the shape {np.shape(numbers)}; "
                    f"expected ({self.count},)"
                )

    def _has_rows(self, numbers: Any) -> bool:
        """Whether an array has a number per sample, or a Value a row per image."""
        if isinstance(numbers, np.ndarray | Sequence):
            return np.shape(numbers) == (self.count,)
        return len(numbers.shape) == 2 and numbers.shape[1] in (1, self.count)

    @cached_property
    def factors(self) -> Floats:
        """(n,): the factors of the cotangents."""
        return np.ones(self.count) if self.weights is None else np.asarray(self.weights, np.float64)

    def spread(self, stacked: Array) -> Array:
        """The numbers (1, n) of all samples in their columns (1, width)."""
        if self.columns is None:
            return stacked
        numbers = np.zeros((1, self.width), stacked.dtype)
        numbers[:, self.columns] = stacked
        return numbers


@dataclass(frozen=True)
class CleanRun:
    """What a sampler knows of the image whose samples it draws. If they are written into a graph, `image` and
    `values` are float32 Values with a row for each of N images, all sizes but N are numbers, `recall` and
    `to_device` store nothing, and `scores` and `compute` are not called.

    Attributes:
        image: (1, ...) the image tensor, in the layout and dtype of the model.
        weights: (classes,) the factors of the class scores in the target.
        values: (1, ...) what is varied: the image tensor, or the values of the layer.
        layer: how `values` are arranged.
        aspect_ratio: the image's height / width.
        read_image: reads an image file as an image tensor.
        color: (1, C, 1, 1) or (1, 1, 1, C), the values of a gray level in the image tensor: 0 black, 1 white.
        scores: runs samples, and returns the target's score on each of them (n,).
        to_device: copies an array that is fed many times to the device.
        recall: returns what was stored under a key, or stores what a function makes; for all images.
        compute: runs samples, and returns the quantities that the sampler asks for, as formulas get them.
    """

    image: Images
    weights: Floats
    values: Floats
    layer: Layer
    aspect_ratio: float
    read_image: Callable[[str], Array]
    color: Callable[[float], Array]
    scores: Callable[[Samples], Floats]
    to_device: Callable[[Any], Any]
    recall: Callable[[object, Callable[[], Any]], Any]
    compute: Callable[[Samples], Mapping[str, Floats]]

    @property
    def is_written(self) -> bool:
        """Whether the samples are written into a graph."""
        return not isinstance(self.values, np.ndarray)

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of `values` in cells, or in pixels."""
        rank, layer = len(self.values.shape), self.layer
        axes = (axis for axis in range(1, rank) if axis != layer.channel_axis % rank)
        sizes = [self.values.shape[axis] for axis in axes]
        if layer.cells is None:
            height, width = sizes
            return height, width
        return infer_grid(layer.cells, sizes[0] - layer.tokens, self.aspect_ratio)

    def channels_first(self, image: Images) -> Maps:
        """An array or Value in the layout of the image as formulas take it: with the channels first; arrays in
        float64.
        """
        dtype = np.float32 if self.is_written else np.float64
        return self.layer.channels_first(image, 1.0, dtype)

    def constant(self, array: Array) -> Any:
        """An array as a constant Value of the graph, in its own dtype; itself if no graph is written."""
        values: Any = self.values
        return values.build.constant(array) if self.is_written else array

    def mix(self, mask: Floats) -> Floats:
        """Masks (n, h, w) of cells in the layout of `values`; tokens that are not cells get 1."""
        return self.layer.spread(mask, self.values.shape)


Draw = Callable[..., Samples]
Count = Callable[[Layer, Mapping[str, Any]], int | None]
"""The number of samples at a layer with these settings; None where the graph leaves it open."""


@dataclass(frozen=True)
class Sampler:
    """A way to draw samples.

    Attributes:
        draw: the function; None if the model is only run on the image itself.
        varies: what the samples differ in: the image, or the activation of a layer at which the model is cut.
        counts: the setting that holds the number of samples, if there is one.
        total: the number of samples, or what tells it, if it is not that setting.
        replaces: the quantities that a setting replaces by others: {(setting, value): {quantity: other}}.
        named: the arrays that a formula may take besides quantities, or in place of them.
        asks: the quantities of samples that `CleanRun.compute` returns.
        smooths: whether the samples only serve to average: where none differs, there is nothing to smooth.
        weighted: a setting and its value with which the samples have different weights.
        embedded: the values of settings that are embedded in a model, where the defaults cannot be.
        not_embeddable: why samples cannot be drawn in a graph; empty if they can.
        not_embeddable_with: the same for values of settings, {(setting, value): reason}.
    """

    name: str
    description: str
    draw: Draw | None = None
    varies: Literal["", "image", "activation"] = ""
    counts: str | None = None
    total: Count | int | None = None
    replaces: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    named: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()
    smooths: bool = False
    weighted: tuple[str, str] | None = None
    embedded: Mapping[str, str] = field(default_factory=dict)
    not_embeddable: str = ""
    not_embeddable_with: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @cached_property
    def settings(self) -> dict[str, Setting]:
        """The keyword-only parameters of `draw`."""
        return settings_of(self.draw) if self.draw else {}

    @cached_property
    def takes(self) -> tuple[str, ...]:
        """The quantities of the clean image that `draw` takes after the `CleanRun`."""
        return _taken(self.draw) if self.draw else ()

    @property
    def reads_layer(self) -> bool:
        """Whether samples are made from what the model computes at the layer."""
        is_taken = any(QUANTITIES[name].place == "layer" for name in (*self.takes, *self.asks))
        return is_taken or self.varies == "activation"

    def count(self, layer: Layer, settings: Mapping[str, Any]) -> int | None:
        """The number of samples of an image before they are drawn; None if it is not known."""
        if self.total is not None:
            return self.total if isinstance(self.total, int) else self.total(layer, settings)
        return None if self.counts is None else int(settings[self.counts])

    def concerns(self, setting: str, quantities: Collection[str]) -> bool:
        """Whether a setting has a meaning for these quantities: one that replaces quantities replaces some."""
        replaced = [other for (name, _), other in self.replaces.items() if name == setting]
        return not replaced or any(not other.keys().isdisjoint(quantities) for other in replaced)


SAMPLERS: Registry[Sampler] = Registry("sampler")


def sampler(
    name: str,
    *,
    varies: Literal["image", "activation"] = "image",
    counts: str | None = None,
    total: Count | int | None = None,
    replaces: Mapping[tuple[str, str], Mapping[str, str]] | None = None,
    named: tuple[str, ...] = (),
    asks: tuple[str, ...] = (),
    smooths: bool = False,
    weighted: tuple[str, str] | None = None,
    embedded: Mapping[str, str] | None = None,
    not_embeddable: str = "",
    not_embeddable_with: Mapping[tuple[str, str], str] | None = None,
) -> Callable[[Draw], Draw]:
    """A decorator that adds a function from a `CleanRun` to `Samples` to the table of samplers. Its further
    positional parameters are quantities of the clean image, its keyword-only parameters are settings, and the
    first line of its docstring says what the model is run on.

    ValueError for a setting without annotation or default, a parameter that is no quantity of the clean image,
    or if `varies`, `counts` or `asks` names nothing.
    """

    def register(draw: Draw) -> Draw:
        require_described(name, draw)
        if varies not in ("image", "activation"):
            raise ValueError(f"{name}: varies={varies!r}; expected image or activation")
        _require_quantities(f"{name} takes", _taken(draw), "the clean image")
        _require_quantities(f"{name} asks for", asks, "samples")
        settings = getattr(draw, "__kwdefaults__", None) or {}
        if counts is not None and counts not in settings:
            listed = ", ".join(settings) or "none"
            raise ValueError(f"{name}: counts={counts!r} is no setting; its settings: {listed}")
        description = (draw.__doc__ or name).strip().splitlines()[0].rstrip(".")
        row = Sampler(
            name,
            description,
            draw,
            varies,
            counts,
            total,
            replaces or {},
            named,
            asks,
            smooths,
            weighted,
            embedded or {},
            not_embeddable,
            not_embeddable_with or {},
        )
        SAMPLERS.add(name, row)
        return draw

    return register


def _require_quantities(who: str, names: Collection[str], what: str) -> None:
    """ValueError for names that are not quantities of the clean image, or of samples."""
    known = [key for key, row in QUANTITIES.items() if row.is_sampled == (what == "samples")]
    if unknown := sorted({*names} - {*known}):
        raise ValueError(
            f"{who} {', '.join(unknown)}, which are not quantities of {what}; these are: {', '.join(known)}"
        )


def _taken(draw: Draw) -> tuple[str, ...]:
    parameters = inspect.signature(draw).parameters.values()
    return tuple(p.name for p in parameters if p.kind != p.KEYWORD_ONLY)[1:]
