"""The lines that a run's blocks log, kept with the run: in its rows, or in memory where nothing is recorded."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Deque, Optional

from ..ground.log_format import message_of, traceback_of
from .result import LogLine

if TYPE_CHECKING:
    from .attempt import Attempt

#: Most lines kept of one run. In memory the oldest go; in the database the newest are left out, and a line says so.
LINES_KEPT = 10_000


class RunLog:
    """The log of one run."""

    __slots__ = ("_count", "lines")

    def __init__(self, recorded: bool) -> None:
        self._count = 0
        #: The lines of a run that is not recorded.
        self.lines: Optional[Deque[LogLine]] = None if recorded else deque(maxlen=LINES_KEPT)

    def keep(self, attempt: Attempt, record: logging.LogRecord) -> None:
        """A block logged something. Called in its thread."""
        run = attempt.run
        engine = run.engine
        if engine.keep_log is not None:
            engine.keep_log(attempt, record)
        self._count += 1
        if engine.recorder is not None and self._count > LINES_KEPT:
            return
        message = message_of(record)
        trace = traceback_of(record)
        if trace:
            message = f"{message}\n{trace}"
        if self.lines is not None:
            line = LogLine(record.created, record.levelno, record.name, message, attempt.step, attempt.attempt)
            self.lines.append(line)
        if engine.recorder is None:
            return
        key, index = run.key, run.plan.index.get(attempt.step)
        engine.recorder.log_line(key, index, attempt.attempt, record.created, record.levelno, record.name, message)
        if self._count == LINES_KEPT:
            note = f"further lines of this run are not kept (limit {LINES_KEPT})"
            engine.recorder.log_line(key, None, None, record.created, logging.WARNING, "blaze", note)
