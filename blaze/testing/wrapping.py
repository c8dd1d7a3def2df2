"""A step's function with something before it and something after it, for threads and for the event loop."""

from __future__ import annotations

import asyncio
import functools
import time
from typing import Any, Callable, NoReturn

from blaze.core.do.attempt import Attempt
from blaze.core.ground.context import StepContext, current
from blaze.core.ground.errors import StepCancelled

#: Real seconds between two looks of a hanging block whether it has been asked to stop.
LOOK_EVERY = 0.0005


def goes_on() -> bool:
    """Nothing comes before."""
    return False


def nothing() -> None:
    """Nothing comes after."""


def wrapped(
    function: Callable[..., Any],
    is_async: bool,
    before: Callable[[], bool] = goes_on,
    after: Callable[[], None] = nothing,
) -> Callable[..., Any]:
    """The function; ``before`` may raise, and tells whether the call is to hang; ``after`` sees it return."""
    if is_async:

        @functools.wraps(function)
        async def later(*context: Any, **arguments: Any) -> Any:
            if before():
                await _hang_async()
            value = await function(*context, **arguments)
            after()
            return value

        return later

    @functools.wraps(function)
    def now(*context: Any, **arguments: Any) -> Any:
        if before():
            _hang()
        value = function(*context, **arguments)
        after()
        return value

    return now


def _hang() -> NoReturn:
    """Wait to be stopped."""
    context = _declare_hanging()
    while True:
        context.check_cancelled()
        time.sleep(LOOK_EVERY)


async def _hang_async() -> NoReturn:
    _declare_hanging()
    await asyncio.Event().wait()
    raise StepCancelled("stopped while hanging")


def _declare_hanging() -> StepContext:
    """Let time that is driven go on."""
    context = current()
    if isinstance(context, Attempt):
        context.hangs = True
    return context


__all__ = ["goes_on", "nothing", "wrapped"]
