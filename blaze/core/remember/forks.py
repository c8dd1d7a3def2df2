"""Keeps forks out of SQLite.

SQLite's own mutexes that some thread holds at the instant of a fork stay held in the
child for ever, which then can't use SQLite at all, not even for files of its own
(RELIABILITY S4; https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_).
So a fork waits until every lock under which Blaze uses SQLite is free.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import Any, Callable, List, Optional

#: Seconds that a fork waits at most. A write that waits for another program's lock may take longer.
PATIENCE = 2.0

#: What is called in the parent when the lock was held over a fork, if anything.
_guarded: weakref.WeakKeyDictionary[threading.Lock, Optional[weakref.WeakMethod[Any]]] = weakref.WeakKeyDictionary()
#: Held from before a fork to after it, by the thread that forks.
_forking = threading.Lock()
_taken: List[threading.Lock] = []


def lock_out_forks(lock: threading.Lock, afterwards: Optional[Callable[[], None]] = None) -> threading.Lock:
    """``lock`` itself; from now on, no fork happens while it is held.

    ``afterwards``, a method, is called in the parent when a fork has held the lock.
    """
    _guarded[lock] = None if afterwards is None else weakref.WeakMethod(afterwards)
    return lock


def _before() -> None:
    end = time.monotonic() + PATIENCE
    _forking.acquire()
    for lock in list(_guarded):
        if lock.acquire(timeout=max(0.0, end - time.monotonic())):
            _taken.append(lock)


def _after_in_parent() -> None:
    taken = list(_taken)
    _after_in_child()
    for lock in taken:
        reference = _guarded.get(lock)
        afterwards = None if reference is None else reference()
        if afterwards is not None:
            afterwards()


def _after_in_child() -> None:
    while _taken:
        _taken.pop().release()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)

#: Held while a connection is opened.
opening = lock_out_forks(threading.Lock())
