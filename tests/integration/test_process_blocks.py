"""Blocks in child processes, with real children, signals and crashes."""

import importlib.util
import io
import logging
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from blaze.core.do import processes
from blaze.core.do.processes import ChildPool
from blaze.core.ground.context import RunInfo, StepContext
from blaze.core.ground.errors import BlazeError, BlockCrashed, Retry
from tests.integration import process_blocks as blocks
from tests.integration.doomed import is_gone
from tests.integration.workbench import wait_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="process blocks need POSIX")

ROOT = Path(__file__).resolve().parents[2]
LINUX = sys.platform == "linux"


def step(name="load", attempt=1, **more):
    return StepContext(RunInfo("run1", "etl", 1_700_000_000.0, "job1"), name, attempt, **more)


def children():
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()


@pytest.fixture(scope="module")
def shared():
    """One pool for all the tests that leave their child in order: most of them share one child."""
    pool = ChildPool()
    yield pool
    pool.close(5)


@pytest.fixture
def pool():
    pool = ChildPool()
    yield pool
    pool.close(0)


class Running:
    """An attempt under way in a thread; ``pid`` is what its block logged when it had started."""

    def __init__(self, pool, block, **kwargs):
        self.context, self.error, self.result, self.pid = step(on_log=self._heard), None, None, None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(pool, block, kwargs))
        self._thread.start()

    def _run(self, pool, block, kwargs):
        try:
            self.result = pool.run(block, kwargs, self.context)
        except BaseException as error:
            self.error = error

    def _heard(self, context, record):
        self.pid = int(record.getMessage().split()[1])
        self._started.set()

    def started(self):
        assert self._started.wait(10)
        return self

    def ended(self, seconds=10):
        self._thread.join(seconds)
        assert not self._thread.is_alive()
        return self


# -- what goes in and comes out


def test_the_output_arrives_as_the_bytes_that_the_child_made_and_as_a_value(shared):
    result = shared.run(blocks.rows, {"number": 2}, step())
    assert pickle.loads(result.pickled) == result.value == [blocks.Row("0", 0.0), blocks.Row("1", 0.5)]
    assert result.pickled[:2] == b"\x80\x05"
    assert result.value is result.value


def test_a_block_sees_its_run_through_current(shared):
    assert shared.run(blocks.about, {}, step("s", 3, deadline=1_800_000_000.0)).value == (
        "run1",
        "etl",
        "s",
        3,
        datetime.fromtimestamp(1_800_000_000, timezone.utc),
        datetime.fromtimestamp(1_700_000_000, timezone.utc),
        "run1:s",
        "job1",
        False,
    )


def test_a_context_that_works_out_its_deadline_is_asked_for_it(shared):
    class Attempt(StepContext):
        deadline = datetime(2030, 1, 1, tzinfo=timezone.utc)

        def __init__(self):
            self.info, self.step, self.attempt, self._asked, self._on_log = RunInfo("r", "s"), "load", 1, None, None

    assert shared.run(blocks.about, {}, Attempt()).value[4] == Attempt.deadline


def test_children_are_reused(shared):
    assert shared.run(blocks.pid, {}, step()).value == shared.run(blocks.pid, {}, step()).value != os.getpid()


def test_a_hundred_megabytes_pass_in_both_directions(shared):
    size = 100_000_000
    assert shared.run(blocks.length, {"value": bytes(size)}, step()).value == size
    assert len(shared.run(blocks.zeros, {"size": size}, step()).value) == size


@pytest.mark.parametrize("kind", ["a generator", "a lock", "a nested lock"])
def test_an_output_that_cannot_be_pickled_is_told_by_its_type(shared, kind):
    shown = "a dict" if "nested" in kind else f"a .*{kind[2:]}"
    with pytest.raises(BlazeError, match=f"output of block 'load', {shown}.*must return something picklable"):
        shared.run(blocks.make, {"kind": kind}, step())


def test_an_output_that_cannot_be_read_back_is_told_when_it_is_read(shared):
    result = shared.run(blocks.make, {"kind": "only here"}, step())
    with pytest.raises(BlazeError, match=r"output of block 'load'.*RuntimeError: the wrong process"):
        _ = result.value


