"""Stored parameters come back as what they were, or are refused with their path (R29, R30)."""

from __future__ import annotations

import contextlib
import doctest
import enum
import functools
import json
import os
import subprocess
import sys
from collections import OrderedDict, deque
from dataclasses import InitVar, dataclass, field
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import (
    Any,
    Dict,
    FrozenSet,
    Generic,
    List,
    Literal,
    NamedTuple,
    Optional,
    Set,
    Tuple,
    TypedDict,
    TypeVar,
    Union,
)
from uuid import UUID
from zoneinfo import ZoneInfo

import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blaze.core.ground.errors import Fault, ValidationError
from blaze.core.what import value_writer, values
from blaze.core.what.values import MAX_BYTES, decode, dumps, encode, loads

T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"
    AZURE = "blue"  # noqa: PIE796


class Shape(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Mode(str, enum.Enum):
    FAST = "fast"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Options:
    limit: int
    color: Color = Color.RED
    since: Optional[date] = None
    inner: Optional[Options] = None


@dataclass(frozen=True)
class Derived:
    base: int
    double: int = field(init=False, default=0)

    def __post_init__(self):
        object.__setattr__(self, "double", self.base * 2)


@dataclass
class Normalising:
    name: str

    def __post_init__(self):
        self.name = self.name + "!"
        self.calls = 1


@dataclass
class NeedsMore:
    a: int
    b: InitVar[int]


@dataclass
class Picky:
    a: int

    def __post_init__(self):
        if self.a > picky_limit:
            raise ValueError("too large")


@dataclass
class Slotted:
    __slots__ = ("a",)
    a: int


@dataclass
class Box(Generic[T]):
    content: T


class Settings(TypedDict):
    color: Color


class Point(NamedTuple):
    x: int


class Model(pydantic.BaseModel):
    a: int


class Text(str):
    __slots__ = ()


picky_limit = 10


def picture(value: Any) -> str:
    """A text that two values share if they are equal and of the same types all the way down: -0.0 is not 0.0."""
    kind = type(value).__name__
    if isinstance(value, (list, tuple)):
        return f"{kind}[{', '.join(map(picture, value))}]"
    if isinstance(value, dict):
        return f"{kind}{{{', '.join(f'{picture(key)}: {picture(value[key])}' for key in value)}}}"
    if isinstance(value, (set, frozenset)):
        return f"{kind}{{{', '.join(sorted(map(picture, value)))}}}"
    if isinstance(value, (datetime, time)):
        return f"{kind} {value.replace(tzinfo=None)!r} {value.utcoffset()!r}"
    return f"{kind} {hex(value)}" if type(value) is int else f"{kind} {value!r}"


def same(a: Any, b: Any) -> bool:
    return picture(a) == picture(b)


def round_trip(value: Any, annotation: Any = Any) -> Any:
    text = dumps({"fetch": {"x": value}}, {("fetch", "x"): annotation})
    assert text.encode()
    assert dumps({"fetch": {"x": value}}, {("fetch", "x"): annotation}) == text
    decoded = loads(text, {("fetch", "x"): annotation})
    faults: List[Fault] = []
    encoded = encode(value, "fetch.x", faults, annotation)
    assert faults == []
    assert same(decode(json.loads(json.dumps(encoded)), annotation), decoded["fetch"]["x"])
    return decoded["fetch"]["x"]


def refused(value: Any, annotation: Any = Any) -> List[Tuple[str, str]]:
    faults: List[Fault] = []
    encode(value, "fetch.options", faults, annotation)
    with pytest.raises(ValidationError) as caught:
        dumps({"fetch": {"options": value}}, {("fetch", "options"): annotation})
    assert caught.value.errors == faults
    return [(fault.where, fault.what) for fault in faults]


BERLIN = ZoneInfo("Europe/Berlin")

KEPT = [
    None,
    True,
    False,
    0,
    -1,
    10**3999,
    -(10**3999),
    0.1,
    -0.0,
    5e-324,
    1.7976931348623157e308,
    "",
    "\x00\x1f\x7f\u2028\ufeff\U0001f600",
    '"\\/',
    [],
    {},
    {"": ""},
    {"$blaze": "date", "value": "2024-01-01"},
    {"$blaze": {"$blaze": "dict", "value": {}}, "other": [{"$blaze": None}]},
    datetime(2024, 1, 31, 12, 30, 5, 123456),
    datetime(2024, 1, 31, tzinfo=timezone.utc),
    datetime(2024, 1, 31, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
    datetime(2024, 1, 31, tzinfo=timezone(timedelta(seconds=1, microseconds=1))),
    datetime(2024, 1, 31, tzinfo=timezone(timedelta(microseconds=1))),
    datetime(2024, 1, 31, tzinfo=timezone(timedelta(microseconds=-1)), fold=1),
    datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN),
    datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1),
    datetime(2024, 10, 27, 2, 30, fold=1),
    datetime.min,
    datetime.max,
    date(1, 1, 1),
    time(1, 2, 3, 4),
    time(1, 2, fold=1),
    time(1, 2, tzinfo=timezone(timedelta(hours=1))),
    timedelta.min,
    timedelta.max,
    timedelta(microseconds=-1),
    Decimal("1.10"),
    Decimal("-0"),
    Decimal("1E+999999"),
    Decimal("9" * 5000),
    UUID(int=7),
    b"",
    bytes(range(256)),
    Path("/tmp/x y/ü"),
    Path(),
    (),
    ((), [()], {"a": (1,)}),
    set(),
    {1, "a", 2.5, None, (1, 2), frozenset({1})},
    frozenset({b"x", date(2024, 1, 1)}),
]


