"""Check that a refactor changes no result: store maps and gradients with both versions, and compare them.

    python -m scripts.parity.maps store /tmp/before       # with the old code, or PYTHONPATH=<its checkout>
    python -m scripts.parity.maps store /tmp/after        # with the new code
    python -m scripts.parity.maps compare /tmp/before /tmp/after

`store` explains two photographs by every method for every real model, and runs `onnxcam.gradient` at the input
and at the automatic layer of these, of every fixture, of the bundled model and of the small cases. Real models,
photographs and cases are those of `../shared` beside the checkout (or `--shared FOLDER`). Every result is an
.npz of its own; where there is none, it holds the class and the first line of the error.

`compare` prints a line for each result. Exit code 1 if a map, score or gradient differs by more than 1e-6 of
its maximum, if layers, classes or the class of an error are others, or if a result is missing on one side.
Wording of errors and notices may differ: it is only counted.
"""

from __future__ import annotations

import inspect
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
import onnx
import onnxruntime as ort
import typer
from numpy.typing import NDArray

import onnxcam
from scripts.fixtures.files import load_fixture

Arrays: TypeAlias = dict[str, NDArray[Any]]

BOUND = 1e-6  # of the largest difference divided by the maximum
PHOTOGRAPHS = ("free/pets_two_dogs.jpg", "coco/img/000000000285.jpg")
SETTINGS: dict[str, dict[str, Any]] = {"smooth-grad-cam++": {"samples": 8, "seed": 0}}
# Unless the chunk size is set, the fastest one is measured while the samples are run, and another one rounds
# float32 differently. With 4, the 8 samples take two chunks, so that their sums are tested, too.
CHUNK = 4
BATCH, SIDE = 2, 64  # inputs where the model leaves the batch, or another size, free
# By ONNX Runtime's names, where NumPy's are others
DTYPES = {"float": "float32", "double": "float64"}
ERROR = "error_class"  # the array that says that there is no result
WORDING = ("error_line", "notices")  # may differ
QUIET = 4  # ONNX Runtime logs what is fatal only

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, help=__doc__, rich_markup_mode=None
)


def result_or_error(compute: Callable[[], Arrays]) -> Arrays:
    try:
        return compute()
    except Exception as error:  # noqa: BLE001  any failure is a result
        lines = str(error).splitlines() or [""]
        return {ERROR: np.array(type(error).__name__), "error_line": np.array(lines[0])}


def explain(path: Path, method: str, images: Sequence[Path], settings: dict[str, Any]) -> Arrays:
    """What one method says of the photographs."""
    explainer = onnxcam.Explainer(path, method=method, device="cpu", cache=False, **settings)
    explanation = explainer(list(images))
    return {
        "maps": explanation.maps,
        "layer_maps": explanation.layer_maps,
        "scores": explanation.scores,
        "indices": np.array(explanation.indices),
        "layers": np.array(explanation.layers, np.str_),
        "notices": np.array(explanation.notices, np.str_),
    }


def input_names(proto: onnx.ModelProto) -> list[str]:
    """The first input: of all models here, the image."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    return [tensor.name for tensor in proto.graph.input if tensor.name not in weights][:1]


def layer_names(proto: onnx.ModelProto) -> list[str]:
    """The automatic layer, or one of each branch. LookupError if there is none."""
    layers = onnxcam.layers(onnxcam.load(proto))
    if names := [layer.name for layer in layers if layer.automatic]:
        return names
    raise LookupError("no automatic layer")


WHERE = {"input": input_names, "layer": layer_names}


def gradients(path: Path, where: str) -> Arrays:
    """The gradients of the logits at the input or at the automatic layer, for a random image and cotangent."""
    proto = load_fixture(path)
    names = WHERE[where](proto)
    augmented = onnxcam.gradient(onnxcam.load(proto), names)
    outputs = run(augmented.bytes(), [f"gradient/{name}" for name in names])
    numbered = {f"gradient_{number}": output for number, output in enumerate(outputs)}
    return {"layers": np.array(names, np.str_), **numbered}


def run(content: bytes, outputs: Sequence[str]) -> list[NDArray[Any]]:
    """The outputs of a model for random inputs, on one thread: how work is shared changes the rounding."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = QUIET
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    feeds = {tensor.name: random_input(tensor) for tensor in session.get_inputs()}
    return list(session.run(list(outputs), feeds))


