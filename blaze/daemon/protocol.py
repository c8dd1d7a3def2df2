"""The daemon's protocol: JSON-RPC 2.0, one JSON object a line, in UTF-8.

Functions between bytes and messages, which know no socket. Whatever bytes come in,
``parse_request`` and ``parse_reply`` give a message or raise :class:`Malformed`, and
nothing else: duplicate keys, NaN, numbers without end, unpaired surrogates, nesting
without end and lines past the limit are refused (RELIABILITY P9, R49).

Where JSON-RPC leaves room:

- Batches are refused. Requests can be sent one after the other without waiting; they
  are done, and answered, in their order.
- ``params`` is an object, never a list.
- A request without an ``id`` is done and not answered.
- The answer to a streaming method is any number of ``item`` notifications, which carry
  the request's id, and then its response. Whatever the client sends meanwhile ends it.
- ``goodbye`` is the server's last notification on a connection. Whatever the client sent
  that is not answered by then was not done.
"""

from __future__ import annotations

import json
import re
from enum import IntEnum
from typing import Any, Dict, List, Mapping, NamedTuple, NoReturn, Optional, Tuple, Union

#: Spoken by this version. Unlike numbers refuse each other in ``hello``.
PROTOCOL_VERSION = 1

#: Longest frame, in bytes, its newline included.
MAX_FRAME = 16 * 1024 * 1024
#: Deepest nesting of lists and objects; below what makes a recursive function fail.
MAX_DEPTH = 200
#: Most lists and objects: an empty one takes three bytes on the way and seventy in memory.
MAX_CONTAINERS = 200_000
#: Longest number, in characters: reading one takes time that grows with its square.
MAX_DIGITS = 1000
#: Longest id of a request and name of a method, in characters.
MAX_NAME = 200

HELLO, CHALLENGE, ITEM, GOODBYE = "hello", "challenge", "item", "goodbye"

Id = Union[int, str]


class Code(IntEnum):
    """What is wrong, as a number. Those below zero are JSON-RPC's; zero and up are errors of Blaze."""

    #: Not JSON, not UTF-8, too long or cut off. The connection is closed: nobody knows where the next frame begins.
    PARSE_ERROR = -32700
    #: JSON, but no request.
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    #: The data hold the list of faults, as with ``INVALID``.
    INVALID_PARAMS = -32602
    #: The method raised what it should not have, or its answer can't be sent.
    INTERNAL_ERROR = -32603
    #: All places are taken.
    BUSY = -32000
    #: Unlike versions of the protocol.
    UNLIKE_VERSION = -32001
    #: Not the owner of the state directory, or without the token.
    NOT_ALLOWED = -32002

    FAILED = 0
    NOT_FOUND = 1
    AMBIGUOUS = 2
    INVALID = 3
    REFUSED = 4
    STATE = 5
    WAITED_TOO_LONG = 6
    RUN_FAILED = 7
    RUN_SUSPENDED = 8
    STEP_TIMEOUT = 9
    BLOCK_CRASHED = 10
    REFERENCE_FAILED = 11
    RETRY = 12
    ABORT = 13
    NO_DAEMON = 14
    NO_ANSWER = 15


class Failure(NamedTuple):
    """The ``error`` of a response."""

    code: int
    message: str
    data: Mapping[str, Any] = {}


class Written(NamedTuple):
    """A value that is JSON text already: what is told again and again need not be written anew."""

    text: str


class Request(NamedTuple):
    """What a client asks for; without an id, it wants no answer."""

    method: str
    params: Dict[str, Any]
    id: Optional[Id]


class Response(NamedTuple):
    """The answer to a request. The id is None where that of the request could not be read."""

    id: Optional[Id]
    result: Any
    failure: Optional[Failure]


class Notice(NamedTuple):
    """What the server says without being asked: ``challenge``, ``item``, ``goodbye``."""

    method: str
    params: Dict[str, Any]


class Malformed(ValueError):
    """What came in is no message. ``failure`` is the answer to it, ``id`` the request's as far as it could be read."""

    def __init__(self, code: Code, message: str, id: Optional[Id] = None) -> None:
        super().__init__(message)
        self.failure = Failure(code, message)
        self.id = id


