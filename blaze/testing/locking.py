"""The write lock of a state file, held as another program holds it."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from blaze.core.ground.errors import BlazeError
from blaze.core.remember.database import FILE_NAME


class DatabaseLock:
    """Held from the start until :meth:`release`, the end of a ``with``, or so many real seconds have passed."""

    def __init__(self, state_dir: Path, seconds: float) -> None:
        path = state_dir / FILE_NAME
        if not path.exists():
            raise BlazeError(f"there is no state file {path} yet; start a scheduler on it first")
        # Through SQLite, as everybody opens this file; see blaze/core/remember/database.py.
        self._connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw", uri=True, check_same_thread=False, isolation_level=None, timeout=30
        )
        self._releasing = threading.Lock()
        self._held = True
        self._connection.execute("BEGIN IMMEDIATE")
        self._timer = threading.Timer(seconds, self.release)
        self._timer.daemon = True
        self._timer.start()

    @property
    def held(self) -> bool:
        """Whether it is still held."""
        return self._held

    def release(self) -> None:
        """Let it go. Safe to call twice."""
        with self._releasing:
            if not self._held:
                return
            self._held = False
            self._timer.cancel()
            self._connection.execute("ROLLBACK")
            self._connection.close()

    def __enter__(self) -> DatabaseLock:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


__all__ = ["DatabaseLock"]
