"""Checks of single values: numbers, text, times, paths.

Strict between JSON's own types (a bool is no int, text never becomes a number); JSON
text becomes what JSON has no type for: times (ISO 8601, extended format, the same on every
Python), Decimal, UUID, Path. Text never becomes bytes: nobody can know in which encoding.
"""

from __future__ import annotations

import re
import sys
from datetime import date, datetime, time, timedelta, timezone
from typing import Any, Callable, Dict, List, Optional, Tuple

from ..ground.errors import Fault
from .annotations import spell
from .checker import Checker, Walk, mismatch, only_instances

#: Makes another type of a JSON value; ValueError, TypeError, ArithmeticError or NotImplementedError if it can't.
Parse = Callable[[Any], Any]


def scalar_checker(cls: Any) -> Optional[Checker]:
    """The check of a scalar type; None for any other annotation."""
    found = _PLAIN.get(cls) if isinstance(cls, type) else None
    if found is not None:
        return found
    # The three are looked for by where they come from: importing their modules is left to those who use them.
    origin = (getattr(cls, "__module__", ""), getattr(cls, "__name__", ""))
    if origin == ("decimal", "Decimal"):
        return _converting(cls, (str, int), _parse_decimal(cls), "a number as str or int")
    if origin == ("uuid", "UUID"):
        return _converting(cls, (str,), cls, "32 hexadecimal digits")
    pathlib = sys.modules.get("pathlib")
    if pathlib is not None and isinstance(cls, type) and issubclass(cls, pathlib.PurePath):
        return _converting(cls, (str,), cls, "")
    return None


def _number(cls: type, *accepted: type) -> Checker:
    def fits(value: Any, walk: Walk) -> bool:
        return isinstance(value, accepted) and not isinstance(value, bool)

    def convert(value: Any, path: str, faults: List[Fault], walk: Walk) -> Any:
        if not fits(value, walk):
            faults.append(mismatch(path, cls.__name__, value))
        return value

    return Checker(cls.__name__, accepted, fits, convert)


def _converting(
    cls: type, sources: Tuple[type, ...], parse: Parse, form: str, unless: Tuple[type, ...] = ()
) -> Checker:
    """The check of a type to which JSON values of the types ``sources`` are converted; ``form`` says how they look."""
    spelling = spell(cls)

    def fits(value: Any, walk: Walk) -> bool:
        return isinstance(value, cls) and not isinstance(value, unless)

    def convert(value: Any, path: str, faults: List[Fault], walk: Walk) -> Any:
        if fits(value, walk):
            return value
        if isinstance(value, sources) and not isinstance(value, bool):
            try:
                return parse(value)
            except (ValueError, TypeError, ArithmeticError, NotImplementedError):
                pass
        faults.append(mismatch(path, f"{spelling} ({form})" if form else spelling, value))
        return value

    return Checker(spelling, (cls,), fits, convert)


# Compiled (and kept) by re itself when first used: compiling them all here took longer than the rest of the import.
_DATE = r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
_TIME = r"([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?"
_ZONE = r"([Zz]|[+-][0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2})?)?)?"
_DATETIME = f"{_DATE}(?:[Tt ]{_TIME}{_ZONE})?"
_NUMBER = r"([0-9]+(?:[.,][0-9]+)?)"
_DURATION = rf"([+-]?)P(?=.)(?:{_NUMBER}W)?(?:{_NUMBER}D)?(?:T(?=.)(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?"
_DECIMAL = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"


def _groups(pattern: str, text: str) -> Tuple[Optional[str], ...]:
    match = re.fullmatch(pattern, text)
    if match is None:
        raise ValueError(text)
    return match.groups()


def _parse_date(text: str) -> date:
    year, month, day = (int(part or 0) for part in _groups(_DATE, text))
    return date(year, month, day)


def _parse_time(text: str) -> time:
    hour, minute, second, fraction, zone = _groups(_TIME + _ZONE, text)
    return time(int(hour or 0), int(minute or 0), int(second or 0), _microseconds(fraction), _parse_zone(zone))


def _parse_datetime(text: str) -> datetime:
    year, month, day, hour, minute, second, fraction, zone = _groups(_DATETIME, text)
    return datetime(
        int(year or 0),
        int(month or 0),
        int(day or 0),
        int(hour or 0),
        int(minute or 0),
        int(second or 0),
        _microseconds(fraction),
        _parse_zone(zone),
    )


def _microseconds(fraction: Optional[str]) -> int:
    return int((fraction or "").ljust(6, "0")[:6])


def _parse_zone(zone: Optional[str]) -> Optional[timezone]:
    if not zone:
        return None
    if zone in "Zz":
        return timezone.utc
    digits = zone[1:].replace(":", "").ljust(6, "0")
    hours, minutes, seconds = int(digits[:2]), int(digits[2:4]), int(digits[4:])
    if minutes > 59 or seconds > 59:
        raise ValueError(zone)
    offset = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return timezone(-offset if zone[0] == "-" else offset) if offset else timezone.utc


def _parse_duration(value: Any) -> timedelta:
    if not isinstance(value, str):
        return timedelta(seconds=value)
    sign, *parts = _groups(_DURATION, value)
    weeks, days, hours, minutes, seconds = (float(part.replace(",", ".")) if part else 0.0 for part in parts)
    whole = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    return -whole if sign == "-" else whole


def _parse_decimal(cls: Any) -> Parse:
    def parse(value: Any) -> Any:
        if isinstance(value, str) and not re.fullmatch(_DECIMAL, value):
            raise ValueError(value)
        return cls(value)

    return parse


_PLAIN: Dict[Any, Checker] = {
    bool: only_instances("bool", bool),
    int: _number(int, int),
    float: _number(float, float, int),
    complex: _number(complex, complex, float, int),
    str: only_instances("str", str),
    bytes: only_instances("bytes", bytes, "; text is not taken for bytes: give bytes, or annotate with str"),
    type(None): only_instances("None", type(None)),
    date: _converting(date, (str,), _parse_date, "ISO 8601: '2024-01-31'", unless=(datetime,)),
    datetime: _converting(datetime, (str,), _parse_datetime, "ISO 8601: '2024-01-31T12:30:00+01:00'"),
    time: _converting(time, (str,), _parse_time, "ISO 8601: '12:30:00'"),
    timedelta: _converting(timedelta, (int, float, str), _parse_duration, "seconds, or ISO 8601: 'PT1H30M'"),
}
