"""What a run promises (DESIGN §3), kept by ``sequences.run()``, a scheduler in memory and a durable one alike."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import random
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures import wait as wait_for_all
from contextvars import ContextVar
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from blaze import (
    Abort,
    Blaze,
    BlazeError,
    BlockStatus,
    NotFound,
    Retention,
    Retry,
    RunFailed,
    RunResult,
    RunStatus,
    SeqBlockData,
    StepCancelled,
    current,
)
from blaze.core import session
from blaze.core.do import scribe
from blaze.core.do.ending import Ending
from blaze.core.what.declarations import RUN_WHEN
from tests.integration.workbench import PATIENCE, HandClock, Way, keep, wait, wait_until, within_patience

COMPLETED, FAILED, SKIPPED, CANCELLED = (
    BlockStatus.COMPLETED, BlockStatus.FAILED, BlockStatus.SKIPPED, BlockStatus.CANCELLED,
)  # fmt: skip


ROOT = Path(__file__).parents[2]


def statuses(result):
    return {name: step.status for name, step in result.steps.items()}


def one():
    return 1


def boom():
    raise ValueError("boom")


class Payload:
    """An output that can be watched."""

    def __init__(self, size=1):
        self.size = size


# ---------------------------------------------------------------------- the order of things


def test_a_chain_hands_each_output_to_the_next_step(way, bench):
    bench.step("a", lambda: [1])
    bench.step("b", lambda rows: [*rows, 2], parameters={"rows": "@a"})
    bench.step("c", lambda rows: [*rows, 3], parameters={"rows": "@b"})
    bench.sequence()
    result = way.run(bench)
    assert result.status is RunStatus.COMPLETED
    assert result.output == {"a": [1], "b": [1, 2], "c": [1, 2, 3]} == dict(result.outputs)
    assert result.order == ("a", "b", "c")


def test_a_join_sees_every_branch_of_a_fan_out(way, bench):
    bench.step("source", lambda: 10)
    names = [f"part{number}" for number in range(50)]
    for number, name in enumerate(names):
        bench.step(name, lambda source, number: source * number, "source", parameters={"number": number})
    bench.step("sink", lambda parts: sum(parts), parameters={"parts": [f"@{name}" for name in names]})
    bench.sequence()
    result = way.run(bench)
    assert result.outputs["sink"] == sum(10 * number for number in range(50))
    assert result.order[0] == "source" and result.order[-1] == "sink" and len(result.order) == 52


def test_in_a_diamond_both_sides_run_between_top_and_bottom(way, bench):
    meet = threading.Barrier(2)
    bench.step("top", lambda: 1)
    bench.step("left", lambda top: (meet.wait(PATIENCE), top + 1)[1], "top")
    bench.step("right", lambda top: (meet.wait(PATIENCE), top + 2)[1], "top")
    bench.step("bottom", lambda left, right: (left, right), "left", "right")
    bench.sequence()
    result = way.run(bench)
    assert result.outputs["bottom"] == (2, 3)
    assert result.order[0] == "top" and result.order[3] == "bottom"


def test_no_step_starts_before_all_of_its_dependencies_have_ended(way, bench):
    chance = random.Random(7)
    ended, early = [], []

    def work(name, needs):
        early.extend(need for need in needs if need not in ended)
        ended.append(name)

    for number in range(120):
        needs = chance.sample([f"s{before}" for before in range(number)], min(number, chance.randrange(5)))
        bench.step(f"s{number}", work, *needs, parameters={"name": f"s{number}", "needs": needs})
    bench.sequence()
    result = way.run(bench)
    assert result.ok and not early
    assert sorted(ended) == sorted(result.order) and len(ended) == 120


@pytest.mark.parametrize("wide", [False, True], ids=["chain", "fan"])
@pytest.mark.parametrize("way", ["in_memory", "durable"], indirect=True)
def test_ten_thousand_steps_are_checked_within_a_second_and_run(way, bench, wide):
    """R27."""
    ran = []
    bench.blocks.block(name="work")(lambda: ran.append(0))
    bench.wiring = [
        SeqBlockData("work", [] if not number else ["s0" if wide else f"s{number - 1}"], name=f"s{number}")
        for number in range(10_000)
    ]
    sequence = bench.sequence(finaliser=len)
    before = time.thread_time()
    sequence.validate()
    assert time.thread_time() - before < 1.0
    assert way.run(bench).output == 10_000 == len(ran)


def test_a_chain_never_changes_thread(bench):
    for number in range(200):
        bench.step(f"s{number}", lambda: threading.get_ident(), *[f"s{number - 1}"] * (number > 0))
    bench.sequence()
    assert len(set(bench.sequences.run("seq").output.values())) == 1


def test_as_many_steps_run_at_a_time_as_there_are_workers_and_never_more(way, bench):
    together = threading.Barrier(3)
    counting, running, most = threading.Lock(), [0], [0]

    def work():
        with counting:
            running[0] += 1
            most[0] = max(most[0], running[0])
        together.wait(PATIENCE)
        with counting:
            running[0] -= 1

    for number in range(30):
        bench.step(f"s{number}", work)
    bench.sequence()
    assert way.run(bench, max_workers=3).ok
    assert most == [3]


def test_one_worker_runs_independent_steps_in_the_order_of_the_sequence(way, bench):
    ran = []
    for name in "abcdef":
        bench.step(name, lambda name: ran.append(name), parameters={"name": name})
    bench.sequence()
    assert way.run(bench, max_workers=1).ok
    assert "".join(ran) == "abcdef"


# ---------------------------------------------------------------------- how dependencies end


def mixed(bench, run_when, kinds):
    """A step behind dependencies that end as ``kinds`` say: C(ompleted), F(ailed), S(kipped)."""
    source = {"C": "fine", "F": "bad", "S": "left_out"}
    bench.step(f"{run_when}-{kinds}", one, *(source[kind] for kind in kinds), run_when=run_when)


def test_a_join_starts_or_is_skipped_as_its_run_when_says_for_every_mixture_of_ends(way, bench):
    bench.step("fine", one)
    bench.step("bad", boom)
    bench.step("left_out", one, "bad")
    mixtures = ("C", "F", "S", "CF", "CS", "FS", "CFS")
    for run_when in RUN_WHEN:
        for kinds in mixtures:
            mixed(bench, run_when, kinds)
    bench.sequence()
    result = way.run(bench)
    expected = {
        "all_success": {"C"},
        "all_done": set(mixtures),
        "any_success": {"C", "CF", "CS", "CFS"},
        "any_failed": {"F", "CF", "FS", "CFS"},
    }
    for run_when, starting in expected.items():
        for kinds in mixtures:
            found = result.steps[f"{run_when}-{kinds}"]
            assert found.status is (COMPLETED if kinds in starting else SKIPPED), found
            if found.status is SKIPPED:
                assert found.attempts == 0 and found.started_at is None and found.reason
    assert result.status is RunStatus.FAILED and result.output is None


def test_what_does_not_need_the_failed_step_goes_on(way, bench):
    """R31."""
    bench.step("bad", boom)
    bench.step("child", one, "bad")
    bench.step("grandchild", one, "child")
    bench.step("other", one)
    bench.step("after_other", lambda other: other + 1, "other")
    bench.sequence()
    result = way.run(bench)
    assert result.status is RunStatus.FAILED and not result.ok
    assert statuses(result) == {
        "bad": FAILED, "child": SKIPPED, "grandchild": SKIPPED, "other": COMPLETED, "after_other": COMPLETED,
    }  # fmt: skip
    assert result.steps["child"].reason == result.steps["grandchild"].reason == "upstream_failed"
    assert result.outputs["after_other"] == 2


def test_a_cascade_of_two_thousand_skipped_steps_ends_in_the_step_that_runs_anyway(way, bench):
    bench.step("s0", boom)
    for number in range(1, 2_000):
        bench.step(f"s{number}", one, f"s{number - 1}")
    bench.step("report", lambda: "told", "s1999", run_when="all_done")
    bench.sequence()
    result = way.run(bench)
    assert result.outputs["report"] == "told"
    assert sum(step.status is SKIPPED for step in result.steps.values()) == 1_999


def test_a_step_that_runs_anyway_gets_none_for_what_is_not_there(way, bench):
    seen = {}

    def report(whole, inside, mixed, present, bad="the default"):
        seen.update(whole=whole, inside=inside, mixed=mixed, present=present, bad=bad)

    bench.step("bad", boom)
    bench.step("left_out", one, "bad")
    bench.step("fine", lambda: {"rows": [7]})
    parameters = {
        "whole": "@left_out",
        "inside": "@left_out.rows.0",
        "mixed": ["@bad.rows", {"rows": "@fine.rows.0"}],
        "present": "@fine.rows",
    }
    bench.step("report", report, "bad", parameters=parameters, run_when="all_done")
    bench.sequence()
    assert way.run(bench).steps["report"].status is COMPLETED
    assert seen == {"whole": None, "inside": None, "mixed": [None, {"rows": 7}], "present": [7], "bad": None}


def test_an_error_handler_is_skipped_when_nothing_failed_and_the_run_is_completed(way, bench):
    bench.step("fine", one)
    bench.step("alarm", one, "fine", run_when="any_failed")
    bench.step("after_alarm", one, "alarm")
    bench.sequence()
    result = way.run(bench)
    assert result.status is RunStatus.COMPLETED
    assert statuses(result) == {"fine": COMPLETED, "alarm": SKIPPED, "after_alarm": SKIPPED}
    assert result.steps["alarm"].reason == "nothing_failed"
    assert result.output == {"fine": 1}


@pytest.mark.parametrize("run_when", RUN_WHEN)
def test_fail_stop_starts_nothing_after_the_first_final_failure_whatever_run_when_says(way, bench, run_when):
    """R32."""
    ran = []
    bench.step("first", lambda: ran.append("first"))
    bench.step("bad", boom, "first")
    bench.step("other", lambda: ran.append("other"), "first")
    bench.step("handler", lambda: ran.append("handler"), "bad", run_when=run_when)
    bench.step("last", lambda: ran.append("last"), "other", run_when=run_when)
    bench.sequence(finaliser=lambda context: ran.append("finaliser"), fail_stop=True)
    result = way.run(bench, max_workers=1)
    assert ran == ["first"]
    assert statuses(result) == {
        "first": COMPLETED, "bad": FAILED, "other": CANCELLED, "handler": CANCELLED, "last": CANCELLED,
    }  # fmt: skip
    assert {result.steps[name].reason for name in ("other", "handler", "last")} == {"fail_stop"}
    assert result.status is RunStatus.FAILED and result.output is None


def until_the_run_stops():
    """Inside a block: wait until nothing further of its run starts."""
    run = current().run
    wait_until(lambda: run.halted, "the halt")


def test_fail_stop_lets_the_running_steps_finish(way, bench):
    started = threading.Event()

    def slow():
        started.set()
        until_the_run_stops()
        return "finished"

    def bad():
        wait(started, "the slow step")
        raise ValueError("boom")

    bench.step("slow", slow)
    bench.step("bad", bad)
    bench.step("after", one, "slow")
    bench.sequence(fail_stop=True)
    result = way.run(bench)
    assert statuses(result) == {"slow": COMPLETED, "bad": FAILED, "after": CANCELLED}
    assert result.outputs["slow"] == "finished"


def test_fail_stop_grants_no_further_attempt(way, bench):
    """Neither to the step that waits for one nor to the one that fails while the run is being stopped."""
    started = threading.Event()

    def running():
        started.set()
        until_the_run_stops()
        raise ValueError("too late")

    def bad():
        wait(started, "the running step")
        run = current().run
        wait_until(lambda: run.retrying, "the first failure")
        raise ValueError("final")

    bench.step("waiting", boom, retries=3, retry_delay=3600)
    bench.step("running", running, retries=3)
    bench.step("bad", bad)
    bench.step("late", one, "bad", run_when="all_done")
    bench.sequence(fail_stop=True)
    result = way.run(bench)
    assert statuses(result) == {"waiting": CANCELLED, "running": FAILED, "bad": FAILED, "late": CANCELLED}
    assert {name: step.attempts for name, step in result.steps.items()} == {
        "waiting": 1, "running": 1, "bad": 1, "late": 0,
    }  # fmt: skip


def test_a_run_names_each_failed_step_and_takes_its_reason_from_the_first(way, bench):
    bench.step("a", boom)
    bench.step("b", lambda: 1 / 0)
    bench.step("c", one)
    bench.sequence()
    result = way.run(bench)
    assert [failure.step for failure in result.failures] == ["a", "b"]
    assert "step 'a'" in result.error and "boom" in result.error
    assert "step 'b'" in result.error and "ZeroDivisionError" in result.error and "step 'c'" not in result.error


# ---------------------------------------------------------------------- retries


def failing(times, error=ValueError, seen=None):
    """A block that fails so many times and then returns the number of its attempt."""

    def block():
        attempt = current().attempt
        if seen is not None:
            seen.append(attempt)
        if attempt <= times:
            raise error(f"attempt {attempt}")
        return attempt

    return block


@pytest.mark.parametrize(("retries", "fails", "status"), [(0, 1, FAILED), (2, 2, COMPLETED), (2, 3, FAILED)])
def test_n_retries_are_n_plus_one_attempts_numbered_from_one(way, bench, retries, fails, status):
    """R33."""
    seen = []
    bench.step("a", failing(fails, seen=seen), retries=retries)
    bench.sequence()
    result = way.run(bench)
    step = result.steps["a"]
    assert step.status is status
    assert seen == list(range(1, step.attempts + 1)) and step.attempts == min(fails, retries) + 1
    assert (result.outputs["a"] == fails + 1) if status is COMPLETED else (str(step.error) == f"attempt {fails}")
    assert (step.failure is None) is (status is COMPLETED)


def test_the_retries_of_a_sequence_are_those_of_steps_that_say_nothing(way, bench):
    bench.step("own", boom, retries=0)
    bench.step("shared", boom)
    bench.sequence(retries=2)
    result = way.run(bench)
    assert (result.steps["own"].attempts, result.steps["shared"].attempts) == (1, 3)


def test_a_delay_lies_between_two_attempts_and_grows_as_the_backoff_says(scheduled, bench):
    clock, seen = HandClock(), []
    bench.step("a", failing(3, seen=seen), retries=3, retry_delay=10, retry_backoff=3.0)
    bench.sequence(seq_run_timeout=None)
    handle = scheduled.scheduler(bench, clock=clock).trigger("seq")
    for attempt, delay in ((1, 10), (2, 30), (3, 90)):
        wait_until(lambda: handle._run.retrying, "the wait for the next attempt")
        clock.advance(delay - 0.01)
        assert seen[-1] == attempt and handle._run.retrying
        clock.advance(0.02)
        wait_until(lambda attempt=attempt: seen[-1] == attempt + 1, "the next attempt")
    assert handle.result(PATIENCE).outputs["a"] == 4


def test_a_step_that_waits_for_its_retry_is_told_so_with_the_time_of_the_next_attempt(scheduled, bench):
    clock = HandClock()
    bench.step("a", failing(1), retries=1, retry_delay=60)
    bench.sequence()
    scheduler = scheduled.scheduler(bench, clock=clock)
    handle = scheduler.trigger("seq")
    due = clock.time() + 60
    wait_until(lambda: scheduler.state.steps(handle.run_id)[0].status is BlockStatus.RETRYING, "the record")
    record = scheduler.state.steps(handle.run_id)[0]
    assert record.attempts == 1 and record.retry == pytest.approx(due) and "attempt 1" in record.error
    assert handle.status is RunStatus.RUNNING
    clock.advance(61)
    assert handle.result(PATIENCE).ok
    record = scheduler.state.steps(handle.run_id)[0]
    assert record.status is COMPLETED and record.attempts == 2 and record.retry is None


def test_a_step_that_waits_for_its_retry_holds_no_worker(scheduled, bench):
    clock = HandClock()
    bench.step("flaky", failing(1), retries=1, retry_delay=3600)
    bench.step("other", one)
    bench.step("after", one, "other")
    bench.sequence(seq_run_timeout=None)
    handle = scheduled.scheduler(bench, clock=clock, max_workers=1).trigger("seq")
    wait_until(lambda: handle._run.status_of(2) is COMPLETED, "the other steps")
    assert handle._run.status_of(0) is BlockStatus.RETRYING
    clock.advance(3601)
    assert handle.result(PATIENCE).order == ("other", "after", "flaky")


def test_without_a_delay_the_next_attempt_follows_behind_what_is_ready(way, bench):
    ran = []

    def flaky():
        ran.append("flaky")
        if current().attempt == 1:
            raise ValueError

    bench.step("flaky", flaky, retries=1)
    bench.step("other", lambda: ran.append("other"))
    bench.sequence()
    assert way.run(bench, max_workers=1).ok
    assert ran == ["flaky", "other", "flaky"]


def test_a_short_delay_passes_by_the_real_clock_too(way, bench):
    times = []

    def flaky():
        times.append(time.monotonic())
        if current().attempt < 3:
            raise ValueError

    bench.step("a", flaky, retries=2, retry_delay=0.03)
    bench.sequence()
    assert way.run(bench).ok
    assert times[1] - times[0] >= 0.03 and times[2] - times[1] >= 0.03


def test_abort_fails_at_once_whatever_retries_are_left(way, bench):
    def hopeless():
        raise Abort("no such customer")

    bench.step("a", hopeless, retries=5, retry_on=(BaseException,))
    bench.sequence()
    result = way.run(bench)
    assert result.steps["a"].status is FAILED and result.steps["a"].attempts == 1
    assert isinstance(result.steps["a"].error, Abort)


def test_retry_asks_for_another_attempt_that_retry_on_would_refuse(way, bench):
    def not_yet():
        if current().attempt == 1:
            raise Retry("not yet", delay=0)
        return "now"

    bench.step("a", not_yet, retries=1, retry_delay=3600, retry_on=())
    bench.sequence()
    result = way.run(bench)
    assert result.outputs["a"] == "now" and result.steps["a"].attempts == 2


def test_retry_does_not_go_beyond_the_retries_of_the_step(way, bench):
    def never():
        raise Retry("not yet", delay=0)

    bench.step("a", never, retries=2)
    bench.sequence()
    result = way.run(bench)
    assert result.steps["a"].status is FAILED and result.steps["a"].attempts == 3
    assert isinstance(result.steps["a"].error, Retry)


@pytest.mark.parametrize("delay", ["soon", timedelta(seconds=1), object(), [1]], ids=lambda delay: type(delay).__name__)
def test_a_delay_that_is_no_number_is_a_failure_of_the_block(way, bench, delay):
    def confused():
        raise Retry("later", delay=delay)

    bench.step("a", confused, retries=1)
    bench.step("b", one)
    bench.sequence()
    result = way.run(bench)
    assert statuses(result) == {"a": FAILED, "b": COMPLETED}
    assert result.failures[0].step == "a" and "step 'a'" in result.error
    assert result.reason != "internal_error"


def test_only_what_retry_on_names_is_retried(way, bench):
    bench.step("named", failing(1, ConnectionError), retries=1, retry_on=(OSError, KeyError))
    bench.step("other", failing(1, TypeError), retries=1, retry_on=(OSError, KeyError))
    bench.sequence()
    result = way.run(bench)
    assert result.steps["named"].status is COMPLETED and result.steps["named"].attempts == 2
    assert result.steps["other"].status is FAILED and result.steps["other"].attempts == 1


def test_a_reference_that_leads_nowhere_is_not_tried_again(way, bench):
    bench.step("a", lambda: {"rows": []})
    bench.step("b", lambda row: row, parameters={"row": "@a.rows.0"}, retries=5)
    bench.sequence()
    result = way.run(bench)
    assert result.steps["b"].status is FAILED and result.steps["b"].attempts == 1
    assert "@a.rows.0" in result.steps["b"].failure.message


def test_a_restart_keeps_the_attempts_that_were_made_and_the_time_of_the_next(durable, bench):
    """DESIGN §4.10; the step is a root of the graph, and nothing else has ended."""
    seen, clock, later = [], HandClock(), HandClock(1_040.0)
    bench.step("a", failing(2, seen=seen), retries=2, retry_delay=100)
    bench.sequence(seq_run_timeout=None)
    first = durable.scheduler(bench, clock=clock)
    run_id = first.trigger("seq").run_id
    wait_until(lambda: first.runs[0]._run.retrying, "the failure")
    first.stop(grace=0)
    assert seen == [1]
    handle = durable.scheduler(bench, clock=later, state_dir=first.state_dir).handle(run_id)
    later.advance(59)
    assert seen == [1] and handle._run.retrying
    later.advance(2)
    wait_until(lambda: seen == [1, 2], "the second attempt")
    wait_until(lambda: handle._run.retrying, "the second failure")
    later.advance(99)
    assert seen == [1, 2]
    later.advance(2)
    assert handle.result(PATIENCE).outputs["a"] == 3


# ---------------------------------------------------------------------- whatever a block raises


class Rude(BaseException):
    """No Exception, and nobody's business."""


