"""History is bounded: runs beyond the retention are deleted a few at a time, and the file shrinks.

Deleting goes in rounds over the sequences. A round is begun when many runs were recorded
since the last one, or an hour has passed; in between a call costs two look-ups by key,
however long the history is. Within a round each sequence is looked at through its
index: one jump to the newest run that is too many, one to the oldest runs, which are
the only ones that can be too old.

Keys are never handed out twice: the newest run and the newest line of a log stay, since
SQLite gives a new row the highest key plus one, and what is written late about a
deleted run must not turn up in another.
"""

from __future__ import annotations

import math
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple
from weakref import WeakKeyDictionary

from ..ground.errors import Fault, StateError, ValidationError
from ..ground.names import name_fault
from ..ground.status import RunStatus
from .codec import ResultFiles
from .journal import Journal
from .recorder import results_directory
from .schema import PLACE_BITS

#: Runs recorded since the last round that make the next one due.
RUNS_PER_ROUND = 1000
#: Seconds after which a round is due however few runs there were.
ROUND_EVERY = 3600.0
#: Sequences looked at in one call, and rows gone through; about 5 ms.
SEQUENCES_PER_CALL = 8
ROWS_PER_CALL = 4000
#: Rows deleted in one transaction: in a large file some 10 ms, and 2 MB of write-ahead log.
ROWS_PER_TRANSACTION = 500
#: Most runs that one statement deletes something of: a state in memory is pruned between the steps of short runs,
#: and each statement may have to wait for the interpreter.
RUNS_PER_STATEMENT = 50
#: Days for which the newest run of a sequence is kept at least: when it ran last is known of a yearly job, too.
LAST_RUN_DAYS = 366.0
#: Free pages that the file may keep, at least, and as a part of it: they are soon used again.
FREE_PAGES = 512
FREE_SHARE = 0.05
#: Pages given back to the file system in one transaction.
PAGES_PER_STEP = 500
#: Seconds for which a file of results that belongs to no run is left alone, and between two sweeps.
SWEEP_AGE = 3600.0

DAY = 86_400.0
#: Rows read by one statement, and by the first one of a sequence.
_BOUND = 500
_FIRST = 10
_THREE_TIMES: Any = object()
_OPEN = ", ".join(f"'{status.value}'" for status in RunStatus if not status.ended)

NEWEST_RUN = "SELECT MAX(id) FROM runs"
NEXT_SEQUENCE = "SELECT MIN(seq_id) FROM runs WHERE seq_id > ?"
NEWEST_OF_SEQUENCE = "SELECT MAX(id) FROM runs WHERE seq_id = ?"
NTH_OF_SEQUENCE = "SELECT id FROM runs WHERE seq_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?"
OLDEST_OF_SEQUENCE = """
SELECT id, run_id, steps, status, created_at, COALESCE(ended_at, created_at) FROM runs
WHERE seq_id = ? AND id > ? ORDER BY id LIMIT ?"""
NEWEST_LINE = "SELECT run FROM logs ORDER BY id DESC LIMIT 1"
RETRIED = f"SELECT retry_of FROM runs WHERE status IN ({_OPEN}) AND retry_of IS NOT NULL"
# Of several runs: their keys, filled up with NULL, and but for the last one the most rows to delete.
_KEYS = ", ".join("?" * RUNS_PER_STATEMENT)
DELETE_LOGS = f"DELETE FROM logs WHERE id IN (SELECT id FROM logs WHERE run IN ({_KEYS}) LIMIT ?)"
DELETE_ATTEMPTS = f"""
DELETE FROM attempts WHERE (run, step) IN (SELECT DISTINCT run, step FROM attempts WHERE run IN ({_KEYS}) LIMIT ?)"""
DELETE_STEPS = f"""
DELETE FROM steps WHERE id IN
    (SELECT steps.id FROM runs CROSS JOIN steps
     ON steps.id >= runs.id << {PLACE_BITS} AND steps.id < (runs.id + 1) << {PLACE_BITS}
     WHERE runs.id IN ({_KEYS}) LIMIT ?)"""
DELETE_RUNS = f"DELETE FROM runs WHERE id IN ({_KEYS})"
UNUSED_DEFINITIONS = """
SELECT d.id FROM definitions d WHERE d.seq_id = ?
AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.seq_id = d.seq_id AND r.definition = d.id)"""
DELETE_DEFINITION = """
DELETE FROM definitions WHERE id = ? AND NOT EXISTS
    (SELECT 1 FROM runs r WHERE r.seq_id = definitions.seq_id AND r.definition = definitions.id)"""


