"""A scheduler in one process, on virtual time: ticks, catch-up, overlap, hooks, faults.

DESIGN 3, 5, 6; RELIABILITY R3, R5, R13, R15, R20-R24.
"""

from __future__ import annotations

import gc
import json
import logging
import sqlite3
import threading
from collections import Counter
from contextlib import closing
from datetime import datetime, timedelta

import pytest

from blaze import BlazeError, BlazeSequence, JobStatus, RunStatus, RunSuspended, Schedule, SeqBlockData, StateError
from blaze import SubmitSequenceData as Submission
from blaze.core import ticking
from blaze.core.firing import Firing
from blaze.core.ground.clock import as_datetime
from blaze.core.remember import ticks
from blaze.testing import VirtualClock
from tests.integration.timed import SHORT, UTC, Timed, at, clock_time, history, job, open_descriptors
from tests.integration.workbench import PATIENCE, wait, wait_until, within_patience
from tests.unit.test_schedule import brute, minutes_of


@pytest.fixture
def timed(tmp_path):
    timed = Timed(tmp_path)
    yield timed
    timed.close()


def registry(timed, *names):
    """Some of the sequences."""
    found = BlazeSequence()
    for name in names:
        found._sequences[name] = timed.bench.sequences[name]
    return found


# ---------------------------------------------------------------------- ticks at their nominal times

#: Zone, year, and the days on which its clocks change in that year.
CHANGES = [
    ("America/New_York", ["2026-03-08", "2026-11-01"]),
    ("Europe/Berlin", ["2026-03-29", "2026-10-25"]),
    ("Australia/Lord_Howe", ["2026-04-05", "2026-10-04"]),
    ("America/Sao_Paulo", ["2018-02-18", "2018-11-04"]),
]


@pytest.mark.parametrize(("zone", "days"), CHANGES)
def test_on_the_day_on_which_the_clocks_change_every_tick_comes_once_and_at_its_time(tmp_path, zone, days):
    """R13, R15, T1, T2: as the schedule says, and as a scan of every minute does."""
    texts = ["0 * * * *", "30 2 * * *", "*/7 * * * *", "15,45 0-3 * * *"]
    for day in days:
        middle = datetime.fromisoformat(day).replace(tzinfo=UTC)
        begin, end = middle - timedelta(hours=12), middle + timedelta(hours=20)
        timed = Timed(tmp_path, begin)
        timed.start(*(job(interval=text, job_id=f"j{i}", timezone=zone) for i, text in enumerate(texts)),
                    durability="memory")  # fmt: skip
        timed.clock.advance(until=end)
        moments = minutes_of(zone, begin - timedelta(days=2), end + timedelta(minutes=1))
        for number, text in enumerate(texts):
            found = [moment for name, moment in timed.noted if name == f"j{number}"]
            schedule = Schedule.parse(text, zone).between(begin, end)
            assert found == [moment.astimezone(UTC) for moment in schedule], text
            assert found == [moment for moment in brute(text, moments) if moment > begin], text
        timed.close()


def test_a_year_of_nights_has_a_run_each_in_every_zone(tmp_path):
    """R13, R15: also where the time is skipped or comes twice; no drift."""
    zones = ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe"]
    timed = Timed(tmp_path, datetime(2026, 1, 1, tzinfo=UTC))
    timed.start(*(job(interval="30 2 * * *", job_id=zone.replace("/", "."), timezone=zone) for zone in zones),
                durability="memory")  # fmt: skip
    timed.clock.advance(days=365)
    for zone in zones:
        found = [moment for name, moment in timed.noted if name == zone.replace("/", ".")]
        expected = Schedule.parse("30 2 * * *", zone).between(at("00:00:00"), datetime(2027, 1, 1, tzinfo=UTC))
        assert len(found) == 365
        assert found == [moment.astimezone(UTC) for moment in expected]


def test_the_start_of_every_run_is_its_tick_and_nothing_is_late(timed):
    """R24."""
    starts = []
    timed.sequence("exact", lambda: starts.append(timed.clock.now))
    scheduler = timed.start(job("exact", "*/7 * * * *"), hooks=["on_late"])
    timed.clock.advance(hours=1)
    assert starts == [run.scheduled_at for run in reversed(scheduler.state.runs(limit=100).items)]
    assert set(scheduler.state.lateness()) == {0.0}
    assert timed.told == []


# ---------------------------------------------------------------------- catch-up


@pytest.mark.parametrize(
    ("catchup", "ran", "recorded"),
    [
        ("skip", [], [("SKIPPED", "missed", 5, "12:01:00", "12:05:00")]),
        ("latest", ["12:05:00"], [("SKIPPED", "missed", 4, "12:01:00", "12:04:00")]),
        ("all", [f"12:0{minute}:00" for minute in range(1, 6)], []),
    ],
)
def test_what_passed_while_nothing_ran_is_caught_up_with_as_the_job_says(timed, catchup, ran, recorded):
    """R20: missed ticks are counted and visible."""
    scheduler = timed.start(job(catchup=catchup))
    timed.clock.advance(minutes=1)
    scheduler.stop()
    timed.clock.advance(minutes=5)
    assert timed.times() == ["12:00:00"]
    scheduler = timed.start(hooks=["on_skip", "on_late"], max_workers=1)
    assert timed.times() == ["12:00:00", *ran]
    assert [entry for entry in history(scheduler) if entry[0] == "SKIPPED"] == recorded
    skips = [event for hook, event in timed.told if hook == "on_skip"]
    assert [(event.reason, event.missed) for event in skips] == [(entry[1], entry[2]) for entry in recorded]
    # Those that wait for the one before start when it is their turn; the first is told to be late.
    assert [hook for hook, _ in timed.told].count("on_late") == min(1, len(ran))
    timed.clock.advance(minutes=1)
    assert timed.times()[-1] == "12:06:00"


def test_of_very_many_missed_ticks_the_newest_hundred_are_made_up_for_oldest_first(timed):
    """R20, R22: bounded, however long that was."""
    timed.start(job(interval="* * * * * *", catchup="all")).stop()
    timed.clock.advance(days=3650)
    scheduler = timed.start(max_workers=4)
    last = timed.clock.now
    assert [moment for _, moment in timed.noted] == [last - timedelta(seconds=99 - number) for number in range(100)]
    (skipped,) = scheduler.state.runs(status="SKIPPED").items
    assert skipped.missed == 3650 * 86_400 - 100
    assert skipped.scheduled_at == last - timedelta(seconds=100)
    timed.clock.advance(seconds=2)
    assert len(timed.noted) == 102


