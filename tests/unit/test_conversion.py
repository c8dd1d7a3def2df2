"""Parameters against annotations: what is accepted, what JSON becomes, what the faults say (R29, R30)."""

from __future__ import annotations

import doctest
import enum
import functools
import gc
import os
import re
import sys
import typing
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Iterator
from dataclasses import InitVar, dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Callable,
    ClassVar,
    Dict,
    FrozenSet,
    Generic,
    Iterable,
    List,
    Literal,
    Mapping,
    NamedTuple,
    NewType,
    Optional,
    Protocol,
    Sequence,
    Set,
    Tuple,
    Type,
    TypedDict,
    TypeVar,
    Union,
    runtime_checkable,
)
from uuid import UUID

import pydantic
import pytest
import typing_extensions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blaze.core.ground.errors import Fault
from blaze.core.what import conversion
from blaze.core.what.annotations import spell
from blaze.core.what.checker import clipped
from blaze.core.what.conversion import convert, hints_of, validate_model

if TYPE_CHECKING:
    from somewhere import Unknown


def stable(text):
    """Ids of parameters without memory addresses: under xdist every process collects the same ones."""
    return lambda value: re.sub(r" at 0x[0-9a-f]+|0x[0-9a-f]{6,}", "", text(value))


T = TypeVar("T")
UserId = NewType("UserId", int)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Ratio(enum.Enum):
    HALF = 0.5
    WHOLE = 1.0


class Mode(str, enum.Enum):
    FAST = "fast"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Forgiving(enum.Enum):
    YES = "yes"

    @classmethod
    def _missing_(cls, value):
        return cls.YES if str(value).lower() == "yes" else None


@dataclass
class Shadowed:
    date: Optional[date] = None
    again: Optional[date] = None


class Point(NamedTuple):
    x: int
    y: int = 0


class Movie(TypedDict):
    title: str
    year: int


class Tree(TypedDict, total=False):
    left: Any
    right: Tree
    days: List[Tree]
    leaf: date


class Loose(TypedDict, total=False):
    since: date


class Mixed(Movie):
    seen: typing_extensions.NotRequired[date]
    rating: typing_extensions.Required[int]


@dataclass
class Options:
    limit: int
    since: Optional[date] = None
    tags: Tuple[str, ...] = ()
    color: Color = Color.RED


@dataclass
class Node:
    name: str
    children: List[Node] = field(default_factory=list)


@dataclass(frozen=True)
class Derived:
    base: int
    double: int = field(init=False, default=0)
    scale: InitVar[int] = 2
    kind: ClassVar[str] = "derived"

    def __post_init__(self, scale):
        if self.base < 0:
            raise ValueError("base is negative")
        object.__setattr__(self, "double", self.base * scale)


@dataclass
class HalfKnown:
    known: int
    unknown: Unknown


@dataclass
class Box(Generic[T]):
    content: T


class Model(pydantic.BaseModel):
    limit: int
    name: str = "x"
    inner: Optional[Model] = None


class Plain:
    pass


class Unhashable(PurePosixPath):
    __slots__ = ()
    __hash__ = None


@runtime_checkable
class Closable(Protocol):
    def close(self) -> None: ...


class Unasked(Protocol):
    def close(self) -> None: ...


#: Without a time limit for an example: the machine may be busy with other tests.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def wrong(value, annotation) -> List[Fault]:
    faults: List[Fault] = []
    convert(value, annotation, "fetch.x", faults)
    return faults


def right(value, annotation):
    faults: List[Fault] = []
    converted = convert(value, annotation, "fetch.x", faults)
    assert faults == []
    return converted


