"""Run a model for several methods at once: what they have in common is planned together and run once.

Requests for the same place, layers and rules become one, with the quantities of all of them, if they draw the
same samples. ONNX Runtime computes all nodes of a model, whatever is asked of it. So a method without samples
joins one with samples only if that makes no sample slower: if it differentiates nothing else.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from onnxcam.arrays import Array, Floats, Images
from onnxcam.errors import OnnxcamError
from onnxcam.explain.clean_pass import CleanPass
from onnxcam.explain.demand import Demand
from onnxcam.explain.loaded_model import LoadedModel
from onnxcam.explain.run import Runner, RunSamples
from onnxcam.methods import QUANTITIES, Samples
from onnxcam.methods.quantities import notice_sources
from onnxcam.specs import Output, Plan, PlanRequest, Program
from onnxcam.targets.target import Target

REMEMBERED = 2  # passes of a plan that are remembered: other images and targets follow


def join_requests(demands: Iterable[Demand]) -> dict[Demand, PlanRequest]:
    """For each demand, the request that it is planned with."""
    groups: dict[tuple[object, ...], list[Demand]] = {}
    for demand in sorted(demands, key=lambda demand: not demand.sampling):
        hosts = (group for group in groups.values() if _costs_nothing(demand, group[0]))
        key = (*demand.kind, demand.request.varies, demand.sampling)
        group = next(hosts, None)
        (groups.setdefault(key, []) if group is None else group).append(demand)
    return {demand: _union(group) for group in groups.values() for demand in group}


def _costs_nothing(demand: Demand, host: Demand) -> bool:
    """Whether a demand without samples can join one with samples: those run a model of their own, or need all
    of its derivatives anyway.
    """
    if demand.sampling or not host.sampling or demand.kind != host.kind:
        return False
    is_apart = host.request.varies == "activation"
    return is_apart or _derivatives(demand, sampled=False) <= _derivatives(host, sampled=True)


def _derivatives(demand: Demand, *, sampled: bool) -> set[tuple[str, str]]:
    """The derivatives that the quantities of the samples, or the others, are written from."""
    quantities = (QUANTITIES[name] for name in demand.request.quantities)
    return {
        (quantity.rules, source)
        for quantity in quantities
        if quantity.is_sampled == sampled
        for source in quantity.sources & {"gradient", "image_gradient", "vjp"}
    }


def _union(group: Collection[Demand]) -> PlanRequest:
    names = {name for demand in group for name in demand.request.quantities}
    first = next(iter(group)).request
    return replace(first, quantities=tuple(sorted(names)))


@dataclass
class SharedPasses:
    """The passes of one plan (see `Passes`).

    seconds: how long the passes took that methods took from memory.
    """

    runner: Runner
    seconds: float = 0.0
    _clean: deque[tuple[Any, ...]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _sampled: deque[tuple[Any, ...]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def clean(
        self,
        part: Runner,
        images: Images,
        weights: Floats,
        ranks: Array | None,
        where: Floats | None,
    ) -> CleanPass:
        """A clean pass with the outputs of a part of the plan; of any target, unless they depend on it."""
        outputs, target = part.plan.clean.outputs, (weights, ranks, where)
        for seconds, known_images, known_target, clean in self._clean:
            is_same = _equal(known_target, target) or (
                not part.needs_target and _equal(known_target[2], where)
            )
            if is_same and _equal(known_images, images):
                self.seconds += seconds
                return clean.only(outputs)
        start = time.perf_counter()
        clean = self.runner.clean(images, weights, ranks, where)
        self._clean.append((time.perf_counter() - start, images, target, clean))
        return clean.only(outputs)

    def sampled(
        self, part: Runner, key: tuple[str, Images, Target], run: RunSamples
    ) -> tuple[dict[Output, Array], Samples | None]:
        """The quantities of a part of the plan for samples, and the samples; the `key` is what they depend on:
        a sampler with its settings, an image, and a target.
        """
        sampling, image, target = key
        known_by = image, target.weights, target.where
        plan = part.plan
        outputs = (*plan.sampled.outputs, *plan.constant_sampled.outputs)
        for seconds, known_sampling, known_arrays, arrays, samples in self._sampled:
            if known_sampling == sampling and _equal(known_arrays, known_by):
                self.seconds += seconds
                return {output: arrays[output] for output in outputs}, samples
        start = time.perf_counter()
        arrays, samples = run(self.runner)
        seconds = time.perf_counter() - start
        self._sampled.append((seconds, sampling, known_by, arrays, samples))
        return {output: arrays[output] for output in outputs}, samples


def _equal(first: Any, second: Any) -> bool:
    """Whether two arrays, or tuples of arrays, are the same."""
    if isinstance(first, tuple):
        return all(map(_equal, first, second))
    if first is None or second is None:
        return first is second
    return bool(first.dtype == second.dtype and np.array_equal(first, second))


@dataclass
class SharedModel:
    """What the explainers of a model share: the loaded model, the plans of their demands, and their passes."""

    demands: Collection[Demand]
    loaded: LoadedModel = field(default_factory=LoadedModel)
    _passes: dict[PlanRequest, SharedPasses | None] = field(default_factory=dict)

    @cached_property
    def _joined(self) -> dict[Demand, PlanRequest]:
        return join_requests(self.demands)

    @cached_property
    def _sharing(self) -> Counter[PlanRequest]:
        """The number of demands that share a plan."""
        return Counter(self._joined[demand] for demand in self.demands)

    @property
    def seconds(self) -> float:
        """How long the passes took that explainers did not have to run, because another one had."""
        return sum(passes.seconds for passes in self._passes.values() if passes)

    def runner(self, demand: Demand, open_runner: Callable[[PlanRequest], Runner]) -> Runner:
        """What runs a demand, together with all others that can be planned with it. If that fails, it is
        planned alone: another one of them may be to blame.
        """
        request, any_target = demand.request, demand.for_target(())
        joined = self._joined.get(any_target)
        if joined is None or self._sharing[joined] == 1:
            return open_runner(request)
        passes = self._open(replace(joined, target=request.target), open_runner)
        if passes is None:
            return open_runner(request)
        plan = restrict(passes.runner.plan, request.quantities)
        return Runner(plan, passes.runner.runs, shared=passes)

    def answers(self, request: PlanRequest, open_runner: Callable[[PlanRequest], Runner]) -> Runner:
        """What asks the model for its scores at all positions, once for each block of images."""
        passes = self._open(request, open_runner)
        if passes is None:
            return open_runner(request)
        return Runner(passes.runner.plan, passes.runner.runs, shared=passes)

    def _open(
        self, request: PlanRequest, open_runner: Callable[[PlanRequest], Runner]
    ) -> SharedPasses | None:
        if request not in self._passes:
            try:
                self._passes[request] = SharedPasses(open_runner(request))
            except OnnxcamError:
                self._passes[request] = None
        return self._passes[request]


def restrict(plan: Plan, quantities: Collection[str]) -> Plan:
    """The plan with some of its quantities only, and without notices about others."""
    sources = notice_sources(quantities)
    own = {notice for source, notice in plan.source_notices if source in sources}
    foreign = {notice for _, notice in plan.source_notices} - own
    return replace(
        plan,
        notices=tuple(notice for notice in plan.notices if notice not in foreign),
        clean=_restrict(plan.clean, quantities),
        constant=_restrict(plan.constant, quantities),
        sampled=_restrict(plan.sampled, quantities),
        constant_sampled=_restrict(plan.constant_sampled, quantities),
    )


def _restrict(program: Program, quantities: Collection[str]) -> Program:
    outputs = tuple(output for output in program.outputs if output.quantity in quantities)
    return replace(program, outputs=outputs)
