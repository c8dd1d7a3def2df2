"""The hard stop: jobs and history are cleared, by moving them aside."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ..ground.errors import StateError
from .database import FILE_NAME
from .instances import list_instances


def archive_state(state_dir: Path) -> Path:
    """Move the state file and the results to ``archive/<time>/``; where they are now.

    Raises :class:`StateError` while a living scheduler uses them. To get them back,
    stop every scheduler and move the contents of that directory back.
    """
    alive = [item.instance_id for item in list_instances(state_dir / "instances") if item.alive]
    if alive:
        raise StateError(f"{', '.join(alive)} still uses {state_dir}; stop it first")
    stamp = time.strftime("%Y%m%dT%H%M%S")
    archive = state_dir / "archive"
    archive.mkdir(mode=0o700, exist_ok=True)
    target = archive / f"{stamp}-{os.urandom(2).hex()}"
    target.mkdir(mode=0o700)
    # The log first: without it the database is whole, only older.
    for name in (f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", FILE_NAME, "results"):
        source = state_dir / name
        if source.exists():
            os.replace(source, target / name)
    return target
