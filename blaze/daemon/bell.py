"""A bell that any thread, and a signal handler too, may ring for the one thread that waits for it.

An ``Event`` would not do: a handler that sets it may have interrupted the very thread
that holds the event's lock (RELIABILITY P8).
"""

from __future__ import annotations

import selectors
import socket
from typing import Optional


class Bell:
    """A pair of sockets; a byte on its way is a ring that was not heard yet."""

    def __init__(self) -> None:
        self._heard, self._rope = socket.socketpair()
        self._heard.setblocking(False)
        self._rope.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._heard, selectors.EVENT_READ)

    def ring(self) -> None:
        """Wake who waits, or who will. Takes no lock and never waits."""
        try:
            self._rope.send(b"!")
        except OSError:  # it is full of rings, or closed
            pass

    def wait(self, seconds: Optional[float]) -> bool:
        """Wait for a ring; whether there was one."""
        if not self._selector.select(seconds):
            return False
        try:
            while len(self._heard.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            pass
        return True

    def close(self) -> None:
        """Close the sockets."""
        self._selector.close()
        self._heard.close()
        self._rope.close()
