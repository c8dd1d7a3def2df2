"""Time as an object: the wall clock says when, the monotonic clock says how long."""

from __future__ import annotations

import threading
import time as _time
from datetime import datetime, timezone
from typing import Callable, Optional, Protocol


class Busy(Protocol):
    """What is driven by a clock."""

    def is_busy(self, blocks: bool = True) -> bool:
        """Whether it has something in hand that needs no time to pass; without ``blocks``, beside the user's code."""

    def is_watching(self) -> bool:
        """Whether it looks after something that goes on, as time passes."""

    def next_moment(self) -> Optional[float]:
        """When the next thing that it knows of will be due, in monotonic seconds; None: nothing will."""

    def next_within_runs(self) -> Optional[float]:
        """The same of what begins nothing new: limits, retries."""


class Clock:
    """The machine's clocks. A subclass may put virtual time in their place.

    ``time`` and ``monotonic`` are plain attributes, so that the engine's hot path
    calls the C function and nothing else.
    """

    def __init__(self) -> None:
        #: Seconds since the epoch (UTC).
        self.time: Callable[[], float] = _time.time
        #: Seconds that never go backwards; differences only.
        self.monotonic: Callable[[], float] = _time.monotonic

    def wait(self, event: threading.Event, timeout: Optional[float], patience: float) -> bool:
        """Wait for ``event``; whether it was set.

        - ``timeout``: seconds of this clock until something is known to be due; None: nothing is.
        - ``patience``: real seconds after which to look again all the same, since clocks may be
          set, laptops sleep, and other processes tell nobody what they did.
        """
        return event.wait(patience if timeout is None else min(timeout, patience))

    def head_start(self, work: float) -> float:
        """How many seconds before an instant to begin with ``work`` seconds of work that is to be done by then."""
        return work

    def sleep_until(self, instant: float, at_most: float) -> bool:
        """Sleep until the wall clock shows an instant (epoch seconds), but not longer than ``at_most`` real seconds.

        Whether it shows it then, which it does not if it was set back meanwhile.
        """
        left = instant - self.time()
        if left > 0.0:
            _time.sleep(min(left, at_most))
        return self.time() >= instant

    def attach(self, worker: Busy) -> None:
        """Whoever waits by this clock makes itself known; a clock that is driven has to know who is at work."""

    def detach(self, worker: Busy) -> None:
        """It waits no more."""


def as_datetime(epoch: Optional[float]) -> Optional[datetime]:
    """Epoch seconds as an aware UTC datetime."""
    return None if epoch is None else datetime.fromtimestamp(epoch, timezone.utc)
