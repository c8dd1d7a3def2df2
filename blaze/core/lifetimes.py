"""The schedulers of this process that hold something open: what a fork and the end of the interpreter do with them."""

from __future__ import annotations

import atexit
import os
import weakref
from typing import Any, List, Protocol


class Holder(Protocol):
    """Something that holds files, locks and threads."""

    def _end(self) -> None:
        """The interpreter ends."""

    def _forget(self) -> Any:
        """In a forked child: what is held is the parent's. Gives back what must not be destroyed."""


_OPEN: weakref.WeakSet[Holder] = weakref.WeakSet()
#: What belonged to the parent process; kept, so that no destructor in the child touches it.
_FORGOTTEN: List[Any] = []
_hooked = False


def remember(holder: Holder) -> None:
    """Let a fork and the end of the interpreter find this scheduler."""
    global _hooked
    _OPEN.add(holder)
    if not _hooked:
        _hooked = True
        atexit.register(_end_all)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forget_all)


def drop(holder: Holder) -> None:
    """It holds nothing any more."""
    _OPEN.discard(holder)


def _end_all() -> None:
    for holder in list(_OPEN):
        holder._end()


def _forget_all() -> None:
    for holder in list(_OPEN):
        _FORGOTTEN.append(holder._forget())
    _OPEN.clear()
