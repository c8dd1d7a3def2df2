"""The daemon's protocol as bytes and messages: what is taken, what is refused, and how errors travel. No socket."""

from __future__ import annotations

import inspect
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blaze.core.ground import errors
from blaze.core.ground.errors import (
    AmbiguousName,
    BlazeError,
    DaemonError,
    Fault,
    NotFound,
    StateError,
    ValidationError,
)
from blaze.daemon import protocol
from blaze.daemon.complaints import LINES, STRETCH, Complaints
from blaze.daemon.failures import CODES, error_of, failure_of
from blaze.daemon.methods import ANYTHING, FLAG, LIST, NUMBER, OBJECT, TEXT, TEXTS, WHOLE, Method, Parameter, or_null
from blaze.daemon.protocol import Code, Failure, Malformed, Notice, Request, Response, Unsendable
from tests.unit.random_frames import FRAMES, mutated, parsed_or_refused, random_frame


def refusal(line: bytes) -> Malformed:
    with pytest.raises(Malformed) as refused:
        protocol.parse_request(line)
    return refused.value


def request_with(**members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "status", **members}).encode() + b"\n"


# ---------------------------------------------------------------------- requests and replies


def test_a_request_comes_out_as_it_went_in() -> None:
    params = {"name": "Grüße \U0001f680\u2028\n\x7f", "numbers": [1, -2.5, 1e300, None, True], "inner": {"": {}}}
    line = protocol.encode_request(7, "status", params)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert protocol.parse_request(line) == Request("status", params, 7)


def test_a_request_needs_neither_id_nor_params() -> None:
    assert protocol.parse_request(b'{"jsonrpc":"2.0","method":"stop"}\n') == Request("stop", {}, None)
    assert protocol.parse_request(protocol.encode_request(None, "stop", {})).id is None


def test_replies_come_out_as_they_went_in() -> None:
    failure = Failure(Code.NOT_FOUND, "no run 'x'", {"candidates": ["a"]})
    assert protocol.parse_reply(protocol.encode_result("a", [1])) == Response("a", [1], None)
    assert protocol.parse_reply(protocol.encode_failure(None, failure)) == Response(None, None, failure)
    assert protocol.parse_reply(protocol.encode_item(3, "x")) == Notice("item", {"id": 3, "item": "x"})


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"jsonrpc": "1.0"}, 'jsonrpc is not "2.0"'),
        ({"jsonrpc": 2.0}, 'jsonrpc is not "2.0"'),
        ({"method": 7}, "method is a text"),
        ({"method": "x" * 201}, "method is a text"),
        ({"params": [1]}, "params is an object"),
        ({"params": None}, "params is an object"),
        ({"id": None}, "id is null"),
        ({"id": True}, "id is a whole number or a text"),
        ({"id": 1.0}, "id is a whole number or a text"),
        ({"id": {}}, "id is a whole number or a text"),
        ({"id": "x" * 201}, "id is a whole number or a text"),
        ({"verison": 1}, "a request has no member 'verison'"),
    ],
)
def test_json_that_is_no_request_is_refused_with_what_is_wrong(members: Dict[str, Any], told: str) -> None:
    """R52."""
    refused = refusal(request_with(**members))
    assert told in str(refused) and refused.failure.code == Code.INVALID_REQUEST
    assert refused.id == (None if "id" in members else 1)


