"""Blocks that overstay and runs that are stopped: the verdict comes in time, whatever they do (R11, R34, R35)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import sys
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from blaze import BlockStatus, RunFailed, RunStatus, StepCancelled, StepTimeout, current
from blaze.core.do import timekeeper
from blaze.core.do.timekeeper import Timekeeper
from blaze.core.ground.clock import as_datetime
from tests.integration import stubborn_blocks as stubborn
from tests.integration.workbench import PATIENCE, HandClock, wait, wait_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="process blocks need POSIX")

COMPLETED, FAILED, SKIPPED, CANCELLED = (
    BlockStatus.COMPLETED, BlockStatus.FAILED, BlockStatus.SKIPPED, BlockStatus.CANCELLED,
)  # fmt: skip

#: Never forks this process, which has threads.
SPAWN = multiprocessing.get_context("spawn")

#: The limit of a block that overstays, and how late the verdict may be (R34), in seconds.
LIMIT, LATE = 0.1, 1.0

#: How a block in a thread is stuck -> whether an exception that is raised into it gets it out.
THREADS = {"busy": True, "sleeping": False, "waiting": False, "receiving": False, "swallowing": False}
COROUTINES = ("awaiting", "clinging", "blocking")
PROCESSES = ("busy", "sleeping", "waiting", "receiving", "swallowing")


@pytest.fixture(autouse=True)
def nobody_stays_stuck():
    yield
    stubborn.release()


def statuses(result):
    return {name: step.status for name, step in result.steps.items()}


def one():
    return 1


def is_gone(pid):
    """Whether a process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def overstayed(step, limit=LIMIT):
    assert step.status is FAILED and step.reason == "timeout" and step.output is None
    assert isinstance(step.error, StepTimeout) and str(limit) in str(step.error)
    assert limit <= step.duration < limit + LATE
    return True


# ---------------------------------------------------------------------- looking at the clock


def test_what_becomes_due_while_the_timekeeper_looks_is_not_slept_over(durable, bench, monkeypatch):
    """A retry, or a limit, that comes up after the look has passed it by and before it is told when the next one is."""
    next_moment = Timekeeper.next_moment
    late = []

    def a_retry_comes_too_late_for_this_look(keeper):
        moment = next_moment(keeper)
        while late:
            keeper.call_at(keeper._monotonic(), late.pop())
        return moment

    monkeypatch.setattr(Timekeeper, "next_moment", a_retry_comes_too_late_for_this_look)
    bench.step("a", one)
    bench.sequence()
    scheduler = durable.scheduler(bench, clock=HandClock())  # whose timekeeper looks only when it is told to
    scheduler.run("seq", timeout=PATIENCE)
    due = Due()
    late.append((due, 0))
    scheduler._session.engine.timekeeper.poke()
    assert due.started.wait(PATIENCE / 2)


class Due:
    """What tells that it was started."""

    def __init__(self):
        self.started = threading.Event()

    def perform(self, index, worker):
        self.started.set()

    def is_quick(self, index):
        return True


# ---------------------------------------------------------------------- one attempt


@pytest.mark.parametrize("kind", [*THREADS, *COROUTINES])
def test_an_attempt_that_overstays_is_failed_in_time(durable, bench, kind):
    bench.step("a", getattr(stubborn, kind), timeout=LIMIT)
    bench.step("child", one, "a")
    bench.step("other", one)
    bench.sequence()
    scheduler = durable.scheduler(bench, max_workers=1)
    result = scheduler.run("seq", timeout=PATIENCE)
    assert overstayed(result.steps["a"]) and result.steps["a"].attempts == 1
    assert statuses(result) == {"a": FAILED, "child": SKIPPED, "other": COMPLETED}
    assert result.status is RunStatus.FAILED and result.reason == "timeout"
    assert "step 'a', attempt 1 of 1" in result.error
    record = scheduler.state.steps(result.run_id)[0]
    assert (record.status, record.reason, record.attempts) == (FAILED, "timeout", 1)
    assert scheduler.state.attempts(result.run_id).items[0].reason == "timeout"
    left = 0 if THREADS.get(kind, True) else 1
    wait_until(lambda: scheduler.status().leaked_threads == left, "the count of the threads that were left behind")
    stubborn.release()
    wait_until(lambda: scheduler.status().leaked_threads == 0, "the end of the thread")


def test_blocks_that_overstay_in_every_way_at_once_are_failed_in_time(way, bench):
    kinds = [*THREADS, "awaiting"]
    for kind in kinds:
        bench.step(kind, getattr(stubborn, kind), timeout=LIMIT)
    bench.step("report", lambda: "told", *kinds, run_when="any_failed")
    bench.sequence()
    before = time.monotonic()
    result = way.run(bench, max_workers=len(THREADS))
    assert all(overstayed(result.steps[kind]) for kind in kinds)
    assert result.outputs["report"] == "told"
    assert time.monotonic() - before < LIMIT + 2 * LATE