@pytest.mark.parametrize("value", KEPT, ids=lambda value: f"{type(value).__name__}")
def test_a_stored_value_comes_back_as_what_it_was(value):
    """R30: -0.0 and 0.1 exact, large integers, any text."""
    assert same(round_trip(value), value)
    assert same(round_trip([{"k": value}]), [{"k": value}])


def test_what_json_can_say_is_written_as_plain_json():
    parameters = {"fetch": {"limit": 100, "urls": ["a", {"b": None}], "ratio": 0.1, "name": "ü"}}
    assert dumps(parameters, {}) == '{"fetch":{"limit":100,"urls":["a",{"b":null}],"ratio":0.1,"name":"ü"}}'
    assert loads('{"fetch": {"since": {"$blaze": "date", "value": "2024-01-31"}}}', {}) == {
        "fetch": {"since": date(2024, 1, 31)}
    }
    assert loads(dumps({}, {}), {}) == {}


def test_an_aware_datetime_keeps_its_zone():
    """A day later is the same time of the day, also where the clocks change in between."""
    before_the_change = datetime(2024, 10, 26, 12, tzinfo=BERLIN)
    decoded = round_trip(before_the_change)
    assert decoded.tzinfo is BERLIN
    assert (decoded + timedelta(days=1)).isoformat() == "2024-10-27T12:00:00+01:00"


def test_a_datetime_of_a_zone_that_is_gone_or_changed_keeps_its_instant():
    gone = {"$blaze": "datetime", "value": "2024-07-01T12:00:00+02:00", "zone": "Europe/Atlantis"}
    changed = {**gone, "zone": "Europe/London"}
    decoded = loads(json.dumps({"s": {"gone": gone, "changed": changed}}), {})["s"]
    assert decoded["gone"].isoformat() == "2024-07-01T12:00:00+02:00"
    assert decoded["changed"].isoformat() == "2024-07-01T11:00:00+01:00"


ANNOTATED = [
    (Color.RED, Color),
    (Color.AZURE, Color),
    (Level.LOW, Level),
    (Mode.FAST, Union[int, Mode]),
    (Access.READ | Access.WRITE, Access),
    (Access(0), Access),
    (Color.RED, Literal[Color.RED, "x"]),
    ([Color.RED, None], List[Optional[Color]]),
    ((1, Color.RED), Tuple[int, Color]),
    ([1, Color.RED], Tuple[int, Color]),
    ((Color.RED,) * 3, Tuple[Color, ...]),
    ({Color.RED}, Set[Color]),
    (frozenset({Color.RED}), FrozenSet[Color]),
    ({"a": [Color.RED]}, Dict[str, List[Color]]),
    ({"color": Color.RED}, Settings),
    ({"color": Color.RED, "limit": 1}, Options),
    ([{"color": Color.RED}], Union[List[Settings], None]),
    (["x", Color.RED], Union[List[Color], List[str]]),
    ([Shape.RED, Color.RED], List[Union[Color, Shape]]),
    (Options(1), Options),
    (Options(1, Color.BLUE, date(2024, 1, 1), Options(2)), Optional[Options]),
    ({"a": Options(1)}, Dict[str, Options]),
    (Derived(4), Derived),
    (Normalising("x"), Normalising),
    (Slotted(1), Slotted),
    (Box([1]), Box),
    (Box((1,)), Box[int]),
    (date(2024, 1, 1), date),
    ("2024-01-01", date),
]


