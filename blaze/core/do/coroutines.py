"""Async blocks: coroutines on one event loop, in one thread, shared by all runs of an engine."""

from __future__ import annotations

import asyncio
import threading
from contextvars import Context
from typing import Any, Callable, Optional, Set

from ..ground.context import running
from .attempt import Attempt, outcome_of

#: Seconds that cancelled coroutines have to end when the loop is closed.
CLOSE_PATIENCE = 1.0

#: ``done(attempt, value, error)``, called in the loop's thread.
Done = Callable[[Attempt, Any, Optional[BaseException]], None]


class EventLoop:
    """The loop and its thread; made when the first async block starts."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._tasks: Set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._main, name="blaze-event-loop", daemon=True)
        self._thread.start()

    def start(
        self, attempt: Attempt, function: Callable[..., Any], arguments: Any, variables: Context, done: Done
    ) -> Callable[[], None]:
        """Run a coroutine function in its own context; a function that cancels it, from any thread."""
        held: Set[asyncio.Task[Any]] = set()

        def create() -> None:
            task = variables.run(self._loop.create_task, _call(attempt, function, arguments))
            held.add(task)
            self._tasks.add(task)
            task.add_done_callback(finished)
            if attempt.cancelled:
                task.cancel()

        def finished(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            value, error = outcome_of(task)
            if type(error) is _BlockExit:
                error = error.error
            done(attempt, value, error)

        def cancel() -> None:
            for task in held:
                task.cancel()

        self._loop.call_soon_threadsafe(create)
        return lambda: self._quietly(cancel)

    def _quietly(self, function: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop is closed: nothing is left to cancel
            return

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            while True:
                try:
                    self._loop.run_forever()
                    break
                except (SystemExit, KeyboardInterrupt):
                    continue  # of a task that a block made; whoever awaits it gets it too
        finally:
            try:
                self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            finally:
                self._loop.close()

    def close(self) -> None:
        """Cancel what is left and end the thread."""

        def cancel_all() -> None:
            for task in list(self._tasks):
                task.cancel()
            if self._tasks:
                waiter = asyncio.ensure_future(asyncio.wait(set(self._tasks), timeout=CLOSE_PATIENCE))
                waiter.add_done_callback(lambda _: self._loop.stop())
            else:
                self._loop.stop()

        self._quietly(cancel_all)
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_PATIENCE * 2)


async def _call(attempt: Attempt, function: Callable[..., Any], arguments: Any) -> Any:
    running.set(attempt)
    try:
        return await function(**arguments)
    except (SystemExit, KeyboardInterrupt) as error:
        # asyncio lets these two out of the loop; here they are a failure of the block like any other.
        raise _BlockExit(error) from None


class _BlockExit(Exception):
    """Carries a SystemExit or KeyboardInterrupt of an async block past the loop."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
