"""Cron text, its wall clock, and daylight saving (RELIABILITY T1-T7, R13-R18; DESIGN 6)."""

from __future__ import annotations

import pickle
import re
import time
from datetime import datetime, timedelta, timezone
from functools import cache, lru_cache
from typing import Any, Iterator, List, NamedTuple, Optional, Set, Tuple
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blaze import Schedule, ValidationError
from blaze.core.when import schedule as schedule_module
from blaze.core.when.calendar import WallClock
from blaze.core.when.cron import read

UTC = timezone.utc
MINUTE = timedelta(minutes=1)

#: Both hemispheres, half-hour zones, half-hour shifts, zones that changed their rules, and years in which they do.
ZONES = [
    ("Europe/Berlin", 2026),
    ("America/New_York", 2026),
    ("Europe/Dublin", 2026),
    ("America/Sao_Paulo", 2018),
    ("America/Sao_Paulo", 2017),
    ("Australia/Lord_Howe", 2026),
    ("Australia/Adelaide", 2026),
    ("Asia/Kolkata", 2026),
    ("Asia/Kathmandu", 1986),
    ("Asia/Tehran", 2022),
    ("Pacific/Apia", 2011),
    ("Africa/Casablanca", 2026),
    ("America/St_Johns", 2011),
    ("America/Caracas", 2016),
    ("Antarctica/Troll", 2026),
    ("Asia/Pyongyang", 2018),
    ("Europe/Istanbul", 2016),
    ("Pacific/Kwajalein", 1993),
    ("Pacific/Chatham", 2024),
    ("Africa/Cairo", 2023),
    ("Africa/Casablanca", 2024),
    ("America/Caracas", 2007),
    ("Antarctica/Casey", 2010),
    ("Asia/Gaza", 2023),
    ("UTC", 2026),
]

TEXTS = [
    "30 2 * * *", "0 2 * * *", "0 3 * * *", "30 1 * * *", "0 0 * * *", "15,45 1,2,3 * * *", "0 1-3 * * *",
    "0 */2 * * *", "*/20 1 * * *", "*/20 * * * *", "*/7 * * * *", "* 2 * * *", "30 * * * *", "0 * * * *",
    "59 23 * * *", "0 2 * * SUN", "30 2 1-7 * *", "0 0 1 * *", "5 0 29 2 *", "30 2 L * *", "0 2 * * 0#1",
    "0 2 * * Lsun", "10 2 13 * FRI", "0 12 */2 * MON", "0,30 0-3/1 * * *", "*/30 0-3 * * *", "@daily", "@hourly",
    "@monthly",
]  # fmt: skip


class Bare(NamedTuple):
    """What a text asks for, read in the plainest way."""

    minutes: Set[int]
    hours: Set[int]
    days: Any
    months: Set[int]
    weekdays: Any
    both: bool
    fixed: bool


@cache
def bare(text: str) -> Bare:
    text = {"@daily": "0 0 * * *", "@hourly": "0 * * * *", "@monthly": "0 0 1 * *"}.get(text, text).lower()
    parts = text.split()

    def numbers(part: str, low: int, high: int) -> Set[int]:
        found: Set[int] = set()
        for item in part.split(","):
            body, _, step = item.partition("/")
            for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat")):
                body = body.replace(name, str(number))
            if body == "*":
                first, last = low, high
            elif "-" in body:
                first, last = map(int, body.split("-"))
            else:
                first = last = int(body)
                last = high if step else last
            found.update(range(first, last + 1, int(step or 1)))
        return found

    days = "l" if parts[2] == "l" else numbers(parts[2], 1, 31)
    weekdays: Any = parts[4] if "#" in parts[4] or parts[4].startswith("l") else numbers(parts[4], 0, 6)
    return Bare(
        numbers(parts[0], 0, 59), numbers(parts[1], 0, 23), days, numbers(parts[3], 1, 12), weekdays,
        parts[2][0] == "*" or parts[4][0] == "*", parts[0][0] != "*" and parts[1][0] != "*",
    )  # fmt: skip


