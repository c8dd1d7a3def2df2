"""Locks of the operating system on a file: free the instant their holder dies."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Optional

_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        # flock, not lockf: it belongs to the open file and not to the process, so two
        # schedulers of one process see each other, and closing another descriptor of
        # the same file takes nothing away.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def try_lock(path: Path) -> Optional[int]:
    """Lock ``path``, made if needed, without waiting: an open descriptor, or None if it is held.

    The lock lasts until the descriptor is closed. A file that its last holder removed
    between our opening and our locking is not counted as locked but made again.
    """
    while True:
        descriptor = os.open(path, _FLAGS, 0o600)
        try:
            _lock(descriptor)
        except OSError:
            os.close(descriptor)
            return None
        try:
            if os.fstat(descriptor).st_ino == os.stat(path).st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)
