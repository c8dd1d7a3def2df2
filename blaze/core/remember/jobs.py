"""Jobs as they are stored: submitted, paused, resumed, removed, parked.

The table of jobs is the timetable: an index keeps it in the order of the next ticks, so
that a scheduler needs to know neither all jobs nor what other processes did to them. How
their ticks are fired is told in ``ticks``.

What a job's ticks are is not known here: callers bring that along as a function.
"""

from __future__ import annotations

import math
import sqlite3
from typing import Any, Callable, Iterable, List, NamedTuple, Optional, Protocol, Sequence, Tuple

from ..ground.errors import NotFound, ValidationError
from ..ground.names import did_you_mean, name_fault, new_run_id
from ..ground.status import JobStatus
from ..ground.ticks import Passed, Recorded
from .ends import EndedRun
from .journal import Journal
from .schema import IS_PAUSED
from .ticks import MOVE_JOB, DueJob, SkippedTicks, cancel_queued, chunks, insert_skipped, recorded

#: Where a job comes from: a submission, or a sequence with ``auto_start``.
SUBMITTED, AUTO_START = "submitted", "auto_start"
#: Seconds between two runs of one job that were asked for at one instant: each needs a nominal time of its own.
APART = 0.001
#: Jobs changed in one transaction.
JOBS_PER_TRANSACTION = 1000

#: What a submission says of a job.
_GIVEN = (
    "job_id", "seq_id", "parameters", "interval", "timezone", "start_at", "end_at", "catchup", "overlap", "priority",
    "source",
)  # fmt: skip
JOB_COLUMNS = f"id, {', '.join(_GIVEN)}, status, error, next_at, submitted_at, version"

INSERT_JOB = f"""
INSERT INTO jobs ({", ".join(_GIVEN)}, status, next_at, submitted_at, version)
VALUES ({", ".join("?" * len(_GIVEN))}, ?, ?, ?, 1)"""
REPLACE_JOB = f"""
UPDATE jobs SET {", ".join(f"{name} = ?" for name in _GIVEN)}, status = ?, next_at = ?, submitted_at = ?,
                error = NULL, version = version + 1 WHERE id = ?"""
BREAK_JOB = """
UPDATE jobs SET status = 'BROKEN', error = ?, version = version + 1
WHERE id = ? AND version = ? AND next_at = ? AND status = 'ACTIVE'"""
MEND_JOB = """
UPDATE jobs SET status = 'ACTIVE', error = NULL, version = version + 1 WHERE id = ? AND status = 'BROKEN'"""


class NewJob(NamedTuple):
    """A job as it is submitted: checked, times in epoch seconds."""

    job_id: str
    seq_id: str
    #: JSON text of the stored parameters, or None.
    parameters: Optional[str]
    #: Cron text; None: it fires once.
    interval: Optional[str]
    #: IANA name.
    timezone: str
    start_at: Optional[float]
    end_at: Optional[float]
    catchup: str
    overlap: str
    priority: int
    source: str
    #: Its first tick; None: there is none.
    next_at: Optional[float]


class StoredJob(NamedTuple):
    """A job as it is in the database."""

    key: int
    job_id: str
    seq_id: str
    parameters: Optional[str]
    interval: Optional[str]
    timezone: str
    start_at: Optional[float]
    end_at: Optional[float]
    catchup: str
    overlap: str
    priority: int
    source: str
    status: str
    error: Optional[str]
    next_at: Optional[float]
    submitted_at: float
    #: Grows with each change of what is above ``next_at``.
    version: int


class PassedTicks(Protocol):
    """The ticks of stored jobs as of an instant. Raises :class:`ValidationError` for a row that can't be read."""

    def of(self, job: StoredJob) -> Optional[Passed]:
        """Those that have passed, or None."""

    def unrecorded(self, job: StoredJob, stretch: Passed, recorded: Recorded) -> List[Passed]:
        """What is left of a stretch without those that are recorded already."""


#: A submission with its first tick as of an instant.
FirstTick = Callable[[NewJob, float], NewJob]

