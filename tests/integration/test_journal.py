"""What is written, by the statement and the system call: end states, claims, files and checkpoints.

Most of it only shows when two processes meet or the power fails, which no test can bring
about at will; so the order is looked at in which things are done, and what is refused.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3

import pytest

from blaze import Blaze, BlockStatus, RunStatus
from blaze.core.ground.filelock import try_lock
from blaze.core.remember import codec, recovery, ticks
from blaze.core.remember.journal import RETRY_DELAYS, Journal
from blaze.core.remember.schema import step_key
from blaze.testing import Faults
from tests.integration.timed import Timed, history, job, sql
from tests.integration.workbench import PATIENCE, Workbench

ENDED_RUNS = [status for status in RunStatus if status.ended]
ENDED_STEPS = [status for status in BlockStatus if status.ended]
#: An output that comes too late, as it is kept.
LATER = codec.pickled("later"), "'later'"
LARGE = "x" * (codec.INLINE_LIMIT + 1)


# ---------------------------------------------------------------------- end states


@pytest.fixture
def recorded(tmp_path):
    """A scheduler, and the key of a run of one step that it has recorded."""
    bench = Workbench()
    bench.step("only", lambda: 1)
    bench.sequence()
    with Blaze(sequences=bench.sequences, state_dir=tmp_path / "state") as scheduler:
        run_id = scheduler.run("seq").run_id
        (row,) = sql(scheduler, "SELECT id FROM runs WHERE run_id = ?", run_id)
        yield scheduler, row[0]


def after(scheduler, write):
    """The rows of the one run and its step after something was written by a process that had not heard of their end."""
    session = scheduler._open()
    write(session.recorder)
    session.engine.flush(wait=True)
    return sql(scheduler, "SELECT * FROM runs"), sql(scheduler, "SELECT * FROM steps")


@pytest.mark.parametrize("then", RunStatus)
@pytest.mark.parametrize("end", ENDED_RUNS)
def test_nothing_that_is_written_later_changes_the_end_of_a_run(recorded, end, then):
    """R10: a process that was frozen and then given up for dead may still write."""
    scheduler, key = recorded
    sql(scheduler, "UPDATE runs SET status = ?, reason = 'first'", end.value)
    before = after(scheduler, lambda recorder: None)
    if then.ended:
        assert before == after(
            scheduler, lambda r: r.run_ended(key, "run", then, "later", 1.0, 2.0, 1.0, LATER, "error", None)
        )
        assert before == after(scheduler, lambda r: r.end_by_rule(key, then, "later", "error", 3.0))
    if then is RunStatus.COMPLETED:
        assert before == after(
            scheduler, lambda r: r.run_ended(key, "run", then, None, 1.0, 2.0, 1.0, None, None, None)
        )
    assert before == after(scheduler, lambda r: r.run_started(key, 1.0))


@pytest.mark.parametrize("then", BlockStatus)
@pytest.mark.parametrize("end", ENDED_STEPS)
def test_nothing_that_is_written_later_changes_the_end_of_a_step(recorded, end, then):
    scheduler, key = recorded
    sql(scheduler, "UPDATE steps SET status = ?, reason = 'first'", end.value)
    before = after(scheduler, lambda recorder: None)
    assert before == after(scheduler, lambda r: r.step(key, 0, then, "later", 7, 1.0, 2.0, "error", 3.0))
    if then is BlockStatus.COMPLETED:
        assert before == after(scheduler, lambda r: r.completed(key, "run", 0, "only", 7, 1.0, 2.0, LATER, True, None))
    assert before == after(scheduler, lambda r: r.progress(key, 0, 1.0, 2.0))


def test_the_second_output_of_a_step_is_refused_and_the_first_stays(recorded, caplog):
    scheduler, key = recorded
    before = after(scheduler, lambda recorder: None)
    assert before == after(scheduler, lambda r: r.completed(key, "run", 0, "only", 7, 1.0, 2.0, LATER, False, None))
    assert "the database refused an entry" in caplog.text
    assert step_key(key, 0) == before[1][0][0]


# ---------------------------------------------------------------------- whose rows they are


@pytest.fixture
def three_runs(recorded):
    """Of three runs with keys in a row the middle one: nothing is recorded of it but that it is open."""
    scheduler, first = recorded
    for _ in range(2):
        scheduler.run("seq")
    sql(scheduler, "UPDATE runs SET status = 'PENDING', owner = NULL WHERE id = ?", first + 1)
    sql(scheduler, "DELETE FROM steps WHERE id = ?", step_key(first + 1, 0))
    sql(scheduler, "UPDATE steps SET status = 'FAILED', attempts = 7")
    yield scheduler, first + 1
    sql(scheduler, "UPDATE runs SET status = 'COMPLETED'")


def test_the_steps_of_a_run_are_no_steps_of_the_runs_beside_it(three_runs):
    scheduler, key = three_runs
    journal = scheduler._open().journal
    assert recovery.load_steps(journal, key) == {}
    assert [step.attempts for step in recovery.load_steps(journal, key + 1).values()] == [7]


def test_a_run_that_is_cancelled_has_not_failed_because_the_runs_beside_it_have(three_runs):
    scheduler, key = three_runs
    ((run_id,),) = sql(scheduler, "SELECT run_id FROM runs WHERE id = ?", key)
    assert recovery.cancel_elsewhere(scheduler._open().journal, run_id, "cancelled_by_user", 1.0)
    assert scheduler.state.find_run(run_id).status is RunStatus.CANCELLED
    assert [status for (status,) in sql(scheduler, "SELECT status FROM steps")] == ["FAILED", "CANCELLED", "FAILED"]


# ---------------------------------------------------------------------- claims


class Meanwhile(Faults):
    """Lets something happen just before the next write that is made after it was told."""

    def __init__(self):
        super().__init__()
        self.happens = []

    def writes(self):
        while self.happens:
            self.happens.pop()()


@pytest.fixture
def timed(tmp_path):
    timed = Timed(tmp_path)
    yield timed
    timed.close()


def changed_elsewhere(timed, statement):
    """Another program changes the state at the very last moment."""
    with contextlib.closing(sqlite3.connect(timed.folder / "state" / "blaze.db")) as other, other:
        other.execute(statement)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE jobs SET status = 'PAUSED'",
        "DELETE FROM jobs",
        "UPDATE jobs SET next_at = next_at + 86400",
        "INSERT INTO settings (name, value) VALUES ('paused', '1.0')",
    ],
    ids=["paused", "removed", "fired", "all paused"],
)
def test_what_another_does_to_a_due_job_before_its_tick_is_claimed_holds(timed, change):
    """R3: what is due is read in the transaction that claims it, and not a moment earlier."""
    probe = Meanwhile()
    scheduler = timed.start(job(), probe=probe, loop_interval=3600)
    timed.clock.advance(seconds=30)
    assert timed.times() == ["12:00:00"]  # from now on the job is at hand
    probe.happens.append(lambda: changed_elsewhere(timed, change))
    timed.clock.advance(seconds=60)
    assert not probe.happens, "nothing was written at the tick"
    assert timed.times() == ["12:00:00"]
    assert [tick[0] for tick in history(scheduler)] == ["COMPLETED"]


def test_a_queued_run_that_another_takes_at_the_last_moment_is_not_taken_again(timed):
    probe = Meanwhile()
    scheduler = timed.start(probe=probe)
    journal = scheduler._open().journal
    scheduler.run("tick", timeout=PATIENCE)
    sql(scheduler, "UPDATE runs SET status = 'PENDING', job_id = 'tick', owner = NULL, reason = 'queued'")

    def taken_by_another():
        changed_elsewhere(timed, "UPDATE runs SET owner = 'another', reason = NULL, deadline = 7.0")

    def take():
        return ticks.take_queued(journal, scheduler.instance_id, lambda *run: True, lambda seq_id: 5.0)

    probe.happens.append(taken_by_another)
    assert take() == []
    assert sql(scheduler, "SELECT owner, deadline FROM runs") == [("another", 7.0)]
    sql(scheduler, "UPDATE runs SET status = 'COMPLETED'")


def test_a_queued_run_that_was_cancelled_at_the_last_moment_is_not_taken(timed):
    probe = Meanwhile()
    scheduler = timed.start(probe=probe)
    scheduler.run("tick", timeout=PATIENCE)
    sql(scheduler, "UPDATE runs SET status = 'PENDING', job_id = 'tick', owner = NULL, reason = 'queued'")
    probe.happens.append(lambda: changed_elsewhere(timed, "UPDATE runs SET status = 'CANCELLED'"))
    assert ticks.take_queued(scheduler._open().journal, "me", lambda *run: True, lambda seq_id: None) == []
    assert sql(scheduler, "SELECT status, owner FROM runs") == [("CANCELLED", None)]


# ---------------------------------------------------------------------- what can't be written


def test_what_can_not_be_written_is_tried_again_sooner_at_first_and_then_later(tmp_path):
    with contextlib.closing(Journal(tmp_path / "blaze.db", "process")) as journal:
        faults = Faults()
        journal.before_write = faults.writes
        journal.pending.append(("INSERT INTO settings (name, value) VALUES (?, ?)", ("a", "b"), "token"))
        with faults.fill_disk(), journal.lock:
            for number, seconds in enumerate(RETRY_DELAYS, 1):
                assert journal.commit() == []
                assert (journal.fault.attempts, journal.retry_delay()) == (number, seconds)
            assert journal.commit() == [] and journal.retry_delay() == RETRY_DELAYS[-1]
        with journal.lock:
            assert journal.commit() == ["token"]
        assert journal.fault is None and journal.retry_delay() == 0.0


# ---------------------------------------------------------------------- files


def watched_calls(monkeypatch):
    """What is asked of the system about files, in order: ("fsync" | "replace", name)."""
    calls = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor):
        calls.append(("fsync", os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def watched_replace(source, target):
        calls.append(("replace", os.path.basename(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    return calls


class Writes(Faults):
    """Notes each write to the state between the calls."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def writes(self):
        self.calls.append(("commit", ""))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="tells which file a descriptor is")
