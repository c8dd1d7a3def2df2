"""Jobs as they are stored, and the ticks that they fire: every statement that writes them.

The table of jobs is the timetable: an index keeps it in the order of the next ticks, so
that a scheduler needs to know neither all jobs nor what other processes did to them. A
tick is fired by one transaction, which records its run and moves the job to its next
tick, under the write lock and from what is recorded at that instant (RELIABILITY R3).

What a job's ticks are is not known here: callers bring that along as a function.
"""

from __future__ import annotations

import math
import sqlite3
from itertools import islice
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from ..ground.errors import NotFound, ValidationError
from ..ground.names import did_you_mean, name_fault, new_run_id
from ..ground.status import JobStatus
from ..ground.ticks import Passed
from .journal import Journal

#: Where a job comes from: a submission, or a sequence with ``auto_start``.
SUBMITTED, AUTO_START = "submitted", "auto_start"
#: Reason of a run that waits for the runs of its job before it; it has no owner.
QUEUED = "queued"
#: Due ticks among which the most important ones are looked for.
DUE_LIMIT = 2000
#: Values bound in one statement (SQLite before 3.32 takes 999).
BOUND = 500
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
NEXT_TICK = """
UPDATE jobs SET next_at = ? WHERE id = ?"""
MOVE_JOB = """
UPDATE jobs SET next_at = ?, status = ? WHERE id = ?"""
BREAK_JOB = """
UPDATE jobs SET status = 'BROKEN', error = ?, version = version + 1
WHERE id = ? AND version = ? AND next_at = ? AND status = 'ACTIVE'"""
MEND_JOB = """
UPDATE jobs SET status = 'ACTIVE', error = NULL, version = version + 1 WHERE id = ? AND status = 'BROKEN'"""

_PAUSED = "SELECT 1 FROM settings WHERE name = 'paused'"
_DUE = """
SELECT id, seq_id, next_at, priority, version FROM jobs INDEXED BY jobs_due
WHERE status = 'ACTIVE' AND next_at <= ? ORDER BY next_at"""
_NEXT = """
SELECT next_at, priority, seq_id, id FROM jobs INDEXED BY jobs_due
WHERE status = 'ACTIVE' AND next_at < 1e15 AND (next_at, priority, seq_id, id) > (?, ?, ?, ?)
ORDER BY next_at, priority, seq_id, id LIMIT ?"""
_IS_OPEN = "status IN ('PENDING', 'RUNNING')"
_SKIPPED = """
INSERT INTO runs (run_id, seq_id, definition, job_id, scheduled_at, status, reason, created_at, ended_at, steps,
                  missed, missed_from, parameters)
VALUES (?, ?, ?, ?, ?, 'SKIPPED', ?, ?, ?, 0, ?, ?, (SELECT parameters FROM jobs WHERE job_id = ?))
ON CONFLICT (job_id, scheduled_at) WHERE job_id IS NOT NULL DO NOTHING"""
#: The graph of a run that was not run.
NO_STEPS = '{"steps": []}'


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


class SkippedTicks(NamedTuple):
    """Ticks of a job that are not run: one run row with their number, first and last."""

    run_id: str
    job_id: str
    seq_id: str
    reason: str
    number: int
    first: float
    last: float


class DueJob(NamedTuple):
    """A job whose next tick is due."""

    key: int
    seq_id: str
    next_at: float
    priority: int
    version: int


#: The ticks of a job that have passed, or None. Raises :class:`ValidationError` if its row can't be read.
PassedTicks = Callable[[StoredJob], Optional[Passed]]
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
    if job.source == AUTO_START or old.status == JobStatus.PAUSED.value:
        return True
    if job.interval is None:
        # Its only tick, if it was not fired yet, is still to come.
        return job.start_at is not None and old.next_at is not None
    return old.next_at is not None and old.next_at > now - patience