# ---------------------------------------------------------------------- by hand


def submit(
    journal: Journal,
    given: Sequence[NewJob],
    clock: Callable[[], float],
    first_tick: FirstTick,
    passed_until: Callable[[float], PassedTicks],
    patience: float,
) -> List[SkippedTicks]:
    """Store jobs, all or none; each replaces the one with its id, of which history and pause stay.

    A job that is stored as it stands already is left alone, unless it fires once and now.
    Ticks of a replaced job that were due are not fired any more: they are returned as
    skipped, and recorded. ``patience``: seconds for which a due tick may still be fired.

    What the time is, in epoch seconds, ``clock`` is asked when the write lock has been taken.
    """

    def work(cursor: sqlite3.Cursor) -> List[SkippedTicks]:
        now = clock()
        jobs, passed = [first_tick(job, now) for job in given], passed_until(now)
        stored = {job.job_id: job for job in _jobs_by_id(cursor, [job.job_id for job in jobs])}
        fresh: List[NewJob] = []
        skipped: List[SkippedTicks] = []
        for job in jobs:
            old = stored.get(job.job_id)
            if old is None:
                fresh.append(job)
            elif not _stands(job, old, now, patience):
                skipped += _replace(cursor, job, old, now, passed)
        rows = [_row(job, _next_of(cursor, job)) for job in fresh]
        cursor.executemany(INSERT_JOB, [(*row, now) for row in rows])
        return skipped

    return journal.transaction(work)


def _stands(job: NewJob, old: StoredJob, now: float, patience: float) -> bool:
    """Whether nothing is to be changed."""
    if job[: len(_GIVEN)] != old[1 : 1 + len(_GIVEN)] or old.status == JobStatus.BROKEN.value:
        # What a sequence says of itself does not replace what was submitted for it.
        return job.source == AUTO_START and old.source == SUBMITTED
    if old.status == JobStatus.PAUSED.value:
        return True
    # Its ticks until then were decided about while the clock was ahead.
    was_ahead = old.next_at is not None and job.next_at is not None and old.next_at > job.next_at + patience
    if job.source == AUTO_START:
        return not was_ahead
    if job.interval is None:
        # Its only tick, if it was not fired yet, is still to come.
        return job.start_at is not None and old.next_at is not None
    return old.next_at is not None and old.next_at > now - patience and not was_ahead


def _replace(
    cursor: sqlite3.Cursor, job: NewJob, old: StoredJob, now: float, passed: PassedTicks
) -> List[SkippedTicks]:
    is_paused = old.status == JobStatus.PAUSED.value
    skipped: List[SkippedTicks] = []
    if job.interval is not None or job.start_at is None or job.next_at != old.next_at:
        try:
            _recall_skips(cursor, old, now, passed)
            skipped = _skipped(cursor, old, passed.of(old), "paused" if is_paused else "resubmitted", passed)
        except ValidationError:
            pass  # what it was can't be read any more
    insert_skipped(cursor, skipped, now)
    row = _row(job, _next_of(cursor, job))
    if is_paused:
        row = (*row[:-2], JobStatus.PAUSED.value, row[-1])
    cursor.execute(REPLACE_JOB, (*row, now, old.key))
    return skipped


def _recall_skips(cursor: sqlite3.Cursor, job: StoredJob, now: float, passed: PassedTicks) -> None:
    """Ticks that are to come again, since the clock was set back, are not skipped any more."""
    rows = cursor.execute(
        "SELECT id, missed, missed_from, scheduled_at FROM runs INDEXED BY runs_of_tick "
        "WHERE job_id = ? AND scheduled_at > ? AND status = 'SKIPPED'",
        (job.job_id, now),
    ).fetchall()
    for key, number, first, last in rows:
        left = (
            passed.unrecorded(job, Passed(number, first, last), [(math.floor(now) + 1, last)]) if first <= now else []
        )
        if left:
            cursor.execute(
                "UPDATE runs SET missed = ?, scheduled_at = ? WHERE id = ?", (left[0].number, left[0].last, key)
            )
        else:
            cursor.execute("DELETE FROM runs WHERE id = ?", (key,))


