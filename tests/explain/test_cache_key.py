"""A cache key covers everything that a plan depends on, and entries hold plans that fit their models."""

from __future__ import annotations

import inspect
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onnxcam
from onnxcam import regular_files
from onnxcam.dense import HeadChoice
from onnxcam.errors import ModelError
from onnxcam.explain import cache, model_files
from onnxcam.explain import compile as compiling
from onnxcam.explain.model_files import ModelFiles, identify_files
from onnxcam.explain.plan_json import as_json, from_json
from onnxcam.rewrite.planner import plan
from onnxcam.specs import PlanRequest
from tests.cli.conftest import run as run
from tests.explain.support.compiled import SMOOTH, X, entries, make_explainer, needs_plan, save
from tests.support.limits import run_limited
from tests.support.nets import ANY_SIZE, DEEP, FIXED, MIXING, MLP, POOLED, TWO_OUTPUTS, Net

posix = pytest.mark.skipif(os.name == "nt", reason="no such files on Windows")
EXTERNAL = {"save_as_external_data": True, "location": "w.data", "size_threshold": 0}
SECONDS = 30
FOUR = replace(
    POOLED, head=MLP + "    probabilities = Softmax<axis = -1>(logits)",
    shape="4, 3, 8, 8", outputs="float[4, 5] probabilities",
)  # fmt: skip


IDENTIFY = """
import sys
from onnxcam.explain.model_files import identify_files
print(identify_files(sys.argv[1]))
"""


def maps(model: Any, **options: Any) -> Any:
    return make_explainer(model, **SMOOTH, **options)(X).maps


def change_data(path: Path, factor: float = -1.5) -> None:
    """Other weights, in a file of the same size."""
    change_value = np.frombuffer(path.read_bytes(), np.float32) * np.float32(factor)
    path.write_bytes(change_value.tobytes())


def as_constant(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Weights as Constant nodes: external data in an attribute."""
    for tensor in list(proto.graph.initializer):
        node = helper.make_node("Constant", [], [tensor.name], value=tensor)
        proto.graph.node.insert(0, node)
    del proto.graph.initializer[:]
    return proto


def in_branches(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The first weight as what both branches of an If give: external data in a subgraph."""
    tensor = proto.graph.initializer[0]
    proto.graph.initializer.remove(tensor)
    branches = {}
    for branch in ("then_branch", "else_branch"):
        inner = onnx.TensorProto()
        inner.CopyFrom(tensor)
        inner.name = f"{branch}_weight"
        output = helper.make_tensor_value_info(inner.name, tensor.data_type, tensor.dims)
        branches[branch] = helper.make_graph([], branch, [], [output], [inner])
    flag = numpy_helper.from_array(np.array(True), "flag")
    proto.graph.initializer.append(flag)
    proto.graph.node.insert(0, helper.make_node("If", ["flag"], [tensor.name], **branches))
    return proto


def externalize(proto: onnx.ModelProto, path: Path) -> None:
    """Write a model whose float weights, wherever they stand, lie in `w.data` beside it."""
    data = bytearray()
    graphs = [proto.graph]
    tensors = [*proto.graph.initializer]
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                tensors.append(attribute.t)
            if attribute.type == onnx.AttributeProto.GRAPH:
                graphs.append(attribute.g)
                tensors += attribute.g.initializer
    for tensor in tensors:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        content = numpy_helper.to_array(tensor).tobytes()
        where = {"location": "w.data", "offset": len(data), "length": len(content)}
        data += content
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in where.items():
            tensor.external_data.add(key=key, value=str(value))
    path.write_bytes(proto.SerializeToString())
    (path.parent / "w.data").write_bytes(bytes(data))


# External data


@pytest.mark.parametrize("move_weights", [lambda proto: proto, as_constant, in_branches])
def test_cache_key_covers_external_data_anywhere(
    tmp_path: Path, move_weights: Callable[[onnx.ModelProto], onnx.ModelProto]
) -> None:
    path = tmp_path / "net.onnx"
    externalize(move_weights(DEEP.proto()), path)
    for _ in range(2):
        expected = maps(path, cache=False)
        np.testing.assert_array_equal(maps(path), expected)
        np.testing.assert_array_equal(maps(path), expected)
        change_data(tmp_path / "w.data")


def test_bytes_with_external_data_are_refused_and_not_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_folder: Path
) -> None:
    """The folder of the data is unknown: two models of the same bytes would share one map."""
    save(tmp_path / "net.onnx", DEEP, **EXTERNAL)
    content = (tmp_path / "net.onnx").read_bytes()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="folder is unknown"):
        maps(content)
    assert entries(cache_folder) == []