def dive():
    return dive()


def raiser(error):
    def block():
        raise error

    return block


def async_raiser(error):
    async def block():
        raise error

    return block


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError("no room"), Rude("out"), StepCancelled("own")],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("make", [raiser, async_raiser], ids=["thread", "async"])
def test_whatever_a_block_raises_is_a_failure_of_the_block_and_the_worker_lives_on(way, bench, make, error):
    """R36."""
    bench.step("bad", make(error))
    bench.step("after", one, "bad", run_when="any_failed")
    bench.step("other", one)
    bench.sequence()
    result = way.run(bench, max_workers=1)
    assert statuses(result) == {"bad": FAILED, "after": COMPLETED, "other": COMPLETED}
    step = result.steps["bad"]
    assert step.error is error
    assert type(error).__name__ in step.failure.message and "in block" in step.traceback
    with pytest.raises(RunFailed) as raised:
        result.raise_for_status()
    assert raised.value.__cause__ is step.error


class Several(Exception):
    """Errors that were gathered, of which there may be none: then it counts as false."""

    def __len__(self):
        return 0


class Closed(Exception):
    """Lets nobody look at it."""

    def __getattribute__(self, name):
        raise PermissionError("closed")


@pytest.mark.parametrize("kind", ["thread", "async", "pool"])
@pytest.mark.parametrize(("exception", "told"), [(Several, "Several"), (Closed, "PermissionError: closed")])
def test_an_exception_that_counts_as_false_or_cannot_be_looked_at_ends_its_run(way, bench, kind, exception, told):
    make = async_raiser if kind == "async" else raiser
    bench.step("bad", make(exception()), executor="pool" if kind == "pool" else "thread")
    bench.sequence()
    with ThreadPoolExecutor(1) as pool:
        result = way.run(bench, executors={"pool": pool})
    assert result.status is RunStatus.FAILED
    assert told in result.error


