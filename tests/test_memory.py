"""Out of memory: one clear error or smaller chunks, and no wrong conclusion about the model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxcam import Explainer
from onnxcam.errors import OutOfMemoryError, RunError
from onnxcam.explain.batch_trial import UNTRIED
from onnxcam.runtime.session import Session, memory_errors
from tests.support.limits import run_limited
from tests.support.nets import DEEP, random_images

X = random_images(1)
SMOOTH: dict[str, Any] = {"samples": 6, "device": "cpu", "layer": "features"}


def lacking(*source: object, **more: object) -> Any:
    raise MemoryError


def room_for(monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    """Sessions run so many images at once."""
    real = Session.run

    def run(session: Session, outputs: Any, feeds: Any) -> Any:
        if max(len(array) for array in feeds.values() if np.ndim(array)) > images:
            raise OutOfMemoryError("out of memory")
        return real(session, outputs, feeds)

    monkeypatch.setattr(Session, "run", run)


def test_trial_without_memory_is_repeated_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(DEEP.content())
    with monkeypatch.context() as less:
        room_for(less, 1)
        poor = Explainer(path, **SMOOTH)
        explanation = poor(X)
    assert poor.plan.image.batch == 1
    assert UNTRIED in explanation.notices
    rich = Explainer(path, **SMOOTH)
    assert rich.plan.image.batch is None
    assert not rich.notices
    np.testing.assert_allclose(explanation.maps, rich(X).maps, rtol=1e-4, atol=1e-7)


def test_fixed_batch_without_memory_is_not_called_mixing(monkeypatch: pytest.MonkeyPatch) -> None:
    room_for(monkeypatch, 1)
    four = replace(DEEP, shape="4, 3, 8, 8", outputs="float[4, 5] probabilities")
    explainer = Explainer(four.content(), **SMOOTH, cache=False)
    assert explainer.plan.image.batch == 4
    with pytest.raises(RunError, match="out of memory on cpu with 4"):
        explainer(X)


def test_session_without_memory_raises_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxcam.runtime.session._inference_session", lacking)
    with pytest.raises(OutOfMemoryError, match="the model does not fit into the memory of cpu"):
        Explainer(DEEP.content(), "grad-cam", device="cpu", cache=False)


def test_formula_without_memory_raises_run_error(monkeypatch: pytest.MonkeyPatch) -> None:
    explainer = Explainer(DEEP.content(), "grad-cam", device="cpu", cache=False)
    monkeypatch.setattr("onnxcam.explain.block.resize_bilinear", lacking)
    with pytest.raises(RunError, match="out of memory while images were explained; close other"):
        explainer(X)


def test_noise_is_redrawn_without_memory_to_store_it(monkeypatch: pytest.MonkeyPatch) -> None:
    explainer = Explainer(DEEP.content(), **SMOOTH, cache=False)
    expected = explainer(X).maps
    real = np.empty
    explainer = Explainer(DEEP.content(), **SMOOTH, cache=False)
    monkeypatch.setattr(
        "onnxcam.methods.samplers.gaussian.np.empty",
        lambda shape, *more: lacking() if shape[0] > 6 else real(shape, *more),
    )
    np.testing.assert_allclose(explainer(X).maps, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "out of memory here; close other programs"),
        (
            ImportError("x.so: failed to map segment from shared object"),
            "a library could not be loaded",
        ),
    ],
)
def test_memory_errors_are_translated(error: Exception, said: str) -> None:
    with pytest.raises(OutOfMemoryError, match=said), memory_errors("here"):
        raise error


def test_other_errors_are_not_translated() -> None:
    with pytest.raises(ImportError, match="no such module"), memory_errors("here"):
        raise ImportError("no such module")


LIMITED = """
import resource, sys
from onnxcam import Explainer
from onnxcam.errors import OnnxcamError
Explainer(sys.argv[1], "grad-cam", device="cpu", cache=False)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (int(sys.argv[3]) << 20),) * 2)
try:
    Explainer(sys.argv[2], "grad-cam", device="cpu", cache=False)
except OnnxcamError as error:
    print(error)
"""


@pytest.mark.parametrize("megabytes", [8, 24])
def test_model_larger_than_memory_is_refused(tmp_path: Path, megabytes: int) -> None:
    small, large, script = (tmp_path / name for name in ("small.onnx", "large.onnx", "script.py"))
    small.write_bytes(DEEP.content())
    proto = onnx.load_from_string(DEEP.content())
    proto.graph.node[-1].output[0] = "narrow"
    wide = np.ones((5, 2_000_000), np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(wide, "wide"))
    last = onnx.helper.make_node("MatMul", ["narrow", "wide"], ["probabilities"])
    proto.graph.node.append(last)
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 2_000_000
    large.write_bytes(proto.SerializeToString())
    script.write_text(LIMITED)
    result = run_limited([str(script), str(small), str(large), str(megabytes)], megabytes=16384)
    assert result.returncode == 0, result.stderr
    assert "memory" in result.stdout
    assert len(result.stdout.splitlines()) == 1
