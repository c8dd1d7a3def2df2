"""Reading a JSON file that somebody wrote: bounded, once, and with the place where it is wrong.

What is no regular file, too long or no JSON is refused by line and column, or by JSON
path; so are keys that stand twice and numbers that would not come back (RELIABILITY R63, P9).
"""

from __future__ import annotations

import json
import math
import os
import stat
import sys
from typing import Any, Iterator, List, NamedTuple, NoReturn, Tuple

from ..core.ground.errors import Fault, ValidationError

#: Longest file, in bytes: what the daemon takes in one request.
MAX_BYTES = 16 * 1024 * 1024
#: Deepest nesting of lists and objects, and longest number, in characters.
MAX_DEPTH, MAX_DIGITS = 100, 1000
#: Longest JSON path that is told, in characters.
MAX_PATH = 120
#: Faults that are told.
MAX_FAULTS = 20

_BOM = "\ufeff"


class _Wrong(NamedTuple):
    """Stands in the parsed text where something is wrong."""

    what: str


def read_json(path: str) -> Any:
    """What a file holds; ``-`` is stdin. Raises :class:`ValidationError` with the places of what is wrong."""
    name = name_of(path)
    parsed = _parsed(name, _decoded(name, _read_stdin() if path == "-" else _read(path)))
    faults = [Fault(f"{name}: {_clipped(where)}", what) for where, what in _wrong_in(parsed)]
    if faults:
        raise ValidationError(faults[:MAX_FAULTS], name)
    return parsed


def name_of(path: str) -> str:
    """How faults name the file."""
    return "stdin" if path == "-" else path


def _clipped(where: str) -> str:
    return where if len(where) <= MAX_PATH else f"{where[: MAX_PATH - 25]}...{where[-20:]}"


def _refuse(where: str, what: str) -> NoReturn:
    raise ValidationError([Fault(where, what)], where)


def _read(path: str) -> bytes:
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)  # a pipe would keep us waiting
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        _refuse(path, "there is no such file")
    except (OSError, ValueError) as error:
        _refuse(path, f"it can't be opened: {getattr(error, 'strerror', None) or error}")
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            _refuse(path, "it is a directory" if stat.S_ISDIR(info.st_mode) else "it is no regular file")
        if info.st_size <= MAX_BYTES:
            with open(descriptor, "rb", closefd=False) as file:
                found = file.read(MAX_BYTES + 1)
            if len(found) <= MAX_BYTES:
                return found
    except OSError as error:
        _refuse(path, f"it can't be read: {error.strerror or error}")
    finally:
        os.close(descriptor)
    return _too_long(path)


def _read_stdin() -> bytes:
    found = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(found) > MAX_BYTES:
        _too_long("stdin")
    return found


def _too_long(where: str) -> NoReturn:
    _refuse(where, f"it is longer than {MAX_BYTES // 2**20} MiB")


def _decoded(path: str, raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        _refuse(path, "it is UTF-16; save it as UTF-8")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        _refuse(f"{path}:{line}:{column}", f"the byte 0x{raw[error.start]:02x} is no UTF-8; save it as UTF-8")
    return text[1:] if text.startswith(_BOM) else text


def _parsed(path: str, text: str) -> Any:
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_whole,
            parse_float=_real,
            parse_constant=lambda name: _Wrong(f"{name} is no JSON number"),
        )
    except json.JSONDecodeError as error:
        _refuse(f"{path}:{error.lineno}:{error.colno}", f"it is no JSON: {error.msg}")
    except RecursionError:
        _refuse(path, f"lists and objects are nested more than {MAX_DEPTH} deep")


def _object(pairs: List[Tuple[str, Any]]) -> Any:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen = set()
    for name, _ in pairs:
        if name in seen:
            return _Wrong(f"the key {name[:60]!r} stands twice in it")
        seen.add(name)
    return found


def _whole(text: str) -> Any:
    if len(text) > MAX_DIGITS:
        return _Wrong(f"a number of {len(text):,} digits; {MAX_DIGITS:,} are allowed")
    return int(text)


def _real(text: str) -> Any:
    found = float(text)
    return found if math.isfinite(found) else _Wrong(f"{text[:40]} is too large a number")


def _wrong_in(parsed: Any) -> Iterator[Tuple[str, str]]:
    """Everything wrong in it with its JSON path; without recursion."""
    left: List[Tuple[str, Any, int]] = [("$", parsed, 1)]
    while left:
        where, value, depth = left.pop()
        if isinstance(value, _Wrong):
            yield where, value.what
        elif isinstance(value, str):
            if not _is_text(value):
                yield where, "half of a character (a lone surrogate) is no text"
        elif isinstance(value, (dict, list)):
            if depth > MAX_DEPTH:
                yield where, f"lists and objects are nested more than {MAX_DEPTH} deep"
                continue
            if isinstance(value, list):
                inside = [(f"{where}[{index}]", item) for index, item in enumerate(value)]
            else:
                inside = [(f"{where}.{name[:60]}", item) for name, item in value.items()]
                if not all(map(_is_text, value)):
                    yield where, "a key in it has half of a character (a lone surrogate)"
            left.extend((path, item, depth + 1) for path, item in reversed(inside))


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
