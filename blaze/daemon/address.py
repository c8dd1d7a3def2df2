"""Where a daemon is reached: ``daemon.sock`` in its state directory, or the port that ``daemon.tcp`` names.

The socket belongs to its owner from the first byte on, and so does the token; both get
their names only when they can be used. What stands in their place and is not the
daemon's is refused, never followed and never removed (RELIABILITY P2, R53).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import struct
import sys
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Optional, Tuple

from ..core.ground.errors import StateError

SOCKET_NAME, TCP_NAME = "daemon.sock", "daemon.tcp"
#: The end of what is not yet in its place.
_NEW = ".new"

HAS_UNIX_SOCKETS = hasattr(socket, "AF_UNIX")
LOOPBACK = "127.0.0.1"

#: Longest path of a Unix socket, in bytes.
MAX_PATH = 107 if sys.platform == "linux" else 103

_SELF = Path("/proc/self/fd")
_CREDENTIALS = struct.Struct("iII")


def my_uid() -> int:
    """Whose this process is; 0 where there are no uids."""
    return os.geteuid() if hasattr(os, "geteuid") else 0


def peer_uid(sock: socket.socket) -> Optional[int]:
    """The user at the other end of a Unix socket; None where the system does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)


@contextlib.contextmanager
def reachable(path: str) -> Iterator[str]:
    """A path of the same socket that is short enough. Raises :class:`StateError` if there is none."""
    length = len(os.fsencode(path))
    if length <= MAX_PATH:
        yield path
        return
    if not _SELF.is_dir():
        raise StateError(
            f"the path of the daemon's socket, {path}, is {length} bytes long, and the system takes {MAX_PATH}: "
            "choose a state directory with a shorter path"
        )
    folder, name = os.path.split(path)
    descriptor = os.open(folder, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield str(_SELF / str(descriptor) / name)
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------------- the socket


class SocketFile:
    """The file of a listening socket: made beside its place, moved into it, and removed by its maker only.

    The caller holds the daemon's lock: it, and not the socket, tells whether a daemon
    lives, so that a socket found in its place is left over from a dead one.
    """

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / SOCKET_NAME)
        self._identity: Optional[Tuple[int, int]] = None

    def bind(self, sock: socket.socket) -> None:
        """Bind the socket under a name that nobody knows yet. Raises :class:`StateError`."""
        _refuse_foreign(self.path, stat.S_ISSOCK, "the daemon's socket")
        _refuse_foreign(self.path + _NEW, stat.S_ISSOCK, "the daemon's socket")
        _unlink(self.path + _NEW)
        with contextlib.suppress(OSError):
            # Linux takes the mode of the file from that of the socket. The umask, the other
            # way to have it right from the first byte on, belongs to all threads.
            os.fchmod(sock.fileno(), 0o600)
        try:
            with reachable(self.path + _NEW) as short:
                sock.bind(short)
            info = os.lstat(self.path + _NEW)
            if info.st_mode & 0o077:
                os.chmod(self.path + _NEW, 0o600)
        except OSError as error:
            raise StateError(f"the socket {self.path} can't be made: {error.strerror or error}") from error
        self._identity = (info.st_dev, info.st_ino)

    def publish(self, sock: socket.socket) -> None:
        """Give it its name, now that it listens."""
        os.rename(self.path + _NEW, self.path)

    def is_ours(self) -> bool:
        """Whether whoever opens the path gets this socket."""
        try:
            info = os.lstat(self.path)
        except OSError:
            return False
        # The number is not given to another file while the socket is open.
        return (info.st_dev, info.st_ino) == self._identity

    def remove(self) -> None:
        """Remove it, unless it is another's by now."""
        if self.is_ours():
            _unlink(self.path)


def _refuse_foreign(path: str, is_expected: Callable[[int], bool], what: str) -> None:
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return
    if not is_expected(info.st_mode):
        told = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a directory", stat.S_IFREG: "a file"}
        found = told.get(stat.S_IFMT(info.st_mode), "something")
        raise StateError(f"{path} is {found} and not {what}: see whose it is, and remove it")
    if info.st_uid != my_uid() and my_uid() != 0:
        raise StateError(f"{path} belongs to another user (uid {info.st_uid}): see whose it is, and remove it")


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


# ---------------------------------------------------------------------- TCP


class Door(NamedTuple):
    """A port on the loopback address, and what one has to know to be let in there."""

    port: int
    token: bytes


class TcpFile:
    """The file that tells port and token to whoever may read the state directory."""

    def __init__(self, directory: Path, token: bytes = b"") -> None:
        self.path = str(directory / TCP_NAME)
        self._token = token
        self._door: Optional[Door] = None

    def publish(self, sock: socket.socket) -> None:
        """Write it, now that the port is listened at. Raises :class:`StateError`."""
        door = Door(sock.getsockname()[1], self._token)
        new = self.path + _NEW
        for path in (self.path, new):
            _refuse_foreign(path, stat.S_ISREG, "the daemon's file")
        _unlink(new)
        text = json.dumps({"port": door.port, "token": door.token.hex()})
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
            os.replace(new, self.path)
        except OSError as error:
            raise StateError(f"the file {self.path} can't be made: {error.strerror or error}") from error
        self._door = door

    def is_ours(self) -> bool:
        """Whether the file tells what was written to it."""
        try:
            return self.read() == self._door
        except (OSError, StateError):
            return False

    def read(self) -> Door:
        """Port and token. Raises FileNotFoundError, and :class:`StateError` for a file that is not to be trusted."""
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            descriptor = os.open(self.path, flags)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StateError(f"{self.path} can't be read: {error.strerror or error}") from error
        try:
            info = os.fstat(descriptor)
            text = os.read(descriptor, 4096) if stat.S_ISREG(info.st_mode) else b""
        finally:
            os.close(descriptor)
        if hasattr(os, "geteuid") and (info.st_mode & 0o077 or info.st_uid not in (my_uid(), 0)):
            raise StateError(f"others than its owner can use {self.path}: see whose it is, and remove it")
        try:
            found = json.loads(text)
            return Door(int(found["port"]), bytes.fromhex(found["token"]))
        except (ValueError, TypeError, LookupError):
            raise StateError(f"{self.path} is not the daemon's file: see whose it is, and remove it") from None

    def remove(self) -> None:
        """Remove it, unless it is another's by now."""
        if self.is_ours():
            _unlink(self.path)
