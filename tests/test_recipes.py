"""The recipes in the architecture's README work when they are followed literally."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.methods import QUANTITIES, SAMPLERS
from onnxcam.targets import TARGETS

ROOT = Path(__file__).resolve().parents[1]
MODEL, IMAGE = ROOT / "models" / "shapes.onnx", ROOT / "models" / "samples" / "00_arrow.png"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(heading: str) -> list[str]:
    """The Python in a section."""
    text = (ROOT / "onnxcam" / "README.md").read_text(encoding="utf-8")
    _, _, section = text.partition(f"\n## {heading}\n")
    return BLOCK.findall(section.partition("\n## ")[0])


def follow(heading: str, **names: Any) -> dict[str, Any]:
    """Run the first example of a section; what it defines."""
    exec(compile(blocks(heading)[0], heading, "exec"), names)
    return names


@pytest.fixture(autouse=True)
def restored_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a recipe registers is gone after it."""
    for registry in (onnxcam.METHODS, onnxcam.RULE_TABLES, QUANTITIES, SAMPLERS, TARGETS):
        monkeypatch.setattr(registry, "_values", dict(registry))


def explain(method: str, target: str = "top1", **settings: Any) -> onnxcam.Explanation:
    explainer = onnxcam.Explainer(MODEL, method, device="cpu", cache=False, **settings)
    return explainer(str(IMAGE), target)


def test_recipe_of_method_gives_map() -> None:
    follow("Add a method")
    first, third = explain("layer-product"), explain("layer-product", power=3)
    assert not first.is_empty[0]
    np.testing.assert_allclose(third.layer_maps, first.layer_maps**3, rtol=1e-4, atol=1e-12)


def test_recipes_of_quantity_and_sampler_give_map() -> None:
    follow("Add a quantity", np=np, quantity=onnxcam.quantity)
    follow("Add a sampler")

    @onnxcam.method("shift-map", source="this test", sampler="shifts")
    def shift_map(mean_energy: Any) -> Any:
        """The mean energy of the gradient."""
        return np.sum(mean_energy, axis=1)

    one, several = explain("shift-map", shifts=1), explain("shift-map", shifts=4)
    assert not one.is_empty[0]
    assert not np.allclose(one.maps, several.maps, rtol=1e-3)


def test_recipe_of_target_is_explained() -> None:
    follow("Add a target")
    (output,) = (tensor.name for tensor in onnxcam.load(MODEL).graph.outputs)
    explanation = explain("grad-cam", f"squared-length:{output}")
    assert explanation.targets == (f"squared length of {output}",)
    assert not explanation.is_empty[0]
    assert explanation.scores[0] > 0


def test_recipe_of_rule_table_bends_gradient() -> None:
    onnxcam.RULE_TABLES.add("positive", follow("Add a rule table")["rules"])
    model = onnxcam.load(MODEL)
    score = onnxcam.Explainer(MODEL, "grad-cam", device="cpu").plan.explained_tensor
    image = model.graph.inputs[0].name
    bent = onnxcam.gradient(model, [image], score, rules="positive")
    assert len(bent.graph.nodes) != len(onnxcam.gradient(model, [image], score).graph.nodes)
