"""A scheduler in a process that forks, and what one leaves behind: threads, descriptors, files, a hanging exit.

DESIGN §1 "A Blaze object survives fork"; RELIABILITY S3, S4, R60.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from blaze import BlazeError, RunStatus, StateError, StateManager, current
from blaze.core.remember import forks
from blaze.core.remember import journal as journal_module
from tests.integration.doomed import Child, die, in_child
from tests.integration.workbench import PATIENCE, HandClock, wait, wait_until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def doomed(doomed):
    doomed.work("a")
    doomed.work("b", "a")
    doomed.sequence()
    return doomed


def assert_sound(doomed):
    connection = sqlite3.connect(doomed.state_dir / "blaze.db")
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()


def run_many(scheduler, number=20):
    return [scheduler.run("seq", timeout=PATIENCE).raise_for_status().run_id for _ in range(number)]


# ---------------------------------------------------------------------- parent and child


def test_parent_and_child_run_at_the_same_time_each_as_a_scheduler_of_its_own(doomed):
    """S4: the child opens what it needs anew and takes nothing of its parent's."""
    scheduler = doomed.start()
    run_many(scheduler, 1)
    parent = scheduler.instance_id

    def work():
        assert scheduler.instance_id is None and not scheduler.started and scheduler.runs == []
        found = run_many(scheduler)
        assert scheduler.instance_id != parent
        assert len(os.listdir(doomed.state_dir / "instances")) >= 2
        scheduler.start()
        scheduler.stop()
        return found

    children = [Child(work) for _ in range(3)]
    mine = run_many(scheduler)
    theirs = [run_id for child in children for run_id in child.result()]
    recorded = {run.run_id for run in scheduler.state.runs(status="COMPLETED", limit=1000)}
    assert recorded >= {*mine, *theirs} and len(recorded) == 81
    assert scheduler.instance_id == parent and doomed.instances() == [f"{parent}.lock"]
    doomed.close()
    assert_sound(doomed)


def multiprocessing_child(scheduler, queue):
    queue.put(run_many(scheduler, 5))


def test_a_scheduler_goes_through_the_fork_of_multiprocessing(doomed):
    fork = multiprocessing.get_context("fork")
    scheduler = doomed.start()
    run_many(scheduler, 1)
    queue = fork.SimpleQueue()
    process = fork.Process(target=multiprocessing_child, args=(scheduler, queue))
    process.start()
    mine = run_many(scheduler, 5)
    theirs = queue.get()
    process.join(PATIENCE)
    assert process.exitcode == 0
    assert {run.run_id for run in scheduler.state.runs(status="COMPLETED")} >= {*mine, *theirs}


def test_a_scheduler_that_was_never_opened_is_opened_in_each_child_by_itself(doomed):
    scheduler = doomed.blaze()
    children = [Child(run_many, scheduler, 5) for _ in range(4)]
    found = [run_id for child in children for run_id in child.result()]
    assert len(set(found)) == 20 == len(scheduler.state.runs(status="COMPLETED"))


def test_a_fork_while_every_lock_is_held_leaves_the_child_free(doomed):
    """Locks that another thread holds at the instant of the fork stay held in the child for ever, unless made anew.

    All but the journal's: with that one held, the file is in use, and the child refuses it.
    """
    scheduler = doomed.start()
    run_many(scheduler, 1)
    session = scheduler._session
    scheduler.state.runs()
    held, let_go = threading.Event(), threading.Event()

    def hold():
        with contextlib.ExitStack() as stack:
            for lock in (scheduler._lock, session.engine._lock, session.engine.pool._lock):
                stack.enter_context(lock)
            held.set()
            wait(let_go)

    thread = threading.Thread(target=hold)
    thread.start()
    wait(held)
    with Child(run_many, scheduler, 3) as child:
        assert len(child.result()) == 3
    let_go.set()
    thread.join()
    assert len(run_many(scheduler, 3)) == 3


def use_sqlite():
    signal.alarm(2)
    connection = sqlite3.connect(":memory:")
    connection.execute("SELECT 1")
    connection.close()


def test_a_fork_while_a_thread_of_blaze_is_inside_sqlite_leaves_sqlite_usable_in_the_child(doomed):
    """S4. Also for the application's own use of it."""
    journal = doomed.start()._session.journal
    over = threading.Event()

    def read():
        numbers = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 5000)"
        while not over.is_set():
            journal.read(f"{numbers} SELECT group_concat(x) FROM n")

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for _ in range(40):
            with Child(use_sqlite) as child:
                child.result()
    finally:
        over.set()
        thread.join()


