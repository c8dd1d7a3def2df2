"""A time zone as numbers: offsets of instants, and the instants at which they change.

An instant is a whole number of epoch seconds, a local time a whole number of seconds
since 1970-01-01 00:00 of the zone's clocks.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from pathlib import Path
from typing import Optional

from ..ground.errors import Fault, ValidationError

_EPOCH = datetime(1970, 1, 1)
_UTC_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SECOND = timedelta(seconds=1)
#: Names of the zone whose offset is 0 for ever.
ALWAYS_UTC = frozenset({"UTC", "Etc/UTC", "Etc/UCT", "Etc/Universal", "Etc/Zulu", "UCT", "Universal", "Zulu"})
#: Instants between which Python's dates can tell the offset of any zone.
FIRST, LAST = -62_135_500_000, 253_402_200_000


class Zone:
    """A time zone. Two of the same name are the same to a schedule."""

    def __init__(self, name: str, info: tzinfo) -> None:
        self.name = name
        self.info = info
        self._fixed: Optional[int] = 0 if name in ALWAYS_UTC else None

    def offset(self, instant: int) -> int:
        """Seconds to add to an instant to get the local time."""
        if self._fixed is not None:
            return self._fixed
        instant = min(max(instant, FIRST), LAST)
        moment = (_UTC_EPOCH + timedelta(seconds=instant)).astimezone(self.info)
        return (moment.replace(tzinfo=None) - _EPOCH) // _SECOND - instant

    def change_in(self, after: int, until: int) -> Optional[int]:
        """The first instant later than ``after``, not later than ``until``, with another offset; None if there is none.

        The two are at most some days apart: nobody changes the clocks back and forth within them.
        """
        if self._fixed is not None or self.offset(after) == self.offset(until):
            return None
        before = self.offset(after)
        while until - after > 1:
            middle = (after + until) // 2
            if self.offset(middle) == before:
                after = middle
            else:
                until = middle
        return until

    def at(self, instant: int) -> datetime:
        """The instant as an aware datetime in this zone."""
        return (_UTC_EPOCH + timedelta(seconds=instant)).astimezone(self.info)


def zone_of(name: Optional[str]) -> Zone:
    """The zone of an IANA name; None: the machine's. Raises :class:`ValidationError` for an unknown one."""
    if name is None:
        return _machine()
    if not isinstance(name, str):
        raise ValidationError([Fault("timezone", f"a time zone is an IANA name, got {type(name).__name__}")])
    return _named(name)


@lru_cache(maxsize=1024)
def _named(name: str) -> Zone:
    from zoneinfo import ZoneInfo

    if name == "UTC":
        return Zone("UTC", timezone.utc)
    try:
        return Zone(name, ZoneInfo(name))
    except Exception as error:
        what = f"there is no time zone {name!r:.60}; use an IANA name such as 'Europe/Berlin', or 'UTC'"
        raise ValidationError([Fault("timezone", what)]) from error


def _machine() -> Zone:
    """The machine's zone, as ``TZ``, ``/etc/timezone`` and ``/etc/localtime`` tell it, in this order; else UTC."""
    given = os.environ.get("TZ", "").lstrip(":")
    if given:
        try:
            return _named(_below_zoneinfo(given) or given)
        except ValidationError:
            what = f"TZ={given!r:.60} is no IANA name; set one, or give the job a timezone"
            raise ValidationError([Fault("timezone", what)]) from None
    for found in (_etc_timezone(), _below_zoneinfo(os.path.realpath("/etc/localtime"))):
        if found:
            try:
                return _named(found)
            except ValidationError:
                continue
    return _named("UTC")


def _etc_timezone() -> Optional[str]:
    try:
        return Path("/etc/timezone").read_text(encoding="ascii").split("\n", 1)[0].strip()
    except (OSError, ValueError):
        return None


def _below_zoneinfo(path: str) -> Optional[str]:
    """``Europe/Berlin`` of ``/usr/share/zoneinfo/Europe/Berlin``."""
    _, mark, name = path.partition("/zoneinfo/")
    return name if mark else None
