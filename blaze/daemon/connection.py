"""One connection, as the server sees it: a thread that reads a request, answers it, and waits for the next.

A client can end its own connection by what it sends, and nothing else. The thread never
waits without a deadline, but for the function that it calls.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from typing import Any, Iterator, Mapping, NamedTuple, Optional, Tuple

from .. import __version__
from ..core.ground.errors import ValidationError
from .challenge import CLIENT, SERVER, is_proof, new_secret, proof
from .complaints import Complaints
from .failures import failure_of, is_foreseen
from .methods import Method, not_found
from .protocol import (
    CHALLENGE,
    GOODBYE,
    HELLO,
    MAX_FRAME,
    PROTOCOL_VERSION,
    Code,
    Failure,
    Malformed,
    Request,
    Unsendable,
    encode_failure,
    encode_item,
    encode_notice,
    encode_result,
    parse_request,
)
from .wire import Lost, NotTaken, Silence, Wire

#: Longest frame taken from a client that has not proved that it knows the token, in bytes.
STRANGERS_FRAME = 4096
#: A version, as it may stand in a message.
_VERSION = re.compile(r"[A-Za-z0-9.+!-]{1,40}\Z")
#: Seconds between two looks for whether the client of a busy stream is still there.
LOOK_INTERVAL = 0.5


class Limits(NamedTuple):
    """What clients can cost; times in seconds."""

    #: Connections at the same time. One thread each.
    connections: int = 64
    #: From one request to the next.
    idle: float = 30.0
    #: From the first byte of a frame to its last.
    frame: float = 5.0
    #: For a client to take what it is sent.
    write: float = 10.0
    #: Large frames that are received and worked on at the same time; bounds the memory.
    large_frames: int = 4
    #: When all places are taken, a connection makes room if it has been idle for this long ...
    settled: float = 0.05
    #: ... or if it has for this long been in the middle of sending a frame or of taking an answer.
    patience: float = 0.25


class Service(NamedTuple):
    """What all connections of a server share."""

    methods: Mapping[str, Method]
    limits: Limits
    #: What ``hello`` tells besides the versions.
    about: Mapping[str, Any]
    complaints: Complaints
    #: What a client has to know; None: who could connect is allowed to.
    token: Optional[bytes]
    large_frames: threading.BoundedSemaphore


class Connection:
    """One client."""

    def __init__(self, sock: socket.socket, service: Service, peer: str) -> None:
        self.peer = peer
        self._service = service
        self._wire = Wire(sock)
        self._wire.when_large = self._take_large
        self._nonce: Optional[str] = None
        if service.token is not None:
            self._wire.limit = STRANGERS_FRAME
            self._nonce = new_secret().hex()
        self._has_large = False
        #: Protects the next three; held over no work. Whoever wants the connection to end
        #: either finds it idle, or its request is done and answered.
        self._lock = threading.Lock()
        self._working = False
        self._leaving: Optional[str] = None
        self._closed = False
        #: When it was made or the last request was answered, by the monotonic clock.
        self._idle_since = time.monotonic()

    # ------------------------------------------------------------------ for other threads

    def room_to_gain(self, now: float) -> Optional[Tuple[int, float]]:
        """How well it could make room for another, the least first; None: not at all."""
        stalled = self._wire.stalled_since
        if stalled is not None:
            return (1, stalled) if now - stalled >= self._service.limits.patience else None
        if self._working or now - self._idle_since < self._service.limits.settled:
            return None
        return (0, self._idle_since)

    def make_room(self) -> None:
        """End it, if it is idle or stalled still."""
        with self._lock:
            if not self._closed and self._working and self._wire.stalled_since is not None:
                self._wire.hang_up()
        self.leave("others need the place")

    def leave(self, reason: str) -> None:
        """End it as soon as it is idle."""
        with self._lock:
            self._leaving = self._leaving or reason
            if not self._closed and not self._working:
                self._wire.stop_reading()

    def hang_up(self) -> None:
        """End it now."""
        with self._lock:
            if not self._closed:
                self._wire.hang_up()

    def forget(self) -> None:
        """Close this process's copy only: what a forked child does with its parent's connections."""
        self._wire.close()

    # ------------------------------------------------------------------ its own thread

    def converse(self) -> None:
        """Serve the client until it leaves or has to."""
        try:
            if self._nonce is not None:
                self._send(encode_notice(CHALLENGE, {"nonce": self._nonce}))
            while self._exchange():
                pass
        except NotTaken as slow:
            self._service.complaints.add("%s was cut off: %s", self.peer, slow)
        except Lost:
            pass  # it has left, as anybody may
        except Exception:
            self._service.complaints.add("%s was cut off by a failure", self.peer, exc_info=True)
        finally:
            with self._lock:
                self._closed = True
                self._wire.close()
            self._give_back_large()

    def _exchange(self) -> bool:
        """Read one request and answer it; whether there may be another."""
        limits = self._service.limits
        line = None
        try:
            line = self._wire.read(limits.idle if self._nonce is None else limits.frame, limits.frame)
        except Silence:
            self._leaving = self._leaving or "idle for too long"
        except Malformed as malformed:
            if not self._leaving:
                return self._refuse(malformed)
        if line is None or not self._begin():
            if self._leaving:
                self._wire.send(encode_notice(GOODBYE, {"reason": self._leaving}), limits.patience)
            return False
        try:
            return self._handle(line)
        finally:
            self._end()

    def _begin(self) -> bool:
        with self._lock:
            self._working = not self._leaving
            return self._working

    def _end(self) -> None:
        self._give_back_large()
        with self._lock:
            self._working = False
            self._idle_since = time.monotonic()
            if self._leaving:
                self._wire.stop_reading()

    def _handle(self, line: bytes) -> bool:
        try:
            request = parse_request(line)
        except Malformed as malformed:
            return self._refuse(malformed)
        if request.method == HELLO:
            return self._hello(request)
        if self._nonce is not None:
            return self._turn_away(request, Failure(Code.NOT_ALLOWED, "answer the challenge first, with hello"))
        method = self._service.methods.get(request.method)
        if method is None:
            failure = Failure(Code.METHOD_NOT_FOUND, not_found(request.method, self._service.methods))
            self._answer(request, failure)
        elif method.stream:
            self._stream(request, method)
        else:
            self._call(request, method)
        return True

    def _refuse(self, malformed: Malformed) -> bool:
        """Answer what is no request; whether the next frame can still be found."""
        self._service.complaints.add("%s sent no request: %.200s", self.peer, malformed)
        self._send(encode_failure(malformed.id, malformed.failure))
        # What is no JSON does not come from a client, and nobody knows what the next line is a part of.
        return malformed.failure.code == Code.INVALID_REQUEST and self._nonce is None

    def _turn_away(self, request: Request, failure: Failure) -> bool:
        self._service.complaints.add("%s was turned away: %s", self.peer, failure.message)
        self._send(encode_failure(request.id, failure))
        return False

    # ------------------------------------------------------------------ methods

    def _hello(self, request: Request) -> bool:
        given = request.params
        protocol, blaze = given.get("protocol"), given.get("blaze")
        # Whatever else hello may say in other versions, this part of it stays as it is.
        if type(protocol) is not int or protocol != PROTOCOL_VERSION:
            return self._turn_away(request, Failure(Code.UNLIKE_VERSION, _unlike(protocol, blaze)))
        found = {"protocol": PROTOCOL_VERSION, "blaze": __version__, "pid": os.getpid(), **self._service.about}
        token = self._service.token
        if token is not None:
            nonce = given.get("nonce")
            if (
                self._nonce is None
                or not isinstance(nonce, str)
                or not is_proof(given.get("proof"), proof(token, CLIENT, self._nonce, nonce))
            ):
                return self._turn_away(request, Failure(Code.NOT_ALLOWED, "the proof of the token is wrong"))
            found["proof"] = proof(token, SERVER, nonce, self._nonce)
            self._nonce = None
            self._wire.limit = MAX_FRAME
        self._send(encode_result(request.id, found))
        return True

    def _call(self, request: Request, method: Method) -> None:
        """Call the function, whatever it raises, and send its answer."""
        faults = method.faults(request.params)
        if faults:
            self._answer(request, _invalid(request, faults))
            return
        try:
            result = method.function(**request.params)
        except BaseException as error:  # SystemExit too: the thread is not the function's to end
            self._answer(request, self._failure(request, error))
            return
        if request.id is None:
            return
        try:
            line = encode_result(request.id, result)
        except Unsendable as error:
            self._answer(request, self._unsendable(request, error))
            return
        self._send(line)

    def _stream(self, request: Request, method: Method) -> None:
        """Send what the generator yields, until it ends or the client sends something or leaves."""
        faults = method.faults(request.params)
        if faults or request.id is None:
            self._answer(request, _invalid(request, faults))
            return
        try:
            items = method.function(**request.params)
            try:
                complete = self._send_items(request, items)
            finally:
                items.close()
        except Lost:
            raise
        except Unsendable as error:
            self._answer(request, self._unsendable(request, error))
        except BaseException as error:
            self._answer(request, self._failure(request, error))
        else:
            if complete:
                self._send(encode_result(request.id, None))

    def _send_items(self, request: Request, items: Iterator[Any]) -> bool:
        """Whether the stream is at its end, rather than the server."""
        next_look = time.monotonic() + LOOK_INTERVAL
        for item in items:
            if item is not None:
                self._send(encode_item(request.id, item))
            if self._leaving:
                return False
            if item is None or time.monotonic() >= next_look:
                if not self._wire.is_quiet():
                    return True
                next_look = time.monotonic() + LOOK_INTERVAL
        return True

    # ------------------------------------------------------------------ answers

    def _answer(self, request: Request, failure: Failure) -> None:
        if request.id is None:
            return
        try:
            line = encode_failure(request.id, failure)
        except Unsendable as error:
            line = encode_failure(request.id, self._unsendable(request, error))
        self._send(line)

    def _failure(self, request: Request, error: BaseException) -> Failure:
        failure = failure_of(error)
        if is_foreseen(error):
            return failure
        self._service.complaints.add("the method %s failed", request.method, exc_info=True)
        message = f"the daemon failed at {request.method!r}: {failure.message}; its log has the traceback"
        return failure._replace(message=message)

    def _unsendable(self, request: Request, error: Unsendable) -> Failure:
        message = f"the answer to {request.method!r} can't be sent: {error}"
        self._service.complaints.add("%s", message)
        return Failure(Code.INTERNAL_ERROR, message)

    def _send(self, line: bytes) -> None:
        self._wire.send(line, self._service.limits.write)

    # ------------------------------------------------------------------ large frames

    def _take_large(self) -> None:
        if not self._service.large_frames.acquire(timeout=self._service.limits.frame):
            raise Malformed(Code.BUSY, "the daemon is at work on too many long requests; try again")
        self._has_large = True

    def _give_back_large(self) -> None:
        if self._has_large:
            self._has_large = False
            self._service.large_frames.release()


def _invalid(request: Request, faults: Any) -> Failure:
    failure = failure_of(ValidationError(faults, f"the parameters of {request.method}"))
    return failure._replace(code=Code.INVALID_PARAMS)


def _unlike(protocol: object, blaze: object) -> str:
    theirs = f"Blaze {blaze}" if isinstance(blaze, str) and _VERSION.match(blaze) else "an unknown program"
    spoken = str(protocol)[:20] if type(protocol) is int else "unknown"
    return (
        f"the daemon speaks version {PROTOCOL_VERSION} of its protocol (Blaze {__version__}, process {os.getpid()}), "
        f"this program version {spoken} ({theirs}): restart the daemon with 'blazed restart', or use its own Blaze"
    )
