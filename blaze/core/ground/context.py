"""What a running block can ask about itself: :func:`current`."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Callable, NamedTuple, Optional, Tuple

from .clock import as_datetime
from .errors import BlazeError, StepCancelled


class RunInfo(NamedTuple):
    """What every step of a run has in common. Plain data: it crosses process borders."""

    run_id: str
    seq_id: str
    #: Nominal time of the tick, epoch seconds; None for a run started by hand.
    scheduled_at: Optional[float] = None
    job_id: Optional[str] = None


class StepContext:
    """The running step, as the block sees it. Get it with :func:`blaze.current`.

    One object per attempt; it is alive as long as the attempt.
    """

    __slots__ = ("info", "step", "attempt", "_deadline", "_asked", "_progress", "_on_log")

    def __init__(
        self,
        info: RunInfo,
        step: str,
        attempt: int,
        deadline: Optional[float] = None,
        on_log: Optional[Callable[[StepContext, logging.LogRecord], None]] = None,
    ) -> None:
        self.info = info
        self.step = step
        self.attempt = attempt
        self._deadline = deadline
        self._asked: Optional[str] = None
        self._progress: Optional[Tuple[float, Optional[float]]] = None
        self._on_log = on_log

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self.info.run_id

    @property
    def seq_id(self) -> str:
        """Id of the sequence."""
        return self.info.seq_id

    @property
    def scheduled_at(self) -> Optional[datetime]:
        """Nominal time of the tick that started the run (aware, UTC); None for a run started by hand."""
        return as_datetime(self.info.scheduled_at)

    @property
    def deadline(self) -> Optional[datetime]:
        """When this attempt will be stopped (aware, UTC): the earlier of the step's and the run's limit."""
        return as_datetime(self._deadline)

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt and every resume of this step of this run; different for all else."""
        return f"{self.info.run_id}:{self.step}"

    @property
    def logger(self) -> logging.Logger:
        """A logger below ``blaze.run`` whose lines are kept with the run."""
        return logging.getLogger(f"blaze.run.{self.info.seq_id}.{self.step}")

    @property
    def cancelled(self) -> bool:
        """Whether the block has been asked to stop: cancelled, past its deadline, or a stopping scheduler."""
        return self._asked is not None

    def check_cancelled(self) -> None:
        """Raise :class:`~blaze.core.ground.errors.StepCancelled` if the block was asked to stop."""
        if self._asked is not None:
            raise StepCancelled(self._asked)

    def progress(self, done: float, total: Optional[float] = None) -> None:
        """Tell how far the block is; shown by ``status`` while it runs."""
        self._progress = (done, total)

    def __repr__(self) -> str:
        return f"<step {self.step!r} of run {self.info.run_id} ({self.info.seq_id}), attempt {self.attempt}>"


running: ContextVar[Optional[StepContext]] = ContextVar("blaze.running", default=None)


def current() -> StepContext:
    """The step that is running in this context.

    Raises :class:`BlazeError` outside a block, and in a thread that a block started
    without handing on its context (``contextvars.copy_context().run(...)`` does that).
    """
    context = running.get()
    if context is None:
        raise BlazeError(
            "blaze.current() was called where no block is running; a thread started by a block sees it "
            "only if it runs inside contextvars.copy_context()"
        )
    return context


def tags_of(context: StepContext) -> Tuple[Tuple[str, Any], ...]:
    """The attributes that every log record made in the step carries."""
    return (
        ("seq_id", context.info.seq_id),
        ("run_id", context.info.run_id),
        ("step", context.step),
        ("attempt", context.attempt),
    )