def random_input(tensor: Any) -> NDArray[Any]:
    """Seeded by the name of the input; integers from the whole range of a pixel."""
    shape = [
        size if isinstance(size, int) and size > 0 else (BATCH if axis == 0 else SIDE)
        for axis, size in enumerate(tensor.shape)
    ]
    kind = tensor.type.removeprefix("tensor(").removesuffix(")")
    dtype = np.dtype(DTYPES.get(kind, kind))
    random = np.random.default_rng(zlib.crc32(tensor.name.encode()))
    if dtype.kind == "f":
        return random.standard_normal(shape, np.float32).astype(dtype)
    return random.integers(0, 256, shape).astype(dtype)


@dataclass(frozen=True)
class Task:
    """A result to be stored under a name."""

    name: str
    compute: Callable[[], Arrays]


def tasks(checkout: Path, shared: Path) -> Iterator[Task]:
    """Maps of the real models, then gradients of these and of all small ones."""
    images = [shared / "data" / "images" / name for name in PHOTOGRAPHS]
    real = models_in(shared / "data" / "models")
    for path in real:
        for method in onnxcam.METHODS:
            settings = {"chunk": CHUNK} | SETTINGS.get(method, {})
            yield Task(
                f"map {path.stem} {method}", partial(explain, path, method, images, settings)
            )
    small = (checkout / "tests" / "data", checkout / "models", shared / "cases")
    for path in [*real, *(path for folder in small for path in models_in(folder))]:
        for where in WHERE:
            yield Task(f"gradient {path.stem} {where}", partial(gradients, path, where))


def models_in(folder: Path) -> list[Path]:
    """Sorted by name. BadParameter if there is none, so that nothing is left out in silence."""
    if paths := sorted(folder.rglob("*.onnx"), key=lambda path: path.stem):
        return paths
    raise typer.BadParameter(f"{folder} holds no .onnx model")


def checkout_of_package() -> Path:
    """The checkout that onnxcam was imported from."""
    folders = Path(inspect.getfile(onnxcam)).resolve().parents
    return next(folder for folder in folders if (folder / "pyproject.toml").is_file())


@app.command()
def store(
    folder: Annotated[Path, typer.Argument(help="A new folder for the results.")],
    shared: Annotated[
        Path | None,
        typer.Option(help="Holds data/models, data/images and cases; default: ../shared."),
    ] = None,
    only: Annotated[str, typer.Option(help="Results whose name fits, as 'map resnet*'.")] = "*",
) -> None:
    """Compute all results with the onnxcam that Python imports, and store them."""
    if folder.is_dir() and any(folder.iterdir()):
        raise typer.BadParameter(f"{folder} is not empty")
    folder.mkdir(parents=True, exist_ok=True)
    checkout, begin = checkout_of_package(), time.perf_counter()
    print(f"onnxcam of {checkout}", flush=True)
    outcomes: Counter[str] = Counter()
    for task in tasks(checkout, shared or checkout.parent / "shared"):
        if fnmatch(task.name, only):
            outcomes[store_result(folder, task)] += 1
    counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    print(f"{outcomes.total()} results in {time.perf_counter() - begin:.0f} s: {counts}")


def store_result(folder: Path, task: Task) -> str:
    """Compute and write one result; returns "ok" or the class of the error."""
    begin = time.perf_counter()
    arrays = result_or_error(task.compute)
    outcome = str(arrays.get(ERROR, "ok"))
    np.savez_compressed(folder / f"{task.name}.npz", **arrays)  # type: ignore[arg-type]
    line = str(arrays.get("error_line", ""))
    print(f"{time.perf_counter() - begin:6.1f} s  {task.name}  {outcome}  {line}", flush=True)
    return outcome


@dataclass(frozen=True)
class Comparison:
    """Of one result before and after; `difference` is the largest of its arrays, infinite if they do not
    fit.
    """

    name: str
    outcome: str
    passed: bool
    difference: float = 0.0
    same_wording: bool = True


def load_results(folder: Path) -> dict[str, Arrays]:
    """By name."""
    return {path.stem: dict(np.load(path)) for path in sorted(folder.glob("*.npz"))}