@pytest.mark.parametrize("kind", THREADS)
def test_a_failure_tells_where_a_block_was_that_had_to_be_interrupted(durable, bench, kind):
    """Also where its thread never reports back."""
    bench.step("a", getattr(stubborn, kind), timeout=LIMIT)
    bench.sequence()
    result = durable.run(bench)
    assert overstayed(result.steps["a"])
    told = result.steps["a"].traceback
    first, second, *_, last = told.splitlines()
    assert first == "Traceback (most recent call last):" and last.startswith("StepTimeout: the attempt ran past")
    assert "stubborn_blocks.py" in second and f"in {kind}" in second and "pool.py" not in told
    assert durable.state.attempts(result.run_id).items[0].traceback == told and "stubborn_blocks.py" in result.error


def test_the_timekeeper_goes_on_though_a_handler_of_the_application_fails(way, bench):
    """R66: it logs that a thread is left behind."""

    class Failing(logging.Handler):
        def emit(self, record):
            raise RuntimeError("the application's bug")

    bench.step("stuck", stubborn.swallowing, timeout=LIMIT)
    bench.sequence()
    failing = Failing()
    logging.getLogger("blaze.engine").addHandler(failing)
    try:
        assert way.run(bench).steps["stuck"].reason == "timeout"
    finally:
        logging.getLogger("blaze.engine").removeHandler(failing)


class Unending:
    """Asked for its pickle, it waits for something that does not come."""

    def __init__(self, wait):
        self.wait = wait

    def __reduce__(self):
        self.wait()
        return int, ()


@pytest.mark.parametrize("kind", ["thread", "async"])
@pytest.mark.parametrize("whose", ["step", "run"])
def test_an_output_that_is_never_done_with_being_pickled_ends_at_the_limit(durable, bench, kind, whose):
    def block():
        return Unending(stubborn.waiting)

    async def async_block():
        return block()

    limit = LIMIT if whose == "step" else None
    bench.step("a", async_block if kind == "async" else block, timeout=limit)
    bench.step("child", one, "a")
    bench.sequence(seq_run_timeout=3600 if whose == "step" else LIMIT)
    bench.step("other", one)
    bench.sequence(seq_id="others")
    scheduler = durable.scheduler(bench, max_workers=1)
    result = scheduler.run("seq", timeout=PATIENCE)
    assert (result.status, result.reason) == (RunStatus.FAILED, "timeout")
    assert result.steps["a"].reason == "timeout" and "child" not in result.outputs
    assert scheduler.run("others", timeout=PATIENCE).ok
    assert scheduler.status().leaked_threads == 1


def test_where_an_interrupted_block_was_is_told_within_bounds(way, bench):
    free = stubborn._free

    def dive(depth=400):
        return dive(depth - 1) if depth else free.wait(60)

    bench.step("a", dive, timeout=LIMIT)
    bench.sequence()
    step = way.run(bench).steps["a"]
    assert overstayed(step) and len(step.traceback.splitlines()) < 150
    assert "dive" in step.traceback and "in wait" in step.traceback


def test_a_process_that_overstays_is_killed(durable, bench, tmp_path):
    witness, limit = tmp_path / "pid", 1.0
    bench.step("warm", stubborn.pid, executor="process")  # a busy machine may need more than the limit to start one
    parameters = {"witness": str(witness)}
    bench.step("a", stubborn.swallowing, "warm", executor="process", timeout=limit, parameters=parameters)
    bench.step("after", stubborn.pid, "a", executor="process", run_when="any_failed")
    bench.sequence()
    scheduler = durable.scheduler(bench, max_workers=1)
    result = scheduler.run("seq", timeout=PATIENCE)
    assert overstayed(result.steps["a"], limit)
    assert int(witness.read_text()) == result.outputs["warm"] and is_gone(result.outputs["warm"])
    assert result.steps["after"].status is COMPLETED and result.outputs["after"] != result.outputs["warm"]
    assert scheduler.status().leaked_threads == 0


@pytest.fixture(scope="module")
def processes():
    """A pool with one process that is there already; the tests that use it leave it in order."""
    with ProcessPoolExecutor(1, mp_context=SPAWN) as executor:
        executor.submit(stubborn.pid).result(PATIENCE)
        yield executor


@pytest.fixture
def threads():
    with ThreadPoolExecutor(1, thread_name_prefix="own") as executor:
        yield executor


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_a_block_that_overstays_in_an_executor_of_the_user_is_failed_in_time(durable, bench, request, pool):
    bench.step("a", stubborn.sleeping, timeout=LIMIT, executor="own")
    bench.step("after", one, "a", run_when="any_failed")
    bench.sequence()
    result = durable.run(bench, executors={"own": request.getfixturevalue(pool)})
    assert overstayed(result.steps["a"])
    assert result.steps["after"].status is COMPLETED


def test_what_still_waits_in_an_executor_at_its_limit_never_runs(way, bench, threads):
    go, ran = threading.Event(), []
    threads.submit(go.wait, PATIENCE)
    bench.step("a", lambda: ran.append("a"), timeout=LIMIT, executor="own")
    bench.sequence()
    try:
        assert overstayed(way.run(bench, executors={"own": threads}).steps["a"])
    finally:
        go.set()
    threads.submit(one).result(PATIENCE)
    assert not ran


