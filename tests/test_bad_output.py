"""Where the results cannot go: one of our errors names the file, and none is left half written."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

import onnxcam
from onnxcam.errors import OutputError
from tests.test_bad_input import X, model


@pytest.fixture
def found() -> onnxcam.Explanation:
    return onnxcam.Explainer(model(), "grad-cam", device="cpu")(X)


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="root and Windows write where chmod forbids it"
)
def test_a_folder_that_may_not_be_written(found: onnxcam.Explanation, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        found.save(tmp_path / "out")


def test_a_folder_that_is_a_file(found: onnxcam.Explanation, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(OutputError, match=r"file.*cannot be written"):
        found.save(path)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("suffix", [".png", ".npz", ".json"])
def test_a_name_that_a_folder_has(found: onnxcam.Explanation, tmp_path: Path, suffix: str) -> None:
    taken = tmp_path / f"array-0.grad-cam{suffix}"
    taken.mkdir()
    with pytest.raises(OutputError, match=f"array-0.grad-cam{suffix}: cannot be written"):
        found.save(tmp_path)
    assert taken.is_dir()
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".")]


@pytest.mark.parametrize("suffix", [".png", ".npz", ".json"])
def test_a_disk_that_is_full(
    found: onnxcam.Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Half of one of the files is written when the disk is full: none of the three is left."""
    real = Path.write_bytes

    def full(path: Path, content: Any) -> int:
        if path.suffix == suffix:
            real(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=f"{suffix}: cannot be written .No space left"):
        found.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_model_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        onnxcam.augment(model(), ["features"]).save(tmp_path / "augmented.onnx")
    assert not list(tmp_path.iterdir())
