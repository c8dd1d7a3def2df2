"""The daemons that `blaze_daemon` starts: they work like any other, tell what they did, and never outlive pytest."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

from blaze.core.ground.errors import NoDaemon
from blaze.daemon import address
from blaze.daemon.leashed import LeashedDaemon
from blaze.daemon.owner import owner_of
from tests.integration.workbench import PATIENCE, wait_until

from .test_pytest_plugin import CONFTEST, HEAD, ROOT, pytest_in

pytestmark = pytest.mark.skipif(not address.HAS_UNIX_SOCKETS, reason="needs Unix sockets")

#: Tells where its daemon is, and has a block that started a program of its own.
HELD = """
import os, subprocess, sys, time
from pathlib import Path

HERE = Path(__file__).parent

@blocks.block
def spawn() -> int:
    program = subprocess.Popen([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(600)"], stdout=-1)
    program.stdout.readline()
    (HERE / "spawned").write_text(str(program.pid))
    (HERE / "spawned").rename(HERE / "ready")
    time.sleep(600)
    return 1

@sequences.sequence(blocks=blocks, sequence=[SeqBlockData("spawn")])
def spawns(context):
    return context
"""

#: A test that hangs with a daemon in the middle of a run.
HANGS = """
def test_it_hangs(blaze_daemon):
    blaze_daemon(state_dir=HERE / "state").trigger("spawns")
    time.sleep(600)
"""


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (ProcessLookupError, FileNotFoundError):
        return False


#: Seconds for the start of pytest, a worker and a daemon, on a machine that has much else to do.
START = 60.0


@pytest.fixture
def begin(tmp_path):
    """A function that starts pytest on tests that hang; it returns when the daemon of the first is at work."""
    begun: List[subprocess.Popen[bytes]] = []
    yield lambda tests, *options: begin_in(tmp_path, begun, tests, *options)
    for process in begun:
        process.kill()
        process.wait(PATIENCE)


def begin_in(folder: Path, begun: List[subprocess.Popen[bytes]], tests: str, *options: str) -> subprocess.Popen[bytes]:
    (folder / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (folder / "test_etl.py").write_text(HEAD + HELD + tests, encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    with (folder / "told").open("wb") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, "test_etl.py"],
            cwd=folder,
            env={**environment, "PYTHONPATH": str(ROOT)},
            stdout=told,
            stderr=subprocess.STDOUT,
        )
    begun.append(process)
    wait_until(lambda: (folder / "ready").exists() or process.poll() is not None, "that the daemon is at work", START)
    assert process.poll() is None, (folder / "told").read_text()
    return process


def assert_all_gone(folder: Path) -> None:
    """Neither the daemon lives nor what its block has started."""
    wait_until(lambda: owner_of(folder / "state") is None, "the end of the daemon")
    program = int((folder / "ready").read_text())
    wait_until(lambda: not is_alive(program), "the end of what a block has started")


def test_a_pytest_that_is_killed_takes_its_daemon_with_it(tmp_path, begin):
    process = begin(HANGS)
    process.kill()
    process.wait(PATIENCE)
    assert_all_gone(tmp_path)


def test_it_does_not_wait_for_what_the_test_has_forked_and_left_behind(tmp_path, begin):
    fork = """
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    (HERE / "forked").write_text(str(child))
    """
    first, _, last = HANGS.partition(".trigger")
    tests = f"{first.replace('    blaze_daemon', '    daemon = blaze_daemon')}{fork}daemon.trigger{last}"
    process = begin(tests)
    process.kill()
    process.wait(PATIENCE)
    try:
        assert_all_gone(tmp_path)
    finally:
        os.kill(int((tmp_path / "forked").read_text()), signal.SIGKILL)


def test_a_worker_of_xdist_that_is_killed_takes_its_daemon_with_it(tmp_path, begin):
    tests = HANGS.replace("    blaze_daemon(", "    (HERE / 'worker').write_text(str(os.getpid()))\n    blaze_daemon(")
    process = begin(tests, "-n", "1", "--max-worker-restart", "0")
    os.kill(int((tmp_path / "worker").read_text()), signal.SIGKILL)
    assert_all_gone(tmp_path)
    process.wait(START)


def test_ctrl_c_and_the_end_of_a_test_that_failed_end_its_daemon(tmp_path, begin):
    process = begin(HANGS)
    process.send_signal(signal.SIGINT)
    process.wait(START)
    assert "KeyboardInterrupt" in (tmp_path / "told").read_text()
    assert_all_gone(tmp_path)


def test_the_report_of_a_failed_test_has_the_log_and_the_runs_of_the_daemon_and_it_is_gone_then(tmp_path):
    told = pytest_in(
        tmp_path,
        """
        from pathlib import Path

        def test_it_fails(blaze_daemon):
            daemon = blaze_daemon(state_dir=Path(__file__).parent / "state")
            (Path(__file__).parent / "pid").write_text(str(daemon.pid))
            assert daemon.run("etl", {"clean": {"rows": ["x", 7]}}).ok

        def test_it_passes(blaze_daemon):
            assert blaze_daemon().run("etl").preview == "{'clean': ['a'], 'fetch': [' a ', '']}"

        def test_a_definition_that_is_wrong_is_told(blaze_daemon):
            blaze_daemon("nowhere.py")
        """,
    )
    assert "2 failed, 1 passed" in told, told
    assert re.search("- blaze run of etl -+\netl: FAILED", told)
    assert "arguments: rows=['x', 7]" in told
    log = re.search(r"- log of the blaze daemon, which runs -+\n(.*?)\n[_=]", told, re.DOTALL)
    assert log is not None
    assert "serves" in log[1] and "etl/clean#1" in log[1] and "2 rows" in log[1]
    assert re.search(r"ValidationError: nowhere\.py: there is no such file", told)
    assert owner_of(tmp_path / "state") is None
    assert not is_alive(int((tmp_path / "pid").read_text()))


DEFINITION = """
import contextlib
import os
import blaze
from blaze import BlazeBlock, BlazeSequence, SeqBlockData

blocks, sequences = BlazeBlock(), BlazeSequence()

@blocks.block
def who() -> int:
    return os.getpid()

@blocks.block
def die(pid: int) -> int:
    os.kill(pid, 9)

@sequences.sequence(blocks, [SeqBlockData("who")])
def asks(context=None):
    return context["who"]

@sequences.sequence(blocks, [SeqBlockData("who"), SeqBlockData("die", parameters={"pid": "@who"})])
def dies(context=None):
    return context
"""


@pytest.fixture
def definition(tmp_path):
    path = tmp_path / "pipelines.py"
    path.write_text(DEFINITION)
    return path


def test_it_is_killed_started_again_restarted_and_stopped_on_one_state(blaze_daemon, definition):
    daemon = blaze_daemon(definition)
    assert daemon.run("asks").preview == str(daemon.pid)
    pids = {daemon.pid}
    daemon.kill()
    assert daemon.pid is None and owner_of(daemon.state_dir) is None
    daemon.start()
    pids.add(daemon.pid)
    assert daemon.start() is daemon and daemon.pid in pids
    daemon.restart()
    pids.add(daemon.pid)
    assert len(pids) == 3
    assert daemon.run("asks").ok
    assert len(daemon.state.runs()) == 2
    daemon.stop()
    daemon.inspect("last").assert_completed().assert_ran("who")
    assert daemon.log().count("serves") == 3


def test_one_that_died_by_itself_says_so_and_goes_on_when_it_is_started(blaze_daemon, definition):
    daemon = blaze_daemon(definition)
    with contextlib.suppress(NoDaemon):  # it may die before it has answered
        daemon.trigger("dies")
    wait_until(lambda: daemon.pid is None, "the death of the daemon")
    ((title, text),) = daemon.sections()
    assert title == "log of the blaze daemon, which ended with status -9"
    assert "serves" in text
    daemon.start()
    daemon.state.find_run("last")


def test_it_works_without_pytest(definition, tmp_path):
    with LeashedDaemon(definition, tmp_path / "state") as daemon:
        pid = daemon.pid
        assert daemon.run("asks").preview == str(pid)
    assert daemon.pid is None and not is_alive(pid)


def test_one_that_dies_before_it_serves_is_told_with_what_it_wrote(definition, tmp_path):
    definition.write_text("import os, sys\nsys.stderr.write('no way\\n')\nsys.stderr.flush()\nos._exit(3)\n")
    with pytest.raises(Exception, match=r"(?s)died before it served.*no way"):
        LeashedDaemon(definition, tmp_path / "state")
