"""Samples drawn on arrays, and the same written into a graph and run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnxcam.arrays import Array, Floats, Images
from onnxcam.graph.tracing import Builder
from onnxcam.methods import SAMPLERS, CleanRun, Samples
from onnxcam.methods.samplers.sampler import Repeated, Tabulated
from onnxcam.specs import Layer
from tests.methods.support.written import run_written

IMAGE = "image"
COLORS = {0.0: -2.0, 1.0: 2.5}  # of a gray level in the image tensor
REPORTED = {"baseline_score", "noisy_score"}  # what no formula takes, and no graph computes
FIRST, LAST = 1, 4  # the samples that are compared


def image_layer(images: Images, axis: int, *, free: bool = False) -> Layer:
    """The image itself as a layer."""
    shape = (None if free else len(images), *images.shape[1:])
    return Layer(IMAGE, "", shape, axis, is_bottleneck=True)


def clean_run(values: Any, layer: Layer) -> CleanRun:
    """What a sampler knows of images, or of Values of them; scores are counted, not computed."""
    channels = layer.channels
    assert isinstance(channels, int)
    sizes = [channels if axis == layer.channel_axis else 1 for axis in range(len(layer.shape))]
    return CleanRun(
        image=values,
        weights=np.ones(3),
        values=values,
        layer=layer,
        aspect_ratio=2 / 3,
        read_image=lambda level: np.full((1, *values.shape[1:]), float(level)),
        color=lambda level: np.full((1, *sizes[1:]), COLORS[level]),
        scores=lambda samples: np.ones(samples.count),
        to_device=lambda array: array,
        recall=lambda _, make: make(),
        compute=lambda _: {},
    )


def draw(name: str, values: Any, layer: Layer, **settings: Any) -> Samples:
    """The samples of a sampler without quantities."""
    function = SAMPLERS[name].draw
    assert function is not None
    return function(clean_run(values, layer), **settings)


def on_arrays(
    name: str, images: Images, layer: Layer, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Some rows of the samples (N, n, ...), their scales (N, n), and what is named, of images on their own."""
    drawn = [draw(name, images[n : n + 1], layer, **settings) for n in range(len(images))]
    parts = [dict(_of_image(samples)) for samples in drawn]
    return {key: np.stack([part[key] for part in parts]) for key in parts[0]}


def _of_image(samples: Samples) -> Iterator[tuple[str, Any]]:
    rows, count = slice(FIRST, LAST), LAST - FIRST
    tables = {"offsets": samples.offsets, **samples.inputs}
    for name, table in tables.items():
        if table is not None:
            array = np.asarray(table[rows])
            yield name, np.broadcast_to(array, (count, *array.shape[1:]))
    yield "scales", np.ones(count) if samples.scales is None else samples.scales[rows]
    for name, array in samples.named.items():
        yield name, array[0]


def write_samples(
    name: str, image: Any, layer: Layer, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The Values of some rows of the samples, their scales, and what is named."""
    samples = draw(name, image, layer, **settings)
    rows = {"offsets": samples.offsets, **samples.inputs}
    results = {
        key: gather(table, image, FIRST, LAST) for key, table in rows.items() if table is not None
    }
    scales = np.ones(1) if samples.scales is None else samples.scales
    results["scales"] = image.constant_like(scales)
    return results | {key: image.constant_like(value) for key, value in samples.named.items()}


def on_values(
    name: str,
    images: Images,
    layer: Layer,
    settings: Mapping[str, Any],
    *,
    free: bool = False,
    opset: int = 17,
) -> dict[str, Any]:
    """The same for all images at once, from a graph."""
    expected = on_arrays(name, images, layer, settings)
    count, number = len(images), LAST - FIRST

    def write(image: Any) -> dict[str, Any]:
        return write_samples(name, image, layer, settings)

    shapes = {IMAGE: ("N", *images.shape[1:])} if free else None
    computed = run_written(write, {IMAGE: images}, shapes=shapes, opset=opset)
    assert expected.keys() - {*computed} <= REPORTED
    for key in computed.keys() - {"scales", *SAMPLERS[name].named}:
        computed[key] = unfold(computed[key], count, number)
    scales = np.atleast_2d(computed["scales"])
    computed["scales"] = scales if scales.shape[1] == 1 else scales[:, FIRST:LAST]
    return {key: np.broadcast_to(array, expected[key].shape) for key, array in computed.items()}


def write_graph(
    name: str, images: Images, layer: Layer, settings: Mapping[str, Any], opset: int = 17
) -> gs.Graph:
    """A graph that computes some samples."""
    graph = gs.Graph(opset=opset, import_domains=[onnx.helper.make_opsetid("", opset)])
    build = Builder(graph)
    results = write_samples(name, build.input(IMAGE, images.dtype, images.shape), layer, settings)
    for key, value in results.items():
        build.output(value, key)
    return graph


def unfold(rows: Array, images: int, samples: int) -> Array:
    """Rows of all images and samples, of all images, of all samples, or one: as (images, samples, ...)."""
    shapes = {
        images * samples: (images, samples),
        samples: (1, samples),
        images: (images, 1),
        1: (1, 1),
    }
    return rows.reshape(*shapes[len(rows)], *rows.shape[1:])


def gather(rows: Any, image: Any, first: int, last: int) -> Any:
    """The rows of some samples, as an explanation in a graph asks for them: of every image, if they are made
    from it. Only what a graph can do with `Repeated` and `Tabulated` is done.
    """
    if isinstance(rows, Repeated):
        return image.constant_like(rows.row)
    assert isinstance(rows, Tabulated)
    shared = [image.constant_like(array) for array in rows.shared]
    numbers: Any = np.arange(first, last)
    if not rows.images:
        tables = [take(table, numbers, image) for table in rows.tables]
        return rows.compute(*tables, *shared)
    flat = np.reshape(image, (-1, int(np.prod(image.shape[1:]))))
    first_of_image = (flat[:, :1] * 0.0).astype(np.int64)  # zeros (N, 1)
    pairs = np.reshape(first_of_image + numbers, (-1,))
    tables = [take(table, pairs, image) for table in rows.tables]
    images = [repeat(array, last - first, image) for array in rows.images]
    return rows.compute(*tables, *images, *shared)


def take(table: Any, numbers: Any, image: Any) -> Any:
    """Rows of a table, which is written as a constant in its own dtype."""
    constant = table if not isinstance(table, np.ndarray) else image.build.constant(table)
    return np.take(constant, numbers, 0)


def repeat(array: Any, count: int, image: Any) -> Any:
    """Every row so many times."""
    value = image.constant_like(array)
    ones: Floats = np.ones((1, count, *[1] * (value.ndim - 1)), np.float32)
    return np.reshape(np.expand_dims(value, 1) * ones, (-1, *value.shape[1:]))
