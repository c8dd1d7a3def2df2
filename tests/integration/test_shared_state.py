"""Several schedulers on one state directory: who fires, who takes over, and what each notices of the others.

The other processes are forks that share a clock which stands still until a test moves it, so that
nothing is waited for but what has to happen. DESIGN §3, §4, §6; RELIABILITY R3, R5, R6, R8, R12, R20 to R22.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import threading
from collections import Counter

import pytest

from blaze import JobStatus, NotFound, RunStatus, StateError, SubmitSequenceData, current
from blaze.core import firing, ticking
from blaze.core.do.run import Run
from blaze.core.firing import Firing
from blaze.core.remember import database, jobs, ticks
from blaze.core.remember import journal as journal_module
from tests.integration.doomed import Child, Doomed, StartingGun, die, in_child, is_gone
from tests.integration.shared_clock import SharedClock
from tests.integration.workbench import PATIENCE, wait, wait_until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the other processes are forks")

#: 2026-01-01 12:00 UTC; jobs are due every full hour.
NOON, HOUR = 1_767_268_800.0, 3600.0
#: Seconds between two looks at what the others did.
LOOK = 0.02


class Shared(Doomed):
    """A state that several processes share, and the clock that they have in common."""

    def __init__(self, folder):
        super().__init__(folder)
        self.clock = SharedClock(folder / "clock", NOON, stands_still=True)

    def other_clock(self):
        """A clock of its own for a process that is to see nothing due."""
        self.folder.joinpath("clocks").mkdir(exist_ok=True)
        name = str(len(os.listdir(self.folder / "clocks")))
        return SharedClock(self.folder / "clocks" / name, self.clock.value, stands_still=True)

    def blaze(self, **settings):
        settings.setdefault("clock", self.clock)
        settings.setdefault("loop_interval", LOOK)
        return super().blaze(**settings)

    def submit(self, *job_ids, seq_id="seq", **details):
        """Store hourly jobs; nobody runs then."""
        scheduler = self.start()
        for job_id in job_ids:
            scheduler.submit(self.hourly(job_id, seq_id, **details))
        scheduler.stop()

    @staticmethod
    def hourly(job_id, seq_id="seq", **details):
        details.setdefault("seq_run_interval", "0 * * * *")
        return SubmitSequenceData(seq_id, job_id=job_id, timezone="UTC", **details)

    def live(self, prepare=None, **settings):
        """In a child: a scheduler that goes on until the process is killed."""
        if prepare is not None:
            prepare()
        scheduler = self.start(**settings)
        self.witness.tell("ready")
        while True:
            signal.pause()
            assert scheduler.started

    def rows(self, sql, *values):
        with contextlib.closing(sqlite3.connect(f"file:{self.state_dir / 'blaze.db'}?mode=ro", uri=True)) as connection:
            return connection.execute(sql, values).fetchall()

    def runs(self, job_id="hourly"):
        """(tick as hours after noon, status, reason) of a job's runs, oldest first."""
        rows = self.rows("SELECT scheduled_at, status, reason FROM runs WHERE job_id = ? ORDER BY id", job_id)
        return [((tick - NOON) / HOUR, status, reason) for tick, status, reason in rows]

    def wait_for_runs(self, *expected, job_id="hourly"):
        try:
            wait_until(lambda: self.runs(job_id) == list(expected))
        except AssertionError:
            assert self.runs(job_id) == list(expected)
            raise

    def ended(self, number, status="COMPLETED", job_id="hourly"):
        """Wait until so many runs of a job have ended so."""
        try:
            wait_until(lambda: [run[1] for run in self.runs(job_id)].count(status) >= number)
        except AssertionError as error:
            raise AssertionError(f"{number} runs of {job_id} were not {status}: {self.runs(job_id)}") from error


@pytest.fixture
def shared(tmp_path):
    shared = Shared(tmp_path)
    yield shared
    shared.close()


@pytest.fixture
def hourly(shared):
    """One sequence of one step."""
    shared.work("a")
    shared.sequence()
    return shared


@pytest.fixture
def gated(shared):
    """One sequence of one step that waits, in whichever process, until the test opens the gate."""

    def block():
        shared.witness.tell(f"in {os.getpid()}")
        while not (shared.folder / "gate").exists():
            current().check_cancelled()
            threading.Event().wait(0.005)
        return current().run_id

    shared.open_gate = (shared.folder / "gate").touch
    shared.step("gated", block)
    shared.sequence(seq_run_timeout=30 * HOUR)  # the clock is moved by hours while a run waits
    return shared


# ---------------------------------------------------------------------- one tick, many processes