ACCEPTED_AS_THEY_ARE = [
    (1, int),
    (10**5000, int),
    (Level.LOW, int),
    (True, bool),
    (1.5, float),
    (1, float),
    (1, complex),
    (1.5, complex),
    (1j, complex),
    ("x", str),
    (Mode.FAST, str),
    (b"x", bytes),
    (None, None),
    (None, type(None)),
    (None, Optional[int]),
    (None, Any),
    (1, Optional[int]),
    ([1, 2], list),
    ([1, 2], List),
    ([1, 2], List[int]),
    ([], List[int]),
    ([1, None], List[Optional[int]]),
    ([[1], [2]], List[List[int]]),
    ([1, 2.5], List[float]),
    ((1, 2), tuple),
    ((1, 2), Tuple),
    ((1, 2), Tuple[int, ...]),
    ((1, "a"), Tuple[int, str]),
    ((), Tuple[()]),
    ({1}, Set[int]),
    (frozenset({1}), FrozenSet[int]),
    (deque([1]), typing.Deque[int]),
    ({"a": 1}, dict),
    ({"a": 1}, Dict[str, int]),
    ({1: "a"}, Dict[int, str]),
    ({"a": 1}, Mapping[str, int]),
    (MappingProxyType({"a": 1}), Mapping[str, int]),
    (OrderedDict(a=1), Dict[str, int]),
    (Counter("abca"), typing.Counter[str]),
    (defaultdict(list, a=[1]), typing.DefaultDict[str, List[int]]),
    ([1], Sequence[int]),
    ((1,), Sequence[int]),
    ("abc", Sequence[str]),
    (b"abc", Sequence[int]),
    (range(3), Sequence[int]),
    ({"a": 1}, Iterable[str]),
    ({1, 2}, typing.Collection[int]),
    ({1, 2}, typing.AbstractSet[int]),
    (datetime(2024, 1, 1), datetime),
    (date(2024, 1, 1), date),
    (time(1), time),
    (timedelta(1), timedelta),
    (Decimal("NaN"), Decimal),
    (UUID(int=1), UUID),
    (Path("x"), Path),
    (Path("x"), os.PathLike),
    (Color.RED, Color),
    (Access.READ | Access.WRITE, Access),
    ("a", Literal["a", "b"]),
    (None, Literal["a", None]),
    (Color.RED, Literal[Color.RED]),
    (1, Annotated[int, "positive"]),
    (1, typing.Final[int]),
    (1, UserId),
    (1, T),
    (object(), object),
    (object(), "an annotation that is text"),
    (object(), 42),
    (object(), typing.ForwardRef("Nowhere")),
    (len, Callable),
    (len, Callable[[int], str]),
    (int, type),
    (bool, Type[int]),
    (int, Type[Any]),
    (Plain, Type[T]),
    (sys.stdout, typing.TextIO),
    (sys.stdout, typing.IO[str]),
    (sys.stdout, Closable),
    (1, Unasked),
    (Plain(), Plain),
    (Plain(), Union[int, Plain]),
    (re.compile("x"), typing.Pattern[str]),
    (Box("x"), Box[int]),
    (Point(1, 2), Point),
    (Point(1, 2), Tuple[int, int]),
    ({"title": "x", "year": 1}, Movie),
    ({}, Loose),
    (Options(1), Options),
    (Model(limit=1), Model),
    ({"a": object()}, Dict[str, Any]),
    ((1, "a", 2), typing_extensions.Tuple[int, typing_extensions.Unpack[Tuple[str, ...]]]),
    ("x", typing_extensions.LiteralString),
    ("x", typing_extensions.Any),
    ("x", typing_extensions.Literal["x"]),
]


@pytest.mark.parametrize(("value", "annotation"), ACCEPTED_AS_THEY_ARE, ids=stable(spell))
def test_what_fits_is_handed_on_as_the_same_object(value, annotation):
    assert right(value, annotation) is value


REFUSED = [
    (True, int, "expected int, got bool True"),
    (True, float, "expected float, got bool True"),
    (1, bool, "expected bool, got int 1"),
    ("100", int, "expected int, got str '100'"),
    (1.0, int, "expected int, got float 1.0"),
    ("1.5", float, "expected float, got str '1.5'"),
    (1, str, "expected str, got int 1"),
    (b"x", str, "expected str, got bytes b'x'"),
    (None, int, "expected int, got None"),
    (0, None, "expected None, got int 0"),
    ("x", bytes, "expected bytes, got str 'x'; text is not taken for bytes: give bytes, or annotate with str"),
    (bytearray(b"x"), bytes, "expected bytes, got bytearray(b'x')"),
    ((1,), List[int], "expected list[int], got tuple (1,)"),
    ({1}, List[int], "expected list[int], got set {1}"),
    ("ab", List[str], "expected list[str], got str 'ab'"),
    ("ab", Sequence[int], "expected Sequence[int], got str 'ab'"),
    ({1}, Tuple[int, ...], "expected tuple[int, ...], got set {1}"),
    ([1], Tuple[int, str], "expected tuple[int, str], 2 long, got list [1], 1 long"),
    ((1,), Tuple[()], "expected tuple[()], 0 long, got tuple (1,), 1 long"),
    ([[1]], Set[Any], "expected set[Any], got list [[1]]: unhashable type: 'list'"),
    ([1], Dict[str, int], "expected dict[str, int], got list [1]"),
    ({"a": 1}, typing.DefaultDict[str, int], "expected defaultdict[str, int], got dict {'a': 1}"),
    (datetime(2024, 1, 1), date, "expected date (ISO 8601: '2024-01-31'), got datetime.datetime(2024, 1, 1, 0, 0)"),
    ("31.1.2024", date, "expected date (ISO 8601: '2024-01-31'), got str '31.1.2024'"),
    (0.1, Decimal, "expected Decimal (a number as str or int), got float 0.1"),
    ("NaN", Decimal, "expected Decimal (a number as str or int), got str 'NaN'"),
    ("12", UUID, "expected UUID (32 hexadecimal digits), got str '12'"),
    (1, Path, "expected Path, got int 1"),
    ("green", Color, "expected Color ('red', 'blue'), got str 'green'"),
    ("rde", Color, "expected Color ('red', 'blue'), got str 'rde'; did you mean 'red'?"),
    (True, Level, "expected Level (1, 2), got bool True"),
    (1.0, Level, "expected Level (1, 2), got float 1.0"),
    (True, Access, "expected Access (1, 2), got bool True"),
    ([], Color, "expected Color ('red', 'blue'), got list []"),
    (True, Literal[1], "expected Literal[1], got bool True"),
    (1.0, Literal[1], "expected Literal[1], got float 1.0"),
    ("quik", Literal["quick", "slow"], "expected Literal['quick', 'slow'], got str 'quik'; did you mean 'quick'?"),
    ("x", Literal[Color.RED], "expected Literal[Color.RED], got str 'x'"),
    ("blue", Literal[Color.RED], "expected Literal[Color.RED], got str 'blue'"),
    ("x", Union[int, List[str], None], "expected int | list[str] | None, got str 'x'"),
    ("x", Optional[int], "expected int | None, got str 'x'"),
    ("x", UserId, "expected int, got str 'x'"),
    ("x", Annotated[int, "positive"], "expected int, got str 'x'"),
    (1, Callable[[int], str], "expected Callable[[int], str], got int 1"),
    (1, Callable[..., Any], "expected Callable[..., Any], got int 1"),
    (1, Type[int], "expected type[int], got int 1"),
    (str, Type[int], "expected type[int], got type <class 'str'>"),
    (1, Closable, "expected Closable, got int 1"),
    ({}, Plain, "expected Plain, got dict {}"),
    (1, Options, "expected Options or a dict of its fields, got int 1"),
    (1, Point, "expected Point or a dict of its fields, got int 1"),
    ([], Point, "expected Point, 1 to 2 fields, got list [], 0 long"),
    ([1], Movie, "expected Movie, a dict, got list [1]"),
    ("x", Model, "expected Model or a dict of its fields, got str 'x'"),
    (iter([1]), List[int], re.compile(r"expected list\[int\], got list_iterator <list_iterator object at 0x\w+>")),
]


