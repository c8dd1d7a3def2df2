"""The commands that change something: the daemon's life, jobs, and runs in it, as a user types them."""

from __future__ import annotations

import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from blaze import Blaze
from blaze.cli.main import main
from blaze.core.state import StateManager
from blaze.daemon import address
from blaze.daemon.definition import load_definition
from blaze.daemon.manager import ENDS_WITH_MAIN
from blaze.daemon.owner import owner_of
from tests.integration.daemons import DEFINITION, Site
from tests.integration.workbench import PATIENCE, wait_until

pytestmark = pytest.mark.skipif(not address.HAS_UNIX_SOCKETS, reason="needs Unix sockets")


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BLAZE_STATE_DIR", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))  # what 'restart' loads to check it is forgotten after the test
    site = Site(tmp_path)
    yield site
    site.reap()
    sys.modules.pop("definition", None)


@pytest.fixture
def blazed(capsys):
    """Run a command line in this process: its exit status, stdout and stderr."""

    def run(*arguments):
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


@pytest.fixture
def serving(site, blazed):
    """A daemon that was started as a user does it."""
    status, out, err = blazed("start", "--name", "my-etl", "--detach")
    assert (status, out) == (0, "") and err.startswith("my-etl-") and f"serves {site.state_dir} (PID " in err
    return site


def job_file(site, *jobs):
    path = site.folder / "jobs.json"
    path.write_text(json.dumps(jobs))
    return path


YEARLY = {"seq_id": "one", "seq_run_interval": "@yearly", "timezone": "UTC"}


# ---------------------------------------------------------------------- the life of a daemon


def test_start_on_a_running_daemon_says_so_and_is_fine(serving, blazed):
    for flags in ((), ("--detach",)):
        status, out, err = blazed("start", *flags)
        assert (status, out) == (0, "") and "serves" in err and "already" in err
    status, out, _ = blazed("start", "--json")
    assert status == 0 and json.loads(out)["already"] and json.loads(out)["pid"] == owner_of(serving.state_dir).pid


def test_a_verbose_status_tells_what_is_wrong_with_the_daemon(serving, blazed):
    """R67: "status shows lateness, missed, leaked threads, wal size, last error, versions"."""
    told = json.loads(blazed("status", "--verbose", "--json")[1])
    assert told["missed"] == 0 and (told["health"]["ok"], told["health"]["leaked_threads"]) == (True, 0)
    assert "all is well" in blazed("status", "--verbose")[1]
    assert blazed("jobs", "submit", "--job-file", job_file(serving, YEARLY))[0] == 0
    serving.definition.write_text(DEFINITION.replace("def one(", "def another("))
    assert blazed("reload")[0] == 0
    with sqlite3.connect(serving.state_dir / "blaze.db") as connection:
        connection.execute("UPDATE jobs SET next_at = 1")  # it is due, and its sequence is gone
    connection.close()
    wait_until(lambda: "1 jobs are BROKEN" in blazed("status", "--verbose")[1], "that it is told", 30)
    assert blazed("stop")[0] == 0
    assert json.loads(blazed("status", "--verbose", "--json")[1])["health"] is None


def test_stop_and_stop_again(serving, blazed):
    status, out, err = blazed("stop")
    assert (status, out) == (0, "") and err.startswith("my-etl-") and "has stopped" in err
    assert owner_of(serving.state_dir) is None
    status, out, err = blazed("stop")
    assert (status, out, err) == (0, "", f"no daemon serves {serving.state_dir}\n")


def test_a_daemon_whose_definition_blocks_is_told_of_and_how_to_end_it(site, blazed, monkeypatch):
    """R64: "blocks at import"."""
    site.definition.write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr("blaze.daemon.remote.connect.__defaults__", (None, 0.1))
    starting = site.popen("-m", "blaze", "start", stderr=subprocess.DEVNULL)
    wait_until(lambda: owner_of(site.state_dir) is not None and owner_of(site.state_dir).pid, "its lock")
    assert f"A daemon is starting (PID {starting.pid}) and does not serve yet" in blazed("status")[1]
    assert json.loads(blazed("status", "--json")[1])["starting"] == {"pid": starting.pid}
    status, _, err = blazed("stop")
    assert status == 6 and f"wait until it serves, or end it with 'kill {starting.pid}'" in err
    status, _, err = blazed("start")
    assert status == 0 and "just starting" in err
    starting.terminate()
    starting.wait(PATIENCE)
    assert blazed("status")[1].startswith("No scheduler is running")