def test_of_eight_processes_that_see_a_tick_at_the_same_instant_one_fires_it(hourly, tmp_path):
    """R3."""
    names = [f"job{number}" for number in range(5)]
    hourly.submit(*names)
    gun = StartingGun(tmp_path / "gun")

    def aim():
        fire = Firing.fire

        def aimed(self, *args):
            Firing.fire = fire
            hourly.witness.tell("aimed")
            gun.wait()
            return fire(self, *args)

        Firing.fire = aimed

    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(Child(hourly.live, aim))
        hourly.witness.wait_for("ready", 8)
        hourly.clock.move(HOUR)
        hourly.witness.wait_for("aimed", 8)
        gun.fire()
        for name in names:
            hourly.ended(1, job_id=name)
        for number in range(2, 5):
            hourly.clock.move(HOUR)
            for name in names:
                hourly.ended(number, job_id=name)
    for name in names:
        assert hourly.runs(name) == [(hour, "COMPLETED", None) for hour in (1, 2, 3, 4)]
    assert hourly.told().count("a") == 20


def test_a_clock_that_is_set_back_for_all_fires_nothing_twice(hourly):
    """R22."""
    hourly.submit("hourly")
    with Child(hourly.live), Child(hourly.live):
        hourly.witness.wait_for("ready", 2)
        hourly.clock.move(HOUR)
        hourly.ended(1)
        hourly.clock.move(-2 * HOUR)
        late = hourly.start()  # one that has seen nothing
        late.submit(hourly.hourly("other"))
        hourly.clock.move(HOUR)
        hourly.ended(1, job_id="other")
        hourly.clock.move(HOUR)
        hourly.ended(2, job_id="other")
        hourly.clock.move(HOUR)
        hourly.ended(2)
    assert hourly.runs() == [(1, "COMPLETED", None), (2, "COMPLETED", None)]


@pytest.mark.parametrize("catchup", ["skip", "latest", "all"])
def test_what_passed_while_nobody_ran_is_caught_up_with_once(hourly, catchup):
    """R20, R22: also a jump of the clock."""
    hourly.submit("hourly", catchup=catchup, overlap="queue")
    hourly.clock.move(3.5 * HOUR)
    with Child(hourly.live), Child(hourly.live), Child(hourly.live):
        hourly.witness.wait_for("ready", 3)
        expected = {
            "skip": [(3, "SKIPPED", "missed")],
            "latest": [(3, "COMPLETED", None), (2, "SKIPPED", "missed")],
            "all": [(1, "COMPLETED", None), (2, "COMPLETED", None), (3, "COMPLETED", None)],
        }[catchup]
        wait_until(lambda: sorted(hourly.runs()) == sorted(expected), f"{expected}, there is {hourly.runs()}")
    assert sum(missed or 1 for (missed,) in hourly.rows("SELECT missed FROM runs")) == 3


# ---------------------------------------------------------------------- who dies where


def die_in(module, name):
    """In a child: kill the process where this function would be called."""
    setattr(module, name, lambda *args, **kwargs: die())


def test_a_claim_that_was_not_committed_is_made_by_another(hourly):
    """R3: crash before the commit: claimed later."""
    hourly.submit("hourly")
    mine = hourly.other_clock()
    hourly.start(clock=mine)
    with Child(hourly.live, lambda: die_in(ticks, "move")) as child:
        hourly.witness.wait_for("ready")
        hourly.clock.move(HOUR)
        assert child.wait() == signal.SIGKILL
    assert hourly.runs() == []
    mine.move(HOUR)
    hourly.wait_for_runs((1, "COMPLETED", None))
    assert hourly.told().count("a") == 1


def test_a_claim_that_was_committed_is_carried_out_by_another_at_once(hourly):
    """R3, R12: crash after the commit: never claimed again, and adopted within ``loop_interval``."""
    hourly.submit("hourly")
    hourly.start(clock=hourly.other_clock())

    def arm():
        start = Firing.start
        Firing.start = lambda self, batch: die() if batch.fired else start(self, batch)

    with Child(hourly.live, arm) as child:
        hourly.witness.wait_for("ready")
        hourly.clock.move(HOUR)
        assert child.wait() == signal.SIGKILL
    hourly.wait_for_runs((1, "COMPLETED", None))
    assert hourly.told().count("a") == 1
    assert hourly.rows("SELECT recoveries FROM runs") == [(1,)]


def test_a_run_whose_process_dies_in_the_middle_goes_on_in_another(shared):
    shared.work("a")
    shared.work("b", "a", dies=True)
    shared.work("c", "b")
    shared.sequence()
    shared.submit("hourly")
    shared.start(clock=shared.other_clock())
    with Child(shared.live) as child:
        shared.witness.wait_for("ready")
        shared.clock.move(HOUR)
        assert child.wait() == signal.SIGKILL
    shared.wait_for_runs((1, "COMPLETED", None))
    assert [word for word in shared.told() if word in "abc"] == ["a", "b", "b", "c"]


