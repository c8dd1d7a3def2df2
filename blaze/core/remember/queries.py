"""Asking the state file: every SQL statement that only reads for people, and who executes it.

Ids and texts are bound parameters, always; what is put into a statement as text is taken
from the constants here. Each statement is a short read transaction of its own, its rows
fetched at once, because a long one keeps the write-ahead log from being folded
(RELIABILITY S6); a search that may have to look at the whole history goes through it
:data:`SPAN` keys at a time.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path
from typing import Any, Callable, Collection, Dict, List, Optional, Sequence, Tuple, TypeVar

from ..ground.errors import StateError
from ..ground.status import RunStatus
from .database import open_reader
from .journal import Journal

#: Keys that one statement of a search goes through; about 20 ms.
SPAN = 50_000
#: Definitions of a sequence in which a step's name is looked up, newest first.
DEFINITIONS = 400
#: Values bound in one statement (SQLite before 3.32 takes 999).
BOUND = 500

Row = Tuple[Any, ...]
#: Executes a statement with its parameters and returns all rows.
Read = Callable[[str, Sequence[Any]], List[Row]]
T = TypeVar("T")

OPEN = frozenset(status for status in RunStatus if not status.ended)
# Word for word as the partial index has it, or SQLite would not use the index.
_IS_OPEN = "status IN ('PENDING', 'RUNNING')"
_MAX_KEY = (1 << 63) - 1

RUN_COLUMNS = (
    "id, run_id, seq_id, job_id, status, reason, scheduled_at, created_at, started_at, ended_at, seconds, deadline, "
    "owner, recoveries, retry_of, cancel, steps, preview, error"
)
RUN = f"SELECT {RUN_COLUMNS} FROM runs WHERE run_id = ?"
RUNS_BETWEEN = f"SELECT {RUN_COLUMNS} FROM runs WHERE run_id >= ? AND run_id < ? {{also}} ORDER BY run_id LIMIT ?"
RUN_ID_BEFORE = "SELECT run_id FROM runs WHERE run_id < ? ORDER BY run_id DESC LIMIT 1"
RUN_ID_AFTER = "SELECT run_id FROM runs WHERE run_id > ? ORDER BY run_id LIMIT 1"
RUN_AND_DEFINITION = """
SELECT r.id, d.id, d.digest FROM runs r JOIN definitions d ON d.id = r.definition WHERE r.run_id = ?"""
PARAMETERS = "SELECT parameters FROM runs WHERE run_id = ?"
COUNTS = f"SELECT status, COUNT(*) FROM runs INDEXED BY runs_open WHERE {_IS_OPEN} GROUP BY status"

GRAPH = "SELECT graph FROM definitions WHERE digest = ?"
DEFINITIONS_OF_SEQUENCE = f"SELECT id, digest FROM definitions WHERE seq_id = ? ORDER BY id DESC LIMIT {DEFINITIONS}"

STEPS = """
SELECT step, status, reason, attempts, started_at, seconds, preview, error, retry_at, done, total, stored FROM steps
WHERE run = ? AND step >= ? AND step < ?"""
ATTEMPTS = """
SELECT step, attempt, started_at, seconds, reason, error, arguments, traceback FROM attempts
WHERE run = ? AND (step, attempt) > (?, ?) AND step <= ? ORDER BY step, attempt LIMIT ?"""

#: The sequences that have runs: a jump through the index from each to the next.
SEQUENCE_IDS = """
WITH RECURSIVE ids (seq_id) AS (
    SELECT MIN(seq_id) FROM runs
    UNION ALL
    SELECT (SELECT MIN(seq_id) FROM runs WHERE seq_id > ids.seq_id) FROM ids WHERE ids.seq_id IS NOT NULL
)
SELECT seq_id FROM ids WHERE seq_id IS NOT NULL"""
#: The latest runs of a sequence by state: number, seconds, how many have seconds, highest key.
LATEST_BY_STATUS = """
SELECT status, COUNT(*), TOTAL(seconds), COUNT(seconds), MAX(id)
FROM (SELECT id, status, seconds FROM runs WHERE seq_id = ? ORDER BY id DESC LIMIT ?) GROUP BY status"""
OPEN_OF_SEQUENCES = f"""
SELECT seq_id, status, COUNT(*), MIN(id) FROM runs INDEXED BY runs_open WHERE {_IS_OPEN} GROUP BY seq_id, status"""
OPEN_OF_SEQUENCE = f"""
SELECT seq_id, status, COUNT(*), MIN(id) FROM runs INDEXED BY runs_open
WHERE {_IS_OPEN} AND seq_id = ? GROUP BY status"""

LAST_LOG_KEY = "SELECT MAX(id) FROM logs"
_LOG = "SELECT l.id, l.at, l.level, l.logger, l.message, r.run_id, r.seq_id, l.step, l.attempt, d.digest"
_RUN_OF_LINE = "CROSS JOIN runs r ON r.id = l.run CROSS JOIN definitions d ON d.id = r.definition"

SCHEMA_VERSION = "PRAGMA user_version"
PAGES = "SELECT (SELECT * FROM pragma_page_count()) * (SELECT * FROM pragma_page_size())"
INTEGRITY = "PRAGMA integrity_check(100)"
FOREIGN_KEYS = "PRAGMA foreign_key_check"


class FileSource:
    """Reads through a connection of its own, opened when it is first needed.

    It is opened anew after a fork, whose child must not touch the parent's (RELIABILITY
    S4), and when another file has taken the place of the one that is open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._closed = False
        # By process: a lock that some thread held at the fork stays locked in the child for ever.
        self._by_process: Dict[int, _Opened] = {}

    def read(self, sql: str, row: Sequence[Any] = ()) -> List[Row]:
        """All rows of one statement. Raises :class:`StateError`."""
        opened = self._opened()
        with opened.lock:
            connection = self._connection(opened)
            try:
                return connection.execute(sql, row).fetchall()
            except sqlite3.Error as error:
                raise self._failed(opened, error) from error

    def snapshot(self, work: Callable[[Read], T]) -> T:
        """Call ``work`` with a ``read`` whose statements all see the file as it is now; keep it short."""
        opened = self._opened()
        with opened.lock:
            connection = self._connection(opened)
            try:
                connection.execute("BEGIN")
                try:
                    return work(lambda sql, row=(): connection.execute(sql, row).fetchall())
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise self._failed(opened, error) from error

    def size(self) -> Tuple[int, int]:
        """Bytes of the database and of its write-ahead log."""
        sizes = []
        for path in (str(self.path), f"{self.path}-wal"):
            try:
                sizes.append(os.stat(path).st_size)
            except OSError:
                sizes.append(0)
        return sizes[0], sizes[1]

    def close(self) -> None:
        """Close the connection. Safe to call twice."""
        self._closed = True
        opened = self._by_process.get(os.getpid())
        if opened is not None:
            with opened.lock:
                opened.close()

    def _opened(self) -> _Opened:
        pid = os.getpid()
        opened = self._by_process.get(pid)
        return self._by_process.setdefault(pid, _Opened()) if opened is None else opened

    def _connection(self, opened: _Opened) -> sqlite3.Connection:
        if self._closed:
            raise StateError(f"this StateManager of {self.path.parent} is closed")
        try:
            found = os.stat(self.path)
        except OSError:
            opened.close()
        else:
            identity = (found.st_dev, found.st_ino)
            if opened.connection is not None and opened.identity == identity:
                return opened.connection
            opened.close()
            opened.identity = identity
        opened.connection = open_reader(self.path)
        return opened.connection

    def _failed(self, opened: _Opened, error: sqlite3.Error) -> StateError:
        opened.close()
        return StateError(f"{self.path} can't be read: {error}; see 'blazed db check'")


