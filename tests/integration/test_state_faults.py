"""What the state directory and its file may meet: foreign and damaged files, full disks, locks, theft, other users.

DESIGN §4; RELIABILITY S1 to S10, R39, R42 to R47.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import logging
import os
import pickle
import random
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

import blaze.core.recovering  # noqa: F401 -- what is imported late can't be by a process that has given up its rights
from blaze import (
    Blaze,
    BlockStatus,
    RunStatus,
    SeqBlockData,
    StateError,
    StateManager,
    ValidationError,
    current,
)
from blaze.core.do import scribe
from blaze.core.remember import codec, database, journal, schema
from blaze.core.remember.retention import Retention, prune
from tests.integration.doomed import Child, Doomed, StartingGun, die, in_child, until_killed
from tests.integration.workbench import PATIENCE, wait, wait_until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the other processes are forks")

ROOT = Path(__file__).resolve().parents[2]
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
#: An ordinary user for whom root's files are another's.
NOBODY = 65534
EMPTY = hashlib.sha256(b"").hexdigest()
LARGE = "x" * (codec.INLINE_LIMIT + 1)


@pytest.fixture
def pipeline(doomed):
    """Two steps, the second one's output large enough for a file."""
    doomed.work("small")
    doomed.work("large", "small", value=LARGE)
    doomed.sequence()
    return doomed