def test_what_cannot_go_is_refused_before_anything_starts(pool):
    def nested():
        pass

    before = children() if LINUX else None
    for block in (nested, lambda: None):
        with pytest.raises(BlazeError, match="define it at module level"):
            pool.run(block, {}, step())
    with pytest.raises(BlazeError, match=r"parameter 'value' of block 'load', a .*lock, can't go"):
        pool.run(blocks.echo, {"value": threading.Lock()}, step())
    assert (children() if LINUX else None) == before


def test_a_warm_child_follows_the_directory_and_the_environment(shared, tmp_path, monkeypatch):
    shared.run(blocks.pid, {}, step())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLAZE_TEST_PLACE", "here")
    monkeypatch.syspath_prepend(str(tmp_path / "more"))
    assert shared.run(blocks.place, {}, step()).value == (str(tmp_path.resolve()), "here", sys.path, sys.argv)
    monkeypatch.undo()
    assert shared.run(blocks.place, {}, step()).value == (os.getcwd(), None, sys.path, sys.argv)


def test_a_process_block_may_run_process_blocks(shared):
    outer, number, inner = shared.run(blocks.run_a_pool_inside, {"number": 5}, step()).value
    assert number == 5
    assert len({outer, inner, os.getpid()}) == 3


# -- how a block fails


@pytest.mark.parametrize("kind", ["KeyError", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "EOFError", "Frozen"])
def test_an_exception_keeps_its_type_and_brings_its_traceback_and_the_child_lives_on(shared, kind):
    child = shared.run(blocks.pid, {}, step()).value
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        shared.run(blocks.fail, {"kind": kind, "arguments": (3,)}, step())
    assert type(caught.value).__name__ == kind
    assert caught.value.args == (3,)
    text = caught.value.blaze_traceback
    assert "in throw" in text and "child_main" not in text
    assert text in str(caught.value.__cause__)
    assert shared.run(blocks.pid, {}, step()).value == child


@pytest.mark.parametrize(("kind", "arguments"), [("TwoArguments", (5, "no")), ("HoldsALock", ("5: no",))])
def test_an_exception_that_cannot_cross_is_told_by_name_message_and_traceback(shared, kind, arguments):
    with pytest.raises(BlazeError, match=f"{kind}: 5: no") as caught:
        shared.run(blocks.fail, {"kind": kind, "arguments": arguments}, step())
    assert "in throw" in caught.value.blaze_traceback


def test_a_request_for_a_retry_keeps_its_delay(shared):
    with pytest.raises(Retry, match="later") as caught:
        shared.run(blocks.fail_with_retry, {}, step())
    assert caught.value.delay == 7.5


def test_endless_recursion_is_a_failure_like_any_other(shared):
    with pytest.raises(RecursionError) as caught:
        shared.run(blocks.fail_by_recursion, {}, step())
    assert len(caught.value.blaze_traceback) < 70_000


@pytest.mark.parametrize(
    ("block", "kwargs", "story"),
    [
        ("log_then_exit", {"status": 3}, "died: exited with status 3"),
        ("shoot", {"number": signal.SIGKILL}, "died: killed by signal SIGKILL; not by Blaze: .*memory"),
        ("leave_a_fork_and_die", {}, "died: exited with status 4"),
    ],
)
def test_a_dead_child_is_told_by_status_or_signal_and_replaced(shared, block, kwargs, story):
    heard = []
    context = step(on_log=lambda context, record: heard.append(record.getMessage()))
    child = shared.run(blocks.pid, {}, step()).value
    with pytest.raises(BlockCrashed, match=f"the process of block 'load' {story}"):
        shared.run(getattr(blocks, block), kwargs, context)
    assert heard == (["last words"] if block == "log_then_exit" else [])
    assert shared.run(blocks.pid, {}, step()).value != child


def test_a_segmentation_fault_shows_on_stderr_where_it_was(pool, capfd):
    with pytest.raises(BlockCrashed, match="died: killed by signal SIGSEGV"):
        pool.run(blocks.segfault, {}, step())
    assert "in segfault" in capfd.readouterr().err


def test_a_block_that_closes_all_files_does_not_hang_the_run(pool, monkeypatch):
    monkeypatch.setattr("blaze.core.do.child.EXIT_SECONDS", 0.1)
    with pytest.raises(BlockCrashed):
        pool.run(blocks.close_everything, {}, step())


def test_an_idle_child_that_died_is_replaced(pool):
    child = pool.run(blocks.pid, {}, step()).value
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert pool.run(blocks.pid, {}, step()).value != child


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_for_the_whole_terminal_or_service_leave_children_alone(shared, number):
    assert shared.run(blocks.shoot, {"number": number}, step()).value == "survived"


