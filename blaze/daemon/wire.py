"""Lines over a socket, with a deadline for each: what server and client have in common."""

from __future__ import annotations

import socket
import time
from typing import Callable, Optional

from .protocol import MAX_FRAME, Code, Malformed, too_long

#: Bytes asked of the system at a time.
CHUNK = 64 * 1024
#: A frame longer than this, in bytes, is *large*: see ``Wire.when_large``.
LARGE = 256 * 1024


class Silence(Exception):
    """No frame was begun in time."""


class Unfinished(Malformed):
    """A frame was begun and not finished, in time or at all."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.PARSE_ERROR, message)


class Lost(Exception):
    """The other end has left, or does not read what it is sent."""


class NotTaken(Lost):
    """It does not read what it is sent."""


class Wire:
    """One end of a connection. Used by one thread, but for ``stop_reading`` and ``hang_up``."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        #: That of the socket, which is blocking at first.
        self._timeout: Optional[float] = None
        #: What came after the last line that was read.
        self._rest = bytearray()
        #: Longest line taken, in bytes.
        self.limit = MAX_FRAME
        #: Called once for each frame that turns out to be large; may wait, may raise.
        self.when_large: Callable[[], None] = _nothing
        #: Since when a frame is incomplete or bytes are not taken, by the monotonic clock; None: neither.
        self.stalled_since: Optional[float] = None

    def read(self, begin: Optional[float], finish: Optional[float]) -> Optional[bytes]:
        """The next line; None when the other end has sent its last.

        :param begin: seconds in which something has to come, else :class:`Silence`.
        :param finish: seconds from then to the end of the line, else :class:`Unfinished`.
        """
        if not self._rest:
            self._wait_at_most(begin)
            chunk = self._receive()
            if not chunk:
                return None
            if chunk.find(b"\n") == len(chunk) - 1 < self.limit:
                return chunk  # the whole line and no more, as nearly always
            self._rest += chunk
        try:
            return self._assemble(finish)
        finally:
            self.stalled_since = None

    def _assemble(self, finish: Optional[float]) -> bytes:
        buffer = self._rest
        begun = self.stalled_since = time.monotonic()
        searched, large = 0, False
        while True:
            end = buffer.find(b"\n", searched) + 1
            if end > self.limit or (not end and len(buffer) >= self.limit):
                raise too_long(self.limit)
            if end:
                line = bytes(memoryview(buffer)[:end])
                del buffer[:end]
                return line
            searched = len(buffer)
            if searched > LARGE and not large:
                large = True
                self.when_large()
                begun = self.stalled_since = time.monotonic()
            if finish is not None:
                left = begun + finish - time.monotonic()
                if left <= 0:
                    raise _late(finish)
                self._wait_at_most(left)
            try:
                chunk = self._receive()
            except Silence:
                raise _late(finish) from None
            if not chunk:
                raise Unfinished("the connection ended within a frame, before its newline")
            buffer += chunk

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(CHUNK)
        except socket.timeout:
            raise Silence from None
        except OSError as error:
            raise Lost(error.strerror or str(error)) from None

    def send(self, line: bytes, seconds: Optional[float]) -> None:
        """Send all of it within ``seconds``. Raises :class:`Lost`."""
        self._wait_at_most(seconds)
        self.stalled_since = time.monotonic()
        try:
            self._socket.sendall(line)
        except socket.timeout:
            raise NotTaken(f"what it was sent was not read within {seconds:g} s") from None
        except OSError as error:
            raise Lost(error.strerror or str(error)) from None
        finally:
            self.stalled_since = None

    def is_quiet(self) -> bool:
        """Whether the other end is there and has sent nothing that was not read."""
        if self._rest:
            return False
        self._wait_at_most(0.0)
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def stop_reading(self) -> None:
        """Wake the thread that reads: it sees the end. What it sends can still be read by the other end."""
        self._shut(socket.SHUT_RD)

    def hang_up(self) -> None:
        """End the connection, whatever its thread does."""
        self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        try:
            self._socket.shutdown(how)
        except OSError:
            pass  # the other end was faster

    def close(self) -> None:
        """Let the socket go."""
        self._socket.close()

    def _wait_at_most(self, seconds: Optional[float]) -> None:
        """Set the socket's timeout, unless it is the same or a little longer: each change is a system call."""
        current = self._timeout
        if current is None or seconds is None or not seconds <= current <= 1.02 * seconds:
            self._timeout = seconds
            self._socket.settimeout(seconds)


def _nothing() -> None:
    pass


def _late(finish: Optional[float]) -> Unfinished:
    return Unfinished(f"the frame was not finished within {finish or 0:g} s")
