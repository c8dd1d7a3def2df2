"""The scalar types that JSON lacks and a stored submission keeps: how each is written and read.

``{"$blaze": "date", "value": "2024-01-31"}``. Subclasses are not written: they would not
come back as what they were.
"""

from __future__ import annotations

import binascii
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

#: The key of an object that stands for something else than a dict.
TAG = "$blaze"

Tagged = Dict[str, Any]


def write(value: Any) -> Optional[Tagged]:
    """The tagged object of a scalar; None if its type has none.

    Raises :class:`ValueError`, whose text says why, for a value that would not come back the same.
    """
    kind = type(value)
    writer = _WRITERS.get(kind)
    if writer is None:
        # By name: the modules are left to be imported by those who use them.
        writer = _WRITERS_BY_NAME.get((kind.__module__, kind.__qualname__))
    return writer(value) if writer is not None else None


def read(entry: Tagged) -> Any:
    """The scalar that a tagged object stands for. Raises :class:`ValueError` if it is damaged or of no known kind."""
    name = entry[TAG]
    reader = _READERS.get(name) if isinstance(name, str) else None
    if reader is None:
        raise ValueError(f"{name!r} is a kind of value that this version of Blaze does not know")
    try:
        return reader(entry)
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"the stored {name} is damaged: {error}") from error


def _tagged(name: str, value: Any) -> Tagged:
    return {TAG: name, "value": value}


def _text(entry: Tagged) -> str:
    value = entry["value"]
    if not isinstance(value, str):
        raise TypeError(f"its value is a {type(value).__name__}, not text")
    return value


def _write_datetime(value: Any) -> Tagged:
    name = type(value).__name__
    offset = value.utcoffset()
    if value.tzinfo is not None and offset is None:
        raise ValueError(f"a {name} whose time zone has no fixed offset can't be stored; give a datetime with its date")
    if offset is not None and offset.microseconds:
        # Python 3.13 and older read the offset "+00:00:00.000001" as UTC.
        entry = _tagged(name, value.replace(tzinfo=None).isoformat())
        entry["offset"] = _parts(offset)
    else:
        entry = _tagged(name, value.isoformat())
    if value.fold:
        entry["fold"] = 1
    zone = _zone_name(value.tzinfo)
    if zone is not None:
        entry["zone"] = zone
    return entry


def _read_datetime(cls: Any, entry: Tagged) -> Any:
    value = cls.fromisoformat(_text(entry))
    if "offset" in entry:
        value = value.replace(tzinfo=timezone(timedelta(*entry["offset"])))
    if entry.get("fold"):
        value = value.replace(fold=1)
    return _in_zone(value, entry["zone"]) if "zone" in entry else value


def _zone_name(zone: Any) -> Optional[str]:
    # By name: the module is left to be imported by those who use it.
    name = zone.key if (type(zone).__module__, type(zone).__qualname__) == ("zoneinfo", "ZoneInfo") else None
    return name if isinstance(name, str) else None


def _in_zone(value: datetime, name: str) -> datetime:
    """``value``, which has an offset, in a zone: its instant stays, whatever the zone's rules have become since."""
    from zoneinfo import ZoneInfo

    try:
        zone = ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # a machine without it: the offset says when it is
        return value
    there = value.replace(tzinfo=zone)
    return there if there.utcoffset() == value.utcoffset() else value.astimezone(zone)


def _parts(value: timedelta) -> List[int]:
    return [value.days, value.seconds, value.microseconds]


def _write_decimal(value: Any) -> Tagged:
    if not value.is_finite():
        raise ValueError(f"Decimal {value} can't be stored; numbers must be finite")
    return _tagged("decimal", str(value))


def _read_decimal(entry: Tagged) -> Any:
    from decimal import Decimal

    return Decimal(_text(entry))


def _read_uuid(entry: Tagged) -> Any:
    from uuid import UUID

    return UUID(_text(entry))


def _write_path(value: Path) -> Tagged:
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a Path whose name is not valid UTF-8 can't be stored") from None
    return _tagged("path", text)


def _read_timedelta(entry: Tagged) -> timedelta:
    days, seconds, microseconds = entry["value"]
    return timedelta(days, seconds, microseconds)


_WRITERS: Dict[type, Callable[[Any], Tagged]] = {
    datetime: _write_datetime,
    date: lambda value: _tagged("date", value.isoformat()),
    time: _write_datetime,
    timedelta: lambda value: _tagged("timedelta", _parts(value)),
    bytes: lambda value: _tagged("bytes", binascii.b2a_base64(value, newline=False).decode("ascii")),
    type(Path()): _write_path,
}

_WRITERS_BY_NAME: Dict[Any, Callable[[Any], Tagged]] = {
    ("decimal", "Decimal"): _write_decimal,
    ("uuid", "UUID"): lambda value: _tagged("uuid", str(value)),
}

_READERS: Dict[str, Callable[[Tagged], Any]] = {
    "datetime": lambda entry: _read_datetime(datetime, entry),
    "date": lambda entry: date.fromisoformat(_text(entry)),
    "time": lambda entry: _read_datetime(time, entry),
    "timedelta": _read_timedelta,
    "decimal": _read_decimal,
    "uuid": _read_uuid,
    "bytes": lambda entry: binascii.a2b_base64(_text(entry)),
    "path": lambda entry: Path(_text(entry)),
}