def _row(job: NewJob, next_at: Optional[float]) -> Tuple[Any, ...]:
    status = JobStatus.ENDED if next_at is None else JobStatus.ACTIVE
    return (*job[: len(_GIVEN)], status.value, next_at)


def _next_of(cursor: sqlite3.Cursor, job: NewJob) -> Optional[float]:
    """The first tick, unless it is a single one that was fired before; one that is to be now gets an instant."""
    next_at = job.next_at
    if job.interval is None and next_at is not None:
        fired = "SELECT 1 FROM runs WHERE job_id = ? AND scheduled_at = ?"
        while cursor.execute(fired, (job.job_id, next_at)).fetchone() is not None:
            if job.start_at is not None:
                return None
            next_at -= APART
    return next_at


def _skipped(
    cursor: sqlite3.Cursor, job: StoredJob, found: Optional[Passed], reason: str, passed: PassedTicks
) -> List[SkippedTicks]:
    if found is None:
        return []
    left = passed.unrecorded(job, found, recorded(cursor, job.job_id, found.first, found.last))
    return [
        SkippedTicks(new_run_id(), job.job_id, job.seq_id, reason, some.number, some.first, some.last) for some in left
    ]


def pause_job(journal: Journal, job_id: str) -> bool:
    """Hold a job's ticks back; whether they were not. Raises :class:`NotFound`."""

    def work(cursor: sqlite3.Cursor) -> bool:
        job = job_by_id(cursor, job_id)
        if job.status != JobStatus.ACTIVE.value:
            return False
        cursor.execute(MOVE_JOB, (job.next_at, JobStatus.PAUSED.value, job.key))
        return True

    return journal.transaction(work)


def resume_job(journal: Journal, job_id: str, now: float, passed: PassedTicks) -> Tuple[bool, List[SkippedTicks]]:
    """Let a paused job go on with its next tick to come; whether it was paused, and the ticks that passed meanwhile."""

    def work(cursor: sqlite3.Cursor) -> Tuple[bool, List[SkippedTicks]]:
        job = job_by_id(cursor, job_id)
        if job.status != JobStatus.PAUSED.value:
            return False, []
        return True, _go_on(cursor, [job], now, passed)

    return journal.transaction(work)


def _go_on(cursor: sqlite3.Cursor, jobs: Iterable[StoredJob], now: float, passed: PassedTicks) -> List[SkippedTicks]:
    """Jobs that were held back go on; what passed meanwhile is skipped."""
    skipped: List[SkippedTicks] = []
    for job in jobs:
        try:
            found = passed.of(job)
        except ValidationError as error:
            cursor.execute("UPDATE jobs SET status = 'BROKEN', error = ? WHERE id = ?", (str(error), job.key))
            continue
        next_at = job.next_at if found is None else found.following
        status = JobStatus.ENDED if next_at is None else JobStatus.ACTIVE
        cursor.execute(MOVE_JOB, (next_at, status.value, job.key))
        skipped += _skipped(cursor, job, found, "paused", passed)
    insert_skipped(cursor, skipped, now)
    return skipped


def remove_job(journal: Journal, job_id: str, now: float) -> List[EndedRun]:
    """Forget a job, and cancel the runs that wait in its queue. Raises :class:`NotFound`."""

    def work(cursor: sqlite3.Cursor) -> List[EndedRun]:
        job = job_by_id(cursor, job_id)
        cursor.execute("DELETE FROM jobs WHERE id = ?", (job.key,))
        return cancel_queued(cursor, job.job_id, "job_removed", now)

    return journal.transaction(work)