@pytest.mark.parametrize(("value", "annotation", "what"), REFUSED, ids=stable(clipped))
def test_a_mismatch_says_what_was_expected_and_what_came(value, annotation, what):
    """R29: wrong types are refused; a bool is no int."""
    (fault,) = wrong(value, annotation)
    assert fault.where == "fetch.x"
    if isinstance(what, str):
        assert fault.what == what
    else:
        assert what.fullmatch(fault.what)


UTC_PLUS_1 = timezone(timedelta(hours=1))

CONVERTED = [
    ("2024-01-31", date, date(2024, 1, 31)),
    ("2024-01-31", datetime, datetime(2024, 1, 31)),
    ("2024-01-31T12:30", datetime, datetime(2024, 1, 31, 12, 30)),
    ("2024-01-31 12:30:05", datetime, datetime(2024, 1, 31, 12, 30, 5)),
    ("2024-01-31T12:30:05.5Z", datetime, datetime(2024, 1, 31, 12, 30, 5, 500000, timezone.utc)),
    ("2024-01-31T12:30:05.123456789Z", datetime, datetime(2024, 1, 31, 12, 30, 5, 123456, timezone.utc)),
    ("2024-01-31T12:30:05+01:00", datetime, datetime(2024, 1, 31, 12, 30, 5, 0, UTC_PLUS_1)),
    ("2024-01-31t12:30:05+01", datetime, datetime(2024, 1, 31, 12, 30, 5, 0, UTC_PLUS_1)),
    ("2024-01-31T12:30:05-0530", datetime, datetime.fromisoformat("2024-01-31T12:30:05-05:30")),
    ("12:30", time, time(12, 30)),
    ("12:30:05.25Z", time, time(12, 30, 5, 250000, timezone.utc)),
    (90, timedelta, timedelta(seconds=90)),
    (0.5, timedelta, timedelta(milliseconds=500)),
    ("PT1H30M", timedelta, timedelta(hours=1, minutes=30)),
    ("P1W2DT0.5S", timedelta, timedelta(days=9, milliseconds=500)),
    ("-P1D", timedelta, timedelta(days=-1)),
    ("1.10", Decimal, Decimal("1.10")),
    ("-1e-7", Decimal, Decimal("-1e-7")),
    (5, Decimal, Decimal(5)),
    ("12345678-1234-5678-1234-567812345678", UUID, UUID("12345678-1234-5678-1234-567812345678")),
    ("/tmp/x", Path, Path("/tmp/x")),
    ("/tmp/x", PurePosixPath, PurePosixPath("/tmp/x")),
    ("red", Color, Color.RED),
    ("BLUE", Color, Color.BLUE),
    (2, Level, Level.HIGH),
    ("LOW", Level, Level.LOW),
    (1, Ratio, Ratio.WHOLE),
    ("fast", Mode, Mode.FAST),
    (3, Access, Access.READ | Access.WRITE),
    ("YES!"[:3], Forgiving, Forgiving.YES),
    ("red", Literal["x", Color.RED], Color.RED),
    ([1, 2], tuple, (1, 2)),
    ([1, 2], Tuple[int, ...], (1, 2)),
    ([1, "2024-01-31"], Tuple[int, date], (1, date(2024, 1, 31))),
    ([], Tuple[()], ()),
    ([1, 1], Set[int], {1}),
    ([1, 1], FrozenSet[int], frozenset({1})),
    ([1, 2], typing.Deque[int], deque([1, 2])),
    ([1], typing.AbstractSet[int], {1}),
    (["2024-01-31"], List[date], [date(2024, 1, 31)]),
    (("2024-01-31",), Tuple[date, ...], (date(2024, 1, 31),)),
    (("2024-01-31",), Sequence[date], (date(2024, 1, 31),)),
    ({"2024-01-31"}, Set[date], {date(2024, 1, 31)}),
    (deque(["2024-01-31"], 5), typing.Deque[date], deque([date(2024, 1, 31)], 5)),
    (["red"], Iterable[Color], [Color.RED]),
    ({"2024-01-31": "red"}, Dict[date, Color], {date(2024, 1, 31): Color.RED}),
    ({"a": 1}, typing.OrderedDict[str, int], OrderedDict(a=1)),
    (defaultdict(list, a="red"), Mapping[str, Color], defaultdict(list, a=Color.RED)),
    ([[1], [2]], List[Tuple[int, ...]], [(1,), (2,)]),
    ("2024-01-31", Optional[date], date(2024, 1, 31)),
    ({"limit": 1}, Options, Options(1)),
    (
        {"limit": 1, "since": "2024-01-31", "tags": ["a"], "color": "blue"},
        Options,
        Options(1, date(2024, 1, 31), ("a",), Color.BLUE),
    ),
    ({"name": "a", "children": [{"name": "b"}]}, Node, Node("a", [Node("b")])),
    ({"base": 2, "scale": 3}, Derived, Derived(2, 3)),
    ({"date": "2024-01-31", "again": "2024-01-31"}, Shadowed, Shadowed(date(2024, 1, 31), date(2024, 1, 31))),
    ({"content": 1}, Box, Box(1)),
    ({"content": "x"}, Box[int], Box("x")),
    ({"known": 1, "unknown": object}, HalfKnown, HalfKnown(1, object)),
    ({"x": 1}, Point, Point(1)),
    ([1, 2], Point, Point(1, 2)),
    ({"a": 1}, namedtuple("Bare", "a"), (1,)),
    ({"since": "2024-01-31"}, Loose, {"since": date(2024, 1, 31)}),
    (
        {"title": "x", "year": 1, "rating": 2, "seen": "2024-01-31"},
        Mixed,
        {"title": "x", "year": 1, "rating": 2, "seen": date(2024, 1, 31)},
    ),
    ({"limit": 1, "inner": {"limit": 2}}, Model, Model(limit=1, inner=Model(limit=2))),
]


