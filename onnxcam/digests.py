"""SHA-256 digests, in hexadecimal digits: of bytes, and of data that JSON can hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any


def digest_bytes(content: bytes) -> str:
    """The digest of some bytes, the same as of a file that holds them."""
    return hashlib.sha256(content).hexdigest()


def digest_json(data: object, default: Callable[[Any], Any] | None = None) -> str:
    """The digest of data as JSON, independent of the order of keys. `default` converts what JSON cannot hold;
    without it, that raises TypeError.
    """
    return digest_bytes(json.dumps(data, sort_keys=True, default=default).encode())
