"""A run: attempts of its steps, its halt and its end. What follows from each for other steps is in ``consequences``.

The hot path is :meth:`Run.perform` and :meth:`Run.completed`: they do no logging,
make no datetime and copy no output. Everything that can go wrong is further down.

``lock`` protects the arrays and is held over bookkeeping only: never over a block's
code, a commit or another lock, except that rows are appended to the journal's pending
list, which is a deque and needs none.

``failure``, which tells what went wrong, is imported where something does.
"""

from __future__ import annotations

from functools import partial
from types import CoroutineType
from typing import Any, FrozenSet, List, Optional

from ..ground.errors import BlazeError, RunSuspended, StateError, StepTimeout
from ..ground.prints import flush_prints
from ..ground.status import BlockStatus
from ..remember.recorder import Kept
from ..what.plan import Step
from .attempt import ASKED, CONDEMNED, OVER, Attempt, call
from .consequences import Consequences
from .finaliser import FinaliserStep
from .pool import Item, Worker
from .result import RunResult
from .retrying import draw_spread, retry_delay
from .run_state import BROKEN, END, STOPPING, TIMEOUT

#: Seconds below which a step costs less than its commit: such steps are committed a few at a time.
QUICK = 0.0001
#: Seconds below which one that was quick still counts as such: it may have had to wait for the interpreter.
STILL_QUICK = 0.001

PENDING, RUNNING, RETRYING = BlockStatus.PENDING, BlockStatus.RUNNING, BlockStatus.RETRYING
COMPLETED, FAILED, SKIPPED, CANCELLED = (
    BlockStatus.COMPLETED, BlockStatus.FAILED, BlockStatus.SKIPPED, BlockStatus.CANCELLED,
)  # fmt: skip