@pytest.mark.parametrize(("value", "annotation", "expected"), CONVERTED, ids=stable(clipped))
def test_json_becomes_what_json_has_no_type_for(value, annotation, expected):
    converted = right(value, annotation)
    assert converted == expected
    assert type(converted) is type(expected) or isinstance(expected, tuple)


@pytest.mark.parametrize(
    ("text", "annotation"),
    [
        ("20240131", date),
        ("2024-W05-3", date),
        ("2024-02-30", date),
        ("٢٠٢٤-01-31", date),
        ("2024-01-31\n", date),
        ("2024-01-31T12:30", date),
        ("2024-01-31T24:00", datetime),
        ("2024-01-31T12:30+24:00", datetime),
        ("2024-01-31T12:30+01:60", datetime),
        ("tomorrow", datetime),
        (1706659200, datetime),
        ("25:00", time),
        ("P", timedelta),
        ("PT", timedelta),
        ("1h", timedelta),
        (float("nan"), timedelta),
        (1e300, timedelta),
        (True, timedelta),
        ("P999999999999D", timedelta),
        ("1_000", Decimal),
        ("", Decimal),
        (True, Decimal),
        ("1e99999999999999999999", Decimal),
    ],
)
def test_text_in_another_form_is_refused_on_every_python_alike(text, annotation):
    (fault,) = wrong(text, annotation)
    assert fault.what.startswith(f"expected {annotation.__name__}")


