"""Compare subset scans with those of the Adversarial Robustness Toolbox, on the same activations.

    python -m scripts.parity.subset_scans

needs NumPy and the package adversarial-robustness-toolbox, with scikit-learn, packaging and Pillow, and nothing
else. Prints the largest differences of p-values and scores of single images, which both search
exactly, and the ratios of the scores of groups, which neither does.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.scanning.background import Background
from onnxcam.scanning.search import Ranks, ascend, histogram, scan_nodes
from onnxcam.scanning.statistics import STATISTICS

PACKAGE = "art.defences.detector.evasion.subsetscanning"
SCORES = {"berk-jones": "get_score_bj_fast", "higher-criticism": "get_score_hc_fast"}
NAMES = {"berk-jones": "BerkJones", "higher-criticism": "HigherCriticism"}
ALPHAS = (0.05, 0.2, 0.5)
CASES = 40
GROUPS = 25


class Classifier:
    """What the detector asks for activations: the images are their own."""

    layer_names = ("layer",)

    def get_activations(self, x: Floats, *_: Any) -> Floats:
        """(N, nodes)"""
        return x


def draw_activations(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Activations of a background and of some images, some of them shifted, after a ReLU: half are equal."""
    count, nodes = int(rng.integers(20, 120)), int(rng.integers(5, 400))
    background = rng.normal(0, 1, (count, nodes))
    images = rng.normal(0, 1, (6, nodes))
    images[:3, : nodes // 3] += rng.uniform(0, 3)
    background, images = (np.maximum(values, 0).round(2) for values in (background, images))
    return background.astype(np.float32), images.astype(np.float32)


def compare_images(rng: np.random.Generator) -> dict[str, float]:
    """The largest relative differences of one case."""
    detector = import_module(f"{PACKAGE}.detector").SubsetScanningDetector
    scanner = import_module(f"{PACKAGE}.scanner").Scanner
    functions = import_module(f"{PACKAGE}.scoring_functions").ScoringFunctions
    activations, images = draw_activations(rng)
    background = Background(np.ascontiguousarray(activations.T))
    ranks = background.ranks(images)
    worst = dict.fromkeys(("p-values", *SCORES), 0.0)
    for name in SCORES:
        other = detector(Classifier(), activations, 0, NAMES[name], verbose=False)
        ranges = other._calculate_pvalue_ranges(images)
        p_values = ranks / background.levels
        worst["p-values"] = max(worst["p-values"], np.abs(p_values - ranges[:, :, 1]).max())
        for alpha in ALPHAS:
            ours = scan_nodes(
                histogram(ranks, background.levels), background.levels, alpha, STATISTICS[name]
            ).scores
            theirs = [peer_score(scanner, functions, row, alpha, name) for row in ranges]
            difference = np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1e-12)
            worst[name] = max(worst[name], float(difference.max()))
    return worst


def peer_score(scanner: Any, functions: Any, ranges: Floats, alpha: float, name: str) -> float:
    """The package's score of one image; 0 where it has none, because no p-value is that small."""
    if not (ranges[:, 1] <= alpha).any():
        return 0.0
    score = scanner.fgss_individ_for_nets(ranges, alpha, getattr(functions, SCORES[name]))[0]
    return float(score)


def compare_groups(rng: np.random.Generator, name: str) -> float:
    """Our score of a group of images, divided by the package's, with as many restarts."""
    scanner = import_module(f"{PACKAGE}.scanner").Scanner
    functions = import_module(f"{PACKAGE}.scoring_functions").ScoringFunctions
    activations, images = draw_activations(rng)
    background = Background(np.ascontiguousarray(activations.T))
    ranks: Ranks = background.ranks(images)
    ranges = np.repeat((ranks / background.levels)[:, :, None], 2, axis=2)
    theirs = scanner.fgss_for_nets(
        ranges, 0.2, restarts=6, score_function=getattr(functions, SCORES[name])
    )[0]
    ours = ascend(ranks, background.levels, 0.2, STATISTICS[name], restarts=4)
    return float(ours.score / theirs)


def main() -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    np.random.seed(0)  # noqa: NPY002  the package draws from it
    worst = [compare_images(rng) for _ in range(CASES)]
    for name in worst[0]:
        largest = max(case[name] for case in worst)
        print(f"{name}: largest difference {largest:.1e} in {CASES} cases of 6 images")
    for name in SCORES:
        ratios = np.array([compare_groups(rng, name) for _ in range(GROUPS)])
        print(
            f"{name} of a group, ours / theirs: median {np.median(ratios):.3f}, {ratios.min():.3f} to "
            f"{ratios.max():.3f}, at least theirs in {(ratios > 1 - 1e-9).sum()} of {GROUPS}"
        )


if __name__ == "__main__":
    main()
