"""Explain one image by several methods, with what they have in common run once."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from onnxcam.defaults import COMPARED
from onnxcam.errors import (
    ImageError,
    OnnxcamError,
    SettingError,
    UnforeseenError,
    first_line,
    one_line,
)
from onnxcam.explain import pipeline
from onnxcam.explain.announce import announce
from onnxcam.explain.arguments import LayerSource, layer_names
from onnxcam.explain.compared_map import ComparedMap
from onnxcam.explain.comparison import Comparison
from onnxcam.explain.demand import Demand, make_demand
from onnxcam.explain.explainer import Explainer
from onnxcam.explain.explanation import Explanation
from onnxcam.explain.head_choice import parse_head
from onnxcam.explain.inputs import ImageSource, PreparedInput, as_sources, input_loaders
from onnxcam.explain.loaded_model import LoadedModel
from onnxcam.explain.run import ProgressCallback, no_progress
from onnxcam.explain.shared_model import SharedModel, join_requests
from onnxcam.methods import METHODS, Method
from onnxcam.specs import AUTO
from onnxcam.targets.classes import DEFAULT_TARGET, Spec

if TYPE_CHECKING:
    from onnxcam.model.model import Model

ALL = "all"
MAX_LISTED = 6  # methods that an error names
ARGUMENTS = {*inspect.signature(Explainer).parameters} - {
    "model",
    "method",
    "layer",
    "shared",
    "settings",
}
StartCallback = Callable[[str, int], None]  # gets the name of a method, and its passes


class ChosenMethod(NamedTuple):
    """A method at a layer, or None if it has none to choose; the arguments of its explainer, and what it asks
    of the model.
    """

    method: Method
    layer: LayerSource | None
    arguments: dict[str, Any]
    demand: Demand


def choose_methods(methods: str | Iterable[str] | None) -> list[str]:
    """The names of the methods that are compared: all of them, a default, or those that are named."""
    if methods is None:
        return [name for name in COMPARED if name in METHODS]
    names = methods.split(",") if isinstance(methods, str) else [*methods]
    stripped = [*dict.fromkeys(name.strip() for name in names)]
    if stripped == [ALL]:
        return [*METHODS]
    if not stripped:
        raise SettingError(f"there are no methods to compare; name some, or {ALL}")
    for name in stripped:
        METHODS[name]  # UnknownNameError
    return stripped


def settings_per_method(
    names: Sequence[str], settings: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The settings of each method: NAME for all methods that have it, METHOD.NAME for one of them. SettingError
    for a setting that none of the methods has.
    """
    of_methods: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key in sorted(settings, key=lambda key: "." in key):  # that of one method wins
        only, _, setting = key.rpartition(".")
        having = [name for name in names if setting in METHODS[name].settings]
        if not having or (only and only not in having):
            raise _no_setting(names, only, setting, having)
        for name in [only] if only else having:
            of_methods[name][setting] = settings[key]
    return of_methods


def _no_setting(
    names: Sequence[str], only: str, setting: str, having: Sequence[str]
) -> SettingError:
    """The error about a setting that none of the compared methods has, or not the one that is named."""
    if not only:
        return SettingError(
            f"none of the methods has the setting {setting!r}; see `onnxcam methods NAME`"
        )
    if only not in names:
        return SettingError(f"{only}.{setting}: {only} is not one of the methods that are compared")
    settings = ", ".join(METHODS[only].settings) or "none"
    also = f"; methods that have it: {', '.join(having[:MAX_LISTED])}" if having else ""
    return SettingError(f"{only} has no setting {setting!r}; its settings: {settings}{also}")


