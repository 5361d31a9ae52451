"""The mean activation of a layer: no target, no gradient."""

import json
from pathlib import Path

import numpy as np
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
from tests.support.nets import random_images


@pytest.mark.parametrize("net", NETS)
def test_map_equals_twin(net: str) -> None:
    assert_layer_map_equals_twin("activation-map", NETS[net], twins.activation_map)


@pytest.mark.parametrize("vit", VITS)
def test_map_of_tokens_equals_twin(vit: str) -> None:
    assert_token_map_equals_twin("activation-map", VITS[vit], twins.activation_map)


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
