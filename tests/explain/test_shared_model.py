"""Methods of one model that are planned and run together give the maps that they give alone."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.arrays import Images
from onnxcam.errors import OnnxcamError
from onnxcam.explain.demand import Demand, make_demand
from onnxcam.explain.run import Runner
from onnxcam.explain.shared_model import SharedModel, join_requests
from onnxcam.methods import METHODS, Samples
from tests.support.layered_nets import CURVED, PIECEWISE
from tests.support.nets import random_images

DATA = Path(__file__).parents[1] / "data"
FEW: dict[str, Any] = {"samples": 3, "steps": 3, "masks": 9}  # runs
COMPOSED = ("smooth-layer-cam", "guided-grad-cam++", "smooth-saliency")
NAMES = (*METHODS, *COMPOSED)
MODELS = {"convolutional": None, "tokens": "dynamo_vit", "integers": "qdq_per_tensor"}


def load(model: str) -> tuple[bytes, Images]:
    name = MODELS[model]
    if name is None:
        return CURVED.content(), random_images(1)
    return (DATA / f"{name}.onnx").read_bytes(), np.load(DATA / f"{name}.npz")["x"][:1]


def few(name: str) -> dict[str, Any]:
    return {key: value for key, value in FEW.items() if key in METHODS[name].settings}


def demand(name: str, layer: str = "auto", **settings: Any) -> Demand:
    return make_demand(METHODS[name], {**few(name), **settings}, layer, None, "logit")[1]


def shared_model(names: Iterable[str], layer: str = "auto") -> SharedModel:
    return SharedModel([demand(name, layer) for name in names])


def explain(
    content: bytes, x: Images, name: str, shared: SharedModel | None = None, layer: str = "auto"
) -> onnxcam.Explanation | str:
    """The explanation, or why there is none. Chunks of one size, as another one rounds differently."""
    try:
        explainer = onnxcam.Explainer(
            content, name, layer, device="cpu", cache=False, chunk=4, shared=shared, **few(name)
        )
        return explainer(x, "top1")
    except OnnxcamError as error:
        return str(error)


def sharing_methods() -> Iterator[str]:
    """The methods that are planned together with others; any other one is run as it is alone."""
    joined = join_requests([demand(name) for name in NAMES])
    counts = Counter(joined[demand(name)] for name in NAMES)
    return (name for name in NAMES if counts[joined[demand(name)]] > 1)


@pytest.mark.parametrize("model", MODELS)
def test_maps_equal_those_of_separate_explainers(model: str) -> None:
    content, x = load(model)
    names = [*sharing_methods()]
    assert len(names) > 15
    shared = shared_model(names)
    for name in names:
        alone, together = explain(content, x, name), explain(content, x, name, shared)
        if isinstance(alone, str) or isinstance(together, str):
            assert together == alone
            continue
        largest = np.abs(alone.maps).max()
        np.testing.assert_allclose(together.maps, alone.maps, rtol=0, atol=1e-6 * largest)
        np.testing.assert_allclose(together.scores, alone.scores, rtol=1e-6)
        assert together.notices == alone.notices, name
        assert together.manifest()["layers"] == alone.manifest()["layers"]
        facts, expected = together.facts[0], alone.facts[0]
        assert facts.keys() == expected.keys()
        np.testing.assert_allclose([*facts.values()], [*expected.values()], rtol=1e-3, atol=1e-5)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is run of the explainers' models: clean passes, and the number of samples."""
    log: list[str] = []
    clean, sampled = Runner._clean, Runner.sampled

    def run_clean(runner: Runner, *arguments: Any) -> Any:
        log.append("clean")
        return clean(runner, *arguments)

    def run_samples(runner: Runner, base: Any, samples: Samples, *rest: Any) -> Any:
        log.append(f"{samples.count} samples")
        return sampled(runner, base, samples, *rest)

    monkeypatch.setattr(Runner, "_clean", run_clean)
    monkeypatch.setattr(Runner, "sampled", run_samples)
    # maps of this net are doubtful, so that they are computed again nearby
    monkeypatch.setattr("onnxcam.explain.block.clear_rounding_errors", lambda *_: None)
    return log


def test_clean_pass_is_run_once(passes: list[str]) -> None:
    content, x = load("convolutional")
    names = ("activation-map", "grad-cam", "cam", "grad-cam++", "layer-cam")
    shared = shared_model(names)
    for name in names:
        explain(content, x, name, shared)
    assert passes == ["clean"] * 2  # the first one without a target


