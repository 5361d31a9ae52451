"""`onnxcam embed --preprocess`: a file that takes pixels."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

from onnxcam.bundled import bundled_model
from onnxcam.embedding.metadata import metadata_of
from tests.cli.conftest import Run


def test_file_takes_pixels_as_the_options_say(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "explained.onnx"
    words = ("--preprocess", "tf", "--fit", "letterbox", "--pad", "7", "--order", "bgr")
    result = run(
        "embed",
        bundled_model(),
        "-o",
        out,
        "-m",
        "grad-cam",
        "--outputs",
        "saliency,overlay",
        *words,
    )
    assert result.exit_code == 0
    assert "pixels" in result.stdout
    explanation = metadata_of(out)
    assert explanation is not None
    settings = explanation.preprocessing
    assert settings is not None
    assert explanation.takes_pixels
    assert (settings.scale, settings.fit, settings.pad) == (127.5, "letterbox", (7.0,))
    assert settings.order == "bgr"
    session = ort.InferenceSession(out, providers=["CPUExecutionProvider"])
    pixels = np.asarray(Image.effect_noise((90, 33), 90).convert("RGB"))[np.newaxis]
    saliency, overlay = session.run(["saliency", "overlay"], {"pixels": pixels})
    assert saliency.shape == (1, 112, 112)
    assert overlay.shape == (1, 112, 112, 3)
    assert overlay.dtype == np.uint8


def test_file_takes_tensors_without_preset(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "explained.onnx"
    assert run("embed", bundled_model(), "-o", out, "-m", "grad-cam").exit_code == 0
    session = ort.InferenceSession(out, providers=["CPUExecutionProvider"])
    assert [tensor.name for tensor in session.get_inputs()] == ["image"]


@pytest.mark.parametrize(
    "words", [("--preprocess", "imagnet"), ("--preprocess", "tf", "--std", "0")]
)
def test_unusable_preprocessing_is_refused(
    run: Run, tmp_path: Path, words: tuple[str, ...]
) -> None:
    out = tmp_path / "explained.onnx"
    result = run("embed", bundled_model(), "-o", out, "-m", "grad-cam", *words)
    assert result.exit_code == 2
    assert not out.exists()
