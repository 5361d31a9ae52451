"""HEIC, the photo format of phones: Pillow reads it if the extra `heic` is installed."""

from __future__ import annotations

from functools import cache
from typing import IO

SUFFIXES = frozenset({".heic", ".heif", ".hif"})
# ISO/IEC 23008-12, annex B: major brands of still images and sequences coded as HEVC
_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}


def is_heif(stream: IO[bytes]) -> bool:
    """Whether a file begins like a HEIC image. AVIF, whose brand may be mif1, too, does not count."""
    stream.seek(0)
    head = stream.read(64)
    stream.seek(0)
    size = int.from_bytes(head[:4], "big")
    compatible = head[16 : max(16, min(size, 64))]
    return head[4:8] == b"ftyp" and head[8:12] in _BRANDS and b"avif" not in compatible


@cache
def register_heif() -> bool:
    """Make Pillow read HEIC. False if the package for it is not installed."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True