@pytest.mark.parametrize("place", ["before_its_turn", "after_it_was_taken"])
def test_a_queued_run_is_started_by_another_if_its_process_dies_between_two_runs(gated, place):
    """The run before it has ended; nobody has started it yet."""
    gated.submit("hourly", overlap="queue")

    def die_then():
        die_in(*{"before_its_turn": (ticks, "take_queued"), "after_it_was_taken": (firing, "resume_own")}[place])

    def arm():
        conclude = Run._conclude

        def concluded(run):
            die_then()
            conclude(run)

        Run._conclude = concluded

    with Child(gated.live, arm) as child:
        gated.witness.wait_for("ready")
        gated.clock.move(HOUR)
        gated.witness.wait_for(f"in {child.pid}")
        gated.clock.move(HOUR)
        gated.wait_for_runs((1, "RUNNING", None), (2, "PENDING", "queued"))
        gated.start(clock=gated.other_clock())
        gated.open_gate()
        # Whoever is quicker takes it: the one that dies of it, or the other.
        gated.ended(2)
        child.kill()
    assert [run[:2] for run in gated.runs()] == [(1, "COMPLETED"), (2, "COMPLETED")]
    # Two blocks were begun, none of them twice.
    assert len([word for word in gated.told() if word.startswith("in ")]) == 2


def test_two_survivors_adopt_a_run_once(shared):
    """R6, R12."""
    shared.work("a", dies=True)
    shared.work("b", "a")
    shared.sequence()
    shared.submit("hourly")
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(Child(shared.live, clock=shared.other_clock()))
        shared.witness.wait_for("ready", 3)
        with Child(shared.live) as child:
            shared.clock.move(HOUR)
            assert child.wait() == signal.SIGKILL
        shared.wait_for_runs((1, "COMPLETED", None))
    assert [word for word in shared.told() if word in "ab"] == ["a", "a", "b"]
    assert shared.rows("SELECT recoveries FROM runs") == [(1,)]


def test_a_run_whose_owner_has_no_lock_file_is_adopted(gated):
    """R12: somebody has tidied up ``instances/``, or a stop was cut short after its lock was gone."""
    gated.submit("hourly")
    with Child(gated.live) as child:
        gated.witness.wait_for("ready")
        gated.clock.move(HOUR)
        gated.witness.wait_for(f"in {child.pid}")
        child.kill()
        child.wait()
    for name in gated.instances():
        os.unlink(gated.state_dir / "instances" / name)
    survivor = gated.start()
    gated.open_gate()
    gated.wait_for_runs((1, "COMPLETED", None))
    wait_until(lambda: gated.instances() == [f"{survivor.instance_id}.lock"])


def test_a_living_process_makes_its_lock_file_again_and_keeps_its_runs(gated):
    gated.submit("hourly")
    with Child(gated.live) as child:
        gated.witness.wait_for("ready")
        gated.clock.move(HOUR)
        gated.witness.wait_for(f"in {child.pid}")
        (name,) = gated.instances()
        os.unlink(gated.state_dir / "instances" / name)
        wait_until(lambda: gated.instances() == [name])
        other = gated.start()
        looks = []
        look, other._session.ticker._look = other._session.ticker._look, lambda f: (look(f), looks.append(1))
        wait_until(lambda: len(looks) > 3)
        gated.open_gate()
        gated.wait_for_runs((1, "COMPLETED", None))
    assert gated.rows("SELECT recoveries FROM runs") == [(0,)]


def test_what_a_clean_stop_leaves_is_taken_up_by_those_that_run(gated):
    gated.submit("hourly")

    def stop_in_the_middle():
        scheduler = gated.start()
        gated.clock.move(HOUR)
        gated.witness.wait_for(f"in {os.getpid()}")
        scheduler.stop()

    gated.start(clock=gated.other_clock())
    in_child(stop_in_the_middle)
    gated.witness.wait_for(f"in {os.getpid()}")
    gated.open_gate()
    gated.wait_for_runs((1, "COMPLETED", None))


def test_a_frozen_process_keeps_its_runs_and_goes_on_with_them(gated):
    """It holds its lock, so it is alive; nobody takes its run, and the ticks go on elsewhere."""
    gated.submit("hourly", overlap="allow")
    with Child(gated.live) as child:
        gated.witness.wait_for("ready")
        gated.clock.move(HOUR)
        gated.witness.wait_for(f"in {child.pid}")
        os.kill(child.pid, signal.SIGSTOP)
        gated.start()
        gated.open_gate()
        gated.clock.move(HOUR)
        gated.ended(1)
        assert sorted(run[:2] for run in gated.runs())[1] == (2, "COMPLETED")
        assert gated.told().count(f"in {os.getpid()}") == 1
        os.kill(child.pid, signal.SIGCONT)
        gated.ended(2)


