"""Images with text: a map depends on the question, and on the word of a caption that is explained.

Words select cells, so that the gradient differs from cell to cell. HiResCAM keeps the differences, and Grad-CAM
averages over them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from PIL import Image

import onnxcam
from scripts.shapes.drawing import CLASSES
from scripts.shapes.scenes import Scene, draw_scene
from tests.explain.support.trained_models import FOLDER, TrainedModel, load_trained_model

SEEDS = range(500, 512)
SIZE = 64
EMPTY = 0  # the id that fills up a question


def scenes_of(*names: str) -> Iterator[Scene]:
    """Scenes with an object of each name."""
    labels = [CLASSES.index(name) for name in names]
    for seed in SEEDS:
        scene = draw_scene(np.random.default_rng(seed), SIZE, labels, is_textured=False)
        if len(scene.labels) == len(labels):
            yield scene


def ids_of(model: TrainedModel, text: str, length: int) -> Any:
    """(1, length): the ids of the words in the model's vocabulary."""
    words = model.metadata("vocabulary")
    ids = [words.index(word) for word in text.split()]
    return np.array([ids + [EMPTY] * (length - len(ids))])


def density(saliency: Any, mask: Any) -> float:
    """The mean of a map on the pixels of a mask."""
    return float(saliency[mask].mean())


def mask_of(scene: Scene, name: str) -> Any:
    return scene.masks[scene.labels == CLASSES.index(name)].any(axis=0)


@pytest.fixture(scope="module")
def questions() -> TrainedModel:
    return load_trained_model("questions")


@pytest.fixture(scope="module")
def captions() -> TrainedModel:
    return load_trained_model("captions")


def explain_answer(model: TrainedModel, scene: Scene, question: str) -> onnxcam.Explanation:
    explainer = onnxcam.Explainer(
        model.path, "hires-cam", device="cpu", inputs={"ids": ids_of(model, question, 8)}
    )
    return explainer(Image.fromarray(scene.pixels), "top1")


def test_answers_depend_on_the_question(questions: TrainedModel) -> None:
    right = []
    for scene in scenes_of("disc", "disc", "star", "square"):
        for question, answer in (
            ("how many disc ?", "2"),
            ("how many star ?", "1"),
            ("is there a triangle ?", "no"),
            ("is there a square ?", "yes"),
        ):
            ids = ids_of(questions, question, 8)
            (logits,) = questions.run(scene.pixels[None], ids=ids)
            right.append(questions.metadata("names")[logits[0].argmax()] == answer)
    assert np.mean(right) >= 0.9


def test_map_of_a_count_lies_on_the_counted_objects(questions: TrainedModel) -> None:
    ratios = []
    for scene in scenes_of("disc", "disc", "star", "square"):
        saliency = explain_answer(questions, scene, "how many disc ?").maps[0]
        discs = mask_of(scene, "disc")
        others = mask_of(scene, "star") | mask_of(scene, "square")
        ratios.append(density(saliency, discs) / max(density(saliency, others), 1e-12))
    assert median(ratios) >= 5
    assert min(ratios) > 1


def test_map_follows_the_question(questions: TrainedModel) -> None:
    for scene in scenes_of("disc", "star"):
        shares = []
        for name in ("disc", "star"):
            saliency = explain_answer(questions, scene, f"is there a {name} ?").maps[0]
            disc, star = (density(saliency, mask_of(scene, n)) for n in ("disc", "star"))
            shares.append(disc / (disc + star))
        assert shares[0] > 0.8 > 0.3 > shares[1]


@pytest.mark.parametrize(("step", "side"), [(1, 0), (5, 1)], ids=["left", "right"])
def test_map_of_a_word_lies_on_its_object(captions: TrainedModel, step: int, side: int) -> None:
    words, ratios = captions.metadata("vocabulary"), []
    for scene in scenes_of("heart", "square"):
        order = scene.boxes[:, 0].argsort()
        names = [CLASSES[scene.labels[index]] for index in order]
        ids = ids_of(captions, f"<start> a {names[0]} left of a {names[1]}", 7)
        explainer = onnxcam.Explainer(captions.path, "hires-cam", device="cpu", inputs={"ids": ids})
        target = f"element:logits[{step},{words.index(names[side])}]"
        saliency = explainer(Image.fromarray(scene.pixels), target).maps[0]
        own, other = (density(saliency, scene.masks[order[n]]) for n in (side, 1 - side))
        ratios.append(own / max(other, 1e-12))
    assert median(ratios) >= 10
    assert np.mean(np.array(ratios) > 1) >= 0.9


def test_map_of_a_similarity_lies_on_the_object_of_the_text(tmp_path: Path) -> None:
    tower = load_trained_model("similarity")
    texts, vectors = tower.metadata("texts"), np.load(FOLDER / "similarity_texts.npy")
    explainer, ratios = onnxcam.Explainer(tower.path, "grad-cam", device="cpu"), []
    for name in ("heart", "square"):
        np.save(tmp_path / f"{name}.npy", vectors[texts.index(name)])
        for scene in scenes_of(name):
            image = Image.fromarray(scene.pixels)
            saliency = explainer(image, f"similar:{tmp_path / name}.npy").maps[0]
            ratios.append(density(saliency, scene.masks[0]) / float(saliency.mean()))
    assert median(ratios) >= 2.5