def test_a_message_with_half_a_character_can_be_printed(way, bench):
    """A surrogate is what Python makes of an undecodable byte in a file's name."""
    bench.step("bad", raiser(ValueError("no such file: caf\udce9.csv")))
    bench.sequence()
    result = way.run(bench)
    assert "caf\\udce9.csv" in result.steps["bad"].failure.message
    assert "caf\\udce9.csv" in result.steps["bad"].traceback
    assert result.error.encode()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=lambda error: type(error).__name__)
def test_a_task_that_exits_ends_the_block_that_made_it_and_no_other(way, bench, error):
    """asyncio lets these two out of its loop, on which all async blocks run."""
    others, exited = threading.Event(), threading.Event()

    async def bad():
        while not others.is_set():
            await asyncio.sleep(0.001)
        try:
            await asyncio.ensure_future(async_raiser(error)())
        finally:
            exited.set()

    async def other():
        others.set()
        while not exited.is_set():
            await asyncio.sleep(0.001)
        return 1

    bench.step("bad", bad)
    bench.step("other", other)
    bench.step("next", other, "other")
    bench.sequence()
    result = way.run(bench)
    assert statuses(result) == {"bad": FAILED, "other": COMPLETED, "next": COMPLETED}
    assert result.steps["bad"].error is error


def test_a_recursion_without_end_is_a_failure_of_the_block(way, bench):
    bench.step("bad", dive)
    bench.step("other", one)
    bench.sequence()
    result = way.run(bench, max_workers=1)
    assert isinstance(result.steps["bad"].error, RecursionError)
    assert result.steps["other"].status is COMPLETED
    assert len(result.steps["bad"].traceback.splitlines()) < 300


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __str__


