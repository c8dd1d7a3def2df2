"""`Schedule`: the instants at which cron text fires in a time zone. Immutable, and a pure function of its two texts.

Daylight saving follows Debian's cron (cron(8), "Notes"): a *fixed-time* schedule, whose
minute and hour do not begin with ``*``, fires once, at the first instant after the gap,
for all of its times that fell into it, and of a time that occurs twice the first time
only. Any other schedule fires whenever the wall clock shows its times: never in a gap,
in both passes of an overlap. Changes of :data:`CORRECTION` or more are corrections of
the clock, and nothing is made up for them.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Iterator, List, Optional, Tuple

from ..ground.errors import Fault, ValidationError
from .calendar import DAY, WallClock
from .cron import read
from .zone import Zone, zone_of

#: Seconds from which a change of the offset is a correction of the clock (cron(8)).
CORRECTION = 3 * 3600
#: A change within so many seconds may repeat local times that have passed, or skip some that are to come.
NEAR = DAY + 2 * 3600
#: Seconds within which the clocks change once at most.
STRETCH = 7 * DAY
#: Most datetimes that one call gives.
MAX_MANY = 1_000_000

_UTC_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SECOND = timedelta(seconds=1)


class Schedule:
    """Cron text in a time zone.

    ::

        schedule = Schedule.parse("30 2 * * *", "Europe/Berlin")
        schedule.next_after(datetime.now(timezone.utc))

    Datetimes that are asked about are aware, or naive ones of the schedule's own zone;
    those that are given back are aware and in that zone.
    """

    __slots__ = ("text", "_zone", "_clock", "_fixed", "_last_answer")

    def __init__(self, text: str, zone: Zone) -> None:
        fields = read(text)
        self.text = text
        self._zone = zone
        self._clock = WallClock(fields)
        self._fixed = fields.fixed_time
        #: What :meth:`after` was asked last, and its answer: jobs that share a schedule ask for the same.
        self._last_answer: Tuple[Optional[int], Optional[int]] = (None, None)
        if not self._clock.comes_at_all():
            raise ValidationError([Fault(f"schedule {text!r:.80}", "it never fires: no date in the calendar fits")])

    @classmethod
    def parse(cls, text: str, timezone: Optional[str] = None) -> Schedule:
        """The schedule of cron text in the zone of an IANA name; None: the machine's.

        Five fields, six with the seconds last, or ``@hourly`` and its kin. Either day
        field may match, unless one of them begins with ``*``: then both must
        (crontab(5)). Raises :class:`ValidationError`, also for a schedule that can
        never fire.
        """
        read(text)  # before it is looked up: what is no text may have no hash
        return _parsed(text, zone_of(timezone))

    @property
    def timezone(self) -> str:
        """Name of the zone."""
        return self._zone.name

    # ------------------------------------------------------------------ asked in datetimes

    def next_after(self, instant: datetime) -> datetime:
        """The first time strictly after an instant. Raises :class:`OverflowError` beyond the year 9998."""
        found = self.after(self._seconds(instant))
        if found is None:
            raise OverflowError(f"{self!r} does not fire again before the calendar ends")
        return self._zone.at(found)

    def between(self, a: datetime, b: datetime) -> List[datetime]:
        """The times strictly after ``a`` and not later than ``b``, in order.

        Raises :class:`OverflowError` for more than a million of them.
        """
        end = self._seconds(b)
        found: List[datetime] = []
        for instant in self.instants(self._seconds(a)):
            if instant > end:
                break
            if len(found) == MAX_MANY:
                raise OverflowError(f"{self!r} fires more than {MAX_MANY} times between {a} and {b}")
            found.append(self._zone.at(instant))
        return found

    def next(self, n: int, after: Optional[datetime] = None) -> List[datetime]:
        """The next ``n`` times strictly after an instant (default: now)."""
        start = self._seconds(after if after is not None else datetime.now(timezone.utc))
        found: List[datetime] = []
        for instant in self.instants(start):
            if len(found) >= n:
                break
            found.append(self._zone.at(instant))
        return found

    # ------------------------------------------------------------------ asked in epoch seconds

    def instants(self, after: int) -> Iterator[int]:
        """All times strictly after an instant, in epoch seconds."""
        found = self.after(after)
        while found is not None:
            yield found
            found = self.after(found)

    def after(self, instant: int) -> Optional[int]:
        """The first time strictly after an instant, in epoch seconds; None when the calendar ends."""
        asked, answer = self._last_answer
        if asked == instant:
            return answer
        answer = self._after(instant)
        self._last_answer = (instant, answer)
        return answer

    def _after(self, instant: int) -> Optional[int]:
        zone = self._zone
        # The first instant that may be one.
        instant += 1
        while True:
            offset = zone.offset(instant)
            change = zone.change_in(instant - 1, instant + NEAR)
            if change == instant:
                # Just after a change: what lies in the gap before it, then this segment by itself.
                if self._is_made_up(instant):
                    return instant
                change = zone.change_in(instant, instant + NEAR)
            local = self._clock.next(self._first_wanted(instant, offset))
            if local is None:
                return None
            found = local - offset
            if change is not None and found >= change:
                instant = change
                continue
            if found <= instant + NEAR or (zone.offset(found) == offset == zone.offset(found - NEAR)):
                return found
            # Far away, and the clocks change near it: go there, where changes are looked at one by one.
            instant = max(instant + 1, found - NEAR)

    def last_until(self, after: int, until: int) -> Optional[int]:
        """The last time strictly after ``after`` and not later than ``until``; None if there is none."""
        low, high = after, until
        first = self.after(after)
        if first is None or first > until:
            return None
        # The largest instant after which there is still a time: that time is the last.
        while high - low > 1:
            middle = (low + high) // 2
            found = self.after(middle)
            if found is not None and found <= until:
                low, first = middle, found
            else:
                high = middle
        return first

    def count(self, after: int, until: int) -> int:
        """How many times lie strictly after ``after`` and not later than ``until``.

        A few milliseconds for ten years, however many times that are.
        """
        zone, found = self._zone, 0
        start, end = after + 1, until + 1
        while start < end:
            # From one change to the next the clock runs evenly.
            stop, change = start, None
            while stop < end and change is None:
                change = zone.change_in(stop, stop + STRETCH)
                stop = stop + STRETCH if change is None else change
            stop = min(stop, end)
            offset = zone.offset(start)
            if zone.change_in(start - 1, start) is not None and self._is_made_up(start):
                found += self._clock.next(start + offset) != start + offset
            found += self._clock.count(self._first_wanted(start, offset), stop + offset)
            start = stop
        return found

    def _is_made_up(self, change: int) -> bool:
        """Whether a time of the schedule fell into the gap that ends at ``change``, and fires there."""
        before, offset = self._zone.offset(change - 1), self._zone.offset(change)
        return self._fixed and 0 < offset - before < CORRECTION and self._falls_into(change + before, change + offset)

    def _first_wanted(self, instant: int, offset: int) -> int:
        """The local time from which on a time may fire at ``instant`` or later, in its segment."""
        local = instant + offset
        if self._fixed:
            # In the second pass of an overlap, what the first has fired is done.
            back = self._zone.change_in(instant - CORRECTION, instant)
            if back is not None:
                shift = self._zone.offset(back) - self._zone.offset(back - 1)
                if -CORRECTION < shift < 0:
                    return max(local, back + self._zone.offset(back - 1))
        return local

    def _falls_into(self, start: int, end: int) -> bool:
        """Whether a local time of the schedule lies from ``start`` to before ``end``."""
        found = self._clock.next(start)
        return found is not None and found < end

    # ------------------------------------------------------------------ about itself

    def _seconds(self, instant: datetime) -> int:
        """Epoch seconds, rounded down; a naive datetime is one of the schedule's zone."""
        if not isinstance(instant, datetime):
            what = f"an instant is a datetime, got {type(instant).__name__}"
            raise ValidationError([Fault(f"schedule {self.text!r}", what)])
        aware = instant if instant.tzinfo is not None else instant.replace(tzinfo=self._zone.info)
        return (aware - _UTC_EPOCH) // _SECOND

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        return (self.text, self.timezone) == (other.text, other.timezone)

    def __hash__(self) -> int:
        return hash((self.text, self.timezone))

    def __reduce__(self) -> Tuple[object, Tuple[str, str]]:
        return Schedule.parse, (self.text, self.timezone)

    def __repr__(self) -> str:
        return f"<Schedule {self.text!r} in {self.timezone}>"


@lru_cache(maxsize=1024)
def _parsed(text: str, zone: Zone) -> Schedule:
    return Schedule(text, zone)