def fits(text: str, local: datetime) -> bool:
    asked = bare(text)
    if local.minute not in asked.minutes or local.hour not in asked.hours or local.month not in asked.months:
        return False
    last = (local + timedelta(days=1)).month != local.month
    by_day = last if asked.days == "l" else local.day in asked.days
    weekday = (local.weekday() + 1) % 7
    if asked.weekdays == "0#1":
        by_weekday = weekday == 0 and local.day <= 7
    elif asked.weekdays == "lsun":
        by_weekday = weekday == 0 and (local + timedelta(days=7)).month != local.month
    else:
        by_weekday = weekday in asked.weekdays
    return (by_day and by_weekday) if asked.both else (by_day or by_weekday)


class Moment(NamedTuple):
    instant: datetime
    #: What the wall clock shows, without a zone.
    local: datetime
    #: By how much the clock was just set forward (or back).
    jump: timedelta
    #: The clock has shown this time before; by how much it had been set back.
    again: timedelta


@lru_cache(maxsize=4)
def minutes_of(zone: str, start: datetime, end: datetime) -> List[Moment]:
    """Every minute of the zone's wall clock, seen one by one."""
    info, found, offset = ZoneInfo(zone), [], None
    seen_up_to: Optional[datetime] = None
    back = timedelta(0)
    instant = start
    while instant < end:
        aware = instant.astimezone(info)
        local = aware.replace(tzinfo=None, fold=0)
        now = aware.utcoffset()
        assert now is not None
        jump = now - offset if offset is not None else timedelta(0)
        if jump < timedelta(0):
            back, seen_up_to = -jump, local - MINUTE - jump
        offset = now
        again = back if seen_up_to is not None and local <= seen_up_to else timedelta(0)
        found.append(Moment(instant, local, jump, again))
        instant += MINUTE
    return found


def brute(text: str, moments: List[Moment]) -> Iterator[datetime]:
    """DESIGN 6, word for word, minute by minute."""
    correction = timedelta(hours=3)
    fixed = bare(text).fixed
    for moment in moments:
        fire = fits(text, moment.local)
        if fixed and timedelta(0) < moment.again < correction:
            fire = False  # a time that occurs twice fires the first time only
        if fixed and timedelta(0) < moment.jump < correction and not fire:
            skipped = moment.local - moment.jump
            while skipped < moment.local and not fire:
                fire = fits(text, skipped)  # several that fell into the gap make one run
                skipped += MINUTE
        if fire:
            yield moment.instant


def instants(moments: List[datetime]) -> List[datetime]:
    """The same in UTC: two datetimes of different zones are never equal if one of them occurs twice (PEP 495)."""
    return [moment.astimezone(UTC) for moment in moments]


def changes_of(zone: str, year: int) -> List[datetime]:
    info, found = ZoneInfo(zone), []
    day = datetime(year, 1, 1, tzinfo=UTC)
    while day.year == year:
        if day.astimezone(info).utcoffset() != (day + timedelta(days=1)).astimezone(info).utcoffset():
            found.append(day)
        day += timedelta(days=1)
    return found or [datetime(year, 2, 27, tzinfo=UTC)]


@pytest.mark.parametrize(("zone", "year"), ZONES)
def test_around_every_change_of_the_clocks_it_fires_as_a_scan_of_every_minute_says(zone: str, year: int) -> None:
    """R13, T1, T2."""
    for day in changes_of(zone, year):
        start, end = day - timedelta(days=2), day + timedelta(days=3)
        # The scan starts earlier, so that it knows what the clock has shown before.
        moments = [moment for moment in minutes_of(zone, start - timedelta(days=2), end) if moment.instant > start]
        for text in TEXTS:
            expected = list(brute(text, moments))
            schedule = Schedule.parse(text, zone)
            assert instants(schedule.between(start, end - MINUTE)) == expected, (zone, text, day)


@pytest.mark.slow
@pytest.mark.parametrize(("zone", "year"), ZONES)
def test_a_whole_year_fires_as_a_scan_of_every_minute_says(zone: str, year: int) -> None:
    start, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    moments = [moment for moment in minutes_of(zone, start - timedelta(days=2), end) if moment.instant > start]
    for text in TEXTS:
        found = Schedule.parse(text, zone).between(start, end - MINUTE)
        assert instants(found) == list(brute(text, moments)), (zone, text)


