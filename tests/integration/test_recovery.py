"""What is left after kill -9 at named points, a stop or a change of the source, and how the next start goes on with it.

Each child process is a fork that really dies; see ``doomed``. DESIGN §4; RELIABILITY R1, R4 to R12.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections import Counter
from datetime import date, datetime, timedelta, timezone
from datetime import time as time_of_day
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest

from blaze import (
    BlazeError,
    BlockStatus,
    NotFound,
    RunStatus,
    RunSuspended,
    SeqBlockData,
    StateError,
    current,
)
from blaze.core import recovering
from blaze.core.ground.errors import Refused
from blaze.core.remember import codec
from blaze.core.remember.journal import Journal
from blaze.core.remember.retention import Retention, prune
from blaze.core.remember.schema import step_key
from tests.integration import doomed_blocks
from tests.integration.doomed import Child, Doomed, StartingGun, die, ended, in_child, is_gone, until_killed
from tests.integration.doomed_blocks import Colour, Request, Window
from tests.integration.workbench import PATIENCE, HandClock, hold, wait, wait_until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes that die are forks")

COMPLETED, FAILED, SKIPPED, CANCELLED, PENDING, RETRYING = (
    BlockStatus.COMPLETED, BlockStatus.FAILED, BlockStatus.SKIPPED, BlockStatus.CANCELLED, BlockStatus.PENDING,
    BlockStatus.RETRYING,
)  # fmt: skip

#: Larger than what is kept in the database itself.
LARGE = "x" * (codec.INLINE_LIMIT + 1)


def statuses(result):
    return {name: step.status for name, step in result.steps.items()}


def steps_of(state, run_id):
    return {step.name: step for step in state.steps(run_id)}


def integrity(doomed):
    with doomed.state() as state:
        return state.integrity()


def hold_until_recorded(doomed, step, status):
    """Inside a block: wait until the state file says this of a step of the run."""
    run = current().run

    def look():
        run.engine.timekeeper.poke()
        return steps_of(state, run.info.run_id)[step].status is status

    with doomed.state() as state:
        wait_until(look, f"{step} {status}")


# ---------------------------------------------------------------------- where the process dies


@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_chain_goes_on_behind_the_last_committed_step(doomed, durability):
    """R4, R5: same run, same key, one more recovery; what was completed is not executed again."""
    keys = []
    doomed.work("a")
    doomed.work("b", "a", dies=True)
    doomed.step("c", lambda b: keys.append(current().idempotency_key) or f"{b}c", "b")
    doomed.work("d", "c")
    doomed.sequence()
    run_id = doomed.crash(durability=durability)
    with doomed.state() as state:
        before = state.find_run(run_id)
        assert before.status in (RunStatus.PENDING, RunStatus.RUNNING)
        assert steps_of(state, run_id)["a"].status is COMPLETED
    result = doomed.resume(durability=durability)
    assert result.run_id == run_id
    assert result.output == {"a": "a", "b": "b", "c": "bc", "d": "d"}
    assert doomed.told() == ["a", "b", "b", "d"]
    assert keys == [f"{run_id}:c"]
    assert {step.attempts for step in result.steps.values()} == {1}
    with doomed.state() as state:
        after = state.find_run(run_id)
        assert (after.status, after.recoveries, after.created) == (RunStatus.COMPLETED, 1, before.created)
        assert after.owner != before.owner
        assert {step.status for step in state.steps(run_id)} == {COMPLETED}
        assert state.integrity() == []


def test_a_step_that_was_recorded_as_running_is_made_again_as_the_same_attempt(doomed):
    attempts = []

    def slow():
        attempts.append((current().attempt, current().idempotency_key))
        if doomed.once("slow"):
            hold_until_recorded(doomed, "slow", BlockStatus.RUNNING)
            die()
        return "slow"

    doomed.work("a")
    doomed.step("slow", slow, "a")
    doomed.work("c", "slow")
    doomed.sequence()
    run_id = doomed.crash()
    with doomed.state() as state:
        assert state.find_run(run_id).status is RunStatus.RUNNING
        assert steps_of(state, run_id)["slow"].attempts == 1
    result = doomed.resume()
    assert statuses(result) == dict.fromkeys(("a", "slow", "c"), COMPLETED)
    assert attempts == [(1, f"{run_id}:slow")]
    with doomed.state() as state:
        assert steps_of(state, run_id)["slow"].attempts == 1


def test_of_a_fan_out_only_what_was_not_recorded_is_made_again(doomed):
    doomed.work("root")
    leaves = [f"leaf{number}" for number in range(20)]
    for leaf in leaves:
        doomed.work(leaf, "root", dies=leaf == "leaf11")
    doomed.work("join", *leaves)
    doomed.sequence(len)
    run_id = doomed.crash(max_workers=3)
    with doomed.state() as state:
        recorded = {step.name for step in state.steps(run_id) if step.status is COMPLETED}
    before = Counter(doomed.told())
    assert "root" in recorded and "leaf11" not in recorded
    assert doomed.resume(max_workers=3).output == 22
    after = Counter(doomed.told())
    assert {name: after[name] - before[name] for name in recorded} == dict.fromkeys(recorded, 0)
    assert all(after[name] - before[name] == 1 for name in {*leaves, "join"} - recorded)


def test_a_run_that_died_in_its_finaliser_calls_the_finaliser_again_and_no_step(doomed):
    seen = []

    def finaliser(context):
        doomed.witness.tell("finaliser")
        doomed.die_once("finaliser")
        seen.append(context)
        return "final"

    doomed.work("a", value={"rows": [1, 2]})
    doomed.work("b", "a", value=LARGE)
    doomed.sequence(finaliser)
    doomed.crash()
    result = doomed.resume()
    assert result.output == "final"
    assert seen == [{"a": {"rows": [1, 2]}, "b": LARGE}]
    assert doomed.told() == ["a", "b", "finaliser", "finaliser"]


def test_a_failed_run_that_died_before_its_end_was_written_ends_as_it_would_have(doomed, monkeypatch):
    """The last commit but one: every step has ended, the run has not."""

    def boom():
        doomed.witness.tell("boom")
        raise ValueError("no rows")

    doomed.step("boom", boom, retries=1)
    doomed.work("after", "boom")
    doomed.work("mender", "boom", run_when="any_failed")
    doomed.sequence()

    def die_at_the_end(self, *args):
        if doomed.once("end"):
            with self.journal.lock:
                self.journal.commit()
            die()

    with monkeypatch.context() as patch:
        patch.setattr("blaze.core.remember.recorder.Recorder.run_ended", die_at_the_end)
        doomed.crash()
    result = doomed.resume()
    assert statuses(result) == {"boom": FAILED, "after": SKIPPED, "mender": COMPLETED}
    assert result.status is RunStatus.FAILED
    assert "step 'boom', attempt 2 of 2" in result.error and "no rows" in result.error
    assert doomed.told() == ["boom", "boom", "mender"]


class EveryCommit:
    """A pipeline in which much happens, killed at one commit after the other."""

    def __init__(self, folder):
        self.doomed = doomed = Doomed(folder)

        def flaky():
            doomed.witness.tell("flaky")
            if current().attempt == 1:
                raise ValueError("the first attempt fails")
            return "flaky"

        def broken():
            doomed.witness.tell("broken")
            raise ValueError("it always fails")

        doomed.work("first")
        doomed.step("flaky", flaky, "first", retries=1)
        doomed.step("broken", broken, "first", retries=1)
        doomed.work("large", "flaky", value=LARGE)
        doomed.work("unreached", "broken")
        doomed.work("mender", "broken", run_when="any_failed")
        doomed.work("last", "large", "unreached", "mender", run_when="all_done")
        doomed.sequence()

    def ends(self):
        with self.doomed.state() as state:
            run = state.find_run("last")
            steps = {step.name: (step.status, step.attempts, step.reason) for step in state.steps(run.run_id)}
            attempts = sorted((attempt.step, attempt.attempt) for attempt in state.attempts(run.run_id))
            return run.status, run.reason, steps, attempts, state.integrity()


def run_of(pipeline):
    return str(pipeline.doomed.start(max_workers=2).run("seq", timeout=PATIENCE))


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_before_or_after_any_commit_a_run_ends_as_if_nothing_had_happened(tmp_path, monkeypatch, moment):
    """R69: every commit of a run with retries, failures, skipped steps and spilled outputs is visited."""
    (tmp_path / "undisturbed").mkdir()
    undisturbed = EveryCommit(tmp_path / "undisturbed")
    undisturbed.doomed.start().run("seq", timeout=PATIENCE)
    undisturbed.doomed.close()
    expected = undisturbed.ends()
    assert expected[0] is RunStatus.FAILED and expected[-1] == []
    commit = Journal.commit
    kills = 0
    for number in range(100):
        folder = tmp_path / str(number)
        folder.mkdir()
        pipeline = EveryCommit(folder)
        commits = []

        def doomed_commit(journal, number=number, commits=commits):
            if moment == "before" and journal.pending and len(commits) == number:
                die()
            tokens = commit(journal)
            if tokens:
                commits.append(tokens)
                if moment == "after" and len(commits) == number + 1:
                    die()
            return tokens

        with monkeypatch.context() as patch:
            patch.setattr(Journal, "commit", doomed_commit)
            with Child(run_of, pipeline) as child:
                killed = child.wait() == signal.SIGKILL
        if killed:
            kills += 1
            scheduler = pipeline.doomed.start(max_workers=2)
            for handle in scheduler.recovered:
                handle.result(PATIENCE)
            pipeline.doomed.close()
        assert pipeline.ends() == expected, f"killed {moment} commit {number}"
        if not killed:
            break
    assert kills >= 5


def test_what_was_recorded_while_the_journal_was_held_is_written_when_it_is_let_go(doomed):
    """Not only when the timekeeper looks the next time, half a second later."""

    def holds():
        journal = scheduler._session.journal
        held = threading.Event()

        def work(cursor):
            held.set()
            wait_until(lambda: journal.pending, "the row of the step")

        def hold():
            journal.transaction(work)

        threading.Thread(target=hold).start()
        wait(held)

    doomed.step("holds", holds)
    doomed.work("next", "holds")
    doomed.sequence()
    scheduler = doomed.start(clock=HandClock())  # whose timekeeper looks only when it is told to
    handle = scheduler.trigger("seq")
    assert handle.result(2).ok


# ---------------------------------------------------------------------- retries and deadlines


class Flaky(Doomed):
    """A step that fails some times, an hour apart, and one that kills the process when the first retry is recorded."""

    def wire(self, failures, retries, root=True):
        def flaky():
            self.witness.tell(f"attempt {current().attempt}")
            if current().attempt <= failures:
                raise ValueError(f"attempt {current().attempt}")
            return "at last"

        def killer():
            if self.once("killer"):
                hold_until_recorded(self, "flaky", RETRYING)
                die()

        if not root:
            self.work("start")
        self.step("flaky", flaky, *([] if root else ["start"]), retries=retries, retry_delay=3600)
        self.step("killer", killer)
        self.sequence(seq_run_timeout=None)


@pytest.fixture
def flaky(tmp_path):
    flaky = Flaky(tmp_path)
    yield flaky
    flaky.close()


@pytest.mark.parametrize("root", [True, False], ids=["without dependencies", "behind another step"])
def test_a_retry_comes_at_the_time_that_was_recorded_whatever_happens_in_between(flaky, root):
    """DESIGN §4.10: neither earlier, nor counted from the restart; the attempts go on counting."""
    flaky.wire(failures=2, retries=2, root=root)
    run_id = flaky.crash(clock=HandClock())
    with flaky.state() as state:
        due = steps_of(state, run_id)["flaky"].retry
    assert due == HandClock().time() + 3600
    clock = HandClock(4000.0)
    scheduler = flaky.start(clock=clock)
    (handle,) = scheduler.recovered
    clock.advance(590)
    assert flaky.told().count("attempt 2") == 0
    assert steps_of(scheduler.state, run_id)["flaky"].retry == due
    clock.advance(11)
    flaky.witness.wait_for("attempt 2")
    wait_until(lambda: steps_of(scheduler.state, run_id)["flaky"].attempts == 2)
    clock.advance(3500)
    assert flaky.told().count("attempt 3") == 0
    clock.advance(101)
    result = ended(handle)
    assert result.status is RunStatus.COMPLETED and result.steps["flaky"].attempts == 3
    assert [word for word in flaky.told() if "attempt" in word] == ["attempt 1", "attempt 2", "attempt 3"]
    assert [attempt.attempt for attempt in scheduler.state.attempts(run_id)] == [1, 2]


@pytest.mark.parametrize("root", [True, False], ids=["without dependencies", "behind another step"])
def test_a_retry_whose_time_passed_meanwhile_is_made_at_once_and_only_once(flaky, root):
    flaky.wire(failures=1, retries=1, root=root)
    flaky.crash(clock=HandClock())
    clock = HandClock(4601.0)
    assert flaky.resume(clock=clock).steps["flaky"].attempts == 2
    assert [word for word in flaky.told() if "attempt" in word] == ["attempt 1", "attempt 2"]


def test_a_restart_grants_no_further_attempts(flaky):
    """R33: retries=1 means two attempts, before and after the crash together."""
    flaky.wire(failures=5, retries=1)
    flaky.crash(clock=HandClock())
    clock = HandClock(4601.0)
    result = flaky.resume(clock=clock)
    assert result.status is RunStatus.FAILED and result.steps["flaky"].attempts == 2
    assert "attempt 2 of 2" in result.error


def test_a_run_whose_deadline_passed_while_no_process_lived_is_failed_at_the_next_start(doomed):
    doomed.work("a")
    doomed.work("b", "a", dies=True)
    doomed.sequence(seq_run_timeout=100)
    run_id = doomed.crash(clock=HandClock())
    clock = HandClock(1101.0)
    result = doomed.resume(clock=clock)
    assert (result.status, result.reason) == (RunStatus.FAILED, "timeout")
    assert "100 s" in result.error
    assert statuses(result) == {"a": COMPLETED, "b": CANCELLED}
    assert doomed.told() == ["a", "b"]
    with doomed.state() as state:
        assert state.find_run(run_id).status is RunStatus.FAILED


def test_a_restart_does_not_move_the_deadline(doomed):
    """R35, DESIGN §4.10."""
    started = threading.Event()

    def waits():
        if doomed.once("waits"):
            die()
        started.set()
        while True:
            current().check_cancelled()
            time.sleep(0.001)

    doomed.step("waits", waits)
    doomed.sequence(seq_run_timeout=100)
    run_id = doomed.crash(clock=HandClock())
    with doomed.state() as state:
        deadline = state.find_run(run_id).deadline
    clock = HandClock(1060.0)
    assert deadline == HandClock().time() + 100
    scheduler = doomed.start(clock=clock)
    (handle,) = scheduler.recovered
    wait(started, "the block")
    clock.advance(39)
    assert not handle.done()
    clock.advance(2)
    result = ended(handle)
    assert (result.status, result.reason) == (RunStatus.FAILED, "timeout")
    with doomed.state() as state:
        assert state.find_run(run_id).deadline == deadline


# ---------------------------------------------------------------------- blocks in flight that are no plain call


def test_an_async_block_that_was_in_flight_is_awaited_again(doomed):
    async def waits():
        first = doomed.once("waits")  # before it is told: whoever hears of it may kill this process at once
        doomed.witness.tell("waits")
        if first:
            await asyncio.Event().wait()
        return "awaited"

    def killer():
        if doomed.once("killer"):
            doomed.witness.wait_for("waits")
            die()

    doomed.step("waits", waits)
    doomed.step("killer", killer)
    doomed.sequence()
    doomed.crash()
    assert doomed.resume().outputs["waits"] == "awaited"
    assert doomed.told() == ["waits", "waits"]


def test_the_process_of_a_block_dies_with_its_parent_and_the_block_is_made_again(doomed):
    file = doomed.folder / "pid"

    def killer():
        if doomed.once("killer"):
            wait_until(file.exists, "the process block")
            die()

    doomed.step("far", doomed_blocks.tell_the_pid_and_wait, parameters={"file": str(file)}, executor="process")
    doomed.step("killer", killer)
    doomed.sequence()
    doomed.crash()
    orphan = int(file.read_text())
    wait_until(lambda: is_gone(orphan), "the end of the orphan")
    assert doomed.resume().outputs["far"] == "done"


# ---------------------------------------------------------------------- outputs


def test_an_output_that_is_not_persisted_is_made_again_only_if_an_open_step_reads_it(doomed):
    doomed.work("read", persist_result=False)
    doomed.work("unread", persist_result=False)
    doomed.work("only_waited_for", persist_result=False)
    doomed.step("done", lambda unread: doomed.witness.tell("done"), "unread")
    doomed.step("reader", lambda read: doomed.die_once("reader") or f"got {read}", "read", "done", "only_waited_for")
    doomed.sequence()
    run_id = doomed.crash(max_workers=1)
    with doomed.state() as state:
        assert [step.stored for step in state.steps(run_id)] == [False, False, False, True, False]
    result = doomed.resume()
    assert result.status is RunStatus.COMPLETED
    assert result.outputs["reader"] == "got read"
    assert Counter(doomed.told()) == {"read": 2, "unread": 1, "only_waited_for": 1, "done": 1}
    assert integrity(doomed) == []


def test_to_make_an_output_again_those_that_it_was_made_of_are_made_again_too(doomed):
    doomed.work("stored")
    for name, source in (("first", "stored"), ("second", "first")):
        doomed.step(name, lambda value: (doomed.witness.tell(current().step), value)[1], source,
                    parameters={"value": f"@{source}"}, persist_result=False)  # fmt: skip
    doomed.step("beside", lambda first: doomed.witness.tell("beside"), "first")
    doomed.step("reader", lambda second: doomed.die_once("reader") or second, "second", "beside")
    doomed.sequence()
    doomed.crash(max_workers=1)
    assert doomed.resume().outputs["reader"] == "stored"
    assert Counter(doomed.told()) == {"stored": 1, "first": 2, "second": 2, "beside": 1}


def test_an_output_that_cannot_be_pickled_is_a_warning_and_made_again_for_who_reads_it(doomed, caplog):
    """R9."""

    def maker():
        doomed.witness.tell("maker")
        return lambda: 42

    doomed.step("maker", maker)
    doomed.step("reader", lambda maker: doomed.die_once("reader") or maker(), "maker")
    doomed.sequence(lambda context: context["reader"])
    doomed.crash()
    with caplog.at_level(logging.WARNING):
        result = doomed.resume()
    assert result.output == 42
    assert doomed.told() == ["maker", "maker"]
    (warning,) = [record.getMessage() for record in caplog.records if "can't be stored" in record.getMessage()]
    assert "'maker'" in warning


@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_large_output_comes_back_from_its_file(doomed, durability):
    doomed.work("large", value=[LARGE, LARGE])
    doomed.step("reader", lambda large: doomed.die_once("reader") or [len(text) for text in large], "large")
    doomed.sequence()
    run_id = doomed.crash(durability=durability)
    (file,) = (doomed.state_dir / "results").rglob("*.pickle")
    assert file == doomed.state_dir / "results" / run_id / "large.pickle"
    result = doomed.resume(durability=durability)
    assert result.outputs["reader"] == [len(LARGE)] * 2 and result.outputs["large"] == [LARGE, LARGE]
    assert doomed.told() == ["large"]


@pytest.mark.parametrize("harm", ["gone", "cut short", "overwritten"])
def test_a_large_output_that_is_lost_fails_its_run_with_the_step_and_no_other(doomed, harm):
    """A completed step never runs again: its run can't go on, and says why."""
    doomed.work("large", value=LARGE)
    doomed.step("reader", lambda large: doomed.die_once("reader"), "large")
    doomed.sequence()
    doomed.work("fine")
    doomed.step("slow", lambda fine: doomed.die_once("slow"), "fine")
    doomed.sequence(seq_id="other")
    run_id = doomed.crash()
    (file,) = (doomed.state_dir / "results").rglob("*.pickle")
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:1000] if harm == "cut short" else b"no pickle at all")

    def trigger_and_die():
        doomed.blaze().run("other")

    until_killed(trigger_and_die)
    result = doomed.resume()
    assert (result.seq_id, result.status) == ("other", RunStatus.COMPLETED)
    with doomed.state() as state:
        run = state.find_run(run_id)
        assert run.status is RunStatus.FAILED
        assert "the output of step 'large'" in run.error
    assert doomed.told() == ["large", "fine"]
    assert doomed.instances() == [f"{doomed.open[-1].instance_id}.lock"]