@pytest.mark.parametrize(("value", "annotation"), ANNOTATED, ids=str)
def test_members_of_the_annotations_classes_come_back(value, annotation):
    assert same(round_trip(value, annotation), value)


def test_a_dataclass_is_made_by_its_own_init_and_then_holds_what_was_stored():
    decoded = round_trip(Normalising("x"), Normalising)
    assert decoded.name == "x!"
    assert decoded.calls == 1


ADVICE = (
    "JSON values, datetime, date, time, timedelta, Decimal, UUID, bytes, Path, tuple and set can, and Enum and "
    "dataclass members that the block's annotation names; sequences.run(), which stores nothing, takes any object"
)
NAME_IT = "give a name and let the block look it up; sequences.run(), which stores nothing, takes any object"

REFUSED = [
    (lambda: 1, f"a lambda can't be stored; {NAME_IT}"),
    (round_trip, f"the function 'round_trip' can't be stored; {NAME_IT}"),
    (len, f"the function 'len' can't be stored; {NAME_IT}"),
    ([].append, f"the function 'list.append' can't be stored; {NAME_IT}"),
    (functools.partial(len), f"a partial can't be stored; {NAME_IT}"),
    (Options, f"the class 'Options' can't be stored; {NAME_IT}"),
    (json, f"the module 'json' can't be stored; {ADVICE}"),
    (object(), f"an object can't be stored; {ADVICE}"),
    (1j, f"a complex can't be stored; {ADVICE}"),
    (sys.stdin or object(), None),
    (range(3), "a range can't be stored; give list(...) of it"),
    ({}.keys(), "a dict_keys can't be stored; give list(...) of it"),
    (deque(), "a deque can't be stored; give list(...) of it"),
    (bytearray(), "a bytearray can't be stored; give bytes(...)"),
    (Point(1), "a Point can't be stored; it would come back as a tuple: make it one"),
    (OrderedDict(), "an OrderedDict can't be stored; it would come back as a dict: make it one"),
    (Text("x"), "a Text can't be stored; it would come back as a str: make it one"),
    (Color.RED, "a Color can't be stored; annotate the block's parameter with Color, and it can"),
    (Level.LOW, "a Level can't be stored; annotate the block's parameter with Level, and it can"),
    (Options(1), "an Options can't be stored; annotate the block's parameter with Options, and it can"),
    (PurePosixPath("x"), f"a PurePosixPath can't be stored; {ADVICE}"),
    (
        Model(a=1),
        "a Model can't be stored; give its .model_dump(), which becomes the model again where the block's "
        "annotation names it",
    ),
    (float("nan"), "nan can't be stored; numbers must be finite"),
    (float("-inf"), "-inf can't be stored; numbers must be finite"),
    (Decimal("NaN"), "Decimal NaN can't be stored; numbers must be finite"),
    (Decimal("-Infinity"), "Decimal -Infinity can't be stored; numbers must be finite"),
    (10**4000, "an int of more than 4,000 digits can't be stored; give it as text"),
    (-(10**100_000), "an int of more than 4,000 digits can't be stored; give it as text"),
    ("a\ud800", "'a\\ud800' can't be stored; half of a surrogate pair is no text"),
    (Path(os.fsdecode(b"/tmp/\xff")), "a Path whose name is not valid UTF-8 can't be stored"),
    (
        time(1, tzinfo=BERLIN),
        "a time whose time zone has no fixed offset can't be stored; give a datetime with its date",
    ),
]