# ---------------------------------------------------------------------- sequences that not all have


@pytest.fixture
def two_kinds(shared):
    """Sequence ``seq``, and a registry that lacks it."""
    other = Doomed(shared.folder)
    other.work("other")
    other.sequence(seq_id="other")
    shared.work("a")
    shared.sequence()
    shared.lacking = other.sequences
    return shared


def lacking(shared, **settings):
    """A scheduler without the sequence."""
    mine, shared.sequences = shared.sequences, shared.lacking
    try:
        return shared.start(**settings)
    finally:
        shared.sequences = mine


def test_a_process_never_claims_the_ticks_of_a_sequence_that_it_lacks(two_kinds):
    two_kinds.submit("hourly")
    with Child(two_kinds.live):
        two_kinds.witness.wait_for("ready")
        without = lacking(two_kinds)
        without.submit(two_kinds.hourly("mine", "other"))
        for number in range(1, 6):
            two_kinds.clock.move(HOUR)
            two_kinds.ended(number)
            two_kinds.ended(number, job_id="mine")
    owners = dict(two_kinds.rows("SELECT job_id, GROUP_CONCAT(DISTINCT owner) FROM runs GROUP BY 1"))
    assert owners["mine"] == without.instance_id and without.instance_id not in owners["hourly"]


def test_a_job_whose_sequence_nobody_has_is_broken_and_recovers_with_its_ticks(two_kinds):
    """R8."""
    two_kinds.submit("hourly", catchup="all")
    without = lacking(two_kinds)
    two_kinds.clock.move(HOUR)
    wait_until(lambda: without.state.job("hourly").status is JobStatus.BROKEN)
    assert "'seq'" in without.state.job("hourly").error
    two_kinds.clock.move(HOUR)
    two_kinds.start()
    two_kinds.wait_for_runs((1, "COMPLETED", None), (2, "COMPLETED", None))
    assert without.state.job("hourly").status is JobStatus.ACTIVE


def test_a_job_whose_sequence_somebody_may_have_is_not_broken_for_being_late(two_kinds):
    """A jump of the clock makes all jobs late at once; who lacks a sequence waits for those that have it."""
    two_kinds.submit("hourly")
    with Child(two_kinds.live, clock=two_kinds.other_clock()) as owner:
        two_kinds.witness.wait_for("ready")
        os.kill(owner.pid, signal.SIGSTOP)
        without = lacking(two_kinds)
        two_kinds.clock.move(30 * HOUR)
        looks = []
        look, without._session.ticker._look = without._session.ticker._look, lambda f: (look(f), looks.append(1))
        wait_until(lambda: len(looks) > 5)
        assert without.state.job("hourly").status is JobStatus.ACTIVE
        os.kill(owner.pid, signal.SIGCONT)


def test_a_job_whose_sequence_nobody_of_several_has_is_broken_after_a_while(two_kinds, monkeypatch):
    monkeypatch.setattr(ticking, "UNKNOWN_FOR", 0.1)
    two_kinds.submit("hourly")
    first, second = lacking(two_kinds), lacking(two_kinds)
    two_kinds.clock.move(HOUR)
    wait_until(lambda: first.state.job("hourly").status is JobStatus.BROKEN)
    assert second.state.job("hourly").status is JobStatus.BROKEN


def test_many_due_jobs_of_sequences_that_are_lacking_hold_nobody_up(two_kinds, monkeypatch):
    monkeypatch.setattr(ticks, "DUE_LIMIT", 3)
    monkeypatch.setattr(firing, "BATCH", 2)
    two_kinds.submit(*(f"hourly{number}" for number in range(10)))
    with Child(two_kinds.live, clock=two_kinds.other_clock()):  # it may have them
        two_kinds.witness.wait_for("ready")
        without = lacking(two_kinds)
        without.submit(two_kinds.hourly("mine", "other", seq_run_interval="30 * * * *"))
        two_kinds.clock.move(HOUR)
        two_kinds.ended(1, job_id="mine")
        two_kinds.clock.move(HOUR)
        two_kinds.ended(2, job_id="mine")
        without.pause()
        wait_until(lambda: without._session.ticker.paused)


def test_a_job_that_took_the_place_of_a_removed_one_is_fired_as_itself(two_kinds):
    """What one process has at hand of a job is not taken for another that a second process stored since."""
    two_kinds.work("b")
    two_kinds.sequence(seq_id="second")
    two_kinds.submit("hourly")
    two_kinds.start()
    two_kinds.clock.move(HOUR)
    two_kinds.ended(1)

    def replace():
        scheduler = two_kinds.start(clock=two_kinds.other_clock())
        scheduler.remove_job("hourly")
        scheduler.submit(two_kinds.hourly("successor", "second"))
        scheduler.stop()

    in_child(replace)
    two_kinds.clock.move(HOUR)
    two_kinds.wait_for_runs((2, "COMPLETED", None), job_id="successor")
    assert len(two_kinds.runs()) == 1
    assert two_kinds.told() == ["a", "b"]