def compare_results(name: str, before: Arrays | None, after: Arrays | None) -> Comparison:
    if before is None or after is None:
        side = "before" if before is None else "after"
        return Comparison(name, f"MISSING {side}", passed=False, difference=np.inf)
    worded = all(are_equal(before.get(text), after.get(text)) for text in WORDING)
    if ERROR in before or ERROR in after:
        errors = [str(arrays.get(ERROR, "no error")) for arrays in (before, after)]
        same = errors[0] == errors[1]
        outcome = f"refused: {errors[0]}" if same else f"DIFFERS: {errors[0]}, then {errors[1]}"
        return Comparison(name, outcome, same, 0.0 if same else np.inf, worded)
    names = [key for key in {**before, **after} if key not in WORDING]
    differences = {key: difference(before.get(key), after.get(key)) for key in names}
    largest = max(differences.values())
    words = [describe_difference(key, value) for key, value in differences.items()]
    return Comparison(name, ", ".join(words), largest <= BOUND, largest, worded)


def describe_difference(key: str, value: float) -> str:
    if value == 0:
        return f"{key} equal"
    return f"{key} {value:.1e}" if value <= BOUND else f"{key} DIFFERS {value:.1e}"


def are_equal(before: NDArray[Any] | None, after: NDArray[Any] | None) -> bool:
    """Bit for bit, or both not there."""
    if before is None or after is None:
        return before is after
    same_type = (before.shape, before.dtype) == (after.shape, after.dtype)
    return same_type and before.tobytes() == after.tobytes()


def difference(before: NDArray[Any] | None, after: NDArray[Any] | None) -> float:
    """0 if the arrays are equal bit for bit; else of floats the largest difference divided by the maximum, each
    image by its own; infinite of anything else.
    """
    if are_equal(before, after):
        return 0.0
    if before is None or after is None or before.shape != after.shape:
        return np.inf
    if before.dtype != after.dtype or before.dtype.kind != "f":
        return np.inf
    return max(relative(*pair) for pair in zip(before, after, strict=True))


def relative(before: NDArray[Any], after: NDArray[Any]) -> float:
    """Never 0: arrays without any difference differ in the sign of a zero, at least."""
    if are_equal(before, after):
        return 0.0
    gap = np.abs(np.asarray(after, np.float64) - before).max()
    ratio = gap / np.abs(before).max() if gap else np.finfo(np.float64).tiny
    return float(ratio) if np.isfinite(ratio) else np.inf


def summary(comparisons: Sequence[Comparison], stored: Iterable[Arrays]) -> str:
    """One line. Maps and gradients of nothing but zeros are counted, too, because they prove little."""
    worded = sum(not comparison.same_wording for comparison in comparisons)
    failed = sum(not comparison.passed for comparison in comparisons)
    parts = [summary_of(kind, comparisons) for kind in ("map", "gradient")]
    parts += [f"{sum(map(is_empty, stored))} with zeros only", f"wording differs in {worded}"]
    return "; ".join([*parts, f"{failed} FAILED" if failed else "all passed"])


def summary_of(kind: str, comparisons: Sequence[Comparison]) -> str:
    chosen = [comparison for comparison in comparisons if comparison.name.startswith(f"{kind} ")]
    refused = sum(
        comparison.passed and comparison.outcome.startswith("refused") for comparison in chosen
    )
    exact = sum(comparison.passed and comparison.difference == 0 for comparison in chosen) - refused
    largest = max((comparison.difference for comparison in chosen), default=0.0)
    return (
        f"{len(chosen)} {kind} results: {exact} equal bit for bit, {refused} refused by the same error, "
        f"largest difference {largest:.1e}"
    )


def is_empty(arrays: Arrays) -> bool:
    """Whether one of the maps, or of the gradients, is 0 everywhere."""
    images = [*arrays.get("maps", [])]
    images += [array for key, array in arrays.items() if key.startswith("gradient_")]
    return not all(image.any() for image in images)


@app.command()
def compare(before: Path, after: Path) -> None:
    """Compare two folders that `store` wrote."""
    old, new = load_results(before), load_results(after)
    names = sorted({*old, *new}, key=lambda name: (not name.startswith("map "), name))
    comparisons = [compare_results(name, old.get(name), new.get(name)) for name in names]
    for comparison in comparisons:
        wording = "" if comparison.same_wording else " (other wording)"
        print(
            f"{'ok  ' if comparison.passed else 'FAIL'} {comparison.name}: {comparison.outcome}{wording}"
        )
    print(summary(comparisons, old.values()))
    if not comparisons or not all(comparison.passed for comparison in comparisons):
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