def test_a_large_output_is_on_the_disk_with_its_name_before_the_commit_that_tells_of_it(tmp_path, monkeypatch):
    """R20: after a power cut a row may not name a file that is empty, or not there."""
    calls = watched_calls(monkeypatch)
    bench = Workbench()
    bench.step("large", lambda: LARGE)
    bench.sequence(finaliser=lambda context: None)
    settings = {"state_dir": tmp_path / "state", "durability": "power", "probe": Writes(calls)}
    with Blaze(sequences=bench.sequences, **settings) as scheduler:
        run_id = scheduler.run("seq").run_id
    (renamed,) = [place for place, call in enumerate(calls) if call == ("replace", "large.pickle")]
    name, value = calls[renamed - 1]
    assert name == "fsync" and value.startswith(".large.") and value.endswith(".part")
    commit = calls.index(("commit", ""), renamed)
    assert calls[renamed + 1 : commit] == [("fsync", run_id), ("fsync", "results"), ("fsync", "state")]


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path, monkeypatch):
    files = codec.ResultFiles(tmp_path / "results", sync=False)
    write = os.write

    def half(descriptor, data):
        written = write(descriptor, data[: len(data) // 2])
        monkeypatch.setattr(os, "write", lambda descriptor, data: (_ for _ in ()).throw(OSError("no room")))
        return written

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="no room"):
        files.write("run", "large", b"x" * 1000)
    assert not (tmp_path / "results" / "run" / "large.pickle").exists()
    monkeypatch.setattr(os, "write", write)
    assert files.read(files.write("run", "large", b"y" * 1000)) == b"y" * 1000
    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="no room"):
        files.write("run", "large", b"z" * 1000)
    monkeypatch.setattr(os, "write", write)
    assert files.read("run/large.pickle") == b"y" * 1000


# ---------------------------------------------------------------------- checkpoints


def test_a_checkpoint_is_left_to_whoever_is_at_one(recorded):
    """S7: SQLite before 3.51.3 can damage the file when two meet."""
    scheduler, _ = recorded
    journal = scheduler._open().journal
    log = scheduler._open().journal.path.with_name("blaze.db-wal")
    held = try_lock(journal.path.with_name("checkpoint.lock"))
    size = log.stat().st_size
    assert size > 0
    with journal.lock:
        assert journal.checkpoint(truncate=True) is False
    assert log.stat().st_size == size
    os.close(held)
    with journal.lock:
        assert journal.checkpoint(truncate=True) is True
    assert log.stat().st_size == 0
