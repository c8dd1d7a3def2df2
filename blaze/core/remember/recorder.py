"""What the engine writes down, and when: one row for a step when it ends, and few others.

Every statement that writes runs, steps, attempts and logs stands here. An entry goes
to the journal's pending list; its token comes back when it is committed. The states
from which an end state may be reached are taken from the one table in
``ground.status``, so that no later write ever changes an end state.
"""

from __future__ import annotations

import operator
import sqlite3
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

from ..ground.errors import StateError
from ..ground.own_log import OwnLog
from ..ground.picture import encodable
from ..ground.status import BlockStatus, RunStatus, predecessors
from .codec import INLINE_LIMIT, NotStorable, ResultFiles, pickled, preview
from .journal import Journal
from .schema import PLACE_BITS, step_key

#: Longest message, traceback or argument text that is kept, in characters (RELIABILITY R37).
TEXT_LIMIT = 64 * 1024
#: Size in bytes up to which an output in a row is copied rather than bound slowly, and does not
#: count towards the next checkpoint.
SMALL = 1000
#: The pickle of an output, None if it is not stored, and its preview.
Kept = Tuple[Optional[bytes], str]
#: Highest log level that is kept as it is: what a block made up has to fit into a column.
MAX_LEVEL = 1_000_000

log = OwnLog("engine")


def _is_one_of(states: Any) -> str:
    # Not IN, for which SQLite builds a table at each execution.
    return "(" + " OR ".join(sorted(f"status = '{state.value}'" for state in states)) + ")"


# sqlite3 takes a microsecond to bind a None, and another for bytes where a bytearray costs
# nothing: so what is executed for every run and step names the columns that have a value.

#: What a run has at first besides its state, its definition and its graph; the last ones only some have.
_AT_FIRST = (
    "run_id", "seq_id", "created_at", "owner", "steps", "deadline", "parameters", "job_id", "scheduled_at", "retry_of",
    "reason",
)  # fmt: skip

RUN_STARTED = f"""
UPDATE runs SET status = 'RUNNING', started_at = ?
WHERE id = ? AND {_is_one_of(predecessors(RunStatus.RUNNING))}"""

RUN_ENDED = f"""
UPDATE runs SET status = ?, reason = ?, started_at = ?, ended_at = ?, seconds = ?, output = ?, spilled = ?,
                preview = ?, error = ?
WHERE id = ? AND {_is_one_of(predecessors(RunStatus.COMPLETED))}"""

#: The same of one that went well, with an output that stands in its row.
RUN_COMPLETED_INLINE = f"""
UPDATE runs SET status = 'COMPLETED', reason = NULL, started_at = ?, ended_at = ?, seconds = ?, output = ?, preview = ?
WHERE id = ? AND {_is_one_of(predecessors(RunStatus.COMPLETED))}"""

#: The same without an output.
RUN_COMPLETED = f"""
UPDATE runs SET status = 'COMPLETED', reason = NULL, started_at = ?, ended_at = ?, seconds = ?
WHERE id = ? AND {_is_one_of(predecessors(RunStatus.COMPLETED))}"""

#: The end of a run that no process has at hand: status, reason, error, key.
RUN_ENDED_BY_RULE = f"""
UPDATE runs SET status = ?, reason = ?, error = ?, ended_at = COALESCE(?, CAST(strftime('%s', 'now') AS REAL))
WHERE id = ? AND {_is_one_of(predecessors(RunStatus.COMPLETED))}"""

#: The steps of an open run that is about to end while nobody has it in hand: its key, that of its first step, reason.
OPEN_STEPS_CANCELLED = f"""
WITH RECURSIVE places (step, steps) AS (
    SELECT 0, steps FROM runs WHERE id = ?1 AND steps AND {_is_one_of(predecessors(RunStatus.COMPLETED))}
    UNION ALL SELECT step + 1, steps FROM places WHERE step + 1 < steps
)
INSERT INTO steps (id, status, reason, attempts) SELECT ?2 + step, 'CANCELLED', ?3, 0 FROM places WHERE TRUE
ON CONFLICT (id) DO UPDATE SET status = 'CANCELLED', reason = excluded.reason, retry_at = NULL
WHERE {_is_one_of(state for state in BlockStatus if not state.ended)}"""

RUNS_RELEASED = f"""
UPDATE runs SET owner = NULL WHERE owner = ? AND {_is_one_of(predecessors(RunStatus.COMPLETED))}"""

