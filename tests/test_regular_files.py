"""Regular files are read and digested; pipes, devices, sockets and folders are refused."""

import hashlib
import os
import socket
from pathlib import Path

import pytest

from onnxcam.regular_files import digest_blocks, digest_file, read_regular


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_digest_file_is_the_sha256_of_the_content(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    assert digest_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()


@pytest.mark.skipif(os.name == "nt", reason="no such files on Windows")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "socket", "nothing"])
def test_irregular_file_is_not_read(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("/dev/zero" if kind == "device" else "file")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "socket":
            listener.bind(str(path))
        assert read_regular(path) is None
        with pytest.raises(OSError, match=r"not a regular file|No such file|Is a directory"):
            digest_file(path)


def test_read_regular_is_none_for_larger_or_impossible_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_regular(tmp_path / "file", 5) == b"12345"
    assert read_regular(tmp_path / "file", 4) is None
    assert read_regular(Path("a\0b")) is None


def test_digest_blocks_depends_on_every_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxcam.regular_files.BLOCK", 4)
    contents = [b"", b"abcd", b"abcdabcd", b"abcdabce", b"abcdabcda"]
    digests = set()
    for content in contents:
        (tmp_path / "file").write_bytes(content)
        digests.add(digest_blocks(tmp_path / "file"))
    assert len(digests) == len(contents)
