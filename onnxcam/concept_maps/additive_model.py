"""A sum of shape functions, one of each feature, fitted by explainable boosting."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from onnxcam.arrays import Floats
from onnxcam.errors import SettingError

BINS, ROUNDS, BAGS = (
    64,
    2000,
    4,
)  # of a shape function, of the boosting, and models that are averaged


class ShapeFunction(NamedTuple):
    """What a feature adds: `values` (b,) between its `cuts` (b - 1,), the first one below all of them."""

    name: str
    cuts: Floats
    values: Floats

    def __call__(self, feature: Floats) -> Floats:
        """(n,): its values for those of a feature (n,)."""
        return self.values[np.searchsorted(self.cuts, feature, side="right")]


@dataclass(frozen=True)
class AdditiveModel:
    """y = intercept + sum_k f_k(x_k), the mean of each f_k over the fitted x being 0."""

    intercept: float
    functions: tuple[ShapeFunction, ...]

    def parts(self, features: Floats) -> Floats:
        """(n, K): f_k(x_k) for features (n, K)."""
        return np.stack([f(features[:, k]) for k, f in enumerate(self.functions)], axis=1)

    def __call__(self, features: Floats) -> Floats:
        """(n,): y for features (n, K)."""
        return self.intercept + self.parts(features).sum(axis=1)


def fit_additive_model(
    features: Floats, values: Floats, names: Sequence[str], seed: int
) -> AdditiveModel:
    """The additive model of features (n, K) that approximates values (n,): cyclic boosting of each feature in
    turn (Lou et al. 2012; Nori et al. 2019, "InterpretML", section 3), without interactions.

    SettingError if the package that fits it is not installed.
    """
    regressor = _load()(
        interactions=0,
        max_bins=BINS,
        max_rounds=ROUNDS,
        outer_bags=BAGS,
        random_state=seed,
        n_jobs=1,
        feature_types=["continuous"] * len(names),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        regressor.fit(features, values)
    functions = [
        # the first score is that of missing values, the last that of unknown ones
        ShapeFunction(name, np.asarray(bins[0], np.float64), np.asarray(scores[1:-1], np.float64))
        for name, bins, scores in zip(names, regressor.bins_, regressor.term_scores_, strict=True)
    ]
    return AdditiveModel(float(regressor.intercept_), tuple(functions))


def require_boosting() -> None:
    """SettingError if the package that fits additive models is not installed."""
    _load()


def _load() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from interpret.glassbox import ExplainableBoostingRegressor
    except ImportError as error:
        raise SettingError(
            "--surrogate gam and --superpixels need the package interpret-core: pip install 'onnxcam[gam]'"
        ) from error
    return ExplainableBoostingRegressor


def explained_variance(values: Floats, predictions: Floats) -> float:
    """R2: 1 - the mean square of the errors, of the variance of the values; 0 if they do not vary."""
    variance = float(np.var(values))
    return 1 - float(np.mean(np.square(values - predictions))) / variance if variance else 0.0
