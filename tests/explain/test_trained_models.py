"""Models of many heads, trained on generated images: the score that is explained, and its gradients, are those
of PyTorch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.shapes.drawing import CLASSES
from tests.explain.support.trained_models import (
    FOLDER,
    TrainedModel,
    assert_close,
    load_trained_model,
)

ROWS = {
    "captions": 2,
    "questions": 3,
    "segmenter": 2,
    "shapes-detector": 2,
    "similarity": 2,
    "words": 2,
}
CASES = [(name, row) for name, count in ROWS.items() for row in range(count)]


def target_of(name: str, model: TrainedModel, row: int, folder: Path) -> Any:
    """The target whose score was recorded; a reference is written to the folder."""
    arrays = model.arrays
    if name == "captions":
        return f"element:logits[{arrays['step']},{arrays['words'][row]}]"
    if name == "similarity":
        reference = folder / "text.npy"
        np.save(reference, np.load(FOLDER / "similarity_texts.npy")[arrays["labels"][row]])
        return f"similar:{reference}"
    if name == "words":
        return f"class:{arrays['label'][row]}@step:{arrays['step'][row]}"
    if name == "shapes-detector":
        return CLASSES[arrays["labels"][row]]
    return f"class:{arrays['answers' if name == 'questions' else 'labels'][row]}"


def ids_of(model: TrainedModel) -> dict[str, Any]:
    """The values of the second input, if there is one."""
    return {"ids": model.arrays["ids"]} if "ids" in model.arrays else {}


def inputs_of(model: TrainedModel, row: int) -> dict[str, Any]:
    return {name: values[row : row + 1] for name, values in ids_of(model).items()}


@pytest.mark.parametrize(("name", "row"), CASES)
def test_gradient_at_the_image_is_that_of_torch(name: str, row: int, tmp_path: Path) -> None:
    model = load_trained_model(name)
    target, inputs = target_of(name, model, row, tmp_path), inputs_of(model, row)
    explanation = model.explain("saliency", row, target, inputs=inputs)
    assert explanation.scores[0] == pytest.approx(model.scores[row], rel=1e-4)
    assert explanation.attributions is not None
    assert_close(explanation.attributions[0], model.gradient[row])


@pytest.mark.parametrize(("name", "row"), CASES)
def test_gradient_at_the_layer_is_that_of_torch(name: str, row: int, tmp_path: Path) -> None:
    model = load_trained_model(name)
    target, inputs = target_of(name, model, row, tmp_path), inputs_of(model, row)
    explanation = model.explain("hires-cam", row, target, inputs=inputs)
    assert explanation.layer_maps is not None
    assert_close(explanation.layer_maps[0], model.hires_cam(row, **ids_of(model)))


@pytest.mark.parametrize("row", range(ROWS["shapes-detector"]))
def test_box_of_the_detection_is_that_of_torch(row: int) -> None:
    model = load_trained_model("shapes-detector")
    target = CLASSES[model.arrays["labels"][row]]
    explanation = model.explain("grad-cam", row, target)
    box = np.array(explanation.marks[0].box)
    np.testing.assert_allclose(box, model.arrays["boxes"][row], atol=1e-3)


@pytest.mark.parametrize("row", range(ROWS["segmenter"]))
def test_region_of_the_class_is_that_of_torch(row: int) -> None:
    model = load_trained_model("segmenter")
    explanation = model.explain("grad-cam", row, "top1")
    assert explanation.indices[0] == model.arrays["labels"][row]
    np.testing.assert_array_equal(explanation.marks[0].outline, model.arrays["masks"][row])


@pytest.mark.parametrize(("row", "word"), [(0, "8E52E"), (1, "NC80R")])
def test_decoded_text_is_the_drawn_word(row: int, word: str) -> None:
    model = load_trained_model("words")
    assert model.explain("grad-cam", row, "top1").targets == (word,)
    assert model.explain("grad-cam", row, "all").targets == tuple(word)


@pytest.mark.parametrize("row", range(ROWS["captions"]))
def test_step_of_a_decoder_is_the_element_of_its_scores(row: int) -> None:
    model = load_trained_model("captions")
    word, step = model.arrays["words"][row], model.arrays["step"]
    by_element, by_step = (
        model.explain("grad-cam", row, target, inputs=inputs_of(model, row))
        for target in (f"element:logits[{step},{word}]", f"class:{word}@step:{step}")
    )
    assert by_step.scores[0] == by_element.scores[0]
    np.testing.assert_array_equal(by_step.maps, by_element.maps)