class Unsendable(ValueError):
    """A message that can't be made: not JSON, or too long."""


# ---------------------------------------------------------------------- JSON


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {_clipped(twice)} stands twice in one object")
    return found


def _whole_number(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits; {MAX_DIGITS} are allowed")
    return int(text)


def _number(text: str) -> float:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} characters; {MAX_DIGITS} are allowed")
    number = float(text)
    if number - number:  # infinite: a finite number less itself is 0
        raise ValueError(f"{text} is larger than any number can be")
    return number


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


_read = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_whole_number, parse_float=_number, parse_constant=_constant
).decode
_write = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

#: An escaped surrogate, which is half of a character or no character at all.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def decode(line: bytes) -> Any:
    """The value of one frame. Raises :class:`Malformed`."""
    if len(line) > MAX_FRAME:
        raise too_long(MAX_FRAME)
    brackets = line.count(b"[") + line.count(b"{")
    if brackets > MAX_CONTAINERS and _containers(line) > MAX_CONTAINERS:
        raise Malformed(Code.PARSE_ERROR, f"more than {MAX_CONTAINERS:,} lists and objects")
    try:
        value = _read(line.decode())
        if brackets > MAX_DEPTH:
            _refuse_deep(value)
        if _SURROGATE.search(line):
            _write(value).encode()
    except RecursionError:
        raise Malformed(Code.PARSE_ERROR, _TOO_DEEP) from None
    except UnicodeDecodeError as error:
        raise Malformed(Code.PARSE_ERROR, f"not UTF-8: {error.reason} at byte {error.start}") from None
    except UnicodeEncodeError:
        raise Malformed(Code.PARSE_ERROR, "a text holds half of a surrogate pair, which is no character") from None
    except ValueError as error:
        raise Malformed(Code.PARSE_ERROR, f"not JSON: {error}") from None
    return value


def _containers(line: bytes) -> int:
    """How many there are at most: brackets inside of texts are none. In one pass each, whatever the line is."""
    outside = _TEXT.sub(b"", line.replace(rb"\\", b"").replace(rb"\"", b""))
    return outside.count(b"[") + outside.count(b"{")


_TEXT = re.compile(rb'"[^"]*"')

_TOO_DEEP = f"lists and objects are nested more than {MAX_DEPTH} deep"