@pytest.mark.parametrize(("value", "what"), REFUSED, ids=lambda item: type(item).__name__)
def test_what_cannot_be_stored_is_refused_with_its_path_and_advice(value, what):
    """R30, and DESIGN: ``fetch.options[2]: a lambda can't be stored``."""
    if what is None:
        what = refused([value])[0][1]
        assert what == "an open file can't be stored; give its path" or "can't be stored" in what
    assert refused([0, 1, value]) == [("fetch.options[2]", what)]
    assert refused({"k": (value,)}) == [("fetch.options['k'][0]", what)]


def test_numbers_of_numpy_are_told_how_to_become_plain():
    kind = type("float64", (float,), {"__module__": "numpy"})
    assert refused(kind(1))[0][1] == "a float64 can't be stored; give its .tolist()"


def test_the_message_reads_as_the_design_has_it():
    with pytest.raises(ValidationError, match=r"^fetch\.options\[2\]: a lambda can't be stored; give"):
        dumps({"fetch": {"options": [1, 2, lambda: 3]}}, {})


def test_every_fault_is_reported_in_one_error():
    with pytest.raises(ValidationError) as caught:
        dumps({"a": {"x": [len, {1: 2}], "y": "\udfff"}, "b": {"z": {"\ud800": 1}}}, {})
    assert [fault.where for fault in caught.value.errors] == ["a.x[0]", "a.x[1][1]", "a.y", "b.z['\\ud800']"]
    assert caught.value.errors[1].what == "a dict with the key 1 can't be stored; keys must be str"


@pytest.mark.parametrize("key", [1, None, True, 1.5, (1,), b"x", Mode.FAST, Text("x")], ids=repr)
def test_a_key_that_is_no_plain_str_is_refused(key):
    """R30: non-string keys."""
    ((where, what),) = refused({key: 1})
    assert where == f"fetch.options[{key!r}]"
    assert what.endswith("keys must be str")


@pytest.mark.parametrize("name", [1, None, "\ud800", "a\nb"], ids=repr)
def test_a_name_that_is_no_name_is_refused(name):
    for parameters in ({name: {"x": 1}}, {"fetch": {name: 1}}):
        with pytest.raises(ValidationError, match="is no name"):
            dumps(parameters, {})


def test_a_class_that_the_annotation_does_not_name_is_refused():
    @dataclass
    class Circle(Options): ...

    assert refused(Circle(1), Options)[0][1].startswith("a Circle can't be stored; annotate the block's")
    assert refused([Color.RED], List[Shape])[0][0] == "fetch.options[0]"
    assert refused((Color.RED, 1), Tuple[int, Color])[0][0] == "fetch.options[0]"
    assert refused(Options(1, since=Shape.RED), Options)[0][0] == "fetch.options.since"


def test_a_dataclass_that_could_not_be_made_again_is_refused():
    assert refused(NeedsMore(1, 2), NeedsMore)[0][1] == (
        "a NeedsMore can't be stored; its __init__ needs 'b', which is no field"
    )
    unset = Slotted(1)
    del unset.a
    assert refused(unset, Slotted)[0][0] == "fetch.options.a"


def nested(levels, kind):
    value: Any = kind([])
    for _ in range(levels - 1):
        value = kind([value])
    return value


@pytest.mark.parametrize(
    "kind", [list, tuple, frozenset, lambda v: {"k": v[0] if v else 1}], ids=["list", "tuple", "set", "dict"]
)
def test_a_hundred_levels_are_stored_and_one_more_is_refused(kind):
    """R30: depth above 100."""
    assert round_trip(nested(100, kind)) == nested(100, kind)
    ((_, what),) = refused(nested(101, kind))
    assert what == "it is nested deeper than 100 levels"
    faults: List[Fault] = []
    encode(nested(900, kind), "x", faults)
    assert len(faults) == 1


def test_records_count_as_levels():
    value = None
    for level in range(101):
        value = Options(level, inner=value)
    assert refused(value, Options)[0][1] == "it is nested deeper than 100 levels"
    assert round_trip(value.inner, Options) == value.inner


