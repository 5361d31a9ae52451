"""Whether onnxcam's results for a model are correct, compared with the plain model in ONNX Runtime.

- The tensor that is explained has the value that the plain model gives it.
- The gradient at the input equals central differences of the plain model in random directions.
- The map of an image depends neither on the images next to it nor on how many inputs are run at once.

Differences are in float32, with several steps. A gradient is right in a direction if one of them agrees. It is
wrong if the two shortest steps that rounding allows agree on another slope, and so do the slopes on both sides
for the shortest step. Otherwise there is a kink, a step, or noise, and nothing is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

import onnxcam
from onnxcam.arrays import Array
from onnxcam.specs import SEED, ImageInput, gradient_at
from scripts.fuzz.case import BeyondError, NotSmoothError, Phase, WrongError

SIZE = 8  # pixels, if the model takes any
LARGEST = 1 << 20  # numbers that a model is fed
DIRECTIONS = 3
STEPS = (0.05, 0.02, 0.008, 0.003, 0.001, 3e-4, 1e-4, 3e-5)
FLOATS = (np.float32, np.float64, np.float16)
ROUGH = {"float16", "bfloat16"}
# also all types of 8 bits or fewer
NARROW = {
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    *range(17, 26),
}
QUANTIZED = ("Quantize", "QLinear", "Integer")
RANDOM = ("Random", "Bernoulli", "Multinomial", "Dropout")


def check(path: Path, draw: np.random.Generator) -> None:
    """Raises WrongError, NotSmoothError, BeyondError, or an error of onnxcam; returns if all is right."""
    explainer = onnxcam.Explainer(path, samples=2, cache=False, device="cpu")
    image, of = explainer.plan.image, explainer.plan.explained_tensor
    images = _images(image, draw)
    explanation = explainer(images, "top1")
    model = onnxcam.load(path)
    if of not in model.graph.tensors():  # for a dense head, the plan adds this tensor
        of = next(output.name for output in model.graph.outputs if output.dtype in FLOATS)
    augmented = onnxcam.gradient(model, [image.name], of)
    content = augmented.bytes()
    feeds = {image.name: images[: image.batch or 1]}
    Phase.announce("plain")
    try:
        plain = _PlainModel(path, of)
        scores = plain(feeds)
    except Exception as error:
        raise BeyondError(f"the plain model: {error}") from error
    Phase.announce("own")
    try:
        own = _PlainModel(content)
    except Exception as error:
        raise WrongError(f"the model with its gradient does not open: {error}") from error
    rough = plain.rounds
    if plain.has(RANDOM):
        raise NotSmoothError("random numbers")
    _compare_scores(own(_add_seed(own, feeds, scores.get(of))), scores, 2e-2 if rough else 2e-4)
    if of == explainer.plan.explained_tensor:
        _compare_reported_score(explanation, scores.get(of), 2e-2 if rough else 2e-4)
    _compare_single_image(path, images, explanation, 5e-2 if rough else 2e-3)
    if rough:
        raise NotSmoothError("a type that rounds")
    _compare_slopes(own, plain if of in scores else own, feeds, of, draw)


def run_plain(path: Path) -> None:
    """Run the model with ONNX Runtime alone on any input."""
    runs = _PlainModel(path)
    runs(
        {
            node.name: np.zeros(
                [dim if isinstance(dim, int) and dim > 0 else 1 for dim in node.shape], "f"
            )
            for node in runs.session.get_inputs()
        }
    )


class _PlainModel:
    """A model in ONNX Runtime, without optimizations that would hide a difference behind rounding."""

    def __init__(self, source: Path | bytes, of: str | None = None) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        content: Any = source
        self.proto = (
            onnx.load(source, load_external_data=False) if isinstance(source, Path) else None
        )
        if self.proto and of not in {None, *(output.name for output in self.proto.graph.output)}:
            self.proto.graph.output.append(onnx.ValueInfoProto(name=of))
            content = Path(source).with_name("plain.onnx")  # type: ignore[arg-type]
            content.write_bytes(self.proto.SerializeToString())
        providers = ["CPUExecutionProvider"]
        try:
            self.session = ort.InferenceSession(content, options, providers=providers)
        except Exception:
            if content is source:
                raise
            self.session = ort.InferenceSession(source, options, providers=providers)

    @property
    def kinds(self) -> set[str]:
        nodes = (*self.session.get_inputs(), *self.session.get_outputs())
        return {node.type.removeprefix("tensor(").removesuffix(")") for node in nodes}

    def has(self, parts: tuple[str, ...]) -> bool:
        """Whether the name of an operator contains one of the words."""
        nodes = self.proto.graph.node if self.proto else ()
        return any(part in str(node.op_type) for node in nodes for part in parts)

    @property
    def rounds(self) -> bool:
        """Whether something in the model is of fewer than 32 bits, or quantized."""
        narrow = {str(kind) for kind in self.kinds} & ROUGH
        if self.proto is None or narrow or self.has(QUANTIZED):
            return bool(narrow) or self.has(QUANTIZED)
        types = {tensor.data_type for tensor in self.proto.graph.initializer}
        types |= {
            attribute.i
            for node in self.proto.graph.node
            for attribute in node.attribute
            if attribute.name in ("to", "dtype", "stash_type", "softmax_precision")
        }
        return bool(types & NARROW)

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        names = [output.name for output in self.session.get_outputs()]
        takes = {node.name for node in self.session.get_inputs()}
        taken = {name: array for name, array in feeds.items() if name in takes}
        return dict(zip(names, self.session.run(names, taken), strict=True))


def _images(image: ImageInput, draw: np.random.Generator) -> Any:
    """Two inputs in the model's layout and type."""
    sizes = {"C": image.channels or 3, "H": image.height or SIZE, "W": image.width or SIZE}
    shape = (max(2, image.batch or 1), *(sizes[axis] for axis in image.layout[1:]))
    if np.prod([float(size) for size in shape]) > LARGEST:
        raise BeyondError(f"an input of {shape} numbers")
    if image.dtype.kind in "iu":
        return draw.integers(0, 100, shape).astype(image.dtype)
    return draw.normal(0, 1, shape).astype(image.dtype)