def test_a_restart_within_the_grace_is_no_miss(timed):
    """R20: the grace time."""
    timed.start(job(catchup="skip")).stop()
    timed.clock.advance(seconds=14)
    scheduler = timed.start(hooks=["on_late"])
    assert timed.times() == ["12:00:00"] and timed.told == []
    assert scheduler.state.lateness() == [4.0]


def test_what_is_made_up_for_at_once_where_runs_may_overlap(timed):
    timed.lasting("long", 600)
    timed.start(job("long", catchup="all", overlap="allow")).stop()
    timed.clock.advance(minutes=3)
    scheduler = timed.start()
    assert sorted(timed.times()) == ["12:00:00", "12:01:00", "12:02:00"]
    assert len(scheduler.runs) == 3


def test_what_is_made_up_for_runs_one_after_the_other_where_they_may_not(timed):
    timed.lasting("long", 90)
    timed.start(job("long", interval="*/10 * * * *", catchup="all")).stop()
    timed.clock.advance(minutes=25)
    timed.start()
    assert timed.times() == ["12:00:00"]
    timed.clock.advance(seconds=89)
    assert timed.times() == ["12:00:00"]
    timed.clock.advance(seconds=1)
    assert timed.times() == ["12:00:00", "12:10:00"]
    timed.clock.advance(seconds=90)
    assert timed.times() == ["12:00:00", "12:10:00", "12:20:00"]


# ---------------------------------------------------------------------- overlap


@pytest.mark.parametrize(
    ("overlap", "ran", "recorded"),
    [
        (
            "skip",
            ["12:00:00", "12:03:00"],
            [("COMPLETED", None), ("SKIPPED", "overlap"), ("SKIPPED", "overlap"), ("RUNNING", None)],
        ),
        (
            "queue",
            ["12:00:00", "12:01:00"],
            [("COMPLETED", None), ("RUNNING", None), ("PENDING", "queued"), ("PENDING", "queued")],
        ),
        (
            "allow",
            ["12:00:00", "12:01:00", "12:02:00", "12:03:00"],
            [("COMPLETED", None), ("COMPLETED", None), ("RUNNING", None), ("RUNNING", None)],
        ),
        (
            "cancel_running",
            ["12:00:00", "12:01:00", "12:02:00", "12:03:00"],
            [("CANCELLED", "overlap"), ("CANCELLED", "overlap"), ("CANCELLED", "overlap"), ("RUNNING", None)],
        ),
    ],
)
def test_a_run_that_lasts_longer_than_its_interval(timed, overlap, ran, recorded):
    """R21: each tick of it leaves a record. The runs last 130 s, ticks come every 60."""
    timed.lasting("long", 130)
    scheduler = timed.start(job("long", overlap=overlap))
    timed.clock.advance(minutes=3, seconds=30)
    assert timed.times() == ran
    assert [entry[:2] for entry in history(scheduler)] == recorded


@pytest.mark.parametrize(
    ("overlap", "at_once", "in_the_end"),
    [
        ("skip", ["12:00:00"], ["12:00:00"]),
        ("queue", ["12:00:00"], ["12:00:00", "12:01:00", "12:02:00"]),
        ("allow", ["12:00:00", "12:01:00", "12:02:00"], ["12:00:00", "12:01:00", "12:02:00"]),
        ("cancel_running", ["12:00:00", "12:01:00", "12:02:00"], ["12:00:00", "12:01:00", "12:02:00"]),
    ],
)
def test_a_block_that_stays_in_its_worker_beyond_the_next_tick(timed, overlap, at_once, in_the_end):
    """R21."""
    timed.clock._patience = 0.15
    timed.waiting("slow")
    scheduler = timed.start(job("slow", overlap=overlap), max_workers=4)
    timed.clock.advance(minutes=2, seconds=30)
    assert timed.times() == at_once
    scheduler.pause_job("slow")
    timed.gate.set()
    timed.clock.settle()
    assert timed.times() == in_the_end
    told = Counter(entry[0] for entry in history(scheduler))
    assert told == {
        "skip": {"COMPLETED": 1, "SKIPPED": 2}, "queue": {"COMPLETED": 3}, "allow": {"COMPLETED": 3},
        "cancel_running": {"CANCELLED": 2, "COMPLETED": 1},
    }[overlap]  # fmt: skip


def test_a_queue_keeps_its_order_and_its_limit(timed):
    """R21: a hundred may wait; what is beyond leaves a record."""
    timed.lasting("long", 3599)
    scheduler = timed.start(job("long", "* * * * * *", overlap="queue", end_date=at("12:02:00")))
    timed.clock.advance(until=at("12:02:01"))
    assert len(timed.noted) == 1
    told = Counter(entry[:2] for entry in history(scheduler))
    assert told[("PENDING", "queued")] == 100
    assert told[("SKIPPED", "overlap")] == 130 - 1 - 100
    timed.clock.advance(hours=30)
    moments = [moment for _, moment in timed.noted]
    assert moments == [at("11:59:51") + timedelta(seconds=number) for number in range(31)]
    scheduler.remove_job("long")
    assert Counter(entry[:2] for entry in history(scheduler))[("CANCELLED", "job_removed")] == 70


def test_the_time_of_a_run_begins_with_its_turn_in_the_queue(timed):
    """Or what is made up for in a row would be overdue before it begins. A run that then lasts too long still is."""
    timed.lasting("long", 50, seq_run_timeout=60)
    timed.lasting("longer", 70, seq_run_timeout=60)
    timed.start(job("long", catchup="all"), job("longer", catchup="all")).stop()
    timed.clock.advance(minutes=3)
    scheduler = timed.start()
    for name in ("long", "longer"):
        scheduler.pause_job(name)
    timed.clock.advance(seconds=30)
    scheduler.stop()
    timed.clock.advance(seconds=10)
    scheduler = timed.start()
    timed.clock.advance(hours=1)
    assert [entry[:2] for entry in history(scheduler, "long")] == [("COMPLETED", None)] * 3
    assert [entry[:2] for entry in history(scheduler, "longer")] == [("FAILED", "timeout")] * 3