def hashes(folder):
    """The content of every file that SQLite may touch, but for the shared memory, which is no content."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name.startswith("blaze.db") and path.is_file() and not path.name.endswith("-shm")
    }


def assert_sound(doomed):
    connection = sqlite3.connect(doomed.state_dir / "blaze.db")
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    finally:
        connection.close()


# ---------------------------------------------------------------------- files that are not used


def in_sqlite(path, *statements, then_die=False):
    """Make or change a SQLite file in a process of its own; ``then_die`` leaves its log where it is."""

    def work():
        connection = sqlite3.connect(path, isolation_level=None)
        for statement in statements:
            connection.execute(statement)
        if then_die:
            die()
        connection.close()

    if then_die:
        until_killed(work)
    else:
        in_child(work)


TABLE = ("CREATE TABLE theirs (x)", "INSERT INTO theirs VALUES (1)")


def foreign(path):
    in_sqlite(path, *TABLE)


def foreign_with_a_log_that_a_crash_left(path):
    in_sqlite(path, "PRAGMA journal_mode = WAL", *TABLE, then_die=True)
    assert path.with_name("blaze.db-wal").stat().st_size > 0


def foreign_with_an_open_transaction_that_a_crash_left(path):
    rows = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 9999) SELECT x FROM n"
    in_sqlite(path, *TABLE, "PRAGMA cache_size = 1", "BEGIN", f"INSERT INTO theirs {rows}", then_die=True)
    assert path.with_name("blaze.db-journal").stat().st_size > 0


def one_byte(path):
    path.write_bytes(b"x")


def random_bytes(path):
    path.write_bytes(random.Random(1).randbytes(20_000))


def text(path):
    path.write_text("SQLite format 3\0 and nothing more")


def empty(path):
    path.touch()


def make_state(path):
    database.open_writer(path, "process").close()


def newer(path):
    make_state(path)
    in_sqlite(path, f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")


def newer_with_a_log_that_a_crash_left(path):
    """As after kill -9 of the newer Blaze that has just migrated it."""
    make_state(path)
    in_sqlite(path, f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}", *TABLE, then_die=True)
    assert path.with_name("blaze.db-wal").stat().st_size > 0


def older_than_any(path):
    make_state(path)
    in_sqlite(path, "PRAGMA user_version = 0")


def cut_short(path):
    make_state(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 4096)


def damaged_inside(path):
    make_state(path)
    in_sqlite(path, "INSERT INTO definitions VALUES (1, 'd', 's', 'g')")
    size = path.stat().st_size
    with path.open("r+b") as file:
        for page in range(2, size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 64)


def directory(path):
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (foreign, "not a state file of Blaze"),
        (foreign_with_a_log_that_a_crash_left, "not a state file of Blaze"),
        (foreign_with_an_open_transaction_that_a_crash_left, "can't be opened"),
        (one_byte, "not a state file of Blaze"),
        (random_bytes, "not a SQLite database"),
        (text, "not a SQLite database"),
        (empty, "is empty"),
        (newer, "newer Blaze"),
        (newer_with_a_log_that_a_crash_left, "newer Blaze"),
        (older_than_any, "can't be brought to"),
        (cut_short, "damaged"),
        (damaged_inside, "damaged"),
        (directory, "is a directory"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_with_advice_and_left_as_it_is(doomed, make, advice):
    """R42."""
    doomed.work("a")
    doomed.sequence()
    doomed.state_dir.mkdir(mode=0o700)
    make(doomed.state_dir / "blaze.db")
    before = hashes(doomed.state_dir)
    for _ in range(2):
        scheduler = doomed.blaze()
        for start in (scheduler.start, lambda scheduler=scheduler: scheduler.trigger("seq")):
            with pytest.raises(StateError) as refused:
                start()
            assert advice in str(refused.value) and "blaze.db" in str(refused.value)
    after = hashes(doomed.state_dir)
    # Whoever reads a file with a log makes an empty one if there is none.
    assert after.pop("blaze.db-wal", EMPTY) == before.pop("blaze.db-wal", EMPTY)
    assert after == before
    assert doomed.instances() == []
    assert doomed.told() == []


@pytest.mark.parametrize("make", [foreign, random_bytes, newer, empty, directory])
def test_queries_refuse_it_too(tmp_path, make):
    make(tmp_path / "blaze.db")
    before = hashes(tmp_path)
    with StateManager(tmp_path) as state, pytest.raises(StateError):
        state.runs()
    assert hashes(tmp_path).get("blaze.db") == before.get("blaze.db")


def test_a_log_without_its_file_is_not_mixed_into_a_new_one(pipeline):
    """Deleting blaze.db alone, after a crash, would otherwise make a new file that is damaged at once."""

    def crash():
        scheduler = pipeline.start()
        for _ in range(3):
            scheduler.run("seq")
        session = scheduler._session
        with session.journal.lock:
            session.journal.checkpoint()
        scheduler.run("seq")
        die()

    until_killed(crash)
    file = pipeline.state_dir / "blaze.db"
    file.rename(pipeline.folder / "kept")
    before = hashes(pipeline.state_dir)
    with pytest.raises(StateError, match=r"blaze\.db is gone, but its log blaze\.db-wal is still there"):
        pipeline.start()
    assert hashes(pipeline.state_dir) == before
    (pipeline.folder / "kept").rename(file)
    scheduler = pipeline.start()
    assert len(scheduler.state.runs(status="COMPLETED")) == 4
    scheduler.stop()
    file.unlink()
    assert pipeline.start().run("seq", timeout=PATIENCE).ok
    assert len(pipeline.open[-1].state.runs()) == 1


# ---------------------------------------------------------------------- directories that are not used


def as_nobody(function):
    """What a function returns in a process that has no rights of root; in this one, if it has none."""
    if not IS_ROOT:
        return function()

    def drop_and_call():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        return function()

    return in_child(drop_and_call)


@pytest.fixture
def public_folder():
    """A folder that belongs to the ordinary user, where he can reach it."""
    folder = Path(tempfile.mkdtemp(prefix="blaze-", dir="/tmp"))
    if IS_ROOT:
        os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


def told_at_start(state_dir):
    """What a start says that is refused; None for one that is not."""
    scheduler = Blaze(state_dir=state_dir)
    try:
        scheduler.start()
    except StateError as error:
        return str(error)
    scheduler.stop()
    return None


def test_a_file_or_directory_that_may_not_be_written_is_refused_with_advice(public_folder):
    """R43."""
    state_dir = public_folder / "state"
    assert as_nobody(lambda: told_at_start(state_dir)) is None
    before = hashes(state_dir)
    (state_dir / "blaze.db").chmod(0o400)
    told = as_nobody(lambda: told_at_start(state_dir))
    assert told is not None and "writable" in told
    (state_dir / "blaze.db").chmod(0o600)
    state_dir.chmod(0o500)
    try:
        told = as_nobody(lambda: told_at_start(state_dir))
        assert told is not None and "not writable" in told and str(state_dir) in told
    finally:
        state_dir.chmod(0o700)
    public_folder.chmod(0o500)
    try:
        told = as_nobody(lambda: told_at_start(public_folder / "new"))
        assert told is not None and "can't be made: Permission denied" in told
    finally:
        public_folder.chmod(0o700)
    assert hashes(state_dir)["blaze.db"] == before["blaze.db"]
    assert as_nobody(lambda: told_at_start(state_dir)) is None


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_a_directory_that_others_may_write_to_is_refused_with_the_command_that_mends_it(pipeline, mode):
    """R46: what lies there is unpickled."""
    pipeline.state_dir.mkdir()
    pipeline.state_dir.chmod(mode)
    with pytest.raises(StateError, match=f"chmod go-w {pipeline.state_dir}"):
        pipeline.start()
    assert list(pipeline.state_dir.iterdir()) == []
    subprocess.run(["chmod", "go-w", pipeline.state_dir], check=True)
    assert pipeline.start().run("seq", timeout=PATIENCE).ok


def test_a_directory_of_another_user_is_refused(pipeline, monkeypatch):
    """R46."""
    pipeline.state_dir.mkdir(mode=0o700)
    if IS_ROOT:
        os.chown(pipeline.state_dir, NOBODY, NOBODY)
    else:
        real = os.stat

        def of_another(path, *args, **kwargs):
            found = real(path, *args, **kwargs)
            if path != pipeline.state_dir:
                return found
            return os.stat_result([*found[:4], NOBODY, *found[5:10]])

        monkeypatch.setattr(database.os, "stat", of_another)
    with pytest.raises(StateError, match=f"belongs to another user \\(uid {NOBODY}\\)"):
        pipeline.start()
    assert list(pipeline.state_dir.iterdir()) == []


def test_a_network_file_system_is_refused_with_advice(pipeline, monkeypatch):
    """S5."""
    for kind in ("nfs4", "cifs", "fuse.sshfs", "9p"):
        monkeypatch.setattr(database, "file_system_of", lambda path, kind=kind: kind)
        with pytest.raises(StateError, match=rf"network file system \({kind}\).*local disk"):
            pipeline.start()
    monkeypatch.setattr(database, "file_system_of", lambda path: None)
    assert pipeline.start().run("seq", timeout=PATIENCE).ok


@pytest.mark.skipif(sys.platform != "linux", reason="the table of mounts is Linux's")
def test_the_type_of_a_file_system_is_that_of_the_innermost_mount():
    assert database.file_system_of(Path("/proc/self")) == "proc"
    assert database.file_system_of(Path("/")) not in (None, "proc")


def test_a_file_where_the_directory_should_be_is_refused(pipeline):
    pipeline.state_dir.touch()
    with pytest.raises(StateError, match=r"can.t be made|not a directory"):
        pipeline.start()
    assert pipeline.state_dir.read_bytes() == b""


def test_two_names_of_one_directory_are_one_state(pipeline):
    (pipeline.folder / "real").mkdir(mode=0o700)
    pipeline.state_dir.symlink_to(pipeline.folder / "real")
    through_the_link = pipeline.start()
    run_id = through_the_link.run("seq", timeout=PATIENCE).run_id
    direct = pipeline.start(state_dir=pipeline.folder / "real")
    assert direct.state.find_run("last").run_id == run_id
    assert len(pipeline.instances()) == 2
    with pytest.raises(StateError, match="still uses"):
        direct.stop(shutdown=True)


@pytest.mark.parametrize("name", ["with a space", "100%", "a?b#c", "äöü", "quote'", "-wal", "%41"])
def test_a_directory_may_have_any_name(pipeline, name):
    scheduler = pipeline.start(state_dir=pipeline.folder / name)
    assert scheduler.run("seq", timeout=PATIENCE).ok
    assert len(scheduler.state.runs()) == 1
    scheduler.stop()
    assert pipeline.start(state_dir=pipeline.folder / name).state.find_run("last").status is RunStatus.COMPLETED
    assert {path.name for path in pipeline.folder.iterdir()} == {name, "witness"}


@pytest.mark.parametrize("umask", [0, 0o002, 0o077])
@pytest.mark.parametrize("made_before", [True, False])
def test_nobody_else_may_read_or_write_what_lies_there_whatever_the_umask(pipeline, umask, made_before):
    """R46: directories 0700, files 0600; also in a directory of the user's own that others may read."""
    if made_before:
        pipeline.state_dir.mkdir(mode=0o755)
    before = os.umask(umask)
    try:
        scheduler = pipeline.start()
        result = scheduler.run("seq", timeout=PATIENCE)
        scheduler.retry(result.run_id, from_step="small").result(PATIENCE)
        scheduler.retry(result.run_id).result(PATIENCE)
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in pipeline.state_dir.rglob("*")}
        scheduler.stop(shutdown=True)
        modes.update({path: stat.S_IMODE(path.stat().st_mode) for path in pipeline.state_dir.rglob("*")})
    finally:
        os.umask(before)
    assert {"blaze.db", "blaze.db-wal", "blaze.db-shm", "results", "instances", "archive"} <= {p.name for p in modes}
    assert {str(path): oct(mode) for path, mode in modes.items() if mode & 0o077} == {}
    if not made_before:
        assert stat.S_IMODE(pipeline.state_dir.stat().st_mode) == 0o700


