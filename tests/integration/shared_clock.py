"""A wall clock that several processes share, and that a test sets for all of them at once."""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path

from blaze import Clock

_DOUBLE = struct.Struct("d")


class SharedClock(Clock):
    """Reads its time from a few bytes of a file that all processes have mapped.

    What they hold is the distance from the machine's clock (``stands_still=False``), or the time itself.
    """

    def __init__(self, path: Path, value: float = 0.0, *, stands_still: bool = False) -> None:
        super().__init__()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(descriptor).st_size < _DOUBLE.size:
                os.write(descriptor, _DOUBLE.pack(value))
            self._bytes = mmap.mmap(descriptor, _DOUBLE.size)
        finally:
            os.close(descriptor)
        self.time = self._read if stands_still else lambda: time.time() + self._read()

    def _read(self) -> float:
        return _DOUBLE.unpack_from(self._bytes)[0]

    @property
    def value(self) -> float:
        """The time, or the distance from the machine's clock, in seconds."""
        return self._read()

    def move(self, seconds: float) -> None:
        """Set the clocks of all processes by so many seconds."""
        _DOUBLE.pack_into(self._bytes, 0, self._read() + seconds)