def test_a_value_that_contains_itself_is_refused_where_it_does():
    """R30: cycles. The same object twice side by side is none."""
    cycle: Dict[str, Any] = {"a": []}
    cycle["a"] += [1, cycle, cycle]
    what = "it contains itself, which can't be stored"
    assert refused(cycle) == [("fetch.options['a'][1]", what), ("fetch.options['a'][2]", what)]
    options = Options(1)
    options.inner = options
    assert refused(options, Options) == [("fetch.options.inner", what)]
    twice = [1]
    assert round_trip([twice, twice]) == [[1], [1]]


def test_a_value_that_doubles_at_every_level_is_given_up_early(monkeypatch):
    """R30: 2**99 elements behind a hundred short lists."""
    monkeypatch.setattr(value_writer, "MAX_BYTES", 1 << 16)  # given up after so much, and not after 2**99
    value: Any = 1
    for _ in range(99):
        value = [value, value]
    faults: List[Fault] = []
    encode(value, "fetch.x", faults)
    assert [fault.where for fault in faults] == ["fetch.x"]
    assert faults[0].what.startswith("the parameters take more than 1 MiB of text")


def test_one_mebibyte_is_stored_and_one_byte_more_is_refused():
    """R30: the limit counts the text of all parameters together."""
    frame = len(dumps({"fetch": {"x": ""}}, {}))
    assert loads(dumps({"fetch": {"x": "a" * (MAX_BYTES - frame)}}, {}), {})
    with pytest.raises(ValidationError) as caught:
        dumps({"fetch": {"x": "a" * (MAX_BYTES - frame + 1)}}, {})
    assert caught.value.errors[0].where == "fetch.x"
    with pytest.raises(ValidationError) as caught:
        dumps({"fetch": {"y": "b" * 400_000, "x": "ü" * 400_000}}, {})
    assert caught.value.errors == [
        Fault("fetch.x", "the parameters take more than 1 MiB of text; put large data into a file and give its path")
    ]


@pytest.mark.parametrize(
    "value",
    ["a" * 2**21, b"a" * 2**21, list(range(2**20)), [0.5] * 2**20, {str(i): i for i in range(2**17)}],
    ids=lambda value: type(value).__name__,
)
def test_large_data_of_every_kind_is_refused(value):
    ((_, what),) = refused(value)
    assert what.startswith("the parameters take more than 1 MiB")


def test_a_long_list_of_lambdas_reports_the_first_hundred():
    faults = refused([len] * 1000)
    assert len(faults) == 101
    assert faults[-1][1] == "too many faults; what follows was not looked at"


@pytest.mark.skipif(not hasattr(sys, "set_int_max_str_digits"), reason="this Python has no limit")
def test_a_lower_limit_of_the_interpreter_is_kept():
    """R30: integers of any size round-trip or are rejected."""
    before = sys.get_int_max_str_digits()
    try:
        sys.set_int_max_str_digits(640)
        assert round_trip(10**639) == 10**639
        assert refused(10**640)[0][1].startswith("an int of more than 640 digits")
        sys.set_int_max_str_digits(0)
        assert refused(10**4000)[0][1].startswith("an int of more than 4,000 digits")
    finally:
        sys.set_int_max_str_digits(before)


class Broken(tzinfo):
    def utcoffset(self, moment):
        raise RuntimeError("no idea")


class Vague(tzinfo):
    def utcoffset(self, moment):
        return None


def test_a_time_zone_that_does_not_work_is_a_fault():
    assert refused(datetime(2024, 1, 1, tzinfo=Broken()))[0][1].endswith("(no idea)")
    assert refused(datetime(2024, 1, 1, tzinfo=Vague()))[0][1].startswith("a datetime whose time zone has no fixed")


