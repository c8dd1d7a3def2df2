"""What becomes of due ticks, held against a plain walk over every one of them (DESIGN 6; RELIABILITY R15, R18-R22)."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import Any, List, NamedTuple, Optional, Tuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from blaze import Schedule, ValidationError
from blaze.core.ground.ticks import Passed
from blaze.core.when import decisions
from blaze.core.when.decisions import (
    ALL,
    ALLOW,
    CANCEL_RUNNING,
    CATCHUPS,
    LATEST,
    MAX_CATCHUP,
    MISSED,
    OVERLAP,
    OVERLAPS,
    QUEUE,
    SKIP,
    Decision,
    Start,
    Timing,
    decide,
    first_tick,
    passed,
    unrecorded,
)

UTC = timezone.utc


def epoch(text: str, zone: str = "UTC") -> float:
    """Epoch seconds of a wall-clock time."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


#: An hour of the nights in which clocks change, and others.
NIGHTS = {
    "UTC": ["2026-01-31T23:00", "2028-02-28T22:30"],
    "Europe/Berlin": ["2026-03-29T00:30", "2026-10-25T00:30"],
    "America/New_York": ["2026-03-08T00:30", "2026-11-01T00:30"],
    "Australia/Lord_Howe": ["2026-10-04T00:45", "2026-04-05T00:45"],
    "America/Sao_Paulo": ["2018-11-03T23:00", "2018-02-17T22:00"],
}


class Due(NamedTuple):
    """A job that somebody looks at."""

    timing: Timing
    next_at: int
    now: float
    running: int
    queued: int
    grace: float


# ---------------------------------------------------------------------- the oracle


def walked(due: Due) -> Tuple[List[int], Optional[int]]:
    """Every due tick, and the first one after them, by asking for one after the other."""
    schedule, end_at = due.timing.schedule, due.timing.end_at
    if schedule is None:
        return [due.next_at], None
    ticks, instant = [], due.next_at
    while True:
        following = schedule.after(instant)
        ticks.append(instant)
        if following is None or (end_at is not None and following > end_at):
            return ticks, None
        if following > due.now:
            return ticks, following
        instant = following


def expected(due: Due) -> Tuple[List[Start], List[Tuple[str, List[int]]], bool, Optional[int]]:
    """DESIGN 6, word for word: starts, the ticks of each skipped stretch, whether runs are cancelled, the next tick."""
    ticks, following = walked(due)
    timing = due.timing
    in_time = due.now - ticks[-1] <= due.grace
    if timing.catchup == ALL and len(ticks) > 1:
        to_run = ticks[-MAX_CATCHUP:]
    elif timing.catchup == SKIP and not in_time:
        to_run = []
    else:
        to_run = ticks[-1:]
    skipped = [(MISSED, ticks[: len(ticks) - len(to_run)])] if len(to_run) < len(ticks) else []
    starts: List[Start] = []
    cancels = False
    for tick in to_run:
        free = due.running + due.queued + len(starts) == 0
        if timing.overlap == ALLOW or free:
            starts.append(Start(tick, False))
        elif len(to_run) > 1:
            starts.append(Start(tick, True))
        elif timing.overlap == CANCEL_RUNNING:
            starts.append(Start(tick, True))
            cancels = True
        elif timing.overlap == QUEUE and due.queued < MAX_CATCHUP:
            starts.append(Start(tick, True))
        else:
            skipped.append((OVERLAP, [tick]))
    return starts, skipped, cancels, following


# ---------------------------------------------------------------------- what is drawn