ITEMS = {
    "minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 6),
}  # fmt: skip


@st.composite
def fields(draw: Any, low: int, high: int) -> str:
    def item() -> str:
        kind = draw(st.sampled_from(["*", "*", "number", "number", "range", "step", "range step"]))
        first = draw(st.integers(low, high - 1))
        last = draw(st.integers(first + 1, high))
        step = draw(st.integers(1, high - low))
        return {
            "*": "*", "number": str(first), "range": f"{first}-{last}", "step": f"*/{step}",
            "range step": f"{first}-{last}/{step}",
        }[kind]  # fmt: skip

    return ",".join(item() for _ in range(draw(st.integers(1, 2))))


def never_or_parsed(text: str, zone: str) -> Optional[Schedule]:
    """The schedule; None for one that never fires, which cronsim has to say too."""
    try:
        return Schedule.parse(text, zone)
    except ValidationError as refused:
        told = str(refused)
    assert "never fires" in told
    with pytest.raises((StopIteration, CronSimError)):  # it may not even take a day that no month has
        next(CronSim(text, datetime(2000, 1, 1)))
    return None


cron_texts = st.tuples(*(fields(low, high) for low, high in ITEMS.values())).map(" ".join)


@given(text=cron_texts, start=st.datetimes(datetime(1999, 1, 1), datetime(2060, 1, 1)))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_without_daylight_saving_it_agrees_with_cronsim(text: str, start: datetime) -> None:
    """R14: the day fields too; an independent implementation."""
    schedule = never_or_parsed(text, "UTC")
    if schedule is None:
        return
    start = start.replace(tzinfo=UTC)
    theirs = CronSim(text, start)
    for mine in schedule.next(5, start):
        assert mine == next(theirs), text