def test_the_text_does_not_depend_on_the_hash_seed():
    """R68: sets are written in the order of their text."""
    code = (
        "from blaze.core.what.values import dumps; from datetime import date; "
        "print(dumps({'a': {'x': {'b', 'a', 'c', 1, (2, 'z'), date(2024, 1, 1), frozenset('xyz')}}}, {}))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.getcwd()},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(texts) == 1


def test_a_full_stack_is_a_fault_and_no_crash():
    def descend(frames: int) -> List[Fault]:
        if frames:
            return descend(frames - 1)
        faults: List[Fault] = []
        encode(nested(90, list), "x", faults)
        return faults

    depth = len(__import__("inspect").stack(0))
    found = {len(descend(frames)) for frames in range(0, sys.getrecursionlimit() - depth - 60, 41)}
    assert found == {0, 1}


# Reading what was not written by this version, or not by Blaze at all.

DAMAGED = [
    ({"$blaze": "datetime", "value": "yesterday"}, "the stored datetime is damaged"),
    ({"$blaze": "datetime", "value": 5}, "the stored datetime is damaged: its value is a int, not text"),
    ({"$blaze": "datetime"}, "the stored datetime is damaged"),
    ({"$blaze": "timedelta", "value": [1]}, "the stored timedelta is damaged"),
    ({"$blaze": "decimal", "value": "x"}, "the stored decimal is damaged"),
    ({"$blaze": "uuid", "value": "x"}, "the stored uuid is damaged"),
    ({"$blaze": "bytes", "value": "x"}, "the stored bytes is damaged"),
    ({"$blaze": "tensor", "value": 1}, "'tensor' is a kind of value that this version of Blaze does not know"),
    ({"$blaze": 5}, "5 is a kind of value"),
    ({"$blaze": ["date"]}, "unhashable"),
    ({"$blaze": "set", "value": [[]]}, "unhashable"),
    ({"$blaze": "tuple", "value": {}}, "expected a JSON list, got dict"),
    ({"$blaze": "dict", "value": []}, "expected a JSON object, got list"),
    ({"$blaze": "dict"}, "expected a JSON object, got NoneType"),
    ({"$blaze": "enum", "class": "m:Color", "value": "RED"}, "the class m:Color, which the annotation does not name"),
    ({"$blaze": "dataclass", "class": "os:system", "value": {"a": 1}}, "the class os:system, which the annotation"),
    (float("inf"), "inf is no JSON number"),
    (json.loads("[" * 101 + "]" * 101), "nested deeper than 100"),
]


@pytest.mark.parametrize(("jsonable", "what"), DAMAGED, ids=str)
def test_a_damaged_value_is_an_error_that_says_so(jsonable, what):
    with pytest.raises(ValidationError) as caught:
        decode({"k": [jsonable]} if not isinstance(jsonable, list) else jsonable)
    (fault,) = caught.value.errors
    assert fault.what.startswith("the stored value can't be read back: ")
    assert what in fault.what
    if not isinstance(jsonable, list):
        assert fault.where.startswith("['k'][0]")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"a": 1}', "null", '{"a": {"b": NaN}}', "[" * 100_000, "1" * 5000, '{"a": {"b": 1e999}}'],
    ids=lambda text: text[:20],
)
def test_a_damaged_text_is_an_error_that_says_so(text):
    with pytest.raises(ValidationError, match="the stored"):
        loads(text, {})


def test_every_damaged_parameter_is_reported():
    with pytest.raises(ValidationError) as caught:
        loads('{"a": {"x": {"$blaze": 1}, "ok": 1}, "b": {"y": [{"$blaze": "date"}]}}', {})
    assert [fault.where for fault in caught.value.errors] == ["a.x", "b.y[0]"]


def stored(value: Any, annotation: Any) -> Any:
    faults: List[Fault] = []
    encoded = encode(value, "x", faults, annotation)
    assert faults == []
    return encoded


def test_a_class_that_was_renamed_is_found_if_the_annotation_leaves_no_choice():
    encoded = stored([Color.RED, Color.BLUE], List[Color])
    for entry in encoded:
        entry["class"] = "old_module:Colour"
    assert decode(encoded, List[Color]) == [Color.RED, Color.BLUE]
    with pytest.raises(ValidationError, match="old_module:Colour, which the annotation does not name any more"):
        decode(encoded, List[Union[Color, Shape]])
    encoded = stored(Color.RED, Color)
    encoded["class"] = "__main__:Color"
    assert decode(encoded, Union[Color, Shape]) is Color.RED


