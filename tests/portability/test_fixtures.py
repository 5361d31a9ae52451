"""Gradients of exported models on OpenVINO: at a layer and at the image, as ONNX Runtime computes them."""

from pathlib import Path

import numpy as np
import pytest

from onnxcam.arrays import Array
from onnxcam.bundled import bundled_detector, bundled_model
from onnxcam.heads.dense_score import ensure_class_scores
from onnxcam.model.fixed_batch import fix_batch
from onnxcam.model.image_input import image_input
from onnxcam.model.load import load
from onnxcam.model.model import Model
from onnxcam.portability.check import compare_arrays
from onnxcam.rewrite.gradient import augment, gradient
from onnxcam.rewrite.planner import layers
from tests.autodiff.support.check import run
from tests.portability.test_openvino import run_by_openvino

pytest.importorskip("openvino", reason="needs the extra `oracle`")

pytestmark = pytest.mark.oracle
DATA = Path(__file__).parents[1] / "data"
EXACT, HALF = 2e-5, 2e-3  # how far values may be off, as a part of the largest
EXPORTED = (
    *("bfloat16_weights", "dynamo_convnext", "dynamo_vit", "jax", "keras_13", "keras_18", "paddle"),
    *("qdq_per_channel", "qdq_per_tensor", "qlinear", "torchscript_convnext", "torchscript_vit"),
)
MODELS = {
    **{name: (DATA / f"{name}.onnx", EXACT) for name in EXPORTED},
    "float16": (DATA / "float16.onnx", HALF),
    "segmenter": (DATA / "trained" / "segmenter.onnx", EXACT),
    "similarity": (DATA / "trained" / "similarity.onnx", EXACT),
    "shapes": (bundled_model(), EXACT),
    "detector": (bundled_detector(), EXACT),
}
LEFT_OUT = {
    "bfloat16": "neither ONNX Runtime nor the file has it on CPUs",
}


def random_feeds(model: Model) -> dict[str, Array]:
    generator = np.random.default_rng(0)
    return {
        tensor.name: generator.normal(
            size=[size if isinstance(size, int) else 2 for size in tensor.shape]
        ).astype(tensor.dtype)
        for tensor in model.graph.inputs
    }


@pytest.mark.parametrize("batch", ["free", "one"])
@pytest.mark.parametrize("place", ["layer", "image"])
@pytest.mark.parametrize("name", MODELS)
def test_gradient_of_exported_model_equals_that_of_onnx_runtime(
    name: str, place: str, batch: str
) -> None:
    path, tolerance = MODELS[name]
    model = load(path)
    image = image_input(model)
    if batch == "one" and image.batch is None:
        model = fix_batch(model, 1)
    scored, score = ensure_class_scores(model, None)
    if place == "layer":
        chosen = [layer.name for layer in layers(model) if layer.automatic][:1]
        written = augment(scored, chosen, score.logits)
    else:
        written = gradient(scored, [image.name], score.logits)
    feeds = random_feeds(written)
    outputs = [tensor.name for tensor in written.graph.outputs]
    proto = written.proto()
    expected = run(proto, feeds, outputs)
    for output, ours, theirs in zip(
        outputs, expected, run_by_openvino(proto, feeds, outputs), strict=True
    ):
        difference, is_right = compare_arrays(theirs, ours, tolerance)
        assert is_right, f"{output}: {difference}"


def test_models_are_all_compared_or_left_out() -> None:
    """Those of timm have their weights in another file."""
    names = {path.stem for path in DATA.glob("*.onnx") if not path.stem.startswith("timm_")}
    assert names == {*MODELS, *LEFT_OUT} - {"segmenter", "similarity", "shapes", "detector"}