@pytest.mark.parametrize(
    "line", [b"[]\n", b"[" + request_with()[:-1] + b"]\n", b"7\n", b"null\n", b'"status"\n', b"{}\n"]
)
def test_what_is_no_object_of_a_request_is_refused(line: bytes) -> None:
    refused = refusal(line)
    assert refused.failure.code == Code.INVALID_REQUEST
    assert ("batches are not taken" in str(refused)) == line.startswith(b"[")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"GET / HTTP/1.1\r\n", "not JSON"),
        (b"\n", "not JSON"),
        (b"\x80\x04K\x07.\n", "not UTF-8: invalid start byte at byte 0"),
        (b'{"a": "\xed\xa0\x80"}\n', "not UTF-8"),
        (b'{"a": "\xc0\xaf"}\n', "not UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}\n', "not JSON"),
        (b'{"a": "\\ud800"}\n', "half of a surrogate pair"),
        (b'{"\\udc00": 1}\n', "half of a surrogate pair"),
        (b'{"a": 1, "b": 2, "a": 3}\n', "the key 'a' stands twice"),
        (b'{"params": {"x": [{"a": 1, "a": 1}]}}\n', "the key 'a' stands twice"),
        (b'{"a": NaN}\n', "NaN is no JSON"),
        (b'{"a": -Infinity}\n', "-Infinity is no JSON"),
        (b'{"a": 1e999}\n', "larger than any number"),
        (b'{"a": ' + b"9" * 1001 + b"}\n", "a number of 1001 digits"),
        (b'{"a": 0.' + b"9" * 1001 + b"}\n", "a number of 1003 characters"),
        (b'{"a": ' + b"9" * 1_000_000 + b"}\n", "a number of 1000000 digits"),
        (b"[" * 201 + b"]" * 201 + b"\n", "nested more than 200 deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n", "nested more than 200 deep"),
        (b"[" + b"[]," * 200_000 + b"[]]\n", "more than 200,000 lists and objects"),
        (b'{"a": "x\n', "not JSON"),
        (b'{"a": "\x00"}\n', "not JSON"),
        (b'{"a": 1} {"b": 2}\n', "not JSON"),
        (b'{"a": 1}' + b" " * protocol.MAX_FRAME, "at most 16,777,216 bytes"),
    ],
)
def test_bytes_that_are_no_json_are_refused_with_what_is_wrong(line: bytes, told: str) -> None:
    """R49, P9: strict UTF-8, no duplicate keys, no NaN, bounded numbers, depth and length."""
    refused = refusal(line)
    assert told in str(refused) and refused.failure.code == Code.PARSE_ERROR


def test_what_is_just_within_the_limits_is_taken() -> None:
    """P9."""
    deep = b"[" * 200 + b"]" * 200
    assert protocol.decode(deep) is not None
    assert protocol.decode(b"9" * 1000) == int("9" * 1000)
    assert protocol.decode(b'"' + b"x" * (protocol.MAX_FRAME - 2) + b'"')
    assert protocol.decode(rb'"\ud83d\ude80"') == "\U0001f680"
    assert len(protocol.decode(b"[" + b"[]," * 1000 + b"[]]")) == 1001  # many, but not deep
    text = '[{"\\' * 300_000
    assert protocol.decode(json.dumps([text]).encode()) == [text]  # none of them a list or an object


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {1, 2}, object(), b"bytes", {(): 1}, "x" * protocol.MAX_FRAME]
)
def test_what_is_no_json_or_too_long_is_not_sent(value: Any) -> None:
    """P9: json writes NaN by default."""
    with pytest.raises(Unsendable):
        protocol.encode_result(1, value)


def test_a_value_that_holds_itself_or_is_too_deep_is_not_sent() -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (circle, deep):
        with pytest.raises(Unsendable):
            protocol.encode_result(1, value)
    while deep:  # freeing it in one go takes as much of the stack as building it would have
        deep = deep[0]


def test_what_is_written_already_is_sent_as_if_it_were_not() -> None:
    members, lines = {"a": 1, "b": 'quote " and \n newline'}, [{"c": "é\udcff"}, None]
    text = protocol.written_with(members, "lines", protocol.written(lines))
    for id in (1, "id"):
        assert protocol.encode_result(id, text) == protocol.encode_result(id, {**members, "lines": lines})


def test_what_is_written_already_is_held_against_the_same_limits() -> None:
    with pytest.raises(Unsendable, match="bytes"):
        protocol.encode_result(1, protocol.written("x" * protocol.MAX_FRAME))
    with pytest.raises(Unsendable):
        protocol.written(float("nan"))