@pytest.mark.parametrize("flags", [(), ("--shutdown", "--yes")])
def test_a_stop_while_another_one_is_under_way_waits_for_it(serving, blazed, flags):
    """It answers nobody any more, and ends when its block has had its grace time."""
    blazed("trigger", "two")
    wait_until(lambda: len(serving.witness) == 2, "the block")
    other = serving.popen("-m", "blaze", "stop", stderr=subprocess.PIPE)
    wait_until(lambda: not (serving.state_dir / "daemon.sock").exists(), "that it stops")
    serving.go()
    assert blazed("stop", *flags)[0] == 0
    assert other.wait(PATIENCE) == 0 and owner_of(serving.state_dir) is None
    assert (serving.state_dir / "blaze.db").exists() is not bool(flags)


def test_a_start_that_fails_says_where_and_leaves_nothing_behind(site, blazed):
    for text, what in (
        ("x = [\n", "definition.py:1"),
        ("import sys\nsys.exit(0)\n", "SystemExit"),
        ("x = 1\n", "no BlazeSequence"),
    ):
        site.definition.write_text(text)
        for flags in ((), ("--detach",)):
            status, out, err = blazed("start", *flags)
            assert (status, out) == (3, "") and what in err and "Traceback" not in err
            assert not site.state_dir.exists()
    assert blazed("start", "--definition", "nowhere.py")[0] == 3
    assert blazed("start", "--workers", "0")[0] == 2


def test_a_state_directory_that_is_not_safe_is_refused(site, blazed):
    site.state_dir.mkdir()
    site.state_dir.chmod(0o777)
    for flags in ((), ("--detach",)):
        status, out, err = blazed("start", *flags)
        assert (status, out) == (6, "") and "others may write" in err


def test_whoever_starts_it_in_the_background_is_told_what_does_not_start_by_itself(site, blazed):
    site.definition.write_text(
        DEFINITION.replace('word: str = "noted"', "word: str").replace(
            '[SeqBlockData("note")])', '[SeqBlockData("note")], auto_start=True)'
        )
    )
    status, _, err = blazed("start", "--detach")
    assert status == 0 and "warning: 'one' is not started automatically: " in err
    assert "parameter 'word' of block 'note'" in err + site.log() and "serves" in err


def test_the_foreground_daemon_stops_softly_at_ctrl_c(site):
    with open(site.folder / "err", "w+") as err:
        process = site.popen("-m", "blaze", "start", "--json", stdout=subprocess.PIPE, stderr=err, text=True)
        told = json.loads(process.stdout.readline())
        assert told["pid"] == process.pid == owner_of(site.state_dir).pid
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        err.seek(0)
        assert "has stopped" in err.read()


def test_restart_keeps_the_settings_that_are_not_given(serving, blazed):
    before = owner_of(serving.state_dir)
    status, out, _err = blazed("restart", "--workers", "3", "--json")
    told = json.loads(out)
    assert status == 0 and told["instance"].startswith("my-etl-") and told["pid"] != before.pid
    with serving.connect() as daemon:
        assert daemon.status().workers == 3
        assert daemon.client.call("ping")["settings"]["definition"] == str(serving.definition)


def test_a_restart_with_a_definition_that_fails_leaves_the_daemon_running(serving, blazed):
    before = owner_of(serving.state_dir)
    serving.definition.write_text("1 / 0\n")
    status, _, err = blazed("restart")
    assert status == 3 and "definition.py:1: ZeroDivisionError" in err
    assert owner_of(serving.state_dir) == before


def test_files_in_the_current_directory_take_no_modules_place_and_what_others_may_write_is_told(site, blazed):
    for name in ("socketserver.py", "blaze.py", "sqlite3.py"):
        (site.folder / name).write_text("raise SystemExit('imported')\n")
    site.definition.chmod(0o666)
    status, _, err = blazed("start", "--detach")
    assert status == 0 and "others may write to" in err and "serves" in err


def test_restart_without_a_daemon_starts_one(site, blazed):
    status, _, err = blazed("restart")
    assert status == 0 and "no daemon was running" in err and "serves" in err