def test_programs_and_forks_that_a_block_starts_obey_signals(shared):
    assert shared.run(blocks.signal_of_a_program, {}, step()).value == [-signal.SIGTERM, -signal.SIGINT]
    assert shared.run(blocks.use_a_fork_pool, {}, step()).value == [1, 2]


def test_a_forgotten_alarm_does_not_hit_the_next_block(shared):
    shared.run(blocks.leave_an_alarm, {}, step())
    assert shared.run(blocks.nap, {"seconds": 0.1}, step()).value == "slept"


# -- kill


@pytest.mark.parametrize("block", ["sleep", "spin", "hold_the_gil", "start_a_program", "start_a_fork"])
def test_kill_ends_the_block_and_all_it_started_at_once(pool, block):
    attempt = Running(pool, getattr(blocks, block)).started()
    killed_at = time.monotonic()
    assert pool.kill(attempt.context)
    attempt.ended()
    assert time.monotonic() - killed_at < 1.0
    assert isinstance(attempt.error, BlockCrashed)
    assert "killed by Blaze" in str(attempt.error)
    wait_until(lambda: is_gone(attempt.pid), seconds=1.0)
    assert not pool.kill(attempt.context)


def test_kill_ends_a_child_that_is_still_starting(pool):
    attempt = Running(pool, blocks.sleep)
    wait_until(lambda: pool.kill(attempt.context))
    attempt.ended(5)
    assert isinstance(attempt.error, BlockCrashed)


def test_a_stop_that_comes_before_the_child_is_chosen_is_not_lost(shared):
    child = shared.run(blocks.pid, {}, step()).value
    context = step()
    context._asked = "timeout"
    assert not shared.kill(context)
    with pytest.raises(BlockCrashed, match="stopped before it started"):
        shared.run(blocks.sleep, {}, context)
    assert shared.run(blocks.pid, {}, step()).value == child


def test_kill_of_an_attempt_that_does_not_run_says_so(shared):
    context = step()
    assert not shared.kill(context)
    shared.run(blocks.pid, {}, context)
    assert not shared.kill(context)


def test_kills_that_race_with_results_leave_only_results_crashes_and_sound_children(pool):
    outcomes = {"value": 0, "crash": 0}
    for turn in range(20):
        context = step()
        killer = threading.Timer(0.0003 * (turn % 10), pool.kill, (context,))
        killer.start()
        try:
            assert pool.run(blocks.echo, {"value": turn}, context).value == turn
            outcomes["value"] += 1
        except BlockCrashed:
            outcomes["crash"] += 1
        killer.join()
    assert sum(outcomes.values()) == 20


# -- progress and logs


def test_progress_arrives_while_the_block_runs(shared, tmp_path):
    class Watched(StepContext):
        def progress(self, done, total=None):
            super().progress(done, total)
            if (done, total) == (2, 3):
                (tmp_path / "seen").touch()  # the block waits for this file

    shared.run(blocks.tell_progress_and_wait, {"path": str(tmp_path / "seen")}, Watched(RunInfo("r", "s"), "load", 1))


def test_the_last_progress_is_never_lost(shared):
    context = step()
    shared.run(blocks.count_up, {"to": 20_000}, context)
    assert context._progress == (20_000, 20_000)


def test_log_records_reach_on_log_and_the_loggers_of_the_parent(shared):
    heard = []
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger(blocks.__name__)
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR)
    try:
        shared.run(blocks.log_many, {}, step("s", 2, on_log=lambda context, record: heard.append(record)))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    assert [record.getMessage() for record in heard] == [
        "plain words",
        "kept apart",
        "own logger",
        "with a traceback",
        "from a thread",
    ]
    for record in heard:
        assert (record.run_id, record.seq_id, record.step, record.attempt) == ("run1", "etl", "s", 2)
        assert record.process != os.getpid()
    assert (heard[1].name, heard[1].levelno, heard[1].rows) == ("quiet.family", logging.WARNING, 3)
    assert heard[1].who == "Row(key='a', amount=1.0)"
    assert heard[2].name == "blaze.run.etl.s"
    assert "ZeroDivisionError" in heard[3].exc_text
    assert stream.getvalue().startswith("with a traceback\nTraceback")


