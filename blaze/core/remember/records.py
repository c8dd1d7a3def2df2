"""What queries over the state give back: frozen, typed, and safe to write as JSON.

Times are epoch seconds (UTC) in fields, and aware datetimes in the property of the same
name with ``_at``. Outputs are told by their previews: nothing here is ever unpickled.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Dict, Generic, Iterator, List, Mapping, NamedTuple, Optional, Tuple, TypeVar

from ..ground.clock import as_datetime
from ..ground.status import BlockStatus, JobStatus, RunStatus

T = TypeVar("T")


class RunRecord(NamedTuple):
    """A run as it is recorded."""

    #: Its key in the file; later runs have higher ones.
    key: int
    run_id: str
    seq_id: str
    #: The job whose tick it is; None for a run that was triggered by hand.
    job_id: Optional[str]
    status: RunStatus
    #: ``timeout``, ``crashed``, ``overlap``, ... or None.
    reason: Optional[str]
    #: The tick's nominal time.
    scheduled: Optional[float]
    created: float
    started: Optional[float]
    ended: Optional[float]
    #: From start to end; None if it has not ended, or ended without having been run.
    seconds: Optional[float]
    deadline: Optional[float]
    #: The scheduler that has it in hand, or had it last.
    owner: Optional[str]
    #: How many times it was taken over from a process that died.
    recoveries: int
    #: The run that this one repeats.
    retry_of: Optional[str]
    #: Why it was asked to stop, if it was.
    cancel: Optional[str]
    #: Number of steps.
    steps: int
    #: Preview of the output.
    preview: Optional[str]
    error: Optional[str]
    #: Of a SKIPPED run: how many ticks it stands for, the last at ``scheduled``.
    missed: Optional[int] = None
    #: The first of them.
    missed_since: Optional[float] = None

    @property
    def duration(self) -> Optional[float]:
        """The same as ``seconds``, under the name that a ``RunResult`` has for it."""
        return self.seconds

    @property
    def lateness(self) -> Optional[float]:
        """Seconds from the tick's nominal time to the start of its first step; None if it was not run, or by hand."""
        if self.scheduled is None or self.started is None or self.job_id is None:
            return None
        return self.started - self.scheduled

    @property
    def missed_from(self) -> Optional[datetime]:
        """Of a SKIPPED run: the first tick that it stands for."""
        return _datetime(self.missed_since)

    @property
    def scheduled_at(self) -> Optional[datetime]:
        """The tick's nominal time."""
        return _datetime(self.scheduled)

    @property
    def created_at(self) -> Optional[datetime]:
        """When it was recorded."""
        return _datetime(self.created)

    @property
    def started_at(self) -> Optional[datetime]:
        """When its first step started."""
        return _datetime(self.started)

    @property
    def ended_at(self) -> Optional[datetime]:
        """When it ended."""
        return _datetime(self.ended)

    @property
    def deadline_at(self) -> Optional[datetime]:
        """When it is stopped at the latest."""
        return _datetime(self.deadline)

    def to_dict(self) -> Dict[str, Any]:
        """As JSON-able data; times are UTC, ISO 8601."""
        return {
            "run_id": self.run_id,
            "seq_id": self.seq_id,
            "job_id": self.job_id,
            "status": self.status.value,
            "reason": self.reason,
            "scheduled_at": _iso(self.scheduled),
            "created_at": _iso(self.created),
            "started_at": _iso(self.started),
            "ended_at": _iso(self.ended),
            "duration": self.seconds,
            "deadline_at": _iso(self.deadline),
            "owner": self.owner,
            "recoveries": self.recoveries,
            "retry_of": self.retry_of,
            "cancel": self.cancel,
            "steps": self.steps,
            "preview": self.preview,
            "error": self.error,
            "lateness": self.lateness,
            "missed": self.missed,
            "missed_from": _iso(self.missed_since),
        }


class Progress(NamedTuple):
    """How far a running step says it is."""

    done: float
    #: None if it does not know.
    total: Optional[float]


