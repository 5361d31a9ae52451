"""Sessions and thread pools do not survive a fork: the child process does not have their threads.

A child that ran such a session, or closed it when it ended, would wait for those threads forever.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any, Protocol
from weakref import WeakValueDictionary


class Renewable(Protocol):
    """An object whose threads do not exist in a forked child."""

    def renew(self) -> None:
        """Drop what needs those threads; called in the child."""


_watched: WeakValueDictionary[int, Any] = WeakValueDictionary()


def watch(renewable: Renewable) -> None:
    """Call its `renew` in every process that is forked from this one, as long as it is in use."""
    _watched[id(renewable)] = renewable


def abandon(resource: object) -> None:
    """Keep an object forever: closing it would wait for its threads."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(resource))


def _renew_all() -> None:
    for renewable in list(_watched.values()):
        renewable.renew()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_renew_all)