@given(
    text=cron_texts,
    zone=st.sampled_from(sorted({zone for zone, _ in ZONES})),
    start=st.integers(600_000_000, 2_000_000_000),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_it_moves_strictly_on_and_depends_on_nothing_but_where_it_stands(text: str, zone: str, start: int) -> None:
    """R15: from any instant between two times, the next is the same."""
    schedule = never_or_parsed(text, zone)
    if schedule is None:
        return
    first = schedule.after(start)
    assert first is not None and first > start
    second = schedule.after(first)
    assert second is not None and second > first
    for between in (first, (first + second) // 2, second - 1):
        assert schedule.after(between) == second
    assert schedule.after(first - 1) == first


# ---------------------------------------------------------------------- known answers


@pytest.mark.parametrize(
    ("text", "zone", "after", "expected"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
        ("0,15,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00"]),
        ("0 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00"]),
        ("30 * * * *", "Europe/Berlin", "2026-03-29T01:00", ["2026-03-29T01:30+01:00", "2026-03-29T03:30+02:00"]),
        ("*/30 2 25 10 *", "Europe/Berlin", "2026-10-25T02:00", ["2026-10-25T02:30+02:00", "2026-10-25T02:00+01:00"]),
        ("*/60 2 25 10 *", "Europe/Berlin", "2026-10-25T02:00", ["2026-10-25T02:00+01:00", "2027-10-25T02:00+02:00"]),
        (
            "*/20 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-05T01:20",
            ["2026-04-05T01:40+11:00", "2026-04-05T01:40+10:30"],
        ),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", ["2026-10-04T02:30+11:00", "2026-10-05T02:15+11:00"]),
        ("0 12 * * *", "Pacific/Apia", "2011-12-29T13:00", ["2011-12-31T12:00+14:00", "2012-01-01T12:00+14:00"]),
        ("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00", ["2018-11-04T01:00-02:00", "2018-11-05T00:00-02:00"]),
        # Looked for from afar, from the winter before: the first of two 02:30s all the same.
        ("30 2 25 10 *", "Europe/Berlin", "2025-11-01T00:00", ["2026-10-25T02:30+02:00", "2027-10-25T02:30+02:00"]),
        # Three hours are a correction already: nothing is made up for, and what comes twice fires twice.
        ("30 3 * * *", "Antarctica/Casey", "2009-10-17T12:00", ["2009-10-19T03:30+11:00", "2009-10-20T03:30+11:00"]),
        ("30 0 * * *", "Antarctica/Casey", "2010-03-04T12:00", ["2010-03-05T00:30+11:00", "2010-03-05T00:30+08:00"]),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00", ["2028-02-29T00:00+00:00", "2032-02-29T00:00+00:00"]),
        ("0 0 31 2 FRI", "UTC", "2026-02-01T00:00", ["2026-02-06T00:00+00:00", "2026-02-13T00:00+00:00"]),
        ("0 0 * 2 1#5", "UTC", "2026-01-01T00:00", ["2044-02-29T00:00+00:00", "2072-02-29T00:00+00:00"]),
        ("0 0 13 * FRI", "UTC", "2026-02-07T00:00", ["2026-02-13T00:00+00:00", "2026-02-20T00:00+00:00"]),
        ("0 0 */2 * MON", "UTC", "2026-06-02T00:00", ["2026-06-15T00:00+00:00", "2026-06-29T00:00+00:00"]),
        ("0 0 * * 5-7", "UTC", "2026-06-04T00:00", ["2026-06-05T00:00+00:00", "2026-06-06T00:00+00:00"]),
        ("0 0 * * 7", "UTC", "2026-06-04T00:00", ["2026-06-07T00:00+00:00", "2026-06-14T00:00+00:00"]),
        ("0 0 * * fri-sun", "UTC", "2026-06-06T00:00", ["2026-06-07T00:00+00:00", "2026-06-12T00:00+00:00"]),
        ("0 0 * * 1-7/2", "UTC", "2026-06-06T00:00", ["2026-06-07T00:00+00:00", "2026-06-08T00:00+00:00"]),
        ("0 0 * * 1#1,1-5", "UTC", "2026-06-05T00:00", ["2026-06-08T00:00+00:00", "2026-06-09T00:00+00:00"]),
        ("0 0 * * L5", "UTC", "2026-06-01T00:00", ["2026-06-26T00:00+00:00", "2026-07-31T00:00+00:00"]),
        ("0 0 L * *", "UTC", "2026-01-31T00:00", ["2026-02-28T00:00+00:00", "2026-03-31T00:00+00:00"]),
        ("0 0 L,15 * *", "UTC", "2026-01-31T00:00", ["2026-02-15T00:00+00:00", "2026-02-28T00:00+00:00"]),
        ("10/20 * * * *", "UTC", "2026-01-01T00:00", ["2026-01-01T00:10+00:00", "2026-01-01T00:30+00:00"]),
        ("59/15 * * * *", "UTC", "2026-01-01T00:00", ["2026-01-01T00:59+00:00", "2026-01-01T01:59+00:00"]),
        ("0 0 ? * 1", "UTC", "2026-06-01T00:00", ["2026-06-08T00:00+00:00", "2026-06-15T00:00+00:00"]),
        ("0 12 1 JAN-mar *", "UTC", "2026-01-01T12:00", ["2026-02-01T12:00+00:00", "2026-03-01T12:00+00:00"]),
        ("* * * * * */20", "UTC", "2026-01-01T00:00", ["2026-01-01T00:00:20+00:00", "2026-01-01T00:00:40+00:00"]),
        ("30 59 23 31 12 *", "UTC", None, None),
        ("59 23 31 12 * 30", "UTC", "2026-01-01T00:00", ["2026-12-31T23:59:30+00:00", "2027-12-31T23:59:30+00:00"]),
        ("\t@Weekly ", "UTC", "2026-06-01T00:00", ["2026-06-07T00:00+00:00", "2026-06-14T00:00+00:00"]),
    ],
)
def test_known_answers(text: str, zone: str, after: Optional[str], expected: Optional[List[str]]) -> None:
    if after is None or expected is None:
        with pytest.raises(ValidationError):
            Schedule.parse(text, zone)  # seconds first, as Quartz has them: T6
        return
    found = Schedule.parse(text, zone).next(2, datetime.fromisoformat(after))
    assert [moment.isoformat() for moment in found] == [datetime.fromisoformat(text).isoformat() for text in expected]


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it is empty; a schedule has five"),
        ("* * * *", "it has 4 fields"),
        ("* * * * * * *", "it has 7 fields"),
        ("60 * * * *", "field 1 (minute): '60': 60 lies outside 0 to 59"),
        ("* 24 * * *", "field 2 (hour): '24': 24 lies outside 0 to 23"),
        ("* * 0 * *", "field 3 (day of month): '0': 0 lies outside 1 to 31"),
        ("* * * 13 *", "field 4 (month): '13': 13 lies outside 1 to 12"),
        ("* * * * 8", "field 5 (day of week): '8': 8 lies outside 0 to 7"),
        ("* * * * * 60", "field 6 (second)"),
        ("*/0 * * * *", "the step of '*/0' is 0"),
        ("*/x * * * *", "the step of '*/x' is a whole number, got 'x'"),
        ("*/ * * * *", "the step of '*/' is a whole number, got ''"),
        ("1,,2 * * * *", "nothing between two commas"),
        (",1 * * * *", "nothing between two commas"),
        ("5-5 * * * *", "'5-5' is a range of one; write '5'"),
        ("* 22-2 * * *", "runs backwards; write '22-23,0-2'"),
        ("* * * * sat-mon", "runs backwards; write 'sat,sun-mon'"),
        ("* 23-0 * * *", "runs backwards; write '23,0'"),
        ("* * * 12-2 *", "runs backwards; write '12,1-2'"),
        ("* * * foo *", "'foo' is no number or a name such as 'jan'"),
        ("-5 * * * *", "is no number"),
        ("+5 * * * *", "is no number"),
        ("1.5 * * * *", "is no number"),
        ("1-2-3 * * * *", "'2-3' is no number"),
        ("H * * * *", "'h' is no number"),
        ("R * * * *", "'r' is no number"),
        ("? * * * *", "a '?' stands by itself, in a field of days"),
        ("* * 15W * *", "('W') is not supported"),
        ("* * L/2 * *", "the last day takes no step"),
        ("* * * * L", "the last one of a weekday is written 'L5'"),
        ("* * * * 1#6", "after '#' stands which one of the month, 1 to 5"),
        ("* * * * 1#", "after '#' stands"),
        ("* * * * 1-5#2", "is no number"),
        ("@reboot", "use auto_start=True"),
        ("@every 5m", "'@every 5m' is none of @yearly"),
        ("\u0665 * * * *", "does not belong into cron text"),
        ("*\u00a0* * * *", "does not belong into cron text"),
        ("* * * * *\n", "does not belong into cron text"),
        ("* * * * *\x00", "does not belong into cron text"),
        ("0 " * 129, "258 characters; 256 are allowed"),
        ("0 0 30 2 *", "it never fires"),
        ("0 0 31 2,4,6,9,11 *", "it never fires"),
        ("0 0 30 FEB */7", "it never fires"),
        (None, "cron text is a str"),
        (b"* * * * *", "cron text is a str"),
        (5, "got int"),
        (["* * * * *"], "got list"),
    ],
)
def test_what_is_no_schedule_is_refused_quickly_with_the_field_and_the_reason(text: Any, told: str) -> None:
    """R17, R18, T3-T5."""
    read("* * * * *")  # what has to be imported is there
    start = time.process_time()
    with pytest.raises(ValidationError) as caught:
        Schedule.parse(text, "UTC")
    assert told in str(caught.value)
    assert time.process_time() - start < 1.0  # R18 allows that much; a scan of fifty years took longer


