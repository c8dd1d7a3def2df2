"""Ticks as they are fired and recorded: what is due, the runs that wait in queues, and what is not run.

A tick is fired by one transaction, which records its run and moves the job to its next
tick, under the write lock and from what is recorded at that instant (RELIABILITY R3).
"""

from __future__ import annotations

import math
import sqlite3
from itertools import islice
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from ..ground.status import JobStatus, RunStatus
from .ends import EndedRun, end_run
from .journal import Journal
from .schema import IS_OPEN, IS_PAUSED

#: Reason of a run that waits for the runs of its job before it; it has no owner.
QUEUED = "queued"
#: Due ticks among which the most important ones are looked for.
DUE_LIMIT = 2000
#: Values bound in one statement (SQLite before 3.32 takes 999).
BOUND = 500
NEXT_TICK = """
UPDATE jobs SET next_at = ? WHERE id = ?"""
MOVE_JOB = """
UPDATE jobs SET next_at = ?, status = ? WHERE id = ?"""
_DUE = """
SELECT id, seq_id, next_at, priority, version FROM jobs INDEXED BY jobs_due
WHERE status = 'ACTIVE' AND next_at <= ? ORDER BY next_at"""
_NEXT = """
SELECT next_at, priority, seq_id, id FROM jobs INDEXED BY jobs_due
WHERE status = 'ACTIVE' AND next_at < 1e15 AND (next_at, priority, seq_id, id) > (?, ?, ?, ?)
ORDER BY next_at, priority, seq_id, id LIMIT ?"""
_SKIPPED = """
INSERT INTO runs (run_id, seq_id, definition, job_id, scheduled_at, status, reason, created_at, ended_at, steps,
                  missed, missed_from, parameters)
VALUES (?, ?, ?, ?, ?, 'SKIPPED', ?, ?, ?, 0, ?, ?, (SELECT parameters FROM jobs WHERE job_id = ?))
ON CONFLICT (job_id, scheduled_at) WHERE job_id IS NOT NULL DO NOTHING"""
#: The graph of a run that was not run.
NO_STEPS = '{"steps": []}'


#: Whether a scheduler fires the ticks of a job, by its key and its sequence.
Claims = Callable[[int, str], bool]
#: Whether it goes on with a run whose turn it is, by its id, its sequence and its stored parameters.
Takes = Callable[[str, str, Optional[str]], bool]


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


def cancel_queued(
    cursor: sqlite3.Cursor, job_id: str, reason: str, now: float, before: float = math.inf
) -> List[EndedRun]:
    """End the runs that wait in a job's queue, of ticks earlier than ``before``."""
    rows = cursor.execute(
        f"SELECT id FROM runs INDEXED BY runs_open WHERE {IS_OPEN} AND job_id = ? AND owner IS NULL "
        "AND reason = ? AND scheduled_at < ?",
        (job_id, QUEUED, before),
    ).fetchall()
    found = [end_run(cursor, key, RunStatus.CANCELLED, reason, now) for (key,) in rows]
    return [ended for ended in found if ended is not None]


def holds(cursor: sqlite3.Cursor) -> bool:
    """Whether all ticks are held back."""
    return cursor.execute(IS_PAUSED).fetchone() is not None


def next_due(journal: Journal, claims: Claims, many: int) -> Tuple[Optional[float], bool]:
    """When the next tick of a job that is claimed is due, and whether ``many`` are at that instant.

    None if there is none.
    """
    place: Tuple[float, int, str, int] = (float("-inf"), 0, "", 0)
    number = many
    found: List[float] = []
    while len(found) < many:
        rows = journal.read(_NEXT, (*place, number))
        found += [float(row[0]) for row in rows if claims(row[3], row[2])]
        if len(rows) < number:
            break
        place, number = rows[-1], 500
    if not found:
        return None, False
    return found[0], found.count(found[0]) >= many


def due_until(journal: Journal, moment: float, limit: int, claims: Claims) -> List[DueJob]:
    """As :func:`due_jobs`, of an instant that is to come."""
    return journal.look(lambda cursor: due_jobs(cursor, moment, limit, claims))


