"""What people are shown of a value: short, quick whatever the value is, and without secrets (R37)."""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict, UserDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from types import MappingProxyType, SimpleNamespace
from typing import Any, Dict, List, NamedTuple

import pytest

from blaze.core.do.failure import show_arguments
from blaze.core.ground.errors import Fault
from blaze.core.ground.masking import is_secret
from blaze.core.ground.picture import Picture
from blaze.core.remember.codec import preview
from blaze.core.what.checker import clipped
from blaze.core.what.conversion import convert

#: Forty lists, and 2**40 paths.
SHARED: Any = [1]
for _ in range(40):
    SHARED = [SHARED, SHARED]
MANY = range(10**6)

Pair = namedtuple("Pair", "first second")


class Login(NamedTuple):
    user: str
    password: str


@dataclass
class Box:
    inside: Any = None
    password: str = "hunter2"
    hidden: str = field(default="hunter3", repr=False)


@dataclass
class Own:
    inside: Any

    def __repr__(self) -> str:
        return "my own"


class Rows(list):
    pass


class Table(dict):
    pass


LARGE = {
    "list": SHARED,
    "dataclass": Box(SHARED),
    "named tuple": Pair(SHARED, SHARED),
    "subclass of list": Rows(SHARED),
    "subclass of dict": Table(a=SHARED),
    "OrderedDict": OrderedDict(a=SHARED),
    "defaultdict": defaultdict(list, a=SHARED),
    "mapping proxy": MappingProxyType({"a": SHARED}),
    "deque": deque([SHARED]),
    "view": {"a": SHARED}.values(),
    "namespace": SimpleNamespace(a=SHARED),
    "many rows": Box(list(MANY)),
    "many keys": dict.fromkeys(MANY),
    "many elements": set(MANY),
    "many counts": Counter(MANY),
    "own repr": Own(SHARED),
}


#: Calls.
ENOUGH = 5_000


# By its name: pytest would show a value that fails in full.
@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("picture", [preview, clipped])
def test_the_picture_of_a_large_value_is_made_with_little_work(picture, name):
    calls = [0]

    def count(frame, event, argument):
        calls[0] += 1
        if calls[0] > ENOUGH:
            sys.setprofile(None)
            raise AssertionError("it goes on and on")

    value = LARGE[name]
    sys.setprofile(count)
    try:
        text = picture(value)
    finally:
        sys.setprofile(None)
    assert len(text) <= 200
    assert calls[0] <= ENOUGH


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Box([1]), "Box(inside=[1], password=***)"),
        (Own(1), "my own"),
        (Pair(1, "x"), "Pair(first=1, second='x')"),
        (Login("me", "hunter2"), "Login(user='me', password=***)"),
        ({"b": 1, "a": 2}, "{'a': 2, 'b': 1}"),
        ({"api_key": "hunter2", "keys": 2}, "{'api_key': ***, 'keys': 2}"),
        (OrderedDict(token="hunter2"), "OrderedDict({'token': ***})"),
        (SimpleNamespace(a=1, secret="hunter2"), "namespace(a=1, secret=***)"),
        ({3, 1, 2}, "{1, 2, 3}"),
        (frozenset({1}), "frozenset({1})"),
        (set(), "set()"),
        (deque([1]), "deque([1])"),
        ({1: 2}.keys(), "dict_keys([1])"),
        (Rows([1]), "[1]"),
        (list(range(9)), "[0, 1, 2, 3, 4, 5, ...]"),
        ([[[[[[1]]]]]], "[[[[[...]]]]]"),
        (UserDict(a=1), "{'a': 1}"),
        (type("dict", (), {"__repr__": lambda self: "no dict"})(), "no dict"),
        (b"x" * 130, f"b'{'x' * 60}'... (130 bytes)"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_a_picture_looks_like_the_repr(value, text):
    assert preview(value) == text


def test_what_fails_is_named():
    class Broken(list):
        def __repr__(self):
            raise SystemExit

    class Empty(dict):
        def __getitem__(self, key):
            raise RuntimeError

    assert preview([Broken()]) == "[<Broken: repr() raised SystemExit>]"
    assert preview(Empty(a=1)) == "<Empty: repr() raised RuntimeError>"


def test_names_of_secrets_are_known_however_they_are_written():
    for name in "password PASSWD pwd db_pass passphrase token authToken apiKey aws_secret key ssh_key cookie".split():
        assert is_secret(name), name
    for name in ("keys", "keyboard", "passenger", "bypass", "user", "monkey", 1, None, b"password"):
        assert not is_secret(name), name


def test_a_failure_shows_no_secret_however_its_arguments_hold_it():
    deep: Any = {"password": "hunter2"}
    for _ in range(8):
        deep = [deep]
    arguments = {
        "box": Box({"token": "hunter2"}),
        "login": Login("me", "hunter2"),
        "pair": ({"secret": "hunter2"}, [OrderedDict(password="hunter2")]),
        "deep": deep,
        "values": {"a": {"key": "hunter2"}}.values(),
    }
    assert "hunter" not in show_arguments(arguments)


def test_a_fault_shows_no_secret():
    faults: List[Fault] = []
    convert("hunter2", int, "login.password", faults)
    convert({"api_key": "hunter2"}, Dict[str, int], "login.options", faults)
    convert([{"token": "hunter2"}], int, "login.rows", faults)
    convert("clear", int, "token_refresh.rows", faults)
    assert faults == [
        Fault("login.password", "expected int, got str"),
        Fault("login.options['api_key']", "expected int, got str"),
        Fault("login.rows", "expected int, got list [{'token': ***}]"),
        Fault("token_refresh.rows", "expected int, got str 'clear'"),
    ]


def test_levels_and_lengths_are_bounded():
    picture = Picture(levels=2, shown=2, long=10, longest_int=10)
    assert picture.repr([[[1]], "x" * 100, 3]) == "[[[...]], 'xx...xxx', ...]"
    assert picture.repr(Box(Box(Box()))) == "Box(inside=Box(inside=Box(...), password=***), password=***)"
    assert picture.repr(10**5000) == "<int of 16610 bits>"
