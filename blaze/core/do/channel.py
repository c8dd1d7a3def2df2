"""The frames that a process and its child exchange over a private socket pair."""

from __future__ import annotations

import signal
import struct
import threading
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Tuple

if TYPE_CHECKING:
    import socket

#: Pickle protocol of everything that crosses.
PROTOCOL = 5
#: Name under which the parent's ``__main__`` runs in the child, as in multiprocessing: not ``__main__``.
MAIN_ALIAS = "__mp_main__"

# Kinds of frames. Down: PREPARE, RUN. Up: the others. RESULT, ERROR end an attempt; after
# BROKEN (what the attempt needs can't be loaded) the child is of no further use.
PREPARE, RUN, READY, LOG, PROGRESS, RESULT, ERROR, BROKEN = range(8)

# kind, number of the attempt (0: none), length of the payload
_HEADER = struct.Struct("<BQQ")
# The kernel takes a message up to this size whole or not at all; of a larger one, a signal may leave a part.
_ATOMIC = 32 * 1024
_SHIELDED = [
    getattr(signal, name)
    for name in ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGINT", "SIGPROF", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGVTALRM")
    if hasattr(signal, name)
]

#: Where the parent's ``__main__`` comes from: (module name for ``-m``, path of the script).
MainOrigin = Tuple[Optional[str], Optional[str]]
#: File of a module, and its search path if it is a package.
ModuleOrigin = Tuple[str, Optional[List[str]]]


class ChannelClosed(Exception):
    """The other side is gone."""


class Surroundings(NamedTuple):
    """What a block may expect to find in its process as it is in the parent."""

    path: List[str]
    argv: List[str]
    directory: Optional[str]
    environment: Dict[str, str]
    #: Whether what blocks print is kept with their run.
    keeps_prints: bool


class Channel:
    """Frames over one half of a socket pair. Any thread may send; one receives.

    ``shielded``: hold back signals while a large frame is sent, so that a block's own signal
    handler (a SIGALRM that raises) can't cut a frame in two.
    """

    def __init__(self, sock: socket.socket, shielded: bool = False) -> None:
        import socket

        self._sock = sock
        self._shielded = shielded
        self._flags = getattr(socket, "MSG_NOSIGNAL", 0)
        self._whole = socket.MSG_WAITALL
        # Keeps frames apart. Reentrant, as a signal handler may log while this thread sends: Python runs
        # handlers between two C calls, and each frame is one, so the frames stay whole.
        self._sending = threading.RLock()

    def send(self, kind: int, attempt: int, payload: bytes = b"") -> None:
        """Send one frame; blocks until the other side has room for it."""
        frame = [_HEADER.pack(kind, attempt, len(payload)), payload]
        shield = self._shielded and len(payload) > _ATOMIC
        if shield:
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SHIELDED)
        try:
            with self._sending:
                sent = self._sock.sendmsg(frame, [], self._flags)
                if sent < _HEADER.size + len(payload):  # over 2 GiB, or a signal came in the middle
                    self._sock.sendall(frame[0][sent:], self._flags)
                    self._sock.sendall(memoryview(payload)[max(0, sent - _HEADER.size) :], self._flags)
        except OSError as error:
            raise ChannelClosed(str(error)) from None
        finally:
            if shield:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def receive(self) -> Tuple[int, int, bytes]:
        """The next frame: kind, attempt, payload."""
        kind, attempt, size = _HEADER.unpack(self._exactly(_HEADER.size))
        return kind, attempt, self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        # recv with MSG_WAITALL fills one bytes object in one call: no copy, however large the output is.
        parts: List[bytes] = []
        while size:
            try:
                part = self._sock.recv(size, self._whole)
            except OSError as error:
                raise ChannelClosed(str(error)) from None
            if not part:
                raise ChannelClosed("end of file")
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
