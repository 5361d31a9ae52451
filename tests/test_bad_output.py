"""Results that cannot be written: one of our errors names the file, and no half-written file remains."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

import onnxcam
from onnxcam.errors import OutputError
from tests.support.bad_models import X, model


@pytest.fixture
def explanation() -> onnxcam.Explanation:
    return onnxcam.Explainer(model(), "grad-cam", device="cpu")(X)


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="root and Windows write where chmod forbids it"
)
def test_save_to_read_only_folder_raises_output_error(
    explanation: onnxcam.Explanation, tmp_path: Path
) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        explanation.save(tmp_path / "out")


def test_save_to_file_instead_of_folder_raises_output_error(
    explanation: onnxcam.Explanation, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(OutputError, match=r"file.*cannot be written"):
        explanation.save(path)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("suffix", [".png", ".npz", ".json"])
def test_save_over_folder_raises_output_error(
    explanation: onnxcam.Explanation, tmp_path: Path, suffix: str
) -> None:
    folder = tmp_path / f"array-0.grad-cam{suffix}"
    folder.mkdir()
    with pytest.raises(OutputError, match=f"array-0.grad-cam{suffix}: cannot be written"):
        explanation.save(tmp_path)
    assert folder.is_dir()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("suffix", [".png", ".npz", ".json"])
def test_full_disk_leaves_no_results(
    explanation: onnxcam.Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """The disk is full when one of the files is half written: none of the three remains."""
    real = Path.write_bytes

    def full(path: Path, content: Any) -> int:
        if path.suffix == suffix:
            real(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=f"{suffix}: cannot be written .No space left"):
        explanation.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_full_disk_leaves_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        onnxcam.augment(model(), ["features"]).save(tmp_path / "augmented.onnx")
    assert not list(tmp_path.iterdir())
