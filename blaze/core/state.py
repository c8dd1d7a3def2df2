"""``StateManager``: what happened, asked from the state file. Typed, paged, read-only.

It works while a scheduler runs and while none does, in its process and in others. It
opens the file when it is first asked, reads in short transactions, and never unpickles
anything: outputs are told by their previews.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, TypeVar, Union

from .ground.errors import Fault, NotFound, StateError
from .ground.names import did_you_mean
from .ground.status import JobStatus, RunStatus
from .remember import queries, run_names
from .remember.arguments import (
    Moment,
    Statuses,
    check_name,
    epoch_of,
    job_status_of,
    key_of,
    keys_of,
    level_of,
    limit_of,
    refuse,
    search_of,
    shown,
    statuses_of,
    text_of_cursor,
)
from .remember.database import FILE_NAME
from .remember.journal import Journal
from .remember.queries import Definition, run_of, step_of
from .remember.reader import FileSource, JournalSource, Read, Row
from .remember.records import (
    AttemptRecord,
    JobRecord,
    LogRecord,
    Overview,
    Page,
    Progress,
    RunGraph,
    RunRecord,
    SequenceSummary,
    StateSize,
    StepRecord,
)
from .remember.schema import IS_PAUSED, place_of, step_key

__all__ = [
    "AttemptRecord",
    "JobRecord",
    "LogRecord",
    "Overview",
    "Page",
    "Progress",
    "RunGraph",
    "RunRecord",
    "SequenceSummary",
    "StateManager",
    "StateSize",
    "StepRecord",
]

#: Definitions kept parsed.
CACHED_DEFINITIONS = 64

T = TypeVar("T")


class StateManager:
    """Queries over the runs, steps, attempts and logs of one state directory.

    - ``state_dir``: the directory that holds ``blaze.db``. It is looked at when the first
      question is asked, which raises :class:`StateError` if there is no state yet.

    Safe to use from several threads, and in a forked child. Every question raises
    :class:`ValidationError` for an argument that is not valid, :class:`NotFound` for a
    run or step that is not there, and :class:`StateError` if the file can't be read::

        with StateManager("./state") as state:
            for run in state.runs(status="FAILED", limit=10):
                print(run.run_id, run.ended_at, run.error)
    """

    def __init__(self, state_dir: Union[str, os.PathLike[str]]) -> None:
        self._source: Union[FileSource, JournalSource] = FileSource(Path(os.fspath(state_dir)) / FILE_NAME)
        self._definitions: Dict[str, Definition] = {}

    @classmethod
    def of_journal(cls, journal: Journal) -> StateManager:
        """Queries over what a journal of this process writes: the way to a state in memory.

        A journal with a file is read beside it, so that a question never holds up a write.
        """
        manager = cls("")
        manager._source = JournalSource(journal) if journal.path is None else FileSource(journal.path)
        return manager

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._source.close()

    def __enter__(self) -> StateManager:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # ------------------------------------------------------------------ runs

    def runs(
        self,
        seq_id: Optional[str] = None,
        status: Optional[Statuses] = None,
        since: Optional[Moment] = None,
        until: Optional[Moment] = None,
        job_id: Optional[str] = None,
        limit: int = 50,
        cursor: Optional[str] = None,
    ) -> Page[RunRecord]:
        """Runs, newest first.

        - ``seq_id``, ``job_id``: only those of this sequence, of this job.
        - ``status``: only those in this state, or in one of these; names in any case.
        - ``since``, ``until``: only those created at ``since`` or later, and before ``until``;
          aware datetimes, naive ones in local time, or epoch seconds.
        - ``limit``: most runs in the page, 1 to 10,000.
        - ``cursor``: ``next`` of the page before. Runs that begin meanwhile don't disturb it.
        """
        faults: List[Fault] = []
        check_name("seq_id", seq_id, faults)
        check_name("job_id", job_id, faults)
        statuses = statuses_of(status, faults)
        begin, end = epoch_of("since", since, faults), epoch_of("until", until, faults)
        number = limit_of("limit", limit, faults)
        below = key_of("run", cursor, faults)
        refuse(faults)
        rows = queries.newest_runs(
            self._source.read,
            number + 1,
            below=below,
            statuses=statuses,
            seq_id=seq_id,
            job_id=job_id,
            since=begin,
            until=end,
        )
        more = len(rows) > number
        items = [run_of(row) for row in rows[:number]]
        return Page(items, f"run-{items[-1].key}" if more else None)

    def find_run(self, name: str, seq_id: Optional[str] = None) -> RunRecord:
        """The run that ``name`` means: its id, a unique prefix of it, ``last`` or ``last-failed``.

        ``last`` is the newest run; a tick that was skipped is meant only if there is nothing
        else. ``seq_id`` looks within one sequence. Raises :class:`NotFound`, with near ids
        and a hint, and :class:`AmbiguousName`, with the runs that the prefix fits.
        """
        faults: List[Fault] = []
        check_name("seq_id", seq_id, faults)
        refuse(faults)
        return run_names.find_run(self._source.read, name, seq_id)

    def parameters(self, run_id: str) -> Any:
        """The parameters that a run was given, in the JSON form in which they are stored; None if there are none."""
        rows = self._source.read(queries.PARAMETERS, (run_names.checked(run_id),))
        if not rows:
            run_names.no_run(self._source.read, run_id)
        try:
            return None if rows[0][0] is None else json.loads(rows[0][0])
        except ValueError as error:
            raise StateError(f"the parameters of run {run_id} are damaged: {error}") from error

    def counts(self) -> Dict[RunStatus, int]:
        """How many runs are open, by state: PENDING and RUNNING, also if there are none."""
        found = dict.fromkeys((RunStatus.PENDING, RunStatus.RUNNING), 0)
        for status, number in self._source.read(queries.COUNTS):
            found[RunStatus(status)] = number
        return found

    # ------------------------------------------------------------------ steps

    def steps(self, run_id: str) -> List[StepRecord]:
        """The steps of a run, in the order of its definition; those without a record are PENDING."""
        return self._steps(run_id, 0, None)[0]

    def steps_page(self, run_id: str, limit: int = 500, cursor: Optional[str] = None) -> Page[StepRecord]:
        """The same in pages, for runs of very many steps."""
        faults: List[Fault] = []
        number = limit_of("limit", limit, faults)
        after = key_of("step", cursor, faults)
        refuse(faults)
        start = 0 if after is None else after + 1
        items, total = self._steps(run_id, start, start + number)
        stop = start + len(items)
        return Page(items, f"step-{stop - 1}" if items and stop < total else None)

    def attempts(
        self, run_id: str, step: Optional[str] = None, limit: int = 200, cursor: Optional[str] = None
    ) -> Page[AttemptRecord]:
        """The failed attempts of a run (of one step), with their tracebacks, in the order of its definition."""
        faults: List[Fault] = []
        number = limit_of("limit", limit, faults)
        place = keys_of("attempt", cursor, 2, faults)
        refuse(faults)

        def ask(read: Read, key: int, _: int, definition: Definition) -> Page[AttemptRecord]:
            first, last = (0, len(definition.names)) if step is None else (definition.index_of(step),) * 2
            after = (first, 0) if place is None else max((first, 0), (place[0], place[1]))
            rows = read(queries.ATTEMPTS, (key, *after, last, number + 1))
            items = [AttemptRecord(definition.name(row[0]), *row[1:]) for row in rows[:number]]
            more = len(rows) > number
            return Page(items, f"attempt-{rows[number - 1][0]}-{rows[number - 1][1]}" if more else None)

        return self._of_run(run_id, ask)

    def graph(self, run_id: str) -> RunGraph:
        """What each step of a run depends on, and its block, in the definition that the run follows."""
        definition = self._of_run(run_id, lambda read, key, version, found: found)
        return RunGraph(
            {name: list(sources) for name, sources in zip(definition.names, definition.sources)},
            dict(zip(definition.names, definition.blocks)),
        )

    # ------------------------------------------------------------------ logs

    def logs(
        self,
        run_id: Optional[str] = None,
        seq_id: Optional[str] = None,
        step: Optional[str] = None,
        level: Union[str, int, None] = None,
        since: Optional[Moment] = None,
        search: Optional[str] = None,
        limit: int = 200,
        cursor: Optional[str] = None,
        tail: Optional[int] = None,
    ) -> Page[LogRecord]:
        """Lines that runs logged, in the order in which they were recorded.

        - ``run_id``, ``seq_id``: only those of this run, of this sequence.
        - ``step``: only those of this step; needs one of the two.
        - ``level``: from this level on, as a name or number of ``logging``.
        - ``since``: only those written then or later; see :meth:`runs`.
        - ``search``: only those whose message has this text in it; ASCII letters in any case.
        - ``tail``: the last so many lines, instead of the first ``limit``; 0 to 10,000.
        - ``cursor``: ``next`` or ``follow`` of the page before.

        ``follow`` of the page gives, as ``cursor``, the lines recorded after this question:
        ask with it again and again to follow a log. Nothing is lost or told twice.
        """
        faults: List[Fault] = []
        check_name("seq_id", seq_id, faults)
        minimum, begin = level_of(level, faults), epoch_of("since", since, faults)
        number = limit_of("limit", limit, faults) if tail is None else limit_of("tail", tail, faults, least=0)
        after = key_of("log", cursor, faults)
        if tail is not None and cursor is not None:
            faults.append(Fault("tail", "it is the end of the log; leave the cursor out"))
        if step is not None and run_id is None and seq_id is None:
            faults.append(Fault("step", "say of which run or sequence: give run_id or seq_id too"))
        text = search_of(search, faults)
        refuse(faults)
        run, steps = self._place(run_id, seq_id, step)
        last = self._source.read(queries.LAST_LOG_KEY)[0][0] or 0
        start = after or 0
        rows: List[Row] = []
        if number and last > start:
            rows = queries.log_lines(
                self._source.read,
                number + (tail is None),
                after=start,
                upto=last,
                newest=tail is not None,
                run=run,
                # Of a run that is of another sequence there are no lines: decided by _place.
                seq_id=seq_id if run is None else None,
                steps=steps,
                level=minimum,
                since=begin,
                search=text,
            )
        more = len(rows) > number
        rows = rows[:number]
        items = [self._log(row) for row in rows]
        at_end = f"log-{max(start, last)}"
        here = f"log-{rows[-1][0]}" if more else at_end
        return Page(items, here if more else None, here)

    # ------------------------------------------------------------------ jobs

    def jobs(
        self,
        seq_id: Optional[str] = None,
        status: Union[str, JobStatus, None] = None,
        limit: int = 50,
        cursor: Optional[str] = None,
    ) -> Page[JobRecord]:
        """Jobs, by id: of one sequence, in one state, or all."""
        faults: List[Fault] = []
        check_name("seq_id", seq_id, faults)
        wanted = job_status_of(status, faults)
        number = limit_of("limit", limit, faults)
        after = text_of_cursor("job", cursor, faults)
        refuse(faults)
        tests, values = ["1"], []
        for test, value in (("j.seq_id = ?", seq_id), ("j.status = ?", wanted), ("j.job_id > ?", after)):
            if value is not None:
                tests.append(test)
                values.append(value)
        rows = self._source.read(queries.JOBS.format(where=" AND ".join(tests)), (*values, number + 1))
        items = [queries.job_of(row) for row in rows[:number]]
        return Page(items, f"job-{items[-1].job_id}" if len(rows) > number else None)

    def job(self, job_id: str) -> JobRecord:
        """One job. Raises :class:`NotFound`, with near ids."""
        faults: List[Fault] = []
        check_name("job_id", job_id, faults)
        refuse(faults)
        found = self.jobs_by_id([job_id])
        if not found:
            known = [row[0] for row in self._source.read("SELECT job_id FROM jobs LIMIT 10000")]
            raise NotFound(f"there is no job {shown(job_id)}{did_you_mean(job_id, known)}")
        return found[0]

    def jobs_by_id(self, job_ids: Sequence[str]) -> List[JobRecord]:
        """Those of the jobs named that there are, in the same order."""
        found: Dict[str, JobRecord] = {}
        for start in range(0, len(job_ids), queries.BOUND):
            some = job_ids[start : start + queries.BOUND]
            where = f"j.job_id IN ({', '.join('?' * len(some))})"
            for row in self._source.read(queries.JOBS.format(where=where), (*some, len(some))):
                job = queries.job_of(row)
                found[job.job_id] = job
        return [found[job_id] for job_id in job_ids if job_id in found]

    def job_counts(self) -> Dict[JobStatus, int]:
        """How many jobs there are, by state."""
        found = dict.fromkeys(JobStatus, 0)
        for status, number in self._source.read(queries.JOB_COUNTS):
            found[JobStatus(status)] = number
        return found

    def next_ticks(self) -> Dict[str, Tuple[int, Optional[float]]]:
        """Of each sequence that has jobs: how many, and the next tick of those that are ACTIVE."""
        rows = self._source.read(queries.NEXT_OF_SEQUENCES)
        return {seq_id: (number, next_at) for seq_id, number, next_at in rows}

    def overview(self) -> Overview:
        """The latest run of every sequence, its number of jobs and their next tick, and the jobs by state.

        All at one instant. Asked again while nothing has been committed to the file, it costs next to nothing.
        """
        return self._source.while_unchanged(queries.overview)

    def is_paused(self) -> bool:
        """Whether all ticks are held back."""
        return bool(self._source.read(IS_PAUSED))

    def lateness(self, runs: int = 1000) -> List[float]:
        """Seconds from nominal time to start of the ticks among the latest ``runs``."""
        rows = self._source.read(queries.LATELY, (runs,))
        return [started - scheduled for scheduled, started in rows]

    def missed(self, runs: int = 1000) -> int:
        """How many ticks among the latest ``runs`` passed while nothing ran, and were not caught up with."""
        return int(self._source.read(queries.MISSED_LATELY, (runs,))[0][0])

    # ------------------------------------------------------------------ sequences and the file

    def sequences(self) -> List[SequenceSummary]:
        """Every sequence that has runs, by name.

        It takes the same time however long the history is: states and times are counted over
        the latest 10,000 runs, shared out evenly between the sequences, at most 500 of each.
        """
        return self._source.snapshot(queries.summaries)

    def sequence(self, seq_id: str) -> SequenceSummary:
        """One sequence. Raises :class:`NotFound` if it has no runs."""
        faults: List[Fault] = []
        check_name("seq_id", seq_id, faults)
        refuse(faults)
        found = self._source.snapshot(lambda read: queries.summaries(read, seq_id))
        if not found:
            run_names.no_sequence(self._source.read, seq_id)
        return found[0]

    def size(self) -> StateSize:
        """Bytes that the database and its write-ahead log take."""
        return StateSize(*self._source.size())

    def integrity(self) -> List[str]:
        """What is wrong with the file, at most 100 lines; nothing, if it is sound. Reads all of it."""
        try:
            found = [str(row[0]) for row in self._source.read(queries.INTEGRITY)]
            broken = self._source.read(queries.FOREIGN_KEYS)
        except StateError as error:
            return [str(error)]
        return [line for line in found if line != "ok"] + [f"{row[0]}: row {row[1]} has no {row[2]}" for row in broken]

    def schema_version(self) -> int:
        """Version of the tables."""
        return int(self._source.read(queries.SCHEMA_VERSION)[0][0])

    # ------------------------------------------------------------------ inside

    def _of_run(self, run_id: str, ask: Callable[[Read, int, int, Definition], T]) -> T:
        """What ``ask(read, key, definition's key, definition)`` finds out about a run, all at one instant.

        A run that is resumed after its sequence changed gets another definition, and its steps other places.
        """
        checked = run_names.checked(run_id)

        def work(read: Read) -> Tuple[T, ...]:
            rows = read(queries.RUN_AND_DEFINITION, (checked,))
            return tuple(ask(read, key, version, self._definition(read, digest)) for key, version, digest in rows)

        found = self._source.snapshot(work)
        if not found:
            run_names.no_run(self._source.read, run_id)
        return found[0]

    def _definition(self, read: Read, digest: str) -> Definition:
        found = self._definitions.get(digest)
        if found is None:
            rows = read(queries.GRAPH, (digest,))
            found = Definition(rows[0][0])
            if len(self._definitions) >= CACHED_DEFINITIONS:
                self._definitions.clear()
            self._definitions[digest] = found
        return found

    def _log(self, row: Row) -> LogRecord:
        _, at, level, logger, message, run_id, seq_id, index, attempt, digest = row
        step = None if index is None else self._definition(self._source.read, digest).name(index)
        return LogRecord(at, level, logger, message, run_id, seq_id, step, attempt)

    def _steps(self, run_id: str, start: int, stop: Optional[int]) -> Tuple[List[StepRecord], int]:
        """The steps from ``start`` to before ``stop``, and how many there are in all."""

        def ask(read: Read, key: int, _: int, definition: Definition) -> Tuple[List[StepRecord], int]:
            total = len(definition.names)
            end = total if stop is None else min(stop, total)
            found = read(queries.STEPS, (step_key(key, start), step_key(key, end)))
            rows = {place_of(row[0]): row for row in found}
            return [step_of(definition, index, rows.get(index)) for index in range(start, end)], total

        return self._of_run(run_id, ask)

    def _place(
        self, run_id: Optional[str], seq_id: Optional[str], step: Optional[str]
    ) -> Tuple[Optional[int], Optional[List[Tuple[int, int]]]]:
        """Where lines are looked for: the run's key, and the step as pairs of definition and index."""
        if run_id is not None:
            key, version, definition = self._of_run(run_id, lambda read, *found: found)
            if seq_id is not None:
                run = self.find_run(run_id)
                if run.seq_id != seq_id:
                    raise NotFound(f"run {run_id} is of sequence '{run.seq_id}', not '{seq_id}'")
            return key, None if step is None else [(version, definition.index_of(step))]
        if step is None:
            return None, None
        versions = [
            (row[0], self._definition(self._source.read, row[1]))
            for row in self._source.read(queries.DEFINITIONS_OF_SEQUENCE, (seq_id,))
        ]
        found = [(version, definition.index_of(step)) for version, definition in versions if step in definition.names]
        if not found:
            known = versions[0][1].names if versions else ()
            raise NotFound(f"there is no step {shown(step)} in sequence '{seq_id}'{did_you_mean(step, known)}")
        return None, found