class Evasive(Exception):
    """Answers every question for an attribute with another exception."""

    def __getattr__(self, name):
        raise RuntimeError(name)


class Hidden:
    def __repr__(self):
        raise RuntimeError("hidden")


class array:
    """Called like a standard type, and nothing like it."""


@pytest.mark.parametrize(
    "error",
    [Unspeakable(), Evasive("evasive"), ValueError("\ud800"), ValueError("x" * 1_000_000)],
    ids=["unspeakable", "evasive", "surrogate", "endless"],
)
@pytest.mark.parametrize(
    "argument", [Hidden(), array(), "\ud800", 10**5000], ids=["hidden", "array", "surrogate", "int"]
)
def test_a_failure_that_can_hardly_be_told_is_still_that_of_its_step(way, bench, error, argument):
    """R37."""

    def bad(value):
        raise error

    bench.step("made", lambda: argument, persist_result=False)
    bench.step("bad", bad, parameters={"value": "@made"})
    bench.step("other", one)
    bench.sequence()
    result = way.run(bench, max_workers=1)
    assert statuses(result) == {"made": COMPLETED, "bad": FAILED, "other": COMPLETED}
    assert result.steps["bad"].error is error
    assert len(result.error) < 70_000


class Unpicklable:
    """Raises while it is being pickled."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        raise self.error


@pytest.mark.parametrize("error", [TypeError("no"), RecursionError("deep"), Rude("out"), SystemExit(1)])
def test_an_output_that_raises_while_it_is_stored_fails_nothing(way, bench, error):
    bench.step("a", lambda: Unpicklable(error))
    bench.step("b", lambda a: a.error, "a")
    bench.sequence()
    result = way.run(bench, max_workers=1)
    assert result.ok and result.outputs["b"] is error


# ---------------------------------------------------------------------- the finaliser


def test_the_finaliser_is_given_the_completed_outputs_and_no_others(way, bench):
    given = []
    bench.step("fine", one)
    bench.step("nothing", lambda: None)
    bench.step("alarm", one, "fine", run_when="any_failed")
    bench.sequence(finaliser=lambda context: given.append(context) or "done")
    assert way.run(bench).output == "done"
    assert given == [{"fine": 1, "nothing": None}]


def test_the_finaliser_is_not_called_when_a_step_failed(way, bench):
    called = []
    bench.step("bad", boom)
    bench.step("handler", one, "bad", run_when="any_failed")
    bench.sequence(finaliser=called.append)
    result = way.run(bench)
    assert result.status is RunStatus.FAILED and result.output is None and not called


@pytest.mark.parametrize("error", [ValueError("in the end"), SystemExit(2), Rude("out")])
def test_a_finaliser_that_fails_fails_the_run(way, bench, error):
    def finaliser(context):
        raise error

    bench.step("fine", one)
    bench.sequence(finaliser=finaliser, retries=3)
    result = way.run(bench)
    assert result.status is RunStatus.FAILED and result.reason == "finaliser" and result.output is None
    assert result.steps["fine"].status is COMPLETED and result.outputs["fine"] == 1
    assert "finaliser" in result.error and type(error).__name__ in result.error
    with pytest.raises(RunFailed) as raised:
        result.raise_for_status()
    assert raised.value.__cause__ is error
    if way.has_scheduler:
        assert way.state.find_run(result.run_id).reason == "finaliser"


def test_a_finaliser_may_be_async_and_may_take_nothing(way, bench):
    async def finaliser(context):
        await asyncio.sleep(0)
        return context["fine"] + 1

    async def without():
        return "nothing taken"

    bench.step("fine", one)
    bench.sequence(finaliser=finaliser)
    bench.wiring = list(bench.sequences["seq"].definition.steps)
    bench.sequence(finaliser=without, seq_id="without")
    bench.wiring = list(bench.sequences["seq"].definition.steps)
    bench.sequence(finaliser=lambda: "nor here", seq_id="plain")
    assert way.run(bench).output == 2
    assert way.run(bench, seq_id="without").output == "nothing taken"
    assert way.run(bench, seq_id="plain").output == "nor here"


def test_a_finaliser_that_asks_for_an_output_that_was_not_stored_is_told_why_it_is_gone(durable, bench):
    broken = [True]

    def later():
        if broken:
            raise ValueError(broken.pop())

    asked = []

    def finaliser(context):
        asked.append((context.get("unstored"), "unstored" in context, dict(context)))
        return context if len(asked) == 1 else context["unstored"]

    bench.step("unstored", one, persist_result=False)
    bench.step("later", later, "unstored")
    bench.sequence(finaliser=finaliser)
    scheduler = durable.scheduler(bench)
    failed = scheduler.run("seq", timeout=PATIENCE)
    result = scheduler.retry(failed.run_id).result(PATIENCE)
    assert result.output == {"later": None} and asked == [(None, False, {"later": None})]
    result = scheduler.retry(failed.run_id).result(PATIENCE)
    assert result.reason == "finaliser"
    assert "step 'unstored' completed, but its output is not at hand: it was not stored" in result.error


def test_an_async_finaliser_that_fails_fails_the_run(way, bench):
    async def finaliser(context):
        raise KeyError("gone")

    bench.step("fine", one)
    bench.sequence(finaliser=finaliser)
    result = way.run(bench)
    assert result.status is RunStatus.FAILED and result.reason == "finaliser" and "gone" in result.error


def test_the_finaliser_runs_behind_every_step_and_knows_its_run(way, bench):
    def finaliser(context):
        return current().run_id, current().seq_id, sorted(context)

    for name in "abc":
        bench.step(name, one)
    bench.sequence(finaliser=finaliser)
    result = way.run(bench)
    assert result.output == (result.run_id, "seq", ["a", "b", "c"])
    assert len(result.order) == 3 and len(result.steps) == 3


# ---------------------------------------------------------------------- outputs


def test_outputs_are_handed_on_by_reference(way, bench):
    payload = Payload()
    bench.step("a", lambda: payload)
    bench.step("b", lambda a, listed: (a is payload, listed[0] is payload), "a", parameters={"listed": ["@a"]})
    bench.sequence(finaliser=lambda context: context["a"] is payload)
    result = way.run(bench)
    assert result.outputs["b"] == (True, True) and result.output is True
    assert result.outputs["a"] is payload and result.steps["a"].output is payload


def test_an_output_is_never_searched_for_references(way, bench):
    bench.step("a", lambda: "@b")
    bench.step("b", lambda text, literal: (text, literal), parameters={"text": "@a", "literal": "@@a"})
    bench.sequence()
    assert way.run(bench).outputs["b"] == ("@b", "@a")


def test_a_block_that_changes_its_argument_changes_no_other_run(way, bench):
    def work(rows, options):
        rows.append(1)
        options["seen"] = True
        return len(rows), sorted(options)

    bench.step("a", work, parameters={"rows": [], "options": {}})
    bench.sequence()
    assert way.run(bench).outputs["a"] == way.run(bench).outputs["a"] == (1, ["seen"])


def test_without_keep_outputs_an_output_goes_when_its_last_reader_has_ended(scheduled, bench):
    made, found = [], {}

    def make():
        payload = Payload()
        made.append(weakref.ref(payload))
        return payload

    def look():
        gc.collect()
        found[current().step] = made[0]() is not None

    bench.step("make", make)
    bench.step("unread", lambda: Payload())
    bench.step("first", lambda payload: look(), "unread", parameters={"payload": "@make"})
    bench.step("second", lambda payload: look(), "first", parameters={"payload": ["@make"]})
    bench.step("late", look, "second")
    bench.sequence(finaliser=keep)
    result = scheduled.run(bench, keep_outputs=False, max_workers=1)
    assert found == {"first": True, "second": True, "late": False}
    assert result.ok and result.output == {} and dict(result.outputs) == {}
    assert statuses(result) == dict.fromkeys(("make", "unread", "first", "second", "late"), COMPLETED)


def test_an_output_that_is_read_again_by_a_retry_is_kept_until_then(scheduled, bench):
    def flaky(payload):
        assert isinstance(payload, Payload)
        if current().attempt < 3:
            raise ValueError

    bench.step("make", Payload)
    bench.step("flaky", flaky, retries=2, parameters={"payload": "@make"})
    bench.sequence()
    scheduled.run(bench, keep_outputs=False).raise_for_status()


def test_nothing_of_a_run_stays_behind_when_its_result_is_dropped(way, bench):
    made = []

    def make():
        payload = Payload()
        made.append(weakref.ref(payload))
        return payload

    bench.step("make", make)
    bench.step("read", lambda make: make, "make")
    bench.sequence()
    if way.has_scheduler:
        scheduler = way.scheduler(bench)
        for _ in range(20):
            assert scheduler.run("seq", timeout=PATIENCE).ok
    else:
        for _ in range(20):
            assert way.run(bench).ok

    def gone():
        gc.collect()
        return not any(reference() for reference in made)

    # A worker may still be on its way from the end of the run to its bed.
    wait_until(gone, "the end of the outputs")


# ---------------------------------------------------------------------- what a block sees

request_id = ContextVar("request_id", default="none")


def test_a_block_sees_the_context_of_its_caller_and_its_own_changes_reach_nobody(way, bench):
    def work():
        before = request_id.get()
        request_id.set("changed")
        return before

    async def work_async():
        return work()

    bench.step("a", work)
    bench.step("b", work, "a")
    bench.step("c", work_async, "b")
    bench.step("d", work_async, "c")
    bench.step("e", work, "d", executor="pool")
    bench.step("f", work, "e", executor="pool")
    bench.sequence(finaliser=lambda context: (context, request_id.get()))
    token = request_id.set("caller's")
    try:
        with ThreadPoolExecutor(1) as pool:
            result = way.run(bench, max_workers=1, executors={"pool": pool})
            assert pool.submit(request_id.get).result() == "none"
        assert result.output == (dict.fromkeys("abcdef", "caller's"), "caller's")
        assert request_id.get() == "caller's"
    finally:
        request_id.reset(token)


def test_a_block_can_ask_everything_about_itself(way, bench):
    def work():
        here = current()
        return {
            "run_id": here.run_id, "seq_id": here.seq_id, "step": here.step, "attempt": here.attempt,
            "scheduled_at": here.scheduled_at, "cancelled": here.cancelled, "check": here.check_cancelled(),
            "deadline": here.deadline, "key": here.idempotency_key, "logger": here.logger.name,
        }  # fmt: skip

    async def work_async():
        await asyncio.sleep(0)
        return work()

    bench.step("limited", work, timeout=60)
    bench.step("unlimited", work)
    bench.step("awaited", work_async)
    bench.sequence(seq_run_timeout=600)
    before = datetime.now(timezone.utc)
    result = way.run(bench)
    for name in ("limited", "unlimited", "awaited"):
        found = result.outputs[name]
        deadline, key, logger = found.pop("deadline"), found.pop("key"), found.pop("logger")
        assert found == {
            "run_id": result.run_id, "seq_id": "seq", "step": name, "attempt": 1, "scheduled_at": None,
            "cancelled": False, "check": None,
        }  # fmt: skip
        limit = timedelta(seconds=60 if name == "limited" else 600)
        assert before - timedelta(seconds=1) <= deadline - limit <= datetime.now(timezone.utc) + timedelta(seconds=1)
        assert result.run_id in key and name in key
        assert logger.startswith("blaze.run")


def test_without_any_limit_there_is_no_deadline(way, bench):
    bench.step("a", lambda: current().deadline)
    bench.sequence(seq_run_timeout=None)
    result = way.run(bench)
    assert result.ok and result.outputs["a"] is None


def test_outside_a_block_nothing_is_current(way, bench):
    def work():
        seen = []

        def ask():
            try:
                current()
            except BlazeError as error:
                seen.append(str(error))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        return seen

    bench.step("a", work)
    bench.sequence()
    result = way.run(bench)
    with pytest.raises(BlazeError, match="no block is running"):
        current()
    assert len(result.outputs["a"]) == 1


def test_the_idempotency_key_is_the_same_for_every_attempt_and_for_nothing_else(way, bench):
    keys = []

    def work():
        keys.append(current().idempotency_key)
        if current().attempt < 3:
            raise ValueError

    bench.step("a", work, retries=2)
    bench.step("b", work, retries=2)
    bench.sequence()
    way.run(bench)
    way.run(bench)
    assert len(keys) == 12 and len(set(keys)) == 4


def test_progress_is_told_while_the_block_runs(scheduled, bench):
    clock, told, go = HandClock(), threading.Event(), threading.Event()

    def work():
        current().progress(3, 10)
        told.set()
        wait(go)

    bench.step("a", work)
    bench.sequence()
    scheduler = scheduled.scheduler(bench, clock=clock)
    handle = scheduler.trigger("seq")
    wait(told)
    clock.advance(1)
    clock.advance(1)
    wait_until(lambda: scheduler.state.steps(handle.run_id)[0].progress == (3, 10), "the record of the progress")
    assert scheduler.state.steps(handle.run_id)[0].status is BlockStatus.RUNNING
    # Which may be another commit: the scribe does not wait until the timekeeper has told everything.
    wait_until(lambda: scheduler.state.find_run(handle.run_id).status is RunStatus.RUNNING, "the record of the start")
    go.set()
    assert handle.result(PATIENCE).ok


@pytest.mark.parametrize("progress", [(2**70, None), (object(), None), ("\ud800", 1), (float("nan"), float("inf"))])
def test_progress_that_can_t_be_recorded_harms_nobody(scheduled, bench, progress):
    clock, told, go = HandClock(), threading.Event(), threading.Event()

    def work():
        current().progress(*progress)
        told.set()
        wait(go)
        return 1

    bench.step("a", work)
    bench.step("b", lambda a: a + 1, "a")
    bench.sequence()
    handle = scheduled.scheduler(bench, clock=clock).trigger("seq")
    wait(told)
    clock.advance(1)
    clock.advance(1)
    go.set()
    assert handle.result(PATIENCE).outputs["b"] == 2


def lines(way, result):
    """What was kept of a run's log, the same for every way."""
    if way.has_scheduler:
        return [(line.level, line.message, line.step, line.attempt) for line in way.state.logs(result.run_id)]
    return [(line.level, line.message, line.step, line.attempt) for line in result.logs]