def due_jobs(cursor: sqlite3.Cursor, now: float, limit: int, claims: Claims) -> List[DueJob]:
    """Jobs with a due tick that are claimed: the most important first, then the longest due."""
    found = _due(cursor, now, max(limit, DUE_LIMIT), claims)
    found.sort(key=lambda job: (-_number(job.priority), job.next_at, job.key))
    return found[:limit]


def _number(priority: Any) -> int:
    """What stands in a damaged row is no priority."""
    return priority if isinstance(priority, int) else 0


def left_due(journal: Journal, before: float, claims: Claims) -> List[DueJob]:
    """Jobs whose tick was due before an instant, and that are left to other schedulers."""
    return journal.look(lambda cursor: _due(cursor, before, DUE_LIMIT, lambda key, seq_id: not claims(key, seq_id)))


def _due(cursor: sqlite3.Cursor, now: float, limit: int, wanted: Claims) -> List[DueJob]:
    """The jobs wanted that have been due longest."""
    rows = cursor.connection.execute(_DUE, (now,))  # a cursor of its own, which is closed half-way
    try:
        return list(islice((DueJob(*row) for row in rows if wanted(row[0], row[1])), limit))
    finally:
        rows.close()


def open_runs(cursor: sqlite3.Cursor, job_ids: Sequence[str]) -> Dict[str, Tuple[int, int]]:
    """Of jobs that have open runs: how many have begun, and how many wait in the queue."""
    found: Dict[str, Tuple[int, int]] = {}
    for ids in chunks(job_ids):
        marks = ", ".join("?" * len(ids))
        for job_id, number, queued in cursor.execute(
            f"SELECT job_id, COUNT(*), TOTAL(owner IS NULL AND reason IS 'queued') FROM runs INDEXED BY runs_open "
            f"WHERE {IS_OPEN} AND job_id IN ({marks}) GROUP BY job_id",
            ids,
        ):
            found[job_id] = (number - int(queued), int(queued))
    return found


def move(cursor: sqlite3.Cursor, places: Sequence[Tuple[int, Optional[float]]]) -> None:
    """Move active jobs, by key, to their next ticks; those without one have ended."""
    cursor.executemany(NEXT_TICK, [(at, key) for key, at in places if at is not None])
    cursor.executemany(MOVE_JOB, [(None, JobStatus.ENDED.value, key) for key, at in places if at is None])


def cancel_runs(cursor: sqlite3.Cursor, job_id: str, tick: float, reason: str, now: float) -> List[EndedRun]:
    """Ask the runs of a job's ticks before ``tick`` to stop, whichever process has them; end those in its queue."""
    ended = cancel_queued(cursor, job_id, reason, now, tick)
    cursor.execute(
        f"UPDATE runs SET cancel = ? WHERE id IN (SELECT id FROM runs INDEXED BY runs_open WHERE {IS_OPEN} "
        "AND job_id = ? AND scheduled_at < ?) AND cancel IS NULL",
        (reason, job_id, tick),
    )
    return ended


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


def recorded(cursor: sqlite3.Cursor, job_id: str, first: float, last: float) -> List[Tuple[float, float]]:
    """The ticks of a job within a stretch that are recorded already, as stretches in order."""
    found = cursor.execute(
        "SELECT COALESCE(missed_from, scheduled_at), scheduled_at FROM runs INDEXED BY runs_of_tick "
        "WHERE job_id = ? AND scheduled_at BETWEEN ? AND ? ORDER BY scheduled_at",
        (job_id, first, last),
    ).fetchall()
    found += cursor.execute(
        "SELECT missed_from, scheduled_at FROM runs INDEXED BY runs_of_tick "
        "WHERE job_id = ? AND scheduled_at > ? ORDER BY scheduled_at LIMIT 1",
        (job_id, last),
    ).fetchall()
    if found and (found[-1][0] is None or found[-1][0] > last):
        found.pop()
    return found


