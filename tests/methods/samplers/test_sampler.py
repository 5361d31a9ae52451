"""Samplers: what they draw, and what the table says about them."""

from dataclasses import fields, replace
from typing import Annotated, Any

import numpy as np
import pytest

from onnxcam.arrays import Floats
from onnxcam.methods import METHODS, QUANTITIES, SAMPLERS, Samples, sampler
from onnxcam.methods.samplers import CleanRun
from onnxcam.methods.samplers.sampler import Computed, Repeated
from onnxcam.specs import Layer

DRAWING = {name: row for name, row in SAMPLERS.items() if row.draw}


def test_setting_that_replaces_no_quantity_of_the_method_does_not_concern_it() -> None:
    gaussian = SAMPLERS["gaussian"]
    assert gaussian.concerns("activation", {"activation", "d1"})
    assert not gaussian.concerns("activation", {"d1"})
    assert gaussian.concerns("samples", {"d1"})


# What is drawn


def test_factors_are_one_by_default() -> None:
    np.testing.assert_array_equal(Samples(3).factors, np.ones(3))
    halves = Samples(2, weights=np.array([0.5, 0.25], np.float32)).factors
    assert halves.dtype == np.float64
    np.testing.assert_array_equal(halves, [0.5, 0.25])


def test_repeated_row_is_that_of_all_samples() -> None:
    row = np.ones((1, 3, 2, 2), np.float32)
    assert Repeated(row)[3:7] is row


def test_computed_rows_are_computed_when_they_are_run() -> None:
    """Memory does not grow with their number."""
    asked: list[slice] = []

    def rows(samples: slice) -> Floats:
        asked.append(samples)
        return np.arange(samples.start, samples.stop, dtype=np.float64)

    computed = Computed(rows)
    assert asked == []
    np.testing.assert_array_equal(computed[2:5], [2, 3, 4])
    assert asked == [slice(2, 5)]


def clean_run(layer: Layer, shape: tuple[int, ...]) -> CleanRun:
    """A run of which only the layer and its values are known."""
    unknown: dict[str, Any] = dict.fromkeys(field.name for field in fields(CleanRun))
    return CleanRun(**{**unknown, "layer": layer, "values": np.zeros(shape, np.float32)})


MASK = np.arange(6.0).reshape(1, 2, 3)


@pytest.mark.parametrize(
    ("shape", "axis", "expected"),
    [((1, 4, 2, 3), 1, (1, 1, 2, 3)), ((1, 2, 3, 4), 3, (1, 2, 3, 1))],
)
def test_mix_broadcasts_over_feature_maps(
    shape: tuple[int, ...], axis: int, expected: tuple[int, ...]
) -> None:
    layer = Layer("y", "Relu", shape, axis, is_bottleneck=True)
    mixed = clean_run(layer, shape).mix(MASK)
    assert mixed.shape == expected
    np.testing.assert_array_equal(mixed.ravel(), MASK.ravel())


@pytest.mark.parametrize(
    ("shape", "axis", "expected"), [((1, 9, 4), 2, (1, 9, 1)), ((1, 4, 9), 1, (1, 1, 9))]
)
def test_mix_keeps_tokens_that_are_no_cells(
    shape: tuple[int, ...], axis: int, expected: tuple[int, ...]
) -> None:
    layer = Layer(
        "y",
        "Add",
        shape,
        axis,
        is_bottleneck=True,
        cells=(2, 3),
        tokens_before=1,
        tokens_after=2,
    )
    mixed = clean_run(layer, shape).mix(MASK)
    assert mixed.shape == expected
    np.testing.assert_array_equal(mixed.ravel(), [1, *MASK.ravel(), 1, 1])


def test_numbers_of_samples_are_spread_over_columns() -> None:
    samples = Samples(2, columns=np.array([3, 1]), width=5)
    np.testing.assert_array_equal(samples.spread(np.array([[7.0, 8.0]])), [[0, 8, 0, 7, 0]])
    stacked = np.ones((1, 2))
    assert Samples(2).spread(stacked) is stacked


# The table


def test_one_pass_draws_nothing() -> None:
    once = SAMPLERS["once"]
    assert once.draw is None
    assert once.settings == {}
    assert (once.varies, once.counts, once.smooths) == ("", None, False)
    assert METHODS["grad-cam"].sampler is once


