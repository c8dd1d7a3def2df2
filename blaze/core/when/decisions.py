"""What becomes of the ticks that are due: which are run, which are skipped and why, and which comes next.

Pure functions of a job, of the runs that it has open and of the time. The work is bounded however long
nobody looked: ticks are counted and not walked through.
"""

from __future__ import annotations

import math
from typing import List, NamedTuple, Optional, Tuple

from ..ground.ticks import Passed, Recorded
from .schedule import Schedule

#: What is done about ticks that passed while nothing ran (``SubmitSequenceData.catchup``)...
SKIP, LATEST, ALL = "skip", "latest", "all"
CATCHUPS = (SKIP, LATEST, ALL)
#: ...and about one whose previous run has not ended (``overlap``).
QUEUE, ALLOW, CANCEL_RUNNING = "queue", "allow", "cancel_running"
OVERLAPS = (SKIP, QUEUE, ALLOW, CANCEL_RUNNING)

#: Most runs that ``catchup="all"`` makes up for at once, and most that ``overlap="queue"`` lets wait.
MAX_CATCHUP = 100

#: Why a tick is not run.
MISSED, OVERLAP = "missed", "overlap"


class Timing(NamedTuple):
    """When a job fires, and what is done about ticks that it could not have in time."""

    #: None: it fires once.
    schedule: Optional[Schedule]
    #: Epoch seconds, inclusive, or None.
    end_at: Optional[float]
    catchup: str
    overlap: str


class Start(NamedTuple):
    """A tick that gets a run."""

    at: float
    #: It waits until the job's runs before it have ended.
    queued: bool


class Skip(NamedTuple):
    """Ticks that get none, and why."""

    reason: str
    number: int
    first: float
    last: float


class Decision(NamedTuple):
    """What becomes of a job's ticks that are due."""

    #: Oldest first.
    starts: Tuple[Start, ...]
    skips: Tuple[Skip, ...]
    #: Whether the job's runs that go on are to be cancelled.
    cancels: bool
    #: The next tick; None: the job has ended.
    next_at: Optional[float]


def first_tick(
    schedule: Optional[Schedule], now: float, start_at: Optional[float], end_at: Optional[float]
) -> Optional[float]:
    """The first tick of a job that is submitted ``now``; None if there is none.

    A job without a schedule has its one at ``start_at``, be it past, or now. That of
    others lies in the future, at ``start_at`` or later.
    """
    if schedule is None:
        found: Optional[float] = now if start_at is None else start_at
    else:
        after = math.floor(now)
        if start_at is not None and start_at > now:
            after = math.ceil(start_at) - 1
        found = schedule.after(after)
    return None if found is None or (end_at is not None and found > end_at) else found


def passed(timing: Timing, next_at: float, now: float) -> Optional[Passed]:
    """The ticks that are due, from ``next_at`` on; None if there is none yet."""
    schedule, end_at = timing.schedule, timing.end_at
    if next_at > now:
        return None
    if schedule is None:
        return Passed(1, next_at, next_at, None)
    first = math.floor(next_at)
    until = math.floor(now if end_at is None else min(now, end_at))
    following = schedule.after(first)
    count, last = 1, first
    if following is not None and following <= until:
        last = schedule.last_until(first, until) or first
        count = 1 + schedule.count(first, last)
        following = schedule.after(last)
    if following is not None and end_at is not None and following > end_at:
        following = None
    return Passed(count, first, last, following)


def decide(timing: Timing, next_at: float, now: float, running: int, queued: int, grace: float) -> Optional[Decision]:
    """What becomes of the ticks that are due ``now``; None if none is.

    - ``running``, ``queued``: the job's runs that have begun and not ended, and those that wait for them.
    - ``grace``: seconds by which the newest tick may be late and still count as in time.
    """
    due = passed(timing, next_at, now)
    if due is None:
        return None
    ticks = _to_run(timing, due, now - due.last <= grace)
    skips: List[Skip] = []
    if len(ticks) < due.number:
        skips.append(_missed(timing.schedule, due, ticks))
    starts: List[Start] = []
    cancels = False
    for tick in ticks:
        if timing.overlap == ALLOW or not running + queued + len(starts):
            starts.append(Start(tick, False))
        elif len(ticks) > 1:
            starts.append(Start(tick, True))  # made up for: one after the other
        elif timing.overlap == QUEUE and queued < MAX_CATCHUP:
            starts.append(Start(tick, True))
        elif timing.overlap == CANCEL_RUNNING:
            starts.append(Start(tick, True))
            cancels = True
        else:
            skips.append(Skip(OVERLAP, 1, tick, tick))
    return Decision(tuple(starts), tuple(skips), cancels, due.following)


def _to_run(timing: Timing, due: Passed, in_time: bool) -> List[float]:
    """The due ticks that get a run, oldest first."""
    if in_time and (due.number == 1 or timing.catchup == SKIP):
        return [due.last]
    if timing.catchup == SKIP:
        return []
    if timing.catchup == LATEST or due.number == 1 or timing.schedule is None:
        return [due.last]
    return _newest(timing.schedule, due)


def _newest(schedule: Schedule, due: Passed) -> List[float]:
    """The newest of the due ticks, at most :data:`MAX_CATCHUP`."""
    first, last = math.floor(due.first), math.floor(due.last)
    after = first - 1
    if due.number > MAX_CATCHUP:
        # The latest instant after which there are still so many.
        width = MAX_CATCHUP
        while schedule.count(last - width, last) < MAX_CATCHUP:
            width *= 2
        low, high = last - width, last - MAX_CATCHUP + 1
        while high - low > 1:
            middle = (low + high) // 2
            if schedule.count(middle, last) >= MAX_CATCHUP:
                low = middle
            else:
                high = middle
        after = low
    found: List[float] = []
    for instant in schedule.instants(after):
        if instant > last:
            break
        found.append(instant)
    return found


def unrecorded(schedule: Optional[Schedule], stretch: Passed, recorded: Recorded) -> List[Passed]:
    """What is left of a stretch of ticks without those that are recorded already."""
    if not recorded:
        return [stretch]
    if schedule is None:
        return []
    found: List[Passed] = []
    place, end = math.floor(stretch.first) - 1, math.floor(stretch.last)
    for first, last in (*recorded, (end + 1, end + 1)):
        until = min(math.floor(first) - 1, end)
        tick = schedule.after(place)
        if tick is not None and tick <= until:
            found.append(Passed(schedule.count(place, until), tick, schedule.last_until(place, until) or tick))
        place = max(place, math.floor(last))
    return found


def _missed(schedule: Optional[Schedule], due: Passed, ticks: List[float]) -> Skip:
    """The due ticks before those that are run, as one."""
    count = due.number - len(ticks)
    last = due.last
    if ticks and schedule is not None:
        first = math.floor(due.first)
        last = first if count == 1 else schedule.last_until(first - 1, math.floor(ticks[0]) - 1) or first
    return Skip(MISSED, count, due.first, last)