@dataclass
class Comparer:
    """Explains one image of a model by several methods, at some layers and for some targets.

    arguments: those of an `Explainer` other than the model, the method and the layer, without settings.
    settings: by name, for all methods that have it, or as METHOD.NAME for one.
    """

    model: Any
    methods: Sequence[str]
    layers: Sequence[LayerSource] = (AUTO,)
    targets: Sequence[Spec] = (DEFAULT_TARGET,)
    settings: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    _loaded: LoadedModel = field(default_factory=LoadedModel)
    _input: PreparedInput | None = None
    _passes: dict[tuple[str, str | None], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """SettingError for a setting that no method has, or a value out of range."""
        settings = settings_per_method(self.methods, self.settings)
        self.choices = [*self._choose(settings)]

    def _choose(self, settings: Mapping[str, dict[str, Any]]) -> Iterator[ChosenMethod]:
        for name in self.methods:
            method, arguments = METHODS[name], {**self.arguments}
            foreign = [] if method.has_layer else ["fuse"]
            foreign += [] if method.has_subsets else ["channels", "region"]
            if "score" not in method.settings and arguments.get("score") == "exp":
                foreign.append("score")
            arguments = {key: arguments[key] for key in arguments if key not in foreign}
            output, score = arguments.get("output"), arguments.get("score", "logit")
            head = parse_head(arguments.get("task"), arguments.get("head"))
            for layer in self.layers if method.has_layer else (None,):
                source = AUTO if layer is None else layer
                resolved, demand = make_demand(method, settings[name], source, output, score, head)
                complete = {"layer": source, **arguments, **settings[name]}
                yield ChosenMethod(method, layer, complete, demand)
                self._passes[name, _layer_text(layer)] = _estimate_passes(method, resolved)

    @property
    def count(self) -> int:
        """How many maps there will be, or reasons why there is none."""
        return len(self.targets) * len(self.choices)

    @property
    def passes(self) -> int:
        """How many inputs of the model are run, for progress; an estimate until the model is opened for each of
        the methods.
        """
        return len(self.targets) * sum(self._passes.values())

    def run(
        self,
        image: ImageSource,
        progress: ProgressCallback = no_progress,
        start: StartCallback = lambda *_: None,
    ) -> Iterator[ComparedMap]:
        """The maps, or why there is none, in the order in which they are run: those that share a plan together.
        `start` gets the name of a method before it is run, and its number of passes.
        """
        joined = join_requests([chosen.demand for chosen in self.choices])
        groups: dict[object, list[ChosenMethod]] = {}
        for chosen in sorted(self.choices, key=lambda chosen: not chosen.method.needs_target):
            groups.setdefault(joined[chosen.demand], []).append(chosen)
        for group in groups.values():
            yield from self._run_group(group, image, progress, start)

    def collect(self, maps: Iterable[ComparedMap]) -> Comparison:
        """The comparison of maps that `run` returned. Raises the error if all methods fail alike."""
        order = {(e.method.name, _layer_text(e.layer)): n for n, e in enumerate(self.choices)}
        targets = [*map(str, self.targets)]
        ordered = sorted(maps, key=lambda m: (order[m.method, m.layer], targets.index(m.target)))
        errors = [compared.error for compared in ordered if compared.error is not None]
        if len(errors) == len(ordered) and len({*map(str, errors)}) == 1:
            raise errors[0]
        return Comparison(tuple(ordered))

    def _run_group(
        self,
        group: Sequence[ChosenMethod],
        image: ImageSource,
        progress: ProgressCallback,
        start: StartCallback,
    ) -> Iterator[ComparedMap]:
        """The maps of methods that share a plan, which is closed afterward."""
        shared = SharedModel([chosen.demand for chosen in group], self._loaded)
        opened = [self._open(chosen, shared) for chosen in group]
        for target in self.targets:
            for chosen, explainer in zip(group, opened, strict=True):
                start(
                    chosen.method.name, self._passes[chosen.method.name, _layer_text(chosen.layer)]
                )
                if isinstance(explainer, OnnxcamError):
                    yield self._failure(chosen, target, explainer)
                else:
                    yield self._explain(chosen, explainer, image, target, shared, progress)

    def _open(self, chosen: ChosenMethod, shared: SharedModel) -> Explainer | OnnxcamError:
        explainer: Explainer | OnnxcamError = _attempt(
            lambda: Explainer(self.model, chosen.method.name, shared=shared, **chosen.arguments)
        )
        if isinstance(explainer, Explainer):
            self._passes[chosen.method.name, _layer_text(chosen.layer)] = explainer.passes
        return explainer

    def _explain(
        self,
        chosen: ChosenMethod,
        explainer: Explainer,
        image: ImageSource,
        target: Spec,
        shared: SharedModel,
        progress: ProgressCallback,
    ) -> ComparedMap:
        self._input = self._input or _prepare(explainer, image)
        before, started = shared.seconds, time.perf_counter()
        explanation = _attempt(lambda: _explain(explainer, image, self._input, target, progress))
        seconds, shared_seconds = time.perf_counter() - started, shared.seconds - before
        if isinstance(explanation, OnnxcamError):
            return self._failure(chosen, target, explanation)
        return ComparedMap(
            method=chosen.method.name,
            layer=_layer_text(chosen.layer),
            target=str(target),
            passes=explainer.passes,
            seconds=seconds + shared_seconds,
            shared_seconds=shared_seconds,
            explanation=explanation,
        )

    def _failure(self, chosen: ChosenMethod, target: Spec, error: OnnxcamError) -> ComparedMap:
        name = Path(self.model).name if isinstance(self.model, (str, Path)) else ""
        method = chosen.method.name
        return ComparedMap(
            method,
            _layer_text(chosen.layer),
            str(target),
            error=error,
            reason=one_line(error).removeprefix(f"{name}: ").removeprefix(f"{method} "),
        )


def _estimate_passes(method: Method, settings: Mapping[str, Any]) -> int:
    """The passes of a method as far as its settings tell."""
    counts = method.sampler.counts
    return 1 if counts is None else int(settings[counts])


def _prepare(explainer: Explainer, source: ImageSource) -> PreparedInput:
    """The image, prepared for the model. ImageError if there is not one image."""
    loads = input_loaders(as_sources(source), explainer.preprocessing, explainer.plan.image)
    inputs = [load() for _, load in loads]
    if len(inputs) != 1:
        raise ImageError(f"{len(inputs)} images to compare methods on; expected one")
    return inputs[0]


def _explain(
    explainer: Explainer,
    source: ImageSource,
    prepared: PreparedInput | None,
    target: Spec,
    progress: ProgressCallback,
) -> Explanation:
    step = pipeline.Step(source, target, prepared)
    steps = explainer.run_steps([lambda: [step]], progress=progress, threads=0)
    return explainer.join([*pipeline.successful(steps)], explainer.origin())


def _attempt(call: Callable[[], Any]) -> Any:
    """The result of a call, or its error: one method must not lose the others."""
    try:
        return call()
    except OnnxcamError as error:
        return error
    except Exception as error:  # noqa: BLE001
        cause = type(error).__name__
        unforeseen = UnforeseenError(
            f"a bug: {cause}: {first_line(error)}; please report it", cause
        )
        unforeseen.__cause__ = error
        return unforeseen


def _layer_text(layer: LayerSource | None) -> str | None:
    return None if layer is None else ", ".join(layer_names(layer))


def _listed(values: Any) -> list[Any]:
    return list(values) if isinstance(values, (list, tuple)) else [values]


def compare(
    model: str | Path | bytes | Model,
    image: ImageSource,
    methods: str | Iterable[str] | None = None,
    layer: LayerSource | Sequence[LayerSource] = AUTO,
    target: Spec | Sequence[Spec] = DEFAULT_TARGET,
    *,
    progress: ProgressCallback = no_progress,
    **options: Any,
) -> Comparison:
    """Explain one image by several methods.

    What the methods have in common is run once: the clean pass of those at the same place, and the samples of
    those that draw the same ones. The maps are those of an `Explainer` for each method.

    Args:
        model, image: as for an `Explainer`; one image.
        methods: names, as a sequence or separated by commas; "all"; None for a few that suit most models.
        layer: as for an `Explainer`; with a list, the methods at a layer explain each layer of it.
        target: a target, or a list of them.
        progress: gets the number of inputs that were run since the last call.
        options: further arguments of an `Explainer` (device, preprocess, labels, …), and settings, for all
            methods that have it; for one method, `**{"rise.masks": 500}`.

    Returns a `Comparison`: the explanations, their times, and why other methods have none. Raises
    UnknownNameError and SettingError for unknown methods and settings, and the error itself if all methods fail
    for the same reason.
    """
    arguments = {name: options[name] for name in options if name in ARGUMENTS}
    comparer = Comparer(
        model,
        choose_methods(methods),
        _listed(layer),
        _listed(target),
        {name: options[name] for name in options if name not in ARGUMENTS},
        arguments,
    )
    comparison = comparer.collect(comparer.run(image, progress))
    announced: set[str] = set()
    for explanation in comparison.explanations:
        announce(explanation, announced)
    return comparison
