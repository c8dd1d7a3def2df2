"""What hooks are told, and the thread that tells it.

A hook is called in a thread of its own, after what it is told of is recorded: whatever it
does, raises or waits for, no run is changed or held up by it.
"""

from __future__ import annotations

import threading
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, Mapping, NamedTuple, Optional, Tuple

from ..ground.clock import as_datetime
from ..ground.context import RunInfo
from ..ground.own_log import OwnLog
from ..ground.status import BlockStatus, RunStatus

if TYPE_CHECKING:
    from .run import Run
    from .run_state import RunState

#: Names of the hooks.
HOOKS = ("on_run_start", "on_run_end", "on_step_end", "on_retry", "on_skip", "on_late")
#: Seconds that hooks have to be told the rest when a scheduler stops.
LAST_WORDS = 5.0

log = OwnLog("scheduler")


class RunEvent(NamedTuple):
    """A run has started, has ended, or starts late."""

    info: RunInfo
    status: RunStatus
    reason: Optional[str]
    #: When it happened, in epoch seconds.
    at: float
    #: Of a run that has ended: from start to end.
    seconds: Optional[float] = None
    error: Optional[str] = None
    #: Of a run that starts late: seconds between the tick and its start.
    late: Optional[float] = None

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self.info.run_id

    @property
    def seq_id(self) -> str:
        """Id of its sequence."""
        return self.info.seq_id

    @property
    def job_id(self) -> Optional[str]:
        """The job whose tick it is; None for a run started by hand."""
        return self.info.job_id

    @property
    def scheduled_at(self) -> Optional[datetime]:
        """Nominal time of the tick (aware, UTC)."""
        return as_datetime(self.info.scheduled_at)


class StepEvent(NamedTuple):
    """A step has ended, or an attempt of it failed and another will follow."""

    info: RunInfo
    step: str
    status: BlockStatus
    reason: Optional[str]
    #: Number of the last attempt; 0 if there was none.
    attempt: int
    #: Of the last attempt.
    seconds: Optional[float] = None
    error: Optional[str] = None
    #: Seconds until the next attempt.
    delay: Optional[float] = None

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self.info.run_id

    @property
    def seq_id(self) -> str:
        """Id of its sequence."""
        return self.info.seq_id

    @property
    def job_id(self) -> Optional[str]:
        """The job whose tick it is; None for a run started by hand."""
        return self.info.job_id


class SkipEvent(NamedTuple):
    """Ticks that get no run, recorded as one SKIPPED row."""

    run_id: str
    job_id: str
    seq_id: str
    #: ``missed``, ``overlap``, ``paused`` or ``resubmitted``.
    reason: str
    missed: int
    #: Epoch seconds.
    first: float
    last: float


class Herald:
    """Tells hooks what happens, one after the other, in the order in which it happened."""

    def __init__(self, hooks: Mapping[str, Callable[[Any], None]]) -> None:
        self._hooks: Dict[str, Callable[[Any], None]] = dict(hooks)
        self.tells_steps = "on_step_end" in self._hooks
        self._news: Deque[Tuple[str, Callable[..., Any], Tuple[Any, ...]]] = deque()
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._thread: Optional[threading.Thread] = None
        self._telling = False
        self._closed = False
        #: How often its thread has woken.
        self.rounds = 0
        #: How often a hook failed.
        self.failures = 0

    @property
    def idle(self) -> bool:
        """Whether everything has been told."""
        return not self._news and not self._telling

    # What happens is noted in a line, since locks may be held; the event is made in the thread.

    def run_started(self, run: Run) -> None:
        """The first step of a run starts."""
        self._note("on_run_start", _run_started, run)

    def run_ended(self, run: Run) -> None:
        """A run has ended."""
        self._note("on_run_end", _run_ended, run)

    def run_ended_by_rule(self, *about: Any) -> None:
        """A run has ended that nobody had in hand: its info, status, reason, when, and error."""
        self._note("on_run_end", _ended_by_rule, *about)

    def step_ended(self, run: RunState, index: int) -> None:
        """A step has ended."""
        self._note("on_step_end", _step_ended, run, index)

    def retried(self, run: Run, index: int, attempt: int, seconds: float, error: str, delay: float) -> None:
        """An attempt failed; another one follows after ``delay`` seconds."""
        self._note("on_retry", _retried, run, index, attempt, seconds, error, delay)

    def skipped(self, *about: Any) -> None:
        """Ticks get no run; what it takes to make a :class:`SkipEvent`."""
        self._note("on_skip", SkipEvent, *about)

    def late(self, run: Run, seconds: float) -> None:
        """A tick is fired late."""
        self._note("on_late", _late, run, seconds)

    def close(self) -> None:
        """Tell what is left, and end."""
        self._closed = True
        self._event.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(LAST_WORDS)
        if self._news:
            log.warning("hooks were still busy at the stop; %d events were not told", len(self._news))

    def _note(self, hook: str, make: Callable[..., Any], *about: Any) -> None:
        if hook not in self._hooks:
            return
        self._news.append((hook, make, about))
        self._event.set()
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._main, name="blaze-herald", daemon=True)
                    self._thread.start()

    def _main(self) -> None:
        while True:
            self._telling = True
            self.rounds += 1
            while self._news:
                hook, make, about = self._news.popleft()
                try:
                    self._hooks[hook](make(*about))
                except BaseException:  # also SystemExit: a hook ends nothing but itself
                    self.failures += 1
                    log.exception("the hook %s failed", hook)
            self._telling = False
            if self._closed and not self._news:
                return
            self._event.wait()
            self._event.clear()


def _run_started(run: Run) -> RunEvent:
    return RunEvent(run.info, RunStatus.RUNNING, None, run.wall(run.began))


def _run_ended(run: Run) -> RunEvent:
    at = run.ended_at if run.ended_at is not None else run.created_at
    return RunEvent(run.info, run.status, run.reason, at, run.seconds, run.error_text())


def _ended_by_rule(info: RunInfo, status: RunStatus, reason: str, at: float, error: Optional[str]) -> RunEvent:
    return RunEvent(info, status, reason, at, error=error)


def _late(run: Run, seconds: float) -> RunEvent:
    return RunEvent(run.info, run.status, run.reason, run.created_at, late=seconds)


def _step_ended(run: RunState, index: int) -> StepEvent:
    failure = run.failures.get(index)
    attempts = run.attempts[index]
    return StepEvent(
        run.info,
        run.plan.steps[index].name,
        run.statuses[index],
        run.reasons.get(index),
        attempts,
        run.seconds_of[index] if attempts else None,
        failure.message if failure else None,
    )


def _retried(run: Run, index: int, attempt: int, seconds: float, error: str, delay: float) -> StepEvent:
    name = run.plan.steps[index].name
    return StepEvent(run.info, name, BlockStatus.RETRYING, run.reasons.get(index), attempt, seconds, error, delay)


__all__ = ["HOOKS", "Herald", "RunEvent", "SkipEvent", "StepEvent"]