# ---------------------------------------------------------------------- making the file


def assert_whole_or_absent(state_dir):
    if (state_dir / "blaze.db").exists():
        with StateManager(state_dir) as state:
            assert state.schema_version() == schema.SCHEMA_VERSION
            assert state.integrity() == []


def test_killed_at_any_statement_of_the_first_start_there_is_a_whole_file_or_none(tmp_path, monkeypatch):
    """R43. Readers find it whole too, without anyone having opened it for writing since."""
    connect = database._connect
    number = 0
    while True:
        doomed = Doomed(tmp_path / str(number))
        doomed.folder.mkdir()
        doomed.work("a")
        doomed.sequence()
        seen = []

        def dying_connect(*args, number=number, seen=seen, **kwargs):
            def trace(statement):
                seen.append(statement)
                if len(seen) > number:
                    die()

            connection = connect(*args, **kwargs)
            connection.set_trace_callback(trace)
            return connection

        with monkeypatch.context() as patch:
            patch.setattr(database, "_connect", dying_connect)
            with Child(start_and_stop, doomed) as child:
                killed = child.wait() == signal.SIGKILL
        assert_whole_or_absent(doomed.state_dir)
        assert doomed.start().run("seq", timeout=PATIENCE).ok
        doomed.close()
        assert_sound(doomed)
        if not killed:
            break
        number += 1
    assert number > 20


def start_and_stop(doomed):
    doomed.start().stop()


def test_killed_at_random_instants_of_the_first_start_there_is_a_whole_file_or_none(tmp_path):
    kills = 0
    for number in range(40):
        doomed = Doomed(tmp_path / str(number))
        doomed.folder.mkdir()
        doomed.work("a")
        doomed.sequence()
        with Child(start_and_stop, doomed) as child:
            time.sleep(random.random() * 0.012)  # the instant is what is drawn by lot
            child.kill()
            kills += child.wait() == signal.SIGKILL
        assert_whole_or_absent(doomed.state_dir)
        assert doomed.start().run("seq", timeout=PATIENCE).ok
        doomed.close()
        assert doomed.instances() == []
    assert kills > 10


def test_eight_processes_that_make_the_state_at_the_same_instant_all_work_on_one(tmp_path):
    for turn in range(5):
        doomed = Doomed(tmp_path / str(turn))
        doomed.folder.mkdir()
        doomed.work("a")
        doomed.sequence()
        gun = StartingGun(doomed.folder / "gun")

        def work(doomed=doomed, gun=gun):
            gun.wait()
            with doomed.blaze() as scheduler:
                return scheduler.run("seq", timeout=PATIENCE).run_id

        children = [Child(work) for _ in range(8)]
        gun.fire()
        run_ids = {child.result() for child in children}
        with doomed.state() as state:
            assert {run.run_id for run in state.runs(status="COMPLETED")} == run_ids and len(run_ids) == 8
        assert_sound(doomed)
        assert sorted(path.name for path in doomed.state_dir.iterdir() if "blaze.db" in path.name) == ["blaze.db"]


