"""A failure is an error of the model if ONNX Runtime cannot open the model either."""

from pathlib import Path

import onnx
import pytest

from onnxcam.errors import ModelError, UnforeseenError
from onnxcam.runtime.model_validity import blames_invalid_models
from tests.support.nets import POOLED


def _invalid() -> bytes:
    """A model that adds text to numbers."""
    proto = POOLED.proto()
    proto.graph.node[1].CopyFrom(onnx.helper.make_node("Not", ["c1"], ["early"]))
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize("as_file", [True, False])
def test_invalid_model_becomes_model_error(tmp_path: Path, as_file: bool) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(_invalid())
    with (
        pytest.raises(ModelError, match=r"cannot open the model: .*Not.*export it again") as caught,
        blames_invalid_models(path if as_file else _invalid()),
    ):
        raise UnforeseenError("ours", "KeyError")
    assert isinstance(caught.value.__cause__, UnforeseenError)


@pytest.mark.parametrize("model", [POOLED.content(), object()])
def test_valid_model_keeps_unforeseen_error(model: object) -> None:
    with pytest.raises(UnforeseenError, match="ours"), blames_invalid_models(model):
        raise UnforeseenError("ours", "KeyError")


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(ModelError, match="another"), blames_invalid_models(_invalid()):
        raise ModelError("another")
