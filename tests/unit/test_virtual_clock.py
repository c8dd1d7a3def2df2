"""Time that is driven by hand: what is due happens in order, always the same way.

DESIGN 5, 9; RELIABILITY R22, R23.
"""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import pytest

from blaze import (
    Blaze,
    BlazeBlock,
    BlazeError,
    BlazeSequence,
    BlockStatus,
    Retry,
    RunStatus,
    SeqBlockData,
    SubmitSequenceData,
    ValidationError,
    current,
)
from blaze.testing import VirtualClock
from blaze.testing import clock as clocks

UTC = timezone.utc
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
#: Real seconds after which a test gives up.
PATIENCE = 10.0


class Stage:
    """A clock, a registry and schedulers in memory."""

    def __init__(self) -> None:
        self.clock = VirtualClock(NOON)
        self.blocks = BlazeBlock()
        self.sequences = BlazeSequence()
        self.schedulers: List[Blaze] = []
        #: What happened, and how many seconds after noon.
        self.trace: List[Tuple[Any, ...]] = []
        self.gate = threading.Event()

    def note(self, *what: Any) -> None:
        self.trace.append((*what, (self.clock.now - NOON).total_seconds()))

    def sequence(self, name: str, function: Callable[..., Any], **settings: Any) -> None:
        block = {key: settings.pop(key) for key in list(settings) if not key.startswith("seq_")}
        self.blocks.block(name=name, **block)(function)
        self.sequences.sequence(blocks=self.blocks, sequence=[SeqBlockData(name)], seq_id=name, **settings)(
            lambda context=None: context
        )

    def start(self, *jobs: SubmitSequenceData, **settings: Any) -> Blaze:
        settings = {"durability": "memory", "max_workers": 1, "clock": self.clock, **settings}
        scheduler = Blaze(sequences=self.sequences, **settings)
        self.schedulers.append(scheduler.start())
        scheduler.submit(list(jobs))
        return scheduler

    def close(self) -> None:
        self.gate.set()
        for scheduler in self.schedulers:
            scheduler.stop(grace=0.0)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def every(interval: str, name: str, **settings: Any) -> SubmitSequenceData:
    return SubmitSequenceData(name, seq_run_interval=interval, timezone="UTC", **settings)


# ---------------------------------------------------------------------- being told the time