# ---------------------------------------------------------------------- locks


class LockHolder(Child):
    """A child that holds SQLite's write lock until it is told to let go."""

    def __init__(self, doomed):
        ready, self._release = doomed.folder / "ready", doomed.folder / "release"
        super().__init__(self._hold, doomed.state_dir / "blaze.db", ready)
        wait_until(ready.exists, "the lock")

    def _hold(self, file, ready):
        connection = sqlite3.connect(file, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        ready.touch()
        wait_until(self._release.exists, "the leave to let go")
        connection.execute("COMMIT")
        connection.close()

    def release(self):
        self._release.touch()
        self.result()


def test_while_another_process_holds_the_write_lock_runs_wait_and_nobody_sees_an_error(pipeline, caplog):
    """S2, DESIGN §4.7."""
    caplog.set_level(logging.WARNING)
    scheduler = pipeline.start()
    scheduler.run("seq", timeout=PATIENCE)
    with LockHolder(pipeline) as holder:
        threads = [threading.Thread(target=scheduler.run, args=("seq",)) for _ in range(4)]
        for thread in threads:
            thread.start()
        scheduler.status()  # reading goes on meanwhile
        assert len(scheduler.state.runs()) == 1
        time.sleep(1.0)  # longer than any step of a patience that is not SQLite's own
        assert scheduler.status().write_fault is None
        holder.release()
        for thread in threads:
            thread.join(PATIENCE)
    assert len(scheduler.state.runs(status="COMPLETED")) == 5
    assert [record.getMessage() for record in caplog.records] == []


def test_a_lock_that_outlasts_all_patience_is_told_and_waited_for(pipeline, monkeypatch):
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.02)
    monkeypatch.setattr(journal, "BUSY_TIMEOUT", 0.02)
    gate = threading.Event()
    pipeline.step("gated", lambda: wait(gate))
    pipeline.sequence(seq_id="gated")
    scheduler = pipeline.start()
    handle = scheduler.trigger("gated")
    with LockHolder(pipeline) as holder:
        gate.set()
        wait_until(lambda: scheduler.status().write_fault)
        assert "locked" in scheduler.status().write_fault
        assert not handle.done() and handle.status is not RunStatus.COMPLETED
        with pytest.raises(StateError, match="can't be written"):
            scheduler.trigger("seq")
        holder.release()
    assert handle.result(PATIENCE).ok
    assert scheduler.run("seq", timeout=PATIENCE).ok
    assert scheduler.status().write_fault is None


@pytest.mark.parametrize("limit", ["timeout", "seq_run_timeout"])
@pytest.mark.parametrize("workers", [1, 4])
def test_timeouts_strike_while_another_process_holds_the_write_lock(pipeline, limit, workers):
    """R34: within a second of the deadline, also where no worker is free to wait for the lock."""
    locked, asked = threading.Event(), threading.Event()

    def loops():
        wait(locked)
        current().logger.info("a line that somebody wants to write")
        while not current().cancelled:
            time.sleep(0.001)
        asked.set()

    pipeline.step("loops", loops, timeout=1.0 if limit == "timeout" else None)
    pipeline.sequence(seq_id="loops", seq_run_timeout=1.0 if limit == "seq_run_timeout" else 3600)
    scheduler = pipeline.start(max_workers=workers)
    handle = scheduler.trigger("loops")
    with LockHolder(pipeline) as holder:
        locked.set()
        in_time = asked.wait(2.0)
        holder.release()
        result = handle.result(PATIENCE)
    assert in_time and result.reason == "timeout"


def test_blocks_that_must_be_given_up_are_while_another_process_holds_the_write_lock(pipeline):
    """What the first verdict is to be recorded with keeps the second from nobody."""
    locked = threading.Event()

    def clings(seconds):
        wait(locked)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(BaseException):
                time.sleep(0.01)

    for number, limit in enumerate((0.8, 1.3)):
        pipeline.step(f"clings{number}", lambda: clings(3.0), timeout=limit)
    pipeline.sequence(seq_id="clings")
    scheduler = pipeline.start(max_workers=2)
    handle = scheduler.trigger("clings")
    with LockHolder(pipeline) as holder:
        locked.set()
        # A thread is counted before its attempt is settled.
        failed = [BlockStatus.FAILED, BlockStatus.FAILED]
        wait_until(lambda: [handle._run.status_of(index) for index in (0, 1)] == failed, "the end of both")
        assert scheduler.status().leaked_threads == 2 and not handle.done()
        holder.release()
        result = handle.result(PATIENCE)
    assert {step.reason for step in result.steps.values()} == {"timeout"}
    assert all(step.duration < 2.3 for step in result.steps.values())


def test_many_processes_at_once_lose_nothing_and_see_no_lock(pipeline):
    def work():
        with pipeline.blaze() as scheduler:
            handles = [scheduler.trigger("seq") for _ in range(25)]
            assert all(handle.result(PATIENCE).ok for handle in handles)
            assert scheduler.status().write_fault is None
            return [handle.run_id for handle in handles]

    children = [Child(work) for _ in range(4)]
    run_ids = {run_id for child in children for run_id in child.result()}
    with pipeline.state() as state:
        assert {run.run_id for run in state.runs(status="COMPLETED", limit=1000)} == run_ids and len(run_ids) == 100
    assert_sound(pipeline)


