"""Quantities say what they are written from, whose cells they have, and how they depend on the cotangent."""

from typing import Any

import numpy as np
import pytest

from onnxcam.heads.score import find_score
from onnxcam.methods import QUANTITIES, Quantity, quantity
from onnxcam.methods.place import Place
from onnxcam.methods.quantities import SOURCES
from onnxcam.model.load import load
from onnxcam.rewrite.programs import Programs, Subject, write_programs
from onnxcam.rewrite.sources import WRITE
from onnxcam.runtime.device import Device
from onnxcam.runtime.session import Session
from onnxcam.specs import OFFSET, RANK, REFERENCE, SAMPLE_INPUT, SCALE, SEED
from tests.support.layered_nets import CLASSES, CURVED
from tests.support.nets import random_images

COUNT = 3
X = random_images(COUNT)
SEEDS = np.random.default_rng(2).standard_normal((COUNT, CLASSES), dtype=np.float32)
BIAS = np.linspace(-1, 1, 6).reshape(1, 6, 1, 1).astype(np.float32)
CONSTANTS = {
    "bias": BIAS,
    "cells": np.ones((1, 2, 3), np.float32),
    "readers": np.ones((1, 6), np.float32),
}
TABLES = {"absorbed": "lrp", "reference_score": "deep-lift"}  # whose rules write these sources
PROPORTIONAL = [name for name, row in QUANTITIES.items() if row.degree is not None]


def write(row: Quantity) -> Programs:
    """The programs for one quantity at the features of CURVED; samples vary the image."""
    model = load(CURVED.content())
    places = [Place("features", constants=CONSTANTS)]
    varies = "image" if row.is_sampled else ""
    score = find_score(model)
    rules = next((rules for source, rules in TABLES.items() if source in row.sources), "default")
    return write_programs(
        model, Subject("x", None, score, score.logits, rules, [row], places, varies)
    )


def run(programs: Programs, factor: float) -> Any:
    """The quantity for a factor of the cotangent, with random numbers for what a sampler feeds."""
    (program,) = (
        program
        for program in (
            programs.clean,
            programs.constant,
            programs.sampled,
            programs.constant_sampled,
        )
        if program.outputs
    )
    session = Session(programs.models[program.model].bytes(), Device("cpu"), threads=1)
    random = np.random.default_rng(5)
    feeds = {
        name: random.random((COUNT, 1, 1, 1), dtype=np.float32)
        for name in session.inputs
        if name.startswith(SAMPLE_INPUT)
    }
    feeds |= {
        "x": X,
        REFERENCE: X[::-1],
        SEED: np.float32(factor) * SEEDS,
        RANK: np.zeros(COUNT, np.int64),
        OFFSET: np.zeros((1, 1, 1, 1), np.float32),
        SCALE: np.zeros(COUNT, np.float32),
    }
    present = {name: array for name, array in feeds.items() if name in session.inputs}
    return np.asarray(session.run(program.tensors, present)[0], np.float64)


@pytest.mark.parametrize("factor", [-2.0, 0.5, 3.0])
@pytest.mark.parametrize("name", PROPORTIONAL)
def test_quantity_scales_with_power_of_cotangent(name: str, factor: float) -> None:
    row = QUANTITIES[name]
    if row.rules and factor < 0:
        factor = -factor  # guided backpropagation drops negative cotangents
    programs = write(row)
    once, scaled = run(programs, 1.0), run(programs, factor)
    assert row.degree is not None
    assert np.abs(once).max() > 1e-6
    expected = once * factor**row.degree
    np.testing.assert_allclose(scaled, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


def test_some_quantities_are_not_proportional() -> None:
    """A probability weighted by minus one is one minus it, and only positive parts are means of attention."""
    of_probabilities = {"probability", "probability_mask", "sample_probabilities"}
    of_positive_parts = {"attention_relevance", "attention_gradient"}
    of_shares = {"relevance"}  # proportional, but a small share is no rounding error
    others = of_probabilities | of_positive_parts | of_shares
    assert {*QUANTITIES} - {*PROPORTIONAL} == others
    programs = write(QUANTITIES["sample_probabilities"])
    once, negative = run(programs, 1.0), run(programs, -1.0)
    assert np.abs(once + negative).max() > 1e-3


@pytest.mark.parametrize("name", QUANTITIES)
def test_quantity_is_written_from_sources_or_what_a_sampler_feeds(name: str) -> None:
    row = QUANTITIES[name]
    assert row.name == name
    assert row.sources == (row.sources & SOURCES.keys()) | {*row.sample_inputs}
    if row.sample_inputs:
        assert row.is_sampled


def test_every_source_is_written_or_a_constant_of_a_place() -> None:
    assert SOURCES.keys() == WRITE.keys() | CONSTANTS.keys()


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("activation", "layer"),
        ("gradient", "layer"),
        ("hvp", "layer"),
        ("bias_gradient", "layer"),
        ("d3", "layer"),
        ("mean_activation", "layer"),
        ("image", "image"),
        ("image_gradient", "image"),
        ("score", ""),
        ("sample_scores", ""),
        ("sample_probabilities", ""),
    ],
)
def test_place_follows_from_sources(name: str, place: str) -> None:
    assert QUANTITIES[name].place == place


@pytest.mark.parametrize(
    ("name", "gradient", "target"),
    [
        ("activation", False, False),
        ("image", False, False),
        ("mean_activation", False, False),
        ("score", False, True),
        ("sample_probabilities", False, True),
        ("gradient", True, True),
        ("image_gradient", True, True),
        ("hvp", True, True),
        ("d2", True, True),
    ],
)
def test_needs_follow_from_sources(name: str, gradient: bool, target: bool) -> None:
    row = QUANTITIES[name]
    assert (row.needs_gradient, row.needs_target) == (gradient, target)


def test_parameters_that_are_no_sources_are_fed_by_the_sampler() -> None:
    row = Quantity("new", lambda gradient, weight, angle: gradient * weight * angle, "…", "mean")
    assert row.sample_inputs == ("angle", "weight")
    assert row.is_sampled
    assert {name: QUANTITIES[name].sample_inputs for name in ("gradient_step", "d1")} == {
        "gradient_step": ("step",),
        "d1": (),
    }


def test_duplicate_quantity_is_refused() -> None:
    with pytest.raises(ValueError, match="quantity 'd1' is registered twice"):
        quantity("d1", lambda gradient: gradient, "another")


@pytest.mark.parametrize("name", ["d1", "d2", "d3"])
def test_mean_is_that_of_single_samples(name: str) -> None:
    """Expressions of one sample do not see the others."""
    power = QUANTITIES[name].degree or 0
    gradients = run(write(QUANTITIES["gradient"]), 1.0)
    sums = run(write(QUANTITIES[name]), 1.0)
    expected = np.sum(gradients**power, axis=0, keepdims=True)
    np.testing.assert_allclose(sums, expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())


def test_unknown_reduction_is_refused() -> None:
    with pytest.raises(ValueError, match="reduction='sum'; expected mean or stack"):
        quantity("new", lambda gradient: gradient, "g", "sum")  # type: ignore[arg-type]
    assert "new" not in QUANTITIES