def _replace(
    cursor: sqlite3.Cursor, job: NewJob, old: StoredJob, now: float, passed: PassedTicks
) -> List[SkippedTicks]:
    is_paused = old.status == JobStatus.PAUSED.value
    skipped: List[SkippedTicks] = []
    if job.interval is not None or job.start_at is None or job.next_at != old.next_at:
        try:
            skipped = _skipped(old, passed(old), "paused" if is_paused else "resubmitted")
        except ValidationError:
            pass  # what it was can't be read any more
    insert_skipped(cursor, skipped, now)
    row = _row(job, _next_of(cursor, job))
    if is_paused:
        row = (*row[:-2], JobStatus.PAUSED.value, row[-1])
    cursor.execute(REPLACE_JOB, (*row, now, old.key))
    return skipped


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


def _skipped(job: StoredJob, found: Optional[Passed], reason: str) -> List[SkippedTicks]:
    if found is None:
        return []
    return [SkippedTicks(new_run_id(), job.job_id, job.seq_id, reason, found.number, found.first, found.last)]


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
            found = passed(job)
        except ValidationError as error:
            cursor.execute("UPDATE jobs SET status = 'BROKEN', error = ? WHERE id = ?", (str(error), job.key))
            continue
        next_at = job.next_at if found is None else found.following
        status = JobStatus.ENDED if next_at is None else JobStatus.ACTIVE
        cursor.execute(MOVE_JOB, (next_at, status.value, job.key))
        skipped += _skipped(job, found, "paused")
    insert_skipped(cursor, skipped, now)
    return skipped


def remove_job(journal: Journal, job_id: str) -> List[str]:
    """Forget a job, and cancel the runs that wait in its queue: their ids. Raises :class:`NotFound`."""

    def work(cursor: sqlite3.Cursor) -> List[str]:
        job = job_by_id(cursor, job_id)
        cursor.execute("DELETE FROM jobs WHERE id = ?", (job.key,))
        return _cancel_queued(cursor, job.job_id, "job_removed")

    return journal.transaction(work)


def clear_jobs(journal: Journal) -> int:
    """Forget all jobs; how many there were. Runs in their queues are cancelled."""

    def work(cursor: sqlite3.Cursor) -> int:
        for (job_id,) in cursor.execute("SELECT job_id FROM jobs").fetchall():
            _cancel_queued(cursor, job_id, "job_removed")
        return cursor.execute("DELETE FROM jobs").rowcount

    return journal.transaction(work)


def _cancel_queued(
    cursor: sqlite3.Cursor, job_id: str, reason: str, now: Optional[float] = None, before: float = math.inf
) -> List[str]:
    rows = cursor.execute(
        f"SELECT id, run_id FROM runs INDEXED BY runs_open WHERE {_IS_OPEN} AND job_id = ? AND owner IS NULL "
        "AND reason = ? AND scheduled_at < ?",
        (job_id, QUEUED, before),
    ).fetchall()
    for key, _ in rows:
        cursor.execute(
            "UPDATE runs SET status = 'CANCELLED', reason = ?, ended_at = COALESCE(?, created_at) WHERE id = ?",
            (reason, now, key),
        )
    return [run_id for _, run_id in rows]


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
    return bool(journal.read(_PAUSED))


def holds(cursor: sqlite3.Cursor) -> bool:
    """The same inside a transaction."""
    return cursor.execute(_PAUSED).fetchone() is not None


# ---------------------------------------------------------------------- firing


def next_due(journal: Journal, knows: Callable[[str], bool], many: int) -> Tuple[Optional[float], bool]:
    """When the next tick of a job whose sequence is known is due, and whether ``many`` are at that instant.

    None if there is none.
    """
    place: Tuple[float, int, str, int] = (float("-inf"), 0, "", 0)
    number = many
    found: List[float] = []
    while len(found) < many:
        rows = journal.read(_NEXT, (*place, number))
        found += [float(row[0]) for row in rows if knows(row[2])]
        if len(rows) < number:
            break
        place, number = rows[-1], 500
    if not found:
        return None, False
    return found[0], found.count(found[0]) >= many


def due_until(journal: Journal, moment: float, limit: int, knows: Callable[[str], bool]) -> List[DueJob]:
    """As :func:`due_jobs`, of an instant that is to come."""
    return journal.look(lambda cursor: due_jobs(cursor, moment, limit, knows))