def test_a_fork_out_of_a_block_gives_a_child_that_can_run_sequences(doomed):
    def forks():
        return in_child(run_many, scheduler, 3)

    doomed.step("forks", forks)
    doomed.sequence(seq_id="forks")
    scheduler = doomed.start()
    result = scheduler.run("forks", timeout=PATIENCE)
    assert result.status is RunStatus.COMPLETED, result.error
    recorded = {run.run_id for run in scheduler.state.runs(status="COMPLETED")}
    assert recorded == {result.run_id, *result.outputs["forks"]}


def test_stopping_in_the_child_stops_nothing_of_the_parent(doomed):
    gate = threading.Event()
    doomed.step("gated", lambda: wait(gate))
    doomed.sequence(seq_id="gated")
    scheduler = doomed.start()
    handle = scheduler.trigger("gated")

    def stop():
        scheduler.stop()
        with contextlib.suppress(BlazeError):
            scheduler.stop(shutdown=True)
        with scheduler:
            pass

    in_child(stop)
    assert (doomed.state_dir / "blaze.db").exists() and len(doomed.instances()) == 1
    gate.set()
    assert handle.result(PATIENCE).ok


def test_the_hard_stop_of_a_child_is_refused_while_the_parent_lives(doomed):
    scheduler = doomed.start()
    run_many(scheduler, 1)

    def shut_down():
        try:
            scheduler.stop(shutdown=True)
        except StateError as error:
            return str(error)
        return None

    assert scheduler.instance_id in in_child(shut_down)
    assert run_many(scheduler, 1)


def test_a_child_that_is_forked_during_a_checkpoint_does_not_stop_those_to_come(doomed, monkeypatch):
    """S6: a child that inherited the checkpoint's lock would keep it, and the log grow as long as it lives."""
    scheduler = doomed.start()
    run_many(scheduler, 1)
    journal = scheduler._session.journal
    locked = threading.Event()
    try_lock = journal_module.try_lock

    def slow_lock(path):
        descriptor = try_lock(path)
        locked.set()
        wait_until(forks._forking.locked, "a fork")
        return descriptor

    def checkpoint():
        with journal.lock:
            return journal.checkpoint()

    monkeypatch.setattr(journal_module, "try_lock", slow_lock)
    thread = threading.Thread(target=checkpoint)
    thread.start()
    wait(locked)
    with Child(time.sleep, 60):
        thread.join()
        monkeypatch.undo()
        assert checkpoint()


def test_what_was_left_pending_while_a_fork_held_the_journal_is_committed_after_it(doomed):
    """The workers count on whoever has the lock; the clock stands still, so that nobody else comes to look."""
    running, gate = threading.Event(), threading.Event()

    def gated():
        running.set()
        wait(gate)

    doomed.step("gated", gated)
    doomed.sequence(seq_id="gated")
    scheduler = doomed.start(clock=HandClock())
    handle = scheduler.trigger("gated")
    wait(running)
    forks._before()
    try:
        gate.set()
        wait_until(lambda: scheduler._session.journal.pending, "the row of the step")
    finally:
        forks._after_in_parent()
    # The hand clock lets the timekeeper look after PATIENCE at the latest.
    assert handle.result(PATIENCE / 2).ok


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="needs Linux's list of locks")
def test_a_child_holds_locks_of_its_own_on_the_file_that_its_parent_had_open(doomed):
    """S4: SQLite believes in a child that the parent's locks are its own; others then delete the log under it."""
    scheduler = doomed.start()
    run_many(scheduler, 1)
    scheduler.state.counts()
    inode = str(os.stat(scheduler.state_dir / "blaze.db").st_ino)

    def use_it():
        own = doomed.start()
        run_many(own, 1)
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        return {fields[1] for fields in locks if fields[-4] == str(os.getpid()) and fields[-3].endswith(f":{inode}")}

    with Child(use_it) as child:
        assert child.result() == {"POSIX"}
    assert run_many(scheduler, 1)  # and the parent has its own again


