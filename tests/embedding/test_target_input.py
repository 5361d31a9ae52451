"""The input `target` of a file: classes that exist, and numbers that are none."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnxcam
from onnxcam.arrays import Array, Images
from onnxcam.bundled import bundled_detector, bundled_model
from onnxcam.embedding.metadata import LAYER_MAP, OVERLAY, SALIENCY
from onnxcam.errors import PlaceError
from tests.embedding.support.explained import open_content, run_content
from tests.embedding.support.runtimes import needs_package, run_node
from tests.support.nets import MLP, Net

TRAINED = Path(__file__).parents[1] / "data/trained"
ONE_SCORE = Net(
    head=MLP + "first = Constant<value_ints = [0]>() y = Gather<axis = 1>(logits, first)",
    outputs="float[N, 1] y",
)
LOWEST, HIGHEST = -(2**63), 2**63 - 1
OUTPUTS = (SALIENCY, LAYER_MAP, OVERLAY)


def embed(model: Any, method: str = "grad-cam", **options: Any) -> bytes:
    return onnxcam.embed(model, method, target_input=True, outputs=OUTPUTS, **options).model.bytes()


def images_for(content: bytes, count: int) -> Images:
    """The same random image several times, of the size that the file takes."""
    _, *sizes = open_content(content).get_inputs()[0].shape
    image = np.random.default_rng(0).uniform(0, 1, (1, *sizes)).astype(np.float32)
    return np.repeat(image, count, axis=0)


def require_nothing(outputs: dict[str, Array], rows: slice) -> None:
    for name in (SALIENCY, LAYER_MAP):
        assert np.isnan(outputs[name][rows]).all()
    assert not outputs[OVERLAY][rows].any()


@pytest.mark.parametrize(
    ("model", "classes", "options"),
    [
        pytest.param(bundled_model(), 10, {}, id="classes"),
        pytest.param(
            bundled_model(),
            10,
            {"rounds": 2, "method": "smooth-grad-cam++", "samples": 3},
            id="loop",
        ),
        pytest.param(
            bundled_model(), 10, {"method": "integrated-gradients", "steps": 2}, id="image"
        ),
        pytest.param(bundled_detector(), 10, {}, id="boxes"),
        pytest.param(TRAINED / "segmenter.onnx", 6, {}, id="pixels"),
        pytest.param(TRAINED / "words.onnx", 21, {}, id="steps"),
        pytest.param(ONE_SCORE.content(), 2, {}, id="one score"),
        pytest.param(ONE_SCORE.content(), 2, {"labels": ["no", "yes"]}, id="two labels"),
    ],
)
def test_number_that_is_no_class_gives_no_map_in_its_row_alone(
    model: Any, classes: int, options: dict[str, Any]
) -> None:
    content = embed(model, **options)
    exist = [0, -1, classes - 1]
    images = images_for(content, len(exist) + 4)
    bad = run_content(content, images, [*exist, classes, -2, LOWEST, HIGHEST])
    good = run_content(content, images, [*exist, -1, -1, -1, -1])
    assert np.isfinite(good[SALIENCY]).all()
    for name in OUTPUTS:
        np.testing.assert_array_equal(bad[name][:3], good[name][:3])
    require_nothing(bad, slice(3, None))
    for name in set(bad) - set(OUTPUTS):
        np.testing.assert_array_equal(bad[name], good[name])


def without_text() -> bytes:
    """The reader of words, with a blank that wins at every step."""
    proto = onnx.load(TRAINED / "words.onnx")
    bias = next(tensor for tensor in proto.graph.initializer if list(tensor.dims) == [21])
    values = np.array(numpy_helper.to_array(bias))
    values[0] += 100
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize("rounds", [1, 2])
def test_image_in_which_no_character_is_read_has_no_map(rounds: int) -> None:
    """Python refuses the text of such an image, too; a class can be explained."""
    content = without_text()
    written = embed(content, "smooth-grad-cam++", samples=3, rounds=rounds)
    images = images_for(written, 2)
    outputs = run_content(written, images, [3, -1])
    assert np.isfinite(outputs[SALIENCY][0]).all()
    require_nothing(outputs, slice(1, 2))
    with pytest.raises(PlaceError, match="read no character"):
        onnxcam.Explainer(content, "grad-cam", cache=False)(images)


@pytest.mark.oracle
def test_openvino_returns_no_map_for_a_number_that_is_no_class() -> None:
    """It takes integers of 32 bits, so those beyond them are others."""
    openvino = pytest.importorskip("openvino", reason="needs the extra `oracle`")
    content = embed(bundled_model())
    images, target = images_for(content, 5), np.array([4, 10, -2, 2**31 - 1, -(2**31)])
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    results = compiled({"image": images, "target": target})
    outputs = {name: np.array(results[name]) for name in OUTPUTS}
    expected = run_content(content, images, target)
    np.testing.assert_allclose(outputs[SALIENCY][0], expected[SALIENCY][0], atol=1e-4)
    require_nothing(outputs, slice(1, None))


PROGRAM = """
import {{ readFileSync }} from "node:fs";
import ort from "{package}";

const session = await ort.InferenceSession.create(readFileSync("explained.onnx"));
const image = new ort.Tensor("float32", new Float32Array(4 * 3 * 112 * 112).fill(0.5), [4, 3, 112, 112]);
const target = new ort.Tensor("int64", BigInt64Array.of(4n, 10n, -2n, 2n ** 62n), [4]);
const outputs = await session.run({{ image, target }});
const size = (data) => data.length / 4;
const rows = (data) => [0, 1, 2, 3].map((row) => data.slice(row * size(data), (row + 1) * size(data)));
console.log(JSON.stringify({{
  maps: rows(outputs.saliency.data).map((row) => row.filter(Number.isNaN).length / row.length),
  pixels: rows(outputs.overlay.data).map((row) => Math.max(...row) > 0),
}}));
"""


@pytest.mark.parametrize(
    "package",
    [
        pytest.param(name, marks=needs_package(name))
        for name in ("onnxruntime-node", "onnxruntime-web")
    ],
)
def test_javascript_returns_no_map_for_a_number_that_is_no_class(
    tmp_path: Path, package: str
) -> None:
    """onnxruntime-web runs by WebAssembly."""
    (tmp_path / "explained.onnx").write_bytes(embed(bundled_model()))
    result = run_node(tmp_path, PROGRAM.format(package=package))
    assert result == {"maps": [0, 1, 1, 1], "pixels": [True, False, False, False]}