def test_a_list_that_is_already_right_is_never_copied():
    """R29: a million rows are checked, not rebuilt."""
    rows = list(range(100_000))
    assert right(rows, List[int]) is rows
    assert right(rows, Sequence[Optional[int]]) is rows
    nested = {"rows": [{"a": 1.5}], "more": []}
    assert right(nested, Dict[str, List[Dict[str, float]]]) is nested


def test_what_has_to_be_converted_leaves_the_given_value_as_it_was():
    inside = {"a": ["2024-01-31"], "b": []}
    converted = right(inside, Dict[str, List[date]])
    assert converted == {"a": [date(2024, 1, 31)], "b": []}
    assert inside == {"a": ["2024-01-31"], "b": []}
    assert converted["b"] is inside["b"]


def test_a_converted_default_dict_keeps_its_factory():
    converted = right(defaultdict(list, a="red"), Mapping[str, Color])
    assert converted["new"] == []


def test_an_iterator_is_accepted_and_not_consumed():
    values = iter([1, "two"])
    assert right(values, Iterable[int]) is values
    assert right(values, Iterator[int]) is values
    assert list(values) == [1, "two"]


def test_every_mismatch_is_reported_with_its_own_path():
    """R29: all faults, each with the whole path."""
    value = {
        "first": {"limit": "1", "since": "never", "tags": ["a", 2], "colour": "red"},
        "second key": {"since": None},
    }
    assert wrong(value, Dict[str, Options]) == [
        Fault("fetch.x['first'].limit", "expected int, got str '1'"),
        Fault("fetch.x['first'].since", "expected date | None, got str 'never'"),
        Fault("fetch.x['first'].tags[1]", "expected str, got int 2"),
        Fault("fetch.x['first'].colour", "Options has no field 'colour'; did you mean 'color'?"),
        Fault("fetch.x['second key'].limit", "is missing; Options needs it (int)"),
    ]


def test_the_fields_of_typed_dicts_are_paths_of_keys():
    assert wrong({"title": 1, "yaer": 2}, Movie) == [
        Fault("fetch.x['title']", "expected str, got int 1"),
        Fault("fetch.x['yaer']", "Movie has no field 'yaer'; did you mean 'year'?"),
        Fault("fetch.x['year']", "is missing; Movie needs it (int)"),
    ]
    assert wrong({"title": "x", "year": 1}, Mixed) == [Fault("fetch.x['rating']", "is missing; Mixed needs it (int)")]


def test_an_unknown_field_without_a_near_name_lists_the_known_ones():
    assert wrong({"x": 1, "zzz": 1}, Point) == [Fault("fetch.x.zzz", "Point has no field 'zzz'; it has x, y")]


def test_keys_are_checked_as_keys():
    assert wrong({1: 1, "b": "c"}, Dict[str, int]) == [
        Fault("fetch.x[1]", "the key: expected str, got int 1"),
        Fault("fetch.x['b']", "expected int, got str 'c'"),
    ]
    (fault,) = wrong({"1.0": 1, "1.00": 2}, Dict[Decimal, int])
    assert fault == Fault("fetch.x['1.00']", "another key of the same dict means the same")
    (fault,) = wrong({"a": 1}, Dict[List[int], int])
    assert fault.what == "the key: expected list[int], got str 'a'"


def test_a_key_that_cannot_be_a_key_is_a_fault():
    (fault,) = wrong({"red": 1}, Dict[Unhashable, int])
    assert fault == Fault("fetch.x['red']", "the key: unhashable type: 'Unhashable'")


def test_the_elements_of_a_set_are_named_and_reported_in_the_same_order_always():
    """R68: no reliance on the order of a set."""
    faults = wrong({"b", "a", 1}, Set[int])
    assert [fault.where for fault in faults] == ["fetch.x{'a'}", "fetch.x{'b'}"]


def test_a_union_prefers_the_member_that_needs_no_conversion():
    assert right("2024-01-31", Union[date, str]) == "2024-01-31"
    assert right(True, Union[int, bool]) is True
    assert right([1], Union[Tuple[int, ...], List[int]]) == [1]
    assert right(["2024-01-31"], Union[List[date], List[str]]) == ["2024-01-31"]


def test_a_union_converts_to_the_first_member_that_can():
    """Equal unions of another order are not confused, though typing calls them equal."""
    assert type(right("2024-01-31", Union[date, datetime])) is date
    assert type(right("2024-01-31", Union[datetime, date])) is datetime
    assert right("fast", Union[Decimal, Mode]) is Mode.FAST


def test_a_union_of_which_one_member_took_the_form_tells_what_is_wrong_inside():
    assert wrong([1, "a"], Optional[List[int]]) == [Fault("fetch.x[1]", "expected int, got str 'a'")]
    assert wrong({"limit": "1"}, Union[Options, str]) == [Fault("fetch.x.limit", "expected int, got str '1'")]
    assert wrong([[]], Union[List[int], Tuple[int, ...]]) == [
        Fault("fetch.x", "expected list[int] | tuple[int, ...], got list [[]]")
    ]


