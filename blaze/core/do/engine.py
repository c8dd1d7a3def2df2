"""The engine: workers, timekeeper, journal and the runs between them.

One engine belongs to one scheduler (or to one ``sequences.run()``). Without a journal
nothing is recorded; the steps then take the same way but for the commit.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, Iterable, List, Mapping, Optional, Set

from ..ground import capture
from ..ground.clock import Clock
from ..ground.context import RunInfo, StepContext
from ..ground.errors import BlazeError, StateError
from ..ground.own_log import OwnLog
from ..remember.journal import Journal
from ..remember.recorder import Recorder
from ..what.plan import Plan
from .attempt import ASKED, Attempt, Detached, outcome_of
from .pool import QUICK_FEW, Item, Pool, Worker
from .probe import Point, Probe
from .run import Run
from .run_state import END, STOPPING
from .timekeeper import ASKED_FOR, CONDEMNED_FOR, Timekeeper

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from .coroutines import EventLoop
    from .events import Herald
    from .processes import ChildPool

log = OwnLog("engine")


#: Rows after which a state in memory is written to.
LAZY_BATCH = 500

KeepLog = Callable[[StepContext, logging.LogRecord], None]


class Engine:
    """Runs plans. Thread-safe; made for one process (a fork makes itself a new one)."""

    def __init__(
        self,
        max_workers: int,
        journal: Optional[Journal] = None,
        clock: Optional[Clock] = None,
        executors: Optional[Mapping[str, Executor]] = None,
        keep_outputs: bool = True,
        keeps_logs: bool = True,
        tidy: Optional[Callable[[bool], bool]] = None,
        keep_log: Optional[KeepLog] = None,
        keeps_prints: bool = False,
        herald: Optional[Herald] = None,
        probe: Optional[Probe] = None,
        ready: Optional[Deque[Item]] = None,
    ) -> None:
        _refuse_in_unguarded_script()
        self.clock = clock or Clock()
        self.monotonic = self.clock.monotonic
        self.journal = journal
        self.recorder = None if journal is None else Recorder(journal)
        #: Whether what depends on a record waits until it is committed: not where nothing would survive anyhow.
        self.awaits_commits = journal is not None and journal.path is not None
        self.executors: Dict[str, Executor] = dict(executors or {})
        self.keep_outputs = keep_outputs
        self.keeps_logs = keeps_logs
        self.pool = Pool(max_workers, ready)
        #: Whether every step goes through a queue that decides whose turn it is: no worker goes on by itself.
        self.in_turn = ready is not None
        #: Breaks things on purpose, in tests.
        self.probe = probe
        self.timekeeper = Timekeeper(self)
        #: The runs that have not ended, by run id.
        self.runs: Dict[str, Run] = {}
        #: Attempts that hold no worker: coroutines, and calls in executors of the user.
        self.inflight: Set[Attempt] = set()
        #: Why an output could not be written to its file, and when that began; None when all is well.
        self.write_fault: Optional[str] = None
        if journal is not None:
            journal.when_pending = self._flush_for_others
            journal.before_write = None if probe is None else probe.writes
        #: Tells hooks what happens.
        self.herald = herald
        #: Is called when a run has ended, in whatever thread noticed it.
        self.when_ended: Optional[Callable[[Run], None]] = None
        self._held_back: Deque[Callable[[], Optional[Item]]] = deque()
        self._tidy = tidy
        #: Is given every record that a block logs, besides the run's own log.
        self.keep_log = keep_log
        #: Whether what blocks print is kept too.
        self.keeps_prints = keeps_prints
        self._captured: Set[str] = set()
        self._captures = 0
        self._loop: Optional[EventLoop] = None
        self._children: Optional[ChildPool] = None
        self._lock = threading.Lock()

    # ------------------------------------------------------------------ runs

    def make_run(self, plan: Plan, info: RunInfo, created_at: float, deadline: Optional[float], key: int = 0) -> Run:
        """A run that has not begun. ``created_at`` and ``deadline`` are epoch seconds."""
        limit = None if deadline is None else self.monotonic() + (deadline - self.clock.time())
        if self.probe is not None:
            plan = self.probe.adapt(plan)
        return Run(self, plan, info, copy_context(), created_at, limit, key)

    def begin(self, run: Run, halted: Optional[str] = None, *, watch: bool = True) -> None:
        """Start a run, or go on with one that was restored; ``halted``: it is only to be brought to its end.

        Without ``watch`` nobody looks after limits and delays until :meth:`watch` is called.
        """
        self._admit(run, watch)
        if halted is not None:
            run.halt(halted)
            return
        self.pool.extend(run.begin())

    def begin_all(self, runs: Iterable[Run]) -> None:
        """Start several runs together."""
        items: List[Item] = []
        for run in runs:
            self._admit(run)
            items += run.begin()
        self.pool.extend(items)

    def _admit(self, run: Run, watch: bool = True) -> None:
        if self.probe is not None:
            self.probe.passes(Point.RECORDED, run.info.run_id, None)
        self.runs[run.info.run_id] = run
        if self.keeps_logs and not run.plan.modules <= self._captured:
            self._capture(run.plan)
        keeper = self.timekeeper
        if watch:
            keeper.start()
        if keeper.asleep or (run.limit is not None and run.limit < keeper.next_look):
            keeper.poke()

    def watch(self) -> None:
        """From now on limits and delays are looked after."""
        self.timekeeper.start()

    def _capture(self, plan: Plan) -> None:
        """Keep what the blocks of these modules log."""
        with self._lock:
            modules = plan.modules - self._captured
            capture.install(modules)
            self._captured |= modules
            self._captures += 1

    def forget(self, run: Run) -> None:
        """A run has ended."""
        self.runs.pop(run.info.run_id, None)

    def attempts(self) -> List[Attempt]:
        """The attempts that are being made."""
        found = [worker.attempt for worker in self.pool.busy()]
        return [attempt for attempt in found if attempt is not None] + list(self.inflight)

    # ------------------------------------------------------------------ carrying runs forward

    def dispatch(self, ready: List[Item], mine: Optional[Item] = None) -> Optional[Item]:
        """Queue what became ready, but for one item that the calling thread goes on with."""
        if not ready:
            return mine
        if self.in_turn:
            self.pool.extend(ready)
            return mine
        if mine is None:
            mine = ready[0]
            if len(ready) > 1:
                self.pool.extend(ready[1:])
            return mine
        self.pool.extend(ready)
        return mine

    def flush(self, mine: Optional[Item] = None, *, after_fault: bool = False, wait: bool = False) -> Optional[Item]:
        """Commit what is pending, if nobody else is at it, and let go what waited for it.

        While nothing can be written, only the scribe tries again (``after_fault``).
        Who has promised something to a caller ``wait``s until the journal is free.

        Whoever appended while another held the lock leaves at once: the holder looks
        again after it has let go of the lock, so nothing is left lying.
        """
        journal = self.journal
        if journal is None:
            return mine
        if journal.fault is not None and not after_fault:
            return mine
        pending, lock = journal.pending, journal.lock
        while pending:
            if wait:
                # "with", since a block's thread may be here, and an exception be raised into it at any instant.
                with lock:
                    tokens = journal.commit()
            elif len(pending) > 1 and lock.locked():  # costs a third of trying in vain
                break
            elif lock.acquire(False):
                try:
                    tokens = journal.commit()
                finally:
                    lock.release()
            else:
                break
            if journal.refused:
                self._handle_refused(journal)
            if not tokens:
                if journal.fault is None:
                    continue
                log.error("the state can't be written: %s", journal.fault.message)
                break
            ready: List[Item] = []
            if self.probe is not None:
                self._tell_committed(self.probe, tokens)
            place = 0
            while place < len(tokens):
                place = tokens[place][0].committed(tokens, place, ready)
            if ready:
                mine = self.dispatch(ready, mine)
        return mine

    def _tell_committed(self, probe: Probe, tokens: List[Any]) -> None:
        for run, index in tokens:
            if index == END:
                probe.passes(Point.ENDED, run.info.run_id, None)
            else:
                probe.passes(Point.COMMITTED, run.info.run_id, run.plan.steps[index].name)

    def _flush_for_others(self) -> None:
        """Somebody held the journal for something else while workers had to leave their rows behind."""
        item = self.flush()
        if item is not None:
            self.pool.push(item)

    def flush_if_much(self, mine: Optional[Item]) -> Optional[Item]:
        """Where nobody waits for a commit: write only now and then."""
        journal = self.journal
        return mine if journal is None or len(journal.pending) < LAZY_BATCH else self.flush(mine)

    def commit_can_wait(self) -> bool:
        """Whether the thread had better make the next step first, and commit several at once.

        Only if that step is known to be quick too, so that nothing waits long for this
        commit; a guess that proves wrong is made good by the timekeeper.
        """
        journal, ready = self.journal, self.pool.ready
        if not ready or journal is None or len(journal.pending) >= QUICK_FEW:
            return False
        try:
            work, index = ready[0]
        except IndexError:  # another worker was quicker
            return False
        return bool(work.is_quick(index))

    def _handle_refused(self, journal: Journal) -> None:
        refused, journal.refused = journal.refused, []
        for token, reason in refused:
            log.error("the database refused an entry: %s", reason)
            if token is not None:
                run, index = token
                run.refused(index, StateError(f"the database refused an entry: {reason}"))

    def journal_waits(self) -> bool:
        """Whether something is still to be written."""
        return bool(self._held_back) or (self.journal is not None and bool(self.journal.pending))

    def write_waits_for_time(self) -> bool:
        """Whether what is to be written can't be, and is tried again later."""
        journal = self.journal
        return journal is not None and journal.fault is not None and bool(journal.pending)

    def hold_back(self, again: Callable[[], Optional[Item]], error: StateError) -> None:
        """Something could not be written: keep it and try again. What depends on it waits."""
        if self.write_fault is None:
            log.error("%s; it is kept and tried again", error)
        self.write_fault = str(error)
        self._held_back.append(again)
        self.timekeeper.poke()

    def record_held_back(self) -> None:
        """Try again what was held back."""
        for _ in range(len(self._held_back)):
            again = self._held_back.popleft()
            try:
                item = again()
            except StateError as error:
                self._held_back.append(again)
                self.write_fault = str(error)
                return
            if item is not None:
                self.pool.push(item)
        self.write_fault = None

    @property
    def tidies(self) -> bool:
        """Whether there is any housekeeping to do."""
        return self._tidy is not None

    def tidy_up(self, idle: bool) -> bool:
        """A little housekeeping; whether there is more of it. Less of it unless ``idle``."""
        return self._tidy(idle) if self._tidy is not None else False

    # ------------------------------------------------------------------ blocks that are no plain call

    def launch(self, attempt: Attempt, arguments: Any, worker: Worker) -> Optional[Item]:
        """Start an attempt that is not a plain call in this thread."""
        kind, function = attempt.place.kind, attempt.place.function
        if kind == "process":
            return self._run_in_child(attempt, arguments, worker)
        # In flight before it leaves the worker, so that whoever stops the run finds it.
        self.inflight.add(attempt)
        worker.attempt = None
        try:
            if kind == "async":
                stop = self._event_loop().start(
                    attempt, function, arguments, attempt.run.context.copy(), self._coroutine_done
                )
            else:
                stop = self._submit(attempt, arguments)
        except BaseException:
            self.inflight.discard(attempt)
            raise
        attempt.stop = stop
        if attempt.phase == ASKED:  # asked between becoming visible and having a way to be stopped
            stop()
        return None

    def _run_in_child(self, attempt: Attempt, arguments: Any, worker: Worker) -> Optional[Item]:
        children = self._child_pool()
        attempt.stop = lambda: (children.kill(attempt), None)[1]
        if attempt.phase == ASKED:
            worker.attempt = None
            return attempt.run.failed(attempt, BlazeError("stopped before it started"))
        result = children.run(attempt.place.function, arguments, attempt)
        value = result.value
        worker.attempt = None
        return attempt.run.completed(attempt, value, result.pickled)

    def _submit(self, attempt: Attempt, arguments: Any) -> Callable[[], None]:
        executor = self.executors[attempt.place.kind]
        work = Detached(attempt, attempt.place.function, arguments, attempt.run.context.copy())
        future = executor.submit(work)

        def done(future: Future[Any]) -> None:
            if future.cancelled():
                self._settle_later(attempt, None, BlazeError("it was cancelled in its executor"))
            else:
                self._settle_later(attempt, *outcome_of(future))

        future.add_done_callback(done)
        return lambda: (future.cancel(), None)[1]

    def _coroutine_done(self, attempt: Attempt, value: Any, error: Optional[BaseException]) -> None:
        self._settle_later(attempt, value, error)

    def _settle_later(self, attempt: Attempt, value: Any, error: Optional[BaseException]) -> None:
        """An attempt ended in a thread that must not be held up by a commit: a worker records it."""
        # In this order, so that the engine never seems to have nothing in hand.
        self.pool.push_outcome((_Settlement(attempt, value, error), 0))
        self.inflight.discard(attempt)

    def _event_loop(self) -> EventLoop:
        with self._lock:
            if self._loop is None:
                from .coroutines import EventLoop  # asyncio costs 30 ms to import

                self._loop = EventLoop()
            return self._loop

    def _child_pool(self) -> ChildPool:
        with self._lock:
            if self._children is None:
                from .processes import ChildPool

                self._children = ChildPool(keeps_prints=self.keeps_prints)
            return self._children

    # ------------------------------------------------------------------ stopping

    def close(self, grace: float = 0.0) -> List[Run]:
        """Stop: nothing further starts, running blocks get ``grace`` seconds and are then told to stop.

        The runs that have not ended; they are suspended, and recorded as far as they got.
        """
        self.pool.hold(True)
        me = threading.current_thread()
        self._wait_for_blocks(grace, me)
        for attempt in self.attempts():
            if attempt.worker is not me:
                self.timekeeper.ask(attempt, STOPPING)
        self.timekeeper.poke()
        self._wait_for_blocks(ASKED_FOR + CONDEMNED_FOR + 0.2, me)
        left = list(self.runs.values())
        for worker in self.pool.close():
            if worker is not me and worker.attempt is None:
                worker.join(2.0)
        for run in left:
            run.show()
        self.flush()
        for run in left:
            run.suspend()
        self.timekeeper.close()
        if self._loop is not None:
            self._loop.close()
        if self._children is not None:
            self._children.close(2.0)
        if self.herald is not None:
            self.herald.close()
        for _ in range(self._captures):
            capture.uninstall()
        self._captures = 0
        return left

    def _wait_for_blocks(self, seconds: float, me: threading.Thread) -> None:
        end = time.monotonic() + seconds
        while any(attempt.worker is not me for attempt in self.attempts()) or self._unsettled():
            if time.monotonic() >= end:
                return
            time.sleep(0.005)

    def is_busy(self, blocks: bool = True) -> bool:
        """Whether anything is in hand that needs no time to pass; without ``blocks``, beside blocks and hooks."""
        pool, keeper, herald = self.pool, self.timekeeper, self.herald if blocks else None
        # Threads hand work to each other: what one had when the other was asked it may have no more when it is asked
        # itself. So those who start what workers do rest before and after the workers do, and have not stirred between.
        rounds = keeper.stirred, 0 if herald is None else herald.rounds
        return (
            not self._givers_rest(herald)
            or bool(pool.outcomes)
            or (blocks and any(not attempt.waits_for_time for attempt in list(self.inflight)))
            or not pool.rests(blocks)
            or (self.awaits_commits and self.journal_waits() and not self.write_waits_for_time())
            or not self._givers_rest(herald)
            or rounds != (keeper.stirred, 0 if herald is None else herald.rounds)
        )

    def _givers_rest(self, herald: Optional[Herald]) -> bool:
        return self.timekeeper.idle and (herald is None or herald.idle)

    def is_watching(self) -> bool:
        """Whether runs go on, which are looked after as time passes."""
        return bool(self.runs)

    def next_moment(self) -> Optional[float]:
        """When the next thing that is known of will be due, in the clock's monotonic seconds.

        For who drives a clock: nobody here waits for the next try to write, which is made in passing.
        """
        moment = self.timekeeper.next_moment()
        if not self.write_waits_for_time():
            return moment
        again = self.timekeeper.next_write
        return again if moment is None else min(moment, again)

    #: All that an engine waits for.
    next_within_runs = next_moment

    def _unsettled(self) -> bool:
        return bool(self.pool.outcomes)


def _refuse_in_unguarded_script() -> None:
    """In the process of a block that is importing the parent's script: the script's own runs are not made again."""
    child_main = sys.modules.get("blaze.core.do.child_main")
    if child_main is not None:
        child_main.refuse_unguarded_call()


class _Settlement:
    """The outcome of an attempt, on its way to a worker."""

    __slots__ = ("attempt", "value", "error")

    def __init__(self, attempt: Attempt, value: Any, error: Optional[BaseException]) -> None:
        self.attempt = attempt
        self.value = value
        self.error = error

    def broken(self, error: BaseException) -> None:
        """It could not be recorded."""
        self.attempt.run.broken(error)

    def is_quick(self, index: int) -> bool:
        """It is bookkeeping."""
        return True

    def perform(self, index: int, worker: Optional[Worker]) -> Optional[Item]:
        """Record it."""
        attempt = self.attempt
        if self.error is not None:
            return attempt.run.failed(attempt, self.error)
        if worker is None:
            return attempt.run.completed(attempt, self.value)
        # Until the output is pickled it is this thread that has to be stopped.
        attempt.stop, attempt.worker = None, worker
        worker.attempt = attempt
        item = attempt.run.completed(attempt, self.value)
        worker.attempt = None
        return item
