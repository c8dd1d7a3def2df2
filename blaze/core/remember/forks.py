"""Keeps SQLite out of forks.

SQLite knows per process which files it has open and locked. A child inherits that
knowledge but not the locks: whatever it opens of a file that the parent had open, it uses
without any lock, and others may delete the write-ahead log under it. And SQLite's own
mutexes that some thread holds at the instant of a fork stay held in the child for ever.
(RELIABILITY S4; https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_)

So a fork waits until every lock under which Blaze uses SQLite is free, lets go of every
file, and opens them again in the parent. A connection that is at work for longer than
:data:`PATIENCE` is carried into the child, which then refuses to open that file.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from pathlib import Path
from typing import Iterator, List, Optional, Protocol, Set

from ..ground.errors import StateError

#: Seconds that a fork waits at most. A write that waits for another program's lock may take longer.
PATIENCE = 2.0


class Guarded(Protocol):
    """Something that uses SQLite under a lock."""

    #: Held over each use.
    lock: threading.Lock

    def carried(self) -> Optional[Path]:
        """The file that is open; None: there is none."""

    def let_go(self) -> None:
        """Close it: a fork is about to happen. With the lock held."""

    def take_again(self) -> None:
        """Open it again, in the parent. With the lock held."""

    def after_fork(self) -> None:
        """The lock was held over a fork, and is free again."""


_guarded: weakref.WeakSet[Guarded] = weakref.WeakSet()
#: Held from before a fork to after it, by the thread that forks.
_forking = threading.Lock()
_taken: List[Guarded] = []
#: Files that this process has inherited from its parent, open; it must not open them.
_carried: Set[str] = set()
_to_be_carried: Set[str] = set()


def guard(user: Guarded) -> None:
    """From now on, no fork happens while the lock of ``user`` is held, if it can be helped."""
    _guarded.add(user)


def check_not_carried(path: Path) -> None:
    """Raise :class:`StateError` for a file that this process inherited open."""
    if str(path) in _carried:
        raise StateError(
            f"this process was forked while its parent was writing to {path}, and can't use it safely; start it anew, "
            "or use multiprocessing's start method 'spawn'"
        )


class Opening:
    """Keeps forks away while a connection is opened."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._path: Optional[Path] = None

    @contextlib.contextmanager
    def of(self, path: Optional[Path]) -> Iterator[None]:
        """Open this file; None: a database in memory."""
        if path is not None:
            check_not_carried(path)
        with self.lock:
            self._path = path
            try:
                yield
            finally:
                self._path = None

    def carried(self) -> Optional[Path]:
        """The file that is being opened."""
        return self._path

    def let_go(self) -> None:
        """Nothing is open."""

    def take_again(self) -> None:
        """Nothing was."""

    def after_fork(self) -> None:
        """Nobody waits."""


def _before() -> None:
    end = time.monotonic() + PATIENCE
    _forking.acquire()
    # A reader opens its file with its own lock held: what keeps openings away comes last.
    for user in sorted(_guarded, key=lambda user: user is opening):
        if user.lock.acquire(timeout=max(0.0, end - time.monotonic())):
            _taken.append(user)
            user.let_go()
        else:
            path = user.carried()
            if path is not None:
                _to_be_carried.add(str(path))


def _after_in_parent() -> None:
    _to_be_carried.clear()
    taken = list(_taken)
    try:
        for user in taken:
            user.take_again()
    finally:
        _release()
    for user in taken:
        user.after_fork()


def _after_in_child() -> None:
    _carried.update(_to_be_carried)
    _to_be_carried.clear()
    _release()


def _release() -> None:
    while _taken:
        _taken.pop().lock.release()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)

opening = Opening()
guard(opening)
