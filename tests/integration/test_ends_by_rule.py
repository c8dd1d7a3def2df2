"""Runs that end while no process has them in hand: their record is whole, and the hooks hear of them once.

DESIGN §3, §6: the end of a run is told whoever brings it about.
"""

from __future__ import annotations

import pytest

from blaze import BlockStatus
from blaze.core.firing import Firing
from blaze.testing import VirtualClock
from tests.integration.timed import SHORT, Timed, job

#: 2026-01-01 12:00 UTC.
NOON = 1_767_268_800.0


@pytest.fixture
def timed(tmp_path):
    timed = Timed(tmp_path)
    yield timed
    timed.close()


def ends(told):
    """(status, reason, scheduled at) of the runs whose end was told, in order."""
    found = [event for hook, event in told if hook == "on_run_end"]
    return [(event.status.value, event.reason, f"{event.scheduled_at:%H:%M}") for event in found]


@pytest.fixture
def queued(timed):
    """A job, one of whose runs goes on while two wait in its queue; all that ends is told."""
    timed.waiting("slow")
    timed.clock._patience = SHORT
    scheduler = timed.start(job("slow", overlap="queue"), hooks=["on_run_end"])
    timed.clock.advance(minutes=3)
    timed.clock.settle()
    timed.waiting_runs = scheduler.state.runs(status="PENDING").items[::-1]
    assert [run.reason for run in timed.waiting_runs] == ["queued"] * 2 and not timed.told
    return scheduler


def remove(scheduler, runs):
    scheduler.remove_job("slow")
    return "job_removed"


def clear(scheduler, runs):
    assert scheduler.clear_jobs() == 1
    return "job_removed"


def cancel(scheduler, runs):
    assert all(scheduler.cancel(run.run_id) for run in runs)
    assert not any(scheduler.cancel(run.run_id) for run in runs)
    return "cancelled_by_user"


@pytest.mark.parametrize("end", [remove, clear, cancel])
def test_the_end_of_a_run_in_a_queue_is_told_once_and_recorded_with_its_time_and_its_steps(timed, queued, end):
    timed.clock.advance(seconds=7)
    reason = end(queued, timed.waiting_runs)
    queued.pause()
    timed.clock.settle()
    assert ends(timed.told) == [("CANCELLED", reason, "12:01"), ("CANCELLED", reason, "12:02")]
    for (_, event), run in zip(timed.told, timed.waiting_runs):
        found = queued.state.find_run(run.run_id)
        assert (event.run_id, event.seq_id, event.job_id) == (run.run_id, "slow", "slow")
        assert found.ended_at == timed.clock.now and event.at == timed.clock.now.timestamp()
        assert event.seconds is None and event.error is None
        assert [(step.status, step.reason) for step in queued.state.steps(run.run_id)] == [
            (BlockStatus.CANCELLED, reason)
        ]


def test_the_end_of_what_waits_in_a_queue_is_told_when_a_tick_cancels_it(timed):
    timed.waiting("slow")
    timed.clock._patience = SHORT
    scheduler = timed.start(job("slow", overlap="queue"), hooks=["on_run_end"])
    timed.clock.advance(minutes=2)
    scheduler.submit(job("slow", overlap="cancel_running"))
    timed.clock.advance(minutes=1)
    timed.clock.advance(seconds=1)
    assert sorted(ends(timed.told)) == [("CANCELLED", "overlap", "12:00"), ("CANCELLED", "overlap", "12:01")]
    assert timed.times("slow") == ["12:00:00", "12:02:00"]


def told_by(scheduler_of, **settings):
    """The ends that a scheduler tells of what it finds at its start."""
    told = []
    scheduler_of.start(clock=VirtualClock(NOON), on_run_end=lambda event: told.append(("", event)), **settings).stop()
    return [event for _, event in told]


def test_the_end_of_a_run_that_can_not_be_resumed_is_told(doomed):
    doomed.work("a")
    doomed.work("b", "a", dies=True)
    doomed.sequence()
    run_id = doomed.crash()
    changed = doomed.again()
    changed.work("b")
    changed.sequence()
    (event,) = told_by(changed)
    assert (event.run_id, event.job_id, event.status, event.reason) == (run_id, None, "FAILED", "definition_changed")
    assert event.at == NOON and "'a' is no step any more" in event.error
    with doomed.state() as state:
        run = state.find_run(run_id)
        assert (run.ended_at.timestamp(), run.error) == (NOON, event.error)
        assert [step.status for step in state.steps(run_id)] == [BlockStatus.COMPLETED, BlockStatus.CANCELLED]


def test_the_end_of_a_run_whose_process_died_too_often_is_told(doomed):
    doomed.work("a", dies=True)
    doomed.sequence()
    run_id = doomed.crash()
    (event,) = told_by(doomed, max_recoveries=0)
    assert (event.run_id, event.status, event.reason) == (run_id, "FAILED", "crashed")
    assert event.at == NOON and "max_recoveries=0" in event.error
    with doomed.state() as state:
        assert state.find_run(run_id).ended_at.timestamp() == NOON
        assert [step.status for step in state.steps(run_id)] == [BlockStatus.CANCELLED]


def test_the_end_of_a_fired_run_that_can_not_be_started_is_told(timed, monkeypatch):
    def refuse(*args):
        raise RuntimeError("no room")

    scheduler = timed.start(job(), hooks=["on_run_end"])
    monkeypatch.setattr(Firing, "_make", refuse)
    timed.clock.advance(seconds=15)
    assert ends(timed.told) == [("FAILED", "internal_error", "12:00")]
    (run,) = scheduler.state.runs(job_id="tick").items
    assert (run.error, run.run_id) == ("no room", timed.told[0][1].run_id)
    assert [step.status for step in scheduler.state.steps(run.run_id)] == [BlockStatus.CANCELLED]