class StepRecord(NamedTuple):
    """A step of a run. One that nothing is recorded of is PENDING."""

    name: str
    block: str
    dependencies: Tuple[str, ...]
    status: BlockStatus = BlockStatus.PENDING
    #: ``timeout``, ``upstream_failed``, ``reused``, ... or None.
    reason: Optional[str] = None
    #: Attempts that were started.
    attempts: int = 0
    #: Start of the last attempt.
    started: Optional[float] = None
    #: Of the last attempt.
    seconds: Optional[float] = None
    #: Preview of the output.
    preview: Optional[str] = None
    error: Optional[str] = None
    #: When the next attempt is due.
    retry: Optional[float] = None
    progress: Optional[Progress] = None
    #: Whether the output can be loaded again, so that a resumed run does not repeat the step.
    stored: bool = False

    @property
    def duration(self) -> Optional[float]:
        """The same as ``seconds``, under the name that a ``StepResult`` has for it."""
        return self.seconds

    @property
    def started_at(self) -> Optional[datetime]:
        """When the last attempt started."""
        return _datetime(self.started)

    @property
    def ended_at(self) -> Optional[datetime]:
        """When the last attempt ended."""
        return None if self.started is None or self.seconds is None else _datetime(self.started + self.seconds)

    @property
    def retry_at(self) -> Optional[datetime]:
        """When the next attempt is due."""
        return _datetime(self.retry)

    def to_dict(self) -> Dict[str, Any]:
        """As JSON-able data; times are UTC, ISO 8601."""
        return {
            "name": self.name,
            "block": self.block,
            "dependencies": list(self.dependencies),
            "status": self.status.value,
            "reason": self.reason,
            "attempts": self.attempts,
            "started_at": _iso(self.started),
            "duration": self.seconds,
            "preview": self.preview,
            "error": self.error,
            "retry_at": _iso(self.retry),
            "progress": self.progress._asdict() if self.progress else None,
            "stored": self.stored,
        }


class AttemptRecord(NamedTuple):
    """An attempt that failed, with its story."""

    step: str
    #: From 1 on.
    attempt: int
    started: float
    seconds: float
    reason: Optional[str]
    error: str
    #: The block's arguments as text, clipped and masked.
    arguments: Optional[str]
    traceback: Optional[str]

    @property
    def duration(self) -> float:
        """The same as ``seconds``."""
        return self.seconds

    @property
    def started_at(self) -> Optional[datetime]:
        """When it started."""
        return _datetime(self.started)

    def to_dict(self) -> Dict[str, Any]:
        """As JSON-able data; times are UTC, ISO 8601."""
        return {
            "step": self.step,
            "attempt": self.attempt,
            "started_at": _iso(self.started),
            "duration": self.seconds,
            "reason": self.reason,
            "error": self.error,
            "arguments": self.arguments,
            "traceback": self.traceback,
        }


class LogRecord(NamedTuple):
    """A line of a run's log."""

    #: Epoch seconds.
    at: float
    #: As a number of ``logging``.
    level: int
    logger: str
    message: str
    run_id: str
    seq_id: str
    #: None for a line of the run itself.
    step: Optional[str]
    attempt: Optional[int]

    @property
    def time(self) -> Optional[datetime]:
        """When it was written."""
        return _datetime(self.at)

    @property
    def level_name(self) -> str:
        """``INFO``, ``ERROR``, ...; ``Level 7`` for one without a name."""
        return logging.getLevelName(self.level)

    def to_dict(self) -> Dict[str, Any]:
        """As JSON-able data, with the keys that the log files in JSON have; times are UTC, ISO 8601."""
        return {
            "time": _iso(self.at),
            "level": self.level_name,
            "logger": self.logger,
            "message": self.message,
            "seq_id": self.seq_id,
            "run_id": self.run_id,
            "step": self.step,
            "attempt": self.attempt,
        }


class SequenceSummary(NamedTuple):
    """What is recorded of a sequence.

    States and times are counted over its latest ``counted`` runs, so that the summary
    costs the same however long the history is; runs that have not ended are counted all.
    """

    seq_id: str
    #: The latest run; a tick that was skipped counts only if there is nothing else.
    last_run: Optional[RunRecord]
    #: The oldest run that has not ended.
    next_open: Optional[RunRecord]
    #: Number of runs by state; states without runs are left out.
    counts: Dict[RunStatus, int]
    counted: int
    #: Whether these are all that are recorded.
    complete: bool
    #: Of the runs counted, those that were run and have ended.
    total_seconds: float
    #: The same; None if there are none.
    mean_seconds: Optional[float]

    @property
    def last_seconds(self) -> Optional[float]:
        """How long the last run took; None if it has not ended."""
        return self.last_run.seconds if self.last_run else None

    def to_dict(self) -> Dict[str, Any]:
        """As JSON-able data; times are UTC, ISO 8601."""
        return {
            "seq_id": self.seq_id,
            "last_run": self.last_run.to_dict() if self.last_run else None,
            "next_open": self.next_open.to_dict() if self.next_open else None,
            "counts": {status.value: number for status, number in self.counts.items()},
            "counted": self.counted,
            "complete": self.complete,
            "total_seconds": self.total_seconds,
            "mean_seconds": self.mean_seconds,
            "last_seconds": self.last_seconds,
        }


