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
from typing import Dict, List, NamedTuple, Optional

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
        """Take it. Raises :class:`StateError` if a living scheduler has this id."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.instance_id = instance_id
        self._path = directory / f"{instance_id}{_SUFFIX}"
        self._descriptor: Optional[int] = try_lock(self._path)
        if self._descriptor is None:
            raise StateError(f"a scheduler named {instance_id} is running on {directory.parent} already")
        text = json.dumps({"pid": os.getpid(), "started_at": time.time()})
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, text.encode())

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


def dead_instances(directory: Path) -> List[DeadInstance]:
    """The schedulers whose locks can be taken; the caller closes each."""
    found: List[DeadInstance] = []
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        descriptor = try_lock(path)
        if descriptor is not None:
            found.append(DeadInstance(path.name[: -len(_SUFFIX)], descriptor, path))
    return found


def list_instances(directory: Path) -> List[InstanceInfo]:
    """All schedulers with a lock file, the dead among them until they are buried."""
    found: List[InstanceInfo] = []
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        details: Dict[str, float] = {}
        with contextlib.suppress(OSError, ValueError):
            details = json.loads(path.read_text())
        descriptor = try_lock(path)
        if descriptor is not None:
            os.close(descriptor)
        alive = descriptor is None
        found.append(
            InstanceInfo(path.name[: -len(_SUFFIX)], int(details.get("pid", 0)), details.get("started_at", 0.0), alive)
        )
    return found