def test_a_queue_outlives_a_restart(timed):
    """R5: parameters, order and nominal times."""
    timed.lasting("long", 600)
    timed.start(job("long", overlap="queue", end_date=at("12:02:00")))
    timed.clock.advance(minutes=3)
    timed.schedulers[0].stop()
    timed.clock.advance(minutes=1)
    scheduler = timed.start()
    assert timed.times() == ["12:00:00"]
    timed.clock.advance(hours=1)
    assert timed.times() == ["12:00:00", "12:01:00", "12:02:00"]
    assert [entry[:2] for entry in history(scheduler)] == [("COMPLETED", None)] * 3


def test_a_run_that_overlaps_others_after_its_job_was_changed_counts(timed):
    timed.lasting("long", 600)
    scheduler = timed.start(job("long", overlap="allow"))
    timed.clock.advance(minutes=2)
    scheduler.submit(job("long", overlap="skip"))
    timed.clock.advance(minutes=2)
    assert timed.times() == ["12:00:00", "12:01:00"]


# ---------------------------------------------------------------------- who comes first


def test_of_ticks_due_together_the_most_important_come_first(timed):
    """Also of more of them than one transaction decides about, and of jobs that were never fired before."""
    numbers = [(number * 37) % 101 for number in range(101)]
    timed.start(*(job(job_id=f"p{number:03}", priority=number) for number in numbers), max_workers=1)
    expected = [f"p{number:03}" for number in sorted(numbers, reverse=True)]
    timed.clock.advance(minutes=1)
    assert [name for name, _ in timed.noted] == expected
    timed.noted.clear()
    timed.schedulers[0].submit([job(job_id="newest", priority=1000), job(job_id="last", priority=-1)])
    timed.clock.advance(minutes=1)
    assert [name for name, _ in timed.noted] == ["newest", *expected, "last"]


def test_of_equally_important_ticks_the_longest_due_comes_first(timed):
    timed.start(job(job_id="b"), job(job_id="a", interval="*/2 * * * *")).stop()
    timed.clock.advance(minutes=2)
    timed.start(max_workers=1)
    assert [name for name, _ in timed.noted] == ["a", "b"] or timed.times("b") == ["12:01:00"]


def test_a_job_of_another_process_hides_none_of_the_own(timed):
    """R3: this scheduler's tick comes in time, although another's of the same instant sorts before and behind it."""
    for name in ("aaa", "zzz"):
        timed.noting(name)
    other = timed.scheduler(sequences=registry(timed, "aaa", "zzz"))
    other.submit([job("zzz", priority=-5), job("aaa", priority=9)])
    scheduler = timed.start(job(priority=5), sequences=registry(timed, "tick"))
    timed.clock.advance(minutes=1)
    assert timed.noted == [("tick", at("12:00:00"))]
    assert {found.job_id: found.status.value for found in scheduler.jobs}["zzz"] == "ACTIVE"
    other.start()
    timed.clock.advance(minutes=1)
    assert Counter(name for name, _ in timed.noted) == {"tick": 2, "aaa": 2, "zzz": 2}


def test_thousands_of_due_jobs_of_another_process_hold_up_none_of_the_own(timed):
    timed.noting("other")
    other = timed.scheduler(sequences=registry(timed, "other"))
    other.submit(job("other", job_id=f"other{number}") for number in range(2100))
    timed.start(job(), sequences=registry(timed, "tick"))
    timed.clock.advance(seconds=20)
    assert timed.noted == [("tick", at("12:00:00"))]


@pytest.mark.parametrize("anew", ["block", "sequence"])
def test_what_is_declared_anew_is_what_the_next_tick_runs(timed, anew):
    """As when a module is loaded again, or a cell: what ``trigger`` runs and what a tick runs are the same."""

    def declare_block(word):
        lines = ["@blocks.block(name='say')", f"def say(extra=''): noted.append(('{word}' + extra, None))"]
        names = {"blocks": timed.bench.blocks, "noted": timed.noted, "__name__": "cell"}
        exec(compile("\n".join(lines), "cell.py", "exec"), names)

    def declare_sequence(extra):
        @timed.bench.sequences.sequence(
            blocks=timed.bench.blocks, sequence=[SeqBlockData("say", parameters={"extra": extra})], seq_id="says"
        )
        def says(context=None):
            return None

    declare_block("old")
    declare_sequence("")
    scheduler = timed.start(job("says"))
    timed.clock.advance(minutes=1)
    if anew == "block":
        declare_block("new")
    else:
        declare_sequence("er")
    timed.clock.advance(minutes=1)
    scheduler.run("says", timeout=PATIENCE)
    assert [name for name, _ in timed.noted] == ["old", *["new" if anew == "block" else "older"] * 2]


# ---------------------------------------------------------------------- sequences that start by themselves


def test_a_sequence_that_starts_by_itself_is_scheduled_or_run_once(timed):
    timed.noting("by.interval", auto_start=True, seq_run_interval="* * * * *", timezone="UTC")
    timed.noting("once", auto_start=True)
    scheduler = timed.start()
    assert timed.noted == [("once", None)]
    timed.clock.advance(minutes=1)
    assert timed.noted[1:] == [("by.interval", at("12:00:00"))]
    assert [(found.job_id, found.source) for found in scheduler.jobs] == [("by.interval", "auto_start")]
    scheduler.stop()
    timed.start()
    timed.clock.advance(minutes=1)
    assert timed.noted[2:] == [("once", None), ("by.interval", at("12:01:00"))]


def test_what_the_user_submitted_goes_before_what_the_sequence_says_of_itself(timed):
    timed.noting("auto", auto_start=True, seq_run_interval="* * * * *", timezone="UTC")
    scheduler = timed.scheduler()
    scheduler.submit(job("auto", interval="*/5 * * * *", priority=7))
    scheduler.start()
    timed.clock.advance(minutes=6)
    assert timed.times() == ["12:00:00", "12:05:00"]
    scheduler.submit(job("auto", interval="*/2 * * * *"))
    scheduler.stop()
    scheduler = timed.start()
    assert [(found.interval, found.source) for found in scheduler.jobs] == [("*/2 * * * *", "submitted")]


def test_a_pause_and_a_change_of_a_job_that_the_sequence_brought_outlive_a_restart(timed):
    timed.noting("auto", auto_start=True, seq_run_interval="* * * * *", timezone="UTC")
    timed.start().pause_job("auto")
    timed.schedulers[0].stop()
    changed = Timed(timed.folder)
    changed.clock = timed.clock
    changed.noting("auto", auto_start=True, seq_run_interval="*/3 * * * *", timezone="UTC")
    scheduler = changed.start()
    (found,) = scheduler.jobs
    assert (found.interval, found.status) == ("*/3 * * * *", JobStatus.PAUSED)
    changed.clock.advance(minutes=1)
    assert changed.noted == []
    changed.close()


