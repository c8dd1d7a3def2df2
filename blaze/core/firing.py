"""Firing the ticks that are due: each exactly once, whichever process is quicker.

One transaction decides about a few due jobs from what is recorded at that instant, records
their runs and moves the jobs on; then the runs are started. Nothing here has a thread:
the ticker calls it.
"""

from __future__ import annotations

import math
import sqlite3
from collections import deque
from typing import Any, Deque, Dict, List, NamedTuple, Optional, Set, Tuple

from .do.end_by_rule import EndByRule
from .do.run import Run
from .ground.context import RunInfo
from .ground.errors import BlazeError, Fault, StateError, ValidationError
from .ground.names import did_you_mean, new_run_id
from .ground.status import RunStatus
from .ground.ticks import Passed, Recorded
from .recovering import plan_of, resume_own
from .remember import jobs, ticks
from .remember.ends import EndedRun
from .remember.jobs import StoredJob
from .remember.recorder import NewRun, insert_runs
from .remember.ticks import DueJob, SkippedTicks
from .seq import BlazeSequence, Sequence
from .session import Session
from .what.plan import Plan
from .when.decisions import ALLOW, CATCHUPS, OVERLAPS, Decision, Skip, Start, Timing, decide, passed, unrecorded
from .when.schedule import Schedule

#: Jobs decided about in one transaction: bounds how long others wait for the write lock.
BATCH = 256
#: Ticks at one instant that are worth preparing for.
MANY = 8
#: Seconds by which a tick may be late and still be fired as it was prepared beforehand.
FORESIGHT = 0.5
#: Real seconds that firing takes at most, as a rule: in any case, and more for each tick.
FIRING, FIRING_EACH = 0.001, 0.000025
#: Seconds for which a run whose turn it is, and that can't be run here, is left to other schedulers.
TURN_LEFT_FOR = 60.0
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


class Planned(NamedTuple):
    """A run that a tick is to get; ``made``: the engine's, if it was made beforehand."""

    prepared: Prepared
    run: NewRun
    made: Optional[Run] = None


class Foreseen(NamedTuple):
    """What becomes of a tick that is not due yet, unless something changes until then."""

    due: DueJob
    next_at: Optional[float]
    planned: Planned

    def holds(self, due: DueJob, now: float) -> bool:
        """Whether it has come as foreseen."""
        in_time = now - due.next_at <= FORESIGHT
        return in_time and self.due == due and (self.next_at is None or self.next_at > now)


class _TooEarly(Exception):
    """The clock was set back while the instant was waited for: nothing was fired."""


class Unfit(NamedTuple):
    """A job that can't be fired with the sequences that this process has."""

    #: Of the job, and of its sequence here.
    version: int
    declared: int
    why: str


class Batch:
    """What one transaction did."""

    def __init__(self) -> None:
        #: The instant at which it was decided, in epoch seconds: when the write lock had been taken.
        self.at = 0.0
        #: Whether all ticks are held back: nothing was fired.
        self.paused = False
        #: Runs that are to be recorded.
        self.planned: List[Planned] = []
        #: Those that were, with their keys.
        self.fired: List[Tuple[Planned, int]] = []
        self.skipped: List[SkippedTicks] = []
        #: Runs that were cancelled in queues.
        self.ended: List[EndedRun] = []
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


def _is_readable(job: StoredJob) -> bool:
    try:
        timing_of(job)
    except ValidationError:
        return False
    return True


class PassedUntil:
    """Tells which ticks of stored jobs have passed an instant."""

    def __init__(self, now: float) -> None:
        self._now = now

    def of(self, job: StoredJob) -> Optional[Passed]:
        """Those of one job, or None. Raises :class:`ValidationError` if its row can't be read."""
        return None if job.next_at is None else passed(timing_of(job), job.next_at, self._now)

    def unrecorded(self, job: StoredJob, stretch: Passed, recorded: Recorded) -> List[Passed]:
        """What is left of a stretch without those that are recorded already."""
        return unrecorded(timing_of(job).schedule, stretch, recorded) if recorded else [stretch]