def test_a_lost_output_that_nobody_reads_any_more_is_not_missed(doomed):
    doomed.work("large", value=LARGE)
    doomed.step("reader", lambda large: len(large), "large")
    doomed.work("last", "reader", dies=True)
    doomed.sequence(lambda context: sorted(context))
    doomed.crash(keep_outputs=False)
    (file,) = (doomed.state_dir / "results").rglob("*.pickle")
    file.unlink()
    result = doomed.resume(keep_outputs=False)
    assert result.status is RunStatus.COMPLETED and doomed.told() == ["large", "last", "last"]


# ---------------------------------------------------------------------- changed definitions


def original(doomed):
    """a, b completed; the process dies in c; d is still to come."""
    doomed.work("a")
    doomed.work("b", "a")
    doomed.work("c", "b", dies=True)
    doomed.work("d", "c")
    doomed.sequence()


def test_a_run_whose_completed_step_is_gone_is_failed_and_says_so(doomed):
    """R8, DESIGN §4.5."""
    original(doomed)
    run_id = doomed.crash()
    changed = doomed.again()
    changed.work("a")
    changed.work("c", "a")
    changed.sequence()
    assert changed.start().recovered == []
    assert_failed_by_change(changed, run_id, "'b' is no step any more")


def test_a_run_whose_completed_step_is_wired_otherwise_is_failed_and_says_how(doomed):
    original(doomed)
    run_id = doomed.crash()
    changed = doomed.again()
    changed.work("a")
    changed.work("z")
    changed.work("b", "a", "z")
    changed.work("c", "b")
    changed.work("d", "c")
    changed.sequence()
    changed.start()
    assert_failed_by_change(changed, run_id, "'b' depended on ['a'] and now on ['a', 'z']")


