"""The daemon's server: answers other processes from a table of methods.

It serves a Unix socket in the state directory, to its owner and root; where there are
no Unix sockets, a port on 127.0.0.1, to whoever knows the token in a file there. One
thread accepts and sleeps otherwise; each connection has a thread of its own, and there
are never more of them than ``Limits.connections``. Nothing that comes in can cost more
than its own connection; see :mod:`blaze.daemon.connection`.
"""

from __future__ import annotations

import os
import selectors
import socket
import socketserver
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any, Mapping, Optional, Union

from ..core.ground.own_log import OwnLog
from ..core.remember.database import prepare_directory
from .address import HAS_UNIX_SOCKETS, LOOPBACK, SocketFile, TcpFile, my_uid, peer_uid
from .challenge import new_secret
from .complaints import Complaints
from .connection import Connection, Limits, Service
from .methods import Method
from .places import Places
from .protocol import HELLO, Code, Failure, encode_failure

#: Connections that the system keeps waiting until they are accepted.
BACKLOG = 128
#: Seconds between two attempts to accept when the system has nothing left to do it with.
PAUSE = 0.1
#: Seconds that requests get to end when the server closes.
GRACE = 2.0

BUSY = Failure(Code.BUSY, "the daemon serves as many connections as it may; try again")

log = OwnLog("daemon")

_File = Union[SocketFile, TcpFile]