def test_one_that_can_not_start_by_itself_is_told_and_the_others_do(timed, caplog):
    """DESIGN 6: one bad job never stops the others."""
    timed.sequence("needs.more", lambda table: 0, auto_start=True, seq_run_interval="* * * * *")
    timed.sequence("needs.much", lambda table: 0, auto_start=True)
    timed.noting("bad.cron", auto_start=True, seq_run_interval="0 0 30 2 *")
    timed.noting("fine", auto_start=True, seq_run_interval="* * * * *", timezone="UTC")
    with caplog.at_level(logging.ERROR):
        scheduler = timed.start()
    told = caplog.text + "".join(path.read_text() for path in (timed.folder / "state" / "log").glob("*"))
    for name in ("needs.more", "needs.much", "bad.cron"):
        assert f"'{name}' is not started automatically" in told
    timed.clock.advance(minutes=1)
    assert timed.noted == [("fine", at("12:00:00"))]
    assert [found.job_id for found in scheduler.jobs] == ["fine"]
    # With what it needs it can be submitted, and then the next start lets it be.
    scheduler.submit(job("needs.more", parameters={"step_of_needs_more": {"table": "t"}}))
    scheduler.stop()
    assert [found.job_id for found in timed.start().jobs] == ["fine", "needs.more"]


# ---------------------------------------------------------------------- the clock is set


def test_a_clock_that_is_set_back_fires_nothing_twice_and_does_not_stall(timed):
    """R22, T8."""
    scheduler = timed.start(job(), job(job_id="hourly", interval="0 * * * *"))
    timed.clock.advance(minutes=5)
    before = list(timed.noted)
    timed.clock.jump(-3600)
    assert timed.noted == before
    timed.clock.advance(minutes=59)
    assert timed.noted == before
    timed.clock.advance(minutes=3)
    assert timed.times("tick")[-2:] == ["12:05:00", "12:06:00"]
    assert len(set(timed.noted)) == len(timed.noted) == 8
    assert scheduler.trigger("tick").result(PATIENCE).ok


@pytest.mark.parametrize(("catchup", "ran", "missed"), [("skip", 0, [180]), ("latest", 1, [179]), ("all", 100, [80])])
def test_a_clock_that_is_set_forward_is_caught_up_with_once(timed, catchup, ran, missed):
    """R22: no burst; R24: lateness is stored."""
    scheduler = timed.start(job(catchup=catchup), hooks=["on_late", "on_skip"])
    timed.clock.advance(minutes=1)
    timed.clock.jump(3 * 3600)
    assert len(timed.noted) == 1 + ran
    assert [event.missed for hook, event in timed.told if hook == "on_skip"] == missed
    late = [event for hook, event in timed.told if hook == "on_late"]
    assert len(late) == (1 if ran else 0)
    if ran:
        assert late[0].late == {1: 50.0, 100: 50.0 + 99 * 60}[ran]
        assert max(scheduler.state.lateness()) == late[0].late
    timed.clock.advance(minutes=1)
    assert timed.times()[-1] == "15:01:00"


def test_jumping_back_and_forth_fires_each_tick_at_most_once(timed):
    """R3, R22."""
    timed.start(job(catchup="all", overlap="allow"))
    for step in (600, -1800, 60, 3600, -7200, 30, 30, -30, 7200):
        timed.clock.jump(step)
        timed.clock.advance(minutes=2)
    assert len(timed.noted) == len(set(timed.noted))
    assert sorted(timed.noted) == sorted(timed.noted, key=lambda found: found[1])


def test_waiting_for_a_retry_is_not_changed_by_a_clock_that_is_set(timed):
    """R23: the wall clock says when, the monotonic clock how long."""
    ends = []
    timed.lasting("long", 100)
    timed.start(on_run_end=lambda event: ends.append(timed.clock.monotonic())).trigger("long")
    timed.clock.settle()
    begin = timed.clock.monotonic()
    timed.clock.jump(-86_400)
    timed.clock.advance(seconds=50)
    timed.clock.jump(2 * 86_400)
    timed.clock.advance(seconds=49)
    assert ends == []
    timed.clock.advance(seconds=1)
    assert ends == [begin + 100]


# ---------------------------------------------------------------------- hooks


def told(timed, *hooks):
    return [hook for hook, _ in timed.told if not hooks or hook in hooks]


def test_every_transition_is_told_once_and_in_order(timed):
    def flaky():
        if len([hook for hook, _ in timed.told if hook == "on_retry"]) < 2:
            raise ValueError("not yet")

    timed.sequence("flaky", flaky, retries=3, retry_delay=10)
    hooks = ["on_run_start", "on_run_end", "on_step_end", "on_retry", "on_skip", "on_late"]
    timed.start(job("flaky", job_id="five", interval="*/5 * * * *"), hooks=hooks)
    timed.clock.advance(minutes=1)
    assert told(timed) == ["on_run_start", "on_retry", "on_retry", "on_step_end", "on_run_end"]
    start, first, second, step, end = [event for _, event in timed.told]
    assert {event.run_id for _, event in timed.told} == {start.run_id}
    assert (start.seq_id, start.job_id, start.status, start.scheduled_at) == (
        "flaky", "five", RunStatus.RUNNING, at("12:00:00"),
    )  # fmt: skip
    assert [(event.attempt, event.delay, "not yet" in event.error) for event in (first, second)] == [
        (1, 10.0, True), (2, 10.0, True),
    ]  # fmt: skip
    assert (step.step, step.status.value, step.attempt) == ("step_of_flaky", "COMPLETED", 3)
    assert (end.status, end.seconds, end.error, end.at) == (
        RunStatus.COMPLETED, 20.0, None, at("12:00:20").timestamp(),
    )  # fmt: skip