def test_a_block_that_asks_in_time_cleans_up_and_its_thread_goes_on(way, bench):
    seen = {}

    def polite():
        seen["thread"] = threading.get_ident()
        try:
            while True:
                current().check_cancelled()
                time.sleep(0.001)
        except StepCancelled:
            seen["cancelled"] = current().cancelled
            raise
        finally:
            seen["cleaned"] = True

    bench.step("a", polite, timeout=LIMIT)
    bench.step("after", lambda: threading.get_ident(), "a", run_when="any_failed")
    bench.sequence()
    result = way.run(bench, max_workers=1)
    assert overstayed(result.steps["a"])
    assert seen == {"thread": result.outputs["after"], "cancelled": True, "cleaned": True}


@pytest.mark.parametrize("end", ["returns", "raises"])
def test_what_a_block_makes_of_being_asked_does_not_change_the_verdict(way, bench, end):
    def block():
        while not current().cancelled:
            time.sleep(0.001)
        if end == "raises":
            raise KeyError("in the middle")
        return "in spite of all"

    bench.step("a", block, timeout=LIMIT)
    bench.sequence()
    result = way.run(bench)
    assert overstayed(result.steps["a"]) and "a" not in result.outputs
    assert end == "returns" or "in the middle" in result.steps["a"].traceback


def test_an_async_block_that_is_cancelled_cleans_up(way, bench):
    cleaned = []

    async def block():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    bench.step("a", block, timeout=LIMIT)
    bench.sequence()
    assert overstayed(way.run(bench).steps["a"]) and cleaned


def test_the_other_coroutines_go_on_when_one_overstays(durable, bench):
    bench.step("stuck", stubborn.clinging, timeout=LIMIT)

    async def patient():
        for _ in range(20):
            await asyncio.sleep(0.01)
        return "done"

    bench.step("patient", patient)
    bench.step("after", patient, "stuck", run_when="any_failed")
    bench.sequence()
    result = durable.run(bench)
    assert statuses(result) == {"stuck": FAILED, "patient": COMPLETED, "after": COMPLETED}


def test_capacity_stays_though_every_worker_was_lost(scheduled, bench):
    for number in range(6):
        bench.step(f"stuck{number}", stubborn.swallowing, timeout=LIMIT)
    for number in range(20):
        bench.step(f"fine{number}", one)
    bench.sequence()
    scheduler = scheduled.scheduler(bench, max_workers=3)
    result = scheduler.run("seq", timeout=PATIENCE)
    assert sum(step.status is FAILED for step in result.steps.values()) == 6
    assert sum(step.status is COMPLETED for step in result.steps.values()) == 20
    assert scheduler.status().leaked_threads == 6
    together = threading.Barrier(3)
    for name in "abc":
        bench.step(name, lambda: together.wait(PATIENCE))
    bench.sequence(seq_id="together")
    assert scheduler.run("together", timeout=PATIENCE).ok
    stubborn.release()
    wait_until(lambda: scheduler.status().leaked_threads == 0, "the end of the threads")
    assert scheduler.run("together", timeout=PATIENCE).ok


def test_an_attempt_that_overstayed_is_retried_and_what_it_returns_late_is_discarded(scheduled, bench):
    """R11."""
    go, threads = threading.Event(), []

    def block():
        attempt = current().attempt
        threads.append(threading.current_thread())
        if attempt == 1:
            with contextlib.suppress(BaseException):
                wait(go)
            while not go.is_set():
                time.sleep(0.001)
        return attempt

    bench.step("a", block, timeout=LIMIT, retries=1)
    bench.step("b", lambda a: a * 10, "a")
    bench.sequence()
    scheduler = scheduled.scheduler(bench, max_workers=2)
    result = scheduler.run("seq", timeout=PATIENCE)

    def told():
        records = [(record.status, record.attempts, record.preview) for record in scheduler.state.steps(result.run_id)]
        return result.outputs["a"], result.outputs["b"], result.steps["a"].attempts, result.order, records

    expected = (2, 20, 2, ("a", "b"), [(COMPLETED, 2, "2"), (COMPLETED, 1, "20")])
    assert result.ok and told() == expected
    attempts = scheduler.state.attempts(result.run_id).items
    assert [(attempt.attempt, attempt.reason) for attempt in attempts] == [(1, "timeout")]
    go.set()
    threads[0].join(PATIENCE)
    assert not threads[0].is_alive() and told() == expected


