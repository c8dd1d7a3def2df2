"""Who is alive: each scheduler holds a lock file for as long as it lives.

The lock is the operating system's, so it is free the instant its owner dies, however
it died; the process id in the file is information only.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional

from ..ground.errors import StateError
from ..ground.filelock import try_lock

_SUFFIX = ".lock"


class InstanceInfo(NamedTuple):
    """A scheduler, as its lock file tells."""

    instance_id: str
    pid: int
    #: Epoch seconds.
    started_at: float
    alive: bool


class InstanceLock:
    """The lock of one running scheduler."""

    def __init__(self, directory: Path, instance_id: str) -> None:
        """Take it. Raises :class:`StateError` if a living scheduler has this id, or if its file can't be made."""
        self.instance_id = instance_id
        self._path = directory / f"{instance_id}{_SUFFIX}"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = _take(self._path)
        except OSError as error:
            raise StateError(f"the lock file {self._path} can't be made: {error.strerror or error}") from error
        if self._descriptor is None:
            raise StateError(f"a scheduler named {instance_id} is running on {directory.parent} already")

    def keep(self) -> None:
        """Make the file again if somebody has removed it: without it, its owner would be taken for dead."""
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):
            with contextlib.suppress(FileNotFoundError):
                if os.stat(self._path).st_ino == os.fstat(self._descriptor).st_ino:
                    return
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = _take(self._path)
            if descriptor is not None:
                self._descriptor, old = descriptor, self._descriptor
                os.close(old)

    def release(self) -> None:
        """Give the lock back and remove its file."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            self.forget()

    def forget(self) -> None:
        """Close this process's copy only: what a forked child does with its parent's lock."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _take(path: Path) -> Optional[int]:
    """Lock ``path``, made if needed; None if it is held.

    It is locked before it has its name: whoever looks for the dead must never find it
    free, and take its owner for one of them.
    """
    place = path if path.exists() else path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = try_lock(place)
    while descriptor is None and place is not path:
        descriptor = try_lock(place)  # somebody who clears up had it for an instant
    if descriptor is not None:
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps({"pid": os.getpid(), "started_at": time.time()}).encode())
            os.rename(place, path)
        except OSError:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                os.unlink(place)
            raise
    return descriptor


class DeadInstance:
    """A dead scheduler's lock, held while its runs are adopted so that only one survivor does it."""

    def __init__(self, instance_id: str, descriptor: int, path: Path) -> None:
        self.instance_id = instance_id
        self._descriptor = descriptor
        self._path = path

    def bury(self) -> None:
        """Remove the file: everything it owned has a new owner."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def close(self) -> None:
        """Let the lock go."""
        os.close(self._descriptor)


def dead_instances(directory: Path) -> Iterator[DeadInstance]:
    """The schedulers whose locks can be taken, one after the other; the caller closes each."""
    for path in directory.glob(f"*{_SUFFIX}.*"):
        # Of one that died before its lock had its name.
        descriptor = try_lock(path)
        if descriptor is not None:
            os.unlink(path)
            os.close(descriptor)
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        descriptor = try_lock(path)
        if descriptor is not None:
            yield DeadInstance(path.name[: -len(_SUFFIX)], descriptor, path)


def mark_dead(directory: Path, instance_id: str) -> None:
    """Let a scheduler that has no lock file, and so does not live, be found among the dead."""
    with contextlib.suppress(OSError):
        descriptor = try_lock(directory / f"{instance_id}{_SUFFIX}")
        if descriptor is not None:
            os.close(descriptor)


def has_file(directory: Path, instance_id: str) -> bool:
    """Whether a scheduler has a lock file."""
    return (directory / f"{instance_id}{_SUFFIX}").exists()


def list_instances(directory: Path) -> List[InstanceInfo]:
    """All schedulers with a lock file, the dead among them until they are buried."""
    found: List[InstanceInfo] = []
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        pid, started_at = 0, 0.0
        with contextlib.suppress(OSError, ValueError, TypeError, LookupError):
            details = json.loads(path.read_text())
            pid, started_at = int(details["pid"]), float(details["started_at"])
        descriptor = try_lock(path)
        if descriptor is not None:
            os.close(descriptor)
        alive = descriptor is None
        found.append(InstanceInfo(path.name[: -len(_SUFFIX)], pid, started_at, alive))
    return found