RUN_HALTED = """
UPDATE runs SET cancel = ? WHERE id = ? AND cancel IS NULL"""

#: A first row, with an output that stands in it.
STEP_COMPLETED_INLINE = """
INSERT INTO steps (id, status, attempts, started_at, seconds, stored, output, preview)
VALUES (?, 'COMPLETED', ?, ?, ?, 1, ?, ?)"""

STEP_COMPLETED = """
INSERT INTO steps (id, status, attempts, started_at, seconds, stored, output, spilled, preview)
VALUES (?, 'COMPLETED', ?, ?, ?, ?, ?, ?, ?)"""

#: The same where a row tells already that the step runs.
STEP_COMPLETED_AFTER_ALL = (
    STEP_COMPLETED
    + f"""
ON CONFLICT (id) DO UPDATE SET
    status = 'COMPLETED', reason = NULL, attempts = excluded.attempts, started_at = excluded.started_at,
    seconds = excluded.seconds, stored = excluded.stored, output = excluded.output, spilled = excluded.spilled,
    preview = excluded.preview, retry_at = NULL
WHERE {_is_one_of(predecessors(BlockStatus.COMPLETED) | {BlockStatus.RETRYING})}"""
)

STEP_STATE = f"""
INSERT INTO steps (id, status, reason, attempts, started_at, seconds, error, retry_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    status = excluded.status, reason = excluded.reason, attempts = excluded.attempts,
    started_at = COALESCE(excluded.started_at, started_at), seconds = COALESCE(excluded.seconds, seconds),
    error = excluded.error, retry_at = excluded.retry_at
WHERE {_is_one_of(state for state in BlockStatus if not state.ended)}"""

STEP_PROGRESS = """
UPDATE steps SET done = ?, total = ? WHERE id = ? AND status = 'RUNNING'"""