# ---------------------------------------------------------------------- what the database will never take


def refuse(pipeline, when):
    """Let the database refuse rows, for good and with an error that no waiting mends."""
    connection = sqlite3.connect(pipeline.state_dir / "blaze.db", isolation_level=None)
    connection.execute(f"CREATE TRIGGER refusing BEFORE {when} BEGIN SELECT RAISE(ABORT, 'not today'); END")
    connection.close()


def test_a_refused_row_ends_the_run_and_every_step_of_it(pipeline):
    """Steps that completed stay so; none is left waiting, running or to be retried."""
    go, retrying = threading.Event(), threading.Event()

    def runs():
        while not current().cancelled:
            time.sleep(0.001)
        return "too late"

    def fails():
        retrying.set()
        raise ValueError("not yet")

    def unlucky():
        wait(go)
        return "unlucky"

    pipeline.work("before")
    pipeline.step("runs", runs)
    pipeline.step("fails", fails, retries=1, retry_delay=60)
    pipeline.step("unlucky", unlucky, "before")
    pipeline.work("after", "unlucky")
    pipeline.work("anyway", "unlucky", run_when="all_done")
    pipeline.sequence(seq_id="refused")
    scheduler = pipeline.start()
    refuse(pipeline, "INSERT ON steps WHEN NEW.preview = '''unlucky'''")
    handle = scheduler.trigger("refused")
    wait(retrying)
    wait_until(lambda: handle._run.status_of(2) is BlockStatus.RETRYING, "the wait for the retry")
    go.set()
    result = handle.result(PATIENCE)
    assert (result.status, result.reason) == (RunStatus.FAILED, "internal_error")
    assert "refused an entry" in result.error and "not today" in result.error
    expected = {"before": (BlockStatus.COMPLETED, None)}
    cancelled = ("runs", "fails", "unlucky", "after", "anyway")
    expected.update((name, (BlockStatus.CANCELLED, "internal_error")) for name in cancelled)
    assert {name: (step.status, step.reason) for name, step in result.steps.items()} == expected
    assert dict(result.outputs) == {"before": "before"}
    wait_until(lambda: not scheduler.status().busy_workers, "the end of the block that ran")
    assert {step.name: (step.status, step.reason) for step in scheduler.state.steps(handle.run_id)} == expected
    assert handle._run.open == 0
    record = scheduler.state.find_run(handle.run_id)
    assert (record.status, record.reason) == (RunStatus.FAILED, "internal_error")
    assert pipeline.told() == ["before"]
    assert scheduler.run("seq", timeout=PATIENCE).ok and scheduler.status().leaked_threads == 0


@pytest.mark.parametrize("what", ["= 'COMPLETED'", "NOT IN ('PENDING', 'RUNNING')"], ids=["its_end", "any_end"])
def test_a_run_whose_end_is_refused_is_failed_and_nobody_waits_for_ever(pipeline, what):
    scheduler = pipeline.start()
    refuse(pipeline, f"UPDATE ON runs WHEN NEW.status {what}")
    result = scheduler.trigger("seq").result(PATIENCE)
    assert (result.status, result.reason, result.output) == (RunStatus.FAILED, "internal_error", None)
    assert {step.status for step in result.steps.values()} == {BlockStatus.COMPLETED}
    assert not scheduler.runs
    recorded = scheduler.state.find_run(result.run_id).status
    assert recorded is RunStatus.FAILED or (what.startswith("NOT") and not recorded.ended)


# ---------------------------------------------------------------------- no room


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB."""
    if not (IS_ROOT and sys.platform == "linux" and shutil.which("mount")):
        pytest.skip("mounting a small disk needs root")
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(place, spare=0):
    """Take all the room there is but for ``spare`` bytes; the file that takes it."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    os.truncate(filler, filler.stat().st_size - spare)
    return filler


@pytest.mark.parametrize("spare", [0, 16384])
def test_on_a_full_disk_a_run_waits_says_why_and_completes_when_there_is_room(small_disk, tmp_path, spare):
    """R44. ``spare``: room for small rows, but not for the large output."""
    doomed = Doomed(tmp_path)
    doomed.state_dir = small_disk / "state"
    gate, running = threading.Event(), threading.Event()

    def gated():
        running.set()
        wait(gate)
        return LARGE

    doomed.work("first")
    doomed.step("gated", gated, "first")
    for number in range(200):
        doomed.work(f"many{number}", "gated")
    doomed.work("last", *[f"many{number}" for number in range(200)])
    doomed.sequence(len)
    scheduler = doomed.start()
    try:
        handle = scheduler.trigger("seq")
        wait(running)
        filler = fill(small_disk, spare)
        gate.set()
        wait_until(lambda: scheduler.status().write_fault)
        told = scheduler.status().write_fault
        assert "full" in told or "No space left" in told
        assert told in str(scheduler.status())
        assert not handle.done() and handle.status is RunStatus.RUNNING
        assert scheduler.state.find_run(handle.run_id).status in (RunStatus.PENDING, RunStatus.RUNNING)
        assert doomed.told() == ["first"]  # nothing that depends on the unrecorded step has started
        filler.unlink()
        result = handle.result(PATIENCE)
        assert result.output == 203 and result.outputs["gated"] == LARGE
        assert len(doomed.told()) == 202 == len(set(doomed.told()))
        wait_until(lambda: scheduler.status().write_fault is None)
        assert scheduler.state.find_run(handle.run_id).status is RunStatus.COMPLETED
    finally:
        doomed.close()
    assert_sound(doomed)