def test_the_end_of_a_run_is_told_once_however_it_comes(timed):
    timed.clock._patience = SHORT

    def fails():
        raise ValueError("no")

    timed.sequence("fails", fails)
    timed.waiting("slow")
    timed.lasting("overdue", 1000, seq_run_timeout=60)
    scheduler = timed.start(hooks=["on_run_start", "on_run_end"])
    scheduler.trigger("fails").result(PATIENCE)
    handle = scheduler.trigger("slow")
    wait(timed.inside)
    assert handle.cancel()
    handle.result(PATIENCE)
    scheduler.trigger("overdue")
    timed.clock.advance(minutes=2)
    timed.clock.settle()
    ends = [(e.seq_id, e.status.value, e.reason) for hook, e in timed.told if hook == "on_run_end"]
    assert ends == [
        ("fails", "FAILED", None), ("slow", "CANCELLED", "cancelled_by_user"), ("overdue", "FAILED", "timeout"),
    ]  # fmt: skip
    assert told(timed).count("on_run_start") == 3


def test_a_hook_that_fails_changes_nothing_and_is_counted(timed, caplog):
    def raises(event):
        raise SystemExit(event.seq_id)

    scheduler = timed.start(job(), on_run_start=raises, on_step_end=raises, hooks=["on_run_end"])
    timed.clock.advance(minutes=2)
    assert [entry[0] for entry in history(scheduler)] == ["COMPLETED"] * 2
    assert told(timed) == ["on_run_end"] * 2
    health = scheduler.health()
    assert (health.hook_failures, health.ok) == (4, False)
    assert "hooks failed 4 times" in health.problems
    assert "the hook on_run_start failed" in caplog.text


def test_a_hook_that_blocks_holds_up_no_run_and_no_stop_for_ever(timed, monkeypatch, caplog):
    monkeypatch.setattr("blaze.core.do.events.LAST_WORDS", 0.05)
    timed.clock._patience = SHORT
    scheduler = timed.start(job(), on_run_start=lambda event: timed.gate.wait(PATIENCE))
    timed.clock.advance(minutes=3)
    wait_until(lambda: [entry[0] for entry in history(scheduler)] == ["COMPLETED"] * 3)
    within_patience(scheduler.stop)
    assert "hooks were still busy at the stop; 2 events were not told" in caplog.text


def test_a_hook_may_use_the_scheduler(timed):
    timed.noting("after")
    results = []

    def follow(event):
        if event.seq_id == "tick":
            results.append(scheduler.run("after", timeout=PATIENCE).ok)
            scheduler.submit(job(job_id="from.hook", interval="0 0 * * *"))
            scheduler.pause_job("tick")
            results.append(scheduler.status().state)

    scheduler = timed.start(job(), on_run_end=follow)
    timed.clock.advance(minutes=5)
    assert results == [True, "RUNNING"]
    assert timed.times("tick") == ["12:00:00"]
    assert [found.job_id for found in scheduler.jobs] == ["from.hook", "tick"]


@pytest.mark.parametrize("moment", ["while it waits for a retry", "while its block runs", "between two steps"])
def test_a_run_that_a_stop_interrupts_is_told_to_start_once(timed, moment):
    """And its end is told once, by the scheduler that goes on with it."""
    timed.clock._patience = SHORT
    seq_id = "lasting"
    if moment == "while it waits for a retry":
        timed.lasting(seq_id, 600)
    elif moment == "while its block runs":
        timed.waiting(seq_id)
    else:
        timed.bench.step("first", lambda: scheduler._open().engine.pool.hold(True))
        timed.sequence(seq_id, lambda first: None)
        timed.bench.sequences["lasting"].definition.steps[1].dependencies.append("first")
    scheduler = timed.start(hooks=["on_run_start", "on_run_end"])
    handle = scheduler.trigger(seq_id)
    timed.clock.settle()
    scheduler.stop(grace=0.0)
    with pytest.raises(RunSuspended):
        handle.result(PATIENCE)
    timed.gate.set()
    again = timed.start(hooks=["on_run_start", "on_run_end"])
    timed.clock.advance(hours=1)
    assert [found.run_id for found in again.recovered] == [handle.run_id]
    assert again.state.find_run(handle.run_id).status is RunStatus.COMPLETED
    assert told(timed) == ["on_run_start", "on_run_end"]


# ---------------------------------------------------------------------- starting and stopping


def test_a_block_may_stop_its_scheduler(timed):
    def stops():
        timed.noted.append(("stops", None))
        if len(timed.noted) == 1:
            scheduler.stop(grace=0.0)
            stopped.set()

    stopped = threading.Event()
    timed.sequence("stops", stops)
    scheduler = timed.start(hooks=["on_run_end"])
    handle = scheduler.trigger("stops")
    with pytest.raises((RunSuspended, BlazeError)):
        handle.result(PATIENCE)
    wait(stopped)
    assert not scheduler.started
    with pytest.raises(BlazeError, match="was stopped"):
        within_patience(scheduler.status)
    again = timed.start()
    assert len(timed.noted) == 2
    assert again.state.find_run(handle.run_id).status is RunStatus.COMPLETED


def test_a_hook_may_stop_its_scheduler(timed):
    stopped = threading.Event()

    def stop(event):
        scheduler.stop()
        stopped.set()

    scheduler = timed.start(job(), on_run_end=stop)
    timed.clock.advance(minutes=1)
    wait(stopped)
    assert not scheduler.started
    timed.clock.advance(minutes=5)
    assert timed.times() == ["12:00:00"]


def test_a_stopped_scheduler_can_be_started_again(timed):
    scheduler = timed.start(job())
    for _ in range(3):
        timed.clock.advance(minutes=1)
        scheduler.stop()
        scheduler.stop()
        assert not scheduler.started
        scheduler.start()
        scheduler.start()
    timed.clock.advance(minutes=1)
    assert timed.times() == ["12:00:00", "12:01:00", "12:02:00", "12:03:00"]


def test_submitting_and_triggering_work_before_the_start(timed):
    scheduler = timed.scheduler()
    scheduler.submit(job())
    assert scheduler.run("tick", timeout=PATIENCE).ok
    timed.clock.advance(minutes=2)
    assert timed.times() == [None]
    assert scheduler.status().state == "STOPPED"
    scheduler.start()
    timed.clock.settle()
    assert timed.times() == [None, "12:01:00"]


