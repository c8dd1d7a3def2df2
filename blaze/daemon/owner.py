"""Who serves a state directory: whoever holds ``daemon.lock`` in it, for as long as it lives.

The lock is the operating system's and free the instant its holder dies. What the file
tells of the holder is information for people, and believed only while the lock is held
(RELIABILITY P4, R41, R55).
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional

from ..core.ground.errors import Refused, StateError
from ..core.ground.filelock import try_lock
from ..core.remember.database import prepare_directory
from .address import my_uid

LOCK_NAME = "daemon.lock"
#: Seconds for which a lock that is held is tried again: who only looks at it has it for an instant.
LOOKERS = 0.2
#: Seconds that the holder of a fresh lock gets to write down who it is.
INTRODUCTION = 2.0
_PAUSE = 0.01
#: Bytes that are read of the file.
_MOST = 4096


class Owner(NamedTuple):
    """Who holds the lock, as it says of itself."""

    #: 0 if it did not tell.
    pid: int
    #: The instance's name; None while it starts.
    name: Optional[str]
    #: Epoch seconds.
    since: float

    def __str__(self) -> str:
        name = "a daemon that is just starting" if self.name is None else self.name
        return f"{name} (PID {self.pid or 'unknown'})"


class Owned(Refused):
    """Somebody serves the state directory already."""

    def __init__(self, owner: Owner, state_dir: Path) -> None:
        super().__init__(f"{owner} serves {state_dir} already")
        self.owner = owner


class OwnerLock:
    """The lock, held. One per state directory."""

    def __init__(self, state_dir: Path) -> None:
        """Take it, and make the directory if it is missing.

        Raises :class:`Owned` if somebody has it, and :class:`StateError` if the directory is not safe to use.
        """
        refuse_foreign_link(state_dir)
        self.path = state_dir / LOCK_NAME
        self._was_there = self.path.exists()
        self._had_directory = state_dir.exists()
        prepare_directory(state_dir)
        self._since = time.time()
        self._descriptor: Optional[int] = self._take(state_dir)
        self.introduce(None)

    def _take(self, state_dir: Path) -> int:
        end = time.monotonic() + LOOKERS
        while True:
            try:
                descriptor = try_lock(self.path)
            except OSError as error:
                raise StateError(f"the lock file {self.path} can't be made: {error.strerror or error}") from error
            if descriptor is not None:
                return descriptor
            if time.monotonic() >= end:
                raise Owned(_introduced(self.path), state_dir)
            time.sleep(_PAUSE)

    def introduce(self, name: Optional[str]) -> None:
        """Write down who holds it. A full disk keeps nobody from serving."""
        if self._descriptor is None:
            return
        text = json.dumps({"pid": os.getpid(), "name": name, "since": self._since})
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, text.encode(), 0)

    def release(self) -> None:
        """Give it back. The file stays: who is about to take it must not lock one that has no name any more."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
            os.close(descriptor)

    def forget(self) -> None:
        """Close this process's copy only: what a forked child does."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def undo(self) -> None:
        """Give it back and leave nothing behind that was not there before."""
        if not self._was_there:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self.release()
        if not self._had_directory:
            with contextlib.suppress(OSError):
                self.path.parent.rmdir()


def owner_of(state_dir: Path) -> Optional[Owner]:
    """Who serves a state directory; None if nobody does."""
    path = state_dir / LOCK_NAME
    if not path.exists():
        return None
    try:
        descriptor = try_lock(path)
    except OSError:
        return None
    if descriptor is None:
        return _read(path)
    os.close(descriptor)
    return None


def refuse_foreign_link(state_dir: Path) -> None:
    """Raise :class:`StateError` if another user could have chosen where the state directory is."""
    with contextlib.suppress(FileNotFoundError):
        info = os.lstat(state_dir)
        if stat.S_ISLNK(info.st_mode) and info.st_uid not in (my_uid(), 0):
            raise StateError(
                f"the state directory {state_dir} is a symbolic link of another user (uid {info.st_uid}): "
                "see whose it is, and remove it"
            )


def _introduced(path: Path) -> Owner:
    """The holder of a lock, which may have just taken it."""
    end = time.monotonic() + INTRODUCTION
    owner = _read(path)
    while owner.name is None and time.monotonic() < end:
        time.sleep(_PAUSE)
        owner = _read(path)
    return owner


def _read(path: Path) -> Owner:
    told: Dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            found = json.loads(os.read(descriptor, _MOST))
        finally:
            os.close(descriptor)
        told = found if isinstance(found, dict) else {}
    pid, name, since = told.get("pid"), told.get("name"), told.get("since")
    return Owner(
        pid if type(pid) is int and pid > 0 else 0,
        name if isinstance(name, str) and name.isprintable() else None,
        float(since) if isinstance(since, (int, float)) else 0.0,
    )
