"""Every form of a target: a file explains what Python explains, or names the target that it refuses."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import onnxcam
from onnxcam.arrays import Images
from onnxcam.bundled import bundled_detector
from onnxcam.embedding.metadata import SALIENCY
from onnxcam.errors import OnnxcamError, TargetError
from tests.embedding.support.explained import assert_close, run_content
from tests.support.nets import MLP, Net, random_images

METHOD = "grad-cam++"
TRAINED = Path(__file__).parents[1] / "data/trained"
WORDS, SEGMENTER, DETECTOR = TRAINED / "words.onnx", TRAINED / "segmenter.onnx", bundled_detector()
SIMILARITY = TRAINED / "similarity.onnx"
SIZES = {WORDS: (32, 96), SEGMENTER: (64, 64), DETECTOR: (128, 128), SIMILARITY: (64, 64)}
EMBEDDING = Net(
    head=MLP + "some = Constant<value_ints = [0, 3]>() y = Gather<axis = 1>(logits, some)",
    outputs="float[N, 2] y",
)


def images_of(model: Path) -> Images:
    draw = np.random.default_rng(0)
    return draw.uniform(0, 1, (2, 3, *SIZES[model])).astype(np.float32)


def explainer_of(model: Any, **options: Any) -> onnxcam.Explainer:
    return onnxcam.Explainer(model, METHOD, device="cpu", **options)


@pytest.mark.parametrize(
    ("model", "targets"),
    [
        # class 0 is the blank, which is never read; 3 and 4 are explained where they are likeliest
        (WORDS, [0, 3, 4, "0@", "top1@text", "3@step:2", "top2@step:2", "not top1@step:2"]),
        # the background ranks last among regions, but has a mean like all classes
        (SEGMENTER, ["top1@all", "top2@all", "not top1@all", "0-1@all", "top2@segment", "top2@"]),
        (DETECTOR, ["@all", "not 0@all", "top2@best", "0-1@position:3", "not top2@position: 9"]),
        (SIMILARITY, ["top1", "TOP1", "not top1", "value:0"]),
    ],
)
def test_target_is_that_of_python(model: Path, targets: list[Any]) -> None:
    explainer, images = explainer_of(model), images_of(model)
    for target in targets:
        content = onnxcam.embed(model, METHOD, target=target).model.bytes()
        maps = run_content(content, images)[SALIENCY]
        assert_close(maps, explainer(images, target).maps, 1e-5)


@pytest.mark.parametrize(
    ("model", "targets"),
    [
        (
            WORDS,
            ["top2", "not top1", "3@position:0", "3@all", "3@best", "3@step:9999", "99@step:1"],
        ),
        (SEGMENTER, ["0@position:9", "0@step:2", "0@best", "0@nonsense", "top9@all", "0-0@all"]),
        (DETECTOR, ["0@step:2", "0@position:999999", "top1@segment", "0@text", "nothing@all"]),
        (SIMILARITY, ["top2", "0@all", "all", "1"]),
    ],
)
def test_target_that_python_refuses_is_refused(model: Path, targets: list[str]) -> None:
    explainer, images = explainer_of(model), images_of(model)
    for target in targets:
        what, _, where = target.partition("@")
        with pytest.raises(OnnxcamError):
            explainer(images, target)
        with pytest.raises(OnnxcamError, match=f"{what}|@{where}"):
            onnxcam.embed(model, METHOD, target=target)


@pytest.mark.parametrize(
    ("model", "target", "instead"),
    [
        (SEGMENTER, "2@pixel:3,4", "@segment\\) or CLASS@all"),
        (SEGMENTER, "2@box:1,1,9,9", "@segment\\) or CLASS@all"),
        (DETECTOR, "0@box:2", "@best\\) or CLASS@position:117"),
        (DETECTOR, "top1@mask:a.png", "@best\\) or CLASS@position:117"),
        (DETECTOR, "all", "name a class"),
        (WORDS, "all", "name a class"),
    ],
)
def test_target_that_depends_on_the_image_is_refused(
    model: Path, target: str, instead: str
) -> None:
    with pytest.raises(TargetError, match=f"{target}.*{instead}"):
        onnxcam.embed(model, METHOD, target=target)


@pytest.mark.parametrize(
    ("model", "options"),
    [(WORDS, {}), (SEGMENTER, {}), (DETECTOR, {}), (SEGMENTER, {"task": "image"})],
)
def test_targets_that_notices_suggest_are_taken(
    model: Path, options: dict[str, Any], tmp_path: Path
) -> None:
    """The notice of a detector suggested @box:2, which embed refuses, and that of a reader @all, which nothing
    takes.
    """
    np.save(mask := tmp_path / "mask.npy", np.ones(SIZES[model], bool))
    values = {"FILE": str(mask), "K": "1", "x0,y0,x1,y1": "0,0,99,99", "x,y": "3,4"}
    explainer = explainer_of(model, **options)
    targets = suggested(explainer.notices, values)
    for target in targets:
        assert len(explainer(images_of(model)[:1], target)) == 1
    held = suggested(onnxcam.embed(model, METHOD, **options).notices, values)
    for target in held:
        assert onnxcam.embed(model, METHOD, target=target, **options).explanation.target
    assert targets
    assert held


def suggested(notices: Sequence[str], values: dict[str, str]) -> list[str]:
    """The targets of class 1 that notices suggest, with values for what a user fills in."""
    texts = re.findall(r"\b(?:CLASS|CHARACTER|CHANNEL)(?:@[\w:,]*\w)?", " ".join(notices))
    targets = []
    for text in texts:
        for name, value in values.items():
            text = re.sub(rf"\b{name}\b", value, text)
        targets.append(re.sub("^[A-Z]+", "1", text))
    return targets


def test_reference_of_a_similarity_is_read_when_the_file_is_written(tmp_path: Path) -> None:
    content, images = EMBEDDING.content(), random_images(2)
    np.save(tmp_path / "reference.npy", np.array([1.0, -2.0], np.float32))
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(tmp_path / "image.png")
    for name in ("reference.npy", "image.png"):
        target = f"similar:{tmp_path / name}"
        written = onnxcam.embed(content, METHOD, target=target, task="embedding").model.bytes()
        expected = explainer_of(content, task="embedding")(images, target).maps
        assert_close(run_content(written, images)[SALIENCY], expected, 1e-5)


@pytest.mark.parametrize("target", ["element:features[1,2,3]", "similar:reference.npy"])
def test_input_for_classes_beside_a_target_that_is_none_is_refused(target: str) -> None:
    with pytest.raises(TargetError, match="explains classes"):
        onnxcam.embed(EMBEDDING.content(), METHOD, target=target, target_input=True)
