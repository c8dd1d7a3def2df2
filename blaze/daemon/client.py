"""The other end of the daemon's socket: what a program asks of a daemon that runs elsewhere.

Cheap to import and to make; nothing is opened before the first call. A call costs one
round trip: the versions are compared in the same one, when a connection is new.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time
from collections import deque
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterator, Mapping, NoReturn, Optional, Tuple, Union

from .. import __version__
from ..core.ground.errors import (
    BlazeError,
    DaemonBusy,
    DaemonError,
    Fault,
    NoAnswer,
    NoDaemon,
    Refused,
    ValidationError,
)
from .address import HAS_UNIX_SOCKETS, LOOPBACK, SOCKET_NAME, TcpFile, my_uid, peer_uid, reachable
from .failures import error_of
from .protocol import (
    CHALLENGE,
    GOODBYE,
    HELLO,
    ITEM,
    PROTOCOL_VERSION,
    Malformed,
    Notice,
    Response,
    Unsendable,
    encode_request,
    parse_reply,
)
from .wire import Lost, NotTaken, Silence, Unfinished, Wire

#: Seconds that a call may take, unless told otherwise.
TIMEOUT = 10.0
#: Connections that are kept for later calls; more are open only while more threads call.
KEPT = 4
#: Seconds before a call that found no place is tried again: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.25

Reply = Union[Response, Notice]


class _NotDone(Exception):
    """The request was not done, and can be sent again. Holds what to raise if it is not."""

    def __init__(self, error: BlazeError) -> None:
        self.error = error


class _Deadline:
    """A time by which something has to be done; None: no such time."""

    def __init__(self, seconds: Optional[float]) -> None:
        self._seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self) -> Optional[float]:
        """Seconds left. Raises :class:`NoAnswer` when there are none."""
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            self.missed()
        return left

    def missed(self) -> NoReturn:
        """Raise :class:`NoAnswer`."""
        raise NoAnswer(
            f"the daemon did not answer within {self._seconds:g} s; whether it does what it was asked for is not known"
        )

    def pause(self, seconds: float, error: BlazeError) -> float:
        """Wait before another attempt, or raise ``error`` if there is no time for one; the next wait."""
        if self._end is not None and self._end - time.monotonic() <= seconds:
            raise error
        time.sleep(seconds)
        return min(2 * seconds, LONGEST_PAUSE)


class Client:
    """Calls the methods of the daemon that serves a state directory.

    ::

        with Client(".blaze") as daemon:
            daemon.call("status", verbose=True)
            for line in daemon.stream("logs", run="last"):
                ...

    Any number of threads may use it at the same time; each call has a connection for
    itself, and a few of them are kept. A connection that the daemon closed meanwhile is
    made anew; a request that may have been done is never sent twice.

    :param timeout: seconds that a call may take, from connecting to the answer; None: any time.
    """

    def __init__(self, state_dir: Union[str, Path], timeout: Optional[float] = TIMEOUT) -> None:
        self.state_dir = Path(os.path.abspath(state_dir))
        self.timeout = timeout
        #: What the daemon told of itself when it was last connected to: its versions, its process id.
        self.daemon: Mapping[str, Any] = {}
        self._kept: Deque[_Link] = deque()
        self._pid = os.getpid()
        self._ids = itertools.count(1)
        self._closed = False

    def call(self, method: str, /, **params: Any) -> Any:
        """What the daemon answers. Raises what it raised, and what :meth:`request` does."""
        return self.request(method, params, self.timeout)

    def request(self, method: str, params: Mapping[str, Any], timeout: Optional[float] = TIMEOUT) -> Any:
        """The same with a time of its own.

        Raises :class:`NoDaemon`, :class:`NoAnswer`, :class:`DaemonBusy`, :class:`UnlikeVersion`,
        and what the method itself raised, as the same class of Blaze's errors.
        """
        id, line = self._frame(method, params)
        deadline = _Deadline(timeout)
        link, reply = self._ask(line, deadline, deadline, self._take_kept)
        return self._result(link, id, reply)

    def stream(self, method: str, /, **params: Any) -> Iterator[Any]:
        """The items that the daemon sends, as they come; waits for them as long as it takes.

        Close the iterator to end it sooner. Raises what :meth:`call` does, and
        :class:`NoDaemon` when the daemon stops.
        """
        id, line = self._frame(method, params)
        forever = _Deadline(None)
        link, reply = self._ask(line, _Deadline(self.timeout), forever, lambda: None)
        try:
            while isinstance(reply, Notice):
                if reply.method != ITEM or reply.params.get("id") != id:
                    raise _not_asked_for()
                yield reply.params.get("item")
                reply = link.reply(forever)
            self._result(link, id, reply)
        except _NotDone as not_done:
            raise not_done.error from None
        finally:
            if link not in self._kept:
                link.close()

    def close(self) -> None:
        """Close the connections that are kept. A later call makes one of its own."""
        self._closed = True
        while self._kept:
            self._kept.pop().close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # ------------------------------------------------------------------ one call

    def _frame(self, method: str, params: Mapping[str, Any]) -> Tuple[int, bytes]:
        id = next(self._ids)
        try:
            return id, encode_request(id, method, params)
        except Unsendable as error:
            raise ValidationError([Fault(method, f"the request can't be sent: {error}")]) from None

    def _ask(
        self, line: bytes, greeted_by: _Deadline, answered_by: _Deadline, kept: Callable[[], Optional[_Link]]
    ) -> Tuple[_Link, Reply]:
        """Send a request, as often as it takes until it is taken; the connection, and the first reply."""
        pause = FIRST_PAUSE
        while True:
            link = kept()
            is_new = link is None
            if link is None:
                link = self._connect(greeted_by)
            try:
                return link, link.ask(line, greeted_by, answered_by)
            except _NotDone as not_done:
                link.close()
                if is_new:
                    pause = greeted_by.pause(pause, not_done.error)
            except BaseException:
                link.close()
                raise

    def _result(self, link: _Link, id: int, reply: Reply) -> Any:
        if not isinstance(reply, Response) or reply.id != id:
            link.close()
            raise _not_asked_for()
        self._keep(link)
        if reply.failure is not None:
            raise error_of(reply.failure)
        return reply.result

    # ------------------------------------------------------------------ connections

    def _take_kept(self) -> Optional[_Link]:
        if self._pid != os.getpid():
            # After a fork, the parent goes on with what it has kept.
            self._pid = os.getpid()
            while self._kept:
                self._kept.pop().close()
        try:
            return self._kept.pop()
        except IndexError:
            return None

    def _keep(self, link: _Link) -> None:
        if self._closed or len(self._kept) >= KEPT:
            link.close()
        else:
            self._kept.append(link)

    def _connect(self, deadline: _Deadline) -> _Link:
        if HAS_UNIX_SOCKETS:
            sock = self._connect_unix(deadline)
            if sock is not None:
                return _Link(sock, self)
        return self._connect_tcp(deadline)

    def _connect_unix(self, deadline: _Deadline) -> Optional[socket.socket]:
        """None if there is no such socket."""
        path = f"{self.state_dir}{os.sep}{SOCKET_NAME}"
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with reachable(path) as short:
                _connect_when_possible(sock, short, deadline)
            uid = peer_uid(sock)
            if uid is not None and uid not in (my_uid(), 0) and my_uid() != 0:
                raise Refused(f"{path} is served by another user (uid {uid})")
        except FileNotFoundError:
            sock.close()
            return None
        except ConnectionRefusedError:
            sock.close()
            raise self._nobody(" any more") from None
        except PermissionError:
            sock.close()
            raise Refused(f"{path} belongs to another user: only its owner and root may use it") from None
        except OSError as error:
            sock.close()
            if isinstance(error, BlazeError):
                raise
            raise NoDaemon(f"{path} can't be connected to: {error.strerror or error}") from None
        except BaseException:
            sock.close()
            raise
        return sock

    def _connect_tcp(self, deadline: _Deadline) -> _Link:
        try:
            door = TcpFile(self.state_dir).read()
        except FileNotFoundError:
            raise self._nobody() from None
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        link = _Link(sock, self)
        try:
            sock.settimeout(deadline.left())
            sock.connect((LOOPBACK, door.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link.prove(door.token, deadline)
        except BlazeError:
            link.close()
            raise
        except OSError:
            link.close()
            raise self._nobody(" any more") from None
        except BaseException:
            link.close()
            raise
        return link

    def _nobody(self, more: str = "") -> NoDaemon:
        return NoDaemon(f"no daemon serves {self.state_dir}{more}: start one with 'blazed start'")


class _Link:
    """One connection to the daemon."""

    def __init__(self, sock: socket.socket, client: Client) -> None:
        self._wire = Wire(sock)
        self._client = client
        #: Sent in front of the first request; empty from then on.
        self.greeting = _greeting({})

    def ask(self, line: bytes, greeted_by: _Deadline, answered_by: _Deadline) -> Reply:
        """Send a request; the first reply to it. Raises :class:`_NotDone`, and what a call does."""
        greeting = self.greeting
        try:
            self._wire.send(greeting + line, greeted_by.left())
        except NotTaken:
            greeted_by.missed()
        except Lost:
            self._look_why(greeted_by)
        if greeting:
            self._greeted(self.reply(greeted_by))
        return self.reply(answered_by)

    def reply(self, deadline: _Deadline) -> Reply:
        """The next message. Raises :class:`_NotDone` for a goodbye, and what answers no request of ours."""
        left = deadline.left()
        try:
            line = self._wire.read(left, left)
            if line is None:
                raise Lost
            reply = parse_reply(line)
        except Silence:
            deadline.missed()
        except (Lost, Unfinished):
            raise NoDaemon("the daemon went away before it answered; whether it did it is not known") from None
        except Malformed as malformed:
            raise DaemonError(f"what came from the daemon is not its protocol: {malformed}") from None
        if isinstance(reply, Notice):
            if reply.method == GOODBYE:
                raise _NotDone(NoDaemon(f"the daemon closed the connection: {reply.params.get('reason')}"))
        elif reply.id is None and reply.failure is not None:
            error = error_of(reply.failure)
            raise _NotDone(error) if isinstance(error, DaemonBusy) else error
        return reply

    def prove(self, token: bytes, deadline: _Deadline) -> None:
        """Show that we know the token, and see that the other end does."""
        from .challenge import CLIENT, SERVER, is_proof, new_secret, proof

        challenge = self.reply(deadline)
        if not isinstance(challenge, Notice) or challenge.method != CHALLENGE:
            raise _not_asked_for()
        theirs, own = str(challenge.params.get("nonce")), new_secret().hex()
        self._wire.send(_greeting({"nonce": own, "proof": proof(token, CLIENT, theirs, own)}), deadline.left())
        found = self._greeted(self.reply(deadline))
        if not is_proof(found.get("proof"), proof(token, SERVER, own, theirs)):
            raise Refused(f"another program than the daemon of {self._client.state_dir} has its port")

    def _greeted(self, reply: Reply) -> Dict[str, Any]:
        if not isinstance(reply, Response) or reply.id != HELLO:
            raise _not_asked_for()
        if reply.failure is not None:
            raise error_of(reply.failure)
        self.greeting = b""
        found: Dict[str, Any] = reply.result if isinstance(reply.result, dict) else {}
        self._client.daemon = {name: value for name, value in found.items() if name != "proof"}
        return found

    def _look_why(self, deadline: _Deadline) -> NoReturn:
        """The request could not be sent, so it was not done: find out why."""
        try:
            while True:
                self.reply(deadline)
        except NoDaemon as error:
            raise _NotDone(error) from None

    def close(self) -> None:
        self._wire.close()


def _greeting(more: Mapping[str, Any]) -> bytes:
    return encode_request(HELLO, HELLO, {"protocol": PROTOCOL_VERSION, "blaze": __version__, **more})


def _not_asked_for() -> DaemonError:
    return DaemonError("the daemon answered what it was not asked; the connection was closed")


def _connect_when_possible(sock: socket.socket, path: str, deadline: _Deadline) -> None:
    """Connect; while more wait to be accepted than the system keeps waiting, wait in line with them."""
    left = deadline.left()
    sock.settimeout(left)
    try:
        sock.connect(path)
    except BlockingIOError:
        # Only a blocking connect() gets a place in the line; Python's own timeouts make it another kind.
        sock.settimeout(None)
        if left is not None:
            seconds, fraction = divmod(left, 1)
            timeout = struct.pack("@ll", int(seconds), int(fraction * 1e6) + 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
        try:
            sock.connect(path)
        except BlockingIOError:
            raise DaemonBusy("too many wait for the daemon to accept their connection") from None