@dataclass(frozen=True)
class Retention:
    """How much history is kept; None: no limit.

    - ``runs``: of each sequence, its newest so many runs.
    - ``days``: runs that ended longer ago than this are deleted.
    - ``failed_runs``, ``failed_days``: FAILED runs stay until they are not among the newest
      ``failed_runs`` of their sequence, or older than ``failed_days``; by default three times
      the others, and never less.

    Runs that have not ended are never deleted, nor is a run that an open one was retried
    from. The newest run of a sequence stays for a year.

    Raises :class:`ValidationError` for values that make no sense::

        Blaze(..., retention=Retention(runs=1_000, days=7))
    """

    runs: Optional[int] = 10_000
    days: Optional[float] = 30
    failed_runs: Optional[int] = _THREE_TIMES
    failed_days: Optional[float] = _THREE_TIMES

    def __post_init__(self) -> None:
        faults = [
            fault for fault in (_fault("runs", self.runs, True), _fault("days", self.days, False)) if fault is not None
        ]
        for name, plain in (("failed_runs", self.runs), ("failed_days", self.days)):
            value = getattr(self, name)
            if value is _THREE_TIMES:
                if not faults:
                    object.__setattr__(self, name, None if plain is None else 3 * plain)
                continue
            fault = _fault(name, value, name == "failed_runs")
            if fault is None and not faults and value is not None and (plain is None or value < plain):
                limit = "no limit" if plain is None else plain
                fault = Fault(name, f"FAILED runs are kept at least as long as others ({limit}); got {value}")
            if fault is not None:
                faults.append(fault)
        if faults:
            raise ValidationError(faults, "the retention")


def _fault(name: str, value: object, whole: bool) -> Optional[Fault]:
    if value is None:
        return None
    fits = isinstance(value, int) if whole else isinstance(value, (int, float))
    if fits and not isinstance(value, bool) and 0 < value < math.inf:  # type: ignore[operator]
        return None
    return Fault(name, f"a {'whole ' if whole else ''}number greater than 0, or None for no limit; got {value!r}")


def prune(journal: Journal, results: Optional[ResultFiles], retention: Retention, now: float, batch: int = 200) -> bool:
    """Delete at most ``batch`` runs that are beyond the retention, with all that belongs to them.

    Whether there is more to do: call it again then, after whatever is more urgent. Each
    transaction is short; the files of a run are removed after its row. ``now`` is epoch
    seconds. It belongs to one thread at a time. Raises :class:`StateError` if the
    file can't be written; the next call goes on from there.
    """
    memory = _memory(journal)
    if memory.retention != retention:
        memory.retention, memory.walk, memory.begun_at = retention, None, None
    newest = _read(journal, NEWEST_RUN)[0][0] or 0
    if memory.walk is None and memory.is_due(newest, now):
        memory.walk = _Walk()
        memory.begun_at, memory.begun_with = now, newest
    if memory.walk is not None:
        if _go_on(journal, results, retention, memory.walk, now, batch):
            return True
        memory.walk = None
    return _shrink(journal)


def sweep_results(
    journal: Journal, results: Optional[ResultFiles], now: float, older_than: float = SWEEP_AGE
) -> List[str]:
    """Remove what a crash left in ``results/``: files of runs that are not recorded, and half-written ones.

    What was changed less than ``older_than`` seconds before ``now`` is left alone: its run
    may be about to be recorded. Returns the names removed. It reads the whole directory,
    so a sweep less than an hour after the last one does nothing.
    """
    if results is None or journal.path is None:
        return []
    memory = _memory(journal)
    if memory.swept_at is not None and memory.swept_at <= now < memory.swept_at + SWEEP_AGE:
        return []
    memory.swept_at = now
    removed: List[str] = []
    before = now - older_than
    for folders in _folders(results_directory(journal.path.parent), before):
        names = list(folders)
        marks = ", ".join("?" * len(names))
        known = {row[0] for row in _read(journal, f"SELECT run_id FROM runs WHERE run_id IN ({marks})", names)}
        for name in names:
            if name in known:
                removed += [f"{name}/{part}" for part in _remove_parts(folders[name], before)]
            else:
                results.remove(name)
                removed.append(name)
    return removed


class _Walk:
    """Where a round is."""

    def __init__(self) -> None:
        #: The sequence that is being looked at.
        self.seq_id = ""
        self.limits: Optional[_Limits] = None
        #: All its runs up to this key are done with.
        self.after = 0
        self.deleted = False