def test_what_blocks_log_is_kept_with_the_run_though_logging_was_never_configured(way, bench):
    log = logging.getLogger(__name__)

    def work():
        log.debug("too fine")
        log.info("plain %s", "info")
        current().logger.warning("by the context")
        if current().attempt == 1:
            try:
                raise KeyError("inner")
            except KeyError:
                log.exception("caught")
            raise ValueError
        return 1

    async def work_async():
        log.info("async")

    bench.step("a", work, retries=1)
    bench.step("b", work_async, "a")
    bench.sequence()
    log.info("outside, before")
    result = way.run(bench)
    log.info("outside, after")
    found = lines(way, result)
    assert [line[1] for line in found][:2] == ["plain info", "by the context"]
    assert found[2][1].startswith("caught\nTraceback") and "inner" in found[2][1]
    assert [line[1] for line in found][3:] == ["plain info", "by the context", "async"]
    assert [line[2:] for line in found] == [("a", 1)] * 3 + [("a", 2)] * 2 + [("b", 1)]
    assert [line[0] for line in found][:3] == [logging.INFO, logging.WARNING, logging.ERROR]


def test_the_credentials_of_a_url_are_neither_stored_nor_told_but_in_what_goes_from_step_to_step(durable, bench):
    url = "postgresql://etl:hunter2@db/sales"

    def connect(url):
        logging.getLogger(__name__).warning("connecting to %s", url)
        try:
            raise OSError(f"no route to {url}")
        except OSError as error:
            logging.getLogger(__name__).exception("failed")
            raise ValueError("GET /rows?token=hunter2") from error

    seen = []
    bench.step("target", lambda: url)
    bench.step("see", lambda url: seen.append(url), "target", parameters={"url": "@target"})
    bench.step("connect", connect, "target", parameters={"url": "@target"})
    bench.sequence()
    result = durable.run(bench)
    assert seen == [url] and result.outputs["target"] == url
    with pytest.raises(RunFailed) as failed:
        result.raise_for_status()
    scheduler = durable.schedulers[-1]
    files = [path.read_text() for path in (scheduler.state_dir / "log").iterdir()]
    scheduler.stop()
    with contextlib.closing(sqlite3.connect(scheduler.state_dir / "blaze.db")) as connection:
        told = "\n".join(connection.iterdump())
    for text in (str(failed.value), told, *files):
        assert "hunter2" not in text and "postgresql://etl:***@db/sales" in text


