"""What a scheduler holds open between its first use and ``stop()``, and how it is let go of.

Made whole or not at all; closed in the reverse order. A forked child forgets it
without touching anything, since connection, locks and threads are its parent's.
"""

from __future__ import annotations

import os
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Deque, Dict, Iterable, List, Optional

from .do.engine import Engine
from .do.result import RunHandle
from .do.run import Run
from .ground.clock import Clock
from .ground.context import RunInfo
from .ground.errors import StateError
from .ground.names import new_instance_id, new_run_id
from .logger import BlazeLogger
from .remember.database import FILE_NAME, prepare_directory
from .remember.instances import InstanceLock
from .remember.journal import Journal
from .remember.recorder import NewRun, Recorder, release_runs
from .remember.schema import IS_PAUSED
from .what.plan import Plan

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from .do.events import Herald
    from .do.probe import Probe
    from .remember.ends import EndedRun
    from .remember.recovery import StoredRun
    from .remember.retention import Retention
    from .remember.ticks import SkippedTicks
    from .state import StateManager
    from .telling import Lines
    from .ticking import Ticker

#: Seconds between two rounds of tidying while nothing runs, and while something does.
TIDY_EVERY, TIDY_EVERY_BUSY = 60.0, 0.25


class Session:
    """What a scheduler has from its first use to ``stop()``: a name, a lock, a journal, an engine."""

    def __init__(
        self,
        state_dir: Path,
        durability: str,
        max_workers: int,
        *,
        clock: Clock,
        executors: Dict[str, Executor],
        name: Optional[str] = None,
        logger: Optional[BlazeLogger] = None,
        keep_outputs: bool = True,
        retention: Optional[Retention] = None,
        herald: Optional[Herald] = None,
        probe: Optional[Probe] = None,
    ) -> None:
        """The arguments are those of ``Blaze``."""
        self.instance_id = new_instance_id(name)
        self.retention = retention
        self.clock = clock
        in_memory = durability == "memory"
        self.instances = state_dir / "instances"
        self.lock: Optional[InstanceLock] = None
        if not in_memory:
            prepare_directory(state_dir)
            self.lock = InstanceLock(self.instances, self.instance_id)
        try:
            self.journal = Journal(None if in_memory else state_dir / FILE_NAME, durability)
        except BaseException:
            if self.lock is not None:
                self.lock.release()
            raise
        self.logger = logger or BlazeLogger(silent=True, log_dir=None if in_memory else state_dir / "log")
        self.logger.start()
        self.engine = Engine(
            max_workers,
            self.journal,
            clock,
            executors,
            keep_outputs,
            tidy=self._tidy,
            keep_log=self.logger.keep,
            keeps_prints=self.logger.captures_print,
            herald=herald,
            probe=probe,
        )
        if self.journal.read(IS_PAUSED):
            self.engine.pool.hold(True)
        #: Whether a start takes over what others left.
        self.starting = False
        #: The runs that were taken over.
        self.recovered: List[RunHandle] = []
        #: Those that are ours already, and still to be resumed.
        self.adopted: Deque[StoredRun] = deque()
        #: Fires ticks, from the start on.
        self.ticker: Optional[Ticker] = None
        #: None for a state in memory.
        self.state_dir = None if in_memory else state_dir
        self._state: Optional[StateManager] = None
        #: What a report told last of the sequences.
        self.lines: Optional[Lines] = None
        self._next_tidy = time.monotonic() + TIDY_EVERY_BUSY
        clock.attach(self)

    def is_alone(self) -> bool:
        """Whether no other scheduler seems to live on this state."""
        return self.lock is None or len(os.listdir(self.instances)) <= 1

    @property
    def recorder(self) -> Recorder:
        """Writes runs down."""
        recorder = self.engine.recorder
        if recorder is None:  # an engine with a journal has one
            raise StateError("this scheduler records nothing")
        return recorder

    @property
    def state(self) -> StateManager:
        """Queries; made when the first one is asked."""
        if self._state is None:
            from .state import StateManager

            directory = self.state_dir
            self._state = StateManager.of_journal(self.journal) if directory is None else StateManager(directory)
        return self._state

    def has_left_overs(self) -> bool:
        """Whether there may be runs to take over: other lock files, or open runs."""
        if self.lock is None:
            return False
        if len(os.listdir(self.instances)) > 1:
            return True
        return bool(self.journal.read("SELECT 1 FROM runs WHERE status IN ('PENDING', 'RUNNING') LIMIT 1"))

    def trigger(self, plan: Plan, parameters: Optional[str]) -> RunHandle:
        """Record a new run of a plan, with its parameters as stored text, and start it."""
        now = self.clock.time()
        deadline = plan.deadline(now)
        info = RunInfo(new_run_id(), plan.seq_id)
        new = NewRun(
            info.run_id, plan.seq_id, plan.definition, plan.digest, parameters, now, deadline, self.instance_id,
            len(plan.steps),
        )  # fmt: skip
        return self.begin(self.engine.make_run(plan, info, now, deadline, self.recorder.insert(new)))

    def begin(self, run: Run, halted: Optional[str] = None) -> RunHandle:
        """Start a run and give out its handle."""
        self.engine.begin(run, halted)
        return RunHandle(run)

    def tell_ended(self, ended: Iterable[EndedRun]) -> None:
        """Tell the hooks of runs that ended while no process had them in hand."""
        if self.engine.herald is not None:
            for one in ended:
                self.engine.herald.run_ended_by_rule(*one)

    def tell_skipped(self, skipped: Iterable[SkippedTicks]) -> None:
        """Tell the hooks of ticks that get no run."""
        if self.engine.herald is not None:
            for ticks in skipped:
                self.engine.herald.skipped(*ticks)

    def handles(self) -> List[RunHandle]:
        """The runs that are going on."""
        return [RunHandle(run) for run in list(self.engine.runs.values())]

    def is_busy(self, blocks: bool = True) -> bool:
        """Whether anything is in hand that needs no time to pass; see :class:`Busy`."""
        ticker = self.ticker
        if ticker is None:
            return self.engine.is_busy(blocks)
        # As in the engine: what the ticker has when it is asked first the workers may have when they are asked.
        rounds = ticker.rounds
        return not ticker.idle or self.engine.is_busy(blocks) or not ticker.idle or ticker.rounds != rounds

    def is_watching(self) -> bool:
        """Whether runs go on, which are looked after as time passes."""
        return self.engine.is_watching()

    def next_within_runs(self) -> Optional[float]:
        """The same of what begins nothing new: limits, retries."""
        return self.engine.next_moment()

    def next_moment(self) -> Optional[float]:
        """When the next thing that is known of will be due, in the clock's monotonic seconds."""
        moments = [self.engine.next_moment(), None if self.ticker is None else self.ticker.next_moment()]
        return min((moment for moment in moments if moment is not None), default=None)

    def _tidy(self, idle: bool) -> bool:
        """Delete what is beyond the retention; in idle time fold the log into the file. Whether there is more."""
        now = time.monotonic()
        if now < self._next_tidy:
            return False
        from .remember.retention import Retention, prune, sweep_results

        results = self.recorder.results
        try:
            if prune(self.journal, results, self.retention or Retention(), self.clock.time()):
                return True
            if idle and results is not None:
                sweep_results(self.journal, results, self.clock.time())
        except StateError as error:
            self.logger.warning("history could not be pruned: %s", error)
        if idle:
            self.journal.fold(cut=True)
        self._next_tidy = now + (TIDY_EVERY if idle else TIDY_EVERY_BUSY)
        return False

    def close(self, grace: float) -> None:
        """Stop and close everything; what has not ended is left to the next start."""
        self.engine.pool.hold(True)
        if self.ticker is not None:
            self.ticker.close()
        self.engine.close(grace)
        self.clock.detach(self)
        released = True
        try:
            if self.lock is not None:
                release_runs(self.journal, self.instance_id)
        except StateError as error:
            # The lock's file stays: the next start sees a dead owner and takes its runs over all the same.
            released = False
            self.logger.error("the open runs could not be released: %s", error)
        if self._state is not None:
            self._state.close()
        self.journal.close()
        self.logger.stop()
        if self.lock is not None and released:
            self.lock.release()
        elif self.lock is not None:
            self.lock.forget()

    def forget(self) -> None:
        """In a forked child: let go of what is the parent's without touching it."""
        self.journal.close()
        if self.lock is not None:
            self.lock.forget()
