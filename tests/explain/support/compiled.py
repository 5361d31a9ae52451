"""Explainers of model files, and the cache entries that they write."""

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


def save(path: Path, net: Net, **options: Any) -> Path:
    onnx.save_model(net.proto(), path, **options)
    return path


def make_explainer(
    model: Any, method: str = "smooth-grad-cam++", **options: Any
) -> onnxcam.Explainer:
    return onnxcam.Explainer(model, method, device="cpu", **options)


def entries(folder: Path) -> list[Path]:
    return sorted((folder / "models").glob("*")) if folder.exists() else []


def needs_plan(model: Any, monkeypatch: pytest.MonkeyPatch, *args: Any, **options: Any) -> bool:
    """Whether a new explainer has to plan its model, because the cache has no plan for it."""
    calls: list[object] = []

    def counted(*args: Any) -> Any:
        calls.append(args)
        return plan(*args)

    with monkeypatch.context() as patch:
        patch.setattr("onnxcam.rewrite.planner.plan", counted)
        make_explainer(model, *args, **options)
    return bool(calls)