def test_a_run_whose_completed_step_has_another_block_is_failed_and_names_both(doomed):
    original(doomed)
    run_id = doomed.crash()
    changed = doomed.again()
    changed.blocks.block(name="other")(lambda: "other")
    changed.work("a")
    changed.wiring.append(SeqBlockData("other", ["a"], name="b"))
    changed.work("c", "b")
    changed.work("d", "c")
    changed.sequence()
    changed.start()
    assert_failed_by_change(changed, run_id, "'b' was block 'b' and now is 'other'")


def assert_failed_by_change(doomed, run_id, what):
    told = doomed.told()
    wait_until(lambda: doomed.open[-1].state.find_run(run_id).status.ended, "the end")
    doomed.close()
    with doomed.state() as state:
        run = state.find_run(run_id)
        assert (run.status, run.reason) == (RunStatus.FAILED, "definition_changed")
        assert what in run.error
        open_steps = [step for step in state.steps(run_id) if step.status is not BlockStatus.COMPLETED]
        assert open_steps and {step.reason for step in open_steps} == {"definition_changed"}
        assert {step.status for step in open_steps} == {BlockStatus.CANCELLED}
    assert doomed.told() == told == ["a", "b", "c"]
    assert doomed.instances() == []


def insert_in_front(doomed):
    doomed.work("new")
    original(doomed)


