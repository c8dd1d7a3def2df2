"""After a crash or a stop: whose runs are to be taken over, and what is known of them.

Everything here is keyed to the owner that is known to be dead, so that doing it twice,
or in two processes at once, changes nothing (RELIABILITY R6).
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Collection, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..ground.errors import NotFound, StateError
from ..ground.status import BlockStatus, RunStatus
from .codec import ResultFiles, unpickled
from .ends import EndedRun, end_run
from .journal import Journal
from .recorder import RUN_HALTED, NewRun, insert_run
from .schema import place_of, step_key

_SELECT_RUN = """
SELECT r.id, r.run_id, r.seq_id, r.job_id, r.scheduled_at, r.parameters, r.created_at, r.started_at, r.deadline,
       r.recoveries, r.cancel, r.status, r.owner, d.graph
FROM runs r JOIN definitions d ON d.id = r.definition"""

#: A run that waits for the runs of its job before it belongs to nobody until it is its turn.
_QUEUED = "(r.owner IS NULL AND r.reason IS 'queued')"


class StoredRun(NamedTuple):
    """A run as it is in the database."""

    key: int
    run_id: str
    seq_id: str
    job_id: Optional[str]
    #: Epoch seconds, as all times here.
    scheduled_at: Optional[float]
    parameters: Optional[str]
    created_at: float
    started_at: Optional[float]
    deadline: Optional[float]
    recoveries: int
    #: Why the run was halted, if it was.
    cancel: Optional[str]
    status: str
    owner: Optional[str]
    graph: str

    def wiring(self) -> List[Tuple[str, str, List[str]]]:
        """(step, block, dependencies) in the order of the definition the run was started with."""
        return [(name, block, sources) for name, block, sources in json.loads(self.graph)["steps"]]


class StoredStep(NamedTuple):
    """A step of a run as it is in the database; its output is loaded on demand."""

    #: Its index in the definition that the run was started with.
    place: int
    status: BlockStatus
    reason: Optional[str]
    attempts: int
    started_at: Optional[float]
    seconds: Optional[float]
    #: Whether the output can be loaded.
    stored: bool
    error: Optional[str]
    retry_at: Optional[float]


def adopt(
    journal: Journal,
    owner: str,
    dead: Optional[str],
    seq_ids: Collection[str],
    max_recoveries: int,
    now: float,
    only: Optional[str] = None,
) -> Tuple[List[StoredRun], List[EndedRun], int]:
    """Make ``owner`` the owner of the open runs of ``dead`` (None: of runs that a clean stop left).

    Only those of the sequences named, or ``only`` the run of this id. A run that was adopted ``max_recoveries`` times
    already is FAILED instead: a block that kills its process must not do so for ever.
    Returns the runs adopted, those that were failed, and how many open runs ``dead`` is
    left with.
    """

    def work(cursor: sqlite3.Cursor) -> Tuple[List[StoredRun], List[EndedRun], int]:
        rows = cursor.execute(
            f"{_SELECT_RUN} WHERE r.status IN ('PENDING', 'RUNNING') AND r.owner IS ? AND NOT {_QUEUED} ORDER BY r.id",
            (dead,),
        ).fetchall()
        adopted: List[StoredRun] = []
        failed: List[EndedRun] = []
        for row in rows:
            run = StoredRun(*row)
            if run.seq_id not in seq_ids or (only is not None and run.run_id != only):
                continue
            if dead is not None and run.recoveries >= max_recoveries:
                error = f"its process died {run.recoveries + 1} times while it ran (max_recoveries={max_recoveries})"
                ended = end_run(cursor, run.key, RunStatus.FAILED, "crashed", now, error)
                failed += [] if ended is None else [ended]
                continue
            recoveries = run.recoveries + (dead is not None)
            cursor.execute(
                "UPDATE runs SET owner = ?, recoveries = ?, reason = CASE WHEN ? THEN 'crashed' ELSE reason END "
                "WHERE id = ? AND owner IS ?",
                (owner, recoveries, dead is not None, run.key, dead),
            )
            adopted.append(run._replace(owner=owner, recoveries=recoveries))
        return adopted, failed, len(rows) - len(adopted) - len(failed)

    return journal.transaction(work)


def owners(journal: Journal) -> List[str]:
    """The schedulers that have open runs."""
    rows = journal.read(
        "SELECT DISTINCT owner FROM runs INDEXED BY runs_open WHERE status IN ('PENDING', 'RUNNING') "
        "AND owner IS NOT NULL"
    )
    return [owner for (owner,) in rows]


def cancel_elsewhere(journal: Journal, run_id: str, reason: str, now: float) -> Tuple[bool, Optional[EndedRun]]:
    """Cancel an open run that this process has not in hand; whether it was open, and its end if that was here.

    One that no process has is ended here, as FAILED if a step of it is; another's is asked to stop.
    """

    def work(cursor: sqlite3.Cursor) -> Tuple[bool, Optional[EndedRun]]:
        row = cursor.execute("SELECT id, status, owner FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        if row is None or RunStatus(row[1]).ended:
            return False, None
        if row[2] is not None:
            cursor.execute(RUN_HALTED, (reason, row[0]))
            return True, None
        key, first = row[0], step_key(row[0], 0)
        failed = cursor.execute(
            "SELECT 1 FROM steps WHERE id >= ? AND id < ? AND status = 'FAILED' LIMIT 1", (first, step_key(key + 1, 0))
        ).fetchone()
        return True, end_run(cursor, key, RunStatus.FAILED if failed else RunStatus.CANCELLED, reason, now)

    return journal.transaction(work)


def load_run(journal: Journal, run_id: str) -> StoredRun:
    """One run by its id. Raises :class:`NotFound`."""
    rows = journal.read(f"{_SELECT_RUN} WHERE r.run_id = ?", (run_id,))
    if not rows:
        raise NotFound(f"there is no run {run_id!r} in this state")
    return StoredRun(*rows[0])


def load_steps(journal: Journal, key: int) -> Dict[int, StoredStep]:
    """The steps of a run that have a row, by index in the run's own definition."""
    rows = journal.read(
        "SELECT id, status, reason, attempts, started_at, seconds, stored, error, retry_at FROM steps "
        "WHERE id >= ? AND id < ?",
        (step_key(key, 0), step_key(key + 1, 0)),
    )
    steps = (
        StoredStep(place_of(id_), BlockStatus(status), reason, attempts, started, seconds, bool(stored), error, retry)
        for id_, status, reason, attempts, started, seconds, stored, error, retry in rows
    )
    return {step.place: step for step in steps}