@pytest.mark.skipif(sys.version_info < (3, 10), reason="X | Y needs Python 3.10")
def test_the_new_spelling_of_unions_is_understood():
    annotation = eval("int | list[date] | None", {"date": date})
    assert right(None, annotation) is None
    assert right(["2024-01-31"], annotation) == [date(2024, 1, 31)]
    assert wrong("x", annotation)[0].what == "expected int | list[date] | None, got str 'x'"


def test_the_new_spelling_of_generics_is_understood():
    assert right([1], tuple[int, ...]) == (1,)
    assert right({"a": ["2024-01-31"]}, dict[str, list[date]]) == {"a": [date(2024, 1, 31)]}
    assert right([], tuple[()]) == ()
    assert wrong([1], list[str]) == [Fault("fetch.x[0]", "expected str, got int 1")]
    assert wrong([1], type[int])[0].what == "expected type[int], got list [1]"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type X = ... needs Python 3.12")
def test_a_type_alias_may_contain_itself():
    space: Dict[str, Any] = {}
    exec("type Json = None | bool | int | float | str | list[Json] | dict[str, Json]\ntype Void = Void", space)
    value = {"a": [1, {"b": None}]}
    assert right(value, space["Json"]) is value
    assert wrong([{"a": b""}], space["Json"])[0].where == "fetch.x[0]['a']"
    assert right(1, space["Void"]) == 1
    value = []
    value.extend([value, value])
    assert len(wrong(value, space["Json"])) == 1


def test_an_alias_made_by_typing_extensions_is_understood():
    alias = typing_extensions.TypeAliasType("Days", List[date])
    assert right(["2024-01-31"], alias) == [date(2024, 1, 31)]
    assert wrong(1, Optional[alias])[0].what == "expected Days | None, got int 1"


def deep(levels, leaf=None):
    node = {"name": "leaf", "children": []} if leaf is None else leaf
    for _ in range(levels):
        node = {"name": "n", "children": [node]}
    return node


def test_a_value_nested_too_deeply_is_a_fault_and_no_recursion_error():
    """R30: depth above 100. A Node takes two levels, itself and its list."""
    assert right(deep(49), Node).name == "n"
    expected = [Fault("fetch.x", "it is nested deeper than 100 levels, or contains itself")]
    assert wrong(deep(50), Node) == expected
    assert wrong(deep(100_000), Node) == expected


def test_a_value_that_contains_itself_twice_is_given_up_at_once():
    """R30: cycles."""
    cycle: Dict[str, Any] = {"name": "n"}
    cycle["children"] = [cycle, cycle]
    assert len(wrong(cycle, Node)) == 1
    assert len(wrong(cycle, Union[Node, int, None])) == 1


def doubled(inside, again=lambda value: [value, value], levels=40):
    """``levels`` containers, and twice as many paths with each of them."""
    for _ in range(levels):
        inside = again(inside)
    return inside


def nested_list(levels=40):
    annotation: Any = Union[int, date]
    for _ in range(levels):
        annotation = List[annotation]
    return annotation


def test_what_stands_in_many_places_is_looked_at_once():
    """R30: the time grows with the value, not with the number of paths through it."""
    for value, annotation in [
        (doubled(1), nested_list()),
        (doubled({}, lambda tree: {"right": tree, "days": [tree, tree]}), Tree),
        (doubled({"name": "n"}, lambda node: {"name": "n", "children": [node, node]}), Dict[str, Any]),
        ([doubled(1)] * 1000, List[nested_list()]),
    ]:
        assert right(value, annotation) is value


def test_what_stands_in_many_places_is_converted_once_and_stands_in_as_many():
    converted = right(doubled("2024-01-31"), nested_list())
    for _ in range(39):
        assert converted[0] is converted[1]
        converted = converted[0]
    assert converted == [date(2024, 1, 31)] * 2

    node = right(doubled({"name": "n"}, lambda node: {"name": "n", "children": [node, node]}), Node)
    for _ in range(40):
        assert node.children[0] is node.children[1]
        node = node.children[0]
    assert node == Node("n")

    tree = right(doubled({"leaf": "2024-01-31"}, lambda tree: {"left": 1, "right": tree, "days": [tree, tree]}), Tree)
    for _ in range(40):
        assert tree["right"] is tree["days"][0] is tree["days"][1]
        tree = tree["right"]
    assert tree == {"leaf": date(2024, 1, 31)}