def test_a_program_that_never_touched_logging_sees_nothing_of_what_is_kept(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import logging
            from blaze import BlazeBlock, BlazeSequence, SeqBlockData

            blocks, sequences = BlazeBlock(), BlazeSequence()

            @blocks.block
            def work():
                logging.getLogger(__name__).info("kept")

            sequences.sequence(blocks=blocks, sequence=[SeqBlockData("work")], seq_id="seq")(dict)
            print([line.message for line in sequences.run("seq").logs])
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": "."}
    )
    assert (done.stdout, done.stderr) == ("['kept']\n", "")


def test_a_log_call_that_makes_no_sense_is_kept_as_far_as_it_goes(way, bench, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    # Not for pytest's own handler: what can't be encoded can't be reported by xdist either.
    odd = logging.getLogger("na\udc00me")
    monkeypatch.setattr(odd, "propagate", False)
    monkeypatch.setattr(odd, "level", logging.INFO)

    def work():
        odd.info("%d rows", "many")
        odd.info("\ud800")
        odd.log(2**70, "odd level")
        return 1

    bench.step("a", work)
    bench.step("b", lambda a: a, "a")
    bench.sequence()
    result = way.run(bench)
    assert result.ok
    assert any("rows" in line[1] for line in lines(way, result))


def test_the_lines_of_two_runs_at_a_time_are_not_mixed(scheduled, bench):
    together = threading.Barrier(2)

    def work(tag):
        together.wait(PATIENCE)
        for number in range(50):
            current().logger.info("%s %d", tag, number)

    bench.step("a", work)
    bench.sequence()
    scheduler = scheduled.scheduler(bench)
    handles = {tag: scheduler.trigger("seq", {"a": {"tag": tag}}) for tag in ("x", "y")}
    for tag, handle in handles.items():
        handle.result(PATIENCE)
        found = [line.message for line in scheduler.state.logs(handle.run_id)]
        assert found == [f"{tag} {number}" for number in range(50)]


# ---------------------------------------------------------------------- failures are told


def pay(customer, password, options, blob):
    settle(customer)


def settle(customer):
    raise ConnectionError(f"no answer for {customer}")


def test_a_failure_is_told_with_step_attempt_arguments_and_the_users_own_frames(way, bench):
    bench.step("customer", lambda: "c7")
    parameters = {
        "customer": "@customer",
        "password": "hunter2",
        "options": {"api_key": "sesame", "depth": 3, "inner": [{"token": "t0p"}]},
        "blob": "x" * 5_000,
    }
    bench.step("pay", pay, parameters=parameters, retries=2)
    bench.sequence()
    result = way.run(bench)
    failure = result.steps["pay"].failure
    assert (failure.step, failure.attempt, failure.allowed) == ("pay", 3, 3)
    assert failure.message == "ConnectionError: no answer for c7"
    story = result.error
    assert "step 'pay', attempt 3 of 3: ConnectionError: no answer for c7" in story
    for secret in ("hunter2", "sesame", "t0p"):
        assert secret not in story + failure.arguments
    assert "customer='c7'" in story and "password=***" in story and "'depth': 3" in story
    assert len(failure.arguments) <= 1_100
    assert "in pay" in failure.traceback and "in settle" in failure.traceback and __file__ in failure.traceback
    assert "blaze/core" not in failure.traceback.replace("\\", "/")
    if way.has_scheduler:
        attempts = way.state.attempts(result.run_id, "pay").items
        assert [attempt.attempt for attempt in attempts] == [1, 2, 3]
        assert all(attempt.error == failure.message for attempt in attempts)
        assert all("password=***" in attempt.arguments and "in settle" in attempt.traceback for attempt in attempts)
        assert "step 'pay'" in way.state.find_run(result.run_id).error


def test_only_a_durable_run_names_the_command_that_resumes_it(tmp_path, bench):
    bench.step("bad", boom)
    bench.sequence()
    for kind, told in (("in_memory", False), ("unsaved", False), ("durable", True)):
        way = Way(kind, tmp_path / kind)
        try:
            result = way.run(bench)
            assert (f"retry {result.run_id}" in result.error) is told
        finally:
            way.close()


def test_the_traceback_of_an_async_block_has_the_users_frames_only(way, bench):
    async def inner():
        raise ValueError("deep")

    async def outer():
        await inner()

    bench.step("a", outer)
    bench.sequence()
    text = way.run(bench).steps["a"].traceback
    assert "in outer" in text and "in inner" in text and "blaze/core" not in text.replace("\\", "/")


def test_the_traceback_of_a_block_in_an_executor_has_the_users_frames_only(way, bench):
    bench.step("a", raiser(ValueError("deep")), executor="pool")
    bench.sequence()
    with ThreadPoolExecutor(1) as pool:
        text = way.run(bench, executors={"pool": pool}).steps["a"].traceback
    assert "in block" in text
    assert text.count("  File ") == 1


def test_raise_for_status_gives_back_a_good_result_and_chains_a_bad_one(way, bench):
    bench.step("a", one)
    bench.sequence(seq_id="good")
    bench.wiring = [*bench.sequences["good"].definition.steps]
    bench.step("bad", boom)
    bench.sequence(seq_id="bad")
    good = way.run(bench, seq_id="good")
    assert good.raise_for_status() is good
    bad = way.run(bench, seq_id="bad")
    with pytest.raises(RunFailed, match="boom") as raised:
        bad.raise_for_status()
    assert raised.value.result is bad
    assert type(raised.value.__cause__) is ValueError and raised.value.__cause__ is bad.steps["bad"].error
    assert "in boom" in "".join(traceback.format_exception(None, raised.value, raised.value.__traceback__))


# ---------------------------------------------------------------------- results and handles


def test_a_result_tells_all_about_its_run(way, bench):
    before = datetime.now(timezone.utc) - timedelta(milliseconds=5)
    bench.step("a", one)
    bench.step("bad", boom, "a")
    bench.step("left_out", one, "bad")
    bench.sequence()
    result = way.run(bench)
    after = datetime.now(timezone.utc) + timedelta(milliseconds=5)
    assert isinstance(result, RunResult) and result.seq_id == "seq" and result.run_id in repr(result)
    assert (result.status, result.ok, result.output) == (RunStatus.FAILED, False, None)
    assert before <= result.started_at <= result.ended_at <= after
    assert 0 <= result.duration == pytest.approx((result.ended_at - result.started_at).total_seconds(), abs=0.01)
    step = result.steps["a"]
    assert (step.name, step.status, step.reason, step.attempts, step.output) == ("a", COMPLETED, None, 1, 1)
    assert before <= step.started_at <= step.ended_at <= after and step.duration >= 0
    assert step.error is None and step.traceback is None and step.failure is None
    left_out = result.steps["left_out"]
    assert (left_out.started_at, left_out.ended_at, left_out.duration, left_out.attempts) == (None, None, None, 0)
    told = json.loads(json.dumps(result.to_dict()))
    assert told["run_id"] == result.run_id and told["status"] == "FAILED"
    assert [(step["name"], step["status"], step["attempts"]) for step in told["steps"]] == [
        ("a", "COMPLETED", 1), ("bad", "FAILED", 1), ("left_out", "SKIPPED", 0),
    ]  # fmt: skip
    assert datetime.fromisoformat(told["started_at"]) == result.started_at


def test_steps_and_outputs_are_mappings_that_name_what_is_near(way, bench):
    bench.step("fetch", one)
    bench.step("clean", boom, "fetch")
    bench.sequence()
    result = way.run(bench)
    assert list(result.steps) == ["fetch", "clean"] and len(result.steps) == 2 and "clean" in result.steps
    assert list(result.outputs) == ["fetch"] and len(result.outputs) == 1 and "clean" not in result.outputs
    assert "nothing" not in result.steps and 3 not in result.outputs
    for mapping in (result.steps, result.outputs):
        with pytest.raises(NotFound, match=r"no step 'fetsh'.*did you mean 'fetch'"):
            mapping["fetsh"]
        with pytest.raises(LookupError):
            mapping["nothing at all"]
    with pytest.raises(NotFound, match=r"'clean' has no output.*FAILED"):
        result.outputs["clean"]
    assert result.outputs == {"fetch": 1}


def test_the_get_of_steps_and_outputs_gives_the_default_for_what_is_not_there(way, bench):
    bench.step("fetch", one)
    bench.step("clean", boom, "fetch")
    bench.sequence()
    result = way.run(bench)
    assert result.outputs.get("fetch") == 1
    assert result.outputs.get("clean", "missing") == "missing"
    assert result.outputs.get("unknown") is None and result.steps.get("unknown") is None


def test_what_a_durable_run_recorded_is_what_its_result_says(scheduled, bench):
    bench.step("a", one)
    bench.step("b", failing(1), "a", retries=2)
    bench.step("bad", boom, "a")
    bench.step("left_out", one, "bad")
    bench.sequence()
    result = scheduled.run(bench)
    run = scheduled.state.find_run(result.run_id)
    assert (run.seq_id, run.status, run.steps, run.reason) == ("seq", result.status, 4, result.reason)
    assert run.ended_at == result.ended_at and run.seconds == pytest.approx(result.duration)
    for record in scheduled.state.steps(result.run_id):
        step = result.steps[record.name]
        assert (record.status, record.reason, record.attempts) == (step.status, step.reason, step.attempts)
        assert record.started == step.started and record.seconds == step.duration
    attempts = scheduled.state.attempts(result.run_id).items
    assert [(attempt.step, attempt.attempt) for attempt in attempts] == [("b", 1), ("bad", 1)]


def test_a_handle_waits_as_long_as_it_is_told_to_and_no_longer(scheduled, bench):
    go, started = threading.Event(), threading.Event()
    bench.step("a", lambda: (started.set(), wait(go)))
    bench.sequence()
    handle = scheduled.scheduler(bench).trigger("seq")
    wait(started)
    assert handle.status is RunStatus.RUNNING and not handle.done() and not handle.future.done()
    for timeout in (0, 0.01):
        with pytest.raises(TimeoutError, match=handle.run_id):
            handle.result(timeout)
    assert isinstance(handle.future, Future)
    assert handle.future.cancel() is False
    go.set()
    result = handle.result(PATIENCE)
    assert result.ok and handle.done() and handle.status is RunStatus.COMPLETED
    assert handle.future.result(0) is result is handle.result()
    assert wait_for_all([handle.future], 0).done == {handle.future}


def test_whoever_has_the_result_of_a_run_finds_its_future_done(scheduled, bench, monkeypatch):
    """Though the worker that ended the run has woken them before it came to the future."""
    tell, late = Ending._tell, threading.Event()

    def tell_late(ending, future, run):
        if threading.current_thread() is not threading.main_thread():
            wait(late)
        tell(ending, future, run)

    monkeypatch.setattr(Ending, "_tell", tell_late)
    bench.step("a", one)
    bench.sequence()
    handle = scheduled.scheduler(bench).trigger("seq")
    future = handle.future
    try:
        result = handle.result(PATIENCE)
        assert future.done() and future.result(0) is result
    finally:
        late.set()


def test_a_handle_of_a_failed_run_returns_its_result_and_raises_nothing(scheduled, bench):
    bench.step("bad", boom)
    bench.sequence()
    handle = scheduled.scheduler(bench).trigger("seq")
    assert handle.result(PATIENCE).status is RunStatus.FAILED
    assert handle.future.exception(0) is None and handle.cancel() is False


def test_a_handle_can_be_awaited_in_a_running_loop(scheduled, bench):
    go = threading.Event()
    bench.step("a", lambda: wait(go) or 7)
    bench.sequence()
    scheduler = scheduled.scheduler(bench)

    async def main():
        handle = scheduler.trigger("seq")
        # Who stops waiting has not cancelled the run.
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_awaited(handle), 0.01)
        assert handle.status is RunStatus.RUNNING
        go.set()
        first, second = await asyncio.gather(_awaited(handle), _awaited(handle))
        assert first is second
        return await handle

    assert within_patience(asyncio.run, main()).outputs["a"] == 7


