"""The daemon as a process: who may be one, how it starts, what it survives, how it ends.

RELIABILITY R40-R41, R46, R52-R59, R65-R66.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from random import Random

import pytest

from blaze import Blaze, BlazeSequence, StateError, SubmitSequenceData, ValidationError
from blaze.core.ground.errors import DaemonError, NoDaemon, Refused
from blaze.daemon import address
from blaze.daemon.client import Client
from blaze.daemon.manager import ENDS_WITH_MAIN, get_or_create_scheduler, stop_scheduler, update_jobs
from blaze.daemon.owner import Owned, OwnerLock, owner_of
from blaze.daemon.readiness import Readiness
from blaze.daemon.remote import connect
from tests.integration.daemons import DEFINITION, Site
from tests.integration.workbench import PATIENCE, Workbench, wait_until

pytestmark = pytest.mark.skipif(not address.HAS_UNIX_SOCKETS, reason="needs Unix sockets")


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    yield site
    site.reap()


def statuses(site):
    with site.connect() as daemon:
        return [run.status.value for run in daemon.state.runs()]


# ---------------------------------------------------------------------- one per state directory


def race(site, rounds):
    """Let two programs become the daemon of one directory at the same instant, again and again."""
    racers = [
        site.popen(
            "-m", "tests.integration.racing_daemon", site.definition, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]

    def hear(racer):
        return json.loads(racer.stdout.readline())

    assert [hear(racer).get("ready") for racer in racers] == [True, True]
    for number in range(rounds):
        state_dir = site.folder / f"state-{number}"
        for racer in racers:
            racer.stdin.write(f"{state_dir}\n".encode())
            racer.stdin.flush()
        words = [hear(racer) for racer in racers]
        (serving,) = [word for word in words if "serving" in word]
        (refused,) = [word for word in words if "refused" in word]
        assert f"{serving['serving']} (PID {serving['pid']}) serves {state_dir} already" in refused["refused"]
        os.kill(serving["pid"], signal.SIGTERM)
        wait_until(lambda: owner_of(state_dir) is None, "the end of the daemon")  # noqa: B023


def test_of_two_daemons_started_at_one_instant_one_serves_and_the_other_says_who_does(site):
    race(site, 20)


@pytest.mark.slow
def test_of_two_daemons_started_at_one_instant_one_serves_200_times(site):
    race(site, 200)


def test_of_two_commands_that_start_it_at_one_instant_both_are_fine_and_name_the_same_daemon(site):
    """DESIGN 8: "'start' on a running daemon ... say[s] so and [is] 0"; whoever is too late is told who does."""
    for number in range(3):
        words = ("-m", "blaze", "start", "--detach", "--json", "--state-dir", site.folder / f"state-{number}")
        starts = [site.popen(*words, stdout=subprocess.PIPE) for _ in range(2)]
        told = [json.loads(start.communicate(timeout=60)[0]) for start in starts]
        assert [start.returncode for start in starts] == [0, 0]
        assert len({one["pid"] for one in told}) == 1 and sum("already" in one for one in told) == 1
        os.kill(told[0]["pid"], signal.SIGTERM)
        wait_until(lambda: owner_of(site.folder / f"state-{number}") is None, "the end")  # noqa: B023


def test_a_lock_left_by_a_dead_process_is_taken_and_what_it_says_is_not_believed(tmp_path):
    state_dir = tmp_path / "state"
    state_dir.mkdir(mode=0o700)
    (state_dir / "daemon.lock").write_text('{"pid": 1, "name": "old", "since": 0}')
    assert owner_of(state_dir) is None
    lock = OwnerLock(state_dir)
    lock.introduce("new-1")
    with pytest.raises(Owned, match=rf"new-1 \(PID {os.getpid()}\) serves"):
        OwnerLock(state_dir)
    lock.release()
    assert owner_of(state_dir) is None


@pytest.mark.parametrize("text", ["", "x", "[]", '{"pid": -1}', '{"pid": "1; rm", "name": "\\u001b[2J"}', "9" * 5000])
def test_a_lock_that_tells_nonsense_of_its_holder_is_held_all_the_same(tmp_path, text):
    lock = OwnerLock(tmp_path / "state")
    lock.path.write_text(text)
    owner = owner_of(tmp_path / "state")
    assert (owner.pid, owner.name) == (0, None)
    lock.release()


# ---------------------------------------------------------------------- where it may be


def test_a_state_directory_that_others_may_write_to_is_refused(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    with pytest.raises(StateError, match="others may write"):
        OwnerLock(tmp_path / "state")
    assert list((tmp_path / "state").iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can make another user's link")
def test_a_link_of_another_user_in_the_place_of_the_state_directory_is_refused(tmp_path):
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "state").symlink_to(tmp_path / "mine")
    OwnerLock(tmp_path / "state").release()  # our own is ours to make
    os.lchown(tmp_path / "state", 12345, 12345)
    with pytest.raises(StateError, match="symbolic link of another user"):
        OwnerLock(tmp_path / "state")


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("nowhere"), lambda path: path.write_text("")])
def test_what_is_no_directory_in_the_place_of_the_state_directory_is_refused(tmp_path, make):
    make(tmp_path / "state")
    with pytest.raises(StateError):
        OwnerLock(tmp_path / "state")


# ---------------------------------------------------------------------- detaching


def test_detaching_returns_when_it_serves_and_survives_its_parent_and_its_terminal(site):
    code = (
        "import os, sys; from pathlib import Path; from blaze.daemon.detaching import start_detached;"
        "from blaze.daemon.process import Settings;"
        f"start_detached(Settings(Path({str(site.state_dir)!r}), {str(site.definition)!r}, name='my-etl'));"
        "os.kill(0, 1); os.kill(os.getpid(), 9)"  # the terminal hangs up on the whole group
    )
    process = site.popen("-c", code, start_new_session=True)
    assert process.wait(PATIENCE) == -signal.SIGHUP
    with site.connect() as daemon:
        owner = owner_of(site.state_dir)
        assert daemon.run("one").ok
        assert owner.name.startswith("my-etl-") and owner.pid != process.pid
        assert os.getsid(owner.pid) == owner.pid
        streams = [os.readlink(f"/proc/{owner.pid}/fd/{number}") for number in range(3)]
        assert streams == ["/dev/null"] * 3
        daemon.stop()


def test_a_detached_daemon_that_fails_gives_its_error_and_leaves_nothing_behind(site):
    site.definition.write_text("import os\n\n1 / 0\n")
    with pytest.raises(ValidationError, match=r"definition\.py:3: ZeroDivisionError"):
        site.detach()
    assert not site.state_dir.exists()


def test_a_detached_daemon_that_dies_without_a_word_gives_the_end_of_what_it_wrote(site):
    site.definition.write_text("import os\nprint('my last words', flush=True)\nos._exit(7)\n")
    with pytest.raises(DaemonError, match=r"died before it served(.|\n)*my last words"):
        site.detach()


def test_a_second_detached_daemon_is_refused_by_name_and_pid(site):
    told = site.detach(name="first")
    with pytest.raises(Refused, match=rf"{told['instance']} \(PID {told['pid']}\) serves"):
        site.detach(name="second")


def test_systemd_is_told_when_it_serves(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        Readiness().serving({"instance": "etl-1"})
        assert systemd.recv(100) == b"READY=1\nSTATUS=etl-1"
    Readiness().serving({"instance": "etl-1"})  # nobody listens any more


# ---------------------------------------------------------------------- kill -9 and the end


def test_after_kill_9_under_load_the_next_daemon_goes_on_with_what_was_in_flight(site):
    first = site.start("--name", "first")
    with site.connect() as daemon:
        daemon.submit(SubmitSequenceData("one", seq_run_interval="* * * * * *"))
        run = daemon.trigger("two", {"note": {"word": "once"}})
        wait_until(lambda: any(line.startswith("holding") for line in site.witness), "the block")
        first.kill()
        first.wait(PATIENCE)
        # Its socket and its lock's file are still there.
        assert (site.state_dir / "daemon.sock").is_socket() and owner_of(site.state_dir) is None
        with pytest.raises(NoDaemon):
            Client(site.state_dir).call("ping")
        site.go()
        second = site.start("--name", "second")
        assert run.result(PATIENCE).ok
        assert daemon.state.find_run(run.run_id).recoveries == 1
        held = [line for line in site.witness if line.startswith("holding")]
        assert site.witness.count("once") == 1 and len(held) == 2 and len(set(held)) == 1
        ticks = [one.scheduled for one in daemon.state.runs(job_id="one", limit=1000) if one.scheduled]
        assert len(ticks) == len(set(ticks))
        second.send_signal(signal.SIGTERM)
        assert second.wait(PATIENCE) == 0


def status_of(site):
    """What ``blazed status --json`` tells, whoever is alive."""
    done = site.popen("-m", "blaze", "status", "--json", stdout=subprocess.PIPE)
    out, _ = done.communicate(timeout=PATIENCE)
    assert done.returncode == 0
    return json.loads(out)


def kill_under_load(site, rounds):
    """Kill the daemon again and again while runs are triggered and ticks fire; look at what is told and done."""
    random = Random(7)
    site.go()
    acknowledged = {}
    for round in range(rounds):
        told = site.detach(loop_interval=0.5)
        assert [one["pid"] for one in status_of(site)["instances"]] == [told["pid"]]
        with site.connect() as daemon:
            if not round:
                daemon.submit(SubmitSequenceData("one", seq_run_interval="* * * * * *"))
            killer = threading.Timer(random.uniform(0, 0.4), os.kill, (told["pid"], signal.SIGKILL))
            killer.start()
            with contextlib.suppress(NoDaemon):
                while True:
                    word = f"word-{len(acknowledged)}"
                    acknowledged[daemon.trigger("two", {"note": {"word": word}}).run_id] = word
            killer.join()
            status = status_of(site)
            assert status["instances"] == [] and status["jobs"]["ACTIVE"] == 1
            # What was done and not told of is done again; what was told of was done.
            done = {run.run_id for run in daemon.state.runs(seq_id="two", status="COMPLETED", limit=10_000)}
            assert {acknowledged[run_id] for run_id in done if run_id in acknowledged} <= set(site.witness)
    site.detach()
    with site.connect() as daemon:
        daemon.remove_job("one")
        wait_until(lambda: not any(daemon.state.counts().values()), "the end of all runs", 60)
        runs = list(daemon.state.runs(limit=10_000))
        assert not daemon.state.integrity()
    status = status_of(site)
    assert status["runs"] == {"PENDING": 0, "RUNNING": 0} and status["jobs"]["ACTIVE"] == 0
    ended = {run.run_id: run.status.value for run in runs}
    assert acknowledged and {ended[run_id] for run_id in acknowledged} == {"COMPLETED"}
    ticks = [run.scheduled for run in runs if run.scheduled is not None]
    assert len(ticks) == len(set(ticks))
    assert {run.status.value for run in runs} <= {"COMPLETED", "SKIPPED"}
    # A step that was in flight at a kill is made again, at most eight of them at each, and no other one.
    times = Counter(site.witness)
    assert all(times[word] >= 1 for word in acknowledged.values())
    assert sum(times[word] - 1 for word in acknowledged.values()) <= 8 * rounds


def test_killed_under_load_it_tells_and_does_what_was_acknowledged(site):
    kill_under_load(site, 3)


@pytest.mark.slow
def test_killed_40_times_at_random_it_loses_nothing_that_was_acknowledged_and_fires_no_tick_twice(site):
    kill_under_load(site, 40)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_softly_and_what_is_left_is_resumed(site, number):
    process = site.start("--grace", "0.1")
    with site.connect() as daemon:
        run = daemon.trigger("two")
        wait_until(lambda: len(site.witness) == 2, "the block")
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        assert not (site.state_dir / "daemon.sock").exists()
        assert daemon.state.find_run(run.run_id).status.value == "RUNNING"
        site.go()
        site.start()
        assert run.result(PATIENCE).ok and daemon.state.find_run(run.run_id).recoveries == 0


def test_a_second_signal_ends_it_at_once_and_what_is_left_is_resumed(site):
    process = site.start("--grace", "60")
    with site.connect() as daemon:
        run = daemon.trigger("two")
        wait_until(lambda: len(site.witness) == 2, "the block")
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: not (site.state_dir / "daemon.sock").exists(), "the soft stop")
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == -signal.SIGTERM
        assert time.monotonic() - began < 2
        site.go()
        site.start()
        assert run.result(PATIENCE).ok


def test_draining_waits_for_the_runs_at_hand_and_starts_no_others(site):
    process = site.start()
    with site.connect() as daemon:
        run = daemon.trigger("two")
        wait_until(lambda: len(site.witness) == 2, "the block")
        daemon.client.call("stop", how="drain")
        with pytest.raises(Refused, match="about to stop"):
            daemon.trigger("one")
        with pytest.raises(Refused, match="about to stop"):
            daemon.submit(SubmitSequenceData("one"))
        assert daemon.status().runs_active == 1
        site.go()
        assert process.wait(PATIENCE) == 0
        assert run.status.value == "COMPLETED" and run.result(1).steps["hold"].attempts == 1


def test_the_hard_stop_moves_jobs_and_history_aside(site):
    process = site.start()
    with site.connect() as daemon:
        daemon.submit(SubmitSequenceData("one", seq_run_interval="@yearly"))
        daemon.stop(shutdown=True)
    assert process.wait(PATIENCE) == 0
    (archive,) = (site.state_dir / "archive").iterdir()
    assert (archive / "blaze.db").exists() and not (site.state_dir / "blaze.db").exists()


# ---------------------------------------------------------------------- what it survives


def test_a_socket_that_was_deleted_is_made_anew(site):
    site.start()
    os.unlink(site.state_dir / "daemon.sock")
    wait_until(lambda: (site.state_dir / "daemon.sock").exists(), "the new socket")
    with site.connect() as daemon:
        assert daemon.run("one").ok
    wait_until(lambda: "was made anew" in site.log(), "the line about it")


def test_it_goes_on_when_its_log_is_rotated_away_or_its_directory_is_gone(site):
    site.start()
    wait_until(lambda: "serves" in site.log(), "the first line")
    with site.connect() as daemon:
        for path in (site.state_dir / "log").iterdir():
            path.rename(site.folder / path.name)
        daemon.client.call("reload")
        wait_until(lambda: "loaded again" in site.log(), "a new file")
        for path in (site.state_dir / "log").iterdir():
            path.unlink()
        (site.state_dir / "log").rmdir()
        daemon.client.call("reload")
        assert daemon.run("one").ok and daemon.health().ok


def test_hostile_bytes_cost_no_job_its_run(site):
    site.start()
    with site.connect() as daemon:
        daemon.submit(SubmitSequenceData("one", seq_run_interval="* * * * * *"))
        for rubbish in (
            b"\0" * 100_000,
            b"{" * 5000,
            b'{"jsonrpc":"2.0","id":1,"method":"__class__"}\n',
            b"\xff\n" * 99,
        ):
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(site.state_dir / "daemon.sock"))
                sock.sendall(rubbish)
        idle = [socket.socket(socket.AF_UNIX) for _ in range(100)]
        for sock in idle:
            sock.connect(str(site.state_dir / "daemon.sock"))
        seen = len(daemon.state.runs(job_id="one"))
        wait_until(lambda: statuses(site).count("COMPLETED") >= seen + 1, "a tick")
        assert daemon.health().lateness[2] < 1
        for sock in idle:
            sock.close()


def test_the_files_belong_to_their_owner_only_whatever_the_umask_is(site):
    before = os.umask(0)
    try:
        site.start()
    finally:
        os.umask(before)
    for path in (site.state_dir, *(path for path in site.state_dir.rglob("*"))):
        assert not stat.S_IMODE(path.lstat().st_mode) & 0o077, path


# ---------------------------------------------------------------------- definitions


def test_a_definition_that_fails_to_load_again_leaves_the_old_one_running_and_says_why(site):
    process = site.start()
    with site.connect() as daemon:
        site.definition.write_text("1 / 0\n")
        with pytest.raises(ValidationError, match=r"definition\.py:1: ZeroDivisionError"):
            daemon.client.call("reload")
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the old one goes on" in site.log(), "the line about it")
        assert daemon.run("one").ok


def test_a_definition_that_is_loaded_again_is_what_jobs_fire_by_from_then_on(site):
    site.start()
    with site.connect() as daemon:
        daemon.submit(SubmitSequenceData("one", seq_run_interval="* * * * * *"))
        site.definition.write_text(DEFINITION.replace('"noted"', '"anew"').replace("def two(", "def three("))
        assert daemon.client.call("reload")["added"] == ["three"]
        wait_until(lambda: "anew" in site.witness, "a run of the new definition")
        assert [one["seq_id"] for one in daemon.client.call("list")] == ["one", "three"]


def test_a_sequence_that_starts_by_itself_does_so_when_it_is_new_and_not_at_every_reload(site):
    site.start()
    with site.connect() as daemon:
        site.definition.write_text(
            DEFINITION.replace('[SeqBlockData("note")])', '[SeqBlockData("note")], auto_start=True)')
        )
        daemon.client.call("reload")  # "one" was there before
        site.definition.write_text(site.definition.read_text().replace("def one(", "def fresh("))
        daemon.client.call("reload")
        daemon.client.call("reload")
        wait_until(lambda: not any(daemon.state.counts().values()) and daemon.state.runs(), "the run")
        assert [run.seq_id for run in daemon.state.runs()] == ["fresh"]


def test_a_job_whose_sequence_comes_back_is_mended(site):
    site.start("--loop-interval", "0.1")
    with site.connect() as daemon:
        daemon.submit(SubmitSequenceData("two", {"hold": {"word": "x"}}, seq_run_interval="* * * * * *"))
        site.definition.write_text(DEFINITION.replace("def two(", "def three("))
        daemon.client.call("reload")
        wait_until(lambda: daemon.state.job("two").status.value == "BROKEN", "that the job is parked")
        site.definition.write_text(DEFINITION)
        daemon.client.call("reload")
        wait_until(lambda: daemon.state.job("two").status.value == "ACTIVE", "that the job is mended")


def test_what_is_submitted_without_a_daemon_is_checked_and_fired_after_the_next_start(site):
    process = site.start()
    process.terminate()
    process.wait(PATIENCE)
    wrong = [SubmitSequenceData("one", {"note": {"word": 5}}), SubmitSequenceData("nope")]
    with pytest.raises(ValidationError) as caught:
        update_jobs(wrong, state_dir=site.state_dir)
    assert "expected str, got int 5" in str(caught.value) and "no sequence 'nope'" in str(caught.value)
    (job,) = update_jobs([SubmitSequenceData("one", {"note": {"word": "later"}})], state_dir=site.state_dir)
    assert job.job_id == "one" and site.witness == []
    site.start()
    wait_until(lambda: site.witness == ["later"], "the job")


def test_without_a_daemon_that_ever_was_there_is_nothing_to_check_against(tmp_path):
    with pytest.raises(NoDaemon, match="none has served it before"):
        update_jobs([SubmitSequenceData("one")], state_dir=tmp_path / "state")
    assert not (tmp_path / "state").exists()


# ---------------------------------------------------------------------- asking it


def test_every_method_answers_with_what_the_scheduler_tells(site):
    site.start()
    with site.connect() as daemon:
        call = daemon.client.call
        run = daemon.trigger("one", {"note": {"word": "hello"}})
        told = list(daemon.client.stream("wait", run=run.run_id))
        assert told[-1]["status"] == "COMPLETED" and told[-1]["run_id"] == run.run_id
        assert str(daemon.status()).startswith(f"Blaze {daemon.instance_id} - PID") and daemon.started
        assert call("show", run="last")["steps"]["items"][0]["preview"] == "'hello'"
        assert call("show", run="last")["parameters"] == {"note": {"word": "hello"}}
        assert call("runs", status=["completed"], since="2020-01-01T00:00:00+00:00")["items"][0]["run_id"] == run.run_id
        daemon.submit([SubmitSequenceData("one", seq_run_interval="0 12 * * *", timezone="UTC")])
        assert call("jobs.list")["items"][0]["job_id"] == "one"
        ticks = call("next", job_id="one", number=3)["ticks"]
        assert len(ticks) == 3 and all(tick.endswith("T12:00:00+00:00") for tick in ticks)
        assert daemon.pause_job("one") and not daemon.pause_job("one") and daemon.resume_job("one")
        assert call("pause") == {"changed": True} and daemon.status().state == "PAUSED"
        assert call("resume") == {"changed": True}
        again = daemon.retry(run.run_id, "note")
        assert again.result(PATIENCE).ok and not again.cancel()
        assert call("logs", run=run.run_id)["items"] == []
        daemon.remove_job("one")
        assert daemon.clear_jobs() == 0
        for method, params in (
            ("stop", {"how": "x"}),
            ("next", {"job_id": "one", "number": 0}),
            ("runs", {"since": "x"}),
        ):
            with pytest.raises(ValidationError if method != "next" else (ValidationError, LookupError)):
                call(method, **params)


def test_following_a_log_gives_its_lines_once_and_ends_with_the_run(site):
    site.definition.write_text(
        DEFINITION.replace('tell("holding', 'blaze.current().logger.info("I hold"); tell("holding')
    )
    site.start()
    with site.connect() as daemon:
        run = daemon.trigger("two")
        pages = []
        reader = threading.Thread(target=lambda: pages.extend(daemon.client.stream("logs.follow", run=run.run_id)))
        reader.start()
        wait_until(lambda: pages, "the first line")
        site.go()
        reader.join(PATIENCE)
        assert not reader.is_alive()
        assert [line["message"] for page in pages for line in page["items"]] == ["I hold"]


def test_what_blocks_log_at_info_is_kept_whichever_logger_they_use(site):
    logging = 'import logging; logging.getLogger("shop").info(word)'
    site.definition.write_text(DEFINITION.replace("    tell(word)", f"    {logging}"))
    site.start()
    with site.connect() as daemon:
        run = daemon.trigger("one", {"note": {"word": "hello"}})
        assert run.result(PATIENCE).ok
        assert [line["message"] for line in daemon.client.call("logs", run=run.run_id)["items"]] == ["hello"]


# ---------------------------------------------------------------------- the manager


def test_a_definition_may_submit_its_jobs_itself(site):
    submit = 'update_jobs([SubmitSequenceData("one", seq_run_interval="{}", timezone="UTC")])\n'
    head = "from blaze import SubmitSequenceData\nfrom blaze.daemon.manager import update_jobs\n"
    site.definition.write_text(DEFINITION + head + submit.format("@yearly"))
    site.start()
    with site.connect() as daemon:
        assert [job.interval for job in daemon.jobs] == ["@yearly"]
        site.definition.write_text(DEFINITION + head + submit.format("@monthly"))
        daemon.client.call("reload")
        wait_until(lambda: [job.interval for job in daemon.jobs] == ["@monthly"], "the job of the new definition")


QUICK_START = """
import sys
from definition import blocks, sequences
from blaze import SubmitSequenceData
from blaze.daemon.manager import get_or_create_scheduler, start_scheduler, stop_scheduler, update_jobs

