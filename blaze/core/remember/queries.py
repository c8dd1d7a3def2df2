"""What is asked of the state file: every SQL statement that reads it for people, by name.

Ids and texts are bound parameters, always; what is put into a statement as text is taken
from the constants here. A search that may have to look at the whole history goes through
it :data:`SPAN` keys at a time, so that no read transaction is long (RELIABILITY S6).
"""

from __future__ import annotations

import json
from typing import Any, Collection, Dict, List, Optional, Sequence, Tuple

from ..ground.errors import NotFound, StateError
from ..ground.names import MAX_NAME, did_you_mean
from ..ground.status import BlockStatus, JobStatus, RunStatus
from .arguments import shown
from .reader import Read, Row
from .records import (
    JobRecord,
    JobsOfSequence,
    LastRun,
    Overview,
    Progress,
    RunRecord,
    SequenceSummary,
    StepRecord,
)
from .schema import IS_OPEN

#: Keys that one statement of a search goes through; about 20 ms.
SPAN = 50_000
#: Latest runs that a summary of all sequences counts, shared out evenly; some 10 ms.
COUNTED_RUNS = 10_000
#: Fewest and most of them for one sequence, whose runs may lie far apart in the file.
COUNTED_AT_LEAST, COUNTED_AT_MOST = 5, 500
#: Definitions of a sequence in which a step's name is looked up, newest first.
DEFINITIONS = 400
#: Values bound in one statement (SQLite before 3.32 takes 999).
BOUND = 500

OPEN = frozenset(status for status in RunStatus if not status.ended)
_MAX_KEY = (1 << 63) - 1

RUN_COLUMNS = (
    "id, run_id, seq_id, job_id, status, reason, scheduled_at, created_at, started_at, ended_at, seconds, deadline, "
    "owner, recoveries, retry_of, cancel, steps, preview, error, missed, missed_from"
)
RUNS_BETWEEN = f"SELECT {RUN_COLUMNS} FROM runs WHERE run_id >= ? AND run_id < ? {{also}} ORDER BY run_id LIMIT ?"
RUN_ID_BEFORE = "SELECT run_id FROM runs WHERE run_id < ? ORDER BY run_id DESC LIMIT 1"
RUN_ID_AFTER = "SELECT run_id FROM runs WHERE run_id > ? ORDER BY run_id LIMIT 1"
RUN_AND_DEFINITION = """
SELECT r.id, d.id, d.digest FROM runs r JOIN definitions d ON d.id = r.definition WHERE r.run_id = ?"""
PARAMETERS = "SELECT parameters FROM runs WHERE run_id = ?"
COUNTS = f"SELECT status, COUNT(*) FROM runs INDEXED BY runs_open WHERE {IS_OPEN} GROUP BY status"

GRAPH = "SELECT graph FROM definitions WHERE digest = ?"
DEFINITIONS_OF_SEQUENCE = f"SELECT id, digest FROM definitions WHERE seq_id = ? ORDER BY id DESC LIMIT {DEFINITIONS}"

#: Steps by key.
STEPS = """
SELECT id, status, reason, attempts, started_at, seconds, preview, error, retry_at, done, total, stored FROM steps
WHERE id >= ? AND id < ?"""
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
SELECT seq_id, status, COUNT(*), MIN(id) FROM runs INDEXED BY runs_open WHERE {IS_OPEN} GROUP BY seq_id, status"""
OPEN_OF_SEQUENCE = f"""
SELECT seq_id, status, COUNT(*), MIN(id) FROM runs INDEXED BY runs_open
WHERE {IS_OPEN} AND seq_id = ? GROUP BY status"""

#: The newest run of every sequence, and of one sequence that which was not skipped, among its latest.
NEWEST_OF_SEQUENCES = f"""
{SEQUENCE_IDS.rpartition("SELECT")[0]}
SELECT r.seq_id, r.run_id, r.created_at, r.status, r.seconds FROM ids CROSS JOIN runs r
WHERE r.id = (SELECT MAX(id) FROM runs WHERE seq_id = ids.seq_id)"""
NEWEST_NOT_SKIPPED = """
SELECT seq_id, run_id, created_at, status, seconds FROM runs WHERE id =
    (SELECT id FROM (SELECT id, status FROM runs WHERE seq_id = ? ORDER BY id DESC LIMIT ?)
     WHERE status <> 'SKIPPED' ORDER BY id DESC LIMIT 1)"""

#: Its latest run that was not skipped, beside each job.
JOBS = """
SELECT j.id, j.job_id, j.seq_id, j.status, j.interval, j.timezone, j.start_at, j.end_at, j.catchup, j.overlap,
       j.priority, j.source, j.error, j.next_at, j.submitted_at, r.scheduled_at, r.run_id, r.status