@pytest.mark.parametrize(
    ("start", "now"),
    [
        (None, datetime(2026, 1, 1, tzinfo=UTC)),
        (NOON, NOON),
        (datetime(2026, 1, 1, 12), NOON),
        (datetime(2026, 1, 1, 13, tzinfo=timezone(timedelta(hours=1))), NOON),
        (NOON.timestamp(), NOON),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_it_begins_where_it_is_told(start: Any, now: datetime) -> None:
    assert VirtualClock(start).now == now


@pytest.mark.parametrize("start", ["2026-01-01", True, NOON.date(), [1]])
def test_what_is_no_instant_is_refused(start: Any) -> None:
    with pytest.raises(ValidationError, match="an instant is a datetime or epoch seconds"):
        VirtualClock(start)


def test_time_stands_still_until_it_is_driven(stage: Stage) -> None:
    clock = stage.clock
    before = clock.time(), clock.monotonic()
    stage.start()
    clock.settle()
    assert (clock.time(), clock.monotonic()) == before


def test_both_clocks_go_on_together_and_only_the_wall_clock_is_set(stage: Stage) -> None:
    """R23."""
    clock = stage.clock
    wall, monotonic = clock.time(), clock.monotonic()
    assert clock.advance(days=1, hours=2, minutes=3, seconds=4.5) == NOON + timedelta(
        days=1, hours=2, minutes=3, seconds=4.5
    )
    clock.jump(-86_400)
    clock.jump(10)
    passed = 86_400 + 2 * 3600 + 184.5
    assert clock.monotonic() - monotonic == passed
    assert clock.time() - wall == passed - 86_390


def test_it_advances_to_an_instant(stage: Stage) -> None:
    clock = stage.clock
    assert clock.advance(until=datetime(2026, 1, 1, 13)) == NOON + timedelta(hours=1)
    assert clock.advance(until=NOON + timedelta(hours=1)) == NOON + timedelta(hours=1)
    clock.jump(3600)
    assert clock.advance(until=NOON + timedelta(hours=3)) == NOON + timedelta(hours=3)


@pytest.mark.parametrize("wanted", [{"seconds": -1}, {"until": NOON - timedelta(seconds=1)}])
def test_time_goes_forwards_only(stage: Stage, wanted: Any) -> None:
    with pytest.raises(ValidationError, match=r"jump\(\) sets the wall clock"):
        stage.clock.advance(**wanted)
    assert stage.clock.now == NOON


# ---------------------------------------------------------------------- driving


def test_whatever_is_due_happens_in_order_and_at_its_own_instant(stage: Stage) -> None:
    stage.sequence("a", lambda: stage.note("a"))
    stage.sequence("b", lambda: stage.note("b"))
    stage.start(every("*/2 * * * *", "a"), every("*/3 * * * *", "b", priority=1))
    stage.clock.advance(minutes=6)
    assert stage.trace == [("a", 120), ("b", 180), ("a", 240), ("b", 360), ("a", 360)]


def test_to_next_tick_goes_from_one_due_instant_to_the_next(stage: Stage) -> None:
    def flaky() -> None:
        stage.note("flaky", current().attempt)
        if current().attempt == 1:
            raise ValueError("again")

    stage.sequence("flaky", flaky, retries=1, retry_delay=90)
    stage.sequence("tick", lambda: stage.note("tick"))
    stage.start(every("* * * * *", "tick"), SubmitSequenceData("flaky"))
    seen = [(stage.clock.to_next_tick() - NOON).total_seconds() for _ in range(4)]
    assert seen == [60, 90, 120, 180]
    assert stage.trace == [("flaky", 1, 0), ("tick", 60), ("flaky", 2, 90), ("tick", 120), ("tick", 180)]


def test_to_next_tick_says_when_nothing_will_ever_be_due(stage: Stage) -> None:
    with pytest.raises(BlazeError, match="nothing will be due: no job is active, and nothing waits"):
        stage.clock.to_next_tick()
    stage.start()
    with pytest.raises(BlazeError, match="nothing will be due"):
        stage.clock.to_next_tick()
    assert stage.clock.now == NOON


def test_settling_does_what_is_due_and_lets_no_time_pass(stage: Stage) -> None:
    stage.sequence("tick", lambda: stage.note("tick"))
    stage.start(SubmitSequenceData("tick"), every("* * * * *", "tick", job_id="later"))
    stage.clock.settle()
    assert stage.trace == [("tick", 0)]


def test_a_jump_brings_what_is_due_by_the_wall_clock_and_no_retry(stage: Stage) -> None:
    """R22, R23."""

    def flaky() -> None:
        stage.note("flaky", current().attempt)
        if current().attempt == 1:
            raise ValueError("again")

    stage.sequence("flaky", flaky, retries=1, retry_delay=600)
    stage.sequence("tick", lambda: stage.note("tick"))
    stage.start(every("0 * * * *", "tick"), SubmitSequenceData("flaky"))
    stage.clock.jump(3600)
    assert stage.trace == [("flaky", 1, 0), ("tick", 3600)]
    stage.clock.advance(seconds=600)
    assert stage.trace[2:] == [("flaky", 2, 4200)]


def play() -> List[Tuple[Any, ...]]:
    """A busy day, and everything that was seen of it."""
    stage = Stage()
    numbers = iter(range(10_000))

    def flaky() -> None:
        stage.note("flaky", current().scheduled_at, current().attempt)
        if next(numbers) % 3:
            raise Retry(delay=37.5)

    stage.sequence("flaky", flaky, retries=2)
    for name in "abc":
        stage.sequence(name, lambda name=name: stage.note(name, current().scheduled_at))

    # Blocks and hooks have threads of their own, and those that tell the hooks have too: each keeps its order.
    told: Dict[str, List[Any]] = {name: [] for name in ("on_run_end", "on_retry", "on_skip", "on_late")}

    def hook(name: str) -> Callable[[Any], None]:
        return lambda event: told[name].append((event.seq_id, event.reason, stage.clock.time()))

    scheduler = stage.start(
        every("*/10 * * * *", "a", overlap="queue"), every("*/15 * * * *", "b", priority=3),
        every("0 */2 * * *", "flaky", overlap="skip"), every("*/30 * * * *", "c", catchup="all"),
        **{name: hook(name) for name in told},
    )  # fmt: skip
    stage.clock.advance(hours=5)
    scheduler.pause_job("b")
    stage.clock.jump(-1800)
    stage.clock.advance(hours=3)
    scheduler.resume_job("b")
    stage.clock.jump(7200)
    stage.clock.advance(hours=3)
    stage.trace += [(run.seq_id, run.status, run.reason, run.scheduled, run.created, run.started, run.ended, run.missed)
                    for run in scheduler.state.runs(limit=1000).items]  # fmt: skip
    stage.close()
    assert all(told.values())
    return [*stage.trace, *sorted(told.items())]


def test_the_same_program_leaves_the_same_trace() -> None:
    first = play()
    assert len(first) > 200
    assert play() == first


# ---------------------------------------------------------------------- waiting in virtual time


def test_retries_wait_in_virtual_time_only(stage: Stage) -> None:
    def fails() -> None:
        stage.note(current().attempt)
        raise ValueError("no")

    stage.sequence("fails", fails, retries=3, retry_delay=600, retry_backoff=2.0, seq_run_timeout=None)
    begin = time.monotonic()
    handle = stage.start().trigger("fails")
    stage.clock.advance(hours=7)
    assert stage.trace == [(1, 0), (2, 600), (3, 1800), (4, 4200)]
    assert handle.result(PATIENCE).status is RunStatus.FAILED
    assert time.monotonic() - begin < PATIENCE


def test_timeouts_of_runs_strike_in_virtual_time(stage: Stage) -> None:
    def waits() -> None:
        raise Retry(delay=10_000)

    stage.sequence("waits", waits, retries=1, seq_run_timeout=3600)
    handle = stage.start().trigger("waits")
    stage.clock.advance(seconds=3599)
    assert handle.status is not RunStatus.FAILED
    stage.clock.advance(seconds=1)
    result = handle.result(PATIENCE)
    assert (result.status, result.reason) == (RunStatus.FAILED, "timeout")
    assert result.ended_at == NOON + timedelta(seconds=3600)


def test_a_block_that_never_returns_is_waited_for_and_then_time_goes_on_and_its_timeout_strikes(stage: Stage) -> None:
    stage.clock._patience = 0.05
    inside = threading.Event()

    def hangs() -> None:
        inside.set()
        while not stage.gate.wait(0.001):
            pass

    stage.sequence("hangs", hangs, timeout=600)
    stage.sequence("tick", lambda: stage.note("tick"))
    scheduler = stage.start(every("*/5 * * * *", "tick"), max_workers=2)
    handle = scheduler.trigger("hangs")
    stage.clock.advance(minutes=9)
    assert inside.is_set()
    assert stage.trace == [("tick", 300)]
    assert handle.status is RunStatus.RUNNING
    stage.clock.advance(minutes=2)
    result = handle.result(PATIENCE)
    assert (result.status, result.steps["hangs"].status) == (RunStatus.FAILED, BlockStatus.FAILED)
    assert result.ended_at is not None and result.ended_at - NOON < timedelta(seconds=601)
    assert stage.trace == [("tick", 300), ("tick", 600)]


def test_an_async_block_is_waited_for(stage: Stage) -> None:
    import asyncio

    async def fetch() -> int:
        await asyncio.sleep(0.01)
        return 7

    stage.sequence("fetch", fetch)
    handle = stage.start().trigger("fetch")
    stage.clock.settle()
    assert handle.done() and handle.result(PATIENCE).outputs["fetch"] == 7


# ---------------------------------------------------------------------- who drives


def test_it_is_driven_by_one_at_a_time_and_not_from_a_block(stage: Stage) -> None:
    refused: List[Optional[str]] = []

    def drives() -> None:
        for drive in (stage.clock.settle, stage.clock.to_next_tick, lambda: stage.clock.advance(hours=1),
                      lambda: stage.clock.jump(1)):  # fmt: skip
            try:
                drive()
                refused.append(None)
            except BlazeError as error:
                refused.append(str(error))

    stage.sequence("drives", drives)
    stage.start(every("* * * * *", "drives"))
    stage.clock.advance(minutes=1)
    assert len(refused) == 4
    assert {told and "is being driven already" in told for told in refused} == {True}
    assert stage.clock.now == NOON + timedelta(minutes=1)


def test_it_can_be_driven_again_after_an_error(stage: Stage) -> None:
    with pytest.raises(ValidationError):
        stage.clock.advance(seconds=-1)
    with pytest.raises(BlazeError):
        stage.clock.to_next_tick()
    assert stage.clock.advance(seconds=1) == NOON + timedelta(seconds=1)


def test_several_schedulers_live_by_one_clock(stage: Stage) -> None:
    for name in "ab":
        stage.sequence(name, lambda name=name: stage.note(name))
    first = stage.start(every("*/2 * * * *", "a"))
    stage.start(every("*/3 * * * *", "b"))
    stage.clock.advance(minutes=5)
    assert stage.trace == [("a", 120), ("b", 180), ("a", 240)]
    first.stop()
    stage.clock.advance(minutes=5)
    assert stage.trace[3:] == [("b", 360), ("b", 540)]


def test_a_stopped_scheduler_is_forgotten(stage: Stage) -> None:
    for _ in range(3):
        stage.start().stop()
    assert stage.clock._workers == []
    assert stage.clock._waiting == {}


def test_what_is_due_and_never_done_is_an_error_and_no_endless_loop(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "STUCK_AFTER", 0.05)

    class Stuck:
        def is_busy(self, blocks: bool = True) -> bool:
            return False

        def next_moment(self) -> Optional[float]:
            return stage.clock.monotonic()

        next_within_runs = next_moment

        def is_watching(self) -> bool:
            return False

    stuck = Stuck()
    stage.clock.attach(stuck)
    with pytest.raises(BlazeError, match=r"what was due at 2026-01-01T12:00:00.* is not done"):
        stage.clock.advance(hours=1)
    stage.clock.detach(stuck)
    assert stage.clock.advance(hours=1) == NOON + timedelta(hours=1)
