"""How a daemon tells those who started it that it serves, or why it does not.

Two listeners: the process that detached it, over a pipe, and systemd (``Type=notify``).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from typing import Any, Dict, Mapping, NamedTuple, Optional

from ..core.ground.errors import BlazeError
from .failures import error_of, failure_of
from .protocol import Failure

#: Bytes of what is said over the pipe.
MAX_WORD = 1 << 20


class Readiness:
    """The daemon's end.

    :param descriptor: the pipe's; None: nobody has detached it.
    """

    def __init__(self, descriptor: Optional[int] = None) -> None:
        self._descriptor = descriptor

    def serving(self, told: Mapping[str, Any]) -> None:
        """It serves. From now on nothing is written to the terminal or file of whoever detached it."""
        if self._descriptor is not None:
            self._say({"serving": dict(told)})
            _let_go_of_streams()
        _notify_systemd(f"READY=1\nSTATUS={told.get('instance')}")

    def failed(self, error: BlazeError) -> None:
        """It will not."""
        failure = failure_of(error)
        self._say({"code": failure.code, "message": failure.message, "data": dict(failure.data)})

    def _say(self, word: Dict[str, Any]) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):  # who waits for it has gone
                os.write(descriptor, json.dumps(word).encode())
            os.close(descriptor)


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
