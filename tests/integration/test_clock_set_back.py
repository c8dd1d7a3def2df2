"""What is accounted for when the wall clock was set back and a job submitted again: every tick once (DESIGN 3, 6)."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from blaze import RunStatus
from tests.integration.timed import Timed, at, history, job


@pytest.fixture
def timed(tmp_path):
    timed = Timed(tmp_path)
    yield timed
    timed.close()


def recorded_ticks(scheduler, job_id="tick", seconds=5):
    """How often each tick is accounted for, as (second after noon, times)."""
    found = Counter()
    for run in scheduler.state.runs(job_id=job_id, limit=1000).items:
        tick = run.missed_from or run.scheduled_at
        number = 0
        while tick <= run.scheduled_at:
            found[int((tick - at("12:00:00")).total_seconds())] += 1
            number += 1
            tick += timedelta(seconds=seconds)
        assert run.status is not RunStatus.SKIPPED or run.missed == number, run
    return sorted(found.items())


@pytest.mark.parametrize("catchup", ["skip", "latest", "all"])
@pytest.mark.parametrize("end", [30, 42])
def test_after_the_clock_was_set_back_a_changed_job_accounts_for_each_tick_once(timed, catchup, end):
    """DESIGN 3: nothing is dropped silently; 6: a clock that jumps backwards fires nothing twice."""
    scheduler = timed.start(job(interval="* * * * * */10"))
    timed.clock.advance(seconds=40)  # fires at 0, 10, 20 and 30
    timed.clock.jump(-30)
    scheduler.submit(job(interval="* * * * * */5", catchup=catchup))
    scheduler.stop()
    timed.clock.advance(until=at(f"12:00:{end}"))
    scheduler = timed.start(misfire_grace=0.5)
    assert recorded_ticks(scheduler) == [(second, 1) for second in range(0, end + 1, 5)]
    assert [timed.times().count(time) for time in set(timed.times())] == [1] * len(set(timed.times()))
    timed.clock.advance(seconds=20)
    assert recorded_ticks(scheduler) == [(second, 1) for second in range(0, end + 21, 5)]


@pytest.mark.parametrize("overlap", ["skip", "queue", "allow", "cancel_running"])
def test_ticks_that_are_to_come_again_and_were_skipped_are_not_missed_any_more(timed, overlap):
    """What was recorded of them was true for a clock that was wrong."""
    timed.start(job(interval="* * * * * */5", catchup="skip", overlap=overlap)).stop()
    timed.clock.advance(until=at("12:00:32"))
    scheduler = timed.start(misfire_grace=0.5)
    assert history(scheduler) == [("SKIPPED", "missed", 8, "11:59:55", "12:00:30")]
    timed.clock.jump(-20)
    scheduler.submit(job(interval="* * * * * */5", overlap=overlap))
    assert history(scheduler) == [("SKIPPED", "missed", 4, "11:59:55", "12:00:10")]
    timed.clock.advance(seconds=30)
    assert timed.times() == ["12:00:15", "12:00:20", "12:00:25", "12:00:30", "12:00:35", "12:00:40"]
    assert recorded_ticks(scheduler) == [(second, 1) for second in range(-5, 41, 5)]


@pytest.mark.parametrize("priority", [0, 1])
@pytest.mark.parametrize("catchup", ["skip", "latest", "all"])
def test_a_clock_that_was_a_year_ahead_keeps_no_job_silent_that_is_submitted_again(timed, catchup, priority):
    """Changed or not (DESIGN 6): its first tick is the next one in the future."""
    scheduler = timed.start(job(catchup=catchup))
    timed.clock.jump(366 * 86_400)
    timed.clock.settle()
    timed.clock.jump(-366 * 86_400)
    timed.noted.clear()
    scheduler.submit(job(catchup=catchup, priority=priority))
    timed.clock.advance(minutes=3)
    assert timed.times() == ["12:00:00", "12:01:00", "12:02:00"]


def test_a_clock_that_was_a_year_ahead_keeps_no_sequence_silent_that_starts_by_itself(timed):
    timed.noting("auto", auto_start=True, seq_run_interval="* * * * *", timezone="UTC")
    scheduler = timed.start()
    timed.clock.jump(366 * 86_400)
    timed.clock.settle()
    scheduler.stop()
    timed.clock.jump(-366 * 86_400)
    timed.noted.clear()
    timed.start()
    timed.clock.advance(minutes=3)
    assert timed.times("auto") == ["12:00:00", "12:01:00", "12:02:00"]


def test_a_clock_that_was_set_back_by_an_instant_changes_no_job_that_is_submitted_unchanged(timed):
    scheduler = timed.start(job(interval="* * * * * *"))
    timed.clock.advance(seconds=10)
    before = scheduler.state.job("tick")
    timed.clock.jump(-4)
    assert scheduler.submit(job(interval="* * * * * *")) == before


def test_a_job_that_was_removed_and_comes_back_runs_no_tick_of_a_skipped_stretch(timed):
    """SKIPPED is an end state."""
    timed.start(job(interval="* * * * * */5", catchup="skip")).stop()
    timed.clock.advance(until=at("12:00:32"))
    scheduler = timed.start(misfire_grace=0.5)
    scheduler.remove_job("tick")
    timed.clock.jump(-20)
    scheduler.submit(job(interval="* * * * * */5"))
    timed.clock.advance(seconds=30)
    assert timed.times() == ["12:00:35", "12:00:40"]
    assert recorded_ticks(scheduler) == [(second, 1) for second in range(-5, 41, 5)]


@pytest.mark.parametrize("hold", ["pause_job", "pause"])
def test_ticks_of_a_pause_that_are_recorded_already_are_not_recorded_again(timed, hold):
    scheduler = timed.start(job(interval="* * * * * */10"))
    timed.clock.advance(seconds=40)
    timed.clock.jump(-30)
    scheduler.submit(job(interval="* * * * * */5"))
    held = ["tick"] if hold == "pause_job" else []
    getattr(scheduler, hold)(*held)
    timed.clock.advance(until=at("12:00:42"))
    getattr(scheduler, hold.replace("pause", "resume"))(*held)
    assert recorded_ticks(scheduler) == [(second, 1) for second in range(0, 41, 5)]
    timed.clock.advance(seconds=8)
    assert timed.times()[4:] == ["12:00:45", "12:00:50"]


def test_a_single_tick_that_is_recorded_already_is_not_recorded_again(timed):
    scheduler = timed.start(job(interval=None, start_date=at("12:00:00")))
    timed.clock.advance(seconds=20)
    timed.clock.jump(-20)
    scheduler.submit(job(interval=None, start_date=at("12:00:00"), priority=2))
    timed.clock.advance(seconds=20)
    assert [entry[0] for entry in history(scheduler)] == ["COMPLETED"]
