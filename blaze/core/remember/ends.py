"""Ends of runs that no process has in hand: what waits in a queue is cancelled, what died too often is failed.

Each is written together with its steps, and given back so that it can be told of.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple, Optional

from ..ground.context import RunInfo
from ..ground.status import RunStatus
from .recorder import OPEN_STEPS_CANCELLED, RUN_ENDED_BY_RULE
from .schema import step_key


class EndedRun(NamedTuple):
    """A run that has ended, and why."""

    info: RunInfo
    status: RunStatus
    reason: str
    #: Epoch seconds.
    at: float
    error: Optional[str] = None


def end_run(
    cursor: sqlite3.Cursor, key: int, status: RunStatus, reason: str, now: float, error: Optional[str] = None
) -> Optional[EndedRun]:
    """Write the end of a run, and of its steps that have not ended; None if it has ended before."""
    cursor.execute(OPEN_STEPS_CANCELLED, (key, step_key(key, 0), reason))
    if not cursor.execute(RUN_ENDED_BY_RULE, (status.value, reason, error, now, key)).rowcount:
        return None
    row = cursor.execute("SELECT run_id, seq_id, scheduled_at, job_id FROM runs WHERE id = ?", (key,)).fetchone()
    return EndedRun(RunInfo(*row), status, reason, now, error)


__all__ = ["EndedRun", "end_run"]
