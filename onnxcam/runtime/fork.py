"""What does not survive a fork: sessions and pools, whose threads the child process does not have.

A child that ran such a session, or closed it when it ended, would wait for those threads forever.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any, Protocol
from weakref import WeakValueDictionary


class Renewed(Protocol):
    """Something whose threads are gone in a forked child."""

    def renew(self) -> None:
        """Drop, in the child, what needs those threads."""


_watched: WeakValueDictionary[int, Any] = WeakValueDictionary()


def watch(renewed: Renewed) -> None:
    """Call its `renew` in every process that is forked from this one, as long as it is in use."""
    _watched[id(renewed)] = renewed


def abandon(used: object) -> None:
    """Keep an object forever: closing it would wait for its threads."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(used))


def _renew_all() -> None:
    for renewed in list(_watched.values()):
        renewed.renew()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_renew_all)