if __name__ == "__main__":
    (job,) = update_jobs([SubmitSequenceData("one", {"note": {"word": sys.argv[1]}}, seq_run_interval="@yearly")])
    scheduler = get_or_create_scheduler(blocks, sequences)
    start_scheduler()
    print(type(scheduler).__name__, scheduler.run("one", {"note": {"word": sys.argv[1]}}).ok, flush=True)
    if sys.argv[2] == "stop":
        print(stop_scheduler(shutdown=False), stop_scheduler())
"""


def quick_start(site, word, then):
    (site.folder / "quick.py").write_text(QUICK_START)
    return site.popen("quick.py", word, then, stdout=subprocess.PIPE, text=True)


def test_the_quick_start_runs_in_one_process(site):
    process = quick_start(site, "alone", "stop")
    assert process.communicate(timeout=PATIENCE)[0].splitlines() == ["Blaze True", "True False"]
    assert process.returncode == 0 and site.witness == ["alone"]


@pytest.mark.skipif(ENDS_WITH_MAIN, reason="this Python starts no thread once the main program has ended")
def test_a_second_process_reaches_the_scheduler_of_the_first_and_stops_it(site):
    first = quick_start(site, "first", "stay")
    assert first.stdout.readline() == "Blaze True\n"  # its main program has ended; it lives on
    second = quick_start(site, "second", "stop")
    assert second.communicate(timeout=PATIENCE)[0].splitlines() == ["RemoteScheduler True", "True False"]
    assert first.wait(PATIENCE) == 0 and site.witness == ["first", "second"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_embeds_a_started_scheduler_ends_softly_at_a_signal(site, number):
    process = quick_start(site, "first", "stay")
    process.stdout.readline()
    process.send_signal(number)
    assert process.wait(PATIENCE) == 0
    assert "stopping" in site.log() and owner_of(site.state_dir) is None


def test_a_forked_child_holds_neither_the_lock_nor_the_scheduler_of_its_parent(tmp_path):
    code = """
