"""Schedulers of one state whose definitions differ, as while a new version is rolled out (DESIGN §3, §6; R8).

Who can't fire a job leaves it to those that can; it is BROKEN only when nobody fires it.
"""

from __future__ import annotations

import pytest

from blaze import JobStatus, Retry, RunStatus, current
from blaze.core import firing, ticking
from tests.integration.timed import Timed, clock_time, job

ACTIVE, BROKEN = JobStatus.ACTIVE, JobStatus.BROKEN


@pytest.fixture
def new(tmp_path):
    """The new version, whose block takes a limit; it submitted two jobs, of which one has it."""
    timed = versioned(tmp_path, lambda limit=5: limit)
    timed.start(job("load", parameters={"load": {"limit": 7}}), job("load", job_id="plain")).stop()
    yield timed
    timed.close()


@pytest.fixture
def old(tmp_path, new):
    """The old version, whose block doesn't."""
    timed = versioned(tmp_path, lambda: None, new)
    yield timed
    timed.close()


def versioned(folder, function, other=None, **settings):
    timed = Timed(folder)
    if other is not None:
        timed.clock = other.clock
    timed.bench.step("load", function, **settings)
    timed.bench.sequence(seq_id="load")
    return timed


def runs(scheduler, job_id="load"):
    """The ticks that were run, and by how many schedulers."""
    found = scheduler.state.runs(job_id=job_id, status="COMPLETED").items[::-1]
    return [clock_time(run.scheduled_at) for run in found], {run.owner for run in found}


@pytest.mark.parametrize("first", ["old", "new"])
def test_who_can_not_fire_a_job_leaves_it_to_those_that_can(old, new, first):
    order = [old, new] if first == "old" else [new, old]
    started = {timed is new: timed.start() for timed in order}
    for _ in range(15):
        new.clock.advance(minutes=1)
        assert {found.status for found in started[False].jobs} == {ACTIVE}
    times, owners = runs(started[True])
    assert len(times) == 15 and owners == {started[True].instance_id}
    assert len(runs(started[True], "plain")[0]) == 15
    assert started[True].health().ok and started[False].health().ok


def test_a_job_that_nobody_of_several_can_fire_is_broken_after_a_while(old, new, tmp_path, monkeypatch):
    monkeypatch.setattr(ticking, "UNKNOWN_FOR", 12.0)  # of which each look counts for loop_interval at most
    one = old.start()
    versioned_too = versioned(tmp_path, lambda: None, new)
    versioned_too.start()
    new.clock.advance(seconds=30)
    assert one.state.job("load").status is ACTIVE, "somebody may come"
    new.clock.advance(minutes=4)
    broken = one.state.job("load")
    assert broken.status is BROKEN and "limit" in broken.error
    assert one.state.job("plain").status is ACTIVE
    able = new.start()
    new.clock.advance(minutes=5)
    assert able.state.job("load").status is ACTIVE
    assert runs(able)[0][-3:] == ["12:07:00", "12:08:00", "12:09:00"]
    versioned_too.close()


def test_when_the_last_that_can_fire_a_job_has_gone_it_is_broken(old, new):
    able, unable = new.start(), old.start()
    new.clock.advance(minutes=2)
    able.stop()
    new.clock.advance(minutes=3)
    assert unable.state.job("load").status is BROKEN
    assert unable.state.job("plain").status is ACTIVE
    again = new.start()
    new.clock.advance(minutes=1)
    assert again.state.job("load").status is ACTIVE


def test_a_job_that_is_changed_so_that_it_fits_is_fired_at_once(old, new):
    unable, other = old.start(), old.scheduler().start()
    new.clock.advance(seconds=15)
    assert other.state.job("load").status is ACTIVE and runs(unable) == ([], set())
    unable.submit(job("load"))
    new.clock.advance(minutes=2)
    assert runs(unable)[0] == ["12:01:00", "12:02:00"]


def test_a_scheduler_that_gets_sequences_which_fit_fires_the_job(old, new):
    unable, other = old.start(), old.scheduler().start()
    new.clock.advance(seconds=15)
    assert runs(unable) == ([], set())
    unable.redefine(new.bench.sequences)
    new.clock.settle()
    assert runs(unable) == (["12:00:00"], {unable.instance_id})
    assert other.state.job("load").status is ACTIVE


def test_a_row_that_nobody_can_read_is_broken_at_once(old, new):
    one, _ = old.start(), new.start()
    one._open().journal.transaction(
        lambda cursor: cursor.execute("UPDATE jobs SET catchup = 'x' WHERE job_id = 'load'")
    )
    new.clock.advance(seconds=15)
    assert one.state.job("load").status is BROKEN


@pytest.fixture
def queueing(tmp_path, new):
    """The new version again: its runs last longer than it is from tick to tick."""

    def last(limit=5):
        if current().attempt == 1:
            raise Retry(delay=90)

    timed = versioned(tmp_path, last, new, retries=1)
    timed.start(job("load", parameters={"load": {"limit": 7}}, overlap="queue"), job("load", job_id="plain")).stop()
    yield timed
    timed.close()


def test_a_run_that_waits_in_a_queue_is_not_taken_by_who_can_not_run_it(queueing, old):
    """It would fail there, though another could run it."""
    unable, able = old.start(), queueing.start()
    for _ in range(40):
        queueing.clock.advance(seconds=15)
    found = able.state.runs(job_id="load").items
    assert {run.status.value for run in found} == {"COMPLETED", "RUNNING", "PENDING"}
    assert {run.owner for run in found} == {able.instance_id, None}
    assert unable.state.job("load").status is ACTIVE


def test_a_run_in_a_queue_that_nobody_can_run_fails_after_a_while(queueing, old, monkeypatch):
    monkeypatch.setattr(firing, "TURN_LEFT_FOR", 45.0)
    able = queueing.start()
    queueing.clock.advance(minutes=4)
    able.stop()
    one, _ = old.start(), old.scheduler().start()
    queueing.clock.advance(minutes=8)
    found = one.state.runs(job_id="load").items
    failed = {run.reason for run in found if run.status is RunStatus.FAILED}
    assert failed == {"definition_changed"} and all(run.status.ended for run in found)