def due_jobs(cursor: sqlite3.Cursor, now: float, limit: int, knows: Callable[[str], bool]) -> List[DueJob]:
    """Jobs with a due tick whose sequence is known: the most important first, then the longest due."""
    found = _due(cursor, now, max(limit, DUE_LIMIT), knows)
    found.sort(key=lambda job: (-_number(job.priority), job.next_at, job.key))
    return found[:limit]


def _number(priority: Any) -> int:
    """What stands in a damaged row is no priority."""
    return priority if isinstance(priority, int) else 0


def unknown_due(journal: Journal, before: float, knows: Callable[[str], bool]) -> List[DueJob]:
    """Jobs whose tick was due before an instant, and whose sequence is not known here."""
    return journal.look(lambda cursor: _due(cursor, before, DUE_LIMIT, lambda seq_id: not knows(seq_id)))


def _due(cursor: sqlite3.Cursor, now: float, limit: int, wanted: Callable[[str], bool]) -> List[DueJob]:
    """The jobs of the sequences wanted that have been due longest."""
    rows = cursor.connection.execute(_DUE, (now,))  # a cursor of its own, which is closed half-way
    try:
        return list(islice((DueJob(*row) for row in rows if wanted(row[1])), limit))
    finally:
        rows.close()


def open_runs(cursor: sqlite3.Cursor, job_ids: Sequence[str]) -> Dict[str, Tuple[int, int]]:
    """Of jobs that have open runs: how many have begun, and how many wait in the queue."""
    found: Dict[str, Tuple[int, int]] = {}
    for ids in _chunks(job_ids):
        marks = ", ".join("?" * len(ids))
        for job_id, number, queued in cursor.execute(
            f"SELECT job_id, COUNT(*), TOTAL(owner IS NULL AND reason IS 'queued') FROM runs INDEXED BY runs_open "
            f"WHERE {_IS_OPEN} AND job_id IN ({marks}) GROUP BY job_id",
            ids,
        ):
            found[job_id] = (number - int(queued), int(queued))
    return found


def move(cursor: sqlite3.Cursor, places: Sequence[Tuple[int, Optional[float]]]) -> None:
    """Move active jobs, by key, to their next ticks; those without one have ended."""
    cursor.executemany(NEXT_TICK, [(at, key) for key, at in places if at is not None])
    cursor.executemany(MOVE_JOB, [(None, JobStatus.ENDED.value, key) for key, at in places if at is None])


def cancel_runs(cursor: sqlite3.Cursor, job_id: str, tick: float, reason: str, now: float) -> None:
    """Ask the runs of a job's ticks before ``tick`` to stop, whichever process has them; end those in its queue."""
    _cancel_queued(cursor, job_id, reason, now, tick)
    cursor.execute(
        f"UPDATE runs SET cancel = ? WHERE id IN (SELECT id FROM runs INDEXED BY runs_open WHERE {_IS_OPEN} "
        "AND job_id = ? AND scheduled_at < ?) AND cancel IS NULL",
        (reason, job_id, tick),
    )


def insert_skipped(cursor: sqlite3.Cursor, ticks: Iterable[SkippedTicks], now: float) -> None:
    """Record ticks that are not run, with the parameters that their jobs have now: they may be made up for by hand."""
    for skipped in ticks:
        cursor.execute(
            _SKIPPED,
            (
                skipped.run_id, skipped.seq_id, _empty_definition(cursor, skipped.seq_id), skipped.job_id,
                skipped.last, skipped.reason, now, now, skipped.number, skipped.first, skipped.job_id,
            ),
        )  # fmt: skip


def _empty_definition(cursor: sqlite3.Cursor, seq_id: str) -> int:
    digest = f"none:{seq_id}"
    cursor.execute(
        "INSERT INTO definitions (digest, seq_id, graph) VALUES (?, ?, ?) ON CONFLICT (digest) DO NOTHING",
        (digest, seq_id, NO_STEPS),
    )
    return int(cursor.execute("SELECT id FROM definitions WHERE digest = ?", (digest,)).fetchone()[0])


