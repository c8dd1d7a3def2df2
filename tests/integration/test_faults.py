"""Things that go wrong on purpose: blocks, clocks, disks, locks and whole processes."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest

from blaze import BlazeError, RunStatus, StateError, StateManager, SubmitSequenceData, ValidationError, current
from blaze.testing import CrashPoint, FailedOnPurpose, Faults, VirtualScheduler, run_sequence, run_through_crashes

from .workbench import PATIENCE, Workbench, wait_until


@pytest.fixture
def bench():
    return Workbench()


@pytest.fixture
def faults(tmp_path):
    made = Faults(tmp_path / "state")
    yield made
    made.close()


def chain(bench, *names, **settings):
    """Steps one after the other."""
    for place, name in enumerate(names):
        bench.step(name, lambda name=name: name, *names[max(0, place - 1) : place], **settings)
    return bench.sequence()


async def coroutine():
    await asyncio.sleep(0)
    return "async"


# ---------------------------------------------------------------------- failing and hanging


def test_a_block_fails_as_often_as_it_is_told(bench, faults):
    bench.step("a", lambda: "fine", retries=5, retry_delay=10)
    faults.fail("a", times=2, exc=ConnectionError("refused"))
    run = run_sequence(bench.sequence(), faults=faults)
    assert run.attempts("a") == 3 and run.output == {"a": "fine"}


def test_a_block_that_always_fails_exhausts_its_retries(bench, faults):
    bench.step("a", lambda: 1 / 0, retries=2)
    faults.fail("a", times=None)
    run = run_sequence(bench.sequence(), faults=faults, raise_on_fail=False).assert_failed("a")
    assert run.attempts("a") == 3
    assert isinstance(run.result.steps["a"].error, FailedOnPurpose)


def test_async_and_process_blocks_fail_too(bench, faults):
    bench.step("a", coroutine, retries=1)
    bench.step("b", os.getpid, retries=1, executor="process")
    for name in "ab":
        faults.fail(name, exc=OSError)
    run = run_sequence(bench.sequence(), faults=faults)
    assert run.attempts("a") == run.attempts("b") == 2 and run.outputs["a"] == "async"


@pytest.mark.parametrize("function", [lambda: "woke", coroutine], ids=["thread", "async"])
def test_the_timeout_of_a_hanging_block_strikes_without_waiting(bench, faults, function):
    bench.step("a", function, timeout=1800, retries=1, retry_delay=60)
    faults.hang("a")
    began = time.monotonic()
    run = run_sequence(bench.sequence(), faults=faults)
    assert time.monotonic() - began < PATIENCE
    assert run.attempts("a") == 2
    assert run.result.duration == pytest.approx(1860, abs=1)


def test_time_passes_though_every_worker_hangs_and_others_wait_for_one(bench, faults):
    bench.step("a", lambda: 1, timeout=1800)
    bench.step("b", lambda: 2)
    faults.hang("a")
    began = time.monotonic()
    run = run_sequence(bench.sequence(), faults=faults, raise_on_fail=False, order=["a", "b"])
    assert time.monotonic() - began < PATIENCE
    run.assert_failed("a", reason="timeout").assert_order("a", "b")


def test_a_hanging_block_goes_past_the_limit_of_the_run(bench, faults):
    bench.step("a", lambda: None)
    bench.step("b", lambda: None, "a")
    faults.hang("a")
    run = run_sequence(bench.sequence(seq_run_timeout=7200), faults=faults, raise_on_fail=False)
    run.assert_failed(reason="timeout").assert_not_ran("b")
    assert run.result.duration == pytest.approx(7200, abs=1)


def test_a_block_that_nothing_would_stop_is_told_and_stopped(bench, faults):
    bench.step("a", lambda: None)
    faults.hang("a")
    with pytest.raises(BlazeError, match="a run of 'seq' would never end"):
        run_sequence(bench.sequence(seq_run_timeout=None), faults=faults)


def test_a_scheduler_plays_on_while_a_block_of_one_job_hangs(bench, faults, tmp_path):
    bench.step("a", lambda: None)
    bench.sequence(seq_id="hangs", seq_run_timeout=3500)
    bench.step("b", lambda: None)
    bench.sequence(seq_id="goes")
    faults.hang("a", times=None)
    with VirtualScheduler(bench.sequences, tmp_path / "state", probe=faults, max_workers=2) as scheduler:
        scheduler.submit([SubmitSequenceData(name, seq_run_interval="*/30 * * * *") for name in ("hangs", "goes")])
        began = time.monotonic()
        scheduler.advance(hours=12)
        assert time.monotonic() - began < PATIENCE
        ends = [str(run.reason or run.status) for run in reversed(scheduler.state.runs(job_id="hangs").items)]
        assert ends[:4] == ["timeout", "overlap", "timeout", "overlap"]
        assert {run.status for run in scheduler.state.runs(job_id="goes").items} == {RunStatus.COMPLETED}


@pytest.mark.parametrize("times", [0, -1, 1.5, "2"])
def test_a_number_of_times_that_is_none_is_refused(faults, times):
    with pytest.raises(ValidationError, match="a number of attempts from 1"):
        faults.fail("a", times=times)


@pytest.mark.parametrize("exc", ["OSError", 5, int])
def test_what_is_no_exception_is_refused(faults, exc):
    with pytest.raises(ValidationError, match="an exception or a class of exceptions"):
        faults.fail("a", exc=exc)


# ---------------------------------------------------------------------- disks and locks


def test_on_a_full_disk_a_run_waits_and_completes_when_there_is_room(bench, faults, tmp_path):
    filled = threading.Event()

    def fill():
        faults.fill_disk()
        filled.set()
        return 1

    bench.step("fill", fill)
    bench.step("then", lambda: 2, "fill")
    bench.sequence()
    with VirtualScheduler(bench.sequences, tmp_path / "state", probe=faults) as scheduler:
        handle = scheduler.trigger("seq")
        assert filled.wait(PATIENCE)
        wait_until(lambda: scheduler.status().write_fault)
        assert "disk is full: make room" in scheduler.status().write_fault
        with pytest.raises(StateError, match="full"):
            scheduler.trigger("seq")
        assert not handle.done()
        faults.free_disk()
        assert scheduler.finish(handle).output == {"fill": 1, "then": 2}


def test_with_makes_room_again(bench, faults, tmp_path):
    chain(bench, "a")
    with VirtualScheduler(bench.sequences, tmp_path / "state", probe=faults) as scheduler:
        with faults.fill_disk(), pytest.raises(StateError):
            scheduler.run("seq")
        assert scheduler.run("seq").ok


def test_a_run_waits_for_a_lock_that_another_program_holds(bench, faults, tmp_path):
    chain(bench, "a")
    with VirtualScheduler(bench.sequences, tmp_path / "state", probe=faults) as scheduler:
        scheduler.run("seq")
        with faults.lock_db(seconds=0.05) as lock:
            assert lock.held
            assert scheduler.run("seq").ok
            assert not lock.held


def test_a_lock_needs_a_state_file(faults):
    with pytest.raises(BlazeError, match="there is no state file"):
        faults.lock_db(1)
    with pytest.raises(BlazeError, match="know no state directory"):
        Faults().lock_db(1)


# ---------------------------------------------------------------------- crashes

#: How often a step is called in all, by the point at which its first process died.
CALLS = {
    "recorded": 1, "called": 2, "returned": 2, "written": 2, "committed": 1, "finalised": 1, "ended": 1,
}  # fmt: skip


def test_the_points_have_names(faults):
    assert {point.value for point in CrashPoint} == set(CALLS)
    with pytest.raises(ValidationError, match="point is one of 'recorded', 'called'"):
        faults.crash_at("yesterday")


@pytest.mark.parametrize("point", list(CALLS))
@pytest.mark.parametrize("size", [1, 200_000], ids=["small", "in a file"])
def test_a_process_that_dies_at_any_point_is_carried_on_from_its_last_commit(bench, faults, tmp_path, point, size):
    bench.step("before", lambda: "x" * size)
    bench.step("it", lambda before: before + "y", "before")
    bench.step("after", lambda it: len(it), "it")
    sequence = bench.sequence()
    inside = point in ("called", "returned", "written", "committed")
    faults.crash_at(point, "it" if inside else None)
    run = run_through_crashes(sequence, faults=faults, state_dir=tmp_path / "state").assert_completed()
    assert {name: run.executions(name) for name in run.steps} == {"before": 1, "it": CALLS[point], "after": 1}
    if point != "ended":  # then nothing was left to be carried on
        assert run.output["after"] == size + 1
    with StateManager(tmp_path / "state") as state:
        assert state.integrity() == []
        assert [one.status for one in state.runs().items] == [RunStatus.COMPLETED]


@pytest.mark.parametrize("kind", ["none", "context", "async"])
def test_every_kind_of_finaliser_can_be_died_of(bench, faults, tmp_path, kind):
    async def later(context):
        return len(context)

    finaliser = {"none": lambda: 1, "context": len, "async": later}[kind]
    bench.step("a", coroutine)
    sequence = bench.sequence(finaliser=finaliser)
    faults.crash_at("finalised")
    run = run_through_crashes(sequence, faults=faults, state_dir=tmp_path / "state").assert_completed()
    assert run.output == 1 and run.executions("a") == 1


def test_an_async_block_can_be_died_of(bench, faults, tmp_path):
    bench.step("a", coroutine)
    sequence = bench.sequence()
    faults.crash_after("a")
    run = run_through_crashes(sequence, faults=faults, state_dir=tmp_path / "state").assert_completed()
    assert run.executions("a") == 2 and run.output == {"a": "async"}


def test_what_goes_wrong_in_the_child_is_told_here(bench, faults, tmp_path):
    bench.step("a", lambda needed: needed)
    sequence = bench.sequence()
    faults.crash_after("a")
    with pytest.raises(BlazeError, match=r"the child failed before it was to be killed:\n(?s:.*)needed"):
        run_through_crashes(sequence, faults=faults, state_dir=tmp_path / "state")


def test_several_processes_die_one_after_the_other(bench, faults, tmp_path):
    keys = tmp_path / "keys"

    def it():
        with keys.open("a") as file:
            file.write(current().idempotency_key + "\n")

    bench.step("a", lambda: 1)
    bench.step("it", it, "a")
    sequence = bench.sequence()
    for point in ("recorded", "called", "returned", "written", "committed", "finalised"):
        faults.crash_at(point, None if point in ("recorded", "finalised") else "it")
    run = run_through_crashes(sequence, faults=faults, state_dir=tmp_path / "state", max_recoveries=10)
    assert run.assert_completed().executions("a") == 1
    assert run.executions("it") == 4
    told = keys.read_text().split()
    assert len(told) == 3 and len(set(told)) == 1, "the same key in every process"


def test_retries_before_a_crash_count_after_it(bench, faults, tmp_path):
    bench.step("a", lambda: 1, retries=3, retry_delay=600)
    bench.step("b", lambda: 2, "a")
    sequence = bench.sequence()
    faults.fail("a", times=2)
    faults.crash_after("b")
    run = run_through_crashes(sequence, faults=faults, state_dir=tmp_path / "state")
    assert run.assert_completed().attempts("a") == 3


def test_what_only_the_processes_that_died_have_met_is_no_misspelling(bench, faults, tmp_path):
    sequence = chain(bench, "a")
    faults.override("a", 7)
    faults.crash_at("ended")
    run_through_crashes(sequence, faults=faults, state_dir=tmp_path / "state").assert_completed()
    assert faults.unmet() == []


def test_a_crash_that_is_never_reached_is_told(bench, faults, tmp_path):
    sequence = chain(bench, "a")
    faults.crash_at("called", "b")
    with pytest.raises(BlazeError, match="the crash 'called' of 'b' was never reached; the steps that were called: a"):
        run_through_crashes(sequence, faults=faults, state_dir=tmp_path / "state")


def test_a_crash_never_strikes_the_process_of_the_test(bench, faults):
    sequence = chain(bench, "a")
    faults.crash_after("a")
    with pytest.raises(BlazeError, match="would kill this very process"):
        run_sequence(sequence, faults=faults)