def test_on_a_full_disk_nothing_is_acknowledged_and_a_kill_loses_nothing(small_disk, tmp_path):
    """R2, R44."""
    doomed = Doomed(tmp_path)
    doomed.state_dir = small_disk / "state"
    doomed.work("a")
    doomed.work("b", "a")
    doomed.sequence()

    def fill_and_die():
        scheduler = doomed.start()
        acknowledged = [scheduler.run("seq", timeout=PATIENCE).run_id]
        fill(small_disk)
        for _ in range(10_000):
            try:
                acknowledged.append(scheduler.trigger("seq").run_id)
            except StateError as error:
                doomed.witness.tell(str(error))
                break
        doomed.witness.tell(" ".join(["acknowledged", *acknowledged]))
        die()

    until_killed(fill_and_die)
    *_, refusal, acknowledged = doomed.told()
    assert "full" in refusal and "make room" in refusal
    acknowledged = acknowledged.split()[1:]
    with pytest.raises(StateError):
        doomed.start().run("seq")  # at the start, or when the run is to be recorded
    doomed.close()
    (small_disk / "filler").unlink()
    scheduler = doomed.start()
    for handle in scheduler.recovered:
        handle.result(PATIENCE)
    assert {run.run_id for run in scheduler.state.runs(limit=10_000)} >= set(acknowledged)
    assert all(scheduler.state.find_run(run_id).status is RunStatus.COMPLETED for run_id in acknowledged)
    doomed.close()
    assert_sound(doomed)


def test_runs_that_a_stop_on_a_full_disk_could_not_release_are_resumed_at_the_next_start(small_disk, tmp_path):
    doomed = Doomed(tmp_path)
    doomed.state_dir = small_disk / "state"
    running = threading.Event()

    def waits():
        running.set()
        while not (tmp_path / "go").exists():
            current().check_cancelled()
            time.sleep(0.001)

    doomed.work("a")
    doomed.step("waits", waits, "a")
    doomed.sequence()
    run_id = doomed.start().trigger("seq").run_id
    wait(running)
    filler = fill(small_disk)
    doomed.open[-1].stop()
    filler.unlink()
    (tmp_path / "go").touch()
    try:
        assert doomed.resume().run_id == run_id
    finally:
        doomed.close()


def test_the_first_start_on_a_full_disk_is_refused_and_leaves_no_half_made_file(small_disk, tmp_path):
    doomed = Doomed(tmp_path)
    doomed.work("a")
    doomed.sequence()
    doomed.state_dir = small_disk / "state"
    filler = fill(small_disk)
    with pytest.raises(StateError):
        doomed.start()
    assert not (doomed.state_dir / "blaze.db").exists()
    refused = 0
    while True:
        os.truncate(filler, filler.stat().st_size - 16384)
        try:
            doomed.start().stop()
        except StateError as error:
            told = str(error)
        else:
            break
        refused += 1
        assert "full" in told or "No space left" in told
        copy = tmp_path / f"copy{refused}"  # on the full disk SQLite has no room to look at it
        shutil.copytree(doomed.state_dir, copy)
        assert_whole_or_absent(copy)
    assert refused
    filler.unlink()
    assert doomed.start().run("seq", timeout=PATIENCE).ok
    doomed.close()
    assert_sound(doomed)