class Run(Consequences):
    """One execution of a plan by one engine."""

    __slots__ = ()

    # ------------------------------------------------------------------ the hot path

    def perform(self, index: int, worker: Worker) -> Optional[Item]:
        """Make an attempt of a step in this thread, or set it going elsewhere; what to do next."""
        if index == END:
            return self._write_end()
        step = self.plan.steps[index] if index < self.final else self._finaliser()
        engine = self.engine
        if not step.quick and engine.pool.ready:
            engine.pool.call_help()
        attempt = Attempt(self, step, self.attempts[index] + 1, engine.monotonic())
        # Seen by the timekeeper before the step counts as RUNNING: who cancels the run
        # either finds the step not started, or finds this attempt.
        worker.attempt = attempt
        with self.lock:
            status = self.statuses[index]
            if status is RETRYING:
                self.retrying -= 1
            elif status is not PENDING:
                # Cancelled meanwhile. Whoever saw this attempt and asked it to stop finds it settled.
                attempt.phase = OVER
                worker.attempt = None
                return None
            self.statuses[index] = RUNNING
            self.attempts[index] += 1
            if not self.began:
                self.began = attempt.started
                if engine.herald is not None:
                    engine.herald.run_started(self)
        if step.timeout is not None:
            attempt.limit = limit = attempt.started + step.timeout
            if limit < engine.timekeeper.next_look:
                engine.timekeeper.poke()
        try:
            arguments = step.arguments.bind(self.outputs)
            if step.kind != "thread":
                return engine.launch(attempt, arguments, worker)
            attempt.worker = worker
            value = self.context.copy().run(call, attempt, step.function, arguments)
            if value.__class__ is CoroutineType:
                value.close()
                raise BlazeError("the block returned a coroutine that nobody awaits; decorate an async def function")
        except BaseException as error:
            worker.attempt = None
            return self.failed(attempt, error)
        item = self.completed(attempt, value)
        worker.attempt = None
        return item

    def completed(self, attempt: Attempt, value: Any, pickled: Optional[bytes] = None) -> Optional[Item]:
        """The block returned."""
        engine = self.engine
        step = attempt.place
        index = step.index
        seconds = engine.monotonic() - attempt.started
        if engine.keeps_prints:
            flush_prints(attempt)
        if attempt._asked == TIMEOUT:
            return self.failed(attempt, self._timeout_of(attempt, None))
        recorder = engine.recorder
        # Before the attempt is over: it is stopped, too, if the value's own code does not come to an end.
        kept = None if recorder is None else recorder.keep(self.info.run_id, step.name, value, step.persist, pickled)
        step.quick = quick = seconds < (STILL_QUICK if step.quick else QUICK)
        ready: List[Item] = []
        with self.lock:
            if attempt.phase > ASKED or (self.halted is not None and self._comes_too_late(attempt)):
                return None
            attempt.phase = OVER
            self.statuses[index] = COMPLETED
            self.started[index] = attempt.started
            self.seconds_of[index] = seconds
            self.ends.append(index)
            if index == self.final:
                self.output, self.kept = value, kept
                self.plan.finaliser_quick = quick
                return (self, END)
            self.outputs[index] = value
            if recorder is None:
                self._release(index, ready)
        if recorder is None or kept is None:
            return engine.dispatch(ready)
        try:
            recorder.completed(
                self.key,
                self.info.run_id,
                index,
                step.name,
                self.attempts[index],
                attempt.started + self.zero,
                seconds,
                kept,
                attempt.row or attempt.attempt > 1 or index in self.rows,
                (self, index) if engine.awaits_commits else None,
            )
        except StateError as error:
            engine.hold_back(partial(self._record_again, attempt, kept, seconds), error)
            return None
        if not engine.awaits_commits:
            # Not before its row was made: whoever sees the run's end finds what every step did.
            with self.lock:
                self._release(index, ready)
            return engine.flush_if_much(engine.dispatch(ready))
        return None if step.quick and engine.commit_can_wait() else engine.flush()

    def _comes_too_late(self, attempt: Attempt) -> bool:
        """Whether what a step of a halted run returns is of no use any more. Under the lock."""
        if self.halted != STOPPING and self.statuses[attempt.place.index] is RUNNING:
            return False
        attempt.phase = OVER
        return True

    def is_quick(self, index: int) -> bool:
        """Whether what the item stands for is known to take next to no time."""
        return index < 0 or (self.plan.steps[index].quick if index < self.final else self.plan.finaliser_quick)

    def committed(self, tokens: List[Item], place: int, ready: List[Item]) -> int:
        """The rows of steps, or of the run's end, are safe: let go what waited for them.

        ``tokens[place]`` is this run's. The place behind those that were dealt with.
        """
        if tokens[place][1] == END:
            self._conclude()
            return place + 1
        with self.lock:
            while place < len(tokens):
                run, index = tokens[place]
                if run is not self or index == END:
                    break
                self._release(index, ready)
                place += 1
        return place

    # ------------------------------------------------------------------ starting and ending

    def begin(self) -> List[Item]:
        """The first items of work."""
        ready: List[Item] = []
        with self.lock:
            if not self.open:
                self._all_ended(ready)
                return ready
            if not self.rows:
                return [(self, index) for index in self.plan.roots]
            # Found first: deciding on one changes what others wait for, and decides on those too.
            free = [index for index, left in enumerate(self.waiting) if not left and self.statuses[index] is PENDING]
            for index in free:
                self._decide(index, ready)
        return ready

    def leave_out(self, indexes: FrozenSet[int], reason: str) -> None:
        """Skip steps of a run that has not begun; what depends on them follows its ``run_when``."""
        with self.lock:
            for index in indexes:
                self._drop(index, SKIPPED, reason)
            dependencies = self.plan.dependencies
            self.waiting = [sum(1 for one in sources if not self.statuses[one].ended) for sources in dependencies]
            self.rows = indexes

    def _finaliser(self) -> Step:
        """The finaliser as a step."""
        return FinaliserStep(self)

    def _write_end(self, wait: bool = False) -> Optional[Item]:
        """Decide how the run ended and record it."""
        engine = self.engine
        with self.lock:
            if self.status.ended or self.ended_at is not None:
                return None
            now = engine.monotonic()
            self.ended_at = now + self.zero
            self.seconds = max(0.0, self.ended_at - self.created_at)
            status, reason = self._verdict()
        recorder = engine.recorder
        if recorder is None:
            self.status, self.reason = status, reason
            self._conclude()
            return None
        began = self.began + self.zero if self.began else None
        try:
            recorder.run_ended(
                self.key,
                self.info.run_id,
                status,
                reason,
                began,
                self.ended_at,
                self.seconds,
                None if self.output is None else self.kept,
                self._error_text(status),
                (self, END) if engine.awaits_commits else None,
            )
        except StateError as error:
            self.ended_at = None
            engine.hold_back(lambda: (self, END), error)
            return None
        except Exception as error:
            self._end_lost(error)
            return None
        self.reason = reason
        if engine.awaits_commits:
            return None if not wait and engine.commit_can_wait() else engine.flush(wait=wait)
        self.status = status
        self._conclude()
        return engine.flush_if_much(None)

    def _conclude(self) -> None:
        """The end is safe: tell whoever waits."""
        self.status = self._verdict()[0]
        self.kept = None
        engine = self.engine
        engine.forget(self)
        self.ending.come(self)
        if engine.herald is not None:
            engine.herald.run_ended(self)
        if engine.when_ended is not None:
            engine.when_ended(self)

    # ------------------------------------------------------------------ failures and retries

    def failed(self, attempt: Attempt, error: BaseException) -> Optional[Item]:
        """An attempt raised, or was given up. Decides on a retry."""
        engine = self.engine
        seconds = engine.monotonic() - attempt.started
        if engine.keeps_prints:
            flush_prints(attempt)
        if attempt.phase == CONDEMNED:
            return None  # the timekeeper settles it when this thread has ended
        verdict = attempt._asked
        if verdict == TIMEOUT and not isinstance(error, StepTimeout):
            error = self._timeout_of(attempt, error)
        return self._settle(attempt, error, verdict, seconds)

    def give_up(self, attempt: Attempt, error: BaseException) -> Optional[Item]:
        """Settle an attempt that does not end by itself; what it returns later is discarded. Others commit it."""
        from .failure import tell_stack

        if isinstance(error, StepTimeout):
            error = self._timeout_of(attempt, None)
        tell_stack(error, attempt.stack)
        return self._settle(attempt, error, attempt._asked, self.engine.monotonic() - attempt.started, False)

    def _settle(
        self, attempt: Attempt, error: BaseException, verdict: Optional[str], seconds: float, flush: bool = True
    ) -> Optional[Item]:
        from .failure import describe, is_crash

        engine, step, index = self.engine, attempt.place, attempt.place.index
        policy = step.retry
        reason = verdict or ("crashed" if is_crash(error, step.kind) else None)
        failure = describe(error, step.name, attempt.attempt, policy.retries + 1, self._told(step), reason)
        spread = draw_spread() if policy.jitter else 0.0
        ready: List[Item] = []
        delay: Optional[float] = None
        with self.lock:
            if attempt.phase == OVER:
                return None
            attempt.phase = OVER
            if self.statuses[index] is not RUNNING or self.attempts[index] != attempt.attempt:
                return None  # never claimed, or the run is broken: what became of the step is decided
            self.started[index], self.seconds_of[index] = attempt.started, seconds
            if verdict == STOPPING or self.halted == STOPPING:
                self.statuses[index] = PENDING  # the next start makes this attempt again
                self.attempts[index] -= 1
                return None
            if verdict is None or verdict == TIMEOUT:
                delay = None if self.halted else retry_delay(policy, attempt.attempt, error, spread)
                if delay is not None:
                    self.statuses[index] = RETRYING
                    self.retrying += 1
                    self.failures.pop(index, None)
                    self._record_attempt(attempt, failure, seconds)
                    self._record_retry(attempt, failure, delay)
                else:
                    self.statuses[index] = FAILED
                    self.failures[index] = failure
                    self._record_attempt(attempt, failure, seconds)
                    if self.plan.fail_stop and self.halted is None and index != self.final:
                        # First, so that the steps behind this one are cancelled and not skipped.
                        self._halt("fail_stop", ready)
                    self._step_ended(index, FAILED, reason, ready, failure.message)
            else:
                self._record_attempt(attempt, failure, seconds)
                self.statuses[index] = CANCELLED
                self._step_ended(index, CANCELLED, verdict, ready, failure.message)
        if delay is not None:
            if engine.herald is not None:
                engine.herald.retried(self, index, attempt.attempt, seconds, failure.message, delay)
            if delay <= 0.0:
                engine.pool.push((self, index))
            else:
                engine.timekeeper.call_at(engine.monotonic() + delay, (self, index))
        mine = engine.dispatch(ready)
        return engine.flush(mine) if flush else mine

    def _record_again(self, attempt: Attempt, kept: Kept, seconds: float) -> Optional[Item]:
        recorder = self.engine.recorder
        if recorder is None:
            return None
        step = attempt.place
        recorder.completed(
            self.key, self.info.run_id, step.index, step.name, self.attempts[step.index], attempt.started + self.zero,
            seconds, kept, True, (self, step.index),
        )  # fmt: skip
        return self.engine.flush()

    # ------------------------------------------------------------------ halting

    def halt(self, reason: str, *, wait: bool = False, flush: bool = True) -> bool:
        """Start nothing further, and ask what runs to stop; whether the run was still going.

        With ``wait`` that is recorded when this returns. Without ``flush`` others are to record it.
        """
        ready: List[Item] = []
        with self.lock:
            if self.ended_at is not None or self.halted not in (None, "fail_stop"):
                return False
            self._halt(reason, ready)
            if self.engine.recorder is not None:
                self.engine.recorder.run_halted(self.key, reason)
        engine = self.engine
        engine.timekeeper.ask_all(self, reason)
        if not flush:
            for item in ready:
                engine.pool.push(item)
            return True
        # What is left of the run is bookkeeping: done here, since all workers may be busy or held.
        mine = self._write_end(wait) if ready else engine.flush(wait=wait)
        if mine is not None:
            engine.pool.push(mine)
        return True

    def cancel(self, reason: str) -> bool:
        """Cancel the run; whether it was still going. Recorded when this returns: also a crash leaves it cancelled."""
        return self.halt(reason, wait=True)

    def broken(self, error: BaseException, refused: Optional[int] = None) -> None:
        """Blaze itself failed on this run: end it at once, so that nobody waits for ever.

        ``refused``: a step whose end the database did not take, so that it counts as not ended.
        """
        from .failure import describe

        failure = describe(error, "(blaze)", 1, 1, None, BROKEN)
        with self.lock:
            if self.ended_at is not None or self.halted == STOPPING:
                return
            self.halted = BROKEN
            self.failures[self.final] = failure
            self.statuses[self.final] = CANCELLED
            self.output = None
            self.retrying = 0
            if self.engine.recorder is not None:
                self.engine.recorder.run_halted(self.key, BROKEN)
            for index in range(self.final):
                status = self.statuses[index]
                if status is RUNNING:
                    self.ends.append(index)
                if index == refused or not status.ended:
                    self._drop(index, CANCELLED, BROKEN)
        self.engine.timekeeper.ask_all(self, BROKEN)
        self.engine.pool.push((self, END))

    def refused(self, index: int, error: BaseException) -> None:
        """The database will never take the end of a step, or of the run."""
        if index == END:
            self._end_lost(error)
        else:
            self.broken(error, index)

    def _end_lost(self, error: BaseException) -> None:
        """The run's end could not be recorded: try it with another, which says so; then without the record."""
        with self.lock:
            again = self.halted == BROKEN
            if not again:
                self.ended_at = None
        if again:
            self.reason = BROKEN
            self._conclude()
        else:
            self.broken(error)

    def show(self) -> None:
        """Record that the run has begun; whoever goes on with it knows then."""
        with self.lock:
            if self.engine.recorder is not None and self.began and not self.row and self.ended_at is None:
                self.row = True
                self.engine.recorder.run_started(self.key, self.wall(self.began))

    def suspend(self) -> None:
        """The scheduler stops: leave the run as it is recorded, for the next start."""
        with self.lock:
            if self.ended_at is not None and self.status.ended:
                return
            self.halted = STOPPING
        self.ending.come(
            self, RunSuspended(f"the scheduler stopped before run {self.info.run_id} ended; the next start resumes it")
        )

    # ------------------------------------------------------------------ being waited for

    def wait(self, timeout: Optional[float]) -> RunResult:
        """Wait for the end."""
        ending = self.ending
        if not ending.over and not self.engine.pool.wait_for_run(partial(ending.wait, timeout)):
            raise TimeoutError(f"run {self.info.run_id} has not ended after {timeout} s")
        return ending.result(self)
