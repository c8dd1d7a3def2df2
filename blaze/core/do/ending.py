"""The end of a run: it comes once, and any number of threads wait for it.

A ``concurrent.futures.Future`` does the same at several times the price, so there is
one only for who asks for it.
"""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, List, Optional

from .result import RunResult

if TYPE_CHECKING:
    from concurrent.futures import Future

    from .run import Run


class Ending:
    """Whether and how a run has ended. The run's lock, which it is given, protects it."""

    __slots__ = ("over", "_lock", "_error", "_waiting", "_future", "_result")

    def __init__(self, lock: threading.Lock) -> None:
        self.over = False
        self._lock = lock
        #: Why there will be no result.
        self._error: Optional[BaseException] = None
        #: Gates of the threads that wait.
        self._waiting: List[threading.Lock] = []
        self._future: Optional[Future[RunResult]] = None
        # Weak, since the result holds the run: each goes as soon as nobody wants it, without the collector.
        self._result: Optional[weakref.ref[RunResult]] = None

    def come(self, run: Run, error: Optional[BaseException] = None) -> None:
        """The run has ended, or will not end here because of ``error``. Only the first call counts."""
        with self._lock:
            if self.over:
                return
            self._error = error
            self.over = True
            waiting, self._waiting = self._waiting, []
            future = self._future
        for gate in waiting:
            gate.release()
        if future is not None:
            self._tell(future, run)

    def wait(self, timeout: Optional[float]) -> bool:
        """Wait for it, at most ``timeout`` seconds; whether it has come."""
        if self.over:
            return True
        gate = threading.Lock()
        gate.acquire()
        with self._lock:
            if self.over:
                return True
            self._waiting.append(gate)
        try:
            gate.acquire(timeout=-1 if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX))
        finally:
            with self._lock:
                if not self.over:
                    self._waiting.remove(gate)
        return self.over

    def result(self, run: Run) -> RunResult:
        """The result, once it has come: always the same object as long as somebody has it. Raises the ``error``.

        Whoever has it finds the future done, too, though the thread that ended the run may not have come to it yet.
        """
        future = self._future
        if future is not None and not future.done():
            self._tell(future, run)
        if self._error is not None:
            raise self._error
        return self._make_result(run)

    def _make_result(self, run: Run) -> RunResult:
        with self._lock:
            found = self._result() if self._result is not None else None
            if found is None:
                found = RunResult(run)
                self._result = weakref.ref(found)
            return found

    def future(self, run: Run) -> Future[RunResult]:
        """The same as a future."""
        from .run_future import RunFuture

        with self._lock:
            if self._future is not None:
                return self._future
            future = self._future = RunFuture(run.engine.pool)
            over = self.over
        if over:
            self._tell(future, run)
        return future

    def _tell(self, future: Future[RunResult], run: Run) -> None:
        from concurrent.futures import InvalidStateError

        with suppress(InvalidStateError):  # somebody else was quicker
            if self._error is not None:
                future.set_exception(self._error)
            else:
                future.set_result(self._make_result(run))