async def _awaited(handle):
    return await handle


def test_a_sequence_can_be_run_inside_a_running_loop(way, bench):
    async def work():
        await asyncio.sleep(0)
        return 5

    bench.step("a", work)
    bench.sequence()

    async def main():
        return way.run(bench)

    assert within_patience(asyncio.run, main()).outputs["a"] == 5


def test_unknown_sequences_and_runs_are_not_found(scheduled, bench):
    bench.step("a", one)
    bench.sequence(seq_id="etl")
    scheduler = scheduled.scheduler(bench)
    for run in (bench.sequences.run, scheduler.trigger, scheduler.run):
        with pytest.raises(NotFound, match=r"'etk'.*did you mean 'etl'"):
            run("etk")
    with pytest.raises(NotFound):
        scheduler.handle("nothing")
    with pytest.raises(NotFound):
        scheduler.cancel("nothing")


# ---------------------------------------------------------------------- pausing


def test_a_paused_scheduler_starts_no_step_until_it_is_resumed(scheduled, bench):
    started, go, ran = threading.Event(), threading.Event(), []
    bench.step("a", lambda: (started.set(), wait(go), ran.append("a")))
    bench.step("b", lambda: ran.append("b"), "a")
    bench.step("c", lambda: ran.append("c"))
    bench.sequence()
    scheduler = scheduled.scheduler(bench, max_workers=1)
    handle = scheduler.trigger("seq")
    wait(started)
    scheduler.pause()
    later = scheduler.trigger("seq")
    go.set()
    wait_until(lambda: ran == ["a"] and handle._run.status_of(0) is COMPLETED, "the running step")
    with pytest.raises(TimeoutError):
        handle.result(0.05)
    assert ran == ["a"] and later.status is RunStatus.PENDING
    scheduler.resume()
    assert handle.result(PATIENCE).ok and later.result(PATIENCE).ok
    assert sorted(ran) == ["a", "a", "b", "b", "c", "c"]


def test_a_run_can_be_cancelled_while_the_scheduler_is_paused(scheduled, bench):
    bench.step("a", one)
    bench.sequence()
    scheduler = scheduled.scheduler(bench)
    scheduler.pause()
    handle = scheduler.trigger("seq")
    assert handle.cancel()
    result = handle.result(PATIENCE)
    assert result.status is RunStatus.CANCELLED and statuses(result) == {"a": CANCELLED}


# ---------------------------------------------------------------------- runs inside runs, and many at a time


def test_a_block_may_run_a_sequence_without_a_scheduler(way, bench):
    bench.step("inner", one)
    bench.sequence(seq_id="inner")

    def work():
        inner = bench.sequences.run("inner")
        return inner.outputs["inner"], inner.run_id, current().run_id, current().step

    bench.step("outer", work)
    bench.sequence()
    result = way.run(bench, max_workers=1)
    value, inner_id, run_id, step = result.outputs["outer"]
    assert (value, run_id, step) == (1, result.run_id, "outer") and inner_id != run_id


def test_a_block_that_waits_for_another_run_lends_it_its_worker(scheduled, bench):
    """Five runs deep on one worker."""

    def work(depth):
        if not depth:
            return [current().run_id]
        result = scheduler.run("seq", {"work": {"depth": depth - 1}}, timeout=PATIENCE)
        return [current().run_id, *result.outputs["after"]]

    bench.step("work", work)
    bench.step("after", lambda work: work, "work")
    bench.sequence()
    scheduler = scheduled.scheduler(bench, max_workers=1)
    result = scheduler.run("seq", {"work": {"depth": 5}}, timeout=PATIENCE)
    assert len(set(result.outputs["after"])) == 6


@pytest.mark.parametrize("ask", ["result", "exception"])
def test_a_block_that_waits_for_the_future_of_another_run_lends_it_its_worker(scheduled, bench, ask):
    def outer():
        future = scheduler.trigger("inner").future
        getattr(future, ask)(PATIENCE)
        return future.result(0).outputs["inner"]

    bench.step("inner", one)
    bench.sequence(seq_id="inner")
    bench.step("outer", outer)
    bench.sequence()
    scheduler = scheduled.scheduler(bench, max_workers=1)
    assert scheduler.run("seq", timeout=PATIENCE).outputs["outer"] == 1


