"""A clock that stands still until it is driven: a day of schedule in milliseconds, always in the same order.

Nothing in the scheduler knows of it. Its threads wait by this clock, and the driver moves
the time to the next instant at which something is due, each time when nobody has
anything in hand any more.
"""

from __future__ import annotations

import math
import threading
import time as _time
import weakref
from datetime import datetime, timedelta, timezone
from typing import Dict, List, Optional, Tuple, Union

from blaze.core.ground.clock import Busy, Clock, as_datetime
from blaze.core.ground.errors import BlazeError, Fault, ValidationError

#: Real seconds that a block may take before time goes on without it, so that its timeout can strike.
BLOCK_PATIENCE = 5.0
#: Real seconds that everything else may take: a machine that is this slow, or something is wrong.
STUCK_AFTER = 10.0
#: Real seconds between two looks whether all is quiet, shortest and longest.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.00002, 0.002
#: The threads that fire ticks: at one instant, what ends or goes on then does so before anything begins.
TICKER = "blaze-ticker"
#: Seconds between two moments that are one instant: more than what epoch seconds are rounded by.
ROUNDING = 1e-6
#: Monotonic time at which a virtual clock begins.
BEGIN = 1000.0


class VirtualClock(Clock):
    """Virtual time, for ``Blaze(clock=...)``.

    ::

        clock = VirtualClock(datetime(2026, 3, 29, tzinfo=timezone.utc))
        with Blaze(sequences=sequences, durability="memory", clock=clock) as scheduler:
            scheduler.submit(SubmitSequenceData("etl", seq_run_interval="0 * * * *"))
            clock.advance(hours=24)      # 24 runs, one after the other

    :param start: the instant at which it begins: an aware datetime, a naive one in UTC, or
        epoch seconds. Default: 2026-01-01 00:00 UTC.
    :param patience: real seconds that a block may take; then time goes on without it.

    Blocks take as long as they take, but no virtual time. What waits (retries, timeouts,
    ticks) waits in virtual time only. At one instant, timeouts and retries come before ticks.
    Drive it from one thread at a time, and not from a block.
    """

    def __init__(self, start: Union[datetime, float, None] = None, *, patience: float = BLOCK_PATIENCE) -> None:
        super().__init__()
        self._patience = patience
        self._wall = _seconds(start if start is not None else datetime(2026, 1, 1, tzinfo=timezone.utc))
        self._now = BEGIN
        self._offset = self._wall - BEGIN
        self._lock = threading.Lock()
        self._driving = threading.Lock()
        #: Events of the threads that wait, and when each wants to be woken, in monotonic seconds.
        self._waiting: Dict[threading.Event, float] = {}
        #: Whose turn it is when several are due at one instant.
        self._turns: weakref.WeakKeyDictionary[threading.Event, Tuple[bool, int]] = weakref.WeakKeyDictionary()
        self._workers: List[Busy] = []
        self.time = self._time
        self.monotonic = self._monotonic

    def _time(self) -> float:
        return self._now + self._offset

    def _monotonic(self) -> float:
        return self._now

    @property
    def now(self) -> datetime:
        """This instant (aware, UTC)."""
        return as_datetime(self.time()) or datetime.now(timezone.utc)

    # ------------------------------------------------------------------ what a scheduler calls

    def wait(self, event: threading.Event, timeout: Optional[float], patience: float) -> bool:
        """Wait for the event, which the driver sets when time has passed, at most ``patience`` real seconds."""
        with self._lock:
            self._waiting[event] = math.inf if timeout is None else self._now + timeout
            if event not in self._turns:
                self._turns[event] = (threading.current_thread().name == TICKER, len(self._turns))
        try:
            return event.wait(patience)
        finally:
            with self._lock:
                self._waiting.pop(event, None)

    def head_start(self, work: float) -> float:
        """None: work takes no virtual time."""
        return 0.0

    def attach(self, worker: Busy) -> None:
        """A scheduler is driven from now on."""
        with self._lock:
            self._workers.append(worker)

    def detach(self, worker: Busy) -> None:
        """It is not any more."""
        with self._lock:
            if worker in self._workers:
                self._workers.remove(worker)

    # ------------------------------------------------------------------ driving

    def advance(
        self,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        until: Optional[datetime] = None,
    ) -> datetime:
        """Let time pass, and everything happen that is due meanwhile, in order. The instant that it is then.

        :param until: an instant instead of a span; naive: in UTC.

        It returns when all that was due has been done: runs that wait for nothing have ended.
        """
        if until is not None:
            end = _seconds(until) - self._offset
        else:
            end = self._now + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
        if end < self._now:
            raise ValidationError([Fault("advance()", "time goes forwards only; jump() sets the wall clock")])
        with self._driver():
            self._play(end)
            self._move_to(end)
            self._play(end)
        return self.now

    def to_next_tick(self) -> datetime:
        """Go to the next instant at which anything is due, and let it happen. That instant.

        Raises :class:`BlazeError` if nothing is.
        """
        with self._driver():
            self._settle()
            moment = self._next_moment()
            if moment is None:
                raise BlazeError("nothing will be due: no job is active, and nothing waits")
            self._go_to(self._latest_of(moment))
            self._play(self._now)
        return self.now

    def settle(self) -> None:
        """Let everything happen that is due now; no time passes."""
        with self._driver():
            self._play(self._now)

    def jump(self, seconds: float) -> None:
        """Set the wall clock, as an administrator does: by so many seconds, backwards if negative. No time passes."""
        with self._driver():
            self._settle()
            self._offset += seconds
            self._wake(math.inf)
            self._play(self._now)

    def _driver(self) -> _Driver:
        return _Driver(self._driving)

    def _play(self, end: float) -> None:
        """Let everything happen that is due until ``end``, in monotonic seconds.

        Who was on its way to wait when it was to be woken is woken again: what is due stays due until it is done.
        """
        overdue = _time.monotonic() + STUCK_AFTER
        while True:
            self._settle()
            moment = self._next_moment()
            if moment is None or moment > end:
                return
            if moment > self._now:
                overdue = _time.monotonic() + STUCK_AFTER
                self._go_to(min(end, self._latest_of(moment)))
                continue
            if _time.monotonic() >= overdue:
                raise BlazeError(f"what was due at {self.now.isoformat()} is not done; health() may tell why")
            self._wake(math.inf)

    def _next_moment(self) -> Optional[float]:
        """When the next thing will be due, in monotonic seconds."""
        with self._lock:
            workers = list(self._workers)
        moments = [worker.next_moment() for worker in workers]
        return min((moment for moment in moments if moment is not None), default=None)

    def _latest_of(self, moment: float) -> float:
        """What is due within a rounding error of wall-clock time is due at one instant: the latest of its moments."""
        with self._lock:
            return max(moment, *(wanted for wanted in (*self._waiting.values(), moment) if wanted <= moment + ROUNDING))

    def _go_to(self, moment: float) -> None:
        """Move the time to where something is due, and wake who has to do it, one after the other."""
        self._now = max(self._now, moment)
        self._wake_in_turn()
        self._move_to(moment)

    def _move_to(self, moment: float) -> None:
        self._now = max(self._now, moment)
        with self._lock:
            watching = any(worker.is_watching() for worker in self._workers)
        self._wake(math.inf if watching else self._now)

    def _wake_in_turn(self) -> None:
        """Wake those for whom it is time now, each when the one before has done what it had to do.

        First who looks after runs, until nothing is due there any more: it may have been on its way to wait.
        """
        overdue = _time.monotonic() + self._patience
        self._wake_each(ticker=False)
        while self._is_due_within_runs() and _time.monotonic() < overdue:
            self._settle()
            self._wake_each(ticker=False)
        self._settle()
        self._wake_each(ticker=True)

    def _wake_each(self, ticker: bool) -> None:
        with self._lock:
            due = [(self._turns[event], event) for event, wanted in self._waiting.items() if wanted <= self._now]
        due = [one for one in due if one[0][0] is ticker]
        for number, (_, event) in enumerate(sorted(due, key=lambda one: one[0])):
            if number:
                self._settle()
            event.set()

    def _is_due_within_runs(self) -> bool:
        with self._lock:
            workers = list(self._workers)
        moments = [worker.next_within_runs() for worker in workers]
        return any(moment is not None and moment <= self._now for moment in moments)

    def _wake(self, moment: float) -> None:
        """Wake those who want to be woken by then."""
        with self._lock:
            for event, wanted in self._waiting.items():
                if wanted <= moment:
                    event.set()

    def _settle(self) -> None:
        """Wait, in real time, until nobody has anything in hand; a block that takes too long is left alone."""
        pause = SHORTEST_PAUSE
        begin = _time.monotonic()
        blocks = True
        while self._is_busy(blocks):
            waited = _time.monotonic() - begin
            if waited >= max(STUCK_AFTER, self._patience):
                return
            blocks = waited < self._patience
            _time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _is_busy(self, blocks: bool) -> bool:
        with self._lock:
            workers = list(self._workers)
        return any(worker.is_busy(blocks) for worker in workers)


class _Driver:
    """The right to drive a clock, for one thread at a time."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise BlazeError(
                "this clock is being driven already: by another thread, or by the call that this block is part of"
            )

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()


def _seconds(start: Union[datetime, float]) -> float:
    if isinstance(start, datetime):
        return (start if start.tzinfo is not None else start.replace(tzinfo=timezone.utc)).timestamp()
    if isinstance(start, (int, float)) and not isinstance(start, bool):
        return float(start)
    raise ValidationError(
        [Fault("VirtualClock()", f"an instant is a datetime or epoch seconds, got {type(start).__name__}")]
    )


__all__ = ["VirtualClock"]