def turn_round(doomed):
    doomed.work("d", "c")
    doomed.work("c", "b")
    doomed.work("b", "a")
    doomed.work("a")
    doomed.sequence()


def drop_the_last(doomed):
    doomed.work("a")
    doomed.work("b", "a")
    doomed.work("c", "b")
    doomed.sequence()


def put_one_between(doomed):
    doomed.work("a")
    doomed.work("between", "a")
    doomed.work("b", "a")
    doomed.work("c", "b", "between")
    doomed.work("d", "c")
    doomed.sequence()


def replace_what_did_not_complete(doomed):
    doomed.work("extra")
    doomed.work("a")
    doomed.work("b", "a")
    doomed.work("c2", "b", "extra")
    doomed.sequence(seq_run_timeout=7, retries=3)


@pytest.mark.parametrize(
    ("change", "executed"),
    [
        (insert_in_front, {"new", "c", "d"}),
        (turn_round, {"c", "d"}),
        (drop_the_last, {"c"}),
        (put_one_between, {"between", "c", "d"}),
        (replace_what_did_not_complete, {"extra", "c2"}),
    ],
)
def test_a_change_that_leaves_the_completed_steps_alone_does_not_stop_a_run(doomed, change, executed):
    """DESIGN §4.5. The record names the steps of today's definition, at their places in it."""
    original(doomed)
    run_id = doomed.crash()
    before = Counter(doomed.told())
    changed = doomed.again()
    change(changed)
    result = changed.resume()
    assert result.status is RunStatus.COMPLETED and result.run_id == run_id
    assert set(Counter(doomed.told()) - before) == executed
    assert result.output == {name: name for name in {"a", "b", *executed}}
    changed.close()
    with changed.state() as state:
        assert {step.name: step.status for step in state.steps(run_id)} == dict.fromkeys(result.output, COMPLETED)
        assert {step.name: step.preview for step in state.steps(run_id)} == {n: repr(n) for n in result.output}
        assert state.graph(run_id).blocks == {name: name for name in result.output}
        assert state.find_run(run_id).steps == len(result.output)
        assert state.integrity() == []


def test_failed_attempts_and_log_lines_stay_with_their_step_when_the_definition_changes(doomed):
    def flaky():
        current().logger.info("trying %d", current().attempt)
        if current().attempt == 1:
            raise ValueError("once")
        doomed.die_once("flaky")

    doomed.work("gone")
    doomed.step("flaky", flaky, retries=1)
    doomed.sequence()

    def crash():
        scheduler = doomed.start(max_workers=1)
        scheduler.run("seq", timeout=PATIENCE)

    until_killed(crash)
    changed = doomed.again()
    for name in ("x", "y"):
        changed.work(name)
    changed.work("gone")
    changed.step("flaky", flaky, retries=1)
    changed.sequence()
    run_id = changed.resume().run_id
    changed.close()
    with changed.state() as state:
        assert [(attempt.step, attempt.attempt) for attempt in state.attempts(run_id)] == [("flaky", 1)]
        lines = [(line.step, line.message) for line in state.logs(run_id)]
        assert ("flaky", "trying 1") in lines and ("flaky", "trying 2") in lines
        assert {step for step, _ in lines} == {"flaky"}


def test_a_run_of_an_unknown_sequence_is_left_alone_until_a_process_has_it(doomed):
    original(doomed)
    run_id = doomed.crash()
    stranger = doomed.again()
    stranger.work("x")
    stranger.sequence(seq_id="another")
    with doomed.state() as state:
        before = state.find_run(run_id)
    scheduler = stranger.start()
    assert scheduler.recovered == [] and scheduler.run("another", timeout=PATIENCE).ok
    stranger.close()
    with doomed.state() as state:
        assert state.find_run(run_id) == before
    assert len(doomed.instances()) == 1
    assert doomed.resume().status is RunStatus.COMPLETED
    doomed.close()
    assert doomed.instances() == []
    assert doomed.told() == ["a", "b", "c", "x", "c", "d"]


def test_a_run_whose_parameters_fit_no_more_is_failed_and_the_others_go_on(doomed):
    def takes(number: int = 0):
        doomed.die_once("takes")
        return number

    doomed.step("takes", takes)
    doomed.sequence()
    doomed.step("fine", lambda: doomed.die_once("fine"))
    doomed.sequence(seq_id="other")
    run_id = doomed.crash(parameters={"takes": {"number": 5}})
    until_killed(lambda: doomed.blaze().run("other"))
    changed = doomed.again()

    def takes_a_text(number: str = ""):
        return number

    changed.step("takes", takes_a_text)
    changed.sequence()
    changed.step("fine", lambda: None)
    changed.sequence(seq_id="other")
    assert changed.resume().seq_id == "other"
    with changed.state() as state:
        run = state.find_run(run_id)
        assert (run.status, run.reason) == (RunStatus.FAILED, "definition_changed")
        assert "parameter number" in run.error


# ---------------------------------------------------------------------- parameters


PARAMETERS = {
    "none": None,
    "yes": True,
    "integer": -(2**70),
    "fraction": 0.1,
    "text": "äöü \u2028 \x00 @step",
    "reference_like": "@@made",
    "nested": {"a": [1, {"b": [None, "@@x"]}], "$blaze": "date"},
    "moment": datetime(2024, 10, 27, 2, 30, 0, 5, timezone(timedelta(hours=5, minutes=30))),
    "naive": datetime(2024, 10, 27, 2, 30, fold=1),
    "day": date(2024, 2, 29),
    "clock": time_of_day(23, 59, 59, 999999, timezone.utc),
    "span": timedelta(days=-1, seconds=5, microseconds=7),
    "money": Decimal("10.10"),
    "uuid": UUID("12345678123456781234567812345678"),
    "raw": b"\x00\xff" * 10,
    "path": Path("a/b c"),
    "pair": (1, ("x", 2.5)),
    "unique": {1, 2, 3},
}