def test_a_job_that_somebody_fires_after_all_is_not_broken(two_kinds):
    """Between the look that found it due and the verdict, a process that has its sequence came."""
    two_kinds.submit("hourly")
    without = lacking(two_kinds, loop_interval=30)
    journal = without._session.journal
    (due,) = ticks.left_due(journal, NOON + HOUR, lambda key, seq_id: False)
    two_kinds.clock.move(HOUR)
    with Child(two_kinds.live):
        two_kinds.ended(1)
    assert not jobs.break_job(journal, due, "nobody has it")
    assert without.state.job("hourly").status is JobStatus.ACTIVE


# ---------------------------------------------------------------------- what others ask for


def test_a_run_is_cancelled_by_another_process(gated):
    gated.submit("hourly")
    with Child(gated.live) as child:
        gated.witness.wait_for("ready")
        gated.clock.move(HOUR)
        gated.witness.wait_for(f"in {child.pid}")
        here = gated.start(clock=gated.other_clock())
        ((run_id,),) = gated.rows("SELECT run_id FROM runs")
        assert here.cancel(run_id)
        gated.wait_for_runs((1, "CANCELLED", "cancelled_by_user"))
        assert not here.cancel(run_id)


def test_a_tick_fired_here_cancels_the_run_that_goes_on_there(gated):
    gated.submit("hourly", overlap="cancel_running")
    with Child(gated.live) as child:
        gated.witness.wait_for("ready")
        gated.clock.move(HOUR)
        gated.witness.wait_for(f"in {child.pid}")
        os.kill(child.pid, signal.SIGSTOP)
        gated.start()
        gated.clock.move(HOUR)
        wait_until(lambda: len(gated.runs()) == 2)
        assert gated.runs()[1] == (2, "PENDING", "queued")
        os.kill(child.pid, signal.SIGCONT)
        wait_until(lambda: gated.runs()[0] == (1, "CANCELLED", "overlap"))
        gated.open_gate()
        gated.ended(1)
    assert [run[:2] for run in gated.runs()] == [(1, "CANCELLED"), (2, "COMPLETED")]


def test_a_tick_that_comes_again_does_not_cancel_its_own_run(gated):
    """The clock was set back, and the job submitted anew: its next tick is one that has a run already."""
    gated.submit("hourly", overlap="cancel_running")
    scheduler = gated.start()
    gated.clock.move(HOUR)
    gated.witness.wait_for(f"in {os.getpid()}")
    gated.clock.move(-HOUR / 2)
    again = scheduler.submit(gated.hourly("hourly", overlap="cancel_running", priority=1))
    assert again.next == NOON + HOUR
    gated.clock.move(HOUR / 2)
    wait_until(lambda: scheduler.state.job("hourly").next == NOON + 2 * HOUR)
    gated.open_gate()
    gated.wait_for_runs((1, "COMPLETED", None))


def test_a_run_of_a_dead_process_that_was_cancelled_meanwhile_is_not_carried_on(gated):
    gated.submit("hourly")
    with Child(gated.live) as child:
        gated.witness.wait_for("ready")
        gated.clock.move(HOUR)
        gated.witness.wait_for(f"in {child.pid}")
        os.kill(child.pid, signal.SIGSTOP)
        here = gated.start(clock=gated.other_clock())
        ((run_id,),) = gated.rows("SELECT run_id FROM runs")
        assert here.cancel(run_id)
    wait_until(lambda: gated.runs()[0][1] == "CANCELLED")
    assert f"in {os.getpid()}" not in gated.told()


def test_queued_runs_go_one_after_the_other_whichever_process_has_them(gated):
    """R21."""
    gated.submit("hourly", overlap="queue")
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(Child(gated.live))
        gated.witness.wait_for("ready", 4)
        for number in range(1, 6):
            gated.clock.move(HOUR)
            wait_until(lambda number=number: len(gated.runs()) == number)
        wait_until(lambda: any(word.startswith("in ") for word in gated.told()))
        gated.open_gate()
        gated.ended(5)
    rows = gated.rows("SELECT started_at, ended_at FROM runs ORDER BY id")
    assert len(rows) == 5
    assert len([word for word in gated.told() if word.startswith("in ")]) == 5