def test_what_one_attempt_returns_late_is_not_taken_for_the_next_one(scheduled, bench):
    """R11; the first attempt returns while the second one runs."""
    clock, first, second, threads = HandClock(), threading.Event(), threading.Event(), []

    def block():
        attempt = current().attempt
        threads.append(threading.current_thread())
        if attempt == 1:
            while not first.is_set():
                with contextlib.suppress(BaseException):
                    first.wait(0.001)
            return "late"
        wait(second)
        return "second"

    bench.step("a", block, retries=1, timeout=60)
    bench.step("b", lambda a: a, "a")
    bench.sequence()
    handle = scheduled.scheduler(bench, max_workers=1, clock=clock).trigger("seq")
    wait_until(lambda: threads, "the first attempt")
    for seconds in (61, 0.2, 0.3):
        clock.advance(seconds)
    wait_until(lambda: len(threads) == 2, "the second attempt")
    first.set()
    threads[0].join(PATIENCE)
    assert not threads[0].is_alive() and not handle.done()
    second.set()
    result = handle.result(PATIENCE)
    assert dict(result.outputs) == {"a": "second", "b": "second"} and result.steps["a"].attempts == 2


def test_a_timeout_is_no_reason_to_retry_what_retry_on_does_not_name(way, bench):
    bench.step("a", stubborn.awaiting, timeout=LIMIT, retries=3, retry_on=(ValueError,))
    bench.sequence()
    assert way.run(bench).steps["a"].attempts == 1


def test_a_timeout_is_for_one_attempt_and_not_for_the_waits_between_them(scheduled, bench):
    clock = HandClock()

    def block():
        if current().attempt == 1:
            raise ValueError
        return (current().deadline - started).total_seconds()

    bench.step("a", block, timeout=10, retries=1, retry_delay=1000)
    bench.sequence()
    handle = scheduled.scheduler(bench, clock=clock).trigger("seq")
    wait_until(lambda: handle._run.retrying, "the failure")
    clock.advance(999)
    started = as_datetime(clock.time() + 2)
    clock.advance(2)
    assert handle.result(PATIENCE).outputs["a"] == pytest.approx(10, abs=0.001)


# ---------------------------------------------------------------------- the whole run


@pytest.mark.parametrize("kind", ["swallowing", "awaiting"])
def test_a_run_past_its_limit_is_failed_in_time_and_starts_nothing_more(way, bench, kind):
    ran = []
    bench.step("quick", one)
    bench.step("stuck", getattr(stubborn, kind), retries=5)
    bench.step("after", lambda: ran.append("after"), "stuck", run_when="all_done")
    bench.sequence(finaliser=ran.append, seq_run_timeout=2 * LIMIT)
    before = time.monotonic()
    result = way.run(bench)
    assert time.monotonic() - before < 2 * LIMIT + 2 * LATE
    assert (result.status, result.reason, result.output) == (RunStatus.FAILED, "timeout", None)
    assert statuses(result) == {"quick": COMPLETED, "stuck": FAILED, "after": CANCELLED}
    assert result.steps["stuck"].attempts == 1
    assert {result.steps[name].reason for name in ("stuck", "after")} == {"timeout"}
    assert "seq_run_timeout" in result.error and not ran


def test_the_limit_of_a_run_counts_while_a_step_waits_for_its_retry(scheduled, bench):
    clock = HandClock()

    def flaky():
        raise ValueError("once more")

    bench.step("a", flaky, retries=5, retry_delay=3600)
    bench.sequence(seq_run_timeout=60)
    handle = scheduled.scheduler(bench, clock=clock).trigger("seq")
    wait_until(lambda: handle._run.retrying, "the failure")
    clock.advance(59)
    assert not handle.done()
    clock.advance(2)
    result = handle.result(PATIENCE)
    assert (result.status, result.reason) == (RunStatus.FAILED, "timeout")
    assert result.steps["a"].status is CANCELLED and result.steps["a"].attempts == 1


def test_a_run_that_waits_for_a_worker_ends_at_its_limit_and_not_when_there_is_one(scheduled, bench):
    """R35; the only worker stays busy."""
    started, go, ran = threading.Event(), threading.Event(), []
    bench.step("hold", lambda: (started.set(), wait(go)))
    bench.sequence(seq_id="hold")
    bench.step("a", lambda: ran.append("a"))
    bench.sequence(seq_run_timeout=2 * LIMIT)
    scheduler = scheduled.scheduler(bench, max_workers=1)
    holding = scheduler.trigger("hold")
    wait(started)
    try:
        result = scheduler.run("seq", timeout=2 * LIMIT + LATE)
    finally:
        go.set()
    assert (result.status, result.reason) == (RunStatus.FAILED, "timeout")
    assert statuses(result) == {"a": CANCELLED} and not ran
    assert holding.result(PATIENCE).ok


def test_the_limit_of_a_run_counts_for_its_finaliser(way, bench):
    bench.step("a", one)
    bench.sequence(finaliser=lambda context: stubborn.swallowing(), seq_run_timeout=2 * LIMIT)
    result = way.run(bench)
    assert (result.status, result.reason, result.output) == (RunStatus.FAILED, "timeout", None)
    assert result.steps["a"].status is COMPLETED


def test_a_run_reaches_its_limit_by_the_clock_of_the_scheduler(scheduled, bench):
    clock, started = HandClock(), threading.Event()

    def patient():
        started.set()
        while not current().cancelled:
            time.sleep(0.001)

    bench.step("a", patient)
    bench.sequence(seq_run_timeout=3600)
    handle = scheduled.scheduler(bench, clock=clock).trigger("seq")
    wait(started)
    clock.advance(3599)
    assert not handle.done()
    clock.advance(2)
    result = handle.result(PATIENCE)
    assert (result.reason, result.steps["a"].reason) == ("timeout", "timeout")
    assert result.duration == pytest.approx(3601)