class LastRun(NamedTuple):
    """What is told of a sequence's latest run, or the latest tick that was skipped if there is nothing else."""

    run_id: str
    created: float
    status: RunStatus
    #: None: it has not ended.
    seconds: Optional[float]


class JobsOfSequence(NamedTuple):
    """The jobs of one sequence."""

    number: int
    #: The next tick of those that are ACTIVE.
    next_at: Optional[float]


class Overview(NamedTuple):
    """How everything stands, at one instant. Shared by all who ask: not to be changed."""

    #: How many jobs there are, by state.
    jobs: Mapping[JobStatus, int]
    #: By sequence, of those that have runs.
    last_runs: Mapping[str, LastRun]
    #: By sequence, of those that have jobs.
    jobs_of: Mapping[str, JobsOfSequence]


class JobRecord(NamedTuple):
    """A job as it is stored."""

    key: int
    job_id: str
    seq_id: str
    status: JobStatus
    #: Cron text; None: it fires once.
    interval: Optional[str]
    #: IANA name of its time zone.
    timezone: str
    #: Inclusive.
    start: Optional[float]
    end: Optional[float]
    catchup: str
    overlap: str
    priority: int
    #: ``submitted``, or ``auto_start``: by its sequence.
    source: str
    #: Why it is BROKEN.
    error: Optional[str]
    #: Its next tick; None: there is none. Of a PAUSED job the one at which it was paused.
    next: Optional[float]
    submitted: float
    #: Its latest tick that got a run, and how that stands.
    last: Optional[float]
    last_run_id: Optional[str]
    last_status: Optional[RunStatus]

    @property
    def start_at(self) -> Optional[datetime]:
        """No tick is earlier."""
        return _datetime(self.start)

    @property
    def end_at(self) -> Optional[datetime]:
        """No tick is later."""
        return _datetime(self.end)

    @property
    def next_at(self) -> Optional[datetime]:
        """Its next tick."""
        return _datetime(self.next)

    @property
    def submitted_at(self) -> Optional[datetime]:
        """When it was submitted as it stands."""
        return _datetime(self.submitted)

    @property
    def last_at(self) -> Optional[datetime]:
        """Its latest tick that got a run."""
        return _datetime(self.last)

    def to_dict(self) -> Dict[str, Any]:
        """As JSON-able data; times are UTC, ISO 8601."""
        return {
            "job_id": self.job_id,
            "seq_id": self.seq_id,
            "status": self.status.value,
            "interval": self.interval,
            "timezone": self.timezone,
            "start_at": _iso(self.start),
            "end_at": _iso(self.end),
            "catchup": self.catchup,
            "overlap": self.overlap,
            "priority": self.priority,
            "source": self.source,
            "error": self.error,
            "next_at": _iso(self.next),
            "submitted_at": _iso(self.submitted),
            "last_at": _iso(self.last),
            "last_run_id": self.last_run_id,
            "last_status": self.last_status.value if self.last_status else None,
        }


class RunGraph(NamedTuple):
    """The steps of a run, in the order of its definition."""

    #: ``{step: [what it depends on]}``.
    dependencies: Dict[str, List[str]]
    #: ``{step: block}``.
    blocks: Dict[str, str]

    def to_dict(self) -> Dict[str, Any]:
        """As JSON-able data."""
        return {"dependencies": self.dependencies, "blocks": self.blocks}


class StateSize(NamedTuple):
    """What the state takes on disk, in bytes (in memory, for a state that is there)."""

    db: int
    wal: int

    def to_dict(self) -> Dict[str, Any]:
        """As JSON-able data."""
        return {"db": self.db, "wal": self.wal}


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some of the records that were asked for; iterating over it gives its ``items``."""

    items: List[T]
    #: ``cursor`` of the page after this one; None if this is the last.
    next: Optional[str] = None
    #: Of lines of a log: ``cursor`` that gives what is written from now on.
    follow: Optional[str] = None

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def to_dict(self) -> Dict[str, Any]:
        """As JSON-able data, with the ``to_dict()`` of each item."""
        return {
            "items": [item.to_dict() for item in self.items],  # type: ignore[attr-defined]
            "next": self.next,
            "follow": self.follow,
        }


def _datetime(epoch: Optional[float]) -> Optional[datetime]:
    try:
        return as_datetime(epoch)
    except (OverflowError, ValueError, OSError):
        # Beyond the year 9999, such as the deadline of a run with a timeout of a million years.
        return None


def _iso(epoch: Optional[float]) -> Optional[str]:
    moment = _datetime(epoch)
    return None if moment is None else moment.isoformat()