def clear_jobs(journal: Journal, now: float) -> Tuple[int, List[EndedRun]]:
    """Forget all jobs; how many there were, and the runs in their queues, which are cancelled."""

    def work(cursor: sqlite3.Cursor) -> Tuple[int, List[EndedRun]]:
        ended: List[EndedRun] = []
        for (job_id,) in cursor.execute("SELECT job_id FROM jobs").fetchall():
            ended += cancel_queued(cursor, job_id, "job_removed", now)
        return cursor.execute("DELETE FROM jobs").rowcount, ended

    return journal.transaction(work)


def pause_all(journal: Journal, now: float) -> None:
    """Hold all ticks back, and remember it."""
    journal.transaction(
        lambda cursor: cursor.execute("INSERT OR IGNORE INTO settings (name, value) VALUES ('paused', ?)", (repr(now),))
    )


def resume_all(journal: Journal, now: float, passed: PassedTicks) -> List[SkippedTicks]:
    """Let ticks fire again; those that passed meanwhile are skipped, and returned."""
    skipped: List[SkippedTicks] = []

    def work(cursor: sqlite3.Cursor) -> int:
        rows = cursor.execute(
            f"SELECT {JOB_COLUMNS} FROM jobs INDEXED BY jobs_due WHERE status = 'ACTIVE' AND next_at <= ? LIMIT ?",
            (now, JOBS_PER_TRANSACTION),
        ).fetchall()
        skipped.extend(_go_on(cursor, [StoredJob(*row) for row in rows], now, passed))
        if len(rows) < JOBS_PER_TRANSACTION:
            cursor.execute("DELETE FROM settings WHERE name = 'paused'")
        return len(rows)

    while journal.transaction(work) == JOBS_PER_TRANSACTION:
        pass
    return skipped


def is_paused(journal: Journal) -> bool:
    """Whether all ticks are held back."""
    return bool(journal.read(IS_PAUSED))


def break_job(journal: Journal, job: DueJob, error: str) -> bool:
    """Park a job with its error; whether it was still the same, and nobody had fired it."""
    return journal.transaction(
        lambda cursor: cursor.execute(BREAK_JOB, (error, job.key, job.version, job.next_at)).rowcount > 0
    )


def mend_job(journal: Journal, key: int) -> None:
    """Let a parked job fire again, from the tick at which it was parked."""
    journal.transaction(lambda cursor: cursor.execute(MEND_JOB, (key,)))


# ---------------------------------------------------------------------- looking up


def load_jobs(journal: Journal, keys: Sequence[int]) -> List[StoredJob]:
    """Jobs by key."""
    found: List[StoredJob] = []
    for some in chunks(keys):
        marks = ", ".join("?" * len(some))
        rows = journal.read(f"SELECT {JOB_COLUMNS} FROM jobs WHERE id IN ({marks})", tuple(some))
        found += [StoredJob(*row) for row in rows]
    return found


def broken_jobs(journal: Journal) -> List[StoredJob]:
    """The jobs that are parked."""
    rows = journal.read(f"SELECT {JOB_COLUMNS} FROM jobs INDEXED BY jobs_broken WHERE status = 'BROKEN'")
    return [StoredJob(*row) for row in rows]


def job_by_id(cursor: sqlite3.Cursor, job_id: str) -> StoredJob:
    """One job. Raises :class:`NotFound`, with near ids."""
    if name_fault(job_id, dotted=True) is not None:
        raise NotFound(f"there is no job {job_id!r:.140}")
    row = cursor.execute(f"SELECT {JOB_COLUMNS} FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
    if row is None:
        known = [found[0] for found in cursor.execute("SELECT job_id FROM jobs LIMIT 10000")]
        raise NotFound(f"there is no job {job_id!r:.140}{did_you_mean(job_id, known)}")
    return StoredJob(*row)


def _jobs_by_id(cursor: sqlite3.Cursor, job_ids: Sequence[str]) -> List[StoredJob]:
    found: List[StoredJob] = []
    for ids in chunks(job_ids):
        marks = ", ".join("?" * len(ids))
        found += [
            StoredJob(*row) for row in cursor.execute(f"SELECT {JOB_COLUMNS} FROM jobs WHERE job_id IN ({marks})", ids)
        ]
    return found