@pytest.mark.parametrize("name", DRAWING)
def test_sampler_names_what_it_has(name: str) -> None:
    row = DRAWING[name]
    assert row.varies in ("image", "activation")
    assert row.description
    assert not row.description.endswith(".")
    assert all(setting.meaning for setting in row.settings.values())
    assert row.counts is None or isinstance(row.settings[row.counts].default, int)
    assert row.weighted is None or row.weighted[1] in row.settings[row.weighted[0]].choices
    for (setting, value), replaced in row.replaces.items():
        assert value in row.settings[setting].choices
        assert row.settings[setting].default != value
        assert {*replaced, *replaced.values()} <= {*QUANTITIES}
    # only a sampler that computes with quantities may name one
    assert row.asks or not {*row.named} & {*QUANTITIES}


def test_settings_are_keyword_only_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SAMPLERS, "_values", dict(SAMPLERS))

    @sampler("two", varies="activation", counts="number", named=("origin",))
    def two(clean: CleanRun, *, number: Annotated[int, "how many"] = 2) -> Samples:
        """the model on two copies.

        More on them.
        """
        return Samples(number, named={"origin": clean.values})

    row = SAMPLERS["two"]
    assert (row.name, row.draw, row.varies, row.named) == ("two", two, "activation", ("origin",))
    assert row.description == "the model on two copies"
    assert (row.settings["number"].default, row.settings["number"].meaning) == (2, "how many")
    assert not row.smooths
    with pytest.raises(ValueError, match="sampler 'two' is registered twice"):
        sampler("two")(two)


def test_positional_parameters_are_quantities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SAMPLERS, "_values", dict(SAMPLERS))

    @sampler("bright", total=lambda layer, settings: settings["number"] * len(layer.shape))
    def bright(
        clean: CleanRun, image: Floats, *, number: Annotated[int, "how many"] = 2
    ) -> Samples:
        """the model on brighter copies."""
        return Samples(number, named={"origin": image})

    @sampler("shown")
    def shown(clean: CleanRun, activation: Floats, score: Floats) -> Samples:
        """the model on what a layer shows."""
        return Samples(1)

    layer = Layer("y", "Relu", (None, 4, 2, 3), 1, is_bottleneck=True)
    assert (SAMPLERS["bright"].takes, SAMPLERS["shown"].takes) == (
        ("image",),
        ("activation", "score"),
    )
    assert (SAMPLERS["bright"].reads_layer, SAMPLERS["shown"].reads_layer) == (False, True)
    assert SAMPLERS["bright"].count(layer, {"number": 3}) == 12
    assert SAMPLERS["shown"].count(layer, {}) is None
    assert SAMPLERS["gaussian"].count(layer, {"samples": 7}) == 7
    assert SAMPLERS["positions"].count(layer, {}) == 6
    assert SAMPLERS["positions"].count(replace(layer, shape=(None, 4, "h", 3)), {}) is None


def test_sampler_of_what_is_no_quantity_of_the_clean_image_is_not_registered() -> None:
    def of_samples(clean: CleanRun, d1: Floats) -> Samples:
        return Samples(1)

    def of_nothing(clean: CleanRun, missing: Floats) -> Samples:
        return Samples(1)

    for draw, name in ((of_samples, "d1"), (of_nothing, "missing")):
        message = f"new takes {name}, which are not quantities of the clean image; these are: act"
        with pytest.raises(ValueError, match=message):
            sampler("new")(draw)
    assert "new" not in SAMPLERS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"varies": "layer"}, "new: varies='layer'; expected image or activation"),
        ({"counts": "n"}, "new: counts='n' is no setting; its settings: number"),
    ],
)
def test_sampler_that_cannot_run_is_not_registered(options: dict[str, Any], message: str) -> None:
    def draw(clean: CleanRun, *, number: Annotated[int, "how many"] = 2) -> Samples:
        return Samples(number)

    with pytest.raises(ValueError, match=message):
        sampler("new", **options)(draw)
    assert "new" not in SAMPLERS


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="returned 0 samples; expected at least 1"):
        Samples(0)


@pytest.mark.parametrize("name", ["scales", "weights", "columns"])
def test_other_number_of_factors_is_refused(name: str) -> None:
    factors: dict[str, Any] = {name: np.ones(2)}
    with pytest.raises(ValueError, match=rf"{name} of 3 samples have the shape \(2,\)"):
        Samples(3, **factors)