def test_faults_of_what_stands_in_many_places_are_told_of_each_but_not_without_end():
    shared = {"name": 1}
    assert [fault.where for fault in wrong([shared, {"name": "n", "children": [shared]}], List[Node])] == [
        "fetch.x[0].name",
        "fetch.x[1].children[0].name",
    ]
    faults = wrong(doubled("x"), nested_list())
    assert faults[0] == Fault("fetch.x" + "[0]" * 40, "expected int | date, got str 'x'")
    assert len(faults) < 10_000
    assert len(wrong(doubled({"name": 1}, lambda node: {"name": "n", "children": [node, node]}), Node)) < 10_000
    assert (
        len(wrong(doubled({"leaf": 1}, lambda tree: {"left": 1, "right": tree, "days": [tree, tree]}), Tree)) < 20_000
    )


def test_how_deep_a_value_is_does_not_depend_on_the_place_that_is_looked_at_first():
    short = deep(30)
    long = {"name": "n", "children": [short]}
    for _ in range(30):
        long = {"name": "n", "children": [long]}
    assert wrong([short, long], List[Node]) == wrong([long, short], List[Node])
    assert len(wrong([short, long], List[Node])) == 1


def test_a_stack_that_is_nearly_full_is_no_reason_to_crash():
    def descend(frames: int) -> List[Fault]:
        return descend(frames - 1) if frames else wrong(deep(40), Node)

    depth = len(__import__("inspect").stack(0))
    found = set()
    for frames in range(0, sys.getrecursionlimit() - depth - 60, 37):
        found.add(len(descend(frames)))
    assert found <= {0, 1}


def test_a_long_list_of_wrong_elements_reports_the_first_hundred():
    faults = wrong(["x"] * 5000, List[int])
    assert len(faults) == 101
    assert faults[-1] == Fault("fetch.x", "too many faults; what follows element 99 was not looked at")
    assert len(wrong({str(i): "x" for i in range(5000)}, Dict[str, int])) == 101


class Unshowable:
    def __repr__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, b"x" * 10**6, list(range(10**5)), 10**6000, Unshowable(), "a\nb\n" * 50, [[[[["deep"]]]]], "\ud800"],
    ids=lambda value: type(value).__name__,
)
def test_the_picture_of_a_value_in_a_fault_is_short_and_on_one_line(value):
    (fault,) = wrong(value, Plain)
    assert len(fault.what) < 130
    assert "\n" not in fault.what
    fault.what.encode()


def test_an_error_of_the_class_itself_becomes_a_fault():
    assert wrong({"base": -1}, Derived) == [
        Fault("fetch.x", "Derived refuses it: ValueError: base is negative"),
    ]


def test_fields_that_init_does_not_take_are_unknown():
    (fault,) = wrong({"base": 1, "double": 2}, Derived)
    assert fault.what.startswith("Derived has no field 'double'")
    (fault,) = wrong({"base": 1, "kind": "x"}, Derived)
    assert fault.where == "fetch.x.kind"


def test_the_faults_of_a_pydantic_model_have_the_path_of_their_field():
    faults = wrong({"limit": "many", "inner": {"name": 5}}, Model)
    assert [fault.where for fault in faults] == ["fetch.x.limit", "fetch.x.inner.limit", "fetch.x.inner.name"]
    assert faults[0].what.endswith("got str 'many'")
    assert faults[1].what == "Field required"


def test_any_class_with_model_validate_counts_as_a_model():
    class Even:
        def __init__(self, number):
            self.number = number

        @classmethod
        def model_validate(cls, given):
            if given["number"] % 2:
                raise ValueError(f"{given['number']} is odd")
            return cls(given["number"])

    assert right({"number": 2}, Even).number == 2
    assert wrong({"number": 3}, Even) == [Fault("fetch.x", "Even refuses it: ValueError: 3 is odd")]
    assert wrong({}, Even) == [Fault("fetch.x", "Even refuses it: KeyError: 'number'")]


def test_a_metaclass_that_refuses_isinstance_accepts_everything():
    class Shy(type):
        def __instancecheck__(cls, instance):
            raise TypeError("don't ask")

    assert right(1, Shy("Closed", (), {})) == 1


def test_the_compiled_checks_are_bounded_in_number_and_keep_their_annotations_apart():
    for number in range(conversion.MAX_COMPILED + 100):
        assert right(number, Literal[number]) == number
        gc.collect(0) if number % 500 == 0 else None
    assert len(conversion._compiled) <= conversion.MAX_COMPILED


@patient
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=20))
def test_no_value_makes_the_check_raise(value):
    for annotation in (int, List[date], Dict[str, int], Options, Union[Tuple[int, str], Color, None], Point, Model):
        faults: List[Fault] = []
        converted = convert(value, annotation, "x", faults)
        assert faults or right(converted, annotation) is converted


@patient
@given(st.lists(st.dates() | st.datetimes()))
def test_iso_text_becomes_the_very_same_times(values):
    assert right([value.isoformat() for value in values], List[datetime]) == [
        value if isinstance(value, datetime) else datetime(value.year, value.month, value.day) for value in values
    ]


# hints_of


