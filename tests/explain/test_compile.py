"""Cached models: when they are used, when they must not be, and that the map is the same either way."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam.explain import compile as compiling
from onnxcam.explain.model_files import external_locations
from onnxcam.explain.plan_json import as_json, from_json
from onnxcam.methods import METHODS
from onnxcam.model import external_data
from onnxcam.model.load import load
from onnxcam.rewrite.planner import plan
from onnxcam.specs import MODEL
from tests.explain.support.compiled import SMOOTH, X, entries, make_explainer, needs_plan, save
from tests.support.nets import DEEP, FIXED, MIXING, POOLED, TWO_OUTPUTS, Net

ROOT = Path(onnxcam.__file__).resolve().parents[1]
MODEL_FILE = compiling.file_of(MODEL)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tmp_path / "net.onnx", DEEP)


def test_cached_plan_gives_same_map(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = make_explainer(model, cache=False, **SMOOTH)
    first = make_explainer(model, **SMOOTH)
    monkeypatch.setattr("onnxcam.model.load.load", None)
    second = make_explainer(model, **SMOOTH)
    assert plain.plan == first.plan == second.plan
    expected = plain(X)
    assert expected.maps.max() > 0
    for explanation in (first(X), second(X)):
        np.testing.assert_array_equal(explanation.maps, expected.maps)
        assert explanation.provenance == expected.provenance
        assert explanation.notices == expected.notices


def test_changed_request_needs_new_plan(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_explainer(model)
    for options in (
        {"method": "grad-cam"},
        {"layer": "early"},
        {"layer": ["early", "features"]},
        {"score": "probability"},
        {"output": "logits"},
        {"activation": "mean"},  # takes another quantity
    ):
        assert needs_plan(model, monkeypatch, **options), options
        assert not needs_plan(model, monkeypatch, **options), options


def test_cache_key_ignores_settings_of_sampling_and_images(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_explainer(model)
    for options in (
        {"samples": 3},
        {"numerator": "d1"},
        {"chunk": 2},
        {"preprocess": "unit"},
        {"layer": ["auto"]},
    ):
        assert not needs_plan(model, monkeypatch, **options), options
    assert not needs_plan(str(model), monkeypatch)
    assert needs_plan(model.read_bytes(), monkeypatch)  # which has no name
    assert not needs_plan(model.read_bytes(), monkeypatch)


def test_changed_model_needs_new_plan(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_explainer(model)
    save(model, POOLED)
    assert needs_plan(model, monkeypatch)


def test_changed_program_needs_new_plan(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_explainer(model)
    maker = compiling.program_version()
    for position in range(len(maker)):
        changed = [*maker[:position], "other", *maker[position + 1 :]]
        with monkeypatch.context() as patch:
            patch.setattr(compiling, "program_version", lambda changed=changed: changed)
            assert needs_plan(model, patch)


def test_cache_key_covers_sources_of_all_packages() -> None:
    folder = Path(onnxcam.__file__).parent
    assert compiling.sources() == sorted(folder.rglob("*.py"))
    assert {folder / "specs.py", folder / "autodiff" / "rules" / "conv.py"} <= {
        *compiling.sources()
    }


def test_changed_external_data_needs_new_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    external = {"save_as_external_data": True, "location": "w.data", "size_threshold": 0}
    model = save(tmp_path / "net.onnx", DEEP, **external)
    make_explainer(model)
    assert not needs_plan(model, monkeypatch)
    weights = tmp_path / "w.data"
    changed = np.frombuffer(weights.read_bytes(), np.float32) * np.float32(1.5)
    weights.write_bytes(changed.tobytes())
    assert needs_plan(model, monkeypatch)
    expected = make_explainer(model, cache=False, **SMOOTH)(X).maps
    np.testing.assert_array_equal(make_explainer(model, **SMOOTH)(X).maps, expected)


@pytest.mark.parametrize("value", [b"", b"\x12", b"\x12\x80\x01", b"\x18\x01x"])
def test_unusual_external_location_is_refused(value: bytes) -> None:
    usual = b"..\x0a\x08location\x12\x03a.b..\x0a\x08location\x12\x01c"
    assert external_locations(usual) == ["a.b", "c"]
    with pytest.raises(ValueError, match="encoded in an unusual way"):
        external_locations(usual + b"\x0a\x08location" + value)


def test_file_changed_during_planning_is_not_cached(
    model: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*args: Any) -> Any:
        save(model, POOLED)
        return plan(*args)

    monkeypatch.setattr("onnxcam.rewrite.planner.plan", meanwhile)
    make_explainer(model)
    assert entries(cache_folder) == []


@pytest.mark.parametrize(
    "file", [MODEL_FILE, compiling.PLAN, MODEL_FILE + compiling.WEIGHTS, "entry.json"]
)
@pytest.mark.parametrize("spoil", [lambda content: content[:-3], lambda content: b"\0" * 50])
def test_damaged_entry_is_built_again(
    model: Path,
    cache_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    spoil: Callable[[bytes], bytes],
) -> None:
    monkeypatch.setattr(
        external_data, "CACHED_LARGE_BYTES", 200
    )  # bytes: weights in a file of their own
    expected = make_explainer(model, **SMOOTH)(X)
    (entry_folder,) = entries(cache_folder)
    content = (entry_folder / file).read_bytes()
    (entry_folder / file).write_bytes(spoil(content))
    np.testing.assert_array_equal(make_explainer(model, **SMOOTH)(X).maps, expected.maps)
    assert (entry_folder / file).read_bytes() == content


def test_undamaged_but_invalid_entry_is_built_again(model: Path, cache_folder: Path) -> None:
    from onnxcam.explain import cache

    expected = make_explainer(model, **SMOOTH)(X)
    (entry_folder,) = entries(cache_folder)
    for file, content in (
        (compiling.PLAN, b"{}"),
        (compiling.PLAN, b"[1]"),
        (MODEL_FILE, b"no model"),
    ):
        (entry_folder / file).write_bytes(content)
        record = {"name": entry_folder.name, "files": cache._entry_digests(entry_folder)}
        (entry_folder / "entry.json").write_text(json.dumps(record))
        assert cache.lookup(entry_folder.name)
        np.testing.assert_array_equal(make_explainer(model, **SMOOTH)(X).maps, expected.maps)


def test_entry_removed_before_reading_is_built_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxcam.explain.cache.lookup", lambda name: tmp_path / "gone")
    assert make_explainer(model, **SMOOTH)(X).maps.max() > 0


def test_models_without_file_are_not_cached(model: Path, cache_folder: Path) -> None:
    make_explainer(load(model))
    make_explainer(onnx.load(model))
    make_explainer(model, cache=False)
    assert entries(cache_folder) == []


def test_unusable_cache_folder_does_not_stop_explainer(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ONNXCAM_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        assert make_explainer(model, **SMOOTH)(X).maps.max() > 0


@pytest.mark.parametrize(("net", "batch"), [(FIXED, None), (MIXING, 1)])
def test_batch_independence_is_proven_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, net: Net, batch: int | None
) -> None:
    model = save(tmp_path / "net.onnx", net)
    first = make_explainer(model)
    monkeypatch.setattr("onnxcam.explain.free_batch_proof.samples_are_independent", None)
    second = make_explainer(model)
    assert first.plan.image.batch == second.plan.image.batch == batch
    assert first.notices == second.notices


@pytest.mark.parametrize("net", [DEEP, TWO_OUTPUTS, FIXED])
def test_plan_survives_json(net: Net) -> None:
    for method in ("grad-cam", "smooth-grad-cam++"):
        planned, *_ = plan(load(net.content()), METHODS[method].plan_request(["features", "early"]))
        assert from_json(as_json(planned)) == planned


BARE = """
import sys
from onnxcam import Explainer
made = Explainer(sys.argv[1], device="cpu")
print([name for name in ("onnx", "onnx_graphsurgeon", "google.protobuf") if name in sys.modules])
"""


def test_cached_model_runs_without_onnx(model: Path) -> None:
    line = [sys.executable, "-W", "error", "-c", BARE, str(model)]
    outputs = [
        subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=True, timeout=60)
        for _ in range(2)
    ]
    assert "onnx_graphsurgeon" in outputs[0].stdout
    assert outputs[1].stdout.strip() == "[]"