def test_the_next_in_a_queue_has_its_turn_when_the_run_before_it_is_failed_by_rule(gated):
    """Its process died too often: nobody has that run in hand when it ends."""
    gated.submit("hourly", overlap="queue")
    with Child(gated.live) as child:
        gated.witness.wait_for("ready")
        gated.clock.move(HOUR)
        gated.witness.wait_for(f"in {child.pid}")
        gated.clock.move(HOUR)
        gated.wait_for_runs((1, "RUNNING", None), (2, "PENDING", "queued"))
        os.kill(child.pid, signal.SIGSTOP)
        here = gated.start(clock=gated.other_clock(), max_recoveries=0)
        wait_until(lambda: here._session.ticker.idle)  # it has seen the queue
    gated.witness.wait_for(f"in {os.getpid()}")
    gated.open_gate()
    gated.wait_for_runs((1, "FAILED", "crashed"), (2, "COMPLETED", None))


def test_a_turn_in_a_queue_that_could_not_be_written_down_comes_all_the_same(gated, monkeypatch):
    """The disk was full just then."""
    gated.submit("hourly", overlap="queue")
    scheduler = gated.start(loop_interval=30)
    scheduler._session.ticker.look()
    gated.clock.move(HOUR)
    scheduler._session.ticker.wake()
    gated.witness.wait_for(f"in {os.getpid()}")
    gated.clock.move(HOUR)
    scheduler._session.ticker.wake()
    wait_until(lambda: len(gated.runs()) == 2)
    take, failed = ticks.take_queued, threading.Event()

    def fail_once(*args):
        if not failed.is_set():
            failed.set()
            raise StateError("the state can't be written: database or disk is full")
        return take(*args)

    monkeypatch.setattr(ticks, "take_queued", fail_once)
    gated.open_gate()
    wait(failed)
    gated.wait_for_runs((1, "COMPLETED", None), (2, "COMPLETED", None))


def test_runs_of_ticks_start_although_what_came_after_them_failed(hourly, monkeypatch):
    """They are recorded as this scheduler's: if it does not start them, nobody does."""
    hourly.submit("hourly")
    scheduler = hourly.start()
    hourly.clock.move(HOUR)
    hourly.ended(1)
    scheduler.submit(hourly.hourly("new"))
    load, failed = jobs.load_jobs, threading.Event()

    def fail_once(*args):
        if not failed.is_set():
            failed.set()
            raise StateError("the state can't be read: disk I/O error")
        return load(*args)

    monkeypatch.setattr(jobs, "load_jobs", fail_once)
    hourly.clock.move(HOUR)
    wait(failed)
    hourly.ended(2)
    hourly.ended(1, job_id="new")
    assert hourly.runs() == [(1, "COMPLETED", None), (2, "COMPLETED", None)]


def test_what_others_did_is_looked_at_again_if_the_look_failed(gated, monkeypatch):
    gated.submit("hourly")
    here = gated.start()
    gated.clock.move(HOUR)
    gated.witness.wait_for(f"in {os.getpid()}")
    asked, failed = ticks.asked_to_cancel, threading.Event()

    def fail_once(*args):
        if not failed.is_set():
            failed.set()
            raise StateError("the state can't be read: disk I/O error")
        return asked(*args)

    monkeypatch.setattr(ticks, "asked_to_cancel", fail_once)
    ((run_id,),) = gated.rows("SELECT run_id FROM runs")
    in_child(lambda: gated.start(clock=gated.other_clock(), loop_interval=30).cancel(run_id))
    wait(failed)
    gated.wait_for_runs((1, "CANCELLED", "cancelled_by_user"))
    assert here.started


# ---------------------------------------------------------------------- pauses and submissions


def there(shared, method, *args):
    """Call a method of a scheduler in another process, which ends."""

    def call():
        scheduler = shared.start(clock=shared.other_clock(), loop_interval=30)
        getattr(scheduler, method)(*args)
        scheduler.stop()

    in_child(call)


def test_a_job_that_another_process_submits_is_fired(hourly):
    hourly.start()
    there(hourly, "submit", hourly.hourly("hourly"))
    hourly.clock.move(HOUR)
    hourly.wait_for_runs((1, "COMPLETED", None))


def test_a_submission_that_waits_for_the_write_lock_fires_no_tick_that_passed_meanwhile(hourly):
    """DESIGN §6: the first tick is the next one in the future."""
    hourly.submit("other")
    scheduler, submitted = hourly.start(), []
    with written_to_by_somebody(hourly):
        thread = threading.Thread(target=lambda: submitted.append(scheduler.submit(hourly.hourly("hourly"))))
        lock = scheduler._session.journal.lock
        thread.start()
        wait_until(lock.locked)
        hourly.clock.move(HOUR)
    thread.join()
    hourly.ended(1, job_id="other")
    hourly.clock.move(HOUR)
    hourly.ended(1)
    assert submitted[0].next == NOON + 2 * HOUR
    assert hourly.runs() == [(2, "COMPLETED", None)]