@pytest.mark.parametrize(
    "text",
    ["5-5 0 * * *", "0 23-0 * * *", "50-10 0 * * *", "0 0 1 12-2 *", "0 0 1 dec-jan *", "0 0 * * sat-mon",
     "0 0 * * fri-1", "0 0 31-1 * *"],
)  # fmt: skip
def test_what_is_to_be_written_instead_is_taken(text: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        Schedule.parse(text, "UTC")
    wrong, right = re.search(r": '(\S+)' (?:is|runs) .*write '(\S+)'", str(refusal.value)).groups()  # type: ignore[union-attr]
    assert Schedule.parse(text.replace(wrong, right), "UTC")


def test_all_fields_that_are_wrong_are_told_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        Schedule.parse("60 25 0 13 9", "UTC")
    assert [where.split("field ")[1][0] for where, _ in caught.value.errors] == list("12345")


@pytest.mark.parametrize("zone", [5, ["UTC"], b"UTC"])
def test_a_zone_that_is_no_name_is_refused(zone: Any) -> None:
    with pytest.raises(ValidationError, match="a time zone is an IANA name, got"):
        Schedule.parse("* * * * *", zone)


@pytest.mark.parametrize("zone", ["Europe/Berln", "../../etc/passwd", "", "UTC+1", "/etc/localtime", "\x00"])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(ValidationError, match="there is no time zone"):
        Schedule.parse("* * * * *", zone)


@pytest.mark.parametrize(
    ("value", "name"), [("Asia/Tokyo", "Asia/Tokyo"), (":Asia/Tokyo", "Asia/Tokyo"), ("UTC", "UTC"),
                        (":/usr/share/zoneinfo/Asia/Tokyo", "Asia/Tokyo")]
)  # fmt: skip
def test_the_machines_zone_is_that_of_its_environment(monkeypatch: pytest.MonkeyPatch, value: str, name: str) -> None:
    monkeypatch.setenv("TZ", value)
    assert Schedule.parse("* * * * *").timezone == name


def test_a_zone_of_the_machine_that_has_no_name_is_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "CET-1CEST-2,M3.5.0")
    with pytest.raises(ValidationError, match="give the job a timezone"):
        Schedule.parse("* * * * *")


