"""The timekeeper: the one thread that watches the clock for an engine.

It starts what is due (retries), stops what is overdue (attempts and runs), tells what
has been running for a while, and wakes the scribe for what is to be written. It waits for
no disk and no lock of another process, so that limits hold whatever happens there.
While nothing runs it sleeps and costs nothing.

Stopping an attempt takes up to four steps: at its limit the block is *asked*
(``current().cancelled``; a process is killed, a coroutine cancelled); if it is still
there after ``ASKED_FOR`` an exception is raised into its thread, which is then never
used again (*condemned*); when the thread has left the block, or after
``CONDEMNED_FOR`` at the latest, the attempt is settled as failed. A thread that is
still inside then is *abandoned*: counted by ``status()``, and replaced.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from typing import TYPE_CHECKING, Dict, Iterable, Iterator, List, Optional, Tuple

from ..ground.errors import StepCancelled, StepTimeout
from ..ground.own_log import OwnLog
from .attempt import ASKED, CONDEMNED, LIVE, OVER, Attempt
from .pool import Item, Worker
from .run import Run
from .run_state import STOPPING, TIMEOUT
from .scribe import Scribe

if TYPE_CHECKING:
    from .engine import Engine

#: Seconds that a block has to stop by itself before an exception is raised into its thread.
ASKED_FOR = 0.1
#: Seconds that the exception has to get the thread out of the block.
CONDEMNED_FOR = 0.2
#: That a step or a run has started is written if it is still running after this many seconds.
SHOWN_AFTER = 0.1
#: Seconds between two looks while blocks run, while runs wait, and the longest sleep ever
#: (a laptop that slept, a clock that was set: RELIABILITY T8).
LOOK_BUSY, LOOK_WAITING, LOOK_LONGEST = 0.05, 0.5, 30.0
#: Looks without any run before the timekeeper goes to sleep for good.
LINGER = 20

log = OwnLog("engine")


class Timekeeper:
    """Watches the clock for one engine. ``_lock`` protects the heap and is held over nothing else."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._monotonic = engine.monotonic
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._due: List[Tuple[float, int, Item]] = []
        self._numbers = itertools.count()
        self._thread: Optional[threading.Thread] = None
        self._closed = False
        self._stopping: Dict[Attempt, None] = {}
        self._quiet = 0
        self._scribe = Scribe(engine)
        self._tidying = False
        #: Monotonic time of the next look at the latest; who has something earlier pokes.
        self.next_look = 0.0
        #: Nothing runs; who begins a run pokes.
        self.asleep = False
        #: It is at work, or about to be.
        self.looking = True
        #: How often it has woken.
        self.rounds = 0
        #: How often the loop died and was restarted, and of what last.
        self.deaths = 0
        self.last_death: Optional[str] = None

    # ------------------------------------------------------------------ asking for something

    def start(self) -> None:
        """Start the thread, if it is not running."""
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._main, name="blaze-timekeeper", daemon=True)
                self._thread.start()

    def poke(self) -> None:
        """Look now."""
        self.next_look = 0.0
        self._event.set()

    def call_at(self, moment: float, item: Item) -> None:
        """Queue ``item`` at a monotonic time."""
        with self._lock:
            heapq.heappush(self._due, (moment, next(self._numbers), item))
        if moment < self.next_look:
            self.poke()

    def ask_all(self, run: Run, reason: str) -> None:
        """Ask every attempt of a run to stop."""
        for attempt in self._engine.attempts():
            if attempt.run is run:
                self.ask(attempt, reason)
        self.poke()

    def ask(self, attempt: Attempt, reason: str) -> None:
        """Ask one attempt to stop. First come, first served: a later reason changes nothing."""
        with attempt.run.lock:
            if attempt.phase != LIVE:
                return
            attempt.phase = ASKED
            attempt.asked_at = self._monotonic()
            attempt._asked = reason
            self._stopping[attempt] = None
        if attempt.stop is not None:
            attempt.stop()

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._event.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(5.0)
        self._scribe.close()

    # ------------------------------------------------------------------ the loop

    def _main(self) -> None:
        while not self._closed:
            self.looking = True
            self.rounds += 1
            self._event.clear()
            try:
                patience = self._look(self._monotonic())
                moment = self.next_moment()
            except Exception as error:
                # Never silently: health() tells, and the loop goes on.
                self.deaths += 1
                self.last_death = f"{type(error).__name__}: {error}"
                log.exception("the timekeeper failed and goes on")
                moment, patience = None, LOOK_WAITING
            self.asleep = patience > LOOK_WAITING
            self.next_look = self._monotonic() + patience
            if moment is not None and moment < self.next_look:
                self.next_look = moment
            self.looking = False
            if self._has_missed_something():
                continue
            due_in = None if moment is None else max(moment - self._monotonic(), 0.001)
            self._engine.clock.wait(self._event, due_in, patience)

    def _has_missed_something(self) -> bool:
        """Whether something came in after the look, from somebody who did not see yet that we are about to sleep."""
        if self.asleep and self._engine.runs:
            return True
        moment = self.next_moment()
        return moment is not None and moment < self.next_look

    @property
    def idle(self) -> bool:
        """Whether it sleeps, and nobody has woken it."""
        return (self._thread is None or not self.looking) and not self._event.is_set() and not self._scribe.working

    @property
    def stirred(self) -> int:
        """Grows whenever it, or its scribe, wakes."""
        return self.rounds + self._scribe.rounds

    def _look(self, now: float) -> float:
        """Do all that is due; seconds until the next look at the latest."""
        engine = self._engine
        self._start_due(now)
        if engine.pool.held:
            engine.pool.free_bookkeeping()
        attempts = engine.attempts()
        self._watch_attempts(attempts, now)
        self._stop_overdue_runs(now)
        self._push_on(now)
        self._settle_stopping(now)
        if engine.pool.ready and not engine.pool.held:
            engine.pool.call_help()  # what was thought to be quick is not
        self._scribe.look(now)
        return self._patience(bool(attempts))

    def _patience(self, busy: bool) -> float:
        engine = self._engine
        if self._stopping:
            patience = 0.01
        elif busy or engine.journal_waits() or self._scribe.working or self._scribe.has_more:
            patience = LOOK_BUSY
        elif engine.runs:
            patience = LOOK_WAITING
        else:
            self._quiet += 1
            idle = self._quiet >= LINGER and not self._tidies()
            patience = LOOK_LONGEST if idle else LOOK_BUSY
        if engine.runs:
            self._quiet = 0
        return patience

    def loops(self) -> Dict[str, Tuple[int, Optional[str]]]:
        """How often each of the engine's loops died and went on, and of what last."""
        scribe = self._scribe
        return {"timekeeper": (self.deaths, self.last_death), "scribe": (scribe.deaths, scribe.last_death)}

    @property
    def next_write(self) -> float:
        """Monotonic time of the next try to write what could not be written."""
        return self._scribe.retry_write_at

    def next_moment(self) -> Optional[float]:
        """When the next thing that is known of will be due, in monotonic seconds."""
        return min(self._known_moments(), default=None)

    def _known_moments(self) -> Iterator[float]:
        """When something will be due, as far as that is known now."""
        engine = self._engine
        with self._lock:
            if self._due:
                yield self._due[0][0]
        for attempt in engine.attempts():
            if attempt.limit is not None and attempt.phase == LIVE:
                yield attempt.limit
        for run in list(engine.runs.values()):
            if run.limit is not None and run.halted in (None, "fail_stop"):
                yield run.limit
        for attempt in list(self._stopping):
            asked = attempt.phase == ASKED and attempt.stop is None
            yield attempt.asked_at + (ASKED_FOR if asked else ASKED_FOR + CONDEMNED_FOR)

    def _tidies(self) -> bool:
        """Let the scribe do the housekeeping of idle time; whether it is still at it."""
        if not self._engine.tidies:
            return False
        if self._tidying and not self._scribe.has_more:
            self._tidying = False
        else:
            self._tidying = True
            self._scribe.wake(idle=True)
        return self._tidying

    def _start_due(self, now: float) -> None:
        ready: List[Item] = []
        with self._lock:
            while self._due and self._due[0][0] <= now:
                ready.append(heapq.heappop(self._due)[2])
        if ready:
            self._engine.pool.extend(ready)

    def _watch_attempts(self, attempts: Iterable[Attempt], now: float) -> None:
        recorder = self._engine.recorder
        for attempt in attempts:
            if attempt.limit is not None and now >= attempt.limit:
                self.ask(attempt, TIMEOUT)
            if recorder is None or attempt.place.index == attempt.run.final:
                continue
            run, index = attempt.run, attempt.place.index
            if not attempt.row and now >= attempt.started + SHOWN_AFTER:
                with run.lock:
                    if attempt.phase == OVER or attempt.row or run.attempts[index] != attempt.attempt:
                        continue
                    attempt.row = True
                    recorder.step(
                        run.key, index, run.statuses[index], None, attempt.attempt, run.wall(attempt.started), None
                    )
            if attempt.row and attempt._progress != attempt.shown and attempt._progress is not None:
                attempt.shown = attempt._progress
                recorder.progress(run.key, index, *attempt._progress)

    def _stop_overdue_runs(self, now: float) -> None:
        recorder = self._engine.recorder
        for run in list(self._engine.runs.values()):
            if run.limit is not None and now >= run.limit:
                run.halt(TIMEOUT, flush=False)
            if recorder is not None and not run.row and run.began and now >= run.began + SHOWN_AFTER:
                run.show()

    # ------------------------------------------------------------------ stopping

    def _push_on(self, now: float) -> None:
        """Raise an exception into the threads of blocks that were asked and are still there."""
        for attempt in list(self._stopping):
            if attempt.phase != ASKED or now < attempt.asked_at + ASKED_FOR or attempt.stop is not None:
                continue
            worker = attempt.worker
            if worker is None:
                continue
            from .failure import stack_of

            attempt.stack = stack_of(worker.ident)
            with attempt.run.lock:
                # Under the lock: a block that has just returned is OVER, and its thread is left alone.
                if attempt.phase != ASKED:
                    continue
                attempt.phase = CONDEMNED
                self._engine.pool.condemn(worker)
                raise_in_thread(worker)

    def _settle_stopping(self, now: float) -> None:
        engine = self._engine
        for attempt in list(self._stopping):
            if attempt.phase == OVER:
                self._stopping.pop(attempt, None)
                continue
            worker = attempt.worker
            patience = ASKED_FOR + CONDEMNED_FOR
            gone = attempt.phase == CONDEMNED and worker is not None and worker.gone
            if not gone and now < attempt.asked_at + patience:
                continue
            if worker is not None and attempt.phase == CONDEMNED and engine.pool.abandon(worker):
                log.warning(
                    "step '%s' of run %s did not stop when told to; its thread is left behind and replaced",
                    attempt.step,
                    attempt.info.run_id,
                )
            self._stopping.pop(attempt, None)
            engine.inflight.discard(attempt)
            item = attempt.run.give_up(attempt, StepTimeout("") if attempt._asked == TIMEOUT else StepCancelled(""))
            if item is not None:
                engine.pool.push(item)


def raise_in_thread(worker: Worker) -> bool:
    """Raise :class:`StepCancelled` in a thread at its next bytecode; a thread inside a C call does not notice."""
    import ctypes  # needed for the first block that overstays only

    if worker.ident is None:
        return False
    return bool(
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(worker.ident), ctypes.py_object(StepCancelled))
    )


__all__ = ["STOPPING", "TIMEOUT", "Timekeeper", "raise_in_thread"]