ATTEMPT = """
INSERT OR REPLACE INTO attempts (run, step, attempt, started_at, seconds, reason, error, arguments, traceback)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""

LOG_LINE = """
INSERT INTO logs (run, step, attempt, at, level, logger, message) VALUES (?, ?, ?, ?, ?, ?, ?)"""


class NewRun(NamedTuple):
    """A run as it is first written down."""

    run_id: str
    seq_id: str
    #: The graph as JSON text, and its digest.
    graph: str
    digest: str
    #: JSON text of the stored parameters, or None.
    parameters: Optional[str]
    #: Epoch seconds.
    created_at: float
    #: Epoch seconds, or None for no limit.
    deadline: Optional[float]
    #: None: it waits in its job's queue.
    owner: Optional[str]
    steps: int
    job_id: Optional[str] = None
    #: Epoch seconds.
    scheduled_at: Optional[float] = None
    retry_of: Optional[str] = None
    reason: Optional[str] = None


class Recorder:
    """Writes the runs of one engine."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._pending = journal.pending
        path = journal.path
        #: Files of large outputs; None for a state in memory, which keeps previews only.
        self.results: Optional[ResultFiles] = (
            None if path is None else ResultFiles(path.parent / "results", sync=journal.durability == "power")
        )
        #: Keys of definitions that are known to be recorded, by digest.
        self._definitions: Dict[str, int] = {}
        self._warned: Set[Tuple[str, str]] = set()

    def insert(self, run: NewRun) -> int:
        """Commit a new run and return its key. Raises :class:`StateError` if it can't be written."""
        definition = self._definitions.get(run.digest)
        if definition is not None:
            key = self.journal.insert(*_insertion(run, definition))
            if key is not None:
                return key
            self._definitions.clear()  # it was deleted with the last run that had it
        key, definition = self.journal.transaction(lambda cursor: _insert_run_and_definition(cursor, run))
        self._definitions[run.digest] = definition
        return key

    def keep(self, run_id: str, name: str, value: Any, persist: bool, data: Optional[bytes] = None) -> Kept:
        """What is kept of an output; ``data``: its pickle, if it was made already. Runs the value's own code."""
        if not persist or self.results is None:
            data = None
        elif data is None:
            try:
                data = pickled(value)
            except NotStorable as error:
                what = f"the output of step '{name}' can't be stored and would be made again by a resume: {error}"
                self._warn_once(run_id, name, what)
        return data, preview(value)

    def completed(
        self,
        key: int,
        run_id: str,
        index: int,
        name: str,
        attempts: int,
        started_at: float,
        seconds: float,
        kept: Kept,
        row_exists: bool,
        token: Any,
    ) -> None:
        """A step's output. Its row is appended; raises :class:`StateError` if its file can't be written."""
        stored = 0
        inline: Union[bytes, bytearray, None] = None
        spilled = None
        data, shown = kept
        if data is not None:
            size = len(data)
            if size <= SMALL and not row_exists:
                row = (key << PLACE_BITS | index, attempts, started_at, seconds, bytearray(data), shown)
                self._pending.append((STEP_COMPLETED_INLINE, row, token))
                return
            stored = 1
            if size <= INLINE_LIMIT:
                inline = data
                self.journal.volume += size
            else:
                spilled = self._spill(run_id, name, data)
        self._pending.append(
            (
                STEP_COMPLETED_AFTER_ALL if row_exists else STEP_COMPLETED,
                (step_key(key, index), attempts, started_at, seconds, stored, inline, spilled, shown),
                token,
            )
        )

    def step(
        self,
        key: int,
        index: int,
        status: BlockStatus,
        reason: Optional[str],
        attempts: int,
        started_at: Optional[float],
        seconds: Optional[float],
        error: Optional[str] = None,
        retry_at: Optional[float] = None,
        token: Any = None,
    ) -> None:
        """Any other state of a step."""
        row = (step_key(key, index), status.value, reason, attempts, started_at, seconds, _clipped(error), retry_at)
        self._pending.append((STEP_STATE, row, token))

    def attempt(
        self,
        key: int,
        index: int,
        attempt: int,
        started_at: float,
        seconds: float,
        reason: Optional[str],
        error: str,
        arguments: Optional[str],
        traceback: Optional[str],
    ) -> None:
        """A failed attempt with its story."""
        row = (
            key, index, attempt, started_at, seconds, reason, _clipped(error), _clipped(arguments), _clipped(traceback),
        )  # fmt: skip
        self._pending.append((ATTEMPT, row, None))

    def progress(self, key: int, index: int, done: float, total: Optional[float]) -> None:
        """How far a running step says it is."""
        self._pending.append((STEP_PROGRESS, (done, total, step_key(key, index)), None))

    def log_line(
        self, key: int, index: Optional[int], attempt: Optional[int], at: float, level: int, logger: str, message: str
    ) -> None:
        """One line of the run's log."""
        level = max(-MAX_LEVEL, min(level, MAX_LEVEL))
        row = (key, index, attempt, at, level, _clipped(logger), _clipped(message))
        self._pending.append((LOG_LINE, row, None))

    def run_started(self, key: int, started_at: float) -> None:
        """The run has been running for long enough to say so."""
        self._pending.append((RUN_STARTED, (started_at, key), None))

    def run_halted(self, key: int, reason: str) -> None:
        """Nothing of the run starts any more, also after a crash."""
        self._pending.append((RUN_HALTED, (reason, key), None))

    def end_by_rule(
        self, key: int, status: RunStatus, reason: str, error: str, at: Optional[float] = None, token: Any = None
    ) -> None:
        """The end of a run that was not carried on; ``at``: epoch seconds, None for now."""
        self._pending.append((OPEN_STEPS_CANCELLED, (key, step_key(key, 0), reason), None))
        self._pending.append((RUN_ENDED_BY_RULE, (status.value, reason, _clipped(error), at, key), token))

    def run_ended(
        self,
        key: int,
        run_id: str,
        status: RunStatus,
        reason: Optional[str],
        started_at: Optional[float],
        ended_at: float,
        seconds: float,
        output: Optional[Kept],
        error: Optional[str],
        token: Any,
    ) -> None:
        """The end of a run; ``output`` is None if there is none."""
        inline, spilled, shown = None, None, None
        plain = error is None and reason is None and status is RunStatus.COMPLETED
        if output is None and plain:
            self._pending.append((RUN_COMPLETED, (started_at, ended_at, seconds, key), token))
            return
        if output is not None:
            data, shown = output
            if data is not None:
                if plain and len(data) <= SMALL:
                    ended = (started_at, ended_at, seconds, bytearray(data), shown, key)
                    self._pending.append((RUN_COMPLETED_INLINE, ended, token))
                    return
                if len(data) <= INLINE_LIMIT:
                    inline = data
                else:
                    spilled = self._spill(run_id, "@output", data)
        row = (status.value, reason, started_at, ended_at, seconds, inline, spilled, shown, _clipped(error), key)
        self._pending.append((RUN_ENDED, row, token))

    def _spill(self, run_id: str, name: str, data: bytes) -> str:
        if self.results is None:
            raise StateError("a state in memory has no files")
        try:
            return self.results.write(run_id, name, data)
        except OSError as error:
            raise StateError(f"the output of '{name}' can't be written to results/: {error}") from error

    def _warn_once(self, run_id: str, name: str, message: str) -> None:
        if len(self._warned) > 10_000:
            self._warned.clear()
        if (run_id, name) not in self._warned:
            self._warned.add((run_id, name))
            log.warning(message)