@pytest.mark.parametrize("asked", ["submit", "resume_job", "resume", "trigger"])
def test_whatever_brings_work_wakes_a_sleeping_scheduler_at_once(timed, asked):
    """DESIGN 6: whatever ``loop_interval`` is; and no time has to pass."""
    scheduler = timed.start(job(job_id="once.more", interval="0 0 1 1 *"), loop_interval=1e9)
    scheduler.submit(Submission("tick", job_id="later", start_date=at("12:00:05")))
    if asked == "resume_job":
        scheduler.pause_job("later")
    if asked == "resume":
        scheduler.pause()
    timed.clock.settle()
    if asked == "submit":
        scheduler.submit(Submission("tick", start_date=at("11:00:00")))
        timed.clock.settle()
        assert timed.times() == ["11:00:00"]
    elif asked == "trigger":
        scheduler.trigger("tick")
        timed.clock.settle()
        assert timed.times() == [None]
    else:
        getattr(scheduler, asked)(*["later"] * (asked == "resume_job"))
        timed.clock.settle()
        assert timed.clock.to_next_tick() == at("12:00:05")
        assert timed.times() == ["12:00:05"]


def test_a_stop_in_a_pause_leaves_everything_to_the_next_start(timed):
    scheduler = timed.start(job())
    scheduler.pause()
    handle = scheduler.trigger("tick")
    timed.clock.advance(minutes=1)
    within_patience(scheduler.stop)
    again = timed.start()
    assert again.status().state == "PAUSED" and timed.noted == []
    again.resume()
    timed.clock.settle()
    assert timed.noted == [("tick", None)]
    assert again.state.find_run(handle.run_id).status is RunStatus.COMPLETED
    timed.clock.advance(minutes=1)
    assert timed.times()[-1] == "12:01:00"


def test_a_state_in_memory_has_jobs_too_until_it_is_stopped(timed):
    timed.lasting("long", 90)
    scheduler = timed.start(job(), job("long", overlap="queue"), durability="memory", hooks=["on_run_end"])
    scheduler.pause_job("tick")
    timed.clock.advance(minutes=2)
    scheduler.resume_job("tick")
    timed.clock.advance(minutes=1)
    assert timed.times("tick") == ["12:02:00"]
    assert timed.times("long") == ["12:00:00", "12:01:00"]
    assert history(scheduler, "tick")[0] == ("SKIPPED", "paused", 2, "12:00:00", "12:01:00")
    assert scheduler.health().ok and "long" in str(scheduler.status())
    scheduler.stop()
    scheduler.start()
    assert scheduler.jobs == [] and scheduler.state.runs().items == []
    assert not (timed.folder / "state").exists()


def test_two_hundred_starts_and_stops_leave_nothing_behind(timed):
    """R47: no thread, no file, no memory."""
    timed.start(job(), hooks=["on_run_end"]).stop()
    scheduler = timed.schedulers[0]

    def once(number):
        scheduler.start()
        if number % 4 == 0:
            timed.clock.advance(minutes=1)
        scheduler.stop()

    for number in range(20):
        once(number)
    gc.collect()
    threads, files, objects = threading.active_count(), open_descriptors(), len(gc.get_objects())
    for number in range(180):
        once(number)
    gc.collect()
    assert len(timed.noted) == 50
    assert threading.active_count() <= threads
    assert open_descriptors() == files
    # What the test itself keeps of each run: an event of the hook, a tick.
    assert len(gc.get_objects()) - objects < 45 * 10
    assert not list((timed.folder / "state" / "instances").iterdir())


# ---------------------------------------------------------------------- what is told


def test_status_and_health_tell_what_is_going_on(timed):
    """R62."""
    timed.lasting("long", 3600)
    timed.noting("never")
    scheduler = timed.start(
        job(), job("long"), job(job_id="held"), Submission("tick", job_id="done"), name="etl", hooks=["on_run_end"]
    )
    scheduler.pause_job("held")
    timed.clock.advance(minutes=1)
    status = scheduler.status()
    assert status.instance.startswith("etl-") and status.state == "RUNNING"
    assert (status.runs_active, status.busy_workers, status.workers, status.leaked_threads) == (1, 0, 2, 0)
    assert status.jobs == {"ACTIVE": 2, "PAUSED": 1, "ENDED": 1, "BROKEN": 0}
    assert status.next_tick == at("12:01:00").timestamp()
    lines = {line.seq_id: line for line in status.sequences}
    assert list(lines) == ["long", "never", "tick"]
    assert (lines["tick"].status, lines["tick"].jobs, lines["tick"].next_run) == ("COMPLETED", 3, status.next_tick)
    assert (lines["never"].status, lines["never"].last_run, lines["never"].next_run) == ("PENDING", None, None)
    text = str(status)
    assert "There are 4 jobs in the state (1 PAUSED, 1 ENDED)" in text
    assert "1 run is going on, 0 of 2 workers are busy" in text
    assert "<10s" in text and "Never run" in text
    for title in ("Seq ID", "Last Run", "Next Run", "Status", "Total Execution Time"):
        assert title in text
    plain = json.loads(json.dumps(status.to_dict()))
    assert (plain["at"], plain["next_tick"]) == ("2026-01-01T12:00:50+00:00", "2026-01-01T12:01:00+00:00")
    assert plain["sequences"][2]["next_run"] == "2026-01-01T12:01:00+00:00"
    health = scheduler.health()
    assert (health.ok, health.problems, health.broken_jobs, health.hook_failures) == (True, [], 0, 0)
    assert health.restarts == {"timekeeper": 0, "scribe": 0, "ticker": 0}
    assert health.lateness == (0.0, 0.0, 0.0) and health.wal_bytes > 0
    assert {"blaze", "python", "sqlite", "croniter"} == set(health.versions)
    told = json.loads(json.dumps(health.to_dict()))
    assert told["lateness"] == [0.0, 0.0, 0.0] and told["ok"] is True
    scheduler.stop()
    with pytest.raises(BlazeError, match="was stopped"):
        scheduler.health()


def test_an_empty_state_has_a_status_too(timed):
    scheduler = timed.scheduler(sequences=BlazeSequence())
    text = str(scheduler.status())
    assert "There are 0 jobs in the state" in text and "The next tick is not to be seen" in text
    assert scheduler.status().to_dict()["sequences"] == []
    assert scheduler.health().ok and scheduler.health().lateness is None


# ---------------------------------------------------------------------- faults


class Fails:
    """A method that fails a few times before it works again."""

    def __init__(self, monkeypatch, owner, name, error, times):
        self.left = times
        self.calls = 0
        real = getattr(owner, name)

        def call(*args, **kwargs):
            self.calls += 1
            if self.left:
                self.left -= 1
                raise error
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)


