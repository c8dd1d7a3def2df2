"""Log lines about what clients do, so few that nobody can fill a disk with them (RELIABILITY R52)."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Callable

from ..core.ground.own_log import OwnLog

#: Lines in one stretch of time, and its length in seconds. What goes beyond is counted.
LINES, STRETCH = 10, 60.0


class Complaints:
    """Passes on a few lines in each stretch of time, and tells how many it has not passed on."""

    def __init__(self, log: OwnLog, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        #: Protects the three numbers.
        self._lock = threading.Lock()
        self._since = clock()
        self._passed = 0
        self._held_back = 0

    def add(self, text: str, *values: Any, level: int = logging.WARNING, exc_info: bool = False) -> None:
        """Log it, if there is room."""
        with self._lock:
            if self._clock() - self._since >= STRETCH:
                held_back, self._since, self._passed, self._held_back = self._held_back, self._clock(), 0, 0
            else:
                held_back = 0
            self._passed += 1
            if self._passed > LINES:
                self._held_back += 1
                return
        if held_back:
            self._log.warning("%d more messages about clients were not logged", held_back)
        self._log.log(level, text, *values, exc_info=exc_info)