@st.composite
def items(draw: Any, low: int, high: int) -> str:
    first = draw(st.integers(low, high - 1))
    last = draw(st.integers(first + 1, high))
    step = draw(st.integers(2, max(2, (high - low) // 2)))
    return draw(st.sampled_from(["*", "*", f"{first}", f"{first}-{last}", f"*/{step}", f"{first},{last}"]))


@st.composite
def cron_texts(draw: Any) -> str:
    fields = [draw(items(0, 59)), draw(items(0, 4)), "*", "*", "*"]
    if draw(st.integers(0, 3)) == 0:
        fields[draw(st.sampled_from([2, 3, 4]))] = draw(st.sampled_from(["1-6", "2,3,4,5", "*/2"]))
    if draw(st.integers(0, 4)) == 0:
        fields.append(draw(st.sampled_from(["0", "*/20", "7,59"])))
    return " ".join(fields)


@st.composite
def dues(draw: Any) -> Due:
    zone = draw(st.sampled_from(sorted(NIGHTS)))
    begin = int(epoch(draw(st.sampled_from(NIGHTS[zone])), zone)) + draw(st.integers(-7200, 7200))
    schedule: Optional[Schedule] = None
    if draw(st.integers(0, 9)):
        try:
            schedule = Schedule.parse(draw(cron_texts()), zone)
        except ValidationError:
            assume(False)
    first = begin if schedule is None else schedule.after(begin)
    assume(first is not None)
    assert first is not None
    now = first + draw(st.sampled_from([0.0, 0.25, 59.9, 60.0, 3600.0, 8000.5, 30000.0, 200_000.0]))
    end_at: Optional[float] = None
    if schedule is not None and draw(st.booleans()):
        end_at = first + draw(st.sampled_from([0.0, 0.5, 60.0, 4000.0, 7200.0, 500_000.0]))
    timing = Timing(schedule, end_at, draw(st.sampled_from(CATCHUPS)), draw(st.sampled_from(OVERLAPS)))
    return Due(
        timing,
        first,
        now,
        draw(st.integers(0, 2)),
        draw(st.sampled_from([0, 0, 1, MAX_CATCHUP - 1, MAX_CATCHUP])),
        draw(st.sampled_from([0.0, 5.0, 60.0, 1e9])),
    )


def decided(due: Due) -> Decision:
    found = decide(*due)
    assert found is not None
    return found


# ---------------------------------------------------------------------- against the oracle


@given(due=dues())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_decided_is_what_a_walk_over_every_tick_says(due: Due) -> None:
    """R15, R20, R21: the starts, the skipped stretches with their numbers and bounds, the next tick."""
    starts, skipped, cancels, following = expected(due)
    found = decided(due)
    assert list(found.starts) == starts
    told = [(skip.reason, skip.number, skip.first, skip.last) for skip in found.skips]
    assert told == [(reason, len(ticks), ticks[0], ticks[-1]) for reason, ticks in skipped]
    assert found.cancels == cancels
    assert found.next_at == following


@given(due=dues())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_due_tick_is_started_or_in_exactly_one_skipped_stretch(due: Due) -> None:
    """R20, R21: nothing is dropped silently and nothing is told twice."""
    ticks, _ = walked(due)
    found = decided(due)
    started = [start.at for start in found.starts]
    assert len(started) + sum(skip.number for skip in found.skips) == len(ticks)
    stretches = [tick for skip in found.skips for tick in ticks if skip.first <= tick <= skip.last]
    assert sorted([*started, *stretches]) == ticks
    assert started == sorted(started)
    assert len(started) <= MAX_CATCHUP
    assert all(skip.first <= skip.last and skip.number >= 1 for skip in found.skips)
    assert found.next_at is None or found.next_at > due.now


@given(due=dues(), cut=st.floats(0.0, 1.0))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_looking_more_often_decides_about_the_same_ticks(due: Due, cut: float) -> None:
    """R15: drift-free, whenever somebody looks; no tick falls between two looks or into both."""
    between = due.next_at + (due.now - due.next_at) * cut
    timing = due.timing
    whole = passed(timing, due.next_at, due.now)
    first = passed(timing, due.next_at, between)
    assert whole is not None and first is not None
    rest = None if first.following is None else passed(timing, first.following, due.now)
    assert whole.number == first.number + (rest.number if rest else 0)
    assert whole.last == (rest.last if rest else first.last)
    assert whole.following == (rest.following if rest else first.following)


# ---------------------------------------------------------------------- in plain words

MINUTELY = Schedule.parse("* * * * *", "UTC")
NOON = epoch("2026-06-01T12:00")


def timing(
    catchup: str = LATEST, overlap: str = SKIP, end_at: Optional[float] = None, text: Optional[str] = "* * * * *"
) -> Timing:
    return Timing(None if text is None else Schedule.parse(text, "UTC"), end_at, catchup, overlap)


def test_before_its_tick_nothing_is_decided() -> None:
    assert decide(timing(), NOON, NOON - 0.001, 0, 0, 5.0) is None
    assert passed(timing(), NOON, NOON - 0.001) is None


@pytest.mark.parametrize("catchup", CATCHUPS)
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_a_tick_in_time_is_started_whatever_the_policies(catchup: str, overlap: str) -> None:
    found = decide(timing(catchup, overlap), NOON, NOON + 0.02, 0, 0, 5.0)
    assert found == Decision((Start(NOON, False),), (), False, NOON + 60)


def test_a_late_tick_is_missed_by_skip_only_when_it_is_later_than_the_grace() -> None:
    """R20: the grace time."""
    assert decide(timing(SKIP), NOON, NOON + 5.0, 0, 0, 5.0) == Decision((Start(NOON, False),), (), False, NOON + 60)
    late = decide(timing(SKIP), NOON, NOON + 5.001, 0, 0, 5.0)
    assert late is not None
    assert late.starts == () and late.skips == ((MISSED, 1, NOON, NOON),)


@pytest.mark.parametrize(
    ("catchup", "started", "missed"),
    [(SKIP, [], (250, 0, 249)), (LATEST, [249], (249, 0, 248)), (ALL, list(range(150, 250)), (150, 0, 149))],
)
def test_catch_up_runs_none_the_newest_or_the_hundred_newest_oldest_first(
    catchup: str, started: List[int], missed: Tuple[int, int, int]
) -> None:
    """R20: a hundred at most, the newest kept; what is left out is one stretch with its number."""
    found = decide(timing(catchup, ALLOW), NOON, NOON + 249 * 60 + 30, 0, 0, 5.0)
    assert found is not None
    assert [start.at for start in found.starts] == [NOON + 60 * number for number in started]
    number, first, last = missed
    assert found.skips == ((MISSED, number, NOON + 60 * first, NOON + 60 * last),)
    assert found.next_at == NOON + 250 * 60


def test_runs_that_are_made_up_for_come_one_after_the_other() -> None:
    found = decide(timing(ALL, SKIP), NOON, NOON + 150, 0, 0, 5.0)
    assert found is not None
    assert found.starts == (Start(NOON, False), Start(NOON + 60, True), Start(NOON + 120, True))


@pytest.mark.parametrize(
    ("overlap", "starts", "skips", "cancels"),
    [
        (SKIP, (), ((OVERLAP, 1, NOON, NOON),), False),
        (QUEUE, (Start(NOON, True),), (), False),
        (ALLOW, (Start(NOON, False),), (), False),
        (CANCEL_RUNNING, (Start(NOON, True),), (), True),
    ],
)
def test_a_tick_whose_previous_run_goes_on(overlap: str, starts: Any, skips: Any, cancels: bool) -> None:
    """R21: each policy; a skipped tick leaves a record."""
    assert decide(timing(LATEST, overlap), NOON, NOON, 1, 0, 5.0) == Decision(starts, skips, cancels, NOON + 60)


def test_a_full_queue_takes_no_more() -> None:
    found = decide(timing(LATEST, QUEUE), NOON, NOON, 1, MAX_CATCHUP, 5.0)
    assert found is not None
    assert found.starts == () and found.skips == ((OVERLAP, 1, NOON, NOON),)


def test_the_end_is_inclusive() -> None:
    """R19."""
    on_it = passed(timing(end_at=NOON + 120), NOON, NOON + 3600)
    assert on_it == (3, NOON, NOON + 120, None)
    before_it = passed(timing(end_at=NOON + 119.9), NOON, NOON + 3600)
    assert before_it == (2, NOON, NOON + 60, None)
    assert passed(timing(end_at=NOON), NOON, NOON) == (1, NOON, NOON, None)


def test_a_job_that_fires_once_has_ended_then() -> None:
    found = decide(timing(text=None), NOON + 0.25, NOON + 0.25, 0, 0, 5.0)
    assert found == Decision((Start(NOON + 0.25, False),), (), False, None)
    missed = decide(timing(SKIP, text=None), NOON, NOON + 60, 0, 0, 5.0)
    assert missed == Decision((), ((MISSED, 1, NOON, NOON),), False, None)
    for catchup in (LATEST, ALL):
        late = decide(timing(catchup, text=None), NOON, NOON + 86_400, 0, 0, 5.0)
        assert late == Decision((Start(NOON, False),), (), False, None)


class Counting(Schedule):
    """A schedule that counts how often it is asked for a time."""

    __slots__ = ("steps",)

    def after(self, instant: int) -> Optional[int]:
        self.steps = getattr(self, "steps", 0) + 1
        return super().after(instant)


@pytest.mark.parametrize("catchup", CATCHUPS)
@pytest.mark.parametrize(("text", "each"), [("* * * * * *", 1), ("* * * * *", 60), ("0 0 * * *", 86_400)])
def test_ten_years_later_the_work_is_bounded(catchup: str, text: str, each: int) -> None:
    """R22: 315 million ticks are counted and not walked through."""
    made = Schedule.parse(text, "Europe/Berlin")
    schedule = Counting(text, made._zone)
    first = schedule.after(int(NOON))
    assert first is not None
    schedule.steps = 0
    later = first + 3653 * 86_400 + 0.5
    found = decide(Timing(schedule, None, catchup, ALLOW), first, later, 0, 0, 0.1)
    assert found is not None
    assert schedule.steps < 200 + 2 * MAX_CATCHUP
    number = len(found.starts) + sum(skip.number for skip in found.skips)
    assert number == pytest.approx(3653 * 86_400 / each, abs=1 + 3600 / each)
    assert len(found.starts) == {SKIP: 0, LATEST: 1, ALL: MAX_CATCHUP}[catchup]
    assert found.next_at is not None and later < found.next_at <= later + 90_000


# ---------------------------------------------------------------------- the first tick


@pytest.mark.parametrize(
    ("now", "start_at", "first"),
    [
        # Strictly in the future.
        (0.0, None, 60.0),
        (0.5, None, 60.0),
        (59.999, None, 60.0),
        (-0.001, None, 0.0),
        # start_date is inclusive, whatever fraction of a second it has.
        (0.0, 60.0, 60.0),
        (0.0, 120.0, 120.0),
        (0.0, 120.001, 180.0),
        (0.0, 119.999, 120.0),
        (10.2, 10.7, 60.0),
        (-0.7, -0.3, 0.0),
        # One that has passed makes no difference: nothing past is ever fired.
        (0.0, -3600.0, 60.0),
        (0.5, 0.2, 60.0),
        (0.0, 0.0, 60.0),
    ],
)
def test_the_first_tick_lies_in_the_future_at_the_start_date_or_later(
    now: float, start_at: Optional[float], first: float
) -> None:
    """R15, R19."""
    given = None if start_at is None else NOON + start_at
    assert first_tick(MINUTELY, NOON + now, given, None) == NOON + first


def test_a_first_tick_behind_the_end_is_none() -> None:
    """R19: EXHAUSTED at once."""
    assert first_tick(MINUTELY, NOON, None, NOON + 60) == NOON + 60
    assert first_tick(MINUTELY, NOON, None, NOON + 59.9) is None
    assert first_tick(MINUTELY, NOON, NOON + 61, NOON + 119) is None
    assert first_tick(None, NOON, None, NOON - 1) is None


def test_a_job_without_a_schedule_fires_at_its_date_be_it_past_or_now() -> None:
    assert first_tick(None, NOON + 0.25, None, None) == NOON + 0.25
    assert first_tick(None, NOON, NOON - 86_400.5, None) == NOON - 86_400.5
    assert first_tick(None, NOON, NOON + 86_400.5, NOON + 86_400.5) == NOON + 86_400.5


@given(
    now=st.floats(-5000, 5000),
    start=st.one_of(st.none(), st.floats(-5000, 5000)),
    end=st.one_of(st.none(), st.floats(-5000, 9000)),
)
@settings(max_examples=60, deadline=None)
def test_the_first_tick_is_the_earliest_that_the_dates_allow(
    now: float, start: Optional[float], end: Optional[float]
) -> None:
    schedule = Schedule.parse("*/7 * * * *", "Europe/Berlin")
    allowed: List[float] = []
    for tick in schedule.instants(int(NOON) - 10_000):
        if tick > NOON + 20_000:
            break
        if tick > NOON + now and (start is None or tick >= NOON + start) and (end is None or tick <= NOON + end):
            allowed.append(float(tick))
    bounds = [None if moment is None else NOON + moment for moment in (start, end)]
    assert first_tick(schedule, NOON + now, bounds[0], bounds[1]) == (allowed[0] if allowed else None)


def test_the_calendar_ends_and_no_error_does_it() -> None:
    """R18: exhausted years."""
    last = epoch("9998-12-31T23:00")
    far = first_tick(MINUTELY, NOON, last + 10 * 86_400 * 365, None)
    assert far is None
    assert first_tick(Schedule.parse("0 0 1 1 *", "Asia/Tokyo"), NOON, math.floor(last) + 86_400 * 366, None) is None


def test_the_policies_are_the_words_of_the_design() -> None:
    assert CATCHUPS == ("skip", "latest", "all")
    assert OVERLAPS == ("skip", "queue", "allow", "cancel_running")
    assert decisions.MAX_CATCHUP == 100


@pytest.mark.parametrize(
    ("recorded", "left"),
    [
        ([], [(11, 0, 50)]),
        ([(0, 50)], []),
        ([(-30, 80)], []),
        ([(0, 0)], [(10, 5, 50)]),
        ([(50, 50)], [(10, 0, 45)]),
        ([(20, 20), (25, 35)], [(4, 0, 15), (3, 40, 50)]),
        ([(10, 10), (20, 20), (30, 30)], [(2, 0, 5), (1, 15, 15), (1, 25, 25), (4, 35, 50)]),
        ([(-20, 5), (41, 60)], [(7, 10, 40)]),
        ([(10, 40), (20, 30)], [(2, 0, 5), (2, 45, 50)]),
        ([(12, 13)], [(3, 0, 10), (8, 15, 50)]),
    ],
)
def test_what_is_recorded_of_a_stretch_is_left_out(recorded: Any, left: Any) -> None:
    """The clock was set back: what is left are the ticks between those that are recorded."""
    schedule = Schedule.parse("* * * * * */5", "UTC")
    assert [tuple(some[:3]) for some in unrecorded(schedule, Passed(11, 0, 50), recorded)] == left


@pytest.mark.parametrize(("recorded", "left"), [([], 1), ([(7.25, 7.25)], 0)])
def test_a_single_tick_is_left_if_it_is_not_recorded(recorded: Any, left: int) -> None:
    assert len(unrecorded(None, Passed(1, 7.25, 7.25), recorded)) == left