def test_a_run_that_begins_just_as_the_timekeeper_goes_to_sleep_keeps_its_limit(scheduled, bench, monkeypatch):
    """It has seen that nothing runs, and has not slept yet."""
    decide, handles = Timekeeper._patience, []

    def patience(self, *arguments):
        seconds = decide(self, *arguments)
        if seconds > 1 and not handles:
            thread = threading.Thread(target=lambda: handles.append(scheduler.trigger("seq")))
            thread.start()
            thread.join(PATIENCE)
        return seconds

    bench.step("quick", one)
    bench.sequence(seq_id="quick")
    bench.step("a", stubborn.waiting)
    bench.sequence(seq_run_timeout=2 * LIMIT)
    scheduler = scheduled.scheduler(bench)
    monkeypatch.setattr(timekeeper, "LINGER", 1)
    monkeypatch.setattr(Timekeeper, "_patience", patience)
    scheduler.run("quick", timeout=PATIENCE)
    wait_until(lambda: handles, "the sleep")
    assert handles[0].result(2 * LIMIT + LATE).reason == "timeout"


def test_the_limit_of_a_run_holds_while_the_scheduler_is_paused(scheduled, bench):
    bench.step("a", one)
    bench.sequence(seq_run_timeout=LIMIT)
    scheduler = scheduled.scheduler(bench)
    scheduler.pause()
    result = scheduler.run("seq", timeout=LIMIT + LATE)
    assert (result.status, result.reason) == (RunStatus.FAILED, "timeout")


# ---------------------------------------------------------------------- cancelling


def cancelled(result):
    assert (result.status, result.reason, result.output) == (RunStatus.CANCELLED, "cancelled_by_user", None)
    with pytest.raises(RunFailed, match="CANCELLED"):
        result.raise_for_status()
    return True


def running(handle, step=0):
    wait_until(lambda: handle._run.status_of(step) is BlockStatus.RUNNING, "the start")
    return handle


@pytest.mark.parametrize("kind", [*THREADS, *COROUTINES])
def test_a_run_whose_block_is_stuck_can_be_cancelled(durable, bench, kind):
    ran = []
    bench.step("a", getattr(stubborn, kind), retries=5)
    bench.step("after", lambda: ran.append("after"), "a", run_when="all_done")
    bench.sequence(finaliser=ran.append)
    scheduler = durable.scheduler(bench)
    handle = running(scheduler.trigger("seq"))
    before = time.monotonic()
    assert handle.cancel() is True and handle.cancel() is False
    result = handle.result(PATIENCE)
    assert time.monotonic() - before < LATE
    assert cancelled(result) and handle.cancel() is False
    assert statuses(result) == {"a": CANCELLED, "after": CANCELLED} and not ran
    assert result.steps["a"].attempts == 1
    assert scheduler.state.find_run(handle.run_id).status is RunStatus.CANCELLED
    records = scheduler.state.steps(handle.run_id)
    assert [(record.status, record.reason) for record in records] == [(CANCELLED, "cancelled_by_user")] * 2


def test_a_run_whose_block_is_in_a_process_can_be_cancelled(durable, bench, tmp_path):
    witness = tmp_path / "pid"
    bench.step("a", stubborn.swallowing, executor="process", parameters={"witness": str(witness)})
    bench.sequence()
    handle = durable.scheduler(bench).trigger("seq")
    wait_until(witness.exists, "the start of the process")
    handle.cancel()
    assert cancelled(handle.result(LATE))
    wait_until(lambda: is_gone(int(witness.read_text())), "the end of the process")


def test_a_run_can_be_cancelled_while_its_process_is_being_started(durable, bench):
    bench.step("a", stubborn.waiting, executor="process")
    bench.sequence()
    handle = running(durable.scheduler(bench).trigger("seq"))
    handle.cancel()
    assert cancelled(handle.result(LATE))


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_a_run_whose_block_is_in_an_executor_of_the_user_can_be_cancelled(durable, bench, request, pool):
    bench.step("a", stubborn.sleeping, executor="own")
    bench.step("queued", stubborn.pid, executor="own")
    bench.sequence()
    scheduler = durable.scheduler(bench, executors={"own": request.getfixturevalue(pool)}, max_workers=1)
    handle = running(scheduler.trigger("seq"), 1)
    handle.cancel()
    result = handle.result(LATE)
    assert cancelled(result) and statuses(result) == {"a": CANCELLED, "queued": CANCELLED}