def _refuse_deep(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inside = [node.values() if type(node) is dict else node for node in level if type(node) in (dict, list)]
        if not inside:
            return
        level = [child for children in inside for child in children]
    raise ValueError(_TOO_DEEP)


def encode(message: Mapping[str, Any]) -> bytes:
    """The frame of a message. Raises :class:`Unsendable`. Half characters, as in odd file names, become ``?``."""
    return _frame(_text(message))


def _text(value: Any) -> str:
    try:
        return _write(value)
    except RecursionError:
        raise Unsendable(_TOO_DEEP) from None
    except (TypeError, ValueError) as error:
        raise Unsendable(str(error)) from None


def _frame(text: str) -> bytes:
    # Text in JSON escapes every newline, so that the frame's end is the only one.
    line = text.encode("utf-8", "replace") + b"\n"
    if len(line) > MAX_FRAME:
        raise Unsendable(f"{len(line):,} bytes; a frame has at most {MAX_FRAME:,}")
    return line


def too_long(limit: int) -> Malformed:
    """The refusal of a frame past ``limit`` bytes."""
    return Malformed(Code.PARSE_ERROR, f"a frame has at most {limit:,} bytes")


# ---------------------------------------------------------------------- messages

_REQUEST_MEMBERS = {"jsonrpc", "id", "method", "params"}


def parse_request(line: bytes) -> Request:
    """The request of a frame. Raises :class:`Malformed`, with the request's id if there is one."""
    message = decode(line)
    if type(message) is not dict:
        raise _no_request(
            "batches are not taken; send the requests one after the other, each on a line of its own"
            if type(message) is list
            else "a request is an object"
        )
    id = message.get("id")
    if id is not None and (type(id) not in (int, str) or (type(id) is str and len(id) > MAX_NAME)):
        raise _no_request(f"id is a whole number or a text of at most {MAX_NAME} characters")
    if id is None and "id" in message:
        raise _no_request("id is null; leave it out for a request that wants no answer")
    method, params = message.get("method"), message.get("params", _NO_PARAMS)
    if message.get("jsonrpc") != "2.0":
        raise _no_request('jsonrpc is not "2.0"', id)
    if type(method) is not str or len(method) > MAX_NAME:
        raise _no_request(f"method is a text of at most {MAX_NAME} characters", id)
    if type(params) is not dict:
        raise _no_request("params is an object with the values by their names", id)
    if not message.keys() <= _REQUEST_MEMBERS:
        unknown = next(name for name in message if name not in _REQUEST_MEMBERS)
        raise _no_request(f"a request has no member {_clipped(unknown)}", id)
    return Request(method, params if params is not _NO_PARAMS else {}, id)


_NO_PARAMS: Dict[str, Any] = {}


def _no_request(message: str, id: Optional[Id] = None) -> Malformed:
    return Malformed(Code.INVALID_REQUEST, message, id)


def parse_reply(line: bytes) -> Union[Response, Notice]:
    """What a server sent. Raises :class:`Malformed`."""
    message = decode(line)
    if type(message) is not dict or message.get("jsonrpc") != "2.0":
        raise Malformed(Code.INVALID_REQUEST, "no message of JSON-RPC 2.0")
    if "method" in message:
        method, params = message["method"], message.get("params", {})
        if type(method) is not str or type(params) is not dict or "id" in message:
            raise Malformed(Code.INVALID_REQUEST, "no notification of JSON-RPC 2.0")
        return Notice(method, params)
    id = message.get("id")
    if ("result" in message) == ("error" in message) or not (id is None or type(id) in (int, str)):
        raise Malformed(Code.INVALID_REQUEST, "no response of JSON-RPC 2.0")
    if "error" not in message:
        return Response(id, message["result"], None)
    return Response(id, None, _failure(message["error"]))


def _failure(error: Any) -> Failure:
    if type(error) is dict:
        code, message, data = error.get("code"), error.get("message"), error.get("data", {})
        if type(code) is int and type(message) is str and type(data) is dict:
            return Failure(code, message, data)
    raise Malformed(Code.INVALID_REQUEST, "no error of JSON-RPC 2.0")


def encode_request(id: Optional[Id], method: str, params: Mapping[str, Any]) -> bytes:
    """The frame of a request. Raises :class:`Unsendable`."""
    if id is None:
        return encode({"jsonrpc": "2.0", "method": method, "params": params})
    return encode({"jsonrpc": "2.0", "id": id, "method": method, "params": params})


def written(value: Any) -> Written:
    """The text of a value. Raises :class:`Unsendable`."""
    return Written(_text(value))


def written_with(members: Mapping[str, Any], name: str, value: Written) -> Written:
    """The text of an object with some members, at least one, and a further one, of a plain name, that is text."""
    return Written(f'{_text(members)[:-1]},"{name}":{value.text}}}')


def encode_result(id: Optional[Id], result: Any) -> bytes:
    """The frame of an answer; the result is a JSON value or :class:`Written`. Raises :class:`Unsendable`."""
    if type(result) is Written:
        return _frame(f'{{"jsonrpc":"2.0","id":{_text(id)},"result":{result.text}}}')
    return encode({"jsonrpc": "2.0", "id": id, "result": result})


def encode_failure(id: Optional[Id], failure: Failure) -> bytes:
    """The frame of an error. Raises :class:`Unsendable`."""
    error: Dict[str, Any] = {"code": int(failure.code), "message": failure.message}
    if failure.data:
        error["data"] = failure.data
    return encode({"jsonrpc": "2.0", "id": id, "error": error})


def encode_notice(method: str, params: Mapping[str, Any]) -> bytes:
    """The frame of a notification. Raises :class:`Unsendable`."""
    return encode({"jsonrpc": "2.0", "method": method, "params": params})


def encode_item(id: Optional[Id], item: Any) -> bytes:
    """The frame of one item of a stream. Raises :class:`Unsendable`."""
    return encode_notice(ITEM, {"id": id, "item": item})


def _clipped(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