# ---------------------------------------------------------------------- the object


def test_naive_datetimes_are_of_the_zone_and_aware_ones_of_their_own() -> None:
    """R16."""
    schedule = Schedule.parse("0 12 * * *", "Asia/Tokyo")
    assert schedule.next_after(datetime(2026, 1, 1, 11, 59)).isoformat() == "2026-01-01T12:00:00+09:00"
    assert schedule.next_after(datetime(2026, 1, 1, 2, 59, tzinfo=UTC)).isoformat() == "2026-01-01T12:00:00+09:00"
    assert schedule.next_after(datetime(2026, 1, 1, 3, 0, tzinfo=UTC)).isoformat() == "2026-01-02T12:00:00+09:00"


def test_after_is_strict_and_between_has_its_end_but_not_its_start() -> None:
    schedule, hour = Schedule.parse("@hourly", "UTC"), timedelta(hours=1)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert schedule.next_after(start) == start + hour
    assert schedule.next_after(start + hour - timedelta(microseconds=1)) == start + hour
    assert schedule.between(start, start + 3 * hour) == [start + hour, start + 2 * hour, start + 3 * hour]
    assert schedule.between(start, start) == schedule.between(start, start - hour) == schedule.next(0, start) == []
    assert len(schedule.next(3)) == 3 and schedule.next(1)[0] > datetime.now(UTC)


def test_it_is_a_value() -> None:
    schedule = Schedule.parse("0 12 * * *", "Asia/Tokyo")
    assert schedule == Schedule.parse("0 12 * * *", "Asia/Tokyo") == pickle.loads(pickle.dumps(schedule))
    assert schedule != Schedule.parse("0 12 * * *", "UTC") and schedule != "0 12 * * *"
    assert len({schedule, pickle.loads(pickle.dumps(schedule))}) == 1
    assert repr(schedule) == "<Schedule '0 12 * * *' in Asia/Tokyo>"


def test_the_end_of_the_calendar_is_told() -> None:
    with pytest.raises(OverflowError, match="calendar ends"):
        Schedule.parse("0 0 1 1 *", "UTC").next_after(datetime(9998, 6, 1, tzinfo=UTC))