import os, sys, time
from blaze import BlazeSequence
from blaze.daemon import manager
scheduler = manager.get_or_create_scheduler(sequences=BlazeSequence(), state_dir=sys.argv[1])
manager.start_scheduler()
if os.fork() == 0:
    other = manager.get_or_create_scheduler(state_dir=sys.argv[1])
    print(type(other).__name__, flush=True)
    os._exit(0)
os.wait()
print(manager.stop_scheduler(), flush=True)
"""
    environment = {**os.environ, "PYTHONPATH": str(Site(tmp_path).environment["PYTHONPATH"])}
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "state"], env=environment, capture_output=True, text=True, timeout=20
    )
    assert done.stdout.splitlines() == ["RemoteScheduler", "True"], done.stderr


def test_a_process_has_one_served_scheduler_and_later_sequences_are_added_to_it(tmp_path):
    bench = Workbench()
    bench.step("first", lambda: 1)
    bench.sequence(seq_id="one")
    more = Workbench()
    more.step("second", lambda: 2)
    more.sequence(seq_id="two")
    with pytest.raises(ValidationError, match="max_workers"):
        get_or_create_scheduler(state_dir=tmp_path / "state", max_workers=0)
    assert not (tmp_path / "state").exists()  # and the lock is free
    scheduler = get_or_create_scheduler(bench.blocks, bench.sequences, state_dir=tmp_path / "state")
    try:
        assert get_or_create_scheduler(more.blocks, more.sequences) is scheduler
        assert [scheduler.run(seq_id).output for seq_id in ("one", "two")] == [{"first": 1}, {"second": 2}]
        with pytest.raises(Refused, match="has a scheduler on"):
            get_or_create_scheduler(state_dir=tmp_path / "other")
        with connect(tmp_path / "state") as remote:  # this very process, as others see it
            assert not remote.started
            remote.start()
            assert remote.run("one").preview == "{'first': 1}" and scheduler.started
    finally:
        assert stop_scheduler()
    assert owner_of(tmp_path / "state") is None


def test_an_embedding_program_has_no_definition_to_load_again(tmp_path):
    from blaze.daemon.host import ServedScheduler

    host = ServedScheduler(Blaze(sequences=BlazeSequence(), state_dir=tmp_path), OwnerLock(tmp_path))
    with pytest.raises(Refused, match="embedded"):
        host.reload()
    host.stop_softly()
    host.watch()
