"""Reading a JSON file that somebody wrote by hand: bounded, once, and with line and column where it is wrong."""

from __future__ import annotations

import os
import stat
import sys
from typing import Any

from ..core.ground.errors import Fault, ValidationError

#: Most bytes.
MOST = 16 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


def read_json(path: str) -> Any:
    """What a file holds; ``-`` is stdin. Raises :class:`ValidationError`."""
    from ..daemon.protocol import Malformed, decode

    data = _bytes_of(path)
    try:
        return decode(data[len(_BOM) :] if data.startswith(_BOM) else data)
    except Malformed as error:
        raise _fault(path, error.failure.message) from None


def _bytes_of(path: str) -> bytes:
    if path == "-":
        data = sys.stdin.buffer.read(MOST + 1)
    else:
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise _fault(path, "it is no regular file")
            with open(path, "rb") as file:
                data = file.read(MOST + 1)
        except OSError as error:
            raise _fault(path, error.strerror or str(error)) from error
    if len(data) > MOST:
        raise _fault(path, f"it is longer than {MOST:,} bytes")
    return data


def _fault(path: str, what: str) -> ValidationError:
    return ValidationError([Fault("stdin" if path == "-" else path, what)])