class _Memory:
    """What earlier calls for the same journal found out."""

    def __init__(self) -> None:
        self.retention: Optional[Retention] = None
        self.walk: Optional[_Walk] = None
        #: When the last round was begun, and the highest key of a run then.
        self.begun_at: Optional[float] = None
        self.begun_with = 0
        self.swept_at: Optional[float] = None

    def is_due(self, newest: int, now: float) -> bool:
        """Whether to begin a round. A clock that was set back counts as an hour."""
        if self.begun_at is None or not self.begun_at <= now < self.begun_at + ROUND_EVERY:
            return True
        return newest - self.begun_with >= RUNS_PER_ROUND


_MEMORIES: WeakKeyDictionary[Journal, _Memory] = WeakKeyDictionary()


def _memory(journal: Journal) -> _Memory:
    found = _MEMORIES.get(journal)
    if found is None:
        found = _MEMORIES[journal] = _Memory()
    return found


class _Limits(NamedTuple):
    """The retention, as it is for one sequence at one instant: what is older by key or by time goes."""

    newest: int
    key: int
    time: float
    failed_key: int
    failed_time: float
    last_time: float
    now: float

    def exceeded_by(self, key: int, status: RunStatus, ended: float) -> bool:
        # What has ended stays so, and its key is never another's: it need not be looked at again before deleting.
        if not status.ended:
            return False
        failed = status is RunStatus.FAILED
        if key <= (self.failed_key if failed else self.key):
            return True
        time = self.failed_time if failed else self.time
        return ended < (min(time, self.last_time) if key == self.newest else time)

    def spare_the_rest(self, key: int, created: float) -> bool:
        """Whether neither this run nor a later one can be beyond a limit.

        Runs are created in the order of their keys, but for what a clock that was wrong
        for a while has left: times in the future prove nothing.
        """
        return key > self.key and self.time <= created <= self.now


def _limits(journal: Journal, retention: Retention, seq_id: str, now: float) -> _Limits:
    def nth(number: Optional[int]) -> int:
        if number is None:
            return 0
        rows = _read(journal, NTH_OF_SEQUENCE, (seq_id, number))
        return int(rows[0][0]) if rows else 0

    def before(days: Optional[float]) -> float:
        return -math.inf if days is None else now - days * DAY

    key = nth(retention.runs)
    return _Limits(
        newest=_read(journal, NEWEST_OF_SEQUENCE, (seq_id,))[0][0] or 0,
        key=key,
        time=before(retention.days),
        failed_key=nth(retention.failed_runs) if key else 0,
        failed_time=before(retention.failed_days),
        last_time=before(LAST_RUN_DAYS),
        now=now,
    )


def _go_on(
    journal: Journal, results: Optional[ResultFiles], retention: Retention, walk: _Walk, now: float, batch: int
) -> bool:
    """One call's share of a round; whether it is not over yet."""
    rows_left, sequences_left = ROWS_PER_CALL, SEQUENCES_PER_CALL
    while rows_left > 0:
        if walk.limits is None:
            if sequences_left == 0:
                return True
            following = _read(journal, NEXT_SEQUENCE, (walk.seq_id,))[0][0]
            if following is None:
                return False
            sequences_left -= 1
            walk.seq_id, walk.after, walk.deleted = following, 0, False
            walk.limits = _limits(journal, retention, following, now)
        limits = walk.limits
        # Most often the first run decides; it is rows of failed ones that take more.
        number = _BOUND if walk.after else _FIRST
        rows = _read(journal, OLDEST_OF_SEQUENCE, (walk.seq_id, walk.after, number))
        rows_left -= max(1, len(rows))
        victims: List[_Victim] = []
        seen, over = walk.after, len(rows) < number
        for key, run_id, steps, status, created, ended in rows:
            if limits.exceeded_by(key, RunStatus(status), ended):
                victims.append(_Victim(key, run_id, steps))
                if len(victims) == batch:
                    over = False
            elif limits.spare_the_rest(key, created):
                over = True
                break
            seen = key
            if len(victims) == batch:
                break
        if victims:
            deleted, done = _delete(journal, victims)
            if results is not None:
                for run_id in deleted:
                    results.remove(run_id)
            walk.deleted = walk.deleted or bool(deleted)
            if done < len(victims):
                # The transaction was full: the first that is left comes first next time.
                walk.after = victims[done].key - 1
                return True
        walk.after = seen
        if over:
            walk.limits = None
            if walk.deleted:
                _delete_unused_definitions(journal, walk.seq_id)
        if victims:
            return True
    return True


