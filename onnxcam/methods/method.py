"""What a method is: a formula, the quantities it takes, and how the model's inputs are sampled."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Literal

from onnxcam.errors import SettingError
from onnxcam.methods.families import check_family, family_of
from onnxcam.methods.place import IMAGE, LAYER, PLACES
from onnxcam.methods.quantities import QUANTITIES, Quantity
from onnxcam.methods.samplers import SAMPLERS, Sampler
from onnxcam.methods.settings import Setting, check_setting, require_described, settings_of
from onnxcam.methods.subset import COUNTED
from onnxcam.registry import Registry
from onnxcam.specs import Layer, PlanRequest

RESULTS = {
    "saliency": "(N, h, w), the map of the formula",
    "attributions": "(N, C, H, W), the result of a formula at the image before its channels are joined",
}
"""What a report may take besides quantities."""

Formula = Callable[..., Any]
Channels = Literal["largest", "sum"]


@dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        formula: its positional parameters name the quantities it takes (see `QUANTITIES`), what the sampler
            names, and `counted` (see `subset.py`); its keyword-only parameters are settings. It runs on arrays
            and on graph Values.
        sampler: the inputs on which the model is run.
        source: the paper and its equation.
        rules: the name of a table of gradient rules.
        at: where the quantities are taken: "layer", "image", or a row of `PLACES`, which names several tensors.
        signed: whether negative values are evidence against the target.
        channels: how the result (N, C, H, W) of a formula at the image becomes a map: the "largest" magnitude,
            or the "sum".
        averages: the quantities of which the formula gets the mean over the samples, and that quantity.
        report: returns facts for the manifest, {name: (N,) numbers}. Those whose name ends in `_gap` are
            fractions that should be 0: a notice appears where one is larger than 0.05.
        remedy: what to do then.
        check: returns why the method does not apply to a model, or None; it takes quantities, and
            `is_constant`, whether the gradient provably does not depend on the image.
        is_relative: whether only the differences between the cells of a map have a meaning, so that it is drawn
            from its minimum.
        family_name: a key of `FAMILIES`; None for the family that `family_of` derives.
        variance: whether the map is a variance of gradients over the samples, which is 0 for one sample.
    """

    name: str
    formula: Formula
    sampler: Sampler
    source: str
    rules: str = "default"
    at: str = LAYER
    signed: bool = False
    channels: Channels = "largest"
    report: Formula | None = None
    check: Formula | None = None
    remedy: str = ""
    family_name: str | None = None
    is_relative: bool = False
    averages: Mapping[str, str] = field(default_factory=dict)
    variance: bool = False

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """What the formula, the report and the check take, except for results (see `RESULTS`)."""
        functions = (self.formula, self.report, self.check)
        names = [name for function in functions if function for name in positional(function)]
        return tuple(name for name in dict.fromkeys(names) if name not in RESULTS)

    def quantities(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """The quantity that each parameter gets, unless the sampler names it; settings of the sampler may
        replace some.
        """
        others = {*self.sampler.named, COUNTED}
        own = (name for name in self.parameters if name not in others)
        names = {name: self.averages.get(name, name) for name in own}
        for (setting, value), replaced in self.sampler.replaces.items():
            if settings.get(setting) == value:
                names = {name: replaced.get(name, quantity) for name, quantity in names.items()}
        return names

    @property
    def _quantities(self) -> Iterator[Quantity]:
        names = (*self.parameters, *self.sampler.takes, *self.sampler.asks)
        return (QUANTITIES[name] for name in names if name in QUANTITIES)

    @property
    def needs_gradient(self) -> bool:
        """Whether a gradient is written into the model, which needs rules for its operators."""
        return any(quantity.needs_gradient for quantity in self._quantities)

    @property
    def needs_target(self) -> bool:
        """Whether the map depends on the target."""
        return any(quantity.needs_target for quantity in self._quantities)

    @property
    def place(self) -> str:
        """Where the quantities are taken: "layer", "image", or the name of a row of `PLACES`."""
        return self.at

    @property
    def has_layer(self) -> bool:
        """Whether the maps are those of a layer that the user may choose."""
        return self.at == LAYER

    @property
    def is_at_image(self) -> bool:
        """Whether the maps have the size of the image."""
        return not self.has_layer or any(quantity.place == "image" for quantity in self._quantities)

    @property
    def has_subsets(self) -> bool:
        """Whether a map of only some feature maps or cells of the layer has a meaning."""
        return self.has_layer and not self.sampler.reads_layer

    @property
    def sums_channels(self) -> bool:
        """Whether the map is a sum over the feature maps of the layer, up to a ReLU, so that each of them has a
        part in it. What needs to know which cells count compares these with each other.
        """
        return self.has_subsets and not self.is_at_image and COUNTED not in self.parameters

    @property
    def family(self) -> str:
        """The group in which the method is listed: a key of `FAMILIES`."""
        return self.family_name or family_of(self.at, needs_gradient=self.needs_gradient)

    @property
    def passes(self) -> int | None:
        """The number of model inputs that are run for an image of 224 x 224 pixels with the default settings,
        without the clean one that samples are drawn from; None if the model decides it.
        """
        if self.sampler.draw is None:
            return 1
        sizes = (224, 224) if self.at == IMAGE else (None, None)
        layer = Layer("", "", (None, None, *sizes), 1, is_bottleneck=True)
        defaults = {name: setting.default for name, setting in self.settings.items()}
        return self.sampler.count(layer, defaults)

    @property
    def summary(self) -> str:
        """One line on what the formula computes."""
        return (inspect.getdoc(self.formula) or self.name).splitlines()[0]

    @cached_property
    def settings(self) -> dict[str, Setting]:
        """The settings of the sampler and of the formula; without those of the sampler that only replace
        quantities which the method does not take.
        """
        return {
            **{
                name: setting
                for name, setting in self.sampler.settings.items()
                if self.sampler.concerns(name, self.parameters)
            },
            **self._own_settings,
        }

    @cached_property
    def _own_settings(self) -> dict[str, Setting]:
        return settings_of(self.formula)

    def plan_request(
        self,
        layers: str | Sequence[str] = "auto",
        output: str | None = None,
        *,
        probability: bool = False,
        settings: Mapping[str, Any] | None = None,
        target: tuple[str, ...] = (),
    ) -> PlanRequest:
        """What a plan for this method at a layer, or at several, depends on."""
        of_formula, sampler = self.quantities(settings or {}).values(), self.sampler
        quantities = dict.fromkeys([*of_formula, *sampler.takes, *sampler.asks])
        tells_evidence = self.needs_gradient and self.at in (LAYER, IMAGE)
        if tells_evidence or self.sampler.varies == "activation":  # samples are made from it
            quantities["activation"] = None
        return PlanRequest(
            rules=self.rules if self.needs_gradient else "default",
            quantities=tuple(sorted(quantities)),
            at=self.at,
            varies=self.sampler.varies,
            layers=(layers,) if isinstance(layers, str) else tuple(layers),
            output=output,
            probability=probability,
            target=target,
            single_layer=self.has_layer and self.sampler.reads_layer,
        )

    def resolve_settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """All settings of the method with their values. SettingError for a setting that the method does not
        have, or for a value out of range.
        """
        available = self.settings
        unknown = [name for name in settings if name not in available]
        if unknown:
            listed = ", ".join(available) or "none"
            elsewhere = ", ".join(methods_with(unknown[0]))
            hint = f"; methods that have {unknown[0]}: {elsewhere}" if elsewhere else ""
            raise SettingError(
                f"{self.name} has no setting {unknown[0]!r}; its settings: {listed}{hint}"
            )
        defaults = {name: setting.default for name, setting in available.items()}
        return defaults | {
            name: check_setting(name, value, available[name]) for name, value in settings.items()
        }

    def files(self, settings: Mapping[str, Any]) -> list[str]:
        """The files that the settings name, whose content the result depends on."""
        known = [(self.settings[name].files, value) for name, value in settings.items()]
        return [path for files, value in known if files for path in files.of(value)]

    def formula_settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of the formula, without those of the sampler."""
        return {name: settings[name] for name in self._own_settings}

    def sampler_settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of the sampler."""
        return {name: settings[name] for name in self.sampler.settings if name in settings}


METHODS: Registry[Method] = Registry("method")


@cache
def positional(function: Formula) -> tuple[str, ...]:
    """The names of a function's parameters that are not keyword-only."""
    parameters = inspect.signature(function).parameters.values()
    return tuple(p.name for p in parameters if p.kind != p.KEYWORD_ONLY)


def methods_with(setting: str) -> list[str]:
    """The names of the methods that have this setting."""
    return [name for name, method in METHODS.items() if setting in method.settings]


def method(
    name: str,
    *,
    source: str,
    sampler: str = "once",
    rules: str = "default",
    at: str = LAYER,
    signed: bool = False,
    channels: Channels | None = None,
    report: Formula | None = None,
    check: Formula | None = None,
    remedy: str = "",
    family: str | None = None,
    variance: bool = False,
    relative: bool = False,
) -> Callable[[Formula], Formula]:
    """A decorator that adds a formula to the table of methods. See `Method`; the channels of a signed method
    are added up unless `channels` says otherwise, and `family` is needed only where `family_of` is wrong.
    The values of a `relative` map say something only next to each other.

    ValueError for a parameter that is not a quantity, a quantity of samples without a sampler, or a setting
    without annotation or default.
    """

    def register(formula: Formula) -> Formula:
        joined = channels or ("sum" if signed else "largest")
        new = Method(
            name,
            formula,
            SAMPLERS[sampler],
            source,
            rules,
            at,
            signed,
            joined,
            report,
            check,
            remedy,
            family,
            is_relative=relative,
            variance=variance,
        )
        _check_parameters(new)
        check_family(name, family)
        require_described(name, formula)
        METHODS.add(name, new)
        return formula

    return register


def _check_parameters(new: Method) -> None:
    if new.at not in (LAYER, IMAGE, *PLACES):
        known = ", ".join((LAYER, IMAGE, *PLACES))
        raise ValueError(f"{new.name}: at={new.at!r} is no place; expected one of {known}")
    named = new.sampler.named
    counted = {COUNTED} if new.has_subsets else set()
    unknown = sorted({*new.parameters} - {*QUANTITIES, *named, *counted})
    if unknown:
        also = f", and of the sampler {new.sampler.name}: {', '.join(named)}" if named else ""
        raise ValueError(
            f"{new.name} takes {', '.join(unknown)}, which are not quantities; the quantities are: "
            f"{', '.join(QUANTITIES)}{also}"
        )
    sampled = [quantity.name for quantity in new._quantities if quantity.is_sampled]
    if sampled and new.sampler.draw is None:
        raise ValueError(
            f"{new.name} takes {', '.join(sampled)}, which are computed from samples; name a sampler: "
            f"{', '.join(name for name, row in SAMPLERS.items() if row.draw)}"
        )
