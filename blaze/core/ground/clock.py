"""Time as an object: the wall clock says when, the monotonic clock says how long."""

from __future__ import annotations

import threading
import time as _time
from datetime import datetime, timezone
from typing import Callable, Optional


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

    def wait(self, event: threading.Event, timeout: Optional[float]) -> bool:
        """Wait for ``event`` at most ``timeout`` seconds of this clock; whether it was set."""
        return event.wait(timeout)


def as_datetime(epoch: Optional[float]) -> Optional[datetime]:
    """Epoch seconds as an aware UTC datetime."""
    return None if epoch is None else datetime.fromtimestamp(epoch, timezone.utc)