def test_a_run_that_waits_for_a_worker_can_be_cancelled(scheduled, bench):
    started, go, ran = threading.Event(), threading.Event(), []
    bench.step("hold", lambda: (started.set(), wait(go)))
    bench.sequence(seq_id="hold")
    bench.step("a", lambda: ran.append("a"))
    bench.sequence()
    scheduler = scheduled.scheduler(bench, max_workers=1)
    holding = scheduler.trigger("hold")
    wait(started)
    handle = scheduler.trigger("seq")
    assert handle.status is RunStatus.PENDING
    try:
        assert scheduler.cancel(handle.run_id) is True
        assert cancelled(handle.result(LATE))
    finally:
        go.set()
    assert holding.result(PATIENCE).ok and not ran


@pytest.mark.parametrize("how", ["cancelled", "timeout of the attempt", "timeout of the run"])
def test_an_async_block_is_stopped_in_time_though_every_worker_is_busy(scheduled, bench, how):
    started, go = threading.Event(), threading.Event()
    bench.step("hold", lambda: (started.set(), wait(go)))
    bench.sequence(seq_id="hold")
    bench.step("a", stubborn.awaiting, timeout=2 * LIMIT if how == "timeout of the attempt" else None)
    bench.sequence(seq_run_timeout=2 * LIMIT if how == "timeout of the run" else None)
    scheduler = scheduled.scheduler(bench, max_workers=1)
    handle = running(scheduler.trigger("seq"))
    scheduler.trigger("hold")
    wait(started)
    if how == "cancelled":
        handle.cancel()
    try:
        result = handle.result(2 * LIMIT + LATE)
    finally:
        go.set()
    assert result.reason == ("cancelled_by_user" if how == "cancelled" else "timeout")


def test_a_run_that_waits_for_a_retry_can_be_cancelled(scheduled, bench):
    def flaky():
        raise ValueError("once more")

    bench.step("a", flaky, retries=5, retry_delay=3600)
    bench.sequence()
    scheduler = scheduled.scheduler(bench)
    handle = scheduler.trigger("seq")
    wait_until(lambda: handle._run.retrying, "the failure")
    assert scheduler.cancel(handle.run_id[:8]) is True
    result = handle.result(LATE)
    assert cancelled(result) and result.steps["a"].status is CANCELLED and result.steps["a"].attempts == 1
    record = scheduler.state.steps(handle.run_id)[0]
    assert record.status is CANCELLED and record.attempts == 1 and record.retry is None


def test_a_run_can_be_cancelled_in_its_finaliser(scheduled, bench):
    started = threading.Event()

    def finaliser(context):
        started.set()
        stubborn.busy()

    bench.step("a", one)
    bench.sequence(finaliser=finaliser)
    handle = scheduled.scheduler(bench).trigger("seq")
    wait(started)
    assert handle.cancel()
    result = handle.result(LATE)
    assert cancelled(result) and result.steps["a"].status is COMPLETED


def test_a_block_that_ends_in_spite_of_being_cancelled_keeps_its_output(scheduled, bench):
    started = threading.Event()

    def block():
        started.set()
        while not current().cancelled:
            time.sleep(0.001)
        return "done anyway"

    bench.step("a", block)
    bench.step("after", one, "a")
    bench.sequence()
    handle = scheduled.scheduler(bench).trigger("seq")
    wait(started)
    handle.cancel()
    result = handle.result(LATE)
    assert cancelled(result) and statuses(result) == {"a": COMPLETED, "after": CANCELLED}
    assert result.outputs["a"] == "done anyway"


def test_a_run_with_a_failed_step_is_failed_though_it_was_cancelled(scheduled, bench):
    """DESIGN §3: any step FAILED makes the run FAILED; that it was cancelled is the reason."""
    bench.step("fails", lambda: 1 / 0)
    bench.step("runs", stubborn.busy)
    bench.step("after", one, "runs")
    bench.sequence()
    scheduler = scheduled.scheduler(bench)
    handle = scheduler.trigger("seq")
    wait_until(lambda: handle._run.status_of(0) is FAILED, "the failure")
    assert running(handle, 1).cancel()
    result = handle.result(PATIENCE)
    assert statuses(result) == {"fails": FAILED, "runs": CANCELLED, "after": CANCELLED}
    assert (result.status, result.reason) == (RunStatus.FAILED, "cancelled_by_user")
    assert "ZeroDivisionError" in result.error
    record = scheduler.state.find_run(handle.run_id)
    assert (record.status, record.reason) == (RunStatus.FAILED, "cancelled_by_user")


def test_a_run_that_has_ended_can_t_be_cancelled(scheduled, bench):
    bench.step("a", one)
    bench.sequence()
    scheduler = scheduled.scheduler(bench)
    handle = scheduler.trigger("seq")
    assert handle.result(PATIENCE).ok
    assert handle.cancel() is False and scheduler.cancel(handle.run_id) is False
    assert handle.status is RunStatus.COMPLETED


def test_a_cancelled_run_takes_nothing_of_the_others_with_it(scheduled, bench):
    together, go = threading.Barrier(4), threading.Event()

    def block():
        together.wait(PATIENCE)
        while not (go.is_set() or current().cancelled):
            time.sleep(0.001)
        return current().run_id

    bench.step("a", block)
    bench.sequence()
    scheduler = scheduled.scheduler(bench)
    handles = [scheduler.trigger("seq") for _ in range(3)]
    together.wait(PATIENCE)
    handles[1].cancel()
    assert handles[1].result(LATE).status is RunStatus.CANCELLED
    go.set()
    for handle in (handles[0], handles[2]):
        assert handle.result(PATIENCE).outputs["a"] == handle.run_id


