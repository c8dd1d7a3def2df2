"""When a wall clock shows what a cron text asks for: arithmetic on local time, without any time zone.

A local time is a whole number: the seconds since 1970-01-01 00:00 of the same clock.
"""

from __future__ import annotations

import calendar
from bisect import bisect_left
from datetime import date
from functools import lru_cache
from typing import Optional, Tuple

from .cron import Fields

DAY = 86_400
#: The Gregorian calendar repeats after so many years, weekdays included.
CYCLE = 400
#: Last year that Python's dates know, less one for time zones.
LAST_YEAR = 9998

_EPOCH = 719_163  # date(1970, 1, 1).toordinal()


class WallClock:
    """The local times of a schedule, in order."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._days = lru_cache(maxsize=256)(self._matching_days)
        first = (fields.hours[0], fields.minutes[0], fields.seconds[0])
        #: The first time of each day that has any, in seconds.
        self._first = first[0] * 3600 + first[1] * 60 + first[2]

    def comes_at_all(self) -> bool:
        """Whether there is any day that fits."""
        return any(
            self._matching_days(year, month) for year in range(2000, 2000 + CYCLE) for month in self._fields.months
        )

    def next(self, local: int) -> Optional[int]:
        """The first local time that fits, not before ``local``; None when the calendar ends."""
        day, second = divmod(local, DAY)
        year, month, number = _date(day)
        if year > LAST_YEAR:
            return None
        if month in self._fields.months and number in self._days(year, month):
            found = self._time_from(second)
            if found is not None:
                return day * DAY + found
        months = self._fields.months
        while year <= LAST_YEAR:
            for candidate in months[bisect_left(months, month) :]:
                days = self._days(year, candidate)
                at = bisect_left(days, number + 1) if candidate == month else 0
                if at < len(days):
                    return _days_since_epoch(year, candidate, days[at]) * DAY + self._first
            year, month, number = year + 1, 1, 0
        return None

    def count(self, start: int, end: int) -> int:
        """How many local times fit from ``start`` to before ``end``; months are looked at, not times."""
        if end <= start:
            return 0
        fields = self._fields
        per_day = len(fields.hours) * len(fields.minutes) * len(fields.seconds)
        first_day, first_second = divmod(start, DAY)
        last_day, last_second = divmod(end, DAY)
        found = self._days_between(first_day, last_day) * per_day
        if self._fits(first_day):
            found -= self._times_before(first_second)
        if self._fits(last_day):
            found += self._times_before(last_second)
        return found

    def _fits(self, day: int) -> bool:
        year, month, number = _date(day)
        return month in self._fields.months and number in self._days(year, month)

    def _days_between(self, first: int, last: int) -> int:
        """How many days fit from ``first`` to before ``last``."""
        years = self._days_of_years(_date(first)[0], _date(last)[0])
        return years + self._days_of_year_before(last) - self._days_of_year_before(first)

    def _days_of_years(self, first: int, end: int) -> int:
        return sum(len(self._days(year, month)) for year in range(first, end) for month in self._fields.months)

    def _days_of_year_before(self, day: int) -> int:
        year, month, number = _date(day)
        found = 0
        for candidate in self._fields.months:
            if candidate < month:
                found += len(self._days(year, candidate))
            elif candidate == month:
                found += bisect_left(self._days(year, candidate), number)
        return found

    def _times_before(self, second: int) -> int:
        """How many times of day fit before ``second``."""
        fields = self._fields
        hour, rest = divmod(second, 3600)
        minute, second = divmod(rest, 60)
        per_minute = len(fields.seconds)
        per_hour = len(fields.minutes) * per_minute
        found = bisect_left(fields.hours, hour) * per_hour
        if hour in fields.hours:
            found += bisect_left(fields.minutes, minute) * per_minute
            if minute in fields.minutes:
                found += bisect_left(fields.seconds, second)
        return found

    def _time_from(self, second: int) -> Optional[int]:
        """The first time of day that fits, not before ``second``."""
        fields = self._fields
        hour, rest = divmod(second, 3600)
        minute, second = divmod(rest, 60)
        hours, minutes, seconds = fields.hours, fields.minutes, fields.seconds
        at_second = bisect_left(seconds, second)
        if at_second == len(seconds):
            at_second, minute = 0, minute + 1
        at_minute = bisect_left(minutes, minute)
        if at_minute == len(minutes):
            at_minute, at_second, hour = 0, 0, hour + 1
        elif minutes[at_minute] > minute:
            at_second = 0
        at_hour = bisect_left(hours, hour)
        if at_hour == len(hours):
            return None
        if hours[at_hour] > hour:
            at_minute = at_second = 0
        return hours[at_hour] * 3600 + minutes[at_minute] * 60 + seconds[at_second]

    def _matching_days(self, year: int, month: int) -> Tuple[int, ...]:
        fields = self._fields
        first, length = calendar.monthrange(year, month)
        first = (first + 1) % 7  # from Sunday
        found = []
        for day in range(1, length + 1):
            weekday = (first + day - 1) % 7
            by_day = day in fields.days or (fields.last_day and day == length)
            by_weekday = weekday in fields.weekdays or (
                bool(fields.nth_weekdays)
                and ((weekday, (day + 6) // 7) in fields.nth_weekdays
                     or (day + 7 > length and (weekday, 0) in fields.nth_weekdays))
            )  # fmt: skip
            if (by_day and by_weekday) if fields.both_days else (by_day or by_weekday):
                found.append(day)
        return tuple(found)


def _date(day: int) -> Tuple[int, int, int]:
    """Year, month and day of a number of days since 1970-01-01 (the algorithm of Howard Hinnant's chrono)."""
    shifted = day + 719_468
    era, of_era = divmod(shifted, 146_097)
    year_of_era = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * of_year + 2) // 153
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    return era * 400 + year_of_era + (month <= 2), month, of_year - (153 * shifted_month + 2) // 5 + 1


def _days_since_epoch(year: int, month: int, day: int) -> int:
    return date(year, month, day).toordinal() - _EPOCH
