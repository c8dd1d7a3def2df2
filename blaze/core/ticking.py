"""The ticker: the one thread of a scheduler that fires ticks on time and looks at what other processes did.

It sleeps until the next tick is due and is woken when a job is added, changed or
resumed, when a run ends behind which another waits, and every ``loop_interval`` to look
at the file: what changed there, who died, what is to be cancelled. What is due and what
becomes of it is decided in ``firing``.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Optional, Set, Tuple

from .ground.errors import StateError
from .ground.own_log import OwnLog

# The rest is imported by the thread, when there is something to fire or to look at: a
# program that runs a sequence and ends does not pay for it.
if TYPE_CHECKING:
    from .do.events import Herald
    from .do.run import Run
    from .firing import Firing
    from .seq import BlazeSequence
    from .session import Session

#: Longest sleep, in seconds: a laptop may have slept, the clock may have been set (RELIABILITY T8).
LONGEST = 30.0
#: Seconds before an instant at which many ticks are due, from which on they are prepared.
LEAD = 0.03
#: Shortest time between two looks at the file, in seconds.
SHORTEST = 0.02
#: Seconds until what could not be fired is tried again, the first time and at most; in between twice as long each time.
RETRY_AFTER, RETRY_AT_MOST = 0.25, 5.0
#: Seconds that the sequence of a due job may be unknown to all that run, before the job is BROKEN.
UNKNOWN_FOR = 60.0

log = OwnLog("scheduler")


class Ticker:
    """Fires the jobs of one session. What it holds belongs to its thread, but for the wishes that others leave."""

    def __init__(
        self,
        session: Session,
        sequences: BlazeSequence,
        *,
        loop_interval: float,
        misfire_grace: float,
        max_recoveries: int,
    ) -> None:
        self._firing: Optional[Firing] = None
        self._session = session
        self._sequences = sequences
        self._clock = session.clock
        self._loop_interval = min(max(loop_interval, SHORTEST), LONGEST)
        self._grace = misfire_grace
        self._max_recoveries = max_recoveries
        self._herald: Optional[Herald] = session.engine.herald
        self._event = threading.Event()
        self._thread: Optional[threading.Thread] = None
        #: What was due at the start has been decided about, or could not be.
        self._caught_up = threading.Event()
        self._closed = False
        #: Wishes of other threads: a run ended behind which another waits; look at the file now;
        #: the sequences are others.
        self._turn = False
        self._look_now = True
        self._anew = False
        self._jobs_changed = False
        #: Look at everything, whether the file has changed or not.
        self._look_all = True
        self._looked_at = self._clock.monotonic()
        self._look_at = 0.0
        self._file_version: Optional[Tuple[int, int]] = None
        #: Owners of open runs that had no lock file at the last look.
        self._orphans: Set[str] = set()
        #: The instant whose ticks were prepared for, and the one that was fired ahead of its time.
        self._foreseen: Optional[float] = None
        self._hurried: Optional[float] = None
        self._busy = True
        #: How often it has woken.
        self.rounds = 0
        #: Whether all ticks are held back.
        self.paused = session.engine.pool.held
        #: When the next tick is due, in epoch seconds, as of the last look.
        self.next_due: Optional[float] = None
        #: How often the loop failed and went on, and of what last.
        self.deaths = 0
        self.last_death: Optional[str] = None
        #: Why nothing could be fired the last time, or None.
        self.fault: Optional[str] = None
        #: When it is tried again, in monotonic seconds.
        self._retry_at: Optional[float] = None

    # ------------------------------------------------------------------ from other threads

    def start(self, at_once: bool) -> None:
        """Begin; unless ``at_once``, with the first look after ``loop_interval``, or when woken."""
        self._session.engine.when_ended = self._run_ended
        self._look_now = at_once
        if not at_once:
            self._caught_up.set()
        self._look_at = self._clock.monotonic() + self._loop_interval
        self._thread = threading.Thread(target=self._main, name="blaze-ticker", daemon=True)
        self._thread.start()

    def catch_up(self) -> None:
        """Wait until what was due at the start has been decided about."""
        if threading.current_thread() is not self._thread:
            self._caught_up.wait(LONGEST)

    def wake(self) -> None:
        """A job was added, changed, paused or resumed: see what is due."""
        self._jobs_changed = True
        self._event.set()

    def look(self) -> None:
        """Look at the file now, whatever ``loop_interval`` is, and at all of it."""
        self._look_all = True
        self._look_now = True
        self._event.set()

    def reconsider(self) -> None:
        """The sequences are others: mend what they can, and look what is due by them."""
        self._anew = True
        self.look()

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._session.engine.when_ended = None
        self._event.set()
        self._caught_up.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(5.0)

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def next_moment(self) -> Optional[float]:
        """When the next tick is due, or is tried again, in monotonic seconds."""
        due, retry_at = self.next_due, self._retry_at
        if retry_at is not None:
            return retry_at
        return None if due is None else self._clock.monotonic() + (due - self._clock.time())

    @property
    def idle(self) -> bool:
        """Whether it sleeps, and nobody has woken it."""
        return not self._busy and not self._event.is_set()

    def _run_ended(self, run: Run) -> None:
        if run.info.job_id is not None and self._firing is not None and run.info.job_id in self._firing.queues:
            self._turn = True
            self._event.set()

    # ------------------------------------------------------------------ the loop

    def _main(self) -> None:
        delay = RETRY_AFTER
        if not self._look_now:
            self._busy = False
            self._clock.wait(self._event, None, self._loop_interval)
        while not self._closed:
            self._busy = True
            self.rounds += 1
            self._event.clear()
            try:
                due_in = self.turn()
                patience = max(0.0, self._look_at - self._clock.monotonic())
                self.fault = self._retry_at = None
                delay = RETRY_AFTER
            except StateError as error:
                # Nothing was fired, so nothing is lost: it is tried again.
                if self.fault is None and not self._closed:
                    log.error("ticks can't be fired: %s", error)
                self.fault = str(error)
                due_in, patience, delay = delay, LONGEST, min(2 * delay, RETRY_AT_MOST)
                self._retry_at = self._clock.monotonic() + due_in
            except Exception as error:
                # Never silently: health() tells, and the loop goes on.
                self.deaths += 1
                self.last_death = f"{type(error).__name__}: {error}"
                log.exception("the ticker failed and goes on")
                due_in, patience, delay = delay, LONGEST, min(2 * delay, RETRY_AT_MOST)
                self._retry_at = self._clock.monotonic() + due_in
            self._caught_up.set()
            self._busy = False
            if not self._closed:
                self._clock.wait(self._event, due_in, patience)

    def turn(self) -> Optional[float]:
        """Do all that is due; seconds until the next tick, or None."""
        firing = self._firing
        if firing is None:
            from .firing import Firing

            firing = self._firing = Firing(self._session, self._sequences, self._grace)
        if self._anew:
            self._anew = False
            firing.reconsider()
        if self._look_now or self._clock.monotonic() >= self._look_at:
            self._look_now = False
            self._look_at = self._clock.monotonic() + self._loop_interval
            self._look(firing)
        if self._jobs_changed:
            self._jobs_changed = False
            firing.jobs_changed()
        if self._turn:
            self._turn = False
            try:
                firing.start_queued()
            except BaseException:
                self._turn = True  # nobody else need have noticed that it is one's turn
                raise
        while not (self.paused or self._closed):
            self.next_due, many = firing.next_due()
            now = self._clock.time()
            if self.next_due is None:
                return None
            if self.next_due <= now:
                self._fire(firing)
            elif not many or self._hurried == self.next_due:
                return self.next_due - now
            elif self._foreseen == self.next_due:
                begin = self.next_due - self._clock.head_start(firing.effort)
                if now < begin:
                    return begin - now
                self._hurried = self.next_due
                self._fire(firing, self.next_due)
            elif self.next_due - LEAD > now:
                return self.next_due - LEAD - now
            else:
                firing.foresee(self.next_due)
                self._foreseen = self.next_due
        self.next_due = None
        return None

    def _fire(self, firing: Firing, tick: float = -math.inf) -> None:
        batch = firing.fire(tick)
        if batch.paused:
            self._hold(True)
        # Before anything else: it is recorded as started by us.
        started = firing.start(batch)
        if self._herald is not None:
            for run in started:
                late = batch.at - (run.info.scheduled_at or batch.at)
                if late > self._grace:
                    self._herald.late(run, late)
        self._session.tell_ended(batch.ended)
        self._session.tell_skipped(batch.skipped)
        if batch.cancels:
            self._obey_cancels()
        firing.get_ready(batch.strange)

    # ------------------------------------------------------------------ looking at the file

    def _look(self, firing: Firing) -> None:
        """See to what other processes did: died, stopped, paused, cancelled, added."""
        from .recovering import find_orphans, take_over_the_dead, take_released
        from .remember import jobs, ticks

        session = self._session
        now = self._clock.monotonic()
        # A process that was frozen has seen nothing meanwhile.
        passed, self._looked_at = min(now - self._looked_at, self._loop_interval), now
        firing.go_on()
        alone = session.is_alone()
        if session.lock is not None:
            session.lock.keep()
            self._orphans = find_orphans(session, self._orphans)
            if not alone:
                take_over_the_dead(session, self._sequences, self._max_recoveries, [])
        version = session.journal.version()
        look_all, self._look_all = self._look_all, False
        if look_all or version != self._file_version:
            try:
                self._hold(jobs.is_paused(session.journal))
                self._obey_cancels()
                if ticks.has_released(session.journal):
                    take_released(session, self._sequences, self._max_recoveries, [])
                firing.start_queued()
                firing.mend()
                self._jobs_changed = True
            except BaseException:
                self._look_all = self._look_now = True
                raise
            self._file_version = version  # not before all of that is done, or it is not done again
        elif firing.queues:
            # A run may have ended that nobody had in hand.
            firing.start_queued()
        if not self.paused:
            firing.break_unknown(passed, 0.0 if alone else UNKNOWN_FOR)

    def _hold(self, paused: bool) -> None:
        """Take over whether the state is paused."""
        self.paused = paused
        pool = self._session.engine.pool
        if pool.held != paused and not self._closed:
            pool.hold(paused)

    def _obey_cancels(self) -> None:
        """Cancel the runs at hand that somebody asked to."""
        from .remember import ticks

        engine = self._session.engine
        for run_id, reason in ticks.asked_to_cancel(self._session.journal, self._session.instance_id):
            run = engine.runs.get(run_id)
            if run is not None:
                run.halt(reason)


__all__ = ["Ticker"]