def test_a_job_that_another_process_pauses_and_resumes_skips_what_passed(hourly):
    hourly.submit("hourly", "other")
    hourly.start()
    there(hourly, "pause_job", "hourly")
    hourly.clock.move(HOUR)
    hourly.ended(1, job_id="other")
    there(hourly, "resume_job", "hourly")
    hourly.clock.move(HOUR)
    hourly.ended(1)
    assert hourly.runs() == [(1, "SKIPPED", "paused"), (2, "COMPLETED", None)]


def test_a_paused_job_that_is_submitted_anew_tells_what_passed_meanwhile(hourly):
    """DESIGN §3: nothing is dropped silently."""
    hourly.submit("hourly")
    scheduler = hourly.start()
    scheduler.pause_job("hourly")
    hourly.clock.move(2 * HOUR)
    scheduler.submit(hourly.hourly("hourly", priority=7))
    hourly.clock.move(HOUR)
    scheduler.resume_job("hourly")
    hourly.clock.move(HOUR)
    hourly.ended(1)
    assert hourly.runs() == [(2, "SKIPPED", "paused"), (3, "SKIPPED", "paused"), (4, "COMPLETED", None)]


def test_a_pause_by_another_process_holds_and_its_resume_lets_go(hourly):
    """R20: what passed meanwhile is skipped and told."""
    hourly.submit("hourly")
    here = hourly.start()
    there(hourly, "pause")
    wait_until(lambda: here.status().state == "PAUSED")
    hourly.clock.move(HOUR)
    there(hourly, "resume")  # its clock is that of the others
    wait_until(lambda: here.status().state == "RUNNING")
    hourly.clock.move(HOUR)
    hourly.ended(1)
    assert hourly.runs() == [(1, "SKIPPED", "paused"), (2, "COMPLETED", None)]


def test_a_pause_in_the_middle_of_a_look_is_not_undone_by_it(hourly, monkeypatch):
    """The look had read that nothing is paused when somebody here paused."""
    hourly.submit("hourly")
    scheduler = hourly.start()
    is_paused, read, go_on, here = jobs.is_paused, threading.Event(), threading.Event(), os.getpid()

    def slow(journal):
        found = is_paused(journal)
        if os.getpid() == here and not read.is_set():
            read.set()
            wait(go_on)
        return found

    monkeypatch.setattr(jobs, "is_paused", slow)
    there(hourly, "submit", hourly.hourly("other"))  # makes it look
    wait(read)
    scheduler.pause()
    go_on.set()
    wait_until(lambda: scheduler._session.ticker.paused and scheduler._session.engine.pool.held)
    hourly.clock.move(HOUR)
    there(hourly, "submit", hourly.hourly("third"))
    wait_until(lambda: scheduler._session.ticker.idle)
    assert hourly.runs() == [] and scheduler.status().state == "PAUSED"


# ---------------------------------------------------------------------- servers that fork


def test_workers_that_are_forked_off_fire_each_tick_once_between_them(hourly):
    """R60: the parent makes the scheduler, each worker starts it."""
    hourly.submit("hourly")
    scheduler = hourly.blaze()

    def worker():
        scheduler.start()
        hourly.witness.tell("ready")
        while True:
            signal.pause()

    with Child(worker), Child(worker), Child(worker), Child(worker):
        hourly.witness.wait_for("ready", 4)
        for number in (1, 2, 3):
            hourly.clock.move(HOUR)
            hourly.ended(number)
    assert hourly.runs() == [(hour, "COMPLETED", None) for hour in (1, 2, 3)]
    assert hourly.told().count("a") == 3


def test_workers_forked_off_a_parent_that_has_started_fire_with_it_and_outlive_it(gated):
    """The parent's lock goes with the parent, although its workers were made with it open."""
    gated.submit("hourly", overlap="allow")

    def parent():
        scheduler = gated.start()

        def worker():
            scheduler.start()
            gated.witness.tell("worker")
            while True:
                signal.pause()

        children = [Child(worker) for _ in range(3)]
        gated.witness.tell(" ".join(str(child.pid) for child in children))
        while True:
            signal.pause()

    with Child(parent) as child:
        gated.witness.wait_for("worker", 3)
        pids = next(word for word in gated.told() if word.replace(" ", "").isdigit()).split()
        try:
            gated.clock.move(HOUR)
            wait_until(lambda: any(word.startswith("in ") for word in gated.told()))
            child.kill()
            wait_until(lambda: is_gone(child.pid))
            gated.open_gate()
            gated.ended(1)
            gated.clock.move(HOUR)
            gated.ended(2)
        finally:
            for pid in pids:
                os.kill(int(pid), signal.SIGKILL)
    assert [run[:2] for run in gated.runs()] == [(1, "COMPLETED"), (2, "COMPLETED")]


# ---------------------------------------------------------------------- a file that can't be written