def test_a_child_refuses_the_file_that_its_parent_was_writing_to_and_could_not_let_go(doomed, monkeypatch):
    """S4."""
    monkeypatch.setattr(forks, "PATIENCE", 0.05)
    scheduler = doomed.start()
    run_many(scheduler, 1)

    def use_it():
        with pytest.raises(StateError, match="forked while its parent was writing"):
            doomed.start()

    with scheduler._session.journal.lock:
        child = Child(use_it)
    with child:
        child.result()
    assert run_many(scheduler, 1)


# ---------------------------------------------------------------------- what a child's end does


def parent_of_a_child_that_ends(doomed, end):
    """Fork a child, let it end in some way, run more, and die: what was acknowledged has to be there."""
    scheduler = doomed.start()
    run_many(scheduler, 3)
    pid = os.fork()
    if pid == 0:
        end(scheduler)
        os._exit(0)
    os.waitpid(pid, 0)
    doomed.witness.tell("child gone")
    doomed.witness.wait_for("looked")
    for run_id in run_many(scheduler, 10):
        doomed.witness.tell(f"acknowledged {run_id}")
    die()


def end_at_once(scheduler):
    return None


def end_after_use(scheduler):
    run_many(scheduler, 2)
    scheduler.stop()


def end_with_everything_collected(scheduler):
    """As much as an interpreter that ends in the ordinary way lets go of."""
    scheduler.stop()
    scheduler.__dict__.clear()
    gc.collect()


def end_by_exec(scheduler):
    os.execv("/bin/true", ["true"])


@pytest.mark.parametrize("end", [end_at_once, end_after_use, end_with_everything_collected, end_by_exec])
def test_the_end_of_a_child_takes_no_lock_and_no_commit_of_its_parent(doomed, end):
    """S3: a lock that was lost would let the log be deleted under the parent, with commits acknowledged after that."""
    with Child(parent_of_a_child_that_ends, doomed, end) as parent:
        doomed.witness.wait_for("child gone")
        # The last one to close a file without other users folds and deletes the log: this one must not be.
        connection = sqlite3.connect(doomed.state_dir / "blaze.db")
        assert connection.execute("SELECT count(*) FROM runs").fetchone()[0] >= 3
        connection.close()
        assert (doomed.state_dir / "blaze.db-wal").exists()
        doomed.witness.tell("looked")
        assert parent.wait() == signal.SIGKILL
    acknowledged = {word.split()[1] for word in doomed.told() if word.startswith("acknowledged")}
    assert len(acknowledged) == 10
    with doomed.state() as state:
        assert {run.run_id for run in state.runs(status="COMPLETED", limit=1000)} >= acknowledged
        assert state.integrity() == []


