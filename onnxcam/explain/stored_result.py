"""An earlier result, read from its manifest: what must be known to repeat it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxcam._version import __version__
from onnxcam.errors import SettingError
from onnxcam.explain.explainer import Explainer
from onnxcam.explain.result_files import COMPARISON, SCAN, read_manifest
from onnxcam.image.preprocess import from_dict
from onnxcam.image.read_array import file_of
from onnxcam.methods import METHODS
from onnxcam.regular_files import digest_file
from onnxcam.specs import AUTO


@dataclass(frozen=True)
class StoredResult:
    """What the manifest at `path` says.

    Attributes:
        model, image, labels: paths as they were written; None for what was not in a file.
        drawing: the options of the overlay.
        layers, settings: those of `method`.
        options: the other arguments of an `Explainer`.
    """

    path: Path
    model: Path | None
    image: Path | None
    labels: Path | None
    target: str
    method: str
    layers: list[str]
    settings: dict[str, Any]
    options: dict[str, Any]
    drawing: dict[str, Any]
    digests: dict[str, str | None]

    def arguments(self, method: str) -> dict[str, Any]:
        """The arguments of an `Explainer`, as far as they apply to a method: that of the result, or another."""
        chosen = METHODS[method]
        applies = {
            "layer": chosen.has_layer,
            "fuse": chosen.has_layer,
            "channels": chosen.has_subsets,
            "region": chosen.has_subsets,
            "top_channels": chosen.sums_channels,
        }
        layers = self.layers if METHODS[self.method].has_layer else [AUTO]
        arguments = {**self.options, "layer": layers}
        return {name: value for name, value in arguments.items() if applies.get(name, True)}

    def changes(self, explainer: Explainer, images: Sequence[Path]) -> Iterator[tuple[str, str]]:
        """What is no longer as it was: "model", "images" or "inputs", and a sentence about it. Of the images,
        only that of the result is compared.
        """
        plan = explainer.plan
        if self.digests["model"] != plan.digest or self.digests["data"] != (plan.data or None):
            yield "model", f"the model {plan.name} is not the one of {self.path}"
        if self.image in images and self.digests["image"] not in (None, _digest(self.image)):
            yield "images", f"the image {self.image} is not the one of {self.path}"
        for bound in plan.inputs:
            if self.digests.get(f"input {bound.name}") != bound.sha256:
                yield "inputs", f"the value of the input {bound.name} is not the one of {self.path}"


def read_result(path: Path) -> tuple[StoredResult, list[str]]:
    """The result of a manifest, and notices about it. SettingError if it cannot be repeated."""
    manifest = read_manifest(path)
    if COMPARISON in manifest or SCAN in manifest:
        kind = "a comparison of methods" if COMPARISON in manifest else "a scan"
        raise SettingError(
            f"{path}: is of {kind}; expected the .json file of one result of `onnxcam explain`"
        )
    if "map" not in manifest:
        raise SettingError(
            f"{path}: is of another command; expected the .json file of a result of `onnxcam explain`"
        )
    try:
        result = _from_manifest(path, manifest)
        version = manifest["versions"]["onnxcam"]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise SettingError(f"{path}: is damaged; explain the image again") from error
    notices = []
    if version != __version__:
        notices.append(f"{path} was written by onnxcam {version}; this is {__version__}")
    return result, notices


def _from_manifest(path: Path, manifest: Mapping[str, Any]) -> StoredResult:
    model, image, method = manifest["model"], manifest["image"], manifest["method"]
    inputs, score, subset = manifest["inputs"], manifest["score"], manifest["subset"]
    region = subset["region"]
    return StoredResult(
        path=path,
        model=_path(model.get("source")),
        image=_path(image.get("source")),
        labels=_path(manifest.get("labels")),
        target=str(manifest["target"]["spec"]),
        method=str(method["name"]),
        layers=[str(layer) for layer in manifest["layers"]],
        settings={
            name: _setting(path, name, value)
            for name, value in method["settings"].items()
            if name != "score"  # the kind of score says it
        },
        options={
            "score": score["kind"],
            "output": score.get("output"),
            "task": score.get("task"),
            "head": score.get("head"),
            "channels": subset["channels"],
            "region": np.array(region, bool) if isinstance(region, list) else region,
            "fuse": manifest["fuse"],
            "top_channels": len(manifest.get("channels", ())),
            "inputs": {name: _values(record) for name, record in inputs.items()},
            "preprocess": from_dict(manifest["preprocessing"]),
        },
        drawing=dict(manifest.get("request", {}).get("drawing", {})),
        digests={
            "model": model["sha256"],
            "data": model.get("external_data"),
            "image": image.get("sha256"),
            **{f"input {name}": record["sha256"] for name, record in inputs.items()},
        },
    )


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _setting(path: Path, name: str, value: Any) -> Any:
    """A setting. SettingError for an array of which the manifest has only the digest."""
    if isinstance(value, dict):
        raise SettingError(
            f"{path}: has only the digest of the array {name}; repeat the result in Python, with the array"
        )
    return value


def _values(record: Mapping[str, Any]) -> Any:
    """The values of an input; None if the manifest has only their digest."""
    return np.array(record["values"]).reshape(record["shape"]) if "values" in record else None


def _digest(path: Path | None) -> str | None:
    try:
        return digest_file(file_of(path)) if path else None
    except (OSError, ValueError):
        return None  # reading the image gives a better error