class Firing:
    """Fires the jobs of one session whose sequences are known here."""

    def __init__(self, session: Session, sequences: BlazeSequence, grace: float) -> None:
        self._session = session
        self._sequences = sequences
        self._grace = grace
        self._prepared: Dict[int, Prepared] = {}
        self._foreseen: Dict[int, Foreseen] = {}
        #: Runs out of queues that are ours and not started yet.
        self._taken: Deque[str] = deque()
        #: Jobs that are left to other schedulers, whose sequences may be others.
        self._unfit: Dict[int, Unfit] = {}
        #: Due jobs that are left to others, and for how many seconds they have been seen so.
        self._unknown: Dict[DueJob, float] = {}
        #: Runs in queues that are left to others, and since when, in monotonic seconds.
        self._left: Dict[str, float] = {}
        #: Parked jobs, with the versions in which they could not be mended.
        self._hopeless: Set[Tuple[int, int]] = set()
        #: Jobs in whose queue runs wait: the end of one of their runs is the turn of the next.
        self.queues: Set[str] = set()

    def knows(self, seq_id: str) -> bool:
        """Whether this process has the sequence."""
        return seq_id in self._sequences

    def claims(self, key: int, seq_id: str) -> bool:
        """Whether the ticks of a job are fired here, if nobody else is quicker."""
        if seq_id not in self._sequences:
            return False
        unfit = self._unfit.get(key)
        return unfit is None or unfit.declared != self._sequences[seq_id].version

    def next_due(self) -> Tuple[Optional[float], bool]:
        """When the next tick is due, in epoch seconds, and whether many are at that instant."""
        return ticks.next_due(self._session.journal, self.claims, MANY)

    def foresee(self, tick: float) -> None:
        """Prepare what will be due at an instant, so that less is left to do then.

        What is prepared is of use only if nothing has changed when the time has come.
        """
        self._foreseen.clear()
        for due in ticks.due_until(self._session.journal, tick, BATCH, self.claims):
            prepared = self._prepared.get(due.key)
            if prepared is None or prepared.job.version != due.version:
                self.get_ready([due])
                prepared = self._prepared.get(due.key)
            if prepared is not None and due.next_at == tick:
                decision = decide(prepared.timing, tick, tick, 0, 0, self._grace)
                if decision is not None and len(decision.starts) == 1:
                    run = self._new_run(prepared, decision.starts[0], tick)
                    planned = Planned(prepared, run, self._make(prepared, run))
                    self._foreseen[due.key] = Foreseen(due, decision.next_at, planned)

    @property
    def effort(self) -> float:
        """Seconds that it takes to fire what was foreseen."""
        return FIRING + FIRING_EACH * len(self._foreseen)

    def fire(self, tick: float = -math.inf) -> Batch:
        """Claim some of what is due. Raises :class:`StateError` if nothing can be written: nothing is lost.

        :param tick: an instant that is about to come. What is due then is claimed under the write
            lock by the time it comes, and committed when it has: nobody can change anything in between.
        """
        batch = Batch()
        try:
            self._session.journal.transaction(lambda cursor: self._decide(cursor, batch, tick))
        except _TooEarly:
            return Batch()
        finally:
            self._foreseen.clear()
        return batch

    def start(self, batch: Batch) -> List[Run]:
        """Start the runs of ticks, but for those that wait in their jobs' queues."""
        engine = self._session.engine
        started: List[Run] = []
        for planned, key in batch.fired:
            if planned.run.owner is None:
                continue
            try:
                made = planned.made or self._make(planned.prepared, planned.run)
            except Exception as error:
                self._give_up(planned.run, key, error)
                continue
            made.key = key
            started.append(made)
        engine.begin_all(started)
        return started

    def _make(self, prepared: Prepared, run: NewRun) -> Run:
        info = RunInfo(run.run_id, run.seq_id, run.scheduled_at, run.job_id)
        return self._session.engine.make_run(prepared.plan, info, run.created_at, run.deadline)

    def start_queued(self) -> None:
        """Start the runs whose turn it is in the queues of their jobs."""
        # First of all: of a run that ends from here on it is told that it may be the turn of another.
        self.queues = ticks.queues(self._session.journal)
        self._taken += ticks.take_queued(self._session.journal, self._session.instance_id, self._takes, self._deadline)
        self.go_on()

    def _takes(self, run_id: str, seq_id: str, parameters: Optional[str]) -> bool:
        """Whether a run is taken out of its queue: if it can be run here, or nobody else does."""
        if not self.knows(seq_id):
            return False
        try:
            plan_of(self._session, self._sequences, seq_id, parameters)
        except StateError:
            raise
        except Exception:  # checks of the user's own raise what they like
            now = self._session.clock.monotonic()
            since = self._left.setdefault(run_id, now)
            if now - since < TURN_LEFT_FOR and not self._session.is_alone():
                return False
        self._left.pop(run_id, None)
        return True

    def go_on(self) -> None:
        """Start the runs that are ours already, and that an error kept from being started."""
        if self._taken or self._session.adopted:
            resume_own(self._session, self._sequences, self._taken)

    def _deadline(self, seq_id: str) -> Optional[float]:
        """Until when a run may last that begins now."""
        limit = self._sequences[seq_id].definition.run_timeout
        return None if limit is None else self._session.clock.time() + limit

    # ------------------------------------------------------------------ inside the transaction

    def _decide(self, cursor: sqlite3.Cursor, batch: Batch, tick: float) -> None:
        # Not before: the lock may have been waited for.
        clock = self._session.clock
        now = batch.at = max(tick, clock.time())
        batch.paused = ticks.holds(cursor)
        if batch.paused:
            return
        due = ticks.due_jobs(cursor, now, BATCH, self.claims)
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
        open_runs = ticks.open_runs(cursor, careful)
        repeats = self._that_repeat(cursor, ready)
        moves: List[Tuple[int, Optional[float]]] = []
        for job, prepared in ready:
            open_of_job = open_runs.get(prepared.job.job_id)
            foreseen = self._foreseen.get(job.key)
            repeated = prepared.job.job_id in repeats
            if foreseen is not None and open_of_job is None and not repeated and foreseen.holds(job, now):
                batch.planned.append(foreseen.planned)
                moves.append((job.key, foreseen.next_at))
                continue
            running, queued = open_of_job or (0, 0)
            decision = decide(prepared.timing, job.next_at, now, running, queued, self._grace)
            if decision is not None:
                if repeated:
                    decision = self._without_recorded(cursor, prepared, decision)
                self._carry_out(cursor, prepared, decision, now, batch)
                moves.append((job.key, decision.next_at))
        keys = insert_runs(cursor, [planned.run for planned in batch.planned])
        batch.fired = [(planned, key) for planned, key in zip(batch.planned, keys) if key is not None]
        ticks.insert_skipped(cursor, batch.skipped, now)
        ticks.move(cursor, moves)
        if moves and not clock.sleep_until(tick, 2 * self.effort):
            raise _TooEarly

    @staticmethod
    def _that_repeat(cursor: sqlite3.Cursor, ready: List[Tuple[DueJob, Prepared]]) -> Set[str]:
        """The jobs some of whose due ticks may be recorded already: the clock was set back, and they were submitted."""
        if not ready:
            return set()
        earliest = min(job.next_at for job, _ in ready)
        return ticks.with_later_ticks(cursor, [prepared.job.job_id for _, prepared in ready], earliest)

    @staticmethod
    def _without_recorded(cursor: sqlite3.Cursor, prepared: Prepared, decision: Decision) -> Decision:
        """What is left to do about ticks of which some are recorded already."""
        job_id, schedule = prepared.job.job_id, prepared.timing.schedule
        starts = tuple(start for start in decision.starts if not ticks.recorded(cursor, job_id, start.at, start.at))
        skips = tuple(
            Skip(skip.reason, *left[:3])
            for skip in decision.skips
            for left in unrecorded(schedule, Passed(*skip[1:]), ticks.recorded(cursor, job_id, skip.first, skip.last))
        )
        return decision._replace(starts=starts, skips=skips, cancels=decision.cancels and bool(starts))

    def _carry_out(
        self, cursor: sqlite3.Cursor, prepared: Prepared, decision: Decision, now: float, batch: Batch
    ) -> None:
        job = prepared.job
        batch.skipped += [
            SkippedTicks(new_run_id(), job.job_id, job.seq_id, skip.reason, skip.number, skip.first, skip.last)
            for skip in decision.skips
        ]
        if decision.cancels:
            batch.ended += ticks.cancel_runs(cursor, job.job_id, decision.starts[0].at, "overlap", now)
            batch.cancels = True
        for start in decision.starts:
            run = self._new_run(prepared, start, now)
            if start.queued:
                self.queues.add(job.job_id)  # before the commit: from then on a run that ends may be its turn
            batch.planned.append(Planned(prepared, run))

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
            reason=ticks.QUEUED if start.queued else None,
        )

    # ------------------------------------------------------------------ preparing

    def get_ready(self, strange: List[DueJob]) -> None:
        """Have due jobs at hand the next time; those that can't be fired are left to others, or BROKEN."""
        for due in strange:
            for job in jobs.load_jobs(self._session.journal, [due.key]):
                try:
                    prepared = self.prepare(job)
                except StateError:
                    raise
                except Exception as error:  # checks of the user's own raise what they like
                    self._leave(due, job, error)
                    continue
                self._unfit.pop(due.key, None)
                if len(self._prepared) >= PREPARED:
                    self._prepared.clear()
                self._prepared[job.key] = prepared

    def _leave(self, due: DueJob, job: StoredJob, error: Exception) -> None:
        """A job can't be fired here; with the sequences of another scheduler it may be, unless its row is damaged."""
        told = str(error) if isinstance(error, BlazeError) else f"{type(error).__name__}: {error}"
        if self._session.is_alone() or not _is_readable(job):
            self._break(due, told)
            return
        self._unfit[due.key] = Unfit(due.version, self._sequences[due.seq_id].version, told)
        self._session.logger.warning(
            "job '%s' is left to other schedulers, it can't be fired here: %s", job.job_id, told
        )

    def _break(self, due: DueJob, told: str) -> None:
        if jobs.break_job(self._session.journal, due, told):
            self._session.logger.error("a job of sequence '%s' is BROKEN: %s", due.seq_id, told)

    def jobs_changed(self) -> None:
        """Jobs that could not be fired here may be others now."""
        if self._unfit:
            versions = {job.key: job.version for job in jobs.load_jobs(self._session.journal, list(self._unfit))}
            self._unfit = {key: unfit for key, unfit in self._unfit.items() if versions.get(key) == unfit.version}

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

    def break_unknown(self, passed: float, patience: float) -> None:
        """Park the jobs that were seen to be due for ``patience`` seconds, and that nobody seems to be able to fire.

        ``passed``: seconds since the last look, of which only those count in which others could have
        fired them too. How late a tick is says nothing: clocks jump, and machines sleep.
        """
        now = self._session.clock.time()
        found = ticks.left_due(self._session.journal, now, self.claims)
        self._unknown = {due: self._unknown[due] + passed if due in self._unknown else 0.0 for due in found}
        for due, seconds in self._unknown.items():
            if seconds < patience:
                continue
            unfit, near = self._unfit.get(due.key), did_you_mean(due.seq_id, self._sequences)
            self._break(due, unfit.why if unfit else f"no scheduler that runs has the sequence '{due.seq_id}'{near}")

    def reconsider(self) -> None:
        """The sequences are others: what was hopeless with the old ones may be well with these."""
        self._foreseen.clear()
        self._hopeless.clear()
        self._unfit.clear()
        self.mend()

    def mend(self) -> None:
        """Let parked jobs fire again that nothing is wrong with any more."""
        for job in jobs.broken_jobs(self._session.journal):
            if not self.knows(job.seq_id) or (job.key, job.version) in self._hopeless:
                continue
            try:
                self.prepare(job)
            except StateError:
                raise
            except Exception:  # it says of itself what is wrong with it
                self._hopeless.add((job.key, job.version))
                continue
            jobs.mend_job(self._session.journal, job.key)
            self._session.logger.info("job '%s' is ACTIVE again", job.job_id)

    def _give_up(self, run: NewRun, key: int, error: Exception) -> None:
        """A recorded run could not be started: end it, so that it does not stay open for ever."""
        self._session.logger.error("run %s of '%s' could not be started: %s", run.run_id, run.seq_id, error)
        info = RunInfo(run.run_id, run.seq_id, run.scheduled_at, run.job_id)
        EndByRule(self._session.engine, info, RunStatus.FAILED, "internal_error", str(error), run.created_at).record(
            key
        )


__all__ = ["Batch", "Firing", "PassedUntil", "timing_of"]