def test_reload_tells_what_changed_or_why_not(serving, blazed):
    serving.definition.write_text(DEFINITION.replace("def two(", "def three("))
    status, _, err = blazed("reload")
    assert status == 0 and "2 sequences (new: three; gone: two)" in err
    serving.definition.write_text("oops(\n")
    status, _out, err = blazed("reload")
    assert status == 3 and "definition.py:1" in err
    assert blazed("trigger", "one", "--wait")[0] == 0


def test_what_needs_a_daemon_says_that_there_is_none(site, blazed):
    for command in (
        ("reload",),
        ("trigger", "one"),
        ("cancel", "last"),
        ("retry", "last"),
        ("pause",),
        ("resume", "x"),
        ("jobs", "clear"),
    ):
        status, out, err = blazed(*command)
        assert (status, out) == (5, "") and "no daemon serves" in err, command
    assert not site.state_dir.exists()


def test_drain_waits_for_runs_and_a_stop_that_takes_too_long_is_told(serving, blazed):
    blazed("trigger", "two")
    wait_until(lambda: len(serving.witness) == 2, "the block")
    status, _, err = blazed("stop", "--drain", "--timeout", "0.1")
    assert status == 7 and "has not stopped after 0.1 s" in err
    serving.go()
    with StateManager(serving.state_dir) as state:  # a stop that does not drain would suspend it before its end
        wait_until(lambda: state.find_run("last").status.value == "COMPLETED", "the end of the run")
    assert blazed("stop")[0] == 0


def test_shutdown_clears_jobs_and_history_and_says_how_to_get_them_back(serving, blazed):
    blazed("jobs", "submit", "--job-file", job_file(serving, YEARLY))
    blazed("trigger", "one", "--wait")
    status, _out, err = blazed("stop", "--shutdown")
    assert status == 0 and "this clears 1 job, the history of 1 sequence" in err
    (archive,) = (serving.state_dir / "archive").iterdir()
    command = next(line.strip() for line in err.splitlines() if line.strip().startswith("mv "))
    assert not (serving.state_dir / "blaze.db").exists()
    subprocess.run(command, shell=True, check=True)
    with StateManager(serving.state_dir) as state:
        assert [job.job_id for job in state.jobs()] == ["one"]
        assert len(state.runs()) == 1
    assert list(archive.iterdir()) == []
    status, _, err = blazed("stop", "--shutdown", "--yes")  # no daemon: the state is cleared all the same
    assert status == 0 and "no daemon serves" in err and not (serving.state_dir / "blaze.db").exists()