@posix
@pytest.mark.parametrize("location", ["/dev/zero", "../outside", "pipe", "link", "inner", "w\0"])
def test_irregular_external_data_is_not_opened(
    tmp_path: Path, location: str, cache_folder: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    save(folder / "net.onnx", DEEP, **EXTERNAL)
    (tmp_path / "outside").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to("/dev/zero")
    (folder / "inner").mkdir()
    proto = onnx.load(folder / "net.onnx", load_external_data=False)
    for tensor in proto.graph.initializer:
        tensor.external_data[0].value = location
    (folder / "net.onnx").write_bytes(proto.SerializeToString())
    done = run_limited(["-c", IDENTIFY, str(folder / "net.onnx")], seconds=SECONDS)
    assert done.stdout.strip() == "None", done.stderr
    words = ["-m", "onnxcam", "layers", str(folder / "net.onnx")]
    assert run_limited(words, seconds=SECONDS).returncode == 2
    assert entries(cache_folder) == []


@posix
def test_huge_sparse_file_is_not_read(tmp_path: Path) -> None:
    model = save(tmp_path / "net.onnx", DEEP, **EXTERNAL)
    with (tmp_path / "w.data").open("r+b") as file:
        file.truncate(1 << 42)
    assert run_limited(["-c", IDENTIFY, str(model)], seconds=SECONDS).stdout.strip() == "None"


def test_location_across_blocks_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save(tmp_path / "net.onnx", DEEP, **EXTERNAL)
    expected = identify_files(model)
    assert expected is not None
    assert set(expected.data) == {"w.data"}
    for block in (1, 7, 64, 100):
        for module in (regular_files, model_files):
            monkeypatch.setattr(module, "BLOCK", block)
        contents = identify_files(model)
        assert contents is not None
        assert set(contents.data) == {"w.data"}
    monkeypatch.undo()
    assert identify_files(model) == expected


@posix
def test_linked_model_uses_data_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    model = save(tmp_path / "real" / "net.onnx", DEEP, **EXTERNAL)
    (tmp_path / "link.onnx").symlink_to(model)
    shutil.copy(tmp_path / "real" / "w.data", tmp_path)
    maps(tmp_path / "link.onnx")
    assert not needs_plan(tmp_path / "link.onnx", monkeypatch, **SMOOTH)
    assert needs_plan(model, monkeypatch, **SMOOTH)  # the manifest has another name
    change_data(tmp_path / "w.data")
    expected = maps(tmp_path / "link.onnx", cache=False)
    np.testing.assert_array_equal(maps(tmp_path / "link.onnx"), expected)


def test_skip_existing_detects_changed_external_data(run: Any, tmp_path: Path) -> None:
    from tests.cli.support.tiny import write_image, write_model

    write_model(tmp_path / "plain.onnx")
    image = write_image(tmp_path / "cat.png")
    onnx.save_model(onnx.load(tmp_path / "plain.onnx"), tmp_path / "net.onnx", **EXTERNAL)
    words = ("explain", tmp_path / "net.onnx", image, "-m", "grad-cam", "-o", tmp_path / "out")
    for options in ((), ("--no-cache",)):
        assert "1 map written" in run(*words, *options, "--force").stderr
        assert "1 already existed" in run(*words, *options, "--skip-existing").stderr
        change_data(tmp_path / "w.data")
        assert "1 map written" in run(*words, *options, "--skip-existing").stderr
    manifest = json.loads((tmp_path / "out" / "cat.grad-cam.json").read_text())
    assert manifest["model"]["external_data"]


# The request


FILES = ModelFiles("net.onnx", "digest", {"w.data": "1"}, ())
REQUEST = PlanRequest("default", ("activation", "d1"), varies="image")
CHANGES: dict[str, list[Any]] = {  # every field of the request with other values
    "rules": ["guided"],
    "quantities": [("activation",), ("activation", "d2"), ("activation", "d1", "d2"), ()],
    "at": ["image", "biases"],
    "varies": ["", "activation"],
    "layers": [("a",), ("a", "b"), ("b", "a"), ("a,b",), ()],
    "output": ["x", ""],
    "probability": [True],
    "target": [("element", "a"), ("element", "b"), ("element",), ("a", "element")],
    "single_layer": [True],
    "answers": [True],
    "head": [HeadChoice("detection"), HeadChoice(form="yolov8"), HeadChoice(class_axis=1)],
}


def test_cache_key_covers_all_fields_of_request() -> None:
    """A field that were missing in the key would let the cache serve the plan of another request."""
    assert CHANGES.keys() == {field.name for field in fields(PlanRequest)}
    requests = [REQUEST] + [
        replace(REQUEST, **{name: value}) for name, values in CHANGES.items() for value in values
    ]
    keys = {compiling.cache_key(FILES, request) for request in requests}
    assert len(keys) == len(requests)
    assert compiling.cache_key(FILES, replace(REQUEST)) in keys


def test_cache_key_covers_model_files() -> None:
    changes: list[dict[str, Any]] = [
        {}, {"name": "other"}, {"digest": "other"}, {"data": {}}, {"data": {"v.data": "1"}},
        {"data": {"w.data": "2"}},
    ]  # fmt: skip
    keys = {compiling.cache_key(FILES._replace(**change), REQUEST) for change in changes}
    assert len(keys) == len(changes)
    assert compiling.cache_key(FILES._replace(state=((1, 2),)), REQUEST) in keys


def test_planner_takes_only_model_and_request() -> None:
    """Whatever else it took would not be part of the key."""
    assert [*inspect.signature(plan).parameters] == ["model", "request"]


@pytest.mark.parametrize("method", onnxcam.METHODS.values(), ids=lambda method: method.name)
def test_plan_request_describes_method(method: onnxcam.Method) -> None:
    request = method.plan_request(["a", "b"], "scores", probability=True, target=("element", "a"))
    quantities = method.quantities({}).values()
    is_checked = method.needs_gradient and not takes_tensors(method)
    is_cut = method.sampler.varies == "activation"
    checked = ("activation",) if is_checked or is_cut else ()
    taken = (*method.sampler.takes, *method.sampler.asks)
    assert request == PlanRequest(
        method.rules if method.needs_gradient else "default",
        tuple(sorted({*quantities, *checked, *taken})),
        method.at,
        method.sampler.varies,
        ("a", "b"),
        "scores",
        probability=True,
        target=("element", "a"),
        single_layer=method.has_layer and method.sampler.reads_layer,
    )
    assert method.plan_request("auto") == replace(
        request, layers=("auto",), output=None, probability=False, target=()
    )


def test_plan_request_takes_quantities_of_settings() -> None:
    method = onnxcam.METHODS["smooth-grad-cam++"]
    assert method.plan_request().quantities == ("activation", "d1", "d2", "d3")
    mean = method.plan_request(settings={"activation": "mean"}).quantities
    assert mean == ("activation", "d1", "d2", "d3", "mean_activation")


@pytest.mark.parametrize("replace_by", ["the same bytes", "others and back"])
def test_file_replaced_during_planning_is_not_cached(
    tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch, replace_by: str
) -> None:
    model = save(tmp_path / "net.onnx", DEEP)
    content = model.read_bytes()

    def meanwhile(*words: Any, **options: Any) -> Any:
        if replace_by == "others and back":
            model.write_bytes(b"other")
        (tmp_path / "copy").write_bytes(content)
        (tmp_path / "copy").replace(model)
        return plan(*words, **options)

    with monkeypatch.context() as patch:
        patch.setattr("onnxcam.rewrite.planner.plan", meanwhile)
        make_explainer(model)
    assert entries(cache_folder) == []
    make_explainer(model)
    assert len(entries(cache_folder)) == 1


def takes_tensors(method: onnxcam.Method) -> bool:
    return method.at not in ("layer", "image")


# Forged plans with correct digests


def forge(entry_folder: Path, plan_text: str) -> None:
    (entry_folder / compiling.PLAN).write_text(plan_text)
    record = {"name": entry_folder.name, "files": cache._entry_digests(entry_folder)}
    (entry_folder / cache.ENTRY_FILE).write_text(json.dumps(record))
    assert cache.lookup(entry_folder.name)


VALUES: list[Any] = [
    None, True, -1, 0, 1 << 40, 10**400, 0.5, float("nan"), float("inf"), "", "x", "\0", [], {}, [[]],
    ["x"], [1, 2, 3, 4, 5, 6], {"a": 1}, [None],
]  # fmt: skip


def paths_of(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to all members of a JSON value."""
    inner = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    return [path, *(where for name, child in inner for where in paths_of(child, (*path, name)))]


def change_value(root: Any, where: tuple[Any, ...], value: Any) -> str:
    copied = json.loads(json.dumps({"": root}))
    node, last = copied, ""
    for name in where:
        node, last = node[last], name
    node[last] = value
    return json.dumps(copied[""])


@pytest.fixture
def entry_folder(tmp_path: Path, cache_folder: Path) -> Path:
    maps(save(tmp_path / "net.onnx", DEEP))
    (entry_folder,) = entries(cache_folder)
    return entry_folder


def test_forged_plan_values_are_rejected_or_harmless(entry_folder: Path, tmp_path: Path) -> None:
    """Every value of a plan is replaced by many others: they are refused, or do not change the map."""
    good = (entry_folder / compiling.PLAN).read_text()
    root = json.loads(good)
    expected = maps(tmp_path / "net.onnx", cache=False)
    refused = 0
    for where in paths_of(root):
        for value in VALUES:
            text = change_value(root, where, value)
            try:
                from_json(text)
            except (LookupError, TypeError, ValueError, AttributeError):
                refused += 1
                continue
            if json.loads(text) != root:
                forge(entry_folder, text)
                actual = maps(tmp_path / "net.onnx")
                np.testing.assert_allclose(actual, expected, rtol=1e-4, err_msg=f"{where} {value}")
    assert refused > 300
    assert from_json(good) == from_json(as_json(from_json(good)))


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("explained_tensor",), "x"), (("explained_tensor",), ""),
        (("layers", 0, "name"), "x"), (("image", "height"), 9),
        (("image", "channels"), 4), (("image", "layout"), "NHWC"), (("image", "layout"), "x"),
        (("score", "classes"), 7), (("score", "classes"), 0), (("seed_shape",), [1, 5, 1]),
        (("seed_shape",), [5, 1 << 30]), (("layers", 0, "channel_axis"), 4), (("layers",), []),
        (("layers", 0, "channel_axis"), 0), (("layers", 0, "cells"), [0, 4]), (("seed_dtype",), "object"),
        (("seed_dtype",), "float999"), (("image", "dtype"), "O"), ((), []), ((), None),
        (("clean", "model"), "head"), (("clean", "model"), "other"), (("clean", "outputs"), []),
        (("clean", "outputs", 0, "quantity"), "x"), (("clean", "outputs", 0, "quantity"), "gradient"),
        (("clean", "outputs", 0, "layer"), 1), (("clean", "outputs", 0, "tensor"), "x"),
        (("sampled", "model"), "constant"), (("sampled", "outputs"), []), (("sampled", "outputs", 0), None),
        (("sampled", "outputs", 1, "quantity"), "d1"), (("sampled", "outputs", 0, "tensor"), "logits/x"),
        (("target",), ["element", "logits"]), (("target",), "x"), (("epsilon",), 0.0), (("epsilon",), 0.5),
        (("epsilon",), float("nan")), (("epsilon",), None),
        (("constant",), None), (("constant", "outputs"), {}), (("constant_sampled", "model"), ""),
        (("image", "dtype"), "U5"), (("layers", 0), None), (("image",), [1]), (("score",), "score"),
    ],
)  # fmt: skip
def test_inconsistent_plan_is_built_again(
    entry_folder: Path, tmp_path: Path, where: tuple[Any, ...], value: Any
) -> None:
    good = (entry_folder / compiling.PLAN).read_text()
    expected = maps(tmp_path / "net.onnx", cache=False)
    forge(entry_folder, change_value(json.loads(good), where, value))
    np.testing.assert_array_equal(maps(tmp_path / "net.onnx"), expected)
    assert (entry_folder / compiling.PLAN).read_text() == good


OLD_NAMES = {  # of fields, in plans of older versions
    "explained_tensor": "of", "clean": "forward", "sampled": "smoothed", "constant_sampled": "apart",
    "is_bottleneck": "whole", "auto_for_smoothing": "automatic_smooth", "tokens_before": "before",
    "tokens_after": "after", "ignored_by_score": "unread", "output_activation": "squashing",
}  # fmt: skip


def test_plan_of_older_version_is_built_again(entry_folder: Path, tmp_path: Path) -> None:
    """Even if it had the key of a plan of this version."""
    good = (entry_folder / compiling.PLAN).read_text()
    old = good
    for name, old_name in OLD_NAMES.items():
        assert f'"{name}": ' in old
        old = old.replace(f'"{name}": ', f'"{old_name}": ')
    forge(entry_folder, old)
    expected = maps(tmp_path / "net.onnx", cache=False)
    np.testing.assert_array_equal(maps(tmp_path / "net.onnx"), expected)
    assert (entry_folder / compiling.PLAN).read_text() == good


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"image":' * 100_000, "", "\0", "1" * 10_000, "NaN"]
)
def test_invalid_plan_text_is_built_again(entry_folder: Path, tmp_path: Path, text: str) -> None:
    good = (entry_folder / compiling.PLAN).read_text()
    forge(entry_folder, text)
    assert maps(tmp_path / "net.onnx").max() > 0
    assert (entry_folder / compiling.PLAN).read_text() == good


@pytest.mark.parametrize("table", [
    None, 1, "fast", [], [[1.0]], {"1 x 4": "fast"}, {"1 x 4": [None]}, {"1 x 4": [-1.0] * 4},
    {"1 x 4": [float("nan")] * 4}, {"1 x 4": [1e308] * 10_000}, {"0 x 0": [1.0] * 9}, {"1 x 1" * 999: [1.0]},
])  # fmt: skip
def test_invalid_choices_change_no_map(entry_folder: Path, tmp_path: Path, table: Any) -> None:
    expected = maps(tmp_path / "net.onnx", cache=False)
    cache.set_choice(entry_folder.name, compiling.schedule_choice(), table)
    np.testing.assert_allclose(maps(tmp_path / "net.onnx"), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["grad-cam", "smooth-grad-cam++"])
@pytest.mark.parametrize("net", [POOLED, TWO_OUTPUTS, ANY_SIZE, FIXED, FOUR, MIXING])
def test_cached_plan_fits_and_is_used(
    tmp_path: Path, net: Net, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save(tmp_path / "net.onnx", net)
    make_explainer(model, method)
    assert not needs_plan(model, monkeypatch, method)