def test_a_program_whose_child_ends_as_programs_do_loses_nothing(tmp_path):
    """The ordinary end of an interpreter in the child: exit handlers, destructors and all."""
    program = """
        import os, signal, sys
        from blaze import Blaze, BlazeBlock, BlazeSequence, SeqBlockData

        blocks, sequences = BlazeBlock(), BlazeSequence()
        blocks.block(name="a")(lambda: 1)
        sequences.sequence(blocks=blocks, sequence=[SeqBlockData("a")], seq_id="seq")(dict)
        scheduler = Blaze(sequences=sequences, state_dir=sys.argv[1]).start()
        scheduler.run("seq")
        pid = os.fork()
        if pid == 0:
            print("child ends", flush=True)
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        print("child gone", flush=True)
        sys.stdin.readline()
        for _ in range(10):
            print("acknowledged", scheduler.run("seq").run_id, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    state_dir = tmp_path / "state"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), state_dir],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert [process.stdout.readline() for _ in range(2)] == ["child ends\n", "child gone\n"]
        sqlite3.connect(state_dir / "blaze.db").close()
        connection = sqlite3.connect(state_dir / "blaze.db")
        connection.execute("SELECT count(*) FROM runs").fetchone()
        connection.close()
        assert (state_dir / "blaze.db-wal").exists()
        out, _ = process.communicate("go on\n", PATIENCE)
    assert process.returncode == -signal.SIGKILL
    acknowledged = {line.split()[1] for line in out.splitlines()}
    with StateManager(state_dir) as state:
        assert {run.run_id for run in state.runs(status="COMPLETED")} >= acknowledged and len(acknowledged) == 10


def test_a_child_that_lives_on_does_not_keep_its_dead_parents_runs_from_being_adopted(doomed):
    """R6, R12: the lock by which a scheduler lives is not inherited."""

    def waits():
        if doomed.once("waits"):
            doomed.witness.tell("running")
            while True:
                time.sleep(1)

    doomed.step("waits", waits)
    doomed.sequence(seq_id="waits")

    def leave_a_child():
        scheduler = doomed.start()
        scheduler.trigger("waits")
        doomed.witness.wait_for("running")
        pid = os.fork()
        if pid == 0:
            doomed.witness.tell("child")
            signal.alarm(60)
            while True:
                time.sleep(1)
        doomed.witness.tell(f"pid {pid}")
        doomed.witness.wait_for("child")
        die()

    with Child(leave_a_child) as parent:
        doomed.witness.wait_for("child")
        assert parent_dies(parent) == signal.SIGKILL
    (survivor,) = [int(word.split()[1]) for word in doomed.told() if word.startswith("pid")]
    try:
        os.kill(survivor, 0)  # it lives
        result = doomed.resume()
        assert result.status is RunStatus.COMPLETED and result.seq_id == "waits"
    finally:
        os.kill(survivor, signal.SIGKILL)


def parent_dies(parent):
    """The signal that ended it; its own child holds the pipe open, so this does not wait for that."""
    _, status = os.waitpid(parent.pid, 0)
    parent._waited = os.WTERMSIG(status)
    parent._pipe.close()
    return parent._waited


# ---------------------------------------------------------------------- the end of the interpreter


def run_program(program, *args, timeout=20.0, **kwargs):
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, *kwargs.pop("options", ()), "-c", textwrap.dedent(program), *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=timeout, check=False,
        **kwargs,
    )  # fmt: skip
    return done, time.monotonic() - began


RUNNING_BLOCKS = """
    import asyncio, sys, threading, time
    from blaze import Blaze, BlazeBlock, BlazeSequence, SeqBlockData, current

    blocks, sequences = BlazeBlock(), BlazeSequence()
    started = threading.Barrier(4)

    @blocks.block
    def sleeps():
        started.wait()
        time.sleep(600)

    @blocks.block
    def loops():
        started.wait()
        while True:
            try:
                while True:
                    time.sleep(0.01)
            except BaseException:
                pass

    @blocks.block
    async def awaits():
        await asyncio.get_running_loop().run_in_executor(None, started.wait)
        await asyncio.sleep(600)

    steps = [SeqBlockData("sleeps"), SeqBlockData("loops"), SeqBlockData("awaits")]
    sequences.sequence(blocks=blocks, sequence=steps, seq_id="seq")(dict)