def with_later_ticks(cursor: sqlite3.Cursor, job_ids: Sequence[str], tick: float) -> Set[str]:
    """Those of some jobs of which a tick at or after an instant is recorded already: the clock was set back."""
    found: Set[str] = set()
    for ids in chunks(job_ids):
        marks = ", ".join("?" * len(ids))
        found.update(
            job_id
            for (job_id,) in cursor.execute(
                f"SELECT DISTINCT job_id FROM runs INDEXED BY runs_of_tick WHERE job_id IN ({marks}) "
                "AND scheduled_at >= ?",
                (*ids, tick),
            )
        )
    return found


def _empty_definition(cursor: sqlite3.Cursor, seq_id: str) -> int:
    digest = f"none:{seq_id}"
    cursor.execute(
        "INSERT INTO definitions (digest, seq_id, graph) VALUES (?, ?, ?) ON CONFLICT (digest) DO NOTHING",
        (digest, seq_id, NO_STEPS),
    )
    return int(cursor.execute("SELECT id FROM definitions WHERE digest = ?", (digest,)).fetchone()[0])


def take_queued(journal: Journal, owner: str, takes: Takes, deadline: Callable[[str], Optional[float]]) -> List[str]:
    """Make ``owner`` the owner of the queued runs whose turn it is: the run ids.

    Their time begins now: ``deadline(seq_id)`` tells until when, in epoch seconds.
    """
    wanted = [
        (key, run_id, seq_id) for key, run_id, seq_id, text in _queue_heads(journal) if takes(run_id, seq_id, text)
    ]
    if not wanted:
        return []

    def work(cursor: sqlite3.Cursor) -> List[str]:
        taken: List[str] = []
        for key, run_id, seq_id in wanted:
            changed = cursor.execute(
                "UPDATE runs SET owner = ?, reason = NULL, deadline = ? WHERE id = ? AND owner IS NULL "
                f"AND reason = ? AND {IS_OPEN}",
                (owner, deadline(seq_id), key, QUEUED),
            ).rowcount
            if changed:
                taken.append(run_id)
        return taken

    return journal.transaction(work)


def queues(journal: Journal) -> Set[str]:
    """The jobs in whose queue runs wait."""
    rows = journal.read(
        f"SELECT DISTINCT job_id FROM runs INDEXED BY runs_open WHERE {IS_OPEN} AND owner IS NULL AND reason = ?",
        (QUEUED,),
    )
    return {job_id for (job_id,) in rows}


def _queue_heads(journal: Journal) -> List[Tuple[int, str, str, Optional[str]]]:
    """The queued runs before which no run of their job is open: key, run id, sequence, stored parameters."""
    rows = journal.read(
        f"SELECT job_id, MIN(id) FROM runs INDEXED BY runs_open WHERE {IS_OPEN} AND job_id IN "
        f"(SELECT job_id FROM runs INDEXED BY runs_open WHERE {IS_OPEN} AND owner IS NULL AND reason = ?) "
        "GROUP BY job_id",
        (QUEUED,),
    )
    heads: List[Tuple[int, str, str, Optional[str]]] = []
    for keys in chunks([key for _, key in rows]):
        marks = ", ".join("?" * len(keys))
        heads += journal.read(
            f"SELECT id, run_id, seq_id, parameters FROM runs WHERE id IN ({marks}) "
            f"AND owner IS NULL AND reason = '{QUEUED}'",
            tuple(keys),
        )
    return heads


def asked_to_cancel(journal: Journal, owner: str) -> List[Tuple[str, str]]:
    """The runs of a process that are to be cancelled, with the reasons."""
    return journal.read(
        f"SELECT run_id, cancel FROM runs INDEXED BY runs_open WHERE {IS_OPEN} AND owner = ? AND cancel IS NOT NULL",
        (owner,),
    )


def has_released(journal: Journal) -> bool:
    """Whether there are open runs that a clean stop left."""
    return bool(
        journal.read(
            f"SELECT 1 FROM runs INDEXED BY runs_open WHERE {IS_OPEN} AND owner IS NULL AND reason IS NOT ? LIMIT 1",
            (QUEUED,),
        )
    )


def chunks(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Values in parts that fit into one statement."""
    return (values[start : start + BOUND] for start in range(0, len(values), BOUND))
