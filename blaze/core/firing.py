"""Firing the ticks that are due: each exactly once, whichever process is quicker.

One transaction decides about a few due jobs from what is recorded at that instant, records
their runs and moves the jobs on; then the runs are started. Nothing here has a thread:
the ticker calls it.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from .do.run import Run
from .ground.context import RunInfo
from .ground.errors import BlazeError, Fault, StateError, ValidationError
from .ground.names import did_you_mean, new_run_id
from .ground.status import RunStatus
from .ground.ticks import Passed
from .recovering import plan_of, resume_own
from .remember import jobs
from .remember.jobs import DueJob, SkippedTicks, StoredJob
from .remember.recorder import NewRun
from .seq import BlazeSequence, Sequence
from .session import Session
from .what.plan import Plan
from .when.decisions import ALLOW, CATCHUPS, OVERLAPS, Decision, Start, Timing, decide, passed
from .when.schedule import Schedule

#: Jobs decided about in one transaction: bounds how long others wait for the write lock.
BATCH = 64
#: Jobs kept at hand with their plans.
PREPARED = 4096


class Prepared(NamedTuple):
    """A stored job with what is needed to fire it."""

    job: StoredJob
    timing: Timing
    plan: Plan
    #: What the plan was made of.
    sequence: Sequence[Any, Any]
    version: int


class Fired(NamedTuple):
    """A tick that got a run, which is not started yet."""

    prepared: Prepared
    run: NewRun
    key: int


class Batch:
    """What one transaction did."""

    def __init__(self) -> None:
        self.fired: List[Fired] = []
        self.skipped: List[SkippedTicks] = []
        #: Due jobs that have to be prepared first.
        self.strange: List[DueJob] = []
        #: Whether runs that go on were asked to stop.
        self.cancels = False
        #: Whether more jobs may be due.
        self.more = False


def timing_of(job: StoredJob) -> Timing:
    """When a stored job fires. Raises :class:`ValidationError` if that can't be read."""
    for name, value, fits in (
        ("catchup", job.catchup, job.catchup in CATCHUPS),
        ("overlap", job.overlap, job.overlap in OVERLAPS),
        ("priority", job.priority, isinstance(job.priority, int)),
        ("end_at", job.end_at, job.end_at is None or isinstance(job.end_at, (int, float))),
    ):
        if not fits:
            raise ValidationError([Fault(f"job '{job.job_id}'", f"its row is damaged: {name} is {value!r:.80}")])
    schedule = None if job.interval is None else Schedule.parse(job.interval, job.timezone)
    return Timing(schedule, job.end_at, job.catchup, job.overlap)


def passed_until(now: float) -> Callable[[StoredJob], Optional[Passed]]:
    """A function that tells which ticks of a stored job have passed ``now``."""

    def ticks(job: StoredJob) -> Optional[Passed]:
        return None if job.next_at is None else passed(timing_of(job), job.next_at, now)

    return ticks


