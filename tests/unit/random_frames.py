"""Frames as nobody would send them, damaged or noise of the pieces of JSON, and what has to become of them."""

from __future__ import annotations

import random
from typing import Any, List

from blaze.daemon import protocol
from blaze.daemon.protocol import Malformed, Request

FRAMES: List[bytes] = [
    protocol.encode_request("hello", "hello", {"protocol": 1, "blaze": "0.1.0"}),
    protocol.encode_request(1, "status", {"verbose": True}),
    protocol.encode_request(
        None, "trigger", {"seq": "etl", "parameters": {"fetch": {"limit": 1.5, "né": [None, "\n"]}}}
    ),
    protocol.encode_result(1, {"jobs": [{"seq_id": "etl", "next": 1e9}]}),
    protocol.encode_failure(1, protocol.Failure(protocol.Code.INVALID, "wrong", {"errors": [["a", "b"]]})),
    protocol.encode_item(2, "a line"),
]

_PIECES = [
    *(b'{ } [ ] , : " \\ \n \x00 \xff \xed\xa0\x80 - 1 1e999 true null NaN Infinity'.split(b" ")),
    *(b'"jsonrpc":"2.0", "id": "method":"x" "params":{} "result" "error" \\ud800 \\u0000'.split(b" ")),
]


def mutated(frame: bytes, chance: random.Random) -> bytes:
    """A frame with a few damages: bytes changed, cut out, doubled, or pieces put in."""
    damaged = bytearray(frame)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(damaged) + 1)
        kind = chance.randrange(4)
        if kind == 0 and at < len(damaged):
            damaged[at] = chance.randrange(256)
        elif kind == 1:
            del damaged[at : at + chance.randint(1, 8)]
        elif kind == 2:
            damaged[at:at] = damaged[at : at + chance.randint(1, 20)]
        else:
            damaged[at:at] = chance.choice(_PIECES)
    return bytes(damaged)


def random_frame(chance: random.Random) -> bytes:
    """Any of all that."""
    kind = chance.randrange(10)
    if kind == 0:
        return bytes(chance.randrange(256) for _ in range(chance.randrange(60)))
    if kind == 1:
        return b"".join(chance.choices(_PIECES, k=chance.randrange(40)))
    return mutated(chance.choice(FRAMES), chance)


def parsed_or_refused(line: bytes) -> None:
    """Whatever comes in, there is a message or a refusal, and both can be worked with."""
    for parse in (protocol.parse_request, protocol.parse_reply):
        try:
            message: Any = parse(line)
        except Malformed as malformed:
            protocol.parse_reply(protocol.encode_failure(malformed.id, malformed.failure))
        else:
            if isinstance(message, Request):
                again = protocol.encode_request(message.id, message.method, message.params)
                assert protocol.parse_request(again) == message