def test_beyond_the_limit_of_a_file_a_run_waits_until_it_is_raised(pipeline):
    """R44, without a disk of its own: RLIMIT_FSIZE in a child."""
    gate, running = threading.Event(), threading.Event()

    def gated():
        running.set()
        wait(gate)

    pipeline.step("gated", gated)
    for number in range(100):
        pipeline.work(f"many{number}", "gated")
    pipeline.sequence(len, seq_id="limited")

    def work():
        scheduler = pipeline.start()
        handle = scheduler.trigger("limited")
        wait(running)
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = (pipeline.state_dir / "blaze.db-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, unlimited[1]))
        gate.set()
        wait_until(lambda: scheduler.status().write_fault)
        told = scheduler.status().write_fault
        assert not handle.done()
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        result = handle.result(PATIENCE)
        scheduler.stop()
        return told, result.output

    told, output = in_child(work)
    assert "disk" in told and output == 101
    assert_sound(pipeline)


def test_a_full_database_keeps_failures_retries_and_the_end_of_a_run_too(pipeline):
    """Every kind of record waits for room; nothing is written out of order."""
    gate, running = threading.Event(), threading.Event()

    def broken():
        running.set()
        wait(gate)
        raise ValueError("x" * 60_000)

    pipeline.step("broken", broken, retries=1)
    pipeline.work("mender", "broken", run_when="any_failed")
    pipeline.sequence(seq_id="limited")
    scheduler = pipeline.start()
    session = scheduler._session
    handle = scheduler.trigger("limited")
    wait(running)
    with session.journal.lock:
        pages = session.journal._cursor.execute("PRAGMA page_count").fetchone()[0]
        session.journal._cursor.execute(f"PRAGMA max_page_count = {pages}").fetchone()
    gate.set()
    wait_until(lambda: scheduler.status().write_fault)
    assert "full" in scheduler.status().write_fault
    assert not handle.done() and pipeline.told() == []
    with session.journal.lock:
        session.journal._cursor.execute("PRAGMA max_page_count = 1000000").fetchone()
    result = handle.result(PATIENCE)
    assert result.status is RunStatus.FAILED
    assert result.steps["broken"].attempts == 2 and result.steps["mender"].status is BlockStatus.COMPLETED
    assert [(one.step, one.attempt) for one in scheduler.state.attempts(handle.run_id)] == [
        ("broken", 1),
        ("broken", 2),
    ]


# ---------------------------------------------------------------------- theft


@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "deleted"])
def test_a_state_file_that_is_taken_away_is_noticed_and_nothing_more_is_written(
    pipeline, monkeypatch, caplog, replaced
):
    """R45: loud, and what takes its place stays as it is."""
    monkeypatch.setattr(scribe, "CHECK_FILE_EVERY", 0.0)
    gate, running = threading.Event(), threading.Event()

    def gated():
        running.set()
        wait(gate)

    pipeline.work("before")
    pipeline.step("gated", gated, "before")
    pipeline.work("after", "gated")
    pipeline.sequence(seq_id="gated")
    file, kept = pipeline.state_dir / "blaze.db", pipeline.folder / "kept"
    scheduler = pipeline.start()
    handle = scheduler.trigger("gated")
    wait(running)
    others = pipeline.folder / "others"
    Blaze(state_dir=others).start().stop()
    file.rename(kept)
    if replaced:
        shutil.copy(others / "blaze.db", file)
        before = hashlib.sha256(file.read_bytes()).hexdigest()
    wait_until(lambda: scheduler.status().write_fault)
    assert "deleted or replaced" in scheduler.status().write_fault
    gate.set()
    with pytest.raises(StateError, match="deleted or replaced"):
        scheduler.trigger("seq")
    # The fault is there for others to see just before it is logged.
    wait_until(lambda: any("deleted or replaced" in record.getMessage() for record in caplog.records))
    told = next(record for record in caplog.records if "deleted or replaced" in record.getMessage())
    assert told.levelno == logging.CRITICAL
    assert not handle.done() and pipeline.told() == ["before"]
    scheduler.stop()
    if replaced:
        assert hashlib.sha256(file.read_bytes()).hexdigest() == before
    # Put back, it goes on from what was recorded.
    os.replace(kept, file)
    result = pipeline.resume()
    assert result.ok and pipeline.told() == ["before", "after"]
    pipeline.close()
    assert pipeline.instances() == []
    assert_sound(pipeline)


# ---------------------------------------------------------------------- the log, and the levels


class Heavy(Doomed):
    """A chain whose steps watch how long the write-ahead log grows."""

    def wire(self, length, value):
        self.longest = 0

        def watches():
            if random.random() < 0.05:
                self.longest = max(self.longest, os.stat(self.state_dir / "blaze.db-wal").st_size)
            return value

        self.blocks.block(name="watches")(watches)
        self.wiring = [
            SeqBlockData("watches", [f"s{number - 1}"] if number else [], name=f"s{number}") for number in range(length)
        ]
        self.sequence(len)


def test_the_write_ahead_log_stays_small_over_twenty_thousand_steps_and_goes_at_the_end(tmp_path):
    """S6, R47."""
    heavy = Heavy(tmp_path)
    heavy.wire(1000, "a small output")
    scheduler = heavy.start(max_workers=2)
    for _ in range(20):
        assert scheduler.run("seq", timeout=60).output == 1000
    longest = heavy.longest
    heavy.close()
    assert 0 < longest < 16e6
    assert not (heavy.state_dir / "blaze.db-wal").exists()
    assert_sound(heavy)


def test_the_write_ahead_log_stays_small_however_large_the_outputs_are(tmp_path):
    """S6, R47."""
    heavy = Heavy(tmp_path)
    heavy.wire(1000, b"x" * 60_000)
    heavy.start(max_workers=2).run("seq", timeout=60)
    longest = heavy.longest
    heavy.close()
    assert 0 < longest < 16e6


@pytest.mark.parametrize(("durability", "synchronous"), [("process", 1), ("power", 2)])
def test_a_level_of_durability_sets_the_pragmas_that_it_promises(pipeline, durability, synchronous):
    """S1, R39."""
    scheduler = pipeline.start(durability=durability)

    def pragma(name):
        return scheduler._session.journal.read(f"PRAGMA {name}")[0][0]

    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == synchronous
    assert pragma("foreign_keys") == 1
    assert pragma("busy_timeout") >= 10_000
    assert pragma("wal_autocheckpoint") == 0
    assert pragma("application_id") == schema.APPLICATION_ID


def test_a_state_in_memory_leaves_nothing_on_disk(pipeline):
    scheduler = pipeline.start(durability="memory")
    assert scheduler.run("seq", timeout=PATIENCE).ok and len(scheduler.state.runs()) == 1
    scheduler.stop(shutdown=True)
    assert {path.name for path in pipeline.folder.iterdir()} == {"witness"}


def test_an_unknown_level_is_refused_before_anything_is_made(pipeline):
    with pytest.raises(ValidationError, match="one of process, power, memory"):
        pipeline.blaze(durability="paranoid")
    assert not pipeline.state_dir.exists()


# ---------------------------------------------------------------------- who opens the file, and what is never unpickled