def break_job(journal: Journal, job: DueJob, error: str) -> bool:
    """Park a job with its error; whether it was still the same, and nobody had fired it."""
    return journal.transaction(
        lambda cursor: cursor.execute(BREAK_JOB, (error, job.key, job.version, job.next_at)).rowcount > 0
    )


def mend_job(journal: Journal, key: int) -> None:
    """Let a parked job fire again, from the tick at which it was parked."""
    journal.transaction(lambda cursor: cursor.execute(MEND_JOB, (key,)))


# ---------------------------------------------------------------------- the queue, and what other processes ask


def take_queued(
    journal: Journal, owner: str, knows: Callable[[str], bool], deadline: Callable[[str], Optional[float]]
) -> List[str]:
    """Make ``owner`` the owner of the queued runs whose turn it is: the run ids.

    Their time begins now: ``deadline(seq_id)`` tells until when, in epoch seconds.
    """
    waiting = _queue_heads(journal)
    if not any(knows(seq_id) for _, _, seq_id in waiting):
        return []

    def work(cursor: sqlite3.Cursor) -> List[str]:
        taken: List[str] = []
        for key, run_id, seq_id in waiting:
            if knows(seq_id):
                changed = cursor.execute(
                    "UPDATE runs SET owner = ?, reason = NULL, deadline = ? WHERE id = ? AND owner IS NULL "
                    f"AND reason = ? AND {_IS_OPEN}",
                    (owner, deadline(seq_id), key, QUEUED),
                ).rowcount
                if changed:
                    taken.append(run_id)
        return taken

    return journal.transaction(work)


def queues(journal: Journal) -> Set[str]:
    """The jobs in whose queue runs wait."""
    rows = journal.read(
        f"SELECT DISTINCT job_id FROM runs INDEXED BY runs_open WHERE {_IS_OPEN} AND owner IS NULL AND reason = ?",
        (QUEUED,),
    )
    return {job_id for (job_id,) in rows}


def _queue_heads(journal: Journal) -> List[Tuple[int, str, str]]:
    """The queued runs before which no run of their job is open: key, run id, sequence."""
    rows = journal.read(
        f"SELECT job_id, MIN(id) FROM runs INDEXED BY runs_open WHERE {_IS_OPEN} AND job_id IN "
        f"(SELECT job_id FROM runs INDEXED BY runs_open WHERE {_IS_OPEN} AND owner IS NULL AND reason = ?) "
        "GROUP BY job_id",
        (QUEUED,),
    )
    heads: List[Tuple[int, str, str]] = []
    for keys in _chunks([key for _, key in rows]):
        marks = ", ".join("?" * len(keys))
        heads += journal.read(
            f"SELECT id, run_id, seq_id FROM runs WHERE id IN ({marks}) AND owner IS NULL AND reason = '{QUEUED}'",
            tuple(keys),
        )
    return heads


def asked_to_cancel(journal: Journal, owner: str) -> List[Tuple[str, str]]:
    """The runs of a process that are to be cancelled, with the reasons."""
    return journal.read(
        f"SELECT run_id, cancel FROM runs INDEXED BY runs_open WHERE {_IS_OPEN} AND owner = ? AND cancel IS NOT NULL",
        (owner,),
    )


def has_released(journal: Journal) -> bool:
    """Whether there are open runs that a clean stop left."""
    return bool(
        journal.read(
            f"SELECT 1 FROM runs INDEXED BY runs_open WHERE {_IS_OPEN} AND owner IS NULL AND reason IS NOT ? LIMIT 1",
            (QUEUED,),
        )
    )


# ---------------------------------------------------------------------- looking up


def load_jobs(journal: Journal, keys: Sequence[int]) -> List[StoredJob]:
    """Jobs by key."""
    found: List[StoredJob] = []
    for some in _chunks(keys):
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
    for ids in _chunks(job_ids):
        marks = ", ".join("?" * len(ids))
        found += [
            StoredJob(*row) for row in cursor.execute(f"SELECT {JOB_COLUMNS} FROM jobs WHERE job_id IN ({marks})", ids)
        ]
    return found


def _chunks(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (values[start : start + BOUND] for start in range(0, len(values), BOUND))