class Door:
    """A run's lock that keeps a worker out which has just taken a step."""

    def __init__(self, lock):
        self.lock, self.arrived, self.open = lock, threading.Event(), threading.Event()

    def __enter__(self):
        if sys._getframe(1).f_code.co_name == "perform":
            self.arrived.set()
            self.open.wait(PATIENCE)
        return self.lock.__enter__()

    def __exit__(self, *exc_info):
        return self.lock.__exit__(*exc_info)


@pytest.mark.parametrize("stalls", [False, True])
@pytest.mark.parametrize("reason", ["timeout", "cancelled_by_user"])
def test_a_step_that_is_cancelled_at_the_instant_in_which_it_is_taken_ends_once(scheduled, bench, reason, stalls):
    """``stalls``: the worker that has taken it gets no time until the timekeeper has given its attempt up."""
    clock = HandClock()
    bench.step("a", one)
    bench.step("b", one)
    bench.sequence()
    scheduler = scheduled.scheduler(bench, max_workers=1, clock=clock)
    scheduler.pause()
    handle = scheduler.trigger("seq")
    run = handle._run
    door = run.lock = Door(run.lock)
    scheduler.resume()
    wait(door.arrived)
    run.halt(reason)
    for _ in range(4 if stalls else 0):
        clock.advance(0.2)
    door.open.set()
    result = handle.result(PATIENCE)
    told = result.to_dict()
    assert statuses(result) == {"a": CANCELLED, "b": CANCELLED} and not result.failures
    wait_until(lambda: not scheduler.status().busy_workers, "the worker's own look")
    for _ in range(4):
        clock.advance(0.2)
    assert result.to_dict() == told and not result.failures and not result.order
    assert not scheduler.state.attempts(handle.run_id).items
    assert run.open == 0


def test_runs_that_are_cancelled_in_the_thick_of_it_end_every_step_once(scheduled, bench):
    """Four workers take steps that take no time while the run is being cancelled."""
    counting, go, ran = threading.Lock(), threading.Event(), [0]

    def block():
        with counting:
            ran[0] += 1
            if ran[0] % 100 == 0:
                go.set()

    for number in range(400):
        bench.step(f"s{number}", block)
    bench.sequence()
    scheduler = scheduled.scheduler(bench)
    results = []
    for _ in range(10):
        go.clear()
        handle = scheduler.trigger("seq")
        wait(go)
        handle.cancel()
        results.append((handle.result(PATIENCE), handle._run))
    completed = 0
    for result, run in results:
        ended = [name for name, step in result.steps.items() if step.status is COMPLETED]
        assert sorted(ended) == sorted(result.order) and run.open == 0
        assert set(statuses(result).values()) <= {COMPLETED, CANCELLED}
        completed += len(ended)
    assert completed == ran[0]


# ---------------------------------------------------------------------- executors of the user


def test_a_named_executor_runs_its_blocks_and_holds_no_worker(way, bench):
    together = threading.Barrier(3)

    def block():
        together.wait(PATIENCE)
        return threading.current_thread().name, current().step, current().attempt

    with ThreadPoolExecutor(3, thread_name_prefix="own") as executor:
        for name in "abc":
            bench.step(name, block, executor="own")
        bench.step("d", lambda: threading.current_thread().name, "a", "b", "c")
        bench.sequence()
        result = way.run(bench, max_workers=1, executors={"own": executor})
    for name in "abc":
        assert result.outputs[name][0].startswith("own") and result.outputs[name][1:] == (name, 1)
    assert not result.outputs["d"].startswith("own")


def test_a_pool_of_processes_runs_blocks_and_retries_them(way, bench, processes):
    bench.step("a", stubborn.pid, executor="own")
    bench.step("b", fail_once, "a", executor="own", retries=1)
    bench.sequence()
    result = way.run(bench, executors={"own": processes})
    assert result.outputs["a"] != os.getpid() and result.outputs["b"] == ("b", 2)
    assert result.steps["b"].attempts == 2


def fail_once():
    here = current()
    if here.attempt == 1:
        raise ValueError("once")
    return here.step, here.attempt


def test_a_pool_of_processes_that_breaks_fails_its_blocks_and_no_others(durable, bench):
    with ProcessPoolExecutor(1, mp_context=SPAWN) as executor:
        bench.step("a", stubborn.crash, executor="own", retries=1)
        bench.step("b", stubborn.pid, "a", executor="own", run_when="any_failed")
        bench.step("c", one)
        bench.sequence()
        result = durable.run(bench, executors={"own": executor})
    assert statuses(result) == {"a": FAILED, "b": FAILED, "c": COMPLETED}
    assert result.steps["a"].attempts == 2
    assert result.steps["a"].reason == result.steps["b"].reason == result.reason == "crashed"
    assert {one.reason for one in durable.state.attempts(result.run_id)} == {"crashed"}