def test_parameters_of_every_type_come_back_equal_after_a_crash(doomed):
    """R5: the stored copy; DESIGN §2."""
    got = []

    def takes(everything, colour: Colour, request: Request, made=None):
        doomed.die_once("takes")
        got.append((everything, colour, request))
        return everything

    doomed.step("takes", takes)
    doomed.sequence()
    window = Window(date(2024, 1, 31), timedelta(hours=1), Colour.BLUE, (3,))
    request = Request([window], Decimal("1.50"), PARAMETERS["uuid"], PARAMETERS["moment"], Path("/tmp/x"))
    parameters = {"takes": {"everything": PARAMETERS, "colour": Colour.BLUE, "request": request}}
    run_id = doomed.crash(parameters=parameters)
    doomed.resume()
    ((everything, colour, again),) = got
    expected = {**PARAMETERS, "reference_like": "@made", "nested": {"a": [1, {"b": [None, "@x"]}], "$blaze": "date"}}
    assert everything == expected
    assert {name: type(value) for name, value in everything.items()} == {n: type(v) for n, v in expected.items()}
    assert everything["naive"].fold == 1 and everything["moment"].utcoffset() == timedelta(hours=5, minutes=30)
    assert (colour, again) == (Colour.BLUE, request)
    # A retry takes them from the store once more.
    doomed.open[-1].retry(run_id, from_step="takes").result(PATIENCE)
    assert got[1] == got[0]


# ---------------------------------------------------------------------- how often


def test_a_block_that_kills_its_process_every_time_does_not_do_so_for_ever(doomed):
    """R7: FAILED after the limit; runs before and after it are unaffected."""
    doomed.work("before")
    doomed.step("killer", lambda before: (doomed.witness.tell("killer"), die()), "before")
    doomed.work("after", "killer")
    doomed.sequence()
    doomed.work("fine")
    doomed.sequence(seq_id="other")
    fine = in_child(lambda: doomed.start().run("other", timeout=PATIENCE).run_id)
    run_id = doomed.crash(max_recoveries=2)
    for recoveries in (1, 2):
        doomed.crash(max_recoveries=2)
        with doomed.state() as state:
            assert state.find_run(run_id).recoveries == recoveries
    scheduler = doomed.start(max_recoveries=2)
    assert scheduler.recovered == []
    assert scheduler.run("other", timeout=PATIENCE).ok
    with doomed.state() as state:
        run = state.find_run(run_id)
        assert (run.status, run.reason) == (RunStatus.FAILED, "crashed")
        assert "died 3 times" in run.error and "max_recoveries=2" in run.error
        assert [step.status for step in state.steps(run_id)] == [COMPLETED, CANCELLED, CANCELLED]
        assert state.find_run(fine).status is RunStatus.COMPLETED
    assert doomed.told() == ["fine", "before", "killer", "killer", "killer", "fine"]


def test_without_recoveries_the_first_crash_is_the_last(doomed):
    doomed.work("a", dies=True)
    doomed.sequence()
    run_id = doomed.crash(max_recoveries=0)
    assert doomed.start(max_recoveries=0).recovered == []
    with doomed.state() as state:
        assert state.find_run(run_id).status is RunStatus.FAILED


def test_a_clean_stop_does_not_count_as_a_recovery(doomed):
    started = threading.Event()

    def waits():
        started.set()
        while not (doomed.folder / "go").exists():
            current().check_cancelled()
            time.sleep(0.001)
        return "went"

    doomed.step("waits", waits)
    doomed.sequence()
    run_id = doomed.start(max_recoveries=0).trigger("seq").run_id
    for _ in range(4):
        wait(started)
        doomed.open[-1].stop()
        started.clear()
        with doomed.state() as state:
            run = state.find_run(run_id)
            assert (run.recoveries, run.owner, run.status.ended, run.reason) == (0, None, False, None)
        doomed.start(max_recoveries=0)
    (doomed.folder / "go").touch()
    assert doomed.open[-1].handle(run_id).result(PATIENCE).outputs["waits"] == "went"
    with doomed.state() as state:
        assert state.find_run(run_id).recoveries == 0


# ---------------------------------------------------------------------- stopping


def test_a_block_that_ends_within_the_grace_is_recorded_and_not_made_again(doomed):
    """R57."""
    started, stopping = threading.Event(), threading.Event()

    def slow():
        doomed.witness.tell("slow")
        started.set()
        wait(stopping)
        return "slow"

    doomed.step("slow", slow)
    doomed.work("next", "slow")
    doomed.sequence()
    scheduler = doomed.start(grace=PATIENCE)
    handle = scheduler.trigger("seq")
    wait(started)
    pool = scheduler._open().engine.pool
    stopper = threading.Thread(target=scheduler.stop)
    stopper.start()
    wait_until(lambda: pool.held)
    stopping.set()
    stopper.join(PATIENCE)
    assert not stopper.is_alive()
    with pytest.raises(RunSuspended, match=handle.run_id):
        handle.result(PATIENCE)
    assert doomed.told() == ["slow"]
    assert doomed.resume().outputs == {"slow": "slow", "next": "next"}
    assert doomed.told() == ["slow", "next"]


def test_a_block_that_outlasts_the_grace_is_told_to_stop_and_made_again_at_the_next_start(doomed):
    started = threading.Event()

    def waits():
        doomed.witness.tell(f"attempt {current().attempt}")
        if doomed.once("waits"):
            started.set()
            while True:
                current().check_cancelled()
                time.sleep(0.001)

    doomed.work("a")
    doomed.step("waits", waits, "a", retries=0)
    doomed.sequence()
    scheduler = doomed.start()
    handle = scheduler.trigger("seq")
    wait(started)
    suspended = threading.Event()

    def wait_for_the_end():
        with pytest.raises(RunSuspended):
            handle.result(PATIENCE)
        suspended.set()

    waiter = threading.Thread(target=wait_for_the_end)
    waiter.start()
    scheduler.stop(grace=0.05)
    wait(suspended, "the end of the waiting")
    waiter.join()
    result = doomed.resume()
    assert result.status is RunStatus.COMPLETED and result.steps["waits"].attempts == 1
    assert doomed.told() == ["a", "attempt 1", "attempt 1"]


def test_stop_from_inside_a_block_stops_and_the_run_is_resumed(doomed):
    stopped = threading.Event()

    def stops():
        doomed.witness.tell("stops")
        if doomed.once("stops"):
            scheduler.stop()
            stopped.set()
        return "back"

    doomed.work("a")
    doomed.step("stops", stops, "a")
    doomed.sequence()
    scheduler = doomed.start()
    handle = scheduler.trigger("seq")
    with pytest.raises(RunSuspended):
        handle.result(PATIENCE)
    wait(stopped, "the return of stop()")
    assert doomed.instances() == []
    assert doomed.resume().outputs == {"a": "a", "stops": "back"}
    assert doomed.told() == ["a", "stops", "stops"]