class Firing:
    """Fires the jobs of one session whose sequences are known here."""

    def __init__(self, session: Session, sequences: BlazeSequence, grace: float) -> None:
        self._session = session
        self._sequences = sequences
        self._grace = grace
        self._prepared: Dict[int, Prepared] = {}
        #: Jobs in whose queue runs wait: the end of one of their runs is the turn of the next.
        self.queues: Set[str] = set()

    def knows(self, seq_id: str) -> bool:
        """Whether this process has the sequence."""
        return seq_id in self._sequences

    def next_due(self) -> Optional[float]:
        """When the next tick is due, in epoch seconds."""
        return jobs.next_due(self._session.journal, self.knows)

    def fire(self, now: float) -> Batch:
        """Fire some of what is due ``now``. Raises :class:`StateError` if nothing can be written: nothing is lost."""
        batch = Batch()
        self._session.journal.transaction(lambda cursor: self._decide(cursor, now, batch))
        return batch

    def start(self, fired: Fired) -> Optional[Run]:
        """Start the run of a tick; None if it waits in its job's queue."""
        if fired.run.owner is None:
            return None
        run, plan = fired.run, fired.prepared.plan
        info = RunInfo(run.run_id, run.seq_id, run.scheduled_at, run.job_id)
        made = self._session.engine.make_run(plan, info, run.created_at, run.deadline, fired.key)
        self._session.engine.begin(made)
        return made

    def start_queued(self) -> None:
        """Start the runs whose turn it is in the queues of their jobs."""
        # First of all: of a run that ends from here on it is told that it may be the turn of another.
        self.queues = jobs.queues(self._session.journal)
        taken = jobs.take_queued(self._session.journal, self._session.instance_id, self.knows, self._deadline)
        resume_own(self._session, self._sequences, taken)

    def _deadline(self, seq_id: str) -> Optional[float]:
        """Until when a run may last that begins now."""
        limit = self._sequences[seq_id].definition.run_timeout
        return None if limit is None else self._session.clock.time() + limit

    # ------------------------------------------------------------------ inside the transaction

    def _decide(self, cursor: sqlite3.Cursor, now: float, batch: Batch) -> None:
        due = jobs.due_jobs(cursor, now, BATCH, self.knows)
        batch.more = len(due) == BATCH
        ready: List[Tuple[DueJob, Prepared]] = []
        for job in due:
            prepared = self._prepared.get(job.key)
            if prepared is None or prepared.job.version != job.version or not self._is_current(prepared):
                batch.strange.append(job)
            elif not batch.strange:  # behind one that has to be prepared first, its turn comes next time
                ready.append((job, prepared))
        batch.more |= bool(batch.strange)
        careful = [prepared.job.job_id for _, prepared in ready if prepared.timing.overlap != ALLOW]
        open_runs = jobs.open_runs(cursor, careful)
        moves: List[Tuple[int, Optional[float]]] = []
        for job, prepared in ready:
            running, queued = open_runs.get(prepared.job.job_id, (0, 0))
            decision = decide(prepared.timing, job.next_at, now, running, queued, self._grace)
            if decision is not None:
                self._carry_out(cursor, prepared, decision, now, batch)
                moves.append((job.key, decision.next_at))
        jobs.insert_skipped(cursor, batch.skipped, now)
        jobs.move(cursor, moves)

    def _carry_out(
        self, cursor: sqlite3.Cursor, prepared: Prepared, decision: Decision, now: float, batch: Batch
    ) -> None:
        job = prepared.job
        batch.skipped += [
            SkippedTicks(new_run_id(), job.job_id, job.seq_id, skip.reason, skip.number, skip.first, skip.last)
            for skip in decision.skips
        ]
        if decision.cancels:
            jobs.cancel_runs(cursor, job.job_id, "overlap", now)
            batch.cancels = True
        for start in decision.starts:
            run = self._new_run(prepared, start, now)
            if start.queued:
                self.queues.add(job.job_id)  # before the commit: from then on a run that ends may be its turn
            key = jobs.fire(cursor, run)
            if key is not None:
                batch.fired.append(Fired(prepared, run, key))

    def _new_run(self, prepared: Prepared, start: Start, now: float) -> NewRun:
        job, plan = prepared.job, prepared.plan
        return NewRun(
            new_run_id(),
            job.seq_id,
            plan.definition,
            plan.digest,
            job.parameters,
            now,
            None if start.queued else plan.deadline(now),
            None if start.queued else self._session.instance_id,
            len(plan.steps),
            job.job_id,
            start.at,
            reason=jobs.QUEUED if start.queued else None,
        )

    # ------------------------------------------------------------------ preparing

    def get_ready(self, strange: List[DueJob]) -> None:
        """Have due jobs at hand the next time; those that can't be fired are BROKEN."""
        for due in strange:
            for job in jobs.load_jobs(self._session.journal, [due.key]):
                try:
                    prepared = self.prepare(job)
                except StateError:
                    raise
                except Exception as error:  # checks of the user's own raise what they like
                    self._break(due, error)
                    continue
                if len(self._prepared) >= PREPARED:
                    self._prepared.clear()
                self._prepared[job.key] = prepared

    def _break(self, due: DueJob, error: Exception) -> None:
        told = str(error) if isinstance(error, BlazeError) else f"{type(error).__name__}: {error}"
        if jobs.break_job(self._session.journal, due, told):
            self._session.logger.error("job of sequence '%s' is BROKEN: %s", due.seq_id, told)

    def prepare(self, job: StoredJob) -> Prepared:
        """What is needed to fire a job. Raises :class:`ValidationError`."""
        sequence = self._sequences[job.seq_id]
        version = sequence.version
        plan = plan_of(self._session, self._sequences, job.seq_id, job.parameters)
        return Prepared(job, timing_of(job), plan, sequence, version)

    def _is_current(self, prepared: Prepared) -> bool:
        """Whether its sequence is declared as it was then."""
        sequence = prepared.sequence
        return sequence is self._sequences.get(sequence.seq_id) and sequence.version == prepared.version

    def break_unknown(self, before: float) -> None:
        """Park the jobs that were due ``before`` an instant, and whose sequence nobody seems to have."""
        for due in jobs.unknown_due(self._session.journal, before, self.knows):
            near = did_you_mean(due.seq_id, self._sequences)
            text = f"no scheduler that runs has the sequence '{due.seq_id}'{near}"
            if jobs.break_job(self._session.journal, due, text):
                self._session.logger.error("a job is BROKEN: %s", text)

    def mend(self) -> None:
        """Let parked jobs fire again that nothing is wrong with any more."""
        for job in jobs.broken_jobs(self._session.journal):
            if not self.knows(job.seq_id):
                continue
            try:
                self.prepare(job)
            except StateError:
                raise
            except Exception:  # it says of itself what is wrong with it
                continue
            jobs.mend_job(self._session.journal, job.key)
            self._session.logger.info("job '%s' is ACTIVE again", job.job_id)

    def give_up(self, fired: Fired, error: Exception) -> None:
        """A recorded run could not be started: end it, so that it does not stay open for ever."""
        self._session.logger.error("run %s of '%s' could not be started: %s", fired.run.run_id, fired.run.seq_id, error)
        self._session.recorder.end_by_rule(
            fired.key, RunStatus.FAILED, "internal_error", str(error), fired.run.created_at
        )
        self._session.engine.flush()


__all__ = ["Batch", "Fired", "Firing", "passed_until", "timing_of"]
