"""Samplers that get quantities of their samples back, and give the next ones."""

from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.arrays import Floats, Maps
from onnxcam.explain.run import Runner
from onnxcam.methods.samplers import SAMPLERS, CleanRun, Samples
from onnxcam.methods.samplers.sampler import Repeated
from onnxcam.registry import Registry
from tests.methods.support.compare import TARGET, X, assert_close, stack
from tests.support.layered_nets import CURVED, LayeredNet
from tests.support.nets import DEEP, FIXED, NHWC

STEPS = 3


@pytest.fixture(autouse=True)
def restored_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    registries: list[Registry[Any]] = [onnxcam.METHODS, SAMPLERS]
    for registry in registries:
        monkeypatch.setattr(registry, "_values", dict(registry))


@pytest.fixture
def climb() -> None:
    """Steps in the direction of the gradient, and the gradient where they end."""

    @onnxcam.sampler("climb", asks=("d1",), named=("gradient_step",))
    def climb(clean: CleanRun) -> Samples:
        """the model at points of ascent, one after the other."""
        offset = np.zeros(clean.image.shape, np.float32)
        for _ in range(STEPS):
            gradient = clean.compute(Samples(1, Repeated(offset)))["d1"]
            assert gradient.dtype == np.float64
            offset = offset + np.moveaxis(gradient, 1, clean.layer.channel_axis).astype(np.float32)
        last = clean.compute(Samples(1, Repeated(offset)))["d1"]
        return Samples(1, Repeated(offset), named={"gradient_step": last})


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of samples of all runs after the clean one."""
    counts: list[int] = []
    run: Any = Runner._run

    def counted(self: Runner, program: Any, base: Any, samples: Samples, *more: Any) -> Any:
        counts.append(samples.count)
        return run(self, program, base, samples, *more)

    monkeypatch.setattr(Runner, "_run", counted)
    return counts


def ascend(net: LayeredNet, x: Floats, target: int) -> Floats:
    point = x.astype(np.float64)
    for _ in range(STEPS):
        point = point + net.gradient(point, target)
    return net.gradient(point, target)


def attribute(content: bytes, x: Any = X, **options: Any) -> Floats:
    explainer = onnxcam.Explainer(content, "ascent", device="cpu", cache=False, **options)
    return np.asarray(explainer(x, TARGET).attributions)


@pytest.mark.usefixtures("climb")
def test_formula_of_named_arrays_needs_no_further_run(runs: list[int]) -> None:
    @onnxcam.method("ascent", source="this test, 2026", sampler="climb", at="image")
    def ascent(gradient_step: Maps) -> Maps:
        """The gradient after the ascent."""
        return gradient_step

    method = onnxcam.METHODS["ascent"]
    assert method.needs_gradient
    assert method.needs_target
    assert method.plan_request().quantities == ("activation", "d1")
    assert_close(attribute(CURVED.content()), stack(ascend, CURVED))
    assert runs == [1] * (STEPS + 1) * len(X)


@pytest.mark.usefixtures("climb")
def test_quantities_of_the_formula_are_those_of_the_returned_samples(runs: list[int]) -> None:
    @onnxcam.method("ascent", source="this test, 2026", sampler="climb", at="image")
    def ascent(gradient_step: Maps, d2: Maps) -> Maps:
        """The gradient after the ascent, of which the square is computed, too."""
        np.testing.assert_allclose(np.square(gradient_step), d2)
        return d2

    assert_close(attribute(CURVED.content()), np.square(stack(ascend, CURVED)))
    assert runs == [1] * (STEPS + 2) * len(X)


@pytest.mark.usefixtures("climb")
def test_layout_batch_and_chunk_change_nothing() -> None:
    @onnxcam.method("ascent", source="this test, 2026", sampler="climb", at="image")
    def ascent(gradient_step: Maps) -> Maps:
        """The gradient after the ascent."""
        return gradient_step

    expected = attribute(DEEP.content())
    for actual in (
        attribute(DEEP.content(), chunk=5),
        attribute(FIXED.content()),
        attribute(NHWC.content(), X.transpose(0, 2, 3, 1)),
    ):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def test_progress_counts_the_samples_that_the_sampler_runs() -> None:
    @onnxcam.sampler("walk", counts="steps", asks=("d1",), named=("gradient_step",))
    def walk(clean: CleanRun, *, steps: Any = STEPS) -> Samples:
        """the model on the image, again and again."""
        gradients = [clean.compute(Samples(1))["d1"] for _ in range(steps)]
        return Samples(steps, named={"gradient_step": np.sum(gradients, axis=0)})

    @onnxcam.method("walk", source="this test, 2026", sampler="walk", at="image")
    def sums(gradient_step: Maps) -> Maps:
        """The sum of gradients."""
        return gradient_step

    explainer = onnxcam.Explainer(CURVED.content(), "walk", device="cpu", cache=False)
    counts: list[int] = []
    explainer(X[0], TARGET, progress=counts.append)
    assert counts == [1] * STEPS
    explanation = explainer(X, TARGET, progress=counts.append)
    assert sum(counts) == (1 + len(X)) * STEPS
    assert explainer.passes == STEPS
    assert_close(explanation.attributions, STEPS * stack(LayeredNet.gradient, CURVED))


@pytest.mark.parametrize("name", ["gradient", "nonsense"])
def test_asking_for_no_quantity_of_samples_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"asks for {name}, which are not quantities of samples"):
        onnxcam.sampler("wrong", asks=(name,))(lambda clean: Samples(1))


def test_input_of_an_asked_quantity_that_is_not_fed_is_an_error() -> None:
    @onnxcam.sampler("starved", asks=("gradient_step",), named=("baseline",))
    def starved(clean: CleanRun) -> Samples:
        """the model on the image, without a step."""
        return Samples(1, named={"baseline": clean.compute(Samples(1))["gradient_step"]})

    @onnxcam.method("starved", source="this test, 2026", sampler="starved", at="image")
    def steps(baseline: Maps) -> Maps:
        """What was not fed."""
        return baseline

    explainer = onnxcam.Explainer(CURVED.content(), "starved", device="cpu", cache=False)
    with pytest.raises(
        ValueError, match="gradient_step is written from step, which sampler starved"
    ):
        explainer(X, TARGET)