def test_what_a_block_prints_is_kept_if_it_is_to_be_and_printed_once(capfd):
    pool, heard = ChildPool(keeps_prints=True), []

    def hear(context, record):
        heard.append((record.name, record.levelname, record.getMessage(), record.step))

    try:
        for last in ("first", "second"):
            pool.run(blocks.print_and_log, {"last": last}, step(on_log=hear))
    finally:
        pool.close(5)
    assert [one for one in heard if one[2] in ("first", "second")] == [
        ("blaze.print", "INFO", "first", "load"), ("blaze.print", "INFO", "second", "load")
    ]  # fmt: skip
    assert heard[:3] == [
        ("blaze.print", "INFO", "a line", "load"), ("blaze.print", "WARNING", "a problem", "load"),
        (blocks.__name__, "WARNING", "logged", "load"),
    ]  # fmt: skip
    assert len(heard) == 8
    printed = capfd.readouterr()
    assert printed.out == "a line\nfirsta line\nsecond" and printed.err.count("a problem") == 2


def test_what_a_block_prints_is_not_kept_if_nobody_asked_for_it(shared):
    heard = []
    shared.run(
        blocks.print_and_log, {"last": ""}, step(on_log=lambda context, record: heard.append(record.getMessage()))
    )
    assert heard == ["logged"]


def test_the_filters_of_the_parents_logger_see_the_records_before_anybody_keeps_them(shared):
    heard, logger = [], logging.getLogger(blocks.__name__)

    def redact(record):
        record.msg, record.args = record.getMessage().replace("words", "***"), ()
        return "traceback" not in record.msg

    logger.addFilter(redact)
    try:
        shared.run(blocks.log_many, {}, step(on_log=lambda context, record: heard.append(record.getMessage())))
    finally:
        logger.removeFilter(redact)
    # Filters of a logger are for what is logged with it, as everywhere in logging.
    assert heard == ["plain ***", "kept apart", "own logger", "from a thread"]


def test_logs_survive_a_block_that_configures_logging(pool):
    heard = []
    pool.run(blocks.configure_logging_and_log, {}, step(on_log=lambda _, record: heard.append(record.getMessage())))
    assert heard == ["after dictConfig"]


def test_a_listener_that_fails_does_not_fail_the_block(shared, capsys):
    shared.run(blocks.log_many, {}, step(on_log=lambda context, record: 1 / 0))
    assert "ZeroDivisionError" in capsys.readouterr().err


# -- what is kept, and what is left


def test_idle_children_that_are_old_or_too_many_are_ended(pool, monkeypatch):
    for limit, value in (("IDLE_SECONDS", -1.0), ("MAX_IDLE", 0)):
        child = pool.run(blocks.pid, {}, step()).value
        with monkeypatch.context() as patched:
            patched.setattr(processes, limit, value)
            assert pool.run(blocks.pid, {}, step()).value == child
        wait_until(lambda: is_gone(child))  # noqa: B023
    assert pool.run(blocks.pid, {}, step()).value != child


def test_close_lets_idle_children_run_their_exit_handlers_and_kills_what_still_runs(tmp_path):
    pool = ChildPool()
    busy = Running(pool, blocks.sleep).started()
    pool.run(blocks.write_at_exit, {"path": str(tmp_path / "exited")}, step())
    idle = pool.run(blocks.pid, {}, step()).value
    pool.close(0.2)
    busy.ended(1)
    assert isinstance(busy.error, BlockCrashed)
    assert (tmp_path / "exited").exists()
    assert is_gone(idle) and is_gone(busy.pid)
    with pytest.raises(BlazeError, match="closed"):
        pool.run(blocks.pid, {}, step())
    pool.close(0)


def test_close_waits_for_an_attempt_that_ends_in_time(pool):
    attempt = Running(pool, blocks.sleep_and_return, seconds=0.1).started()
    pool.close(5)
    assert attempt.ended().result.value == "slept"


@pytest.mark.skipif(not LINUX, reason="reads /proc")
def test_two_hundred_calls_and_kills_leave_no_file_thread_or_process_behind():
    def census():
        return len(os.listdir("/proc/self/fd")), threading.active_count(), sorted(children())

    before = census()
    pool = ChildPool()
    for _ in range(4):
        attempt = Running(pool, blocks.sleep).started()
        pool.kill(attempt.context)
        attempt.ended()
    for number in range(196):
        assert pool.run(blocks.echo, {"value": number}, step()).value == number
    pool.close(5)
    assert census() == before