def test_samples_are_run_once(passes: list[str]) -> None:
    content, x = load("convolutional")
    names = ("smooth-grad-cam++", "smooth-layer-cam")
    shared = shared_model(names)
    for name in names:
        assert not isinstance(explain(content, x, name, shared), str)
    assert passes == ["clean", "3 samples"]


def quantities_of(*demands: Demand) -> list[tuple[str, ...]]:
    joined = join_requests(demands)
    return [joined[demand].quantities for demand in demands]


def test_clean_quantities_join_those_of_samples_where_they_cost_nothing() -> None:
    layer = "features"  # the same with and without samples
    smooth, clean = demand("smooth-grad-cam++", layer), demand("grad-cam", layer)
    union = ("activation", "d1", "d2", "d3", "gradient")
    assert quantities_of(smooth, clean) == [union, union]
    cells = demand("recipro-cam", layer)
    assert len(set(quantities_of(cells, clean))) == 1


def test_second_derivatives_are_not_computed_for_samples() -> None:
    smooth, hessian = demand("smooth-grad-cam++", "features"), demand("shapley-cam", "features")
    assert quantities_of(smooth, hessian) == [
        smooth.request.quantities,
        hessian.request.quantities,
    ]


def test_other_layers_samples_and_rules_stay_apart() -> None:
    pairs = [
        (demand("grad-cam", "features"), demand("grad-cam++", "other")),
        (demand("saliency"), demand("guided-backprop")),
        (demand("smooth-grad"), demand("integrated-gradients")),
        (demand("smooth-grad"), demand("smooth-grad", seed=1)),
        (demand("grad-cam"), demand("smooth-grad-cam++")),  # auto may be an earlier layer
    ]
    for first, second in pairs:
        assert quantities_of(first, second) == [
            first.request.quantities,
            second.request.quantities,
        ]


def test_notice_about_second_derivatives_is_only_of_the_method_that_takes_them() -> None:
    """On a piecewise linear head, they are 0."""
    content, x = PIECEWISE.content(), random_images(1)
    names = ("grad-cam", "shapley-cam")
    shared = shared_model(names)
    grad_cam, shapley_cam = (explain(content, x, name, shared) for name in names)
    assert not isinstance(grad_cam, str)
    assert not isinstance(shapley_cam, str)
    assert any("piecewise linear" in notice for notice in shapley_cam.notices)
    assert not any("piecewise linear" in notice for notice in grad_cam.notices)


def test_method_is_planned_alone_if_the_union_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another method of the union may be to blame."""
    content, x = load("convolutional")
    opened: list[tuple[str, ...]] = []
    open_runner = onnxcam.explain.explainer.open_runner  # type: ignore[attr-defined]

    def fail_for_union(options: Any, request: Any) -> Any:
        opened.append(request.quantities)
        if "score" in request.quantities:
            raise onnxcam.ModelError("no such score")
        return open_runner(options, request)

    monkeypatch.setattr("onnxcam.explain.explainer.open_runner", fail_for_union)
    demands = [demand("grad-cam"), demand("activation-map")]
    broken = demands[0]._replace(request=replace(demands[0].request, quantities=("score",)))
    shared = SharedModel([*demands, broken])
    assert not isinstance(explain(content, x, "grad-cam", shared), str)
    assert not isinstance(explain(content, x, "activation-map", shared), str)
    assert opened == [
        ("activation", "gradient", "score"),
        ("activation", "gradient"),
        ("activation",),
    ]


def test_targets_have_passes_of_their_own() -> None:
    content, x = load("convolutional")
    shared = shared_model(("grad-cam", "layer-cam"))
    explainers = [
        onnxcam.Explainer(content, name, cache=False, shared=shared)
        for name in ("grad-cam", "layer-cam")
    ]
    for target in (0, "top2", "not 1", 0):
        for explainer in explainers:
            alone = onnxcam.Explainer(content, explainer.method.name, cache=False)
            np.testing.assert_allclose(
                explainer(x, target).maps, alone(x, target).maps, rtol=1e-5, atol=1e-7
            )


def test_explainer_with_a_shared_model_is_pickled_without_it() -> None:
    content, x = load("convolutional")
    shared = shared_model(("grad-cam", "layer-cam"))
    explainer = onnxcam.Explainer(content, "grad-cam", shared=shared)
    again = pickle.loads(pickle.dumps(explainer))
    np.testing.assert_allclose(again(x).maps, explainer(x).maps, rtol=1e-5)