class Server:
    """Answers what comes over the socket of a state directory.

    ::

        methods = {"status": Method(report, {"verbose": Parameter(FLAG, required=False)})}
        with Server(state_dir, methods):
            ...

    The caller holds the daemon's lock. It calls :meth:`check` now and then.

    :param methods: what can be asked for; ``hello`` is there by itself.
    :param about: what ``hello`` tells besides the versions and the process id.
    :param tcp: serve a port instead of a Unix socket; None: where there are none.
    """

    def __init__(
        self,
        state_dir: Union[str, Path],
        methods: Mapping[str, Method],
        *,
        limits: Limits = Limits(),  # noqa: B008 - it is immutable
        about: Optional[Mapping[str, Any]] = None,
        tcp: Optional[bool] = None,
    ) -> None:
        if HELLO in methods:
            raise ValueError(f"the method {HELLO!r} is the server's own")
        self.state_dir = Path(os.path.abspath(state_dir))
        self._tcp = not HAS_UNIX_SOCKETS if tcp is None else tcp
        complaints = Complaints(log)
        large_frames = threading.BoundedSemaphore(limits.large_frames)
        token = new_secret() if self._tcp else None
        self._service = Service(dict(methods), limits, dict(about or {}), complaints, token, large_frames)
        self._places = Places(limits)
        #: Protects ``_listener``; held while it is made anew.
        self._lock = threading.Lock()
        self._listener: Optional[_Accepting] = None

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._places)

    @property
    def address(self) -> Optional[str]:
        """The socket's path, or address and port; None if it does not serve."""
        listener = self._listener
        return None if listener is None else listener.told

    def start(self) -> Server:
        """Serve; when it returns, clients can connect.

        Raises :class:`StateError` if the directory is not safe, or if something that is
        not a daemon's stands in the place of the socket.
        """
        with self._lock:
            if self._listener is None:
                prepare_directory(self.state_dir)
                self._places = Places(self._service.limits)
                self._listener = self._listen()
                _remember(self)
        return self

    def check(self) -> bool:
        """Make the socket anew if its file was deleted or replaced; whether that was so.

        Raises :class:`StateError` if it can't be made. Connections stay.
        """
        with self._lock:
            old = self._listener
            if old is None or (old.file.is_ours() and old.thread.is_alive()):
                return False
            self._listener = self._listen()
            old.stop()
        log.warning("%s was gone or replaced, and was made anew", self._listener.file.path)
        return True

    def _listen(self) -> _Accepting:
        listener = (_TcpListener if self._tcp else _UnixListener)(self.state_dir, self._service, self._places)
        listener.thread.start()
        return listener

    def close(self, grace: float = GRACE) -> None:
        """Remove the socket and end every connection and thread; requests get ``grace`` seconds to be answered.

        Not to be called by a method: it would wait for its own answer.
        """
        with self._lock:
            listener, self._listener = self._listener, None
            if listener is not None:
                listener.file.remove()
                listener.stop()
        stuck = self._places.close(grace)
        if stuck:
            log.warning("%d requests have not ended within %g s; nobody waits for their answer", len(stuck), grace)

    def _forget(self) -> None:
        """What a forked child does: whoever connects is the parent's."""
        listener, self._listener = self._listener, None
        places, self._places = self._places, Places(self._service.limits)
        self._lock = threading.Lock()
        if listener is not None:
            listener.forget()
        places.forget()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class _Accepting(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """The part of a listening server that both kinds share: its thread, and who gets a place."""

    request_queue_size = BACKLOG

    def __init__(self, address: Any, file: _File, service: Service, places: Places) -> None:
        self.file = file
        self.service = service
        self.places = places
        super().__init__(address, socketserver.BaseRequestHandler)
        self._stopping = False
        self._bell, self._bell_rope = socket.socketpair()
        self.thread = threading.Thread(target=self.accept_all, name="blaze-daemon-accept", daemon=True)

    def server_activate(self) -> None:
        """Listen, then tell where."""
        super().server_activate()
        self.file.publish(self.socket)

    def accept_all(self) -> None:
        """Accept until ``stop``; unlike ``serve_forever``, it sleeps while there is nothing to do."""
        # A client that left meanwhile must not keep the thread in accept().
        self.socket.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            selector.register(self._bell, selectors.EVENT_READ)
            while not self._stopping:
                selector.select()
                if not self._stopping:
                    self._accept_one()

    def _accept_one(self) -> None:
        try:
            request, client_address = self.socket.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:
            # No descriptor is left. The connection stays in the backlog until there is one.
            self.service.complaints.add("a connection could not be accepted: %s", error.strerror or error)
            self.places.make_room()
            time.sleep(PAUSE)
            return
        try:
            if not self.verify_request(request, client_address):
                request.close()
            else:
                self.process_request(request, client_address)
        except Exception:
            self.service.complaints.add("a connection could not be served", exc_info=True)
            request.close()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether this user may connect."""
        return True

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection a place and a thread, or turn it away."""
        if not self.places.take(Connection(request, self.service, self.peer(request, client_address))):
            self.service.complaints.add("all %d connections are in use", self.service.limits.connections)
            self.turn_away(request, BUSY)

    @property
    def told(self) -> str:
        """Where it is reached."""
        raise NotImplementedError

    def peer(self, request: socket.socket, client_address: Any) -> str:
        """Who it is, for the log."""
        return f"a client at port {client_address[1]}"

    def turn_away(self, request: socket.socket, failure: Failure) -> None:
        """Answer without a wait, and close."""
        try:
            request.setblocking(False)
            request.send(encode_failure(None, failure))
            request.shutdown(socket.SHUT_WR)
            request.recv(1 << 16)  # TCP takes an answer back if what came in was not read
        except OSError:
            pass
        request.close()

    def stop(self) -> None:
        """End the thread and close the socket."""
        self._stopping = True
        self._bell_rope.send(b"!")
        if self.thread is not threading.current_thread():
            self.thread.join()
        self.forget()

    def forget(self) -> None:
        """Close the sockets."""
        for each in (self.socket, self._bell, self._bell_rope):
            each.close()


class _TcpListener(_Accepting):
    """A port on the loopback address, and the file that names it."""

    def __init__(self, state_dir: Path, service: Service, places: Places) -> None:
        super().__init__((LOOPBACK, 0), TcpFile(state_dir, service.token or b""), service, places)

    @property
    def told(self) -> str:
        """Address and port."""
        return "{}:{}".format(*self.socket.getsockname())


if sys.platform != "win32":

    class _UnixListener(_Accepting, socketserver.ThreadingUnixStreamServer):
        """A Unix socket."""

        file: SocketFile

        def __init__(self, state_dir: Path, service: Service, places: Places) -> None:
            file = SocketFile(state_dir)
            super().__init__(file.path, file, service, places)

        def server_bind(self) -> None:
            """Bind it where nobody looks yet."""
            self.file.bind(self.socket)

        @property
        def told(self) -> str:
            """The path."""
            return self.file.path

        def peer(self, request: socket.socket, client_address: Any) -> str:
            """Who it is, for the log."""
            return "a client"

        def verify_request(self, request: Any, client_address: Any) -> bool:
            """Only the owner of this process and root may; the mode of the socket keeps out others, too."""
            uid = peer_uid(request)
            if uid is None or uid in (my_uid(), 0):
                return True
            self.service.complaints.add("a connection of the user with uid %d was refused", uid)
            self.turn_away(request, Failure(Code.NOT_ALLOWED, f"uid {uid} is neither uid {my_uid()} nor root"))
            return False

else:
    _UnixListener = _TcpListener


# ---------------------------------------------------------------------- forks

_open: weakref.WeakSet[Server] = weakref.WeakSet()
_hooked = False


def _remember(server: Server) -> None:
    """Let a fork find this server: the child must not keep its sockets open, nor close its connections."""
    global _hooked
    _open.add(server)
    if not _hooked and hasattr(os, "register_at_fork"):
        _hooked = True
        os.register_at_fork(after_in_child=_forget_all)


def _forget_all() -> None:
    for server in list(_open):
        server._forget()
    _open.clear()