def test_half_a_character_of_an_odd_file_name_becomes_a_question_mark() -> None:
    assert protocol.parse_reply(protocol.encode_result(1, "a\udcffb")) == Response(1, "a?b", None)


@pytest.mark.parametrize(
    "line",
    [
        *(b"[]", b"{}", b"\xff", b'{"jsonrpc":"2.0"}', b'{"jsonrpc":"2.0","method":1}'),
        *(b'{"jsonrpc":"2.0","id":1,"result":1,"error":{}}', b'{"jsonrpc":"2.0","id":1,"error":{}}'),
        *(b'{"jsonrpc":"2.0","id":1,"error":{"code":"1","message":"x"}}', b'{"jsonrpc":"2.0","id":[],"result":1}'),
        b'{"jsonrpc":"2.0","id":1,"method":"x"}',
    ],
)
def test_a_server_that_sends_no_replies_is_found_out(line: bytes) -> None:
    with pytest.raises(Malformed):
        protocol.parse_reply(line)


# ---------------------------------------------------------------------- fuzzing


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)
MEMBERS = st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error", "code", "message", "x"])


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_random_bytes_give_a_request_or_a_refusal(line: bytes) -> None:
    """R70."""
    parsed_or_refused(line)


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(MEMBERS, JSON | st.just("2.0"), max_size=6))
def test_random_objects_give_a_request_or_a_refusal(message: Dict[str, Any]) -> None:
    """R70: json writes NaN, Infinity and halves of characters, which are refused."""
    parsed_or_refused(json.dumps(message).encode())


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(FRAMES), st.integers(0, 2**32))
def test_damaged_frames_give_a_request_or_a_refusal(frame: bytes, seed: int) -> None:
    """R70."""
    parsed_or_refused(mutated(frame, random.Random(seed)))


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2000), st.sampled_from([b"[", b'{"a":', b'[{"a":']), st.binary(max_size=3))
def test_nesting_of_any_depth_gives_a_request_or_a_refusal(depth: int, opening: bytes, end: bytes) -> None:
    """P9: RecursionError."""
    parsed_or_refused(opening * depth + end)
    closing = b"".join({b"[": b"]", b"{": b"}"}.get(bytes([byte]), b"") for byte in reversed(opening))
    parsed_or_refused(opening * depth + b"1" + closing * depth)


@pytest.mark.slow
def test_a_million_random_frames_give_a_request_or_a_refusal() -> None:
    """R70: 10^6 without a crash."""
    chance = random.Random(4)
    for _ in range(1_000_000):
        parsed_or_refused(random_frame(chance))


@pytest.mark.slow
def test_a_fuzzer_that_follows_the_branches_finds_nothing(tmp_path: Path) -> None:
    """R70."""
    pytest.importorskip("atheris", reason="needs atheris: pip install -e .[fuzz]")
    for number, frame in enumerate(FRAMES):
        (tmp_path / str(number)).write_bytes(frame)
    program = Path(__file__).with_name("fuzz_protocol.py")
    options = ["-max_total_time=60", "-max_len=4096", f"-artifact_prefix={tmp_path}/found-"]
    done = subprocess.run([sys.executable, str(program), *options, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]


# ---------------------------------------------------------------------- parameters

KINDS = {"text": TEXT, "flag": FLAG, "whole": WHOLE, "number": NUMBER, "list": LIST, "object": OBJECT, "texts": TEXTS}
FITTING = {"text": "x", "flag": True, "whole": 1, "number": 1.5, "list": [1], "object": {}, "texts": ["x"]}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_parameter_takes_values_of_its_kind_only(name: str) -> None:
    """R52: wrong types. True is no number, though Python says so."""
    kind = KINDS[name]
    others = {"list": ["texts"], "texts": [], "number": ["whole"]}
    for other, value in FITTING.items():
        assert kind.fits(value) == (other == name or other in others.get(name, [])), (name, value)
    assert not kind.fits(None) and or_null(kind).fits(None) and or_null(kind).fits(FITTING[name])
    assert ANYTHING.fits(None)


def test_all_that_is_wrong_with_the_parameters_is_told_at_once() -> None:
    method = Method(print, {"run": Parameter(TEXT), "verbose": Parameter(FLAG, required=False)})
    assert method.faults({"run": "last"}) == []
    assert method.faults({"verbos": True, "verbose": None}) == [
        Fault("verbos", "there is no such parameter; did you mean 'verbose'?"),
        Fault("verbose", "true or false, not null"),
        Fault("run", "a text is needed"),
    ]
    assert Method(print).faults({"x" * 10**6: 1}) == [Fault("x" * 37 + "...", "there is no such parameter")]


# ---------------------------------------------------------------------- errors


def all_errors() -> Dict[str, type]:
    return {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, BlazeError) and kind.__module__ == errors.__name__
    }