def test_a_block_that_breaks_a_pool_of_its_own_has_not_crashed(way, bench):
    def block():
        with ProcessPoolExecutor(1, mp_context=SPAWN) as executor:
            executor.submit(stubborn.crash).result(PATIENCE)

    bench.step("a", block)
    bench.sequence()
    step = way.run(bench).steps["a"]
    assert step.status is FAILED and step.reason is None and "BrokenProcessPool" in step.failure.message


@pytest.mark.parametrize("cancel_futures", [False, True])
def test_an_executor_that_is_shut_down_in_mid_run_fails_what_it_does_not_run(way, bench, cancel_futures):
    executor = ThreadPoolExecutor(1)
    closing = threading.Event()

    def close():
        run = current().run
        closing.set()
        wait_until(lambda: run.status_of(2) is BlockStatus.RUNNING and not executor._work_queue.empty(), "the queue")
        executor.shutdown(wait=False, cancel_futures=cancel_futures)

    bench.step("close", close, executor="own")
    bench.step("gate", lambda: wait(closing))
    bench.step("queued", one, "gate", executor="own")
    bench.step("later", one, "close", executor="own")
    bench.step("other", one, "later", run_when="any_failed")
    bench.sequence()
    result = way.run(bench, executors={"own": executor})
    assert statuses(result) == {
        "close": COMPLETED, "gate": COMPLETED, "queued": FAILED if cancel_futures else COMPLETED, "later": FAILED,
        "other": COMPLETED,
    }  # fmt: skip
    assert "shutdown" in result.steps["later"].failure.message


class AtOnce(Executor):
    """Runs what it is given before it returns."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def test_an_executor_may_run_a_block_before_submit_returns(way, bench):
    bench.step("a", one, executor="own")
    bench.step("b", lambda a: a + 1, "a", executor="own")
    bench.step("bad", lambda: 1 / 0, executor="own", retries=1)
    bench.sequence()
    result = way.run(bench, executors={"own": AtOnce()})
    assert statuses(result) == {"a": COMPLETED, "b": COMPLETED, "bad": FAILED}
    assert result.outputs["b"] == 2 and result.steps["bad"].attempts == 2


class Refusing(Executor):
    def submit(self, fn, /, *args, **kwargs):
        raise RuntimeError("not today")


def test_an_executor_that_refuses_a_block_fails_it(way, bench):
    bench.step("a", one, executor="own", retries=1)
    bench.step("b", one)
    bench.sequence()
    result = way.run(bench, executors={"own": Refusing()})
    assert statuses(result) == {"a": FAILED, "b": COMPLETED}
    assert result.steps["a"].attempts == 2 and "not today" in result.error


# ---------------------------------------------------------------------- stopping the scheduler


@pytest.mark.parametrize("kind", ["busy", "swallowing", "awaiting"])
def test_a_scheduler_with_a_stuck_block_stops_in_time_and_makes_the_step_again_when_it_starts(durable, bench, kind):
    tries = []

    def block():
        tries.append(current().idempotency_key)
        if len(tries) == 1:
            getattr(stubborn, kind)()
        return current().attempt

    async def block_async():
        tries.append(current().idempotency_key)
        if len(tries) == 1:
            await stubborn.awaiting()
        return current().attempt

    bench.step("a", one)
    bench.step("b", block_async if kind == "awaiting" else block, "a")
    bench.sequence()
    scheduler = durable.scheduler(bench)
    handle = scheduler.trigger("seq")
    wait_until(lambda: tries, "the start")
    before = time.monotonic()
    scheduler.stop(grace=0.05)
    assert time.monotonic() - before < 2 * LATE
    with pytest.raises(Exception, match="stopped before run") as raised:
        handle.result(0)
    assert type(raised.value).__name__ == "RunSuspended"
    stubborn.release()
    again = durable.scheduler(bench, state_dir=scheduler.state_dir)
    wait_until(lambda: not again.runs, "the resumed run")
    steps = {record.name: (record.status, record.attempts) for record in again.state.steps(handle.run_id)}
    assert steps == {"a": (COMPLETED, 1), "b": (COMPLETED, 1)}
    assert len(tries) == 2 and len(set(tries)) == 1


def test_a_soft_stop_lets_running_blocks_end(durable, bench):
    started, ran = threading.Event(), []

    def block():
        started.set()
        pool = current().run.engine.pool
        wait_until(lambda: pool.held, "the stop")
        ran.append(1)
        return "whole"

    bench.step("a", block)
    bench.step("b", lambda a: a, "a")
    bench.sequence()
    scheduler = durable.scheduler(bench)
    handle = scheduler.trigger("seq")
    wait(started)
    scheduler.stop(grace=PATIENCE)
    again = durable.scheduler(bench, state_dir=scheduler.state_dir)
    wait_until(lambda: not again.runs, "the resumed run")
    assert again.state.find_run(handle.run_id).status is RunStatus.COMPLETED
    assert [record.preview for record in again.state.steps(handle.run_id)] == ["'whole'"] * 2 and ran == [1]
