"""How a daemon tells those who started it that it serves, or why it does not.

Two listeners: the process that detached it, over a pipe, and systemd (``Type=notify``).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional

from ..core.ground.errors import BlazeError
from .failures import error_of, failure_of
from .protocol import Failure

#: Bytes of what is said over the pipe.
MAX_WORD = 1 << 20


class Readiness:
    """The daemon's end.

    :param descriptor: the pipe's; None: nobody has detached it.
    :param when_serving: called with ``instance``, ``pid`` and ``state_dir`` when it serves.
    """

    def __init__(
        self, descriptor: Optional[int] = None, when_serving: Optional[Callable[[Mapping[str, Any]], None]] = None
    ) -> None:
        self._descriptor = descriptor
        self._when_serving = when_serving

    def serving(self, told: Mapping[str, Any]) -> None:
        """It serves. From now on nothing is written to the terminal or file of whoever detached it."""
        if self._descriptor is not None:
            self._say({"serving": dict(told)})
            _let_go_of_streams()
        if self._when_serving is not None:
            self._when_serving(told)
        _notify_systemd(f"READY=1\nSTATUS={told.get('instance')}")

    def failed(self, error: BlazeError) -> bool:
        """It will not; whether somebody was told."""
        failure = failure_of(error)
        return self._say({"code": failure.code, "message": failure.message, "data": dict(failure.data)})

    def _say(self, word: Dict[str, Any]) -> bool:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return False
        try:
            with os.fdopen(descriptor, "wb") as pipe:
                pipe.write(json.dumps(word).encode())
        except OSError:  # who waited for it has gone
            return False
        return True


class Word(NamedTuple):
    """What a daemon said when it started."""

    #: ``instance`` and ``pid`` of one that serves.
    serving: Optional[Dict[str, Any]]
    error: Optional[BaseException]


def read_word(word: bytes) -> Optional[Word]:
    """What came over the pipe; None if it ended without a word."""
    try:
        told = json.loads(word)
        if "serving" in told:
            return Word(told["serving"], None)
        return Word(None, error_of(Failure(told["code"], told["message"], told["data"])))
    except (ValueError, LookupError, TypeError):
        return None


def _let_go_of_streams() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _notify_systemd(text: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError, AttributeError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect("\0" + address[1:] if address[0] == "@" else address)
        sock.sendall(text.encode())
