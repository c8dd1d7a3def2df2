"""`Blaze`: runs sequences durably, keeps their history, resumes what a crash interrupted."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, List, Mapping, Optional, Sequence, Tuple, Type, Union

from .block import BlazeBlock
from .ground.clock import Clock
from .ground.errors import BlazeError, Fault, NotFound, StateError, ValidationError
from .ground.names import name_fault
from .seq import BlazeSequence
from .what.checker import shown
from .what.options import DURABILITIES, check_choice, check_count, check_delay, executor_faults

# What runs and records is imported when a scheduler is first used: a program that only
# declares blocks and sequences, or asks for --help, does not pay for it.
if TYPE_CHECKING:
    from concurrent.futures import Executor

    from .do.result import RunHandle, RunResult
    from .logger import BlazeLogger
    from .remember.retention import Retention
    from .session import Session
    from .state import StateManager
    from .status_report import StatusReport
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
    :param retention: how much history is kept.

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
        retention: Optional[Retention] = None,
    ) -> None:
        _check_arguments(
            blaze_blocks, sequences, max_workers, loop_interval, grace, max_recoveries, executors, name, durability
        )
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
        self._lock = threading.RLock()
        self._session: Optional[Session] = None
        self._recovered: List[RunHandle] = []
        self._started = False
        self._stopped = False
        if auto_start:
            self.start()

    # ------------------------------------------------------------------ life

    def start(self) -> Blaze:
        """Start: take over what a crash or a stop left behind, and be ready. Returns at once.

        On a started scheduler it does nothing. Raises :class:`StateError` if the state
        can't be used; called again, it goes on with what is left to take over.
        """
        with self._lock:
            if self._started:
                return self
            self._stopped = False
            session = self._open()
            self._recovered = session.recovered
            if session.has_left_overs():
                from .recovering import recover

                recover(session, self.sequences, self.max_recoveries)
            self._started = True
        return self

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
                _OPEN.discard(self)
            if shutdown and self.durability != "memory":
                from .remember.archive import archive_state
                from .remember.database import FILE_NAME

                if was_open or (self.state_dir / FILE_NAME).exists():
                    archive_state(self.state_dir)

    def __enter__(self) -> Blaze:
        return self.start()

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.stop()

    @property
    def started(self) -> bool:
        """Whether it has been started and not stopped."""
        return self._started

    @property
    def instance_id(self) -> Optional[str]:
        """The readable, unique name of this scheduler while it is open."""
        return self._session.instance_id if self._session else None

    def pause(self) -> None:
        """Start no further step until :meth:`resume`. Running blocks go on."""
        self._open().engine.pool.hold(True)

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self._open().engine.pool.hold(False)

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

        :param run_id: id of an ended run, a unique prefix of it, ``"last"`` or ``"last-failed"``.
        :param from_step: a step (or several) to run again although completed, with
            everything that depends on it.

        Raises :class:`NotFound`, and :class:`BlazeError` for a run that has not ended.
        """
        from .recovering import retry

        session = self._open()
        from_steps = [from_step] if isinstance(from_step, str) else list(from_step or ())
        return retry(session, self.sequences, self.state.find_run(run_id).run_id, from_steps)

    def cancel(self, run_id: str) -> bool:
        """Stop a run: nothing further of it starts, its running blocks are told to stop.

        Whether it was still going. Raises :class:`NotFound`, and :class:`BlazeError` for a
        run that another process has in hand.
        """
        session = self._open()
        found = session.engine.runs.get(run_id)
        if found is None:
            from .remember.recovery import end_unowned

            record = self.state.find_run(run_id)
            found = session.engine.runs.get(record.run_id)
            if found is None:
                return end_unowned(session.journal, record.run_id, "cancelled_by_user")
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
        """What this scheduler does and what its sequences did last."""
        from .status_report import SequenceStatus, StatusReport

        session = self._open()
        engine = session.engine
        fault = session.journal.fault
        try:
            known = {summary.seq_id: summary for summary in session.state.sequences()}
        except StateError:  # the file is gone: what is left to tell is told
            known = {}
        rows = [SequenceStatus.of(seq_id, known.get(seq_id)) for seq_id in sorted({*self.sequences, *known})]
        return StatusReport(
            instance=session.instance_id,
            pid=os.getpid(),
            state="STOPPED" if not self._started else "PAUSED" if engine.pool.held else "RUNNING",
            state_dir=None if self.durability == "memory" else str(self.state_dir),
            runs_active=len(engine.runs),
            workers=self.max_workers,
            busy_workers=len(engine.pool.busy()),
            leaked_threads=len(engine.pool.leaked),
            write_fault=fault.message if fault else engine.write_fault,
            sequences=rows,
        )

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
                )
                _remember(self)
            return self._session

    def _plan(self, seq_id: str, parameters: Optional[Parameters]) -> Tuple[Plan, Optional[str]]:
        """The plan of a run and its parameters as stored text."""
        plan = self.sequences[seq_id].plan(parameters, self._executors)
        if not parameters:
            return plan, None
        from .what.values import dumps

        return plan, dumps(parameters, plan.hints(parameters))

    def _forget(self) -> None:
        """In a forked child: everything that is open is the parent's."""
        session, self._session = self._session, None
        self._lock = threading.RLock()
        self._started = False
        if session is not None:
            session.forget()
            _FORGOTTEN.append(session)

    def __repr__(self) -> str:
        state = "started" if self._started else "stopped" if self._stopped else "not started"
        return f"<Blaze {self.instance_id or self._name or ''} {state}, state in {self.state_dir}>"


def _check_arguments(
    blocks: Any, sequences: Any, max_workers: Any, loop_interval: Any, grace: Any, max_recoveries: Any,
    executors: Any, name: Any, durability: Any,
) -> None:  # fmt: skip
    whats = [
        None
        if blocks is None or isinstance(blocks, BlazeBlock)
        else f"blaze_blocks is a BlazeBlock, got {shown(blocks)}",
        None
        if sequences is None or isinstance(sequences, BlazeSequence)
        else f"sequences is a BlazeSequence, got {shown(sequences)}",
        check_count("max_workers", max_workers) or (None if max_workers else "max_workers is at least 1, got 0"),
        check_delay("loop_interval", loop_interval),
        check_delay("grace", grace),
        check_count("max_recoveries", max_recoveries),
        None if name is None else name_fault(name),
        check_choice("durability", durability, DURABILITIES),
        *executor_faults(executors),
    ]
    faults = [Fault("Blaze()", what) for what in whats if what]
    if faults:
        raise ValidationError(faults, "Blaze()")


#: The schedulers that hold something open, so that a forked child and the end of the interpreter find them.
_OPEN: weakref.WeakSet[Blaze] = weakref.WeakSet()
#: What belonged to the parent process; kept, so that no destructor in the child touches it.
_FORGOTTEN: List[Session] = []
_hooked = False


def _remember(scheduler: Blaze) -> None:
    """Let a fork and the end of the interpreter find this scheduler."""
    global _hooked
    _OPEN.add(scheduler)
    if not _hooked:
        _hooked = True
        atexit.register(_stop_all)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forget_all)


def _stop_all() -> None:
    for scheduler in list(_OPEN):
        scheduler.stop(grace=0.0)


def _forget_all() -> None:
    for scheduler in list(_OPEN):
        scheduler._forget()
    _OPEN.clear()