def test_a_future_waits_no_longer_than_it_is_told_to(scheduled, bench):
    go = threading.Event()
    bench.step("waits", lambda: wait(go))
    bench.sequence()
    future = scheduled.scheduler(bench).trigger("seq").future
    for ask in (future.result, future.exception):
        with pytest.raises(FutureTimeout):
            ask(timeout=0.01)
    go.set()
    assert future.exception(PATIENCE) is None and future.result().ok


def test_any_number_of_async_blocks_go_on_and_end_while_the_only_worker_is_in_a_slow_block(scheduled, bench):
    busy = threading.Event()

    async def work():
        while not busy.is_set():
            await asyncio.sleep(0.001)
        return current().step

    def slow():
        busy.set()
        run = current().run
        wait_until(lambda: run.statuses.count(COMPLETED) == 5, "the ends of the others")

    for number in range(5):
        bench.step(f"work{number}", work)
    bench.step("slow", slow)
    bench.sequence()
    assert scheduled.scheduler(bench, max_workers=1).run("seq", timeout=PATIENCE).ok


def test_an_async_block_may_await_another_run_on_the_only_worker(scheduled, bench):
    async def work():
        return (await scheduler.trigger("inner")).outputs["inner"]

    bench.step("inner", lambda: 3)
    bench.sequence(seq_id="inner")
    bench.step("outer", work)
    bench.sequence()
    scheduler = scheduled.scheduler(bench, max_workers=1)
    assert scheduler.run("seq", timeout=PATIENCE).outputs["outer"] == 3


def test_a_worker_that_was_lent_runs_nothing_beside_the_block_that_lent_it(scheduled, bench):
    """When the block goes on after the inner run, it is again the only one on the only worker."""
    resumed, go, beside = threading.Event(), threading.Event(), []

    def outer():
        scheduler.run("inner", timeout=PATIENCE)
        resumed.set()
        wait(go)
        beside.append("outer has ended")

    bench.step("inner", one)
    bench.sequence(seq_id="inner")
    bench.step("outer", outer)
    bench.sequence(seq_id="outer")
    bench.step("other", lambda: beside.append("other has started"))
    bench.sequence(seq_id="other")
    scheduler = scheduled.scheduler(bench, max_workers=1)
    first = scheduler.trigger("outer")
    wait(resumed)
    second = scheduler.trigger("other")
    with pytest.raises(TimeoutError):
        second.result(0.05)
    go.set()
    assert first.result(PATIENCE).ok and second.result(PATIENCE).ok
    assert beside == ["outer has ended", "other has started"]


def test_what_was_lent_is_given_back(scheduled, bench):
    """After a run inside a run there are as many workers as before."""
    running, most, counting = [0], [0], threading.Lock()

    def busy():
        with counting:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.002)
        with counting:
            running[0] -= 1

    def outer():
        scheduler.run("inner", timeout=PATIENCE)
        busy()

    bench.step("inner", one)
    bench.sequence(seq_id="inner")
    bench.step("outer", outer)
    bench.sequence(seq_id="outer")
    bench.step("busy", busy)
    bench.sequence(seq_id="busy")
    scheduler = scheduled.scheduler(bench, max_workers=1)
    for _ in range(10):
        assert scheduler.run("outer", timeout=PATIENCE).ok
        handles = [scheduler.trigger("busy") for _ in range(5)]
        assert all(handle.result(PATIENCE).ok for handle in handles)
    assert most == [1]


def mixing(bench):
    """A sequence whose output tells whether anything of another run got into it."""

    def start(tag):
        return tag, current().run_id

    def check(tag, start):
        assert start == (tag, current().run_id), (start, tag, current().run_id)
        if current().attempt == 1 and tag % 5 == 0:
            raise ValueError("once")
        return [tag]

    async def check_async(tag, start):
        return check(tag, start)

    bench.step("start", start)
    bench.step("left", check, "start", retries=1)
    bench.step("right", check_async if bench.awaits else check, "start", retries=1)
    bench.step("join", lambda tag, left, right: (tag, left, right), "left", "right")
    bench.sequence()


def from_eight_threads(run_one):
    wrong = []

    def caller(number):
        for count in range(200):
            tag = number * 1000 + count
            parameters = {name: {"tag": tag} for name in ("start", "left", "right", "join")}
            result = run_one(parameters)
            if not result.ok or result.outputs["join"] != (tag, [tag], [tag]) or result.output["start"][0] != tag:
                wrong.append((tag, result.error))

    callers = [threading.Thread(target=caller, args=(number,)) for number in range(8)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(60)
    assert not any(thread.is_alive() for thread in callers) and not wrong


def test_sixteen_hundred_runs_from_eight_threads_are_not_mixed(way, bench):
    """R38."""
    bench.awaits = way.has_scheduler
    mixing(bench)
    if not way.has_scheduler:
        from_eight_threads(lambda parameters: bench.sequences.run("seq", parameters, max_workers=2))
        return
    scheduler = way.scheduler(bench)
    from_eight_threads(lambda parameters: scheduler.run("seq", parameters, timeout=PATIENCE))
    wait_until(lambda: not scheduler.runs, "the end of all runs")
    assert len(scheduler.state.runs(status="COMPLETED", limit=2_000).items) == 1_600


def test_no_thread_stays_behind_a_run_without_a_scheduler(bench):
    async def work():
        return 1

    bench.step("a", work)
    bench.step("b", one)
    bench.sequence()
    before = set(threading.enumerate())
    for _ in range(5):
        bench.sequences.run("seq")
    wait_until(lambda: not set(threading.enumerate()) - before, "the end of the threads")


def test_a_stopped_scheduler_leaves_no_thread_behind(scheduled, bench):
    async def work():
        return 1

    before = set(threading.enumerate())
    bench.step("a", work)
    bench.step("b", one)
    bench.sequence()
    scheduler = scheduled.scheduler(bench)
    scheduler.run("seq", timeout=PATIENCE)
    scheduler.stop()
    wait_until(lambda: not set(threading.enumerate()) - before, "the end of the threads")


def test_a_scheduler_runs_what_is_triggered_before_it_is_started(tmp_path, bench):
    bench.step("a", one)
    bench.sequence()
    scheduler = Blaze(sequences=bench.sequences, state_dir=tmp_path)
    try:
        assert scheduler.run("seq", timeout=PATIENCE).ok
    finally:
        scheduler.stop()


def test_a_stream_of_short_runs_is_pruned_while_it_flows(bench, tmp_path, monkeypatch):
    """R47. A run is seldom seen going on by who looks now and then, and still leaves its history behind."""
    monkeypatch.setattr(session, "TIDY_EVERY_BUSY", 0.0)
    monkeypatch.setattr(scribe, "TIDY_EVERY", 0.0)
    bench.step("a", one)
    bench.sequence()
    with Blaze(
        sequences=bench.sequences, state_dir=tmp_path / "state", durability="memory", retention=Retention(runs=20)
    ) as scheduler:
        made, end = 0, time.monotonic() + PATIENCE
        while made < 100 or scheduler._session.journal.read("SELECT count(*) FROM runs")[0][0] > made // 2:
            assert scheduler.run("seq").ok and time.monotonic() < end
            made += 1


def test_when_a_run_has_ended_the_rows_of_all_its_steps_are_there(bench):
    """Also in memory, where nobody waits for a commit: the preview of an output is a matter of its repr()."""
    ended = threading.Event()

    class Slow:
        def __repr__(self):
            ended.wait(0.2)
            return "slow"

    bench.step("slow", Slow)
    bench.step("last", lambda: wait_until(lambda: handle._run.status_of(0) is BlockStatus.COMPLETED))
    bench.sequence(lambda context: None)
    with Blaze(sequences=bench.sequences, durability="memory", on_run_end=lambda event: ended.set()) as scheduler:
        scheduler.pause()
        handle = scheduler.trigger("seq")
        scheduler.resume()
        handle.result(PATIENCE)
        assert [step.status for step in scheduler.state.steps(handle.run_id)] == [BlockStatus.COMPLETED] * 2
