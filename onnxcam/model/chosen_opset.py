"""The opset that a user chose for a file that is written."""

from __future__ import annotations

from onnxcam.errors import SettingError
from onnxcam.graph.opset import NEWEST
from onnxcam.model.load import upgrade_model
from onnxcam.model.model import Model


def upgrade_to(model: Model, opset: int) -> Model:
    """The model at the opset. SettingError for one below its own, or above the newest that is written."""
    if not model.opset <= opset <= NEWEST:
        raise SettingError(
            f"opset={opset}: {model.name} has opset {model.opset}, and models are only upgraded; expected "
            f"{model.opset} to {NEWEST}"
        )
    return model if opset == model.opset else upgrade_model(model, opset)


def require_opset(written: Model, opset: int) -> None:
    """SettingError if operators that were written need a newer opset than the chosen one."""
    if written.opset > opset:
        raise SettingError(
            f"opset={opset}: operators of the new model need opset {written.opset}; choose it, or leave the "
            "opset out"
        )