def test_more_times_than_anyone_can_mean_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert schedule_module.MAX_MANY == 1_000_000
    monkeypatch.setattr(schedule_module, "MAX_MANY", 1_000)
    second = timedelta(seconds=1)
    begin, every_second = datetime(2026, 1, 1, tzinfo=UTC), Schedule.parse("* * * * * *", "UTC")
    assert len(every_second.between(begin, begin + 1_000 * second)) == 1_000
    with pytest.raises(OverflowError, match="more than 1000 "):
        every_second.between(begin, begin + 1_001 * second)
    with pytest.raises(OverflowError, match="more than 1000 "):
        Schedule.parse("* * * * * *", "UTC").between(datetime(2026, 1, 1, tzinfo=UTC), datetime(2126, 1, 1, tzinfo=UTC))


def test_what_is_no_datetime_is_refused() -> None:
    with pytest.raises(ValidationError, match="an instant is a datetime, got float"):
        Schedule.parse("@daily", "UTC").next_after(1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("local", [-62_000_000_000, -1, 0, 951_782_399, 951_782_400, 4_102_444_800, 253_000_000_000])
def test_the_wall_clock_knows_the_calendar(local: int) -> None:
    clock = WallClock(read("* * * * * *"))
    assert clock.next(local) == local
    found = WallClock(read("0 0 * * *")).next(local)
    assert found is not None and 0 <= found - local < 86_400 and found % 86_400 == 0


def pairs_of_versions() -> List[Tuple[str, Any]]:
    return [
        ("*/15 * * * *", (0, 15, 30, 45)), ("59/15 * * * *", (59,)), ("1-10/3 * * * *", (1, 4, 7, 10)),
        ("*/70 * * * *", (0,)), ("5,1,1 * * * *", (1, 5)), ("0-59 * * * *", tuple(range(60))),
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "minutes"), pairs_of_versions())
def test_what_croniter_is_given_means_the_same_to_every_version(text: str, minutes: Tuple[int, ...]) -> None:
    """R25: the contract that lets any allowed croniter stand behind it."""
    assert read(text).minutes == minutes


# ---------------------------------------------------------------------- many at once


@given(
    text=st.sampled_from([text for text in TEXTS if not text.startswith("@")]),
    zone=st.sampled_from(sorted({zone for zone, _ in ZONES})),
    start=st.integers(1_260_000_000, 1_830_000_000),
    length=st.integers(0, 40 * 86_400),
)
@settings(max_examples=60, deadline=None)
def test_times_are_counted_and_the_last_is_found_without_going_through_them(
    text: str, zone: str, start: int, length: int
) -> None:
    schedule, found = Schedule.parse(text, zone), []
    for instant in schedule.instants(start):
        if instant > start + length:
            break
        found.append(instant)
    assert schedule.count(start, start + length) == len(found)
    assert schedule.last_until(start, start + length) == (found[-1] if found else None)


@pytest.mark.parametrize("text", ["0,30 2,3 * * *", "0 2,3 * * *", "30 2 * * *", "0 3 * * *", "*/30 * * * *"])
@pytest.mark.parametrize("change", [datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)])
def test_times_around_a_change_of_the_clocks_are_counted_as_they_fire(text: str, change: datetime) -> None:
    """What is made up for at the first instant after a gap may fall together with what is due then anyway."""
    schedule, at = Schedule.parse(text, "Europe/Berlin"), int(change.timestamp())
    moments = [at + distance for distance in (-7200, -1801, -1, 0, 1, 1800, 3599, 3600, 7200)]
    for start in moments:
        for end in (moment for moment in moments if moment >= start):
            fired = len(schedule.between(datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)))
            assert schedule.count(start, end) == fired, (start - at, end - at)


def test_ten_years_of_seconds_are_counted_without_being_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """R20: the work is bounded however long nobody looked."""
    looks = 0
    look = WallClock.next

    def counted(self: WallClock, local: int) -> Optional[int]:
        nonlocal looks
        looks += 1
        return look(self, local)

    monkeypatch.setattr(WallClock, "next", counted)
    schedule, ten_years = Schedule.parse("* * * * * *", "Europe/Berlin"), 3652 * 86_400
    assert schedule.count(1_500_000_000, 1_500_000_000 + ten_years) == ten_years
    assert schedule.last_until(1_500_000_000, 1_500_000_000 + ten_years) == 1_500_000_000 + ten_years
    assert looks < 200
