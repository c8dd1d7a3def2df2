"""`VirtualScheduler`: real schedulers, with their store and their retries, on virtual time."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

import pytest

from blaze import BlazeError, RunStatus, SubmitSequenceData, current
from blaze.testing import Faults

from .workbench import PATIENCE, Workbench


@pytest.fixture
def bench():
    bench = Workbench()
    bench.step("it", lambda: current().scheduled_at)
    bench.sequence()
    return bench


def ticks(scheduler):
    """The ticks that were run, oldest first."""
    runs = scheduler.state.runs(job_id="seq", status="COMPLETED", limit=1000).items
    return [run.scheduled_at.strftime("%m-%d %H:%M") for run in reversed(runs)]


def test_hours_pass_in_no_time_and_every_tick_is_run(bench, blaze_scheduler):
    scheduler = blaze_scheduler(bench.sequences, start=datetime(2026, 1, 1))
    scheduler.submit(SubmitSequenceData("seq", seq_run_interval="0 */6 * * *", timezone="UTC"))
    assert scheduler.advance(hours=24) == datetime(2026, 1, 2, tzinfo=timezone.utc)
    assert ticks(scheduler) == ["01-01 06:00", "01-01 12:00", "01-01 18:00", "01-02 00:00"]


def test_it_goes_to_the_next_tick_and_no_further(bench, blaze_scheduler):
    scheduler = blaze_scheduler(bench.sequences, start=datetime(2026, 1, 1))
    with pytest.raises(BlazeError, match="nothing will be due"):
        scheduler.to_next_tick()
    scheduler.submit(SubmitSequenceData("seq", seq_run_interval="30 2 * * *", timezone="UTC"))
    assert scheduler.to_next_tick() == scheduler.now == datetime(2026, 1, 1, 2, 30, tzinfo=timezone.utc)
    assert ticks(scheduler) == ["01-01 02:30"]


def test_a_year_with_its_two_changes_of_the_clock_is_played_in_seconds(bench, blaze_scheduler):
    scheduler = blaze_scheduler(bench.sequences, start=datetime(2026, 1, 1))
    scheduler.submit(SubmitSequenceData("seq", seq_run_interval="30 2 * * *", timezone="Europe/Berlin"))
    began = time.monotonic()
    scheduler.advance(days=365)
    assert time.monotonic() - began < PATIENCE
    fired = ticks(scheduler)
    assert len(fired) == 365
    assert fired[fired.index("03-28 01:30") + 1] == "03-29 01:00", "02:30 does not exist: the first instant after it"
    assert fired.count("10-25 00:30") == 1, "02:30 exists twice: the first time only"


def test_run_lets_time_pass_for_retries(bench, blaze_scheduler, blaze_faults):
    bench.step("flaky", lambda: "fine", retries=2, retry_delay=86_400, retry_max_delay=86_400)
    bench.sequence(seq_id="flaky", seq_run_timeout=None)
    blaze_faults.fail("flaky", times=2, exc=OSError("gone"))
    scheduler = blaze_scheduler(bench.sequences, start=datetime(2026, 1, 1))
    assert scheduler.run("flaky").output == {"flaky": "fine"}
    assert scheduler.now == datetime(2026, 1, 3, tzinfo=timezone.utc)
    run = scheduler.inspect().assert_completed()
    assert run.attempts("flaky") == 3 and run.order == ("flaky",)


def test_fail_stop_waits_for_what_runs_though_the_failure_was_recorded_long_before(
    bench, blaze_scheduler, blaze_faults
):
    bench.step("slow", lambda: 1, timeout=600)
    bench.step("bad", lambda: 2, retries=1, retry_delay=60)
    bench.step("after", lambda: 3, "slow")
    bench.sequence(seq_id="stops", fail_stop=True)
    blaze_faults.hang("slow")
    blaze_faults.fail("bad", times=2)
    scheduler = blaze_scheduler(bench.sequences, start=datetime(2026, 1, 1))
    result = scheduler.run("stops")
    run = scheduler.inspect().assert_failed("bad").assert_failed("slow", reason="timeout").assert_not_ran("after")
    assert run.order == ("bad", "slow")
    assert result.duration == pytest.approx(600, abs=1)


def test_the_runs_of_many_ticks_of_one_instant_are_made_shortly_before_it(bench, blaze_scheduler):
    """So that little is left to do when it comes: the last of them would be late otherwise."""
    made = []

    class Watching(Faults):
        def adapt(self, plan):
            made.append(scheduler.now)
            return plan

    scheduler = blaze_scheduler(bench.sequences, start=datetime(2026, 1, 1), probe=Watching())
    settings = {"seq_run_interval": "0 3 * * *", "timezone": "UTC"}
    scheduler.submit([SubmitSequenceData("seq", job_id=f"job-{n}", **settings) for n in range(20)])
    tick = datetime(2026, 1, 1, 3, tzinfo=timezone.utc)
    scheduler.advance(until=tick - timedelta(seconds=10))
    assert made == []
    before = scheduler.advance(until=tick - timedelta(seconds=0.01))
    assert made == [before] * 20
    assert scheduler.to_next_tick() == tick
    assert len(made) == 20
    runs = scheduler.state.runs(status="COMPLETED").items
    assert len(runs) == 20 and {run.scheduled_at for run in runs} == {tick}


def test_a_restart_goes_on_with_the_same_jobs_at_the_same_instant(bench, blaze_scheduler):
    scheduler = blaze_scheduler(bench.sequences, start=datetime(2026, 1, 1))
    scheduler.submit(SubmitSequenceData("seq", seq_run_interval="@hourly", timezone="UTC"))
    scheduler.advance(hours=2)
    assert scheduler.restart() is scheduler
    scheduler.advance(hours=2)
    assert ticks(scheduler) == ["01-01 01:00", "01-01 02:00", "01-01 03:00", "01-01 04:00"]


def test_the_story_of_a_recorded_failure_has_its_arguments_and_its_log(bench, blaze_scheduler):
    def clean(rows):
        current().logger.warning("three rows")
        raise ValueError("bad row")

    bench.step("clean", clean, parameters={"rows": [1, 2, 3]})
    bench.step("load", lambda: None, "clean")
    bench.sequence(seq_id="etl")
    scheduler = blaze_scheduler(bench.sequences)
    assert scheduler.run("etl").status is RunStatus.FAILED
    told = str(scheduler.inspect("last").story)
    assert "  x clean  FAILED\n  - load   SKIPPED (upstream_failed)  <- clean" in told
    assert "step 'clean', attempt 1: ValueError: bad row\n  arguments: rows=[1, 2, 3]" in told
    assert "log of step 'clean':\n    WARNING blaze.run.etl.clean: three rows" in told


@pytest.mark.parametrize("giver", ["ticker", "timekeeper", "scribe", "herald"])
@pytest.mark.parametrize("when", ["before it is asked", "and is at rest again"])
def test_work_that_goes_from_hand_to_hand_meanwhile_is_seen(bench, blaze_scheduler, monkeypatch, giver, when):
    """Else time goes on with a run that was just started, now and then."""
    scheduler = blaze_scheduler(bench.sequences, on_run_end=lambda event: None)
    scheduler.run("seq")
    scheduler.clock.settle()
    session = scheduler._session
    engine = session.engine
    places = {"ticker": session.ticker, "timekeeper": engine.timekeeper, "herald": engine.herald}
    place = places.get(giver, engine.timekeeper._scribe)
    busy = {"ticker": "_busy", "timekeeper": "looking", "scribe": "_active", "herald": "_telling"}[giver]
    rests = engine.pool.rests
    assert not session.is_busy()

    def hand_over(blocks):
        # The workers rest when they are looked at, and get something to do at that very instant.
        found = rests(blocks)
        place.rounds += when != "before it is asked"
        setattr(place, busy, False)
        return found

    monkeypatch.setattr(engine.pool, "rests", hand_over)
    setattr(place, busy, when == "before it is asked")
    assert session.is_busy()