class _Victim(NamedTuple):
    """A run that is to go."""

    key: int
    run_id: str
    steps: int


def _delete(journal: Journal, victims: Sequence[_Victim]) -> Tuple[List[str], int]:
    """Delete runs in one transaction, as many as fit; the ids of those deleted, and how many were dealt with.

    Runs with very many rows go in several transactions, their own rows in the last.
    """

    def work(cursor: sqlite3.Cursor) -> Tuple[List[str], int]:
        # Debian's SQLite would write zeros over every page that becomes free, and log them.
        cursor.execute("PRAGMA secure_delete = FAST").fetchall()
        # Decided under the write lock: another process may have begun a retry just now.
        kept_ids: Set[str] = {row[0] for row in cursor.execute(RETRIED)}
        kept_keys = {row[0] for sql in (NEWEST_RUN, NEWEST_LINE) for row in cursor.execute(sql)}
        deleted: List[str] = []
        done, room = 0, ROWS_PER_TRANSACTION
        while done < len(victims) and room > 0:
            group = _fitting(victims, done, room)
            going = [one for one in group if one.key not in kept_keys and one.run_id not in kept_ids]
            keys = [one.key for one in going] + [None] * (RUNS_PER_STATEMENT - len(going))
            for sql in (DELETE_LOGS, DELETE_ATTEMPTS, DELETE_STEPS):
                room -= cursor.execute(sql, (*keys, room)).rowcount
                if room <= 0:
                    return deleted, done
            cursor.execute(DELETE_RUNS, keys)
            room -= len(going)
            deleted += [one.run_id for one in going]
            done += len(group)
        return deleted, done

    found = journal.transaction(work)
    _fold(journal)
    return found


def _fitting(victims: Sequence[_Victim], start: int, room: int) -> Sequence[_Victim]:
    """The first one, and as many after it as go with it in ``room`` rows, as far as that can be known."""
    end = start
    while end < min(len(victims), start + RUNS_PER_STATEMENT):
        room -= victims[end].steps + 1
        if room <= 0 and end > start:
            break
        end += 1
    return victims[start:end]


def _delete_unused_definitions(journal: Journal, seq_id: str) -> None:
    unused = _read(journal, UNUSED_DEFINITIONS, (seq_id,))
    if unused:
        journal.transaction(lambda cursor: cursor.executemany(DELETE_DEFINITION, unused))


def _shrink(journal: Journal) -> bool:
    """Give free pages at the end of the file back, a few at a time; whether there are more."""
    free = _read(journal, "PRAGMA freelist_count")[0][0]
    if free <= FREE_PAGES or free <= FREE_SHARE * _read(journal, "PRAGMA page_count")[0][0]:
        return False
    if _read(journal, "PRAGMA auto_vacuum")[0][0] != 2:
        return False

    def work(cursor: sqlite3.Cursor) -> None:
        # One by one: Python takes a single step of this statement, and that is one page.
        for _ in range(min(PAGES_PER_STEP, free - FREE_PAGES)):
            cursor.execute("PRAGMA incremental_vacuum(1)")

    journal.transaction(work)
    _fold(journal)
    return True


def _fold(journal: Journal) -> None:
    # A transaction that deletes dirties many pages: without this the log would grow by as much each time.
    journal.fold(cut=False)


def _read(journal: Journal, sql: str, row: Sequence[Any] = ()) -> List[Tuple[Any, ...]]:
    try:
        return journal.read(sql, tuple(row))
    except sqlite3.Error as error:
        raise StateError(f"the state can't be read: {error}") from error


def _folders(directory: Path, before: float) -> Iterator[Dict[str, str]]:
    """The runs' directories that were last changed before then, as ``{name: path}``, some at a time."""
    found: Dict[str, str] = {}
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if name_fault(entry.name, dotted=True) is not None or not entry.is_dir(follow_symlinks=False):
                    continue
                if _changed(entry) < before:
                    found[entry.name] = entry.path
                if len(found) == _BOUND:
                    yield found
                    found = {}
    except OSError:
        return
    if found:
        yield found


def _remove_parts(folder: str, before: float) -> List[str]:
    """Remove the files that a writer left unfinished; their names."""
    removed: List[str] = []
    try:
        with os.scandir(folder) as entries:
            parts = [entry for entry in entries if entry.name.endswith(".part") and _changed(entry) < before]
        for entry in parts:
            os.unlink(entry.path)
            removed.append(entry.name)
    except OSError:
        pass  # another process sweeps it, too
    return removed


def _changed(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat(follow_symlinks=False).st_mtime
    except OSError:
        return math.inf
