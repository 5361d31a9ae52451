"""Explainers whose models are compiled, and the cache entries that they write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

import onnxcam
from onnxcam.rewrite.planner import plan
from tests.support.nets import Net, random_images

X = random_images(1)


SMOOTH: dict[str, Any] = {"samples": 3, "noise": 0.2}


def written(path: Path, net: Net, **given: Any) -> Path:
    onnx.save_model(net.proto(), path, **given)
    return path


def explainer(model: Any, method: str = "smooth-grad-cam++", **given: Any) -> onnxcam.Explainer:
    return onnxcam.Explainer(model, method, device="cpu", **given)


def entries(folder: Path) -> list[Path]:
    return sorted((folder / "models").glob("*")) if folder.exists() else []


def planned(model: Any, monkeypatch: pytest.MonkeyPatch, *given: Any, **asked: Any) -> bool:
    """Whether an explainer had to be planned."""
    calls: list[object] = []

    def counted(*given: Any, **asked: Any) -> Any:
        calls.append(given)
        return plan(*given, **asked)

    with monkeypatch.context() as patch:
        patch.setattr("onnxcam.rewrite.planner.plan", counted)
        explainer(model, *given, **asked)
    return bool(calls)