def test_a_loop_that_dies_goes_on_and_it_is_told(timed, monkeypatch, caplog):
    """DESIGN 6: it never dies silently. No tick is lost or made twice."""
    scheduler = timed.start(job(), hooks=["on_late"])
    timed.clock.advance(minutes=1)
    failing = Fails(monkeypatch, Firing, "fire", RuntimeError("a bug"), 3)
    timed.clock.advance(minutes=1)
    assert failing.left == 0
    assert timed.times() == ["12:00:00", "12:01:00"]
    health = scheduler.health()
    assert health.restarts["ticker"] == 3 and not health.ok
    assert "the ticker died 3 times, the last time of RuntimeError: a bug" in health.problems
    assert "the ticker failed and goes on" in caplog.text
    timed.clock.advance(minutes=1)
    assert timed.times()[2:] == ["12:02:00"]


def test_a_look_at_the_file_that_fails_keeps_no_tick_from_being_fired(timed, monkeypatch):
    scheduler = timed.start(job())
    Fails(monkeypatch, ticking.Ticker, "_look", OSError("no such directory"), 10_000)
    timed.clock.advance(minutes=2)
    assert timed.times() == ["12:00:00", "12:01:00"]
    assert "no such directory" in scheduler.health().problems[0]


def test_what_can_not_be_written_is_fired_as_soon_as_it_can(timed, monkeypatch, caplog):
    """DESIGN 4.7: a write that fails loses no run. It is told once, and as long as it lasts."""
    scheduler = timed.start(job())
    timed.clock.settle()
    journal = scheduler._open().journal
    Fails(monkeypatch, journal, "transaction", StateError("the state can't be written: disk full"), 4)
    timed.clock.advance(seconds=10.5)
    assert timed.noted == []
    assert scheduler.health().problems == ["ticks can't be fired: the state can't be written: disk full"]
    timed.clock.advance(seconds=10)
    assert timed.times() == ["12:00:00"]
    assert scheduler.health().ok
    assert caplog.text.count("ticks can't be fired") == 1
    assert [entry[0] for entry in history(scheduler)] == ["COMPLETED"]


def test_a_state_that_refuses_every_write_for_a_while_loses_no_tick(timed):
    """SQLite's own refusal, of runs and steps alike."""
    scheduler = timed.start(job(catchup="all"))
    timed.clock.settle()
    connection = scheduler._open().journal._connection
    connection.execute("PRAGMA query_only = 1")
    timed.clock.advance(minutes=3)
    assert timed.noted == [] and not scheduler.health().ok
    with pytest.raises(StateError, match="can't be written"):
        scheduler.submit(job(job_id="other"))
    connection.execute("PRAGMA query_only = 0")
    timed.clock.advance(minutes=1)
    assert timed.times() == ["12:00:00", "12:01:00", "12:02:00", "12:03:00"]
    assert scheduler.health().ok


def test_a_turn_in_the_queue_is_not_forgotten_when_it_can_not_be_written(timed, monkeypatch):
    timed.lasting("long", 90)
    scheduler = timed.start(job("long", overlap="queue", end_date=at("12:01:00")))
    timed.clock.advance(seconds=89)
    failing = Fails(monkeypatch, Firing, "start_queued", StateError("disk full"), 3)
    timed.clock.advance(minutes=5)
    assert failing.left == 0
    assert timed.times() == ["12:00:00", "12:01:00"]
    assert [entry[0] for entry in history(scheduler)] == ["COMPLETED"] * 2


def test_a_run_that_ends_while_the_queue_is_looked_at_is_the_turn_of_the_next(timed, monkeypatch):
    """As at a start, when it is not known yet in whose queues runs wait."""
    timed.waiting("slow")
    timed.clock._patience = SHORT
    scheduler = timed.start(job("slow", overlap="queue", end_date=at("12:01:00")))
    timed.clock.advance(minutes=2)
    ticker = scheduler._session.ticker
    ticker._firing.queues = set()
    real = ticks.take_queued

    def take_and_end_the_other(*args):
        taken = real(*args)
        monkeypatch.undo()
        timed.gate.set()
        wait_until(lambda: history(scheduler)[0][0] == "COMPLETED" and not scheduler.runs)
        return taken

    monkeypatch.setattr(ticks, "take_queued", take_and_end_the_other)
    ticker.look()
    timed.clock.settle()
    assert timed.times() == ["12:00:00", "12:01:00"]


@pytest.mark.parametrize("place", ["mend", "start_queued"])
def test_what_the_first_look_could_not_do_the_next_one_does(timed, monkeypatch, place):
    timed.lasting("long", 90)
    scheduler = timed.start(job("long", overlap="queue", end_date=at("12:01:00")))
    timed.clock.advance(seconds=80)
    scheduler.stop()
    Fails(monkeypatch, Firing, place, StateError("disk full"), 1)
    timed.start()
    timed.clock.advance(minutes=10)
    assert timed.times() == ["12:00:00", "12:01:00"]


def test_what_was_recorded_is_started_although_another_job_can_not_be_prepared(timed, monkeypatch):
    """R3: a tick that is claimed has its run."""
    scheduler = timed.start(job(priority=5))
    timed.clock.advance(minutes=1)
    scheduler.submit(job(job_id="new"))
    failing = Fails(monkeypatch, Firing, "prepare", StateError("the file can't be read"), 2)
    timed.clock.advance(minutes=1)
    assert failing.left == 0
    assert timed.times("tick") == ["12:00:00", "12:01:00"] and timed.times("new") == ["12:01:00"]
    assert {entry[0] for entry in history(scheduler)} == {"COMPLETED"}


def test_a_run_that_can_not_be_started_is_failed_and_not_left_open(timed, monkeypatch):
    scheduler = timed.start(job(), job(job_id="other", priority=-1))
    timed.clock.settle()
    engine = scheduler._open().engine
    Fails(monkeypatch, engine, "make_run", RuntimeError("out of threads"), 1)
    timed.clock.advance(minutes=2)
    assert timed.times("tick") == ["12:01:00"] and timed.times("other") == ["12:00:00", "12:01:00"]
    assert history(scheduler, "tick")[0][:2] == ("FAILED", "internal_error")
    assert scheduler.state.find_run("last-failed").error == "out of threads"


def test_a_state_file_that_is_gone_is_told_and_the_stop_still_comes(timed):
    scheduler = timed.start(job())
    timed.clock.settle()
    scheduler._open().journal.lost = True
    timed.clock.advance(minutes=1)
    assert timed.noted == []
    assert any("ticks can't be fired" in problem for problem in scheduler.health().problems)
    within_patience(scheduler.stop)