def rewire(journal: Journal, run: StoredRun, graph: str, digest: str, names: Sequence[str]) -> None:
    """Record that a run goes on with another definition, whose steps are ``names``.

    Rows name a step by its place in the run's definition, so each gets the place that its
    step has now. What is recorded of steps that are gone is deleted, but for the log.
    """
    place = {name: index for index, name in enumerate(names)}

    def work(cursor: sqlite3.Cursor) -> None:
        cursor.execute(
            "INSERT INTO definitions (digest, seq_id, graph) VALUES (?, ?, ?) ON CONFLICT (digest) DO NOTHING",
            (digest, run.seq_id, graph),
        )
        cursor.execute(
            "UPDATE runs SET definition = (SELECT id FROM definitions WHERE digest = ?), steps = ? WHERE id = ?",
            (digest, len(names), run.key),
        )
        places = [place.get(name) for name, _, _ in run.wiring()]
        for old, new in enumerate(places):
            was = step_key(run.key, old)
            if new is None:
                cursor.execute("DELETE FROM steps WHERE id = ?", (was,))
                cursor.execute("DELETE FROM attempts WHERE run = ? AND step = ?", (run.key, old))
            else:
                # Below zero first: the place of one step may have been that of another.
                cursor.execute("UPDATE steps SET id = ? WHERE id = ?", (-step_key(run.key, new), was))
                cursor.execute("UPDATE attempts SET step = ? WHERE run = ? AND step = ?", (-1 - new, run.key, old))
        cursor.execute("UPDATE steps SET id = -id WHERE id < 0")
        cursor.execute("UPDATE attempts SET step = -1 - step WHERE run = ? AND step < 0", (run.key,))
        lines = cursor.execute("SELECT id, step FROM logs WHERE run = ? AND step IS NOT NULL", (run.key,)).fetchall()
        cursor.executemany("UPDATE logs SET step = ? WHERE id = ?", [(places[old], line) for line, old in lines])

    journal.transaction(work)


def load_output(journal: Journal, results: Optional[ResultFiles], key: int, index: int) -> Any:
    """The recorded output of a completed step. Raises :class:`StateError` if it can't be read back."""
    rows = journal.read("SELECT output, spilled FROM steps WHERE id = ?", (step_key(key, index),))
    if not rows or (rows[0][0] is None and rows[0][1] is None):
        raise StateError("nothing is recorded of it")
    inline, spilled = rows[0]
    if inline is None:
        if results is None:
            raise StateError("it was in a file, and this state has none")
        inline = results.read(spilled)
    return unpickled(inline)


def insert_retry(
    journal: Journal, results: Optional[ResultFiles], new: NewRun, original: StoredRun, reused: Dict[int, int]
) -> int:
    """Commit a new run that starts with steps of another: ``reused`` maps their index there to the index here.

    Raises :class:`NotFound` if the other was deleted meanwhile.
    """

    def work(cursor: sqlite3.Cursor) -> int:
        if cursor.execute("SELECT 1 FROM runs WHERE id = ?", (original.key,)).fetchone() is None:
            raise NotFound(f"run {original.run_id} was deleted meanwhile: it is beyond the retention")
        key = insert_run(cursor, new)
        for old, index in reused.items():
            row = cursor.execute(
                "SELECT attempts, started_at, seconds, stored, output, spilled, preview FROM steps WHERE id = ?",
                (step_key(original.key, old),),
            ).fetchone()
            if row is None:
                raise NotFound(f"a step of run {original.run_id} was deleted meanwhile")
            spilled = row[5]
            if spilled is not None and results is not None:
                spilled = results.link(spilled, new.run_id)
            cursor.execute(
                "INSERT INTO steps (id, status, reason, attempts, started_at, seconds, stored, output, spilled, "
                "preview) VALUES (?, 'COMPLETED', 'reused', ?, ?, ?, ?, ?, ?, ?)",
                (step_key(key, index), *row[:5], spilled, row[6]),
            )
        return key

    return journal.transaction(work)