def example(kind: type) -> BlazeError:
    faults = [Fault("fetch.limit", "a whole number, not 'x'"), Fault("", "a cycle: a → b → a")]
    special = {ValidationError: (faults, "sequence 'etl'"), AmbiguousName: ("several runs", ["ab1", "ab2"])}
    return kind(*special.get(kind, ("what happened, and what to do",)))


@pytest.mark.parametrize("name", sorted(all_errors()))
def test_every_error_of_blaze_comes_back_as_the_same_class_with_the_same_words(name: str) -> None:
    error = example(all_errors()[name])
    reply = protocol.parse_reply(protocol.encode_failure(1, failure_of(error)))
    assert isinstance(reply, Response) and reply.failure is not None
    found = error_of(reply.failure)
    assert type(found) is type(error) and str(found) == str(error)
    for attribute in ("errors", "subject", "candidates"):
        assert getattr(found, attribute, None) == getattr(error, attribute, None)
    assert type(error) in CODES


def test_every_class_of_errors_has_a_code_of_its_own() -> None:
    assert len(set(CODES.values())) == len(CODES)


def test_an_error_of_a_users_own_class_comes_back_as_the_nearest_class_of_blaze() -> None:
    class NoSuchThing(NotFound):
        pass

    assert type(error_of(failure_of(NoSuchThing("x")))) is NotFound
    assert type(error_of(failure_of(TimeoutError("after 3 s")))) is TimeoutError


def test_an_error_that_was_not_foreseen_says_what_it_was_and_is_bounded() -> None:
    class Nasty(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert failure_of(KeyError("x")) == Failure(Code.INTERNAL_ERROR, "KeyError: 'x'")
    assert len(failure_of(ValueError("x" * 10**6)).message) < 600
    assert failure_of(Nasty()).message == "Nasty: (its text can't be had)"
    assert type(error_of(Failure(12345, "of a later version"))) is DaemonError


@pytest.mark.parametrize("data", [{}, {"errors": 7}, {"errors": [7, [1, 2], ["a"]]}, {"errors": [], "subject": 7}])
def test_the_faults_of_a_peer_are_not_trusted_to_be_faults(data: Dict[str, Any]) -> None:
    found = error_of(Failure(Code.INVALID, "wrong", data))
    assert isinstance(found, ValidationError) and found.errors == [Fault("", "wrong")]
    assert isinstance(error_of(Failure(Code.STATE, "gone", data)), StateError)


# ---------------------------------------------------------------------- complaints


class Lines:
    """A logger that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, level: int, text: str, *values: Any, exc_info: bool = False) -> None:
        self.lines.append(text % values)

    def warning(self, text: str, *values: Any) -> None:
        self.lines.append(text % values)


def test_what_clients_do_wrong_fills_no_log() -> None:
    """R52: rate-limited."""
    now = [0.0]
    log = Lines()
    complaints = Complaints(log, lambda: now[0])  # type: ignore[arg-type]
    for number in range(1000):
        complaints.add("client %d", number)
    assert log.lines == [f"client {number}" for number in range(LINES)]
    now[0] += STRETCH
    complaints.add("client again")
    assert log.lines[LINES:] == ["990 more messages about clients were not logged", "client again"]