def test_a_class_that_changed_too_much_is_an_error():
    encoded = stored(Color.RED, Color)
    encoded["value"] = "GREEN"
    with pytest.raises(ValidationError, match="has no member 'GREEN' any more"):
        decode(encoded, Color)
    encoded = stored(Options(1), Options)
    encoded["value"]["gone"] = 1
    with pytest.raises(ValidationError, match=r"\.gone: .*Options has no such field any more"):
        decode(encoded, Options)
    encoded = stored(Options(1), Options)
    del encoded["value"]["limit"]
    with pytest.raises(ValidationError, match="Options refuses it: TypeError"):
        decode(encoded, Options)
    encoded = stored(Options(1, Color.BLUE), Options)
    del encoded["value"]["color"]
    assert decode(encoded, Options) == Options(1, Color.RED)


def test_a_class_that_refuses_what_was_stored_is_an_error(monkeypatch):
    encoded = stored(Picky(5), Picky)
    monkeypatch.setattr(sys.modules[__name__], "picky_limit", 1)
    with pytest.raises(ValidationError, match="Picky refuses it: ValueError: too large"):
        decode(encoded, Picky)


def test_reading_imports_nothing():
    name = "blaze_never_imported"
    with pytest.raises(ValidationError, match="Options refuses it"):
        decode({"$blaze": "dataclass", "class": f"{name}:X", "value": {}}, Optional[Options])
    assert name not in sys.modules


# Round trips of anything at all

#: Without a time limit for an example: the machine may be busy with other tests.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
offsets = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)).map(timezone)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
    st.binary(max_size=20),
    st.datetimes(timezones=st.none() | offsets),
    st.builds(lambda moment, fold: moment.replace(fold=fold), st.datetimes(), st.integers(0, 1)),
    st.dates(),
    st.times(timezones=st.none() | offsets),
    st.timedeltas(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.uuids(),
    texts.filter(lambda text: "\x00" not in text).map(Path),
)
hashables = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
keys = st.sampled_from(["$blaze", "value", "class", ""]) | texts
anything = st.recursive(
    scalars | hashables,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.sets(hashables, max_size=4)
    ),
    max_leaves=25,
)


@patient
@given(anything)
def test_any_mixture_comes_back_as_what_it_was(value):
    assert same(round_trip(value), value)


@patient
@given(st.text() | st.dictionaries(st.text(), st.text()))
def test_hostile_text_comes_back_or_is_refused(value):
    faults: List[Fault] = []
    encode(value, "x", faults)
    parts = [value] if isinstance(value, str) else [*value.keys(), *value.values()]
    assert bool(faults) is any("\ud800" <= char <= "\udfff" for part in parts for char in part)
    if not faults:
        assert same(round_trip(value), value)


options = st.recursive(
    st.builds(Options, st.integers(), st.sampled_from(Color), st.none() | st.dates()),
    lambda inner: st.builds(Options, st.integers(), st.sampled_from(Color), st.none(), inner),
    max_leaves=4,
)


@patient
@given(st.dictionaries(keys, st.lists(options | st.sampled_from(Shape) | st.integers(), max_size=3), max_size=3))
def test_any_mixture_of_records_comes_back_as_what_it_was(value):
    annotation = Dict[str, List[Union[Options, Shape, int]]]
    assert round_trip(value, annotation) == value


KINDS = ["datetime", "date", "time", "timedelta", "decimal", "uuid", "bytes", "path", "set", "tuple", "frozenset"]
KINDS += ["dict", "enum", "flag", "dataclass", "unheard of"]

jsonables = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(), inner, max_size=3)
        | st.fixed_dictionaries(
            {
                "$blaze": st.sampled_from(
                    ["datetime", "time", "timedelta", "decimal", "uuid", "bytes", "path", "set", "tuple"]
                )
                | st.sampled_from(["dict", "enum", "flag", "dataclass", "x"])
                | inner,
                "value": inner,
            },
            optional={"class": inner, "fold": inner},
        )
    ),
    max_leaves=15,
)


@patient
@given(jsonables)
def test_no_json_makes_reading_raise_anything_but_a_validation_error(jsonable):
    for annotation in (Any, Options, Union[Color, Shape, Access], List[Union[Options, Color]]):
        with contextlib.suppress(ValidationError):
            decode(jsonable, annotation)


def test_the_examples_in_the_docstrings_are_true():
    assert doctest.testmod(values).failed == 0
