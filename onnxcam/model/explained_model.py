"""Models that hold an explanation (see `embedding.metadata`), in which nothing else is explained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress

from onnxcam.errors import ModelError

PREFIX = "onnxcam."  # of the keys in the metadata
SCHEMA_KEY = f"{PREFIX}schema"


def refuse_explained(metadata: Mapping[str, str], name: str) -> None:
    """ModelError for the metadata of a model that holds an explanation: its layers hold several copies of an
    image, and its map is one of its outputs.
    """
    if SCHEMA_KEY not in metadata:
        return
    original = "another model"
    with suppress(KeyError, TypeError, ValueError):  # damaged metadata
        original = json.loads(metadata[f"{PREFIX}model"])["name"]
    method = metadata.get(f"{PREFIX}method", "an unknown method")
    raise ModelError(
        f"{name}: holds an explanation already, {method} of {original}; use that model in its place "
        "(`onnxcam inspect` shows what the file holds)"
    )