PROGRAM = """
import sys
from blaze import Blaze, BlazeBlock, BlazeSequence, SeqBlockData, StateManager
from blaze.core.remember.instances import list_instances

blocks, sequences = BlazeBlock(), BlazeSequence()

@blocks.block
def work(large: bool = False):
    return "x" * 100_000 if large else 1

sequences.sequence(blocks=blocks, seq_id="seq", sequence=[
    SeqBlockData("work"), SeqBlockData("work", ["work"], {"large": True}, name="large"),
])(len)
scheduler = Blaze(sequences=sequences, state_dir=sys.argv[1])
for _ in range(2):
    with scheduler:
        run_id = scheduler.run("seq").run_id
        scheduler.retry(run_id, from_step="large").result()
        scheduler.status(), scheduler.state.runs(), scheduler.state.integrity(), scheduler.state.size()
        with StateManager(sys.argv[1]) as state:
            state.steps(run_id), state.logs(), state.sequences()
        second = Blaze(sequences=sequences, state_dir=sys.argv[1]).start()
        second.run("seq")
        second.stop()
        scheduler._session.journal.check_file()
        list_instances(scheduler._session.instances)
scheduler.start().run("seq")
scheduler.stop(shutdown=True)
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 31), reason="this SQLite does not mark its way of opening")
def test_nothing_but_sqlite_ever_opens_the_state_file(tmp_path):
    """S3: SQLite opens with O_NOFOLLOW; nothing else of Blaze or Python does."""
    trace = tmp_path / "trace"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", trace, "-e", "trace=open,openat,creat", "-e", "signal=none",
         sys.executable, "-c", PROGRAM, tmp_path / "state"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "ptrace" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    opened = [line for line in trace.read_text().splitlines() if '/blaze.db"' in line or "/blaze.db-" in line]
    assert len(opened) > 10
    assert [line for line in opened if "O_NOFOLLOW" not in line] == []


def test_python_itself_never_opens_the_state_file(tmp_path):
    """S3, seen from inside: the audit events of open() and os.open()."""
    watch = """
import sys
def watch(event, args):
    if event == "open" and str(args[0]).rpartition("/")[2].startswith("blaze.db"):
        print("opened", args[0], flush=True)
sys.addaudithook(watch)
"""
    done = subprocess.run(
        [sys.executable, "-c", watch + PROGRAM, tmp_path / "state"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


class Hostile:
    """Its pickle makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return functools.partial(os.makedirs, self.path, exist_ok=True), ()


def test_no_query_loads_a_pickle(pipeline):
    """DESIGN §4.6: only the process that runs blocks ever does."""
    trap = pipeline.folder / "trap"
    scheduler = pipeline.start()
    done = scheduler.run("seq", timeout=PATIENCE).run_id
    scheduler.stop()
    connection = sqlite3.connect(pipeline.state_dir / "blaze.db", isolation_level=None)
    hostile = pickle.dumps(Hostile(str(trap)))
    connection.execute("UPDATE steps SET output = ?", (hostile,))
    connection.execute("UPDATE runs SET output = ?, parameters = '{}'", (hostile,))
    connection.close()
    for file in (pipeline.state_dir / "results").rglob("*.pickle"):
        file.write_bytes(hostile)
    with pipeline.state() as state:
        state.runs(), state.find_run("last").to_dict(), state.find_run(done[:6]), state.parameters(done)
        state.steps(done), state.steps_page(done), state.attempts(done), state.graph(done), state.logs(run_id=done)
        state.sequences(), state.sequence("seq"), state.counts(), state.size(), state.integrity()
    scheduler.start()
    str(scheduler.status()), scheduler.status().to_dict()
    journal, results = scheduler._session.journal, scheduler._session.recorder.results
    prune(journal, results, Retention(runs=1), time.time())
    assert not trap.exists()
    # It is a trap: who runs blocks does load it.
    scheduler.retry(done, from_step="large").result(PATIENCE)
    assert trap.exists()


# ---------------------------------------------------------------------- the hard stop, and garbage beside the file


def test_the_hard_stop_moves_everything_aside_and_it_can_be_put_back(pipeline):
    """R58, DESIGN §1."""
    scheduler = pipeline.start()
    run_id = scheduler.run("seq", timeout=PATIENCE).run_id
    scheduler.stop(shutdown=True)
    assert not (pipeline.state_dir / "blaze.db").exists()
    with pipeline.state() as state, pytest.raises(StateError, match="no state"):
        state.runs()
    (archived,) = (pipeline.state_dir / "archive").iterdir()
    with StateManager(archived) as state:
        assert state.find_run("last").run_id == run_id and state.integrity() == []
    scheduler.start().stop()
    (pipeline.state_dir / "blaze.db").unlink()
    for path in archived.iterdir():
        os.replace(path, pipeline.state_dir / path.name)
    scheduler.start()
    assert scheduler.retry(run_id, from_step="large").result(PATIENCE).output["large"] == LARGE


def test_lock_files_with_any_content_are_the_locks_of_the_dead(pipeline):
    """R55: what stands in them is information only."""
    scheduler = pipeline.start()
    scheduler.stop()
    for number, content in enumerate((b"", b"\xff\xfe", b"[]", b"null", b'{"pid": "x"}', b'{"pid": -1}', b"0")):
        (pipeline.state_dir / "instances" / f"dead-{number}.lock").write_bytes(content)
    scheduler.start()
    assert pipeline.instances() == [f"{scheduler.instance_id}.lock"]
    scheduler.stop()
    (pipeline.state_dir / "instances" / "dead-0.lock").write_bytes(b"[]")
    scheduler.start().stop(shutdown=True)
    assert (pipeline.state_dir / "archive").exists()