@contextlib.contextmanager
def written_to_by_somebody(shared):
    """A foreign program that holds SQLite's write lock."""
    reading, writing = os.pipe()
    with_lock = threading.Event()

    def hold():
        os.close(writing)
        connection = sqlite3.connect(shared.state_dir / "blaze.db", isolation_level=None, timeout=PATIENCE)
        connection.execute("BEGIN IMMEDIATE")
        shared.witness.tell("locked")
        os.read(reading, 1)  # until the test closes its end
        connection.execute("ROLLBACK")

    with Child(hold) as child:
        os.close(reading)
        shared.witness.wait_for("locked")
        try:
            yield with_lock
        finally:
            os.close(writing)
            child.result()


def test_a_tick_that_waits_for_the_write_lock_is_late_and_has_all_its_time(shared, monkeypatch):
    """Its limit counts from when it was claimed, and its lateness is told as it was (R24)."""
    shared.work("a")
    shared.sequence(seq_run_timeout=60)
    shared.submit("hourly")
    late = []
    shared.start(on_late=lambda event: late.append(event.late))
    fire, claiming = Firing.fire, threading.Event()

    def claim(self, *args):
        claiming.set()
        return fire(self, *args)

    monkeypatch.setattr(Firing, "fire", claim)
    with written_to_by_somebody(shared):
        shared.clock.move(HOUR)
        wait(claiming)
        shared.clock.move(120)
    shared.wait_for_runs((1, "COMPLETED", None))
    assert shared.rows("SELECT created_at, deadline FROM runs") == [(NOON + HOUR + 120, NOON + HOUR + 180)]
    wait_until(lambda: late == [120.0], f"late: {late}")


def test_ticks_outlast_a_lock_that_is_held_beyond_all_patience(hourly, monkeypatch):
    """No error ends it: what can't be claimed now is claimed when it can."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.05)
    monkeypatch.setattr(journal_module, "LOCK_ATTEMPTS", 1)
    monkeypatch.setattr(ticking, "RETRY_AFTER", 0.02)
    monkeypatch.setattr(ticking, "RETRY_AT_MOST", 0.02)
    hourly.submit("hourly", catchup="all", overlap="queue")
    scheduler = hourly.start()
    with written_to_by_somebody(hourly):
        hourly.clock.move(HOUR)
        wait_until(lambda: scheduler._session.ticker.fault)
        assert "ticks can't be fired" in str(scheduler.health().problems)
        hourly.clock.move(HOUR)
    hourly.wait_for_runs((1, "COMPLETED", None), (2, "COMPLETED", None))
    wait_until(lambda: scheduler.health().ok)


def test_on_a_full_disk_no_tick_is_lost_and_each_fires_when_there_is_room(hourly, monkeypatch):
    """R44."""
    monkeypatch.setattr(ticking, "RETRY_AFTER", 0.02)
    monkeypatch.setattr(ticking, "RETRY_AT_MOST", 0.02)
    names = [f"job{number}" for number in range(100)]
    hourly.submit(*names)
    schedulers = [hourly.start(), hourly.start()]

    def limit(pages):
        for scheduler in schedulers:
            journal = scheduler._session.journal
            with journal.lock:
                used = journal._cursor.execute("PRAGMA page_count").fetchone()[0]
                journal._cursor.execute(f"PRAGMA max_page_count = {pages or used + 2}").fetchone()

    limit(0)
    hourly.clock.move(HOUR)
    wait_until(lambda: all(scheduler._session.ticker.fault for scheduler in schedulers))
    limit(1_000_000)
    for name in names:
        hourly.ended(1, job_id=name)
    assert Counter(hourly.told()) == {"a": 100}
    assert {run for name in names for run in hourly.runs(name)} == {(1, "COMPLETED", None)}


@pytest.mark.slow
def test_a_foreign_program_that_writes_for_thirty_seconds_loses_no_tick(hourly):
    hourly.submit("hourly", catchup="all", overlap="queue")
    scheduler = hourly.start()
    with written_to_by_somebody(hourly):
        hourly.clock.move(HOUR)
        threading.Event().wait(33)  # longer than the busy timeout
        hourly.clock.move(HOUR)
    hourly.wait_for_runs((1, "COMPLETED", None), (2, "COMPLETED", None))
    assert scheduler.health().ok


def test_a_job_removed_by_another_process_fires_no_more(hourly):
    hourly.submit("hourly", "other")
    scheduler = hourly.start()
    hourly.clock.move(HOUR)
    hourly.ended(1)
    there(hourly, "remove_job", "hourly")
    hourly.clock.move(HOUR)
    hourly.ended(2, job_id="other")
    assert len(hourly.runs()) == 1
    with pytest.raises(NotFound):
        scheduler.state.job("hourly")
    assert {run.status for run in scheduler.state.runs(limit=10).items} == {RunStatus.COMPLETED}