def test_stopping_twice_and_from_many_threads_at_once_is_stopping(doomed):
    started = threading.Event()

    def waits():
        started.set()
        while True:
            current().check_cancelled()
            time.sleep(0.001)

    doomed.step("waits", waits)
    doomed.sequence()
    scheduler = doomed.start()
    scheduler.trigger("seq")
    wait(started)
    threads = [threading.Thread(target=scheduler.stop) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    scheduler.stop()
    scheduler.stop()
    assert doomed.instances() == []
    with pytest.raises(BlazeError, match="start"):
        scheduler.trigger("seq")


def test_a_scheduler_that_was_stopped_starts_again_in_the_same_process(doomed):
    gate = threading.Event()
    started = threading.Event()

    def waits():
        started.set()
        while not gate.is_set():
            current().check_cancelled()
            time.sleep(0.001)
        return "went"

    doomed.step("waits", waits)
    doomed.sequence()
    scheduler = doomed.start()
    first = scheduler.instance_id
    run_id = scheduler.trigger("seq").run_id
    wait(started)
    scheduler.stop()
    gate.set()
    scheduler.start()
    assert scheduler.instance_id != first
    assert scheduler.handle(run_id).result(PATIENCE).outputs["waits"] == "went"
    assert scheduler.start().recovered[0].run_id == run_id  # a second start() does nothing


# ---------------------------------------------------------------------- several schedulers


def test_two_schedulers_of_one_process_leave_each_other_their_runs(doomed):
    gate, started = threading.Event(), threading.Event()

    def waits():
        doomed.witness.tell("waits")
        started.set()
        while not gate.is_set():
            current().check_cancelled()
            time.sleep(0.001)
        return "went"

    doomed.step("waits", waits)
    doomed.sequence()
    doomed.work("quick")
    doomed.sequence(seq_id="quick")
    first = doomed.start()
    handle = first.trigger("seq")
    wait(started)
    second = doomed.start()
    assert second.recovered == [] and len(doomed.instances()) == 2
    assert second.run("quick", timeout=PATIENCE).ok
    second.stop()
    assert first.run("quick", timeout=PATIENCE).ok  # its locks are still its own
    gate.set()
    assert handle.result(PATIENCE).ok
    assert doomed.told().count("waits") == 1


def test_what_one_scheduler_leaves_the_other_takes_over_at_its_start(doomed):
    doomed.work("a")
    doomed.sequence()
    first = doomed.blaze()
    hold(first)
    run_id = first.trigger("seq").run_id
    second = doomed.start()
    assert second.recovered == []
    second.stop()
    first.stop()
    second.start()
    assert second.handle(run_id).result(PATIENCE).ok
    assert doomed.told() == ["a"]


def test_a_run_of_a_living_process_is_adopted_only_when_that_has_died(doomed):
    """R6, R12."""

    def waits():
        first = doomed.once("waits")
        doomed.witness.tell("waits")
        while first:
            time.sleep(1)

    doomed.step("waits", waits)
    doomed.sequence()
    with Child(lambda: doomed.start().run("seq")) as owner:
        doomed.witness.wait_for("waits")
        scheduler = doomed.start()
        assert scheduler.recovered == []
        (alive,) = set(doomed.instances()) - {f"{scheduler.instance_id}.lock"}
        assert scheduler.state.find_run("last").owner == alive[: -len(".lock")]
        scheduler.stop()
        owner.kill()
        owner.wait()
        assert doomed.resume().ok
    assert doomed.told() == ["waits", "waits"]


def test_of_four_processes_that_start_at_once_exactly_one_adopts_each_run_of_a_dead_one(doomed):
    """R6: a run has one owner, whoever else looks for the dead at the same instant."""
    runs = 12
    doomed.work("first", persist_result=False)
    doomed.step("second", lambda first: doomed.witness.tell(current().run_id), "first")
    doomed.sequence()

    def leave_runs():
        scheduler = doomed.blaze()
        hold(scheduler)
        for _ in range(runs):
            scheduler.trigger("seq")
        die()

    def adopt():
        gun.wait()
        scheduler = doomed.start()
        handles = scheduler.recovered
        assert all(handle.result(PATIENCE).ok for handle in handles)
        scheduler.stop()
        return [handle.run_id for handle in handles]

    for turn in range(4):
        until_killed(leave_runs)
        gun = StartingGun(doomed.folder / f"gun{turn}")
        children = [Child(adopt) for _ in range(4)]
        gun.fire()
        adopted = [run_id for child in children for run_id in child.result()]
        assert len(adopted) == len(set(adopted)) == runs
        assert doomed.instances() == []
    assert set(Counter(doomed.told()).values()) == {1, 4 * runs}
    with doomed.state() as state:
        assert {(run.status, run.recoveries) for run in state.runs()} == {(RunStatus.COMPLETED, 1)}
        assert state.integrity() == []


@pytest.mark.parametrize("where", ["adopt", "load_steps"])
def test_a_start_that_failed_half_way_is_made_whole_by_the_next_one(doomed, monkeypatch, where):
    """``load_steps``: the run was adopted and is not going on yet."""
    doomed.work("a", dies=True)
    doomed.sequence()
    run_id = doomed.crash()
    scheduler = doomed.blaze()

    def refuse(*args):
        raise StateError("the state can't be written: database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(f"blaze.core.recovering.{where}", refuse)
        for _ in range(2):
            with pytest.raises(StateError):
                scheduler.start()
            assert not scheduler.started and scheduler.recovered == []
    scheduler.start()
    assert scheduler.started and [handle.run_id for handle in scheduler.recovered] == [run_id]
    assert scheduler.handle(run_id).result(PATIENCE).ok
    assert doomed.told() == ["a", "a"]
    with doomed.state() as state:
        assert state.find_run(run_id).recoveries == 1


def test_a_start_that_failed_half_way_keeps_what_it_had_taken_over(doomed, monkeypatch):
    doomed.work("a", dies=True)
    doomed.sequence()
    first = doomed.crash()
    other = doomed.blaze()  # leaves a run that no process has in hand
    hold(other)
    second = other.trigger("seq").run_id
    other.stop()
    scheduler = doomed.blaze()
    load_steps = recovering.load_steps

    def refuse_the_second(journal, key):
        if scheduler.recovered:
            raise StateError("not today")
        return load_steps(journal, key)

    with monkeypatch.context() as patch:
        patch.setattr(recovering, "load_steps", refuse_the_second)
        with pytest.raises(StateError):
            scheduler.start()
    assert scheduler.handle(first).result(PATIENCE).ok
    scheduler.start()
    assert [handle.run_id for handle in scheduler.recovered] == [first, second]
    assert scheduler.handle(second).result(PATIENCE).ok
    assert doomed.told() == ["a", "a", "a"]


def test_who_calls_start_meanwhile_waits_until_all_is_taken_over(doomed, monkeypatch):
    doomed.work("a", dies=True)
    doomed.sequence()
    run_id = doomed.crash()
    scheduler = doomed.blaze()
    adopt, adopting, go, seen = recovering.adopt, threading.Event(), threading.Event(), []

    def adopt_slowly(*args):
        adopting.set()
        wait(go)
        return adopt(*args)

    monkeypatch.setattr(recovering, "adopt", adopt_slowly)

    def start():
        scheduler.start()
        seen.append([handle.run_id for handle in scheduler.recovered])

    threads = [threading.Thread(target=start) for _ in range(2)]
    threads[0].start()
    wait(adopting)
    assert not scheduler.started and scheduler.status().state == "STARTING"
    threads[1].start()
    threads[1].join(0.1)
    assert threads[1].is_alive() and not seen
    go.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert seen == [[run_id], [run_id]] and scheduler.started and scheduler.status().state == "RUNNING"
    assert scheduler.handle(run_id).result(PATIENCE).ok


# ---------------------------------------------------------------------- retry(run_id)


class Repair(Doomed):
    """A run that fails until it is mended: ``rows`` and ``large`` complete, ``broken`` fails, ``after`` needs it."""

    def wire(self, **settings):
        def broken(rows):
            self.witness.tell("broken")
            if not self.mended:
                raise ValueError("not today")
            return [*rows, "mended"]

        self.mended = False
        self.work("rows", value=["row"])
        self.work("large", "rows", value=LARGE)
        self.step("broken", broken, "rows")
        self.work("after", "broken", "large")
        self.work("mender", "broken", run_when="any_failed")
        self.work("behind_the_mender", "mender")
        return self.sequence(**settings)

    def fail(self):
        """Run it, then mend it; what was told is forgotten."""
        self.wire()
        result = self.start().run("seq", timeout=PATIENCE)
        assert result.status is RunStatus.FAILED
        self.mended = True
        self.witness.path.unlink()
        return result

    def retry(self, *args, **kwargs):
        return self.open[-1].retry(*args, **kwargs).result(PATIENCE)


@pytest.fixture
def repair(tmp_path):
    repair = Repair(tmp_path)
    yield repair
    repair.close()


def test_a_retry_takes_over_what_completed_and_executes_the_rest(repair):
    failed = repair.fail()
    assert statuses(failed) == {
        "rows": COMPLETED, "large": COMPLETED, "broken": FAILED, "after": SKIPPED, "mender": COMPLETED,
        "behind_the_mender": COMPLETED,
    }  # fmt: skip
    again = repair.retry(failed.run_id)
    assert again.run_id != failed.run_id and again.status is RunStatus.COMPLETED
    assert repair.told() == ["broken", "after"]
    assert again.output == {"rows": ["row"], "large": LARGE, "broken": ["row", "mended"], "after": "after"}
    assert {name: step.reason for name, step in again.steps.items()} == {
        "rows": "reused", "large": "reused", "broken": None, "after": None, "mender": "nothing_failed",
        "behind_the_mender": "upstream_skipped",
    }  # fmt: skip
    with repair.state() as state:
        run = state.find_run(again.run_id)
        assert run.retry_of == failed.run_id
        assert state.find_run(failed.run_id).status is RunStatus.FAILED
        recorded = steps_of(state, again.run_id)
        assert (recorded["rows"].reason, recorded["rows"].preview) == ("reused", "['row']")


def test_a_retry_from_a_step_makes_it_again_with_all_that_depends_on_it(repair):
    failed = repair.fail()
    repair.retry(failed.run_id, from_step="large")
    assert sorted(repair.told()) == ["after", "broken", "large"]
    repair.witness.path.unlink()
    ended = repair.retry(failed.run_id)
    repair.witness.path.unlink()
    # Also of a run that is complete, and of one that was a retry itself.
    again = repair.retry(ended.run_id, from_step=["large"])
    assert repair.told() == ["large", "after"]
    assert again.output == ended.output
    repair.witness.path.unlink()
    repair.retry(again.run_id, from_step=["rows"])
    assert sorted(repair.told()) == ["after", "broken", "large", "rows"]


def test_a_retry_refuses_what_it_cannot_do_and_records_nothing(repair):
    failed = repair.fail()
    scheduler = repair.open[-1]
    with pytest.raises(NotFound, match="did you mean 'broken'"):
        scheduler.retry(failed.run_id, from_step="brokne")
    with pytest.raises(NotFound):
        scheduler.retry("0123456789abcdef")
    scheduler.pause()
    handle = scheduler.trigger("seq")
    with pytest.raises(Refused, match=f"is in the hands of {scheduler.instance_id}; only one that has ended"):
        scheduler.retry(handle.run_id)
    scheduler.resume()
    handle.result(PATIENCE)
    assert len(scheduler.state.runs()) == 2


def left_by(doomed, how):
    """The id of a run whose first step is done and whose second one was under way when its scheduler went."""

    def waits():
        doomed.witness.tell("waits")
        if doomed.once("waits"):
            if how == "kill":
                die()
            while True:
                current().check_cancelled()
                time.sleep(0.001)
        while not (doomed.folder / "go").exists():
            current().check_cancelled()
            time.sleep(0.001)
        return "done"

    doomed.work("a")
    doomed.step("waits", waits, "a", retries=0)
    doomed.sequence()
    if how == "kill":
        doomed.crash()
    else:
        scheduler = doomed.start()
        scheduler.trigger("seq")
        doomed.witness.wait_for("waits")
        scheduler.stop(grace=0.0)
    with doomed.state() as state:
        (run,) = state.runs()
        assert not run.status.ended
        return run.run_id


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_retry_of_a_run_that_was_left_goes_on_with_that_run(doomed, how):
    run_id = left_by(doomed, how)
    scheduler = doomed.blaze()  # not started: it takes up nothing by itself
    assert not scheduler.state.find_run(run_id).status.ended
    with pytest.raises(Refused, match="goes on where it is"):
        scheduler.retry(run_id, from_step="a")
    handle = scheduler.retry(run_id)
    assert handle.run_id == run_id
    with pytest.raises(Refused, match="in the hands of"):
        scheduler.retry(run_id)
    (doomed.folder / "go").touch()
    result = handle.result(PATIENCE)
    assert result.ok and result.steps["a"].attempts == 1
    assert doomed.told() == ["a", "waits", "waits"]
    assert [run.run_id for run in scheduler.state.runs()] == [run_id]


def test_a_run_that_was_left_is_taken_up_by_one_only(doomed):
    run_id = left_by(doomed, "stop")
    one, other = doomed.blaze(), doomed.blaze()
    handle = one.retry(run_id)
    with pytest.raises(Refused, match=f"in the hands of {one.instance_id}"):
        other.retry(run_id)
    (doomed.folder / "go").touch()
    assert handle.result(PATIENCE).ok
    assert doomed.told() == ["a", "waits", "waits"]


def test_a_run_that_was_left_and_can_not_go_on_is_failed_and_says_why(doomed):
    run_id = left_by(doomed, "stop")
    changed = doomed.again()
    changed.work("other")
    changed.sequence()
    scheduler = changed.blaze()
    doomed.open.append(scheduler)
    with pytest.raises(Refused, match="its completed step 'a' is no step any more"):
        scheduler.retry(run_id)
    run = scheduler.state.find_run(run_id)
    assert (run.status, run.reason) == (RunStatus.FAILED, "definition_changed")


def test_outputs_that_a_retry_took_over_survive_their_first_run(repair):
    """The file of a large one belongs to both runs, until the last of them is gone."""
    failed = repair.fail()
    again = repair.retry(failed.run_id)
    scheduler = repair.open[-1]
    journal, results = scheduler._session.journal, scheduler._session.recorder.results
    while prune(journal, results, Retention(runs=1, failed_runs=1), time.time()):
        pass
    with pytest.raises(NotFound):
        scheduler.state.find_run(failed.run_id)
    assert [path.name for path in (repair.state_dir / "results").iterdir()] == [again.run_id]
    repair.witness.path.unlink()
    third = repair.retry(again.run_id, from_step="after")
    assert third.output["large"] == LARGE and repair.told() == ["after"]
    # Nor does removing the copy touch what it was made of.
    results.remove(again.run_id)
    assert repair.retry(third.run_id, from_step="after").output["large"] == LARGE


@pytest.mark.parametrize("whole", [True, False], ids=["the_run", "a_step"])
def test_a_retry_of_a_run_that_is_deleted_at_that_instant_says_so_and_leaves_no_run_behind(repair, monkeypatch, whole):
    failed = repair.fail()
    scheduler = repair.open[-1]
    insert_retry = recovering.insert_retry

    def delete_first(journal, results, new, original, reused):
        if whole:
            scheduler.run("seq", timeout=PATIENCE)  # the newest is always kept
            while prune(journal, results, Retention(runs=1, failed_runs=1), time.time()):
                pass
        else:
            at = step_key(original.key, 0)
            journal.transaction(lambda cursor: cursor.execute("DELETE FROM steps WHERE id >= ?", (at,)))
        return insert_retry(journal, results, new, original, reused)

    monkeypatch.setattr(recovering, "insert_retry", delete_first)
    with pytest.raises(NotFound, match=f"{failed.run_id} was deleted meanwhile"):
        scheduler.retry(failed.run_id)
    assert all(run.retry_of is None and run.status.ended for run in scheduler.state.runs())
    assert not scheduler.runs


def test_a_retry_of_a_cancelled_run_executes_what_was_cancelled(repair):
    started = threading.Event()

    def waits():
        started.set()
        while not repair.mended:
            current().check_cancelled()
            time.sleep(0.001)
        return "waited"

    repair.mended = False
    repair.work("first")
    repair.step("waits", waits, "first")
    repair.work("last", "waits")
    repair.sequence()
    scheduler = repair.start()
    handle = scheduler.trigger("seq")
    wait(started)
    assert scheduler.cancel(handle.run_id)
    cancelled = handle.result(PATIENCE)
    assert statuses(cancelled) == {"first": COMPLETED, "waits": CANCELLED, "last": CANCELLED}
    repair.mended = True
    again = repair.retry(cancelled.run_id)
    assert again.output == {"first": "first", "waits": "waited", "last": "last"}
    assert repair.told() == ["first", "last"]


def test_a_retry_of_a_run_whose_finaliser_failed_calls_only_the_finaliser(repair):
    def finaliser(context):
        if not repair.mended:
            raise ValueError("not today")
        return sorted(context)

    repair.mended = False
    repair.work("a")
    repair.work("b", "a")
    repair.sequence(finaliser)
    failed = repair.start().run("seq", timeout=PATIENCE)
    assert failed.reason == "finaliser"
    repair.mended = True
    assert repair.retry(failed.run_id).output == ["a", "b"]
    assert repair.told() == ["a", "b"]


def test_a_retry_makes_again_what_is_not_stored_if_it_is_read(repair):
    def broken(unstored):
        if not repair.mended:
            raise ValueError("not today")
        return unstored

    repair.mended = False
    repair.work("unstored", persist_result=False)
    repair.work("unread", persist_result=False)
    repair.step("broken", broken, "unstored", "unread")
    repair.sequence()
    failed = repair.start().run("seq", timeout=PATIENCE)
    repair.mended = True
    again = repair.retry(failed.run_id)
    assert again.outputs["broken"] == "unstored"
    assert Counter(repair.told()) == {"unstored": 2, "unread": 1}


def test_a_retry_that_is_killed_is_resumed_with_what_it_took_over(repair):
    failed = repair.fail()
    repair.close()

    killing = repair.again()
    killing.work("rows", value=["row"])
    killing.work("large", "rows", value=LARGE)
    killing.step("broken", lambda rows: killing.die_once("broken") or [*rows, "mended"], "rows")
    killing.work("after", "broken", "large")
    killing.work("mender", "broken", run_when="any_failed")
    killing.work("behind_the_mender", "mender")
    killing.sequence()
    until_killed(lambda: killing.start().retry(failed.run_id).result(PATIENCE))
    result = killing.resume()
    assert result.run_id != failed.run_id and result.steps["large"].reason == "reused"
    assert killing.told() == ["after"]
    killing.close()


def test_a_retry_whose_stored_output_is_gone_says_so_and_leaves_no_run_behind(repair):
    failed = repair.fail()
    (repair.state_dir / "results" / failed.run_id / "large.pickle").unlink()
    with pytest.raises(StateError, match=r"large\.pickle"):
        repair.retry(failed.run_id)
    assert len(repair.open[-1].state.runs()) == 1
    assert repair.retry(failed.run_id, from_step="large").ok


def test_a_retry_whose_stored_output_is_damaged_says_so_and_leaves_no_run_behind(repair):
    failed = repair.fail()
    (repair.state_dir / "results" / failed.run_id / "large.pickle").write_bytes(b"no pickle")
    with pytest.raises(BlazeError, match="large"):
        repair.retry(failed.run_id)
    assert all(run.status.ended for run in repair.open[-1].state.runs())
    assert repair.retry(failed.run_id, from_step="large").ok


# ---------------------------------------------------------------------- cancelling


def test_a_run_that_no_process_has_in_hand_is_cancelled_and_stays_so(doomed):
    doomed.work("a")
    doomed.work("b", "a", dies=True)
    doomed.sequence()
    run_id = doomed.crash()
    paused = doomed.blaze()
    paused.pause()
    paused.start().stop()
    other = doomed.blaze()  # opened, and not started
    assert other.cancel(run_id) is True
    assert other.cancel(run_id) is False
    assert other.start().recovered == []
    with doomed.state() as state:
        run = state.find_run(run_id)
        assert (run.status, run.reason) == (RunStatus.CANCELLED, "cancelled_by_user")
        assert [step.status for step in state.steps(run_id)] == [COMPLETED, CANCELLED]
    with pytest.raises(NotFound):
        other.cancel("0123456789abcdef")


def test_a_run_with_a_failed_step_is_failed_though_nobody_had_it_in_hand_when_it_was_cancelled(doomed):
    doomed.step("fails", lambda: 1 / 0)
    doomed.work("mends", "fails", run_when="any_failed", dies=True)
    doomed.sequence()
    run_id = doomed.crash()
    paused = doomed.blaze()
    paused.pause()
    paused.start().stop()
    assert doomed.blaze().cancel(run_id) is True
    with doomed.state() as state:
        run = state.find_run(run_id)
        assert (run.status, run.reason) == (RunStatus.FAILED, "cancelled_by_user")
        assert [step.status for step in state.steps(run_id)] == [FAILED, CANCELLED]


def test_a_run_that_was_cancelled_and_then_killed_stays_cancelled(doomed):
    """R10, R11."""

    def defies():
        doomed.witness.tell("defies")
        run_id, scheduler = current().run_id, doomed.open[-1]
        assert scheduler.cancel(run_id)
        wait_until(lambda: scheduler.state.find_run(run_id).cancel, "the record of the wish")
        doomed.die_once("defies")

    assert_stays_cancelled(doomed, defies)


def test_a_run_is_cancelled_for_good_when_cancel_has_returned(doomed):
    """DESIGN §4: nothing that was reported is lost."""

    def defies():
        doomed.witness.tell("defies")
        if doomed.told().count("defies") > 1:
            return
        scheduler = doomed.open[-1]
        journal = scheduler._session.journal
        held = threading.Event()

        def hold():
            with journal.lock:
                held.set()
                wait_until(lambda: journal.pending, "the wish to cancel")

        threading.Thread(target=hold, daemon=True).start()
        wait(held)
        assert scheduler.cancel(current().run_id)
        doomed.die_once("defies")

    assert_stays_cancelled(doomed, defies)


def assert_stays_cancelled(doomed, defies):
    doomed.work("a")
    doomed.step("defies", defies, "a", retries=5)
    doomed.work("b", "defies", run_when="all_done")
    doomed.sequence()
    until_killed(lambda: str(doomed.start().run("seq")))
    result = doomed.resume()
    assert (result.status, result.reason) == (RunStatus.CANCELLED, "cancelled_by_user")
    assert statuses(result) == {"a": COMPLETED, "defies": CANCELLED, "b": CANCELLED}
    assert doomed.told() == ["a", "defies"]
    with doomed.state() as state:
        assert {step.status for step in state.steps(result.run_id)} == {COMPLETED, CANCELLED}


def test_an_end_state_never_changes_again(doomed):
    """R10: neither by a second scheduler, nor by hand."""
    doomed.work("a")
    doomed.sequence()
    scheduler = doomed.start()
    run_id = scheduler.run("seq", timeout=PATIENCE).run_id
    assert scheduler.cancel(run_id) is False
    scheduler.stop()
    assert doomed.start().recovered == []
    assert doomed.open[-1].cancel(run_id) is False
    with doomed.state() as state:
        assert state.find_run(run_id).status is RunStatus.COMPLETED
