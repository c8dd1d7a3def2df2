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
from typing import List

#: Seconds that a fork waits at most. A write that waits for another program's lock may take longer.
PATIENCE = 2.0

_guarded: weakref.WeakSet[threading.Lock] = weakref.WeakSet()
#: Held from before a fork to after it, by the thread that forks.
_forking = threading.Lock()
_taken: List[threading.Lock] = []


def lock_out_forks(lock: threading.Lock) -> threading.Lock:
    """``lock`` itself; from now on, no fork happens while it is held."""
    _guarded.add(lock)
    return lock


def _before() -> None:
    end = time.monotonic() + PATIENCE
    _forking.acquire()
    for lock in list(_guarded):
        if lock.acquire(timeout=max(0.0, end - time.monotonic())):
            _taken.append(lock)


def _after() -> None:
    while _taken:
        _taken.pop().release()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)

#: Held while a connection is opened.
opening = lock_out_forks(threading.Lock())