def _add_seed(own: _PlainModel, feeds: dict[str, Array], score: Array | None) -> dict[str, Array]:
    """The feeds, and a seed of ones in the shape of the score."""
    seed = next((node for node in own.session.get_inputs() if node.name == SEED), None)
    if seed is None:
        raise WrongError("the model with its gradient has no seed")
    return {**feeds, SEED: np.ones(_seed_shape(seed.shape, score), _dtype(seed.type))}


def _compare_scores(outputs: dict[str, Array], right: dict[str, Array], tolerance: float) -> None:
    """Outputs of the model with its gradient must equal those of the plain model with the same names."""
    for name in outputs.keys() & right.keys():
        if outputs[name].dtype.kind in "fiub" and (
            why := _difference(outputs[name], right[name], tolerance)
        ):
            raise WrongError(f"{name}: {why}")


def _seed_shape(shape: list[Any], score: Array | None) -> tuple[int, ...]:
    if score is not None:
        return score.shape
    return tuple(dim if isinstance(dim, int) else 1 for dim in shape)


def _dtype(kind: str) -> Any:
    return {"tensor(double)": np.float64, "tensor(float16)": np.float16}.get(kind, np.float32)


def _difference(own: Array, right: Array, tolerance: float) -> str:
    if own.shape != right.shape:
        return f"shape {own.shape}, the plain model's is {right.shape}"
    mine, plain = own.astype(np.float64), right.astype(np.float64)
    if not np.array_equal(np.isfinite(mine), np.isfinite(plain)):
        return "not finite where the plain model is, or the reverse"
    finite = np.isfinite(plain)
    if not finite.any():
        return ""
    difference = np.abs(mine - plain)[finite].max()
    scale = np.abs(plain[finite]).max()
    if difference <= tolerance * scale + 1e-6:
        return ""
    return f"differs by {difference:.3g} of {scale:.3g}"


def _compare_reported_score(explanation: Any, score: Array | None, tolerance: float) -> None:
    """The reported score must be the plain model's for that class, and its largest."""
    if score is None or score.ndim != 2 or len(score) > len(explanation):
        return
    score_of_class, index = float(explanation.scores[0]), explanation.indices[0]
    right = score.astype(np.float64)[0]
    slack = tolerance * float(np.abs(right).max()) + 1e-6
    if not index < len(right) or not abs(right[index] - score_of_class) <= slack:
        raise WrongError(f"class {index} has {score_of_class:.5g}; the plain model has {right}")
    if right[index] < right.max() - slack:
        raise WrongError(f"class {index} is ranked first; the plain model has {right}")