@pytest.mark.skipif(not LINUX, reason="reads /proc")
def test_a_child_holds_no_file_but_its_two_ends(pool, tmp_path):
    with open(tmp_path / "x", "w") as file:
        os.set_inheritable(file.fileno(), True)
        Running(pool, blocks.sleep).started()  # nor those of the child before
        assert pool.run(blocks.open_fds, {}, step()).value == {"socket": 1, "pipe": 1}
    pool.close(0)


# -- scripts: where blocks are defined, and how the host program lives and dies

PRELUDE = """
import os, signal, sys, threading, time
from dataclasses import dataclass
from blaze.core.do.processes import ChildPool
from blaze.core.ground.context import RunInfo, StepContext
def step(on_log=None): return StepContext(RunInfo("r", "s"), "load", 1, on_log=on_log)
"""

MAIN = """
import logging
@dataclass
class Row:
    key: str
    class Inner: pass
def block(row):
    logging.getLogger(__name__).info("said by %s", __name__)
    return Row(row.key + "!"), Row.Inner()
def go():
    said = []
    pool = ChildPool()
    result = pool.run(block, {"row": Row("a")}, step(lambda context, record: said.append((record.name, record.msg))))
    pool.close(5)
    assert b"__mp_main__" not in result.pickled
    print(result.value[0], type(result.value[1]) is Row.Inner, said)
"""


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}


def python(*arguments, cwd=None, **more):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=cwd,
        timeout=20,
        **more,
    )


def script(folder, *parts, name="script.py"):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([PRELUDE, *map(textwrap.dedent, parts)]))
    return path


def test_blocks_and_types_of_a_guarded_script_cross_in_both_directions(tmp_path):
    path = script(tmp_path, MAIN, 'if __name__ == "__main__": go()')
    done = python(path)
    assert (done.stdout, done.stderr) == ("Row(key='a!') True [('__main__', 'said by __mp_main__')]\n", "")


def test_blocks_of_a_module_that_runs_with_dash_m_cross(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "other.py").write_text("suffix = 1")
    script(tmp_path, "from .other import suffix", MAIN, 'if __name__ == "__main__": go()', name="package/etl.py")
    done = python("-m", "package.etl", cwd=tmp_path)
    assert done.stdout.startswith("Row(key='a!') True"), done.stderr


def test_an_unguarded_script_is_told_to_use_the_guard_and_runs_once(tmp_path):
    done = python(script(tmp_path, MAIN, 'print("once", flush=True); go(); print("never")'))
    assert 'put the calls under if __name__ == "__main__":' in done.stderr.splitlines()[-1]
    assert "BlazeError: block 'load'" in done.stderr
    assert "script.py" in done.stderr and "go(); print" in done.stderr
    assert done.stdout.count("never") == 0


@pytest.mark.parametrize("how", ["-c", "stdin"])
def test_a_block_without_a_file_is_refused_with_advice(how):
    text = PRELUDE + "def block(): pass\nChildPool().run(block, {}, step())"
    done = python("-c", text) if how == "-c" else python("-", input=text)
    assert "interactive session" in done.stderr.splitlines()[-1]
    assert "put it in a module" in done.stderr.splitlines()[-1]


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_a_module_that_was_loaded_from_a_path_works_and_works_again_after_a_change(pool, tmp_path):
    path = tmp_path / "definition.py"
    try:
        path.write_text("def version(): return 1\n")
        first = load(path, "loaded_by_path")
        assert pool.run(first.version, {}, step()).value == 1
        path.write_text("def version(): return 'two'\n")
        second = load(path, "loaded_by_path")
        assert pool.run(second.version, {}, step()).value == "two"
    finally:
        sys.modules.pop("loaded_by_path", None)


def test_a_module_that_fails_in_the_child_is_told_with_its_error(pool, tmp_path):
    path = tmp_path / "definition.py"
    path.write_text(f"import os\nassert os.getpid() == {os.getpid()}, 'not here'\ndef block(): pass\n")
    try:
        with pytest.raises(BlazeError, match="block 'load' can't be loaded in its process: AssertionError") as caught:
            pool.run(load(path, "picky").block, {}, step())
        assert "definition.py" in caught.value.blaze_traceback
    finally:
        sys.modules.pop("picky", None)