def release_runs(journal: Journal, owner: str) -> None:
    """A clean stop: leave the open runs to the next start, without counting a crash."""
    journal.transaction(lambda cursor: cursor.execute(RUNS_RELEASED, (owner,)))


def insert_run(cursor: sqlite3.Cursor, run: NewRun) -> int:
    """The row of a run; its key. For a caller who has a transaction open."""
    return _insert_run_and_definition(cursor, run)[0]


def insert_runs(cursor: sqlite3.Cursor, runs: Sequence[NewRun]) -> List[Optional[int]]:
    """The rows of several runs; their keys, None for one whose tick has a run already."""
    definitions = {run.digest: run for run in runs}
    known = {digest: _definition_of(cursor, run) for digest, run in definitions.items()}
    first = cursor.execute("SELECT COALESCE(MAX(id), 0) + 1 FROM runs").fetchone()[0]
    rows: Dict[str, List[Tuple[Any, ...]]] = {}
    for key, run in enumerate(runs, first):
        sql, row = _insertion(run, known[run.digest])
        rows.setdefault(sql, []).append((*row, key))
    inserted = 0
    for sql, some in rows.items():
        cursor.executemany(_with_key(sql), some)
        inserted += cursor.rowcount
    keys: List[Optional[int]] = list(range(first, first + len(runs)))
    if inserted < len(runs):
        found = {key for (key,) in cursor.execute("SELECT id FROM runs WHERE id >= ?", (first,))}
        keys = [key if key in found else None for key in keys]
    return keys


def _with_key(sql: str) -> str:
    """The same statement with the row's key, for ticks that may have a run already."""
    found = _insert_with_key.get(sql)
    if found is None:
        found = sql.replace(", definition)", ", definition, id)")
        found = f"{found[:-1]}, ?) ON CONFLICT (job_id, scheduled_at) WHERE job_id IS NOT NULL DO NOTHING"
        _insert_with_key[sql] = found
    return found


def _definition_of(cursor: sqlite3.Cursor, run: NewRun) -> int:
    """The key of a run's definition, which is recorded if it is new."""
    known = "SELECT id FROM definitions WHERE digest = ?"
    found = cursor.execute(known, (run.digest,)).fetchone()
    if found is None:
        cursor.execute(
            "INSERT INTO definitions (digest, seq_id, graph) VALUES (?, ?, ?)", (run.digest, run.seq_id, run.graph)
        )
        found = cursor.execute(known, (run.digest,)).fetchone()
    return int(found[0])


def _insert_run_and_definition(cursor: sqlite3.Cursor, run: NewRun) -> Tuple[int, int]:
    definition = _definition_of(cursor, run)
    key = cursor.execute(*_insertion(run, definition)).lastrowid
    if key is None:
        raise StateError("SQLite gave the new run no key")
    return key, definition


def _insertion(run: NewRun, definition: int) -> Tuple[str, Tuple[Any, ...]]:
    """The statement that inserts a run, and its row: the columns that have a value."""
    values = _at_first(run)
    names: Tuple[str, ...] = _AT_FIRST
    if None in values:
        given = [position for position, value in enumerate(values) if value is not None]
        values = tuple([values[position] for position in given])
        names = tuple([names[position] for position in given])
    sql = _insert_run.get(names)
    if sql is None:
        marks = ", ".join("?" * len(names))
        sql = f"INSERT INTO runs (status, {', '.join(names)}, definition) VALUES ('PENDING', {marks}, ?)"
        _insert_run[names] = sql
    return sql, (*values, definition)


_insert_run: Dict[Tuple[str, ...], str] = {}
_insert_with_key: Dict[str, str] = {}
_at_first = operator.attrgetter(*_AT_FIRST)


def _clipped(text: Optional[str]) -> Optional[str]:
    if text is None:
        return None
    if len(text) > TEXT_LIMIT:
        text = text[:TEXT_LIMIT] + f"... ({len(text)} characters in all)"
    return encodable(text)


def results_directory(state_dir: Path) -> Path:
    """Where the files of large outputs are."""
    return state_dir / "results"
