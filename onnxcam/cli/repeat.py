"""`explain --from`: what the command line does not set is as it was in an earlier result."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxcam.errors import ModelError, SettingError

if TYPE_CHECKING:
    from onnxcam.explain.explainer import Explainer
    from onnxcam.explain.stored_result import StoredResult

EXPLICIT = "COMMANDLINE"  # the source of a parameter that was set


@dataclass(frozen=True)
class Choices:
    """What a command line chooses: the settings of the method, and the other arguments of an explainer."""

    model: Path | None
    images: list[Path]
    method: str
    targets: list[str]
    settings: dict[str, Any]
    arguments: dict[str, Any]
    drawing: dict[str, Any]


def explicit_options(context: Any) -> set[str]:
    """The names of the parameters that the command line sets."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source and source.name == EXPLICIT}


def repeat(stored: StoredResult, choices: Choices, explicit: Collection[str]) -> Choices:
    """The choices, with those of the result for what is not explicit. The method is already chosen.

    SettingError if it is unknown where the model or the image is, or what the value of an input was.
    """
    for name, paths in (
        ("model", choices.model or stored.model),
        ("image", choices.images or stored.image),
    ):
        if not paths:
            raise SettingError(
                f"{stored.path}: does not say where its {name} is, which was no file; name it: onnxcam explain "
                f"MODEL IMAGE --from {stored.path}"
            )
    arguments = stored.arguments(choices.method)
    inputs = {**arguments["inputs"], **choices.arguments["inputs"]}
    repeated = {name: value for name, value in arguments.items() if name not in explicit}
    if "labels" not in explicit and stored.labels and stored.labels.is_file():
        repeated["labels"] = stored.labels
    settings = stored.settings if choices.method == stored.method else {}
    drawing = {
        name: stored.drawing[name]
        for name in choices.drawing
        if name in stored.drawing and name not in explicit
    }
    return replace(
        choices,
        model=choices.model or stored.model,
        images=choices.images or ([stored.image] if stored.image else []),
        targets=choices.targets if "target" in explicit else [stored.target],
        settings={**settings, **choices.settings},
        arguments={**choices.arguments, **repeated, "inputs": _require_values(stored, inputs)},
        drawing={**choices.drawing, **drawing},
    )


def _require_values(stored: StoredResult, inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs. SettingError if the result has only the digest of one."""
    missing = [name for name, values in inputs.items() if values is None]
    if missing:
        options = " ".join(f"--input {name}=FILE.npy" for name in missing)
        raise SettingError(
            f"{stored.path}: has only digests of the values of {', '.join(missing)}; pass them: {options}"
        )
    return inputs


def notices_of_changes(
    stored: StoredResult, explainer: Explainer, images: Sequence[Path], explicit: Collection[str]
) -> Iterator[str]:
    """Notices about what is not as it was. ModelError for a changed file that is not on the command line."""
    for parameter, sentence in stored.changes(explainer, images):
        if parameter not in explicit:
            raise ModelError(
                f"{sentence}, because the file has changed; to explain it all the same, name model and image: "
                f"onnxcam explain MODEL IMAGE --from {stored.path}"
            )
        yield f"{sentence}, so the map may be another one"
    if stored.labels and "labels" not in explicit and not stored.labels.is_file():
        yield f"the labels {stored.labels} of {stored.path} are not there; name them with --labels"