def test_looking_all_the_time_is_no_busy_loop(timed):
    """``loop_interval=0``."""
    calls = []
    scheduler = timed.scheduler(loop_interval=0).start()
    real = scheduler._session.ticker.turn
    scheduler._session.ticker.turn = lambda: (calls.append(1), real())[1]
    assert threading.Event().wait(0.2) is False
    assert len(calls) < 20


def test_several_schedulers_on_one_state_fire_each_tick_once(timed):
    """R3; on one clock, in one process. What many processes do is tested elsewhere."""
    first = timed.start(job(), job(job_id="every.second", interval="* * * * * *"))
    others = [timed.start() for _ in range(2)]
    timed.clock.advance(seconds=70)
    assert len(timed.noted) == len(set(timed.noted)) == 70 + 2
    first.stop()
    timed.clock.advance(seconds=10)
    assert len(timed.noted) == len(set(timed.noted)) == 80 + 2
    others[0].pause()
    timed.clock.advance(seconds=10)
    assert not [name for name, moment in timed.noted if moment > at("12:01:20")]
    others[1].resume()
    timed.clock.advance(seconds=10)
    assert len(timed.noted) == len(set(timed.noted))
    assert timed.times("every.second")[-1] == "12:01:30"


# ---------------------------------------------------------------------- many ticks at one instant


class HastyClock(VirtualClock):
    """Virtual time that lets work begin a little early, and tells what others see while the instant is waited for."""

    def __init__(self, path, sets_back):
        super().__init__(at("11:59:30"))
        self.path = path
        self.sets_back = sets_back
        #: (time of day, runs that others see, whether they may write) of each wait.
        self.waits = []

    def head_start(self, work):
        return 0.02

    def sleep_until(self, instant, at_most):
        if instant <= self.time():
            return True
        with closing(sqlite3.connect(str(self.path), timeout=0.0, isolation_level=None)) as other:
            (runs,) = other.execute("SELECT COUNT(*) FROM runs").fetchone()
            try:
                other.execute("BEGIN IMMEDIATE")
                locked = False
            except sqlite3.OperationalError:
                locked = True
        self.waits.append((clock_time(as_datetime(instant)), runs, locked))
        if self.sets_back:
            self.sets_back = False
            return False
        self._move_to(instant - self._offset)
        return True

    def come_close_to(self, instant):
        """To where ticks are prepared, and to where they are claimed; no further."""
        for before in (0.025, 0.015):
            self.advance(until=instant - timedelta(seconds=before))
            self.settle()


@pytest.mark.parametrize("sets_back", [False, True])
def test_many_ticks_of_one_instant_are_claimed_before_it_and_fired_when_it_has_come(timed, sets_back):
    """R3, R22: under the write lock, so nothing changes in between; a clock that is set back fires nothing early."""
    timed.clock = clock = HastyClock(timed.folder / "state" / "blaze.db", sets_back)
    scheduler = timed.start(*(job(job_id=f"j{number}") for number in range(12)))
    clock.come_close_to(at("12:00:00"))
    assert clock.waits == [("12:00:00", 0, True)]
    assert len(timed.noted) == (0 if sets_back else 12)
    clock.come_close_to(at("12:01:00"))
    assert clock.waits == [("12:00:00", 0, True), ("12:01:00", 12, True)]
    expected = {(f"j{number}", at(minute)) for number in range(12) for minute in ("12:00:00", "12:01:00")}
    assert Counter(timed.noted) == Counter(expected)
    runs = scheduler.state.runs(limit=100).items
    assert {run.status for run in runs} == {RunStatus.COMPLETED}
    assert all(run.created == run.scheduled for run in runs)


@pytest.mark.parametrize(("catchup", "caught_up"), [("skip", 0), ("latest", 1), ("all", 10)])
def test_what_was_due_at_the_start_is_caught_up_with_before_the_jobs_are_submitted_again(
    timed, monkeypatch, catchup, caught_up
):
    """As a program does that submits its jobs whenever it starts."""
    timed.start(job(catchup=catchup)).stop()
    timed.clock.advance(minutes=10)
    submitting, turn = threading.Event(), ticking.Ticker.turn

    def turn_later(self):
        submitting.wait(PATIENCE)
        return turn(self)

    monkeypatch.setattr(ticking.Ticker, "turn", turn_later)
    scheduler = timed.scheduler().start()
    open_session = scheduler._open
    monkeypatch.setattr(scheduler, "_open", lambda: (open_session(), submitting.set())[0])
    scheduler.submit(job(catchup=catchup))
    timed.clock.settle()
    assert len(timed.times()) == caught_up
    missed = [] if caught_up == 10 else [("SKIPPED", "missed", 10 - caught_up)]
    assert [entry[:3] for entry in history(scheduler) if entry[0] == "SKIPPED"] == missed


def test_health_tells_what_was_missed_and_what_failed_last(timed):
    """R67."""
    timed.sequence("bad", lambda: 1 / 0)
    timed.start(job(catchup="latest")).stop()
    timed.clock.advance(minutes=10)
    scheduler = timed.start()
    assert scheduler.health().missed == 9 and scheduler.health().last_error is None
    result = scheduler.trigger("bad").result(PATIENCE)
    health = scheduler.health()
    assert health.ok, "a pipeline that fails is no fault of the scheduler"
    assert health.last_error == {"run_id": result.run_id, "seq_id": "bad", "error": result.error}
    assert type(health).from_dict(json.loads(json.dumps(health.to_dict()))) == health


def test_a_run_whose_time_is_up_at_the_instant_of_the_next_tick_has_ended_when_it_is_fired(timed):
    """Two threads have something to do at one instant: always in the same order."""
    timed.lasting("slow", 3600, seq_run_timeout=60)
    scheduler = timed.start(job("slow", overlap="skip"))
    timed.clock.advance(minutes=60)
    timed.clock.advance(seconds=20)
    *ended, going_on = history(scheduler)
    assert [entry[:2] for entry in ended] == [("FAILED", "timeout")] * 60
    assert not RunStatus(going_on[0]).ended


def test_a_retry_that_is_due_at_the_instant_of_the_next_tick_is_made_before_it(timed):
    timed.lasting("slow", 60)
    scheduler = timed.start(job("slow", overlap="skip"))
    timed.clock.advance(minutes=60)
    timed.clock.advance(seconds=20)
    *ended, going_on = history(scheduler)
    assert [entry[0] for entry in ended] == ["COMPLETED"] * 60
    assert not RunStatus(going_on[0]).ended
