"""The mean activation of a layer: no target, no gradient."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from typer.testing import CliRunner

import onnxcam
from onnxcam.cli.app import app
from tests.methods.support import twins
from tests.methods.support.compare import NETS, explain
from tests.methods.support.compare_layer import (
    VITS,
    assert_layer_map_equals_twin,
    assert_token_map_equals_twin,
)
from tests.support.layered_nets import CURVED
from tests.support.nets import BODY, POOLED, random_images

HEAD = '<ir_version: 9, opset_import: ["": 17, "unknown": 1]> net (float[N, 3, 8, 8] x) => '
HEADS = {
    "number of the best class": "int64[N, 1, 4, 4] y) { %s y = ArgMax<axis = 1>(features) }",
    "five axes": """float[N, 6, 2, 2, 4] y) { %s
        s = Constant<value_ints = [-1, 6, 2, 2, 4]>() y = Reshape(features, s) }""",
    "batch second": """float[2, N, 6, 4, 4] y) { %s axis = Constant<value_ints = [0]>()
        a = Unsqueeze(features, axis) y = Concat<axis = 0>(a, a) }""",
}


def headless(text: str) -> bytes:
    """The first layers of the small nets, and a head without class scores."""
    proto = onnx.parser.parse_model(f"{HEAD}({text % BODY.format(x='x')}")
    weights = POOLED.weights
    for name in ("w1", "b1", "w2", "b2"):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weights[name], name))
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize("net", NETS)
def test_map_equals_twin(net: str) -> None:
    assert_layer_map_equals_twin("activation-map", NETS[net], twins.activation_map)


@pytest.mark.parametrize("vit", VITS)
def test_map_of_tokens_equals_twin(vit: str) -> None:
    assert_token_map_equals_twin("activation-map", VITS[vit], twins.activation_map)


@pytest.mark.parametrize("head", HEADS)
def test_model_without_class_scores_is_explained(head: str) -> None:
    x = random_images(2)
    explanation = onnxcam.Explainer(headless(HEADS[head]), "activation-map", device="cpu")(x)
    assert explanation.layers == ("features",)
    assert explanation.notices == ()
    expected = POOLED.features(x).mean(axis=1)
    np.testing.assert_allclose(explanation.layer_maps, expected, rtol=1e-5, atol=1e-6)


def test_target_that_changes_nothing_gives_notice() -> None:
    explanation = explain("activation-map", CURVED)
    assert "activation-map gives the same map for every target, so '1' changes nothing" in (
        " ".join(explanation.notices)
    )
    explainer = onnxcam.Explainer(CURVED.content(), "activation-map", device="cpu")
    default = explainer(random_images(3))
    np.testing.assert_array_equal(default.maps, explanation.maps)
    assert not any("every target" in notice for notice in default.notices)


def test_missing_score_is_null_in_manifest_and_nothing_in_caption() -> None:
    explanation = explain("activation-map", CURVED)
    assert np.isnan(explanation.scores).all()
    target = json.loads(json.dumps(explanation.manifest(), allow_nan=False))["target"]
    assert (target["name"], target["score"]) == ("any target", None)
    assert explanation.overlay(caption=True).size[1] > explanation.overlay().size[1]


def test_command_prints_line_without_score(tmp_path: Path) -> None:
    model, image = tmp_path / "m.onnx", tmp_path / "i.png"
    model.write_bytes(CURVED.content())
    Image.fromarray((random_images(1, (8, 8, 3))[0] * 60 + 128).astype(np.uint8)).save(image)
    arguments = ["explain", str(model), str(image), "-m", "activation-map", "-o", str(tmp_path)]
    result = CliRunner().invoke(app, [*arguments, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "i.png  any target  " in result.output.replace("\n", "")
    assert "nan" not in result.output
    result = CliRunner().invoke(app, [*arguments, "--device", "cpu", "--json"])
    record = json.loads(result.stdout.splitlines()[-1])
    assert record["score"] is None
    assert record["probability"] is None