def sample(
    a: int,
    b: Unknown,
    c: List[date],
    *args: int,
    d: Optional[str] = None,
    e: int = None,  # noqa: RUF013
    f=1,
    g: Annotated[int, "x"] = 2,
    **kwargs: str,
) -> Unknown: ...


def test_a_hint_that_cannot_be_resolved_is_left_out_and_the_others_stay():
    assert hints_of(sample) == {
        "a": int,
        "c": List[date],
        "d": Optional[str],
        "e": Optional[int],
        "g": Annotated[int, "x"],
    }


def test_a_modern_union_as_text_is_left_out_where_python_is_too_old():
    def block(a: int | None, b: int): ...

    known = hints_of(block)
    assert known["b"] is int
    assert ("a" in known) is (sys.version_info >= (3, 10))


class Callee:
    def __init__(self, a: date): ...

    def method(self, b: date): ...

    def __call__(self, c: date): ...


@functools.wraps(sample)
def wrapped(*args, **kwargs): ...


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (Callee, ["a"]),
        (Callee(1).method, ["b"]),
        (Callee(1), ["c"]),
        (functools.partial(sample, 1), ["c", "d", "e", "g"]),
        (wrapped, ["a", "c", "d", "e", "g"]),
        (functools.partial(wrapped, c=1), ["a", "c", "d", "e", "g"]),
        (Options, ["limit", "since", "tags", "color"]),
        (len, []),
        (print, []),
        (int, []),
        (lambda x: x, []),
        (None, []),
        (5, []),
    ],
    ids=stable(str),
)
def test_the_hints_of_every_kind_of_callable_are_found(function, names):
    assert list(hints_of(function)) == names


def test_names_in_the_closure_of_a_block_are_found():
    class Local: ...

    def block(a: Local, b: List[Local]):
        return Local

    assert hints_of(block) == {"a": Local, "b": List[Local]}


def test_broken_annotations_do_not_raise():
    def block(a, b, c): ...

    block.__annotations__ = {"a": "1 +", "b": "1 / 0", "c": 42}
    assert hints_of(block).keys() <= {"c"}
    block.__annotations__ = {"a": int}
    block.__signature__ = "broken"
    assert hints_of(block) == {}


# validate_model


def test_a_dataclass_model_gives_exactly_its_fields():
    faults: List[Fault] = []
    given_ = {"limit": 1, "since": "2024-01-31"}
    assert validate_model(Options, given_, "fetch", faults) == {
        "limit": 1,
        "since": date(2024, 1, 31),
        "tags": (),
        "color": Color.RED,
    }
    assert validate_model(Derived, {"base": 4}, "fetch", faults) == {"base": 4, "double": 8}
    assert faults == []
    assert given_ == {"limit": 1, "since": "2024-01-31"}


def test_a_pydantic_model_gives_its_fields_and_does_not_dump_what_is_inside():
    inner = Model(limit=2)
    faults: List[Fault] = []
    values = validate_model(Model, {"limit": 1, "inner": inner}, "fetch", faults)
    assert values == {"limit": 1, "name": "x", "inner": inner}
    assert values["inner"] is inner
    assert faults == []


def test_a_model_reports_every_fault_and_gives_the_arguments_back():
    for model in (Options, Model):
        faults: List[Fault] = []
        assert validate_model(model, {"limit": None}, "fetch", faults) == {"limit": None}
        assert [fault.where for fault in faults] == ["fetch.limit"]
        faults = []
        validate_model(model, {}, "fetch", faults)
        assert [fault.where for fault in faults] == ["fetch.limit"]


def test_large_values_pass_through_a_model_by_reference():
    @dataclass
    class Rows:
        rows: List[int]

    rows = list(range(1000))
    assert validate_model(Rows, {"rows": rows}, "fetch", [])["rows"] is rows


# spell


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (Optional[int], "int | None"),
        (Union[List[int], Dict[str, Any], None], "list[int] | dict[str, Any] | None"),
        (Tuple[int, ...], "tuple[int, ...]"),
        (Tuple[()], "tuple[()]"),
        (typing.List, "list"),
        (Callable[[int, str], None], "Callable[[int, str], None]"),
        (Callable, "Callable"),
        (Literal["a", 1, None, Color.RED], "Literal['a', 1, None, Color.RED]"),
        (Type[int], "type[int]"),
        (Annotated[Optional[int], 1], "int | None"),
        (UserId, "int"),
        (T, "T"),
        (typing.ForwardRef("Later"), "Later"),
        ("Later", "Later"),
        (Box[int], "Box[int]"),
        (Any, "Any"),
        (typing_extensions.LiteralString, "LiteralString"),
        (list, "list"),
        (datetime, "datetime"),
    ],
    ids=stable(str),
)
def test_annotations_are_written_as_a_recent_python_writes_them(annotation, text):
    assert spell(annotation) == text


def test_the_examples_in_the_docstrings_are_true():
    assert doctest.testmod(conversion).failed == 0
