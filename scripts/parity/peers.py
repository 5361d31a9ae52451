"""Compare our maps with those that other packages compute of the same networks in PyTorch.

    python -m scripts.parity.peers            # every method that a package has, too
    python -m scripts.parity.peers -m blur-ig

Prints a line for each method, package and network: the lowest correlation of two images, and the largest
difference divided by the largest value; then a table with the worst of each method, in Markdown.
pytorch-grad-cam scales its maps from 0 to 1, so ours are scaled, too. Exit code 1 if a correlation is below
0.999, or an error above 1e-3, and no known difference explains it. Where samples are random, the peer may be
twice as far from our map as a map with another seed.

What is compared are rows of `peer_comparisons`. Needs torch (extra `oracle`); of the packages, those that are
installed are compared. They do not all install beside each other: `pip install --no-deps --target FOLDER …` and
`PYTHONPATH=.:FOLDER` is one way.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import onnxcam
from onnxcam.arrays import Floats
from onnxcam.errors import OnnxcamError
from scripts.parity.peer_comparisons import COMPARISONS, Comparison
from scripts.parity.peer_nets import Case, make_cases

BOUND, ERROR_BOUND = 0.999, 1e-3


@dataclass(frozen=True)
class Row:
    comparison: Comparison
    net: str
    outcome: str
    correlation: float = np.nan
    error: float = np.nan

    @property
    def failed(self) -> bool:
        return self.outcome.startswith("FAILS")

    @property
    def agrees(self) -> bool:
        return self.outcome.startswith(("equal", "as near"))

    def __str__(self) -> str:
        known = not np.isnan(self.correlation)
        numbers = f"{self.correlation:9.6f} {self.error:8.1e}" if known else " " * 18
        of = self.comparison
        return f"{of.method:24}{of.package:18}{self.net:10}{numbers}  {self.outcome}"


def explain(case: Case, comparison: Comparison, peer: Floats, **settings: Any) -> Floats:
    """Ours in the peer's shape: attributions, maps at the image's size, or maps of the layer."""
    options: dict[str, Any] = {"layer": case.layer} if comparison.at_layer else {}
    explainer = onnxcam.Explainer(
        case.path, method=comparison.method, device="cpu", cache=False, **options, **settings
    )
    explanation: Any = explainer(case.x, case.target)
    if peer.ndim == 4:
        return np.asarray(explanation.attributions)
    is_image = peer.shape[1:] == case.x.shape[2:]
    return np.asarray(explanation.maps if is_image else explanation.layer_maps)


def scale(maps: Floats) -> Floats:
    """From 0 to 1, one image at a time."""
    axes = tuple(range(1, maps.ndim))
    low, high = maps.min(axes, keepdims=True), maps.max(axes, keepdims=True)
    return (maps - low) / np.maximum(high - low, 1e-30)


def correlation(first: Floats, second: Floats) -> float:
    """The lowest of all images; NaN if a map is the same everywhere."""
    pairs = zip(first, second, strict=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.min([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs]))


def compare(case: Case, comparison: Comparison) -> Row:
    if comparison.method not in onnxcam.METHODS:
        return Row(comparison, case.name, "no such method yet")
    if importlib.util.find_spec(comparison.package) is None:
        return Row(comparison, case.name, "not installed")
    settings = comparison.settings
    try:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
            peer = np.asarray(comparison.peer(case, settings), np.float64)  # and progress bars
    except Exception as error:  # noqa: BLE001  other packages raise whatever they like
        return Row(comparison, case.name, f"the package raises {type(error).__name__}: {error}")
    try:
        ours = explain(case, comparison, peer, **settings)
        bound = BOUND
        if comparison.is_random:
            other = explain(case, comparison, peer, **{**settings, "seed": 1})
            bound = min(BOUND, 1 - 2 * (1 - correlation(ours, other)))
    except OnnxcamError as error:
        return Row(comparison, case.name, f"FAILS: {error}")
    return judge(comparison, case.name, ours, peer, bound)


def judge(comparison: Comparison, net: str, ours: Floats, peer: Floats, bound: float) -> Row:
    if comparison.scaled:
        ours, peer = scale(ours), scale(peer)
    similarity = correlation(ours, peer)
    error = float(np.abs(ours - peer).max() / max(np.abs(peer).max(), 1e-30))
    if comparison.is_random and similarity >= bound:
        outcome = f"as near as another seed ({bound:.4f})"
    elif similarity >= bound and error <= ERROR_BOUND:
        outcome = "equal"
    elif comparison.difference:
        outcome = f"known: {comparison.difference}"
    else:
        limit = f"below {bound:.4f}" if not similarity >= bound else f"error above {ERROR_BOUND:g}"
        outcome = f"FAILS: {limit}"
    return Row(comparison, net, outcome, similarity, error)


def compare_all(method: str | None) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages
        cases = {case.name: case for case in make_cases(Path(folder))}
        for comparison in COMPARISONS:
            if method in (None, comparison.method):
                for net in comparison.nets:
                    yield compare(cases[net], comparison)


def summarize(rows: Sequence[Row]) -> Iterator[str]:
    """A table in Markdown: of each method the packages that agree, the worst figures of these, and the packages
    that differ, with the reason.
    """
    yield "| method | equal to | lowest correlation | largest error | others |"
    yield "|---|---|---|---|---|"
    for method in dict.fromkeys(row.comparison.method for row in rows):
        own = [row for row in rows if row.comparison.method == method]
        agreeing = [row for row in own if row.agrees]
        packages = ", ".join(dict.fromkeys(row.comparison.package for row in agreeing))
        others = "; ".join(
            dict.fromkeys(
                f"{row.comparison.package}: {row.outcome}" for row in own if not row.agrees
            )
        )
        correlation = min((row.correlation for row in agreeing), default=np.nan)
        error = max((row.error for row in agreeing), default=np.nan)
        figures = f"{correlation:.6f} | {error:.1e}" if agreeing else "– | –"
        yield f"| `{method}` | {packages or '–'} | {figures} | {others} |"


def main(
    method: Annotated[str | None, typer.Option("--method", "-m", help="Only this one.")] = None,
) -> None:
    rows = []
    for row in compare_all(method):
        print(row, flush=True)
        rows.append(row)
    print("", *summarize(rows), sep="\n")
    if any(row.failed for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
