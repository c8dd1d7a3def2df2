"""Writing stored values: from Python objects to what :func:`json.dumps` can write, or faults. See ``values``."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import sys
from enum import Enum, Flag
from typing import Any, Callable, Dict, Iterable, List, Set, Tuple, Union

from ..ground.errors import Fault
from . import tagged
from .annotations import alternatives, hints_of_class, is_dataclass_type
from .checker import MAX_DEPTH, MAX_FAULTS, at_element, at_index, at_key, clipped
from .inside import Hints, classes_in, hints_in_dict, hints_in_list
from .records import arguments_of, at_field, text_of
from .refusals import refusal
from .tagged import TAG

#: Longest text of all parameters of one submission together, in bytes of UTF-8.
MAX_BYTES = 1 << 20
#: Longest int, in digits. Python itself reads no more than 4,300 (``sys.set_int_max_str_digits``).
MAX_DIGITS = 4000

TOO_LONG = "the parameters take more than 1 MiB of text; put large data into a file and give its path"
TOO_DEEP = f"it is nested deeper than {MAX_DEPTH} levels"


#: One line of JSON, the same on every run.
json_text: Callable[[Any], str] = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode

#: Where a value stands: the parameter's own path; or the path of what it is in, and how to go on from there.
#: Put into words for a fault only, because most values have none.
_Place = Union[str, Tuple["_Place", Callable[[str, Any], str], Any]]


def _in_words(place: Any) -> str:
    steps = []
    while not isinstance(place, str):
        steps.append(place)
        place = place[0]
    for _, go_on, key in reversed(steps):
        place = go_on(place, key)
    return str(place)


class _Stop(Exception):
    """Nothing more of this parameter is looked at; the message says why."""


class ValueWriter:
    """Writes the parameters of one submission. ``room`` is what is left of :data:`MAX_BYTES`, at most:
    each value takes off no more than its text will take, so that huge values are given up early."""

    def __init__(self, faults: List[Fault]) -> None:
        self.room = MAX_BYTES
        self._faults = faults
        self._open: Set[int] = set()
        self._before = len(faults)
        self._too_large = _power_of_ten(max_digits())

    def parameter(self, value: Any, path: str, hints: Hints) -> Any:
        """What stands for the value; None, and faults, if it can't be stored."""
        self._open.clear()
        self._before = len(self._faults)
        try:
            return self._encode(value, path, hints, 0)
        except _Stop as reason:
            self._faults.append(Fault(path, str(reason)))
            return None
        except RecursionError:
            self._faults.append(Fault(path, TOO_DEEP))
            return None

    def _refuse(self, place: _Place, what: str) -> None:
        self._faults.append(Fault(_in_words(place), what))
        if len(self._faults) - self._before >= MAX_FAULTS:
            raise _Stop("too many faults; what follows was not looked at")

    def _take(self, size: int) -> None:
        self.room -= size
        if self.room < 0:
            raise _Stop(TOO_LONG)

    def _encode(self, value: Any, place: _Place, hints: Hints, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            return self._text(value, place)
        self.room -= 1
        if value is None or kind is bool:
            return value
        if kind is int:
            if abs(value) >= self._too_large:
                self._refuse(place, f"an int of more than {max_digits():,} digits can't be stored; give it as text")
            return value
        if kind is float:
            if not math.isfinite(value):
                self._refuse(place, f"{value} can't be stored; numbers must be finite")
            return value
        writer = _CONTAINERS.get(kind)
        if writer is not None:
            return self._nested(writer, value, place, hints, depth)
        if isinstance(value, Enum):
            return self._member(value, place, hints)
        if is_dataclass_type(kind):
            return self._nested(ValueWriter._record, value, place, hints, depth)
        return self._scalar(value, place)

    def _text(self, value: str, place: _Place) -> str:
        self._take(len(value) + 1)
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                self._refuse(place, f"{clipped(value)} can't be stored; half of a surrogate pair is no text")
        return value

    def _scalar(self, value: Any, place: _Place) -> Any:
        if type(value) is bytes:
            self._take(len(value))
        try:
            entry = tagged.write(value)
        except Exception as error:  # ours say why; a tzinfo may raise anything
            what = str(error) if type(error) is ValueError else f"{refusal(value)} ({text_of(error)})"
            self._refuse(place, what)
            return None
        if entry is None:
            self._refuse(place, refusal(value))
            return None
        self._take(len(str(entry["value"])) if type(value) is not bytes else 0)
        return entry

    def _nested(self, write: Callable[..., Any], value: Any, place: _Place, hints: Hints, depth: int) -> Any:
        if id(value) in self._open:
            self._refuse(place, "it contains itself, which can't be stored")
            return None
        if depth >= MAX_DEPTH:
            self._refuse(place, TOO_DEEP)
            return None
        self._open.add(id(value))
        encoded = write(self, value, place, hints, depth + 1)
        self._open.discard(id(value))
        return encoded

    def _list(self, value: Iterable[Any], place: _Place, hints: Hints, depth: int) -> List[Any]:
        inside = hints_in_list(hints)
        encoded = []
        for index, element in enumerate(value):
            self._take(1)
            encoded.append(self._encode(element, (place, at_index, index), inside(index), depth))
        return encoded

    def _tuple(self, value: Tuple[Any, ...], place: _Place, hints: Hints, depth: int) -> Any:
        return {TAG: "tuple", "value": self._list(value, place, hints, depth)}

    def _set(self, value: Any, place: _Place, hints: Hints, depth: int) -> Any:
        before = len(self._faults)
        inside = hints_in_list(hints)
        encoded = []
        for element in value:
            self._take(1)
            encoded.append(self._encode(element, (place, at_element, element), inside(0), depth))
        if len(self._faults) == before:
            encoded.sort(key=json_text)
        else:  # the order of a set changes with the hash seed, the report must not
            self._faults[before:] = sorted(self._faults[before:])
        return {TAG: type(value).__name__, "value": encoded}

    def _dict(self, value: Dict[Any, Any], place: _Place, hints: Hints, depth: int) -> Any:
        inside = hints_in_dict(hints)
        encoded = {}
        for key, item in value.items():
            where: _Place = (place, at_key, key)
            if type(key) is not str:
                self._refuse(where, f"a dict with the key {clipped(key)} can't be stored; keys must be str")
                continue
            self._take(1)
            encoded[self._text(key, where)] = self._encode(item, where, inside(key), depth)
        return {TAG: "dict", "value": encoded} if TAG in encoded else encoded

    def _member(self, value: Enum, place: _Place, hints: Hints) -> Any:
        cls = type(value)
        if cls not in classes_in(hints):
            self._refuse(place, refusal(value))
        elif cls.__members__.get(value.name) is value:
            return {TAG: "enum", "class": class_name(cls), "value": self._text(value.name, place)}
        elif isinstance(value, Flag):  # several members of a flag together
            return {TAG: "flag", "class": class_name(cls), "value": self._encode(value.value, place, (), 0)}
        else:
            self._refuse(place, f"{clipped(value)} can't be stored; it is no member of its class by name")
        return None

    def _record(self, value: Any, place: _Place, hints: Hints, depth: int) -> Any:
        cls: Any = type(value)
        if cls not in classes_in(hints):
            self._refuse(place, refusal(value))
            return None
        names = [field.name for field in dataclasses.fields(cls)]
        lacking = [name for name, needed in arguments_of(cls).items() if needed and name not in names]
        if lacking:
            what = f"{refusal(value).partition(';')[0]}; its __init__ needs '{lacking[0]}', which is no field"
            self._refuse(place, what)
            return None
        known = hints_of_class(cls)
        encoded = {}
        for name in names:
            where: _Place = (place, at_field, name)
            try:
                item = getattr(value, name)
            except Exception as error:  # never set, or a property that fails
                self._refuse(where, f"it can't be read: {text_of(error)}")
                continue
            encoded[name] = self._encode(item, where, alternatives(known.get(name, Any)), depth)
        return {TAG: "dataclass", "class": class_name(cls), "value": encoded}


_CONTAINERS: Dict[type, Callable[..., Any]] = {
    list: ValueWriter._list,
    dict: ValueWriter._dict,
    tuple: ValueWriter._tuple,
    set: ValueWriter._set,
    frozenset: ValueWriter._set,
}


@functools.lru_cache(maxsize=4)
def _power_of_ten(exponent: int) -> int:
    return int(10**exponent)


def max_digits() -> int:
    """:data:`MAX_DIGITS`, or fewer where the interpreter was told to read fewer."""
    limit: int = getattr(sys, "get_int_max_str_digits", int)()
    return min(limit, MAX_DIGITS) if limit else MAX_DIGITS


def class_name(cls: type) -> str:
    """How a stored value names its class; the reader compares, and imports nothing."""
    return f"{cls.__module__}:{cls.__qualname__}"