"""


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise ValueError('the end')", "scheduler.stop(grace=0.1)"])
def test_a_program_ends_though_blocks_are_running_and_the_next_start_has_the_run(tmp_path, end):
    """R60, P6."""
    program = textwrap.dedent(RUNNING_BLOCKS) + textwrap.dedent(
        f"""
        scheduler = Blaze(sequences=sequences, state_dir=sys.argv[1]).start()
        scheduler.trigger("seq")
        started.wait()
        print("main ends", flush=True)
        {end}
        """
    )
    done, seconds = run_program(program, tmp_path / "state")
    assert done.stdout == "main ends\n", done.stderr
    assert done.returncode == (3 if "exit" in end else 1 if "raise" in end else 0)
    assert "Exception ignored" not in done.stderr and "Fatal" not in done.stderr
    assert seconds < 10
    assert list((tmp_path / "state" / "instances").iterdir()) == []
    with StateManager(tmp_path / "state") as state:
        run = state.find_run("last")
        assert (run.status.ended, run.owner, run.recoveries) == (False, None, 0)


def test_a_program_ends_though_a_run_in_memory_goes_on_in_another_thread(tmp_path):
    program = textwrap.dedent(RUNNING_BLOCKS) + textwrap.dedent(
        """
        threading.Thread(target=sequences.run, args=("seq",), daemon=True).start()
        started.wait()
        print("main ends", flush=True)
        """
    )
    done, seconds = run_program(program)
    assert (done.returncode, done.stdout) == (0, "main ends\n"), done.stderr
    assert seconds < 10


# ---------------------------------------------------------------------- before the start, and after the stop


def test_importing_blaze_has_no_side_effects(tmp_path):
    """R60, DESIGN §1: no thread, file, signal handler or logging configuration; nor has making the objects."""
    program = """
        import atexit, logging, os, signal, sys, threading, warnings

        def look():
            handlers = {
                number: signal.getsignal(number) for number in signal.valid_signals()
            }
            loggers = {
                name: (logger.handlers, logger.level)
                for name, logger in logging.root.manager.loggerDict.items()
                if isinstance(logger, logging.Logger) and (logger.handlers or logger.level)
            }
            return {
                "threads": threading.active_count(),
                "descriptors": sorted(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None,
                "signals": handlers,
                "root": (logging.root.handlers[:], logging.root.level),
                "loggers": loggers,
                "files": sorted(os.listdir()),
                "environment": dict(os.environ),
                "hooks": (sys.excepthook, threading.excepthook, sys.stdout, sys.stderr),
                "record": logging.getLogRecordFactory(),
                "exit": atexit._ncallbacks(),
            }

        before = look()
        import blaze
        import blaze.core.blaze, blaze.core.block, blaze.core.seq, blaze.core.state, blaze.core.logger
        blocks, sequences = blaze.BlazeBlock(), blaze.BlazeSequence()
        blocks.block(name="a")(lambda: 1)
        sequences.sequence(blocks=blocks, sequence=[blaze.SeqBlockData("a")], seq_id="seq")(dict)
        scheduler = blaze.Blaze(sequences=sequences)
        logger = blaze.BlazeLogger()
        state = blaze.StateManager("./state")
        after = look()
        print({key: (before[key], after[key]) for key in before if before[key] != after[key]})
    """
    done, _ = run_program(program, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{}\n", "")


@pytest.mark.skipif(sys.version_info < (3, 10), reason="typing_extensions, needed for ParamSpec, imports inspect")
def test_a_pipeline_of_plain_functions_imports_neither_inspect_nor_dataclasses(tmp_path):
    """Together they would take a tenth of its time, from start to exit."""
    program = """
        import sys
        from blaze import Blaze, BlazeBlock, BlazeSequence, SeqBlockData

        blocks, sequences = BlazeBlock(), BlazeSequence()
        blocks.block(name="double")(lambda number=1, *, times=2: number * times)
        step = SeqBlockData("double", parameters={"number": 4})
        sequences.sequence(blocks=blocks, sequence=[step], seq_id="seq")(lambda context: context["double"])
        with Blaze(sequences=sequences, state_dir="state") as scheduler:
            assert scheduler.run("seq").output == 8
        print(sorted({"inspect", "dataclasses", "ast", "asyncio"} & set(sys.modules)))
    """
    done, _ = run_program(program, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted where the system tells")
def test_two_hundred_starts_and_stops_leave_no_thread_descriptor_file_or_memory(doomed):
    def cycle(number):
        for _ in range(number):
            scheduler.start()
            scheduler.run("seq", timeout=PATIENCE)
            scheduler.status()
            scheduler.stop()

    doomed.step("awaits", awaits)
    doomed.sequence(seq_id="async")
    scheduler = doomed.blaze()
    cycle(5)
    scheduler.start().run("async", timeout=PATIENCE)
    scheduler.stop()
    gc.collect()
    threads, files, objects = threading.active_count(), descriptors(), len(gc.get_objects())
    cycle(100)
    gc.collect()
    halfway = len(gc.get_objects())
    cycle(100)
    gc.collect()
    assert threading.active_count() <= threads
    assert descriptors() <= files
    assert len(gc.get_objects()) - halfway < 500, f"{halfway - objects} objects more after the first hundred"
    assert doomed.instances() == []
    assert {path.name for path in doomed.state_dir.iterdir()} <= {
        "blaze.db", "checkpoint.lock", "instances", "log", "results",
    }  # fmt: skip


async def awaits():
    return current().step


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted where the system tells")
def test_starts_that_are_refused_leave_nothing_behind_either(doomed):
    doomed.state_dir.mkdir(mode=0o700)
    (doomed.state_dir / "blaze.db").write_bytes(b"not a database, but long enough to look like one" * 100)
    scheduler = doomed.blaze()

    def refused(number):
        for _ in range(number):
            with pytest.raises(StateError):
                scheduler.start()

    refused(3)
    gc.collect()
    threads, files = threading.active_count(), descriptors()
    refused(50)
    gc.collect()
    assert (threading.active_count(), descriptors()) == (threads, files)
    assert doomed.instances() == []
