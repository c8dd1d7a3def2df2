"""`Blaze`: runs sequences durably, keeps their history, resumes what a crash interrupted."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Iterable,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Type,
    Union,
    overload,
)

from .block import BlazeBlock
from .ground.clock import Clock
from .ground.errors import BlazeError, NotFound
from .lifetimes import drop, remember
from .seq import BlazeSequence, SubmitSequenceData

# What runs and records is imported when a scheduler is first used: a program that only
# declares blocks and sequences, or asks for --help, does not pay for it.
if TYPE_CHECKING:
    from concurrent.futures import Executor

    from .do.events import Herald, RunEvent, SkipEvent, StepEvent
    from .do.probe import Probe
    from .do.result import RunHandle, RunResult
    from .logger import BlazeLogger
    from .remember.records import JobRecord
    from .remember.retention import Retention
    from .session import Session
    from .state import StateManager
    from .status_report import Health, StatusReport
    from .what.declarations import Parameters
    from .what.plan import Plan

__all__ = ["Blaze"]


class Blaze:
    """A scheduler in this process, with its state in one directory.

    ::

        with Blaze(sequences=sequences, state_dir="./state") as scheduler:
            result = scheduler.run("etl", {"fetch": {"limit": 500}}).raise_for_status()

    :param blaze_blocks: the registry of blocks; sequences know theirs, so it may be left out.
    :param sequences: the registry of sequences.
    :param logger: where the lines go; default: files below ``state_dir/log``, nothing on the console.
    :param max_workers: steps at a time.
    :param auto_start: start at once.
    :param loop_interval: seconds between two looks at what other processes changed.
    :param state_dir: made if it is missing (mode 0700); on a local disk.
    :param durability: ``"process"`` survives kill -9 at any instant, ``"power"`` also a power
        cut, ``"memory"`` nothing.
    :param clock: another source of time, for tests.
    :param executors: ``concurrent.futures`` executors for blocks that name one.
    :param name: what the instance is called; a unique tail is added.
    :param grace: seconds that running blocks have to end at ``stop()``.
    :param keep_outputs: False lets every output go when the last step that refers to it has
        ended; the finaliser and ``RunResult.outputs`` then find nothing.
    :param max_recoveries: how often a run is taken over from a dead process before it is FAILED.
    :param misfire_grace: seconds by which a tick may be late and still count as in time: it is
        not caught up with, but fired as if nothing had been.
    :param retention: how much history is kept.
    :param on_run_start, on_run_end, on_step_end, on_retry, on_skip, on_late: called once
        when a run starts or ends, a step ends, an attempt failed and is to be repeated, ticks
        are skipped, a tick is fired later than ``misfire_grace``. They are called in a thread of
        their own and change no run, whatever they raise. The end of a run that no process has in
        hand (it waits in a queue, or died too often) is told by whoever brings it about, without
        its steps. See :class:`RunEvent`, :class:`StepEvent` and :class:`SkipEvent`.
    :param probe: breaks things on purpose, for tests; see ``blaze.testing.Faults``.

    Making one has no side effects; what it needs is opened at the first ``start()``,
    ``run()`` or ``trigger()``. Safe to use from several threads, and after ``fork``: the
    child opens its own.

    Raises :class:`ValidationError` for arguments that are not valid.
    """

    def __init__(
        self,
        blaze_blocks: Optional[BlazeBlock] = None,
        sequences: Optional[BlazeSequence] = None,
        logger: Optional[BlazeLogger] = None,
        max_workers: int = 8,
        auto_start: bool = False,
        loop_interval: float = 5,
        state_dir: Union[str, os.PathLike[str]] = "./state",
        durability: str = "process",
        clock: Optional[Clock] = None,
        executors: Optional[Mapping[str, Executor]] = None,
        *,
        name: Optional[str] = None,
        grace: float = 10.0,
        keep_outputs: bool = True,
        max_recoveries: int = 5,
        misfire_grace: float = 5.0,
        retention: Optional[Retention] = None,
        on_run_start: Optional[Callable[[RunEvent], None]] = None,
        on_run_end: Optional[Callable[[RunEvent], None]] = None,
        on_step_end: Optional[Callable[[StepEvent], None]] = None,
        on_retry: Optional[Callable[[StepEvent], None]] = None,
        on_skip: Optional[Callable[[SkipEvent], None]] = None,
        on_late: Optional[Callable[[RunEvent], None]] = None,
        probe: Optional[Probe] = None,
    ) -> None:
        from .scheduler_arguments import check_arguments

        hooks = {
            "on_run_start": on_run_start,
            "on_run_end": on_run_end,
            "on_step_end": on_step_end,
            "on_retry": on_retry,
            "on_skip": on_skip,
            "on_late": on_late,
        }
        check_arguments(
            blocks=blaze_blocks, sequences=sequences, logger=logger, max_workers=max_workers, auto_start=auto_start,
            loop_interval=loop_interval, state_dir=state_dir, durability=durability, clock=clock, executors=executors,
            name=name, grace=grace, keep_outputs=keep_outputs, max_recoveries=max_recoveries,
            misfire_grace=misfire_grace, retention=retention, hooks=hooks,
        )  # fmt: skip
        self.blocks = blaze_blocks if blaze_blocks is not None else BlazeBlock()
        self.sequences = sequences if sequences is not None else BlazeSequence()
        self.durability = durability
        self.state_dir = Path(os.fspath(state_dir)).absolute()
        self.max_workers = max_workers
        self.loop_interval = loop_interval
        self.grace = grace
        self.max_recoveries = max_recoveries
        self._clock = clock or Clock()
        self._executors = dict(executors or {})
        self._logger = logger
        self._name = name
        self._keep_outputs = keep_outputs
        self._retention = retention
        self._misfire_grace = misfire_grace
        self._probe = probe
        self._hooks = {name: hook for name, hook in hooks.items() if hook is not None}
        self._lock = threading.RLock()
        self._session: Optional[Session] = None
        self._recovered: List[RunHandle] = []
        self._started = False
        self._stopped = False
        if auto_start:
            self.start()

    # ------------------------------------------------------------------ life

    def start(self) -> Blaze:
        """Start: take over what a crash or a stop left behind, and fire ticks from now on. Returns at once.

        Sequences with ``auto_start`` are scheduled, those without an interval run once. On a
        started scheduler it does nothing. Raises :class:`StateError` if the state can't be
        used; called again, it goes on with what is left to take over.
        """
        with self._lock:
            if self._started:
                return self
            self._stopped = False
            session = self._open()
            self._recovered = session.recovered
            if session.has_left_overs():
                from .recovering import recover

                recover(session, self.sequences, self.max_recoveries, session.recovered)
            self._start_ticker(session)
            self._started = True
        return self

    def _start_ticker(self, session: Session) -> None:
        from .ticking import Ticker

        automatic = [sequence for sequence in self.sequences.values() if sequence.auto_start]
        if automatic:
            from .jobs import start_automatically

            start_automatically(session, self.sequences, automatic)
        session.ticker = Ticker(
            session,
            self.sequences,
            loop_interval=self.loop_interval,
            misfire_grace=self._misfire_grace,
            max_recoveries=self.max_recoveries,
        )
        session.ticker.start(at_once=bool(session.journal.read("SELECT 1 FROM jobs LIMIT 1")))

    def stop(self, shutdown: bool = False, grace: Optional[float] = None) -> None:
        """Stop. Nothing further starts; running blocks have ``grace`` seconds; the rest is resumed at the next start.

        ``shutdown=True`` then clears jobs and history: the state file is moved to
        ``archive/`` in the state directory. Safe to call twice, and from inside a block.
        """
        # Before the lock: a block that asks for something meanwhile is refused, not kept waiting.
        self._stopped = True
        with self._lock:
            session, self._session = self._session, None
            was_open = session is not None
            self._started = False
            if session is not None:
                session.close(self.grace if grace is None else grace)
                drop(self)
            if shutdown and self.durability != "memory":
                from .remember.archive import archive_state
                from .remember.database import FILE_NAME

                if was_open or (self.state_dir / FILE_NAME).exists():
                    archive_state(self.state_dir)

    def drain(self, give_up: Callable[[], bool]) -> bool:
        """Fire no further tick and wait until the runs at hand have ended; whether they have.

        :param give_up: called again and again; waits an instant, and says whether to wait no longer.

        What waits in the queues of jobs is left to the next start. Call :meth:`stop` next.
        """
        session = self._open()
        if session.ticker is not None:
            session.ticker.close()
        while session.engine.runs:
            if give_up():
                return False
        return True

    def redefine(self, sequences: BlazeSequence) -> None:
        """Go on with the sequences of another registry instead. Runs at hand end as they began.

        Jobs fire by the new sequences from now on; BROKEN ones that the new sequences mend
        are ACTIVE again. Sequences with ``auto_start`` are scheduled as by :meth:`start`,
        but those without an interval run only if they were not there before.
        """
        with self._lock:
            known = frozenset(self.sequences)
            self.sequences.become(sequences)
            if self._session is not None and self._started:
                from .jobs import start_anew

                start_anew(self._session, self.sequences, known)

    def __enter__(self) -> Blaze:
        return self.start()

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.stop()

    @property
    def executors(self) -> List[str]:
        """The names of the executors that blocks may ask for, besides those that are always there."""
        return list(self._executors)

    @property
    def started(self) -> bool:
        """Whether it has been started and not stopped."""
        return self._started

    @property
    def instance_id(self) -> Optional[str]:
        """The readable, unique name of this scheduler while it is open."""
        return self._session.instance_id if self._session else None

    def pause(self) -> None:
        """Start no further tick and no further step until :meth:`resume`, also after a restart. Running blocks go on.

        It holds for all schedulers on this state directory; the others notice within ``loop_interval``.
        """
        from .remember import jobs

        session = self._open()
        jobs.pause_all(session.journal, session.clock.time())
        self._hold(session, True)

    def resume(self) -> None:
        """Go on after :meth:`pause`. Ticks that passed meanwhile are skipped, and recorded as such."""
        from .firing import PassedUntil
        from .remember import jobs

        session = self._open()
        now = session.clock.time()
        session.tell_skipped(jobs.resume_all(session.journal, now, PassedUntil(now)))
        self._hold(session, False)

    def _hold(self, session: Session, held: bool) -> None:
        session.engine.pool.hold(held)
        if session.ticker is not None:
            session.ticker.paused = held
            session.ticker.look()  # it may be about to act on what it has read before

    # ------------------------------------------------------------------ jobs

    @overload
    def submit(self, data: SubmitSequenceData) -> JobRecord: ...

    @overload
    def submit(self, data: Iterable[SubmitSequenceData]) -> List[JobRecord]: ...

    def submit(self, data: Union[SubmitSequenceData, Iterable[SubmitSequenceData]]) -> Any:
        """Store a job, or several of which all or none are stored, and fire its ticks from now on.

        A job replaces the one with its ``job_id``, whose history and pause stay; its first
        tick is the next one in the future. Ticks of the replaced job that are overdue by then,
        also of one that is submitted again unchanged, are not caught up with: they are
        recorded as skipped (``resubmitted``); what was due at :meth:`start` has been caught up with
        before. It is stored when this returns, and outlives the scheduler.

        Raises :class:`ValidationError` with every fault before anything is stored, and
        :class:`StateError` if it can't be.
        """
        from .jobs import submit

        session = self._open()
        if session.ticker is not None:
            session.ticker.catch_up()  # first what the start found, or it would depend on who is quicker
        records, skipped = submit(session, self.sequences, data)
        session.tell_skipped(skipped)
        _wake(session)
        return records[0] if isinstance(data, SubmitSequenceData) else records

    def pause_job(self, job_id: str) -> bool:
        """Hold a job's ticks back until :meth:`resume_job`; whether they were not. Its runs go on.

        Raises :class:`NotFound`.
        """
        from .remember import jobs

        session = self._open()
        changed = jobs.pause_job(session.journal, job_id)
        _wake(session)
        return changed

    def resume_job(self, job_id: str) -> bool:
        """Let a paused job fire again from its next tick on; whether it was paused, or BROKEN and is mended.

        Ticks that passed meanwhile are skipped, and recorded as such. Raises
        :class:`NotFound`, and :class:`ValidationError` for a BROKEN job that still is.
        """
        from .jobs import resume

        session = self._open()
        changed, skipped = resume(session, self.sequences, job_id)
        session.tell_skipped(skipped)
        _wake(session)
        return changed

    def remove_job(self, job_id: str) -> None:
        """Forget a job. Its history stays and its runs go on; those that wait in its queue are cancelled.

        Raises :class:`NotFound`.
        """
        from .remember import jobs

        session = self._open()
        session.tell_ended(jobs.remove_job(session.journal, job_id, session.clock.time()))
        _wake(session)

    def clear_jobs(self) -> int:
        """Forget all jobs; how many there were. History stays."""
        from .remember import jobs

        session = self._open()
        number, ended = jobs.clear_jobs(session.journal, session.clock.time())
        session.tell_ended(ended)
        _wake(session)
        return number

    @property
    def jobs(self) -> List[JobRecord]:
        """All jobs, by id; ``state.jobs(...)`` gives them in pages, and some of them."""
        from .jobs import all_jobs

        return all_jobs(self.state)

    # ------------------------------------------------------------------ runs

    def trigger(self, seq_id: str, parameters: Optional[Parameters] = None) -> RunHandle:
        """Start a run and return at once; it is recorded, and will end, when this returns.

        :param parameters: ``{step: {parameter: value}}``, stored with the run: JSON values,
            dates and times, Decimal, UUID, bytes, Path, tuples, sets, and the enums and
            dataclasses of the blocks' annotations.

        Raises :class:`ValidationError` before anything is recorded, :class:`NotFound` for
        an unknown sequence, :class:`StateError` if the run can't be recorded.
        """
        session = self._open()
        plan, text = self._plan(seq_id, parameters)
        return session.trigger(plan, text)

    def run(self, seq_id: str, parameters: Optional[Parameters] = None, timeout: Optional[float] = None) -> RunResult:
        """Start a run and wait for its end; ``trigger(...).result(timeout)``."""
        return self.trigger(seq_id, parameters).result(timeout)

    def retry(self, run_id: str, from_step: Union[str, Sequence[str], None] = None) -> RunHandle:
        """Run again what a run left undone, as a new run that takes over the completed steps' outputs.

        A run that has not ended, because a stop or a crash has left it, goes on itself, as at the next :meth:`start`.

        :param run_id: id of the run, a unique prefix of it, ``"last"`` or ``"last-failed"``.
        :param from_step: a step (or several) to run again although completed, with
            everything that depends on it.

        Raises :class:`NotFound`, and :class:`Refused` for a run that is going on.
        """
        from .recovering import retry

        session = self._open()
        from_steps = [from_step] if isinstance(from_step, str) else list(from_step or ())
        found = self.state.find_run(run_id).run_id
        return retry(session, self.sequences, found, from_steps, self.max_recoveries)

    def cancel(self, run_id: str) -> bool:
        """Stop a run: nothing further of it starts, its running blocks are told to stop.

        Whether it was still going. One that another process has in hand is asked to stop,
        which happens within that one's ``loop_interval``. Raises :class:`NotFound`.
        """
        session = self._open()
        found = session.engine.runs.get(run_id)
        if found is None:
            from .remember.recovery import cancel_elsewhere

            record = self.state.find_run(run_id)
            found = session.engine.runs.get(record.run_id)
            if found is None:
                now = session.clock.time()
                was_open, ended = cancel_elsewhere(session.journal, record.run_id, "cancelled_by_user", now)
                session.tell_ended([] if ended is None else [ended])
                return was_open
        return found.cancel("cancelled_by_user")

    def handle(self, run_id: str) -> RunHandle:
        """The handle of a run that this scheduler has in hand or took over. Raises :class:`NotFound`."""
        for handle in (*self._open().handles(), *self._recovered):
            if handle.run_id == run_id:
                return handle
        raise NotFound(f"run {run_id!r} is not going on in this scheduler")

    @property
    def recovered(self) -> List[RunHandle]:
        """The runs that the last :meth:`start` took over, those that have ended since among them."""
        return list(self._recovered)

    @property
    def runs(self) -> List[RunHandle]:
        """The runs that are going on here, those taken over among them."""
        session = self._session
        return session.handles() if session else []

    @property
    def state(self) -> StateManager:
        """Queries over runs, steps, attempts and logs."""
        return self._open().state

    def status(self) -> StatusReport:
        """What this scheduler does, what its sequences did last, and when they run next."""
        from .telling import report

        return report(self._open(), self.sequences, self._started)

    def health(self) -> Health:
        """Whether all is well: loops that died, writes that fail, threads that leaked, jobs that are broken."""
        from .telling import examine

        return examine(self._open())

    # ------------------------------------------------------------------ inside

    def _open(self) -> Session:
        """What is held open; opened now if need be, and anew in a forked child."""
        session = self._session
        if session is not None:
            return session
        if self._stopped:
            raise BlazeError("this scheduler was stopped; call start() to use it again")
        with self._lock:
            if self._session is None:
                from .session import Session

                self._session = Session(
                    self.state_dir,
                    self.durability,
                    self.max_workers,
                    clock=self._clock,
                    executors=self._executors,
                    name=self._name,
                    logger=self._logger,
                    keep_outputs=self._keep_outputs,
                    retention=self._retention,
                    herald=self._make_herald(),
                    probe=self._probe,
                )
                remember(self)
            return self._session

    def _make_herald(self) -> Optional[Herald]:
        if not self._hooks:
            return None
        from .do.events import Herald

        return Herald(self._hooks)

    def _plan(self, seq_id: str, parameters: Optional[Parameters]) -> Tuple[Plan, Optional[str]]:
        """The plan of a run and its parameters as stored text."""
        plan = self.sequences[seq_id].plan(parameters, self._executors)
        if not parameters:
            return plan, None
        from .what.values import dumps

        return plan, dumps(parameters, plan.hints(parameters))

    def _end(self) -> None:
        self.stop(grace=0.0)

    def _forget(self) -> Any:
        session, self._session = self._session, None
        self._lock = threading.RLock()
        self._started = False
        if session is not None:
            session.forget()
        return session

    def __repr__(self) -> str:
        state = "started" if self._started else "stopped" if self._stopped else "not started"
        return f"<Blaze {self.instance_id or self._name or ''} {state}, state in {self.state_dir}>"


def _wake(session: Session) -> None:
    """Jobs have changed: the ticker looks at them now."""
    if session.ticker is not None:
        session.ticker.wake()