@pytest.mark.parametrize(("answer", "cleared"), [("n", False), ("", False), ("y", True)])
def test_on_a_terminal_shutdown_asks_first(serving, answer, cleared):
    ours, theirs = pty.openpty()
    process = serving.popen("-m", "blaze", "stop", "--shutdown", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    told = b""
    while b"[y/N]" not in told:
        told += os.read(ours, 4096)
    os.write(ours, f"{answer}\n".encode())
    assert process.wait(PATIENCE) == 0
    os.close(ours)
    assert (owner_of(serving.state_dir) is None) is cleared
    assert (serving.state_dir / "archive").exists() is cleared


# ---------------------------------------------------------------------- jobs


def test_jobs_are_submitted_paused_resumed_and_removed(serving, blazed):
    status, out, err = blazed("jobs", "submit", "--job-file", job_file(serving, YEARLY))
    assert status == 0 and "one" in out and err == "1 job submitted\n"
    assert "is paused" in blazed("pause", "one")[2] and "already" in blazed("pause", "one")[2]
    assert "is resumed" in blazed("resume", "one")[2] and "was not paused" in blazed("resume", "one")[2]
    assert blazed("pause")[0] == 0
    with serving.connect() as daemon:
        assert daemon.status().state == "PAUSED"
    assert blazed("resume")[0] == 0
    assert blazed("jobs", "remove", "nope")[0] == 4
    assert blazed("jobs", "remove", "one")[0] == 0
    blazed("jobs", "submit", "--job-file", job_file(serving, YEARLY, {**YEARLY, "job_id": "other"}))
    assert json.loads(blazed("jobs", "clear", "--json")[1]) == {"removed": 2}


def test_the_same_works_while_no_daemon_runs(serving, blazed):
    blazed("stop")
    status, out, err = blazed("jobs", "submit", "--job-file", job_file(serving, YEARLY), "--json")
    assert status == 0 and json.loads(out)["jobs"][0]["job_id"] == "one" and "no daemon runs" in err
    assert "is paused" in blazed("pause", "one")[2] and "is resumed" in blazed("resume", "one")[2]
    assert blazed("pause")[0] == blazed("resume")[0] == blazed("jobs", "remove", "one")[0] == 0


@pytest.mark.parametrize("running", [True, False], ids=["with a daemon", "without"])
def test_a_file_with_faults_stores_nothing_and_all_of_them_are_told(serving, blazed, running):
    if not running:
        blazed("stop")
    path = job_file(serving, YEARLY, {"seq_id": "two", "start_date": 5}, {"sequence": "x"}, [])
    status, out, err = blazed("jobs", "submit", "--job-file", path)
    assert (status, out) == (3, "")
    assert all(
        text in err
        for text in ("$[1].start_date: expected datetime", "seq_id is missing", "$[3]: a submission is an object")
    )
    path = job_file(
        serving,
        {"seq_id": "nope"},
        {"seq_id": "two", "intervall": 1, "foo": 1, "priority": "x"},
        {**YEARLY, "timezone": "Nowhere"},
    )
    err = blazed("jobs", "submit", "--job-file", path)[2]
    assert all(
        text in err
        for text in (
            "job 'nope'",
            "no field 'intervall'; did you mean",
            "'x'",
            "the fields are seq_id, parameters",
            "'Nowhere'",
        )
    )
    path = job_file(
        serving,
        YEARLY,
        {**YEARLY, "job_id": "b", "seq_run_interval": "0 0 30 2 *", "parameters": {"note": {"word": 1}}},
    )
    status, out, err = blazed("jobs", "submit", "--job-file", path)
    assert status == 3 and "expected str, got int 1" in err and str(path) in err
    with StateManager(serving.state_dir) as state:
        assert not state.jobs().items


DEEP = "[" * 100_000
RUBBISH = {
    "encoding": (b'[{"seq_id":\n "\xff"}]', ":2:3: the byte 0xff is no UTF-8"),
    "utf-16": ("[]".encode("utf-16"), "UTF-16"),
    "bom": (b"\xef\xbb\xbf[]", "there is no submission in it"),
    "syntax": (b'[{"seq_id":\n "one" 5}]', ":2:8: it is no JSON"),
    "empty": (b"", ":1:1: it is no JSON"),
    "twice": (b'[{"seq_id": "one", "seq_id": "two"}]', "$[0]: the key 'seq_id' stands twice"),
    "number": (b'[{"seq_id": ' + b"9" * 5000 + b"}]", "$[0].seq_id: a number of 5,000 digits"),
    "infinity": (b'[{"priority": 1e999, "a": NaN}]', "NaN is no JSON number"),
    "surrogate": (b'[{"seq_id": "\\ud800"}]', "lone surrogate"),
    "deep": (DEEP.encode(), "nested more than 100 deep"),
    "deep and closed": (b"[" * 500 + b"]" * 500, "nested more than 100 deep"),
    "text": (b'"one"', "it is a list of submissions"),
}


@pytest.mark.parametrize("kind", RUBBISH)
def test_a_file_that_is_no_list_of_submissions_is_refused_with_the_place(site, blazed, kind):
    raw, what = RUBBISH[kind]
    (site.folder / "jobs.json").write_bytes(raw)
    status, out, err = blazed("jobs", "submit", "--job-file", "jobs.json")
    assert (status, out) == (3, "") and what in err and "Traceback" not in err
    assert not site.state_dir.exists()


def test_what_is_no_regular_file_or_too_long_is_refused_at_once(site, blazed):
    os.mkfifo(site.folder / "pipe")
    with open(site.folder / "long", "wb") as file:
        file.truncate(1 << 40)
    for path in ("pipe", "/dev/zero", ".", "long", "missing"):
        assert blazed("jobs", "submit", "--job-file", path)[0] == 3
    assert blazed("jobs", "submit")[0] == 2


# ---------------------------------------------------------------------- runs


def test_trigger_cancel_and_retry(serving, blazed):
    status, out, _ = blazed("trigger", "two")
    run = out.strip()
    assert status == 0 and len(run) == 16
    wait_until(lambda: len(serving.witness) == 2, "the block")
    assert "is being stopped" in blazed("cancel", run[:8])[2]
    serving.go()
    with serving.connect() as daemon:
        wait_until(lambda: daemon.state.find_run(run).status.ended, "the end")
    assert "had ended already" in blazed("cancel", run)[2]
    status, out, _ = blazed("retry", run, "--wait", "--json")
    told = json.loads(out)
    assert status == 0 and told["status"] == "COMPLETED" and told["retry_of"] == run
    assert serving.witness.count("noted") == 1  # the completed step was taken over
    assert blazed("retry", run, "--from", "note", "--wait")[0] == 0
    assert serving.witness.count("noted") == 2


def test_the_exit_status_of_a_waiting_trigger_tells_how_the_run_ended(serving, blazed):
    serving.definition.write_text(
        DEFINITION.replace("    tell(word)\n    return word", "    raise OSError('no network')")
    )
    assert blazed("reload")[0] == 0
    status, out, err = blazed("trigger", "one", "--wait")
    assert status == 1 and "FAILED" in out and "no network" in err and "blazed retry" in err
    assert blazed("trigger", "nope")[0] == blazed("cancel", "nope")[0] == 4


def test_a_run_that_takes_too_long_is_told_and_goes_on(serving, blazed):
    status, _, err = blazed("trigger", "two", "--wait", "--timeout", "0.05")
    assert status == 7 and "is still" in err
    serving.go()
    with serving.connect() as daemon:
        wait_until(lambda: daemon.state.find_run("last").status.value == "COMPLETED", "the end")


def left_here(site):
    """A run of 'two' that this process has begun and left at its second step."""
    with Blaze(sequences=load_definition(str(site.definition)).sequences, state_dir=site.state_dir, grace=0.0) as mine:
        run_id = mine.trigger("two").run_id
        wait_until(lambda: len(site.witness) == 2, "the block")
    return run_id


def test_a_run_that_was_left_is_gone_on_with_by_the_next_daemon_or_by_retry(site, blazed):
    run_id = left_here(site)
    status, _, err = blazed("retry", run_id)
    assert status == 5 and f"without one: blazed run two --run {run_id}" in err
    site.go()
    assert blazed("start", "--detach")[0] == 0
    with site.connect() as daemon:
        wait_until(lambda: daemon.state.find_run(run_id).status.value == "COMPLETED", "the end")
    assert site.witness.count("noted") == 1  # the completed step is not run again


def test_a_daemon_goes_on_with_what_is_left_beside_it_and_retry_makes_it_do_so_at_once(site, blazed):
    site.go("elsewhere")
    assert blazed("start", "--detach", "--loop-interval", "30")[0] == 0
    run_id = left_here(site)
    assert json.loads(blazed("show", run_id, "--json")[1])["status"] == "RUNNING"
    status, out, _ = blazed("retry", run_id)
    assert (status, out.strip()) == (0, run_id)
    wait_until(lambda: len(site.witness) == 3, "the daemon's attempt")
    status, _, err = blazed("retry", run_id)
    assert status == 6 and "is in the hands of blaze-" in err
    site.go()
    with site.connect() as daemon:
        wait_until(lambda: daemon.state.find_run(run_id).status.value == "COMPLETED", "the end")


# ---------------------------------------------------------------------- the examples


@pytest.mark.skipif(ENDS_WITH_MAIN, reason="this Python starts no thread once the main program has ended")
def test_the_example_scripts_work_together(site):
    examples = Path(__file__).resolve().parents[2] / "examples"
    environment = {**site.environment, "BLAZE_STATE_DIR": str(site.state_dir)}
    runner = subprocess.Popen(
        [sys.executable, examples / "run.py"], cwd=site.folder, env=environment, stdout=subprocess.PIPE, text=True
    )
    site.processes.append(runner)
    assert "serves" in runner.stdout.readline()
    done = subprocess.run(
        [sys.executable, examples / "submit.py"],
        cwd=site.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 0 and "math_pipeline" in done.stdout, done.stderr
    command = [sys.executable, "-m", "blaze", "jobs", "submit", "--job-file", examples / "jobs.json"]
    done = subprocess.run(command, cwd=site.folder, env=environment, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    with StateManager(site.state_dir) as state:
        wait_until(lambda: any(run.status.value == "COMPLETED" for run in state.runs()), "the run of a job")
    runner.send_signal(signal.SIGINT)
    assert runner.wait(PATIENCE) == 0