def _compare_single_image(path: Path, images: Any, explanation: Any, tolerance: float) -> None:
    """The map of the second image must be the same without the first, one input at a time."""
    single = onnxcam.Explainer(path, samples=2, cache=False, device="cpu", chunk=1)
    alone = single(images[1:], "top1")
    if alone.indices[0] != explanation.indices[1]:
        raise NotSmoothError("two classes tie")
    if why := _difference(explanation.layer_maps[1:], alone.layer_maps, tolerance):
        raise WrongError(f"the map of an image alone: {why}")


@dataclass(frozen=True)
class _Slope:
    """Slopes along a direction: over both sides, before, and after, and their noise."""

    both: float
    before: float
    after: float
    noise: float


def _compare_slopes(
    own: _PlainModel,
    right: _PlainModel,
    feeds: dict[str, Array],
    of: str,
    draw: np.random.Generator,
) -> None:
    name = next(iter(feeds))
    start: Any = feeds[name]
    if start.dtype.kind in "iu":
        raise NotSmoothError("an input of integers")
    seed = next(node for node in own.session.get_inputs() if node.name == SEED)
    shape = _seed_shape(seed.shape, right(feeds).get(of) if right is not own else None)
    cotangent = draw.normal(0, 1, shape).astype(_dtype(seed.type))
    seeded = {SEED: cotangent}
    gradient = own({**feeds, **seeded})[gradient_at(name)].astype(np.float64)
    value = lambda point: _weighted_sum(right({name: point, **seeded})[of], cotangent)  # noqa: E731
    unclear = ""
    for _ in range(DIRECTIONS):
        direction = draw.normal(0, 1, start.shape)
        expected = float(np.sum(gradient * direction))
        unclear = _judge(expected, start, direction, value) or unclear
    if unclear:
        raise NotSmoothError(unclear)


def _weighted_sum(scores: Any, cotangent: Any) -> tuple[float, float]:
    """The score for a cotangent, and its possible rounding error."""
    terms = scores.astype(np.float64) * cotangent
    return float(terms.sum()), 4e-7 * float(np.abs(terms).sum())


def _judge(
    expected: float, start: Any, direction: Any, value: Callable[[Any], tuple[float, float]]
) -> str:
    """Why nothing can be decided; empty if the gradient is right. WrongError if it is wrong."""
    slopes = [_slope(start, direction, step, value) for step in STEPS]
    if not all(np.isfinite([slope.both, slope.before, slope.after]).all() for slope in slopes):
        return "the plain model is not finite nearby"
    if any(_are_close(expected, slope.both, slope.noise) for slope in slopes):
        return ""
    certain = [slope for slope in slopes if slope.noise < abs(expected - slope.both) / 4]
    if len(certain) < 2:
        return f"a slope of {expected:.4g}, and {slopes[-1].both:.4g} with noise {slopes[-1].noise:.1g}"
    wider, closest = certain[-2:]
    gap = abs(expected - closest.both)
    if max(abs(wider.both - closest.both), abs(closest.after - closest.before)) < gap / 4:
        raise WrongError(f"a slope of {expected:.5g}; differences say {closest.both:.5g}")
    return f"a slope of {expected:.4g}; {closest.before:.4g} before and {closest.after:.4g} after"


def _slope(
    start: Any, direction: Any, step: float, value: Callable[[Any], tuple[float, float]]
) -> _Slope:
    """Differences, at points rounded to the type of the input."""
    low, high = ((start + sign * step * direction).astype(start.dtype) for sign in (-1, 1))
    (before, _), (here, _), (after, noise) = value(low), value(start), value(high)
    return _Slope(
        (after - before) / (2 * step),
        (here - before) / step,
        (after - here) / step,
        noise / step,
    )


def _are_close(expected: float, slope: float, noise: float) -> bool:
    return abs(expected - slope) <= 1e-2 * abs(slope) + noise + 1e-6
