"""Digests are SHA-256, and those of data depend on every value but not on the order of keys."""

from pathlib import Path

import pytest

from onnxcam.digests import digest_bytes, digest_json
from onnxcam.regular_files import digest_file


def test_digest_bytes_is_the_digest_of_a_file_with_them(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert digest_bytes(b"abc").startswith("ba7816bf8f01cfea")  # FIPS 180-4
    assert digest_bytes(b"abc") == digest_file(tmp_path / "file")


def test_digest_json_ignores_the_order_of_keys() -> None:
    assert digest_json({"a": 1, "b": [2]}) == digest_json({"b": [2], "a": 1})
    assert len({digest_json({"a": value}) for value in (1, 1.5, "1", None, [1])}) == 5


def test_digest_json_converts_only_with_default() -> None:
    with pytest.raises(TypeError):
        digest_json({"path": Path("file")})
    assert digest_json({"path": Path("file")}, str) == digest_json({"path": "file"})