@pytest.mark.skipif(not LINUX, reason="reads /proc")
def test_nothing_outlives_a_parent_that_is_killed_whatever_its_blocks_do(tmp_path):
    path = script(
        tmp_path,
        """
        from tests.integration import process_blocks as blocks
        def say(text): os.write(1, (text + "\\n").encode())  # whole lines, whichever thread
        pool = ChildPool(on_log=lambda _, record: say(record.msg))
        for block in (blocks.sleep, blocks.spin, blocks.hold_the_gil, blocks.start_a_program):
            threading.Thread(target=pool.run, args=(block, {}, step()), daemon=True).start()
        # This child was started by a thread that has ended: the parent's life counts, not the thread's.
        thread = threading.Thread(target=lambda: say(f"idle {pool.run(blocks.pid, {}, step()).value}"))
        thread.start()
        thread.join()
        say(f"started {pool.run(blocks.pid, {}, step()).value}")
        time.sleep(60)
        """,
    )
    with subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, env=environment(), text=True) as host:
        started = [int(host.stdout.readline().split()[1]) for _ in range(6)]
        assert len(set(started)) == 5
        assert not any(map(is_gone, started))
        host.kill()
        for pid in started:
            wait_until(lambda: is_gone(pid), f"the death of {pid}", seconds=1.0)  # noqa: B023


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_fork_of_the_host_neither_uses_nor_harms_nor_keeps_its_children(tmp_path):
    path = script(
        tmp_path,
        """
        from tests.integration import process_blocks as blocks
        started, pool = threading.Event(), ChildPool()
        first = pool.run(blocks.pid, {}, step()).value
        running = step(lambda *_: started.set())
        threading.Thread(target=lambda: pool.run(blocks.sleep, {}, running), daemon=True).start()
        started.wait(10)
        sockets = lambda: sum("socket" in os.readlink(f"/proc/self/fd/{fd}")
                              for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}"))
        forked = os.fork()
        if forked == 0:
            assert sockets() == 0
            assert not pool.kill(running)
            other = pool.run(blocks.pid, {}, step()).value
            pool.close(5)
            print(other != first, flush=True)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 7
        assert pool.kill(running)
        print(pool.run(blocks.echo, {"value": "sound"}, step()).value)
        pool.close(5)
        """.replace("sockets() == 0", "sockets() == 0" if LINUX else "True"),
    )
    done = python("-W", "ignore::DeprecationWarning", path)
    assert done.stdout.split() == ["True", "sound"], done.stderr


def test_ctrl_c_in_the_thread_that_waits_takes_the_child_along(tmp_path):
    path = script(
        tmp_path,
        """
        from tests.integration import process_blocks as blocks
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's "&" has it ignored
        pool = ChildPool()
        seen = []
        def interrupt(_, record):
            seen.append(int(record.getMessage().split()[1]))
            threading.Timer(0, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            pool.run(blocks.sleep, {}, step(interrupt))
        except KeyboardInterrupt:
            try:
                os.kill(seen[0], 0)
            except ProcessLookupError:
                print("gone", pool.run(blocks.echo, {"value": "and replaced"}, step()).value)
        pool.close(5)
        """,
    )
    done = python(path)
    assert (done.stdout, done.stderr) == ("gone and replaced\n", "")


def test_a_host_that_closed_its_standard_streams_and_ignores_sigchld_can_run_blocks(tmp_path):
    path = script(
        tmp_path,
        """
        from tests.integration import process_blocks as blocks
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        os.closerange(0, 3)
        pool = ChildPool()
        value = pool.run(blocks.signal_of_a_program, {}, step()).value
        try:
            pool.run(blocks.log_then_exit, {"status": 3}, step())
        except Exception as error:
            value.append(type(error).__name__)
        pool.close(5)
        open(sys.argv[1], "w").write(str(value))
        """,
    )
    python(path, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "[-15, -2, 'BlockCrashed']"


def test_a_host_that_ends_without_close_leaves_nothing_and_says_nothing(tmp_path):
    path = script(
        tmp_path,
        """
        from tests.integration import process_blocks as blocks
        pool = ChildPool()
        print(pool.run(blocks.pid, {}, step()).value)
        """,
    )
    done = python("-X", "dev", "-W", "ignore::ResourceWarning", path)
    assert done.stderr == ""
    wait_until(lambda: is_gone(int(done.stdout)), seconds=1.0)


def test_nothing_is_imported_for_processes_before_the_first_block(tmp_path):
    path = script(
        tmp_path,
        """
        pool = ChildPool()
        print([name for name in ("subprocess", "socket", "multiprocessing") if name in sys.modules])
        """,
    )
    assert python(path).stdout == "[]\n"