class _Opened:
    """What one process has open; ``lock`` protects the connection."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connection: Optional[sqlite3.Connection] = None
        self.identity: Optional[Tuple[int, int]] = None

    def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()


class JournalSource:
    """Reads through the writer of this process: the only way to a state that is in its memory."""

    def __init__(self, journal: Journal) -> None:
        self._journal: Optional[Journal] = journal

    def read(self, sql: str, row: Sequence[Any] = ()) -> List[Row]:
        """All rows of one statement. Raises :class:`StateError`."""
        if self._journal is None:
            raise StateError("this StateManager is closed")
        try:
            return self._journal.read(sql, tuple(row))
        except sqlite3.Error as error:
            raise StateError(f"the state can't be read: {error}") from error

    def snapshot(self, work: Callable[[Read], T]) -> T:
        """Call ``work`` with a ``read``; between two statements the state may change."""
        return work(self.read)

    def size(self) -> Tuple[int, int]:
        """Bytes of memory; there is no write-ahead log."""
        return int(self.read(PAGES)[0][0]), 0

    def close(self) -> None:
        """Let go of the journal, which stays open."""
        self._journal = None


def newest_runs(
    read: Read,
    limit: int,
    *,
    below: Optional[int] = None,
    statuses: Collection[RunStatus] = (),
    seq_id: Optional[str] = None,
    job_id: Optional[str] = None,
    since: Optional[float] = None,
    until: Optional[float] = None,
    without_skipped: bool = False,
) -> List[Row]:
    """Up to ``limit`` runs with keys lower than ``below``, newest first (:data:`RUN_COLUMNS`).

    A history of one state only is found by that state's index where there is one;
    otherwise the runs (of the sequence) are gone through.
    """
    wanted = frozenset(statuses)
    top = _MAX_KEY if below is None else below - 1
    tests: List[str] = []
    values: List[Any] = []
    for test, value in (
        ("seq_id = ?", seq_id),
        ("job_id = ?", job_id),
        ("created_at >= ?", since),
        ("created_at < ?", until),
    ):
        if value is not None:
            tests.append(test)
            values.append(value)
    if wanted:
        tests.append(f"status IN ({', '.join(sorted(repr(status.value) for status in wanted))})")
    if without_skipped:
        tests.append("status <> 'SKIPPED'")

    def select(index: str, test: str, high: int, low: int, number: int) -> List[Row]:
        where = " AND ".join([test, "id <= ?", "id > ?", *tests])
        sql = f"SELECT {RUN_COLUMNS} FROM runs {index} WHERE {where} ORDER BY id DESC LIMIT ?"
        return read(sql, (high, low, *values, number))

    if wanted and wanted <= OPEN:
        return select("INDEXED BY runs_open", _IS_OPEN, top, 0, limit)
    if job_id is not None:
        return select("INDEXED BY runs_of_tick", "job_id IS NOT NULL", top, 0, limit)
    if wanted and seq_id is None and wanted <= OPEN | {RunStatus.FAILED}:
        found = select("INDEXED BY runs_failed", "status = 'FAILED'", top, 0, limit)
        if wanted & OPEN:
            found += select("INDEXED BY runs_open", _IS_OPEN, top, 0, limit)
        return sorted(found, reverse=True)[:limit]
    index = "NOT INDEXED" if seq_id is None else "INDEXED BY runs_of_sequence"
    if len(tests) == (seq_id is not None):
        return select(index, "1", top, 0, limit)
    highest = "SELECT MAX(id) FROM runs WHERE id <= ?"
    scope: Tuple[str, ...] = ()
    if seq_id is not None:
        highest += " AND seq_id = ?"
        scope = (seq_id,)
    found = []
    while len(found) < limit:
        # From the next key that there is: the gaps that pruning leaves cost nothing.
        high = read(highest, (top, *scope))[0][0]
        if high is None:
            break
        top = high - SPAN
        found += select(index, "1", high, top, limit - len(found))
    return found


def log_lines(
    read: Read,
    limit: int,
    *,
    after: int,
    upto: int,
    newest: bool,
    run: Optional[int] = None,
    seq_id: Optional[str] = None,
    steps: Optional[Sequence[Tuple[int, int]]] = None,
    level: Optional[int] = None,
    since: Optional[float] = None,
    search: Optional[str] = None,
) -> List[Row]:
    """Up to ``limit`` lines with keys in (``after``, ``upto``], oldest first; ``newest``: the last ones.

    ``steps`` are pairs of definition and index in it. Only what is asked for decides how
    far is looked: a run's lines are found by their index, a sequence's by its runs, and
    those of all runs in the order of their keys.
    """
    tests: List[str] = []
    values: List[Any] = []
    if steps is not None:
        tests.append(f"(r.definition, l.step) IN (VALUES {', '.join(['(?, ?)'] * len(steps))})")
        values += [number for pair in steps for number in pair]
    for test, value in (
        ("l.level >= ?", level),
        ("l.at >= ?", since),
        ("INSTR(LOWER(l.message), LOWER(?)) > 0", search),
    ):
        if value is not None:
            tests.append(test)
            values.append(value)
    order = "DESC" if newest else "ASC"

    def select(tables: str, first: Sequence[str], bound: Sequence[Any], low: int, high: int, number: int) -> List[Row]:
        where = " AND ".join([*first, "l.id > ?", "l.id <= ?", *tests])
        return read(
            f"{_LOG} FROM {tables} WHERE {where} ORDER BY l.id {order} LIMIT ?", (*bound, low, high, *values, number)
        )

    if run is not None:
        found = select(
            f"logs l INDEXED BY logs_of_run {_RUN_OF_LINE}", ["l.run = ?"], [run], after, upto, limit
        )
    elif seq_id is not None:
        # The keys first, from the indexes alone: what is sorted is small.
        tables = "runs r INDEXED BY runs_of_sequence CROSS JOIN logs l INDEXED BY logs_of_run ON l.run = r.id"
        where = " AND ".join(["r.seq_id = ?", "l.id > ?", "l.id <= ?", *tests])
        keys = [
            row[0]
            for row in read(
                f"SELECT l.id FROM {tables} WHERE {where} ORDER BY l.id {order} LIMIT ?",
                (seq_id, after, upto, *values, limit),
            )
        ]
        found = []
        for start in range(0, len(keys), BOUND):
            part = keys[start : start + BOUND]
            found += read(
                f"{_LOG} FROM logs l {_RUN_OF_LINE} WHERE l.id IN ({', '.join('?' * len(part))}) "
                f"ORDER BY l.id {order}",
                part,
            )
    else:
        found = []
        low, high = after, upto
        tables = f"logs l NOT INDEXED {_RUN_OF_LINE}"
        while len(found) < limit:
            bound = "SELECT MAX(id) FROM logs" if newest else "SELECT MIN(id) FROM logs"
            start = read(f"{bound} WHERE id > ? AND id <= ?", (low, high))[0][0]
            if start is None:
                break
            if newest:
                high = start - SPAN
                found += select(tables, (), (), max(low, high), start, limit - len(found))
            else:
                low = start - 1 + SPAN
                found += select(tables, (), (), start - 1, min(low, high), limit - len(found))
    return found[::-1] if newest else found


def runs_by_key(read: Read, keys: Sequence[int]) -> Dict[int, Row]:
    """The runs with these keys, by key (:data:`RUN_COLUMNS`)."""
    found: Dict[int, Row] = {}
    for start in range(0, len(keys), BOUND):
        part = keys[start : start + BOUND]
        marks = ", ".join("?" * len(part))
        for row in read(f"SELECT {RUN_COLUMNS} FROM runs WHERE id IN ({marks})", part):
            found[row[0]] = row
    return found
