"""Data files in the model's folder are found; others are refused before anything is opened."""

import os
import socket
from pathlib import Path

import pytest

from onnxcam.errors import ModelError
from onnxcam.model.data_files import locate_data

posix = pytest.mark.skipif(os.name == "nt", reason="no such files on Windows")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model in a folder, with a file of weights next to it, one in a subfolder, and one outside."""
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    for path in ("model/net.onnx", "model/w.bin", "model/inner/w.bin", "outside.bin"):
        (tmp_path / path).write_bytes(b"w")
    return folder / "net.onnx"


@pytest.mark.parametrize("location", ["w.bin", "./w.bin", "inner/w.bin", "inner/../w.bin"])
def test_data_file_in_model_folder_is_found(model: Path, location: str) -> None:
    path = locate_data(model, location)
    assert path.samefile(model.parent / location)
    assert path == path.resolve()


def test_data_file_of_model_in_current_folder_is_found(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    assert locate_data(Path("net.onnx"), "w.bin").samefile("w.bin")


@posix
def test_links_inside_folder_and_next_to_linked_model_are_followed(
    model: Path, tmp_path: Path
) -> None:
    """Hugging Face's cache holds links to blobs with other names, all in one folder."""
    snapshot = tmp_path / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    (snapshot / "net.onnx").symlink_to(model)
    (snapshot / "w.bin").symlink_to(model.parent / "w.bin")
    assert locate_data(snapshot / "net.onnx", "w.bin").samefile(model.parent / "w.bin")
    (model.parent / "link.bin").symlink_to("inner/w.bin")
    assert locate_data(model, "link.bin").samefile(model.parent / "inner/w.bin")


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("../outside.bin", "outside the model's folder"),
        ("inner/../../outside.bin", "outside the model's folder"),
        ("../../../../../../etc/passwd", "outside the model's folder"),
        ("/etc/passwd", "an absolute path"),
        ("/dev/zero", "an absolute path"),
        ("C:\\weights.bin", "an absolute path"),
        ("\\\\server\\share\\w.bin", "an absolute path"),
        ("inner", "a folder, not a regular file"),
        ("", "a folder, not a regular file"),
        ("none.bin", "No such file"),
        ("w.bin/more", "Not a directory|No such file"),
        ("w\0.bin", "null"),
        ("w" * 5000, "too long|No such file"),
    ],
    ids=lambda text: text[:20].replace("\0", "0"),
)
def test_data_file_elsewhere_is_refused(model: Path, location: str, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        locate_data(model, location, "tensor 'w'")
    message = str(caught.value)
    assert message.startswith(f"{model}: external data cannot be read (tensor 'w' in the file ")
    assert message.endswith("keep the data file next to the model, under its original name")
    assert len(message) < 500 + len(str(model))
    assert message.isprintable()


@posix
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("link out", "outside the model's folder"),
        ("folder that leads out", "outside the model's folder"),
        ("link to a device", "outside the model's folder"),
        ("pipe", "a pipe, not a regular file"),
        ("socket", "a socket, not a regular file"),
        ("link to itself", "symbolic links"),
        ("link to nothing", "No such file"),
    ],
)
def test_link_out_of_folder_or_special_file_is_refused(
    model: Path, kind: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    link, location = Path("bad.bin"), "bad.bin"
    if kind == "pipe":
        os.mkfifo(link)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(link))
    elif kind == "folder that leads out":
        link.symlink_to("..")
        location = "bad.bin/outside.bin"
    else:
        targets = {"link out": "../outside.bin", "link to a device": "/dev/zero"}
        link.symlink_to(targets.get(kind, "bad.bin" if kind == "link to itself" else "none.bin"))
    with pytest.raises(ModelError, match=words):
        locate_data(model, location)
