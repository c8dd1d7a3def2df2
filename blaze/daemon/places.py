"""The places of a server: how many connections there are, and which has to go when one too many comes."""

from __future__ import annotations

import threading
import time
from typing import Dict, List, Optional

from .connection import Connection, Limits


class Places:
    """The connections of a server, each with its thread.

    A newcomer takes the place of the one that has been idle for longest, or else of the
    one that has stalled for longest; where all are at work, there is none for it.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        #: Protects ``_threads``; notified when a place becomes free. Taken before ``Connection._lock``.
        self._changed = threading.Condition()
        self._threads: Dict[Connection, threading.Thread] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._threads)

    def take(self, connection: Connection) -> bool:
        """Start to serve a connection in a thread of its own, if there is a place or one can be made."""
        thread = threading.Thread(target=self._serve, args=(connection,), name="blaze-daemon-connection", daemon=True)
        with self._changed:
            if self._closed or (len(self._threads) >= self._limits.connections and not self._make_room()):
                return False
            self._threads[connection] = thread
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left
            self._free(connection)
            return False
        return True

    def make_room(self) -> bool:
        """End the connection that can be spared best; whether one ended."""
        with self._changed:
            return self._make_room()

    def _make_room(self) -> bool:
        connection = self._most_dispensable()
        if connection is None:
            return False
        connection.make_room()
        # No newcomer is let in before the old thread is at its end: they are never more than there are places.
        return self._changed.wait_for(lambda: connection not in self._threads, self._limits.patience)

    def _most_dispensable(self) -> Optional[Connection]:
        now = time.monotonic()
        ranked = ((connection.room_to_gain(now), connection) for connection in self._threads)
        spared = [(rank, connection) for rank, connection in ranked if rank is not None]
        return min(spared, key=lambda pair: pair[0])[1] if spared else None

    def _serve(self, connection: Connection) -> None:
        try:
            connection.converse()
        finally:
            self._free(connection)

    def _free(self, connection: Connection) -> None:
        with self._changed:
            self._threads.pop(connection, None)
            self._changed.notify_all()

    def close(self, grace: float) -> List[threading.Thread]:
        """End all of them; those at work when they have answered, after ``grace`` seconds at once.

        Returns the threads that are still in a method.
        """
        with self._changed:
            self._closed = True
            threads = dict(self._threads)
            for connection in threads:
                connection.leave("the daemon stops")
            self._changed.wait_for(lambda: not self._threads, grace)
            for connection in self._threads:
                connection.hang_up()
        end = time.monotonic() + self._limits.patience
        for thread in threads.values():
            if thread is not threading.current_thread():
                thread.join(max(0.0, end - time.monotonic()))
        return [thread for thread in threads.values() if thread.is_alive()]

    def forget(self) -> None:
        """Close this process's copies only: what a forked child does."""
        for connection in self._threads:
            connection.forget()