FROM jobs j LEFT JOIN runs r ON r.id =
    (SELECT id FROM runs INDEXED BY runs_of_tick WHERE job_id = j.job_id AND job_id IS NOT NULL
     AND status <> 'SKIPPED' ORDER BY scheduled_at DESC LIMIT 1)
WHERE {where} ORDER BY j.job_id LIMIT ?"""
JOB_COUNTS = "SELECT status, COUNT(*) FROM jobs GROUP BY status"
NEXT_OF_SEQUENCES = """
SELECT seq_id, COUNT(*), MIN(CASE WHEN status = 'ACTIVE' THEN next_at END) FROM jobs GROUP BY seq_id"""
JOBS_OF_SEQUENCES = "SELECT seq_id, status, COUNT(*), MIN(next_at) FROM jobs GROUP BY seq_id, status"
#: Ticks fired lately: nominal time, start.
LATELY = """
SELECT scheduled_at, started_at FROM runs WHERE id > (SELECT MAX(id) FROM runs) - ? AND job_id IS NOT NULL
AND started_at IS NOT NULL"""
#: Ticks of the latest runs that were not run because nobody was there to fire them.
MISSED_LATELY = """
SELECT CAST(TOTAL(missed) AS INTEGER) FROM runs WHERE id > (SELECT MAX(id) FROM runs) - ?
AND status = 'SKIPPED' AND reason = 'missed'"""

LAST_LOG_KEY = "SELECT MAX(id) FROM logs"
_LOG = "SELECT l.id, l.at, l.level, l.logger, l.message, r.run_id, r.seq_id, l.step, l.attempt, d.digest"
_RUN_OF_LINE = "CROSS JOIN runs r ON r.id = l.run CROSS JOIN definitions d ON d.id = r.definition"

SCHEMA_VERSION = "PRAGMA user_version"
INTEGRITY = "PRAGMA integrity_check(100)"
FOREIGN_KEYS = "PRAGMA foreign_key_check"


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
    high = _MAX_KEY if below is None else below - 1
    low = 0 if since is None else begin_of(read, "runs", "created_at", since, high)
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

    def select(index: str, test: str, low: int, high: int, number: int) -> List[Row]:
        where = " AND ".join([test, "id > ?", "id <= ?", *tests])
        keys = f"SELECT id FROM runs {index} WHERE {where} ORDER BY id DESC LIMIT ?"
        return read(
            f"SELECT {RUN_COLUMNS} FROM runs WHERE id IN ({keys}) ORDER BY id DESC", (low, high, *values, number)
        )

    if wanted and wanted <= OPEN:
        return select("INDEXED BY runs_open", IS_OPEN, low, high, limit)
    if job_id is not None:
        return select("INDEXED BY runs_of_tick", "job_id IS NOT NULL", low, high, limit)
    if wanted and seq_id is None and wanted <= OPEN | {RunStatus.FAILED}:
        found = select("INDEXED BY runs_failed", "status = 'FAILED'", low, high, limit)
        if wanted & OPEN:
            found += select("INDEXED BY runs_open", IS_OPEN, low, high, limit)
        return sorted(found, reverse=True)[:limit]
    index = "NOT INDEXED" if seq_id is None else "INDEXED BY runs_of_sequence"
    if len(tests) == (seq_id is not None):
        return select(index, "1", low, high, limit)
    highest = "SELECT MAX(id) FROM runs WHERE id > ? AND id <= ?"
    scope: Tuple[str, ...] = ()
    if seq_id is not None:
        highest += " AND seq_id = ?"
        scope = (seq_id,)
    found = []
    while len(found) < limit:
        # From the next key that there is: the gaps that pruning leaves cost nothing.
        top = read(highest, (low, high, *scope))[0][0]
        if top is None:
            break
        high = top - SPAN
        found += select(index, "1", max(low, high), top, limit - len(found))
    return found


def begin_of(read: Read, table: str, column: str, since: float, high: int) -> int:
    """A key up to which nothing of ``runs`` or ``logs`` is as late as ``since``.

    Keys are given out in the order of time, but for what a clock that was wrong for a while
    has left: going back, a stretch of :data:`SPAN` keys without anything late enough ends the search.
    """
    while True:
        top = read(f"SELECT MAX(id) FROM {table} WHERE id <= ?", (high,))[0][0]
        if top is None:
            return 0
        high = top - SPAN
        late = f"SELECT 1 FROM {table} NOT INDEXED WHERE id > ? AND id <= ? AND {column} >= ? ORDER BY id DESC LIMIT 1"
        if not read(late, (high, top, since)):
            return int(top)


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
    if since is not None and run is None:
        after = max(after, begin_of(read, "logs", "at", since, upto))
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
        found = select(f"logs l INDEXED BY logs_of_run {_RUN_OF_LINE}", ["l.run = ?"], [run], after, upto, limit)
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
                f"{_LOG} FROM logs l {_RUN_OF_LINE} WHERE l.id IN ({', '.join('?' * len(part))}) ORDER BY l.id {order}",
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


def runs_by_key(read: Read, keys: Sequence[int]) -> Dict[int, RunRecord]:
    """The runs with these keys, by key."""
    found: Dict[int, RunRecord] = {}
    for start in range(0, len(keys), BOUND):
        part = keys[start : start + BOUND]
        marks = ", ".join("?" * len(part))
        for row in read(f"SELECT {RUN_COLUMNS} FROM runs WHERE id IN ({marks})", part):
            found[row[0]] = run_of(row)
    return found


class Definition:
    """The graph of a run, parsed; raises :class:`StateError` if it is damaged."""

    __slots__ = ("names", "blocks", "sources")

    def __init__(self, graph: str) -> None:
        try:
            steps = [
                (str(name), str(block), tuple(map(str, sources))) for name, block, sources in json.loads(graph)["steps"]
            ]
        except (ValueError, TypeError, KeyError) as error:
            raise StateError(
                f"a recorded definition is damaged ({type(error).__name__}); see 'blazed db check'"
            ) from error
        self.names: Tuple[str, ...] = tuple(step[0] for step in steps)
        self.blocks: Tuple[str, ...] = tuple(step[1] for step in steps)
        #: What each step depends on.
        self.sources: Tuple[Tuple[str, ...], ...] = tuple(step[2] for step in steps)

    def name(self, index: int) -> str:
        """Name of a step; one that the definition does not have is told by its number."""
        return self.names[index] if 0 <= index < len(self.names) else f"#{index}"

    def index_of(self, name: str) -> int:
        """Index of a step. Raises :class:`NotFound`."""
        if name in self.names:
            return self.names.index(name)
        raise NotFound(f"there is no step {shown(name)} in this run{did_you_mean(str(name)[:MAX_NAME], self.names)}")


def run_of(row: Row) -> RunRecord:
    """The record of a row of :data:`RUN_COLUMNS`."""
    key, run_id, seq_id, job_id, status, *others = row
    return RunRecord(key, run_id, seq_id, job_id, RunStatus(status), *others)


def job_of(row: Row) -> JobRecord:
    """The record of a row of :data:`JOBS`."""
    job = JobRecord(*row)
    last_status = None if job.last_status is None else RunStatus(job.last_status)
    return job._replace(status=JobStatus(job.status), last_status=last_status)


def step_of(definition: Definition, index: int, row: Optional[Row]) -> StepRecord:
    """The record of a step, from its row of :data:`STEPS` if it has one."""
    place = (definition.names[index], definition.blocks[index], definition.sources[index])
    if row is None:
        return StepRecord(*place)
    _, status, reason, attempts, started, seconds, preview, error, retry, done, total, stored = row
    progress = None if done is None else Progress(done, total)
    return StepRecord(
        *place, BlockStatus(status), reason, attempts, started, seconds, preview, error, retry, progress, bool(stored)
    )


def summaries(read: Read, only: Optional[str] = None) -> List[SequenceSummary]:
    """Every sequence that has runs, by name; or the one named."""
    if only is None:
        names = [row[0] for row in read(SEQUENCE_IDS, ())]
        open_rows = read(OPEN_OF_SEQUENCES, ())
    else:
        names = [only]
        open_rows = read(OPEN_OF_SEQUENCE, (only,))
    share = _share(len(names))
    unended: Dict[str, List[Row]] = {}
    for row in open_rows:
        unended.setdefault(row[0], []).append(row)
    latest = {name: read(LATEST_BY_STATUS, (name, share)) for name in names}
    first = {name: min(row[3] for row in rows) for name, rows in unended.items()}
    last = {name: _last_key(rows) for name, rows in latest.items() if rows}
    runs = runs_by_key(read, [*first.values(), *last.values()])
    return [
        _summary(name, latest[name], unended.get(name, []), share, runs.get(last[name]), runs.get(first.get(name, -1)))
        for name in last
    ]


def _share(sequences: int) -> int:
    """How many of the latest runs of each are looked at."""
    return min(COUNTED_AT_MOST, max(COUNTED_AT_LEAST, COUNTED_RUNS // max(1, sequences)))


def overview(read: Read) -> Overview:
    """How everything stands. It takes the same time however long the history is."""
    newest = read(NEWEST_OF_SEQUENCES, ())
    skipped = [row[0] for row in newest if row[3] == RunStatus.SKIPPED.value]
    share = _share(len(newest))
    run = [row for seq_id in skipped for row in read(NEWEST_NOT_SKIPPED, (seq_id, share))]
    last_runs = {row[0]: LastRun(row[1], row[2], RunStatus(row[3]), row[4]) for row in (*newest, *run)}
    jobs = dict.fromkeys(JobStatus, 0)
    jobs_of: Dict[str, JobsOfSequence] = {}
    for seq_id, status, number, next_at in read(JOBS_OF_SEQUENCES, ()):
        jobs[JobStatus(status)] += number
        others = jobs_of.get(seq_id, _NO_JOBS)
        active = status == JobStatus.ACTIVE.value
        jobs_of[seq_id] = JobsOfSequence(others.number + number, next_at if active else others.next_at)
    return Overview(jobs, last_runs, jobs_of)


_NO_JOBS = JobsOfSequence(0, None)


def _last_key(rows: List[Row]) -> int:
    """The newest run of those counted by state; one that was run rather than a skipped tick."""
    run = [row[4] for row in rows if row[0] != RunStatus.SKIPPED.value]
    return int(max(run or [row[4] for row in rows]))


def _summary(
    name: str, latest: List[Row], unended: List[Row], share: int, last: Optional[RunRecord], first: Optional[RunRecord]
) -> SequenceSummary:
    counts = {RunStatus(row[0]): row[1] for row in latest}
    counted = sum(counts.values())
    counts.update((RunStatus(row[1]), row[2]) for row in unended)
    ran = [row for row in latest if row[0] != RunStatus.SKIPPED.value]
    seconds, number = sum(row[2] for row in ran), sum(row[3] for row in ran)
    mean = seconds / number if number else None
    return SequenceSummary(name, last, first, counts, counted, counted < share, seconds, mean)
