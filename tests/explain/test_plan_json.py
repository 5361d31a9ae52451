"""Plans as JSON: every program survives, and what no planner writes is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxcam.explain import compile as compiling
from onnxcam.explain.plan_json import as_json, from_json
from onnxcam.methods import METHODS
from onnxcam.methods.place import PLACES
from onnxcam.model.load import load
from onnxcam.rewrite.planner import plan
from onnxcam.runtime.device import find_device
from onnxcam.specs import CONSTANT, HEAD, MODEL, SAMPLED, Output, Plan, PlanRequest, Program
from tests.explain.support.compiled import entries, save
from tests.methods.support.contract import net_of
from tests.support.nets import ANY_SIZE, DEEP, FIXED, POOLED, TWO_OUTPUTS, Net

SMOOTHED = PlanRequest(
    "default", ("activation", "d1", "d2", "d3"), varies="image", layers=("features",)
)
CUT = PlanRequest(
    "default", ("activation", "sample_probabilities"), varies="activation", layers=("features",)
)
REQUESTS = {
    "clean": PlanRequest("default", ("activation", "gradient")),
    "several layers": PlanRequest(
        "default", ("activation", "gradient"), layers=("early", "features")
    ),
    "samples": SMOOTHED,
    "mean activation": replace(SMOOTHED, quantities=("activation", "d1", "mean_activation")),
    "cut at the layer": CUT,
    "at the image": PlanRequest("default", ("activation", "gradient"), at="image"),
    "second derivative": PlanRequest("default", ("activation", "gradient", "hvp")),
    "samples at the image": PlanRequest(
        "default", ("activation", "d1"), at="image", varies="image"
    ),
    "element": replace(SMOOTHED, target=("element", "logits")),
}
FILES = {  # the models of a plan for each net
    ("clean", "deep"): {MODEL},
    ("clean", "pooled"): {MODEL, CONSTANT},
    ("samples", "pooled"): {MODEL, CONSTANT},
    ("cut at the layer", "deep"): {MODEL, HEAD},
    ("samples at the image", "deep"): {MODEL, SAMPLED},
}
NETS = {"deep": DEEP, "pooled": POOLED}


def planned(net: Net, request: PlanRequest) -> Plan:
    return plan(load(net.content()), request).plan


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("net", [DEEP, POOLED, ANY_SIZE, FIXED, TWO_OUTPUTS])
def test_plan_of_any_programs_survives_json(net: Net, request_: PlanRequest) -> None:
    made = planned(net, request_)
    assert from_json(as_json(made)) == made
    assert {output.quantity for program in made.programs for output in program.outputs} == {
        *request_.quantities
    }


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
@pytest.mark.parametrize("net", [DEEP, POOLED])
def test_plan_of_any_method_survives_json(net: Net, method: Any) -> None:
    content = net_of(method.name).content if method.place in PLACES else net.content()
    made = plan(load(content), method.plan_request()).plan
    assert from_json(as_json(made)) == made


@pytest.mark.parametrize(("kind", "net"), FILES)
def test_each_model_has_file_and_session(
    tmp_path: Path, cache_folder: Path, kind: str, net: str
) -> None:
    model = save(tmp_path / "net.onnx", NETS[net])
    cpu = find_device("cpu")
    first, second = (
        compiling.compile_model(model, REQUESTS[kind], cpu, cached=True) for _ in range(2)
    )
    names = FILES[kind, net]
    for compiled in (first, second):
        assert {*compiled.sessions} == {*compiled.reopen} == {*compiled.plan.models} == names
    (entry_folder,) = entries(cache_folder)
    assert {path.name for path in entry_folder.glob("*.onnx")} == {f"{name}.onnx" for name in names}
    assert first.plan == second.plan


@pytest.mark.parametrize(("kind", "net"), FILES)
@pytest.mark.parametrize("spoil", [lambda content: content[:-3], lambda content: b"\0" * 50])
def test_damaged_model_of_any_program_is_built_again(
    tmp_path: Path, cache_folder: Path, kind: str, net: str, spoil: Any
) -> None:
    model, cpu = save(tmp_path / "net.onnx", NETS[net]), find_device("cpu")
    compiling.compile_model(model, REQUESTS[kind], cpu, cached=True)
    (entry_folder,) = entries(cache_folder)
    for name in FILES[kind, net]:
        path = entry_folder / compiling.file_of(name)
        content = path.read_bytes()
        path.write_bytes(spoil(content))
        again = compiling.compile_model(model, REQUESTS[kind], cpu, cached=True)
        assert {*again.sessions} == FILES[kind, net]
        assert path.read_bytes() == content


PROGRAM = {
    "model": MODEL,
    "outputs": [{"quantity": "activation", "layer": 0, "tensor": "features"}],
}


def changed(**fields: Any) -> str:
    """The plan of Grad-CAM with a program that has other fields."""
    root = json.loads(as_json(planned(DEEP, REQUESTS["clean"])))
    return json.dumps({**root, "clean": {**PROGRAM, **fields}})


def output(**fields: Any) -> list[dict[str, Any]]:
    return [{**PROGRAM["outputs"][0], **fields}]  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "other"}, {"model": ""}, {"model": None}, {"model": 1}, {"model": "model.onnx"},
        {"model": "../model"}, {"outputs": None}, {"outputs": {}}, {"outputs": "features"},
        {"outputs": [None]}, {"outputs": [[]]}, {"outputs": [{}]}, {"extra": 1},
        {"outputs": output(quantity="other")}, {"outputs": output(quantity="")},
        {"outputs": output(quantity=None)}, {"outputs": output(layer=1)}, {"outputs": output(layer=-1)},
        {"outputs": output(layer=True)}, {"outputs": output(layer=0.0)}, {"outputs": output(layer=None)},
        {"outputs": output(tensor=None)}, {"outputs": output(tensor="early")},
        {"outputs": output(tensor="features/early")}, {"outputs": output(tensor=["features"])},
        {"outputs": output(extra=1)},
    ],
)  # fmt: skip
def test_program_that_no_planner_writes_is_refused(fields: dict[str, Any]) -> None:
    assert from_json(changed()).clean == Program(MODEL, (Output("activation", 0, "features"),))
    with pytest.raises((LookupError, TypeError, ValueError, AttributeError)):
        from_json(changed(**fields))


@pytest.mark.parametrize("missing", ["clean", "constant", "sampled", "constant_sampled", "epsilon"])
def test_plan_without_field_is_refused(missing: str) -> None:
    root = json.loads(as_json(planned(DEEP, REQUESTS["clean"])))
    del root[missing]
    with pytest.raises((LookupError, TypeError)):
        from_json(json.dumps(root))


@pytest.mark.parametrize("epsilon", [0.0, -1e-7, 0.5, float("nan"), float("inf"), 1, None, "1e-7"])
def test_precision_of_no_float_is_refused(epsilon: Any) -> None:
    """Every map would count as rounding errors, or none."""
    root = json.loads(as_json(planned(DEEP, REQUESTS["clean"])))
    for usual in (np.float16, np.float32):
        from_json(json.dumps({**root, "epsilon": float(np.finfo(usual).eps)}))
    with pytest.raises((TypeError, ValueError)):
        from_json(json.dumps({**root, "epsilon": epsilon}))


def test_plan_that_json_changes_is_refused() -> None:
    made = planned(DEEP, REQUESTS["clean"])
    odd = Program(MODEL, (replace(made.clean.outputs[0], quantity="other"),))
    with pytest.raises(ValueError, match="a quantity that no formula takes"):
        as_json(replace(made, clean=odd))
    with pytest.raises(ValueError, match="a quantity at a layer that the plan does not have"):
        as_json(replace(made, layers=(replace(made.layers[0], name="other"),)))
