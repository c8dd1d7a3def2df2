"""The scribe: the one thread of an engine that may wait for the disk when nobody else would.

Workers write down what they did themselves. What is left (all of them are busy, something
could not be written, the history is to be pruned) would hold up the timekeeper for as long
as another process has the database locked; so the timekeeper only wakes the scribe.
Without such work there is no thread.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Optional

from ..ground.own_log import OwnLog
from .pool import Item
from .run import Run

if TYPE_CHECKING:
    from .engine import Engine

#: Seconds between two looks whether the state file is still the one that was opened.
CHECK_FILE_EVERY = 10.0
#: Seconds between two offers to tidy up while something runs.
TIDY_EVERY = 0.25
#: Seconds that it does so at a time, if there is much; a fifth of the time from one look to the next.
TIDY_FOR = 0.01

log = OwnLog("engine")


class Scribe:
    """Writes for one engine. ``_lock`` protects the start of its thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._wanted = threading.Event()
        self._lock = threading.Lock()
        self._thread: Optional[threading.Thread] = None
        self._active = False
        self._closed = False
        self._idle = False
        #: Monotonic time of the next try to write what could not be written.
        self.retry_write_at = 0.0
        self._check_file_at = engine.monotonic() + CHECK_FILE_EVERY
        self._tidy_at: Optional[float] = None
        #: Whether there was more to tidy up than was done at once.
        self.has_more = False
        #: How often it has woken.
        self.rounds = 0
        #: How often it failed and went on, and of what last.
        self.deaths = 0
        self.last_death: Optional[str] = None

    @property
    def working(self) -> bool:
        """Whether it has something in hand."""
        return self._wanted.is_set() or self._active

    def look(self, now: float) -> None:
        """Wake it if there is something to do."""
        engine = self._engine
        check = engine.journal is not None and now >= self._check_file_at
        if check or engine.pool.outcomes or engine.journal_waits() or self._tidies(now):
            self.wake()

    def _tidies(self, now: float) -> bool:
        # Not only while a run is seen: many short ones leave as much behind.
        if not self._engine.tidies:
            return False
        if self._tidy_at is None:
            self._tidy_at = now + TIDY_EVERY
        return self.has_more or now >= self._tidy_at

    def wake(self, idle: bool = False) -> None:
        """Let it do what there is; ``idle``: nothing runs, so that there is time for housekeeping."""
        self._idle |= idle
        self._wanted.set()
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._closed:
                    thread = threading.Thread(target=self._main, name="blaze-scribe", daemon=True)
                    try:
                        thread.start()
                    except RuntimeError:
                        return  # the interpreter is ending, or there are too many: the next look tries again
                    self._thread = thread

    def close(self) -> None:
        """End the thread."""
        with self._lock:
            self._closed = True
        self._wanted.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(5.0)

    def _main(self) -> None:
        while not self._closed:
            self._wanted.wait()
            self._active = True
            self.rounds += 1
            self._wanted.clear()
            try:
                self._record_outcomes()
                self._write_pending(self._engine.monotonic())
                if self._engine.tidies and not self._closed:
                    self._tidy_up(self._engine.monotonic())
            except Exception as error:
                # Never silently: health() tells, and the loop goes on.
                self.deaths += 1
                self.last_death = f"{type(error).__name__}: {error}"
                log.exception("the scribe failed and goes on")
            finally:
                self._active = False

    def _record_outcomes(self) -> None:
        """What ended elsewhere is recorded by a worker; here, if all of them have been busy since the last look."""
        pool = self._engine.pool
        for _ in range(len(pool.outcomes)):
            item: Optional[Item] = pool.take_outcome()
            while item is not None and (item[1] < 0 or not isinstance(item[0], Run)):
                try:
                    item = item[0].perform(item[1], None)
                except Exception as error:
                    log.exception("the engine failed on a run")
                    item[0].broken(error)
                    item = None
            if item is not None:
                pool.push(item)

    def _write_pending(self, now: float) -> None:
        engine = self._engine
        journal = engine.journal
        if journal is None:
            return
        if now >= self._check_file_at:
            self._check_file_at = now + CHECK_FILE_EVERY
            journal.check_file()
        if journal.fault is not None:
            if now < self.retry_write_at:
                return
            self.retry_write_at = now + journal.retry_delay()
        item = engine.flush(after_fault=True)
        if item is not None:
            engine.pool.push(item)
        if journal.fault is None:
            engine.record_held_back()

    def _tidy_up(self, now: float) -> None:
        idle, self._idle = self._idle, False
        if not idle and not self._tidies(now):
            return
        self._tidy_at = now + TIDY_EVERY
        end = time.monotonic() + TIDY_FOR
        while True:
            self.has_more = self._engine.tidy_up(idle)
            if not self.has_more or time.monotonic() >= end:
                return
