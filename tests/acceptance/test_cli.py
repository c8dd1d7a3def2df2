"""``blazed``, as a user runs it: child processes over a real state directory, pipes and a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import pytest

from blaze import Blaze, StateManager, SubmitSequenceData
from blaze.core.remember.instances import InstanceLock
from blaze.daemon.definition import load_definition

ROOT = Path(__file__).resolve().parents[2]

DEFINITION = '''\
"""Rows come, are cleaned and loaded."""

import logging
import time

from blaze import BlazeBlock, BlazeSequence, SeqBlockData, current

blocks = BlazeBlock()
sequences = BlazeSequence()
log = logging.getLogger("etl")


@blocks.block
def fetch(limit: int = 3, seconds: float = 0.0) -> list:
    log.warning("fetching %d rows", limit)
    log.info("a line of information")
    print("a block prints")
    end = time.monotonic() + seconds
    while time.monotonic() < end and not current().cancelled:
        current().progress(1, 4)
        time.sleep(0.01)
    return list(range(limit))


@blocks.block(retries=1, retry_delay=0.01)
def clean(rows: list, spoil: str = "") -> list:
    if spoil:
        log.error("spoilt: %s", spoil)
        raise ValueError(f"bad rows: {spoil}")
    return rows


@blocks.block
def load(rows: list) -> int:
    return len(rows)


@sequences.sequence(
    blocks=blocks,
    sequence=[
        SeqBlockData("fetch"),
        SeqBlockData("clean", parameters={"rows": "@fetch"}),
        SeqBlockData("load", parameters={"rows": "@clean"}),
    ],
    seq_id="etl",
)
def etl(context=None):
    """Rows, cleaned and loaded."""
    return context["load"]
'''
#: What must never reach a terminal as it is.
HOSTILE = "\x1b[31m\x1b]0;title\x07\r\u202eevil"


class Done(NamedTuple):
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The one document that it wrote."""
        return json.loads(self.out)


def environment(**more: str) -> Dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("BLAZE_", "NO_COLOR", "COLUMNS", "LC_"))
    }
    return {**kept, "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", "TERM": "xterm", **more}


def blazed(place: Path, *words: str, status: Optional[int] = 0, input: str = "", **environ: str) -> Done:
    """Run a command; ``status`` is the exit status that is expected."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "blaze", *words],
        cwd=place, env=environment(**environ), input=input, capture_output=True, encoding="utf-8", timeout=60,
    )  # fmt: skip
    assert status is None or done.returncode == status, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a definition and a history: a run that went well, one that failed, two jobs."""
    place = tmp_path_factory.mktemp("project")
    place.chmod(0o700)
    (place / "definition.py").write_text(DEFINITION, encoding="utf-8")
    (place / "definition.py").chmod(0o600)
    sequences = load_definition(str(place / "definition.py")).sequences
    with Blaze(sequences=sequences, state_dir=place / ".blaze") as scheduler:
        assert scheduler.run("etl").ok
        assert not scheduler.run("etl", {"clean": {"spoil": HOSTILE}}).ok
        scheduler.submit(SubmitSequenceData("etl", seq_run_interval="0 4 * * *", timezone="Europe/Berlin"))
        scheduler.submit(SubmitSequenceData("etl", job_id="hourly", seq_run_interval="@hourly", timezone="UTC"))
    return place


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    place = tmp_path / "project"
    shutil.copytree(made, place)
    return place


# ---------------------------------------------------------------------- reading


def test_status_has_a_head_and_a_line_for_each_sequence(made: Path) -> None:
    lines = blazed(made, "status").out.splitlines()
    assert lines[0] == f"No scheduler is running on {made / '.blaze'}"
    assert lines[1] == "There are 2 jobs in the state"
    assert re.fullmatch(r"The next tick is \d{4}-\d\d-\d\d \d\d:\d\d:\d\d <\d+[mh]", lines[2])
    assert lines[4].split("  ")[0] == "Seq ID" and lines[4].endswith("Total Execution Time")
    assert re.search(r"^etl +\d{4}-.* (now|ago) +\d{4}-.* <\d+[smh] +FAILED +0\.\d\ds$", lines[5])


def test_status_names_the_scheduler_that_is_at_work(made: Path) -> None:
    lock = InstanceLock(made / ".blaze" / "instances", "etl-daemon-x1y2z3")
    try:
        first = blazed(made, "status").out.splitlines()[0]
        told = blazed(made, "status", "--json").data
    finally:
        lock.release()
    assert first.startswith(f"Blaze etl-daemon-x1y2z3 - PID {os.getpid()} - since ")
    assert [one["instance"] for one in told["instances"]] == ["etl-daemon-x1y2z3"]


def test_status_in_json_is_one_document_with_these_keys(made: Path) -> None:
    told = blazed(made, "status", "--json", "--verbose").data
    assert list(told) == [
        "state_dir", "at", "instances", "starting", "paused", "jobs", "runs", "next_tick", "sequences",
        "lateness", "missed", "health", "db_bytes", "wal_bytes", "last_error", "versions",
    ]  # fmt: skip
    assert told["jobs"] == {"ACTIVE": 2, "PAUSED": 0, "ENDED": 0, "BROKEN": 0}
    (line,) = told["sequences"]
    assert list(line) == ["seq_id", "status", "last_run", "last_run_id", "last_seconds", "next_run", "jobs"]
    assert line["status"] == "FAILED" and line["next_run"].endswith("+00:00")


def test_status_of_one_sequence_has_its_jobs_and_runs(made: Path) -> None:
    shown = blazed(made, "status", "--sequence", "etl", "--verbose").out
    assert "Sequence" in shown and "hourly" in shown and "bad rows" in shown
    told = blazed(made, "status", "--sequence", "etl", "--json").data
    assert [run["status"] for run in told["runs"]] == ["FAILED", "COMPLETED"]
    assert "did you mean 'etl'" in blazed(made, "status", "--sequence", "elt", status=4).err


def test_list_joins_what_is_declared_and_what_is_recorded(made: Path) -> None:
    assert "Rows, cleaned and loaded." in blazed(made, "list").out
    (line,) = blazed(made, "list", "--json").data["sequences"]
    assert (line["seq_id"], line["steps"], line["jobs"], line["declared"]) == ("etl", 3, 2, True)


def test_jobs_are_listed_with_their_next_ticks(made: Path) -> None:
    shown = blazed(made, "jobs", "list").out
    assert "hourly" in shown and "Europe/Berlin" in shown and "ACTIVE" in shown
    told = blazed(made, "jobs", "list", "--json", "--status", "paused").data
    assert told == {"jobs": [], "more": False}


def test_runs_are_found_by_sequence_state_and_age(made: Path) -> None:
    told = blazed(made, "runs", "etl", "--status", "failed", "--since", "1h", "--json").data
    assert [run["status"] for run in told["runs"]] == ["FAILED"] and told["more"] is False
    assert "there are more" in blazed(made, "runs", "--limit", "1").err
    assert "did you mean 'etl'" in blazed(made, "runs", "ell", status=4).err
    assert "is no time" in blazed(made, "runs", "--since", "monday", status=2).err


def test_show_tells_steps_timeline_failures_and_the_command_that_resumes(made: Path) -> None:
    shown = blazed(made, "show", "last-failed").out
    run_id = blazed(made, "show", "last-failed", "--json").data["run_id"]
    for heading in ("Steps", "Timeline", "Failures"):
        assert f"\n{heading}\n" in shown
    assert "step 'clean', attempt 2 of 2: ValueError: bad rows" in shown
    assert "upstream_failed" in shown and "definition.py" in shown
    assert shown.splitlines()[-2:] == [
        f"To go on with what was done: blazed retry {run_id}",
        f"(without a daemon: blazed run etl --run {run_id})",
    ]


def test_show_in_json_has_the_steps_and_the_failed_attempts(made: Path) -> None:
    told = blazed(made, "show", "last", "--json").data
    assert [step["name"] for step in told["step_records"]] == ["fetch", "clean", "load"]
    assert [attempt["attempt"] for attempt in told["attempts"]] == [1, 2]
    assert told["parameters"] == {"clean": {"spoil": HOSTILE}} and told["resume"].startswith("blazed retry")


def test_a_run_that_is_not_there_and_one_that_is_ambiguous_are_4(project: Path) -> None:
    assert "'last' is the newest" in blazed(project, "show", "zz", status=4).err
    with Blaze(
        sequences=load_definition(str(project / "definition.py")).sequences, state_dir=project / ".blaze"
    ) as blaze:
        for _ in range(17):  # of seventeen ids, two begin with the same digit
            blaze.run("etl")
    with StateManager(project / ".blaze") as state:
        firsts = [run.run_id[0] for run in state.runs()]
    twice = next(first for first in firsts if firsts.count(first) > 1)
    done = blazed(project, "show", twice, "--json", status=4)
    assert len(done.data["error"]["candidates"]) == firsts.count(twice)
    assert "COMPLETED" in done.err


def test_logs_of_a_run_a_step_and_a_level(made: Path) -> None:
    assert [line.split("fetch: ")[1] for line in blazed(made, "logs", "--step", "fetch", "etl").out.splitlines()] == [
        "fetching 3 rows",
        "fetching 3 rows",
    ]
    (last,) = blazed(made, "logs", "last", "--level", "error", "--tail", "1", "--json").data["logs"]
    assert (last["level"], last["step"], last["attempt"]) == ("ERROR", "clean", 2)


def test_that_nothing_was_logged_is_told(made: Path) -> None:
    told = blazed(made, "logs", "etl", "--step", "load")
    assert told.out == "" and told.err.startswith("nothing of this was logged")
    assert blazed(made, "logs", "etl", "--step", "load", "--json").data == {"logs": []}


def test_logs_follow_a_run_to_its_end(project: Path) -> None:
    done = blazed(project, "logs", "last", "--follow", "--json")
    assert len(done.out.splitlines()) == 3  # one document a line
    assert json.loads(done.out.splitlines()[0])["message"] == "fetching 3 rows"


def test_logs_are_followed_over_a_state_that_is_begun_anew(project: Path) -> None:
    following = started(project, "logs", "--follow")
    try:
        wait_for(following.stdout, "fetching 3 rows")
        blazed(project, "run", "etl", "-p", "fetch.limit=4")
        wait_for(following.stdout, "fetching 4 rows")
        (project / ".blaze").rename(project / "archive")
        blazed(project, "run", "etl", "-p", "fetch.limit=5")
        wait_for(following.stdout, "fetching 5 rows")
        following.send_signal(signal.SIGINT)
        assert following.wait(20) == 130
    finally:
        finish(following)


def test_next_ticks_of_a_job_and_of_cron_text(made: Path) -> None:
    shown = blazed(made, "next", "etl", "-n", "2").out.splitlines()
    assert len(shown) == 3 and " 04:00:00 CE" in shown[1]
    assert len(blazed(made, "next", "@hourly", "--json").data["next"]) == 10
    assert "did you mean 'hourly'" in blazed(made, "next", "hourl", status=4).err
    assert "never fires" in blazed(made, "next", "0 0 30 2 *", status=3).err


def test_graph_in_three_formats(made: Path) -> None:
    assert "└─ fetch" in blazed(made, "graph", "etl").out
    assert blazed(made, "graph", "definition.py:etl", "--format", "mermaid").out.startswith("flowchart TD")
    assert blazed(made, "graph", "etl", "--format", "dot", "--json").data["graph"].startswith("digraph")
    assert "the sequences are 'etl'" in blazed(made, "graph", "nothing", status=4).err


def test_check_tells_every_fault_of_every_sequence(project: Path) -> None:
    assert "is valid: 1 sequence, 3 blocks" in blazed(project, "check").out
    wrong = DEFINITION.replace('"@fetch"', '"@fetchh"').replace('"@clean"', '"@claen"')
    (project / "wrong.py").write_text(wrong, encoding="utf-8")
    done = blazed(project, "check", "wrong.py", "--json", status=3)
    assert done.data["valid"] is False and len(done.data["faults"]) == 2
    assert "did you mean '@fetch'" in done.err and "wrong.py:" in done.err
    (project / "wrong.py").write_text("raise SystemExit(0)", encoding="utf-8")
    assert "wrong.py:1" in blazed(project, "check", "wrong.py", status=3).err


# ---------------------------------------------------------------------- the state


def test_export_writes_what_the_original_wrote(project: Path) -> None:
    told = blazed(project, "export", "log", "--json").data
    assert [one["runs"] for one in told["exported"]] == [2]
    state = json.loads((project / "log" / "etl" / "state.json").read_text())
    runs = json.loads((project / "log" / "etl" / "runs.json").read_text())
    assert state["status"] == "FAILED" and len(state["jobs"]) == 2
    assert [run["status"] for run in runs] == ["FAILED", "COMPLETED"]
    assert sorted(path.name for path in (project / "log" / "etl").iterdir()) == ["runs.json", "state.json"]


def test_a_backup_is_a_state_directory_and_is_made_beside_a_scheduler(project: Path) -> None:
    lock = InstanceLock(project / ".blaze" / "instances", "busy-1")
    try:
        blazed(project, "db", "backup", "copy")
        assert "busy-1" in blazed(project, "db", "prune", status=6).err
    finally:
        lock.release()
    assert (project / "copy").stat().st_mode & 0o777 == 0o700
    told = blazed(project, "runs", "--json", "--state-dir", "copy").data
    assert len(told["runs"]) == 2
    assert "there is something at" in blazed(project, "db", "backup", "copy", status=6).err


def test_db_info_prune_and_check(project: Path) -> None:
    assert blazed(project, "db", "info", "--json").data["schema_version"] == 1
    assert blazed(project, "db", "check").out.endswith("is sound\n")
    assert blazed(project, "db", "prune", "--keep-days", "0.0000001", "--json").data == {"runs": 1, "files": 0}
    (project / ".blaze" / "blaze.db").write_bytes(b"no database at all" * 100)
    assert "not a SQLite database" in blazed(project, "db", "check", status=6).err
    assert blazed(project, "status", "--json", status=6).data["error"]["kind"] == "StateError"


def test_doctor_tells_what_is_wrong_and_what_to_do(project: Path) -> None:
    told = blazed(project, "doctor", "--json").data
    assert told["ok"] is True and {"versions", "state file", "runs"} <= {one["about"] for one in told["findings"]}
    dead = InstanceLock(project / ".blaze" / "instances", "dead-1")
    dead.forget()
    (project / ".blaze").chmod(0o777)
    done = blazed(project, "doctor", status=1)
    assert "chmod go-w" in done.out and "dead-1 died" in done.out


def test_completion_completes_commands_and_flags(made: Path) -> None:
    script = blazed(made, "completion", "bash").out
    asked = "COMP_WORDS=(blazed --json db pr); COMP_CWORD=3; _blazed; echo ${COMPREPLY[@]}"
    done = subprocess.run(["bash", "-c", script + asked], capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("prune\n", "")
    assert "bashcompinit" in blazed(made, "completion", "zsh").out


# ---------------------------------------------------------------------- nothing there, and nothing wrong with that


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("status", "sequences"),
        ("list", "sequences"),
        ("jobs list", "jobs"),
        ("runs", "runs"),
        ("logs", "logs"),
        ("export x", "exported"),
    ],
)
def test_where_nothing_was_recorded_the_answer_is_empty_and_nothing_is_made(
    words: str, key: str, tmp_path: Path
) -> None:
    done = blazed(tmp_path, *words.split(), "--json")
    assert done.data[key] == [] and "there is no state in" in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_state_directory_that_was_named_and_is_not_there_is_4(tmp_path: Path) -> None:
    done = blazed(tmp_path, "runs", "--json", status=4, BLAZE_STATE_DIR="nowhere")
    assert done.data["error"]["exit_status"] == 4 and "no state directory" in done.err
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- running


def test_run_tells_each_change_and_sums_up(project: Path) -> None:
    done = blazed(project, "run", "etl", "-p", "fetch.limit=5")
    assert re.search(r"COMPLETED fetch .*\(1/3\)", done.err) and "a block prints" in done.err
    assert re.match(r"Run [0-9a-f]{16} of etl: COMPLETED in ", done.out)
    assert "3 steps: 3 completed" in done.out and "Slowest steps" in done.out and done.out.endswith("Output: 5\n")
    assert blazed(project, "show", "last", "--json").data["status"] == "COMPLETED"
    assert "a line of information" in blazed(project, "logs", "last").out


def test_a_run_that_fails_is_1_and_tells_the_command_that_resumes(project: Path) -> None:
    done = blazed(
        project, "run", "definition.py:etl", "--param-file", "-", input='{"clean": {"spoil": "yes"}}', status=1
    )
    command = done.out.splitlines()[-1].split(": ", 1)[1]
    assert re.fullmatch(r"blazed run definition.py:etl --run [0-9a-f]{16} --from clean", command)
    assert "step 'clean', attempt 2 of 2: ValueError: bad rows: yes" in done.out
    (project / "definition.py").write_text(DEFINITION.replace("if spoil:", "if not rows:"), encoding="utf-8")
    again = blazed(project, *command.split()[1:], "--json").data
    assert again["status"] == "COMPLETED" and again["steps"][0]["reason"] == "reused"
    told = blazed(project, "run", "etl", "--from", "load")
    assert "(3/3)" in told.err and "(1/3)" not in told.err


def test_run_in_json_is_one_document_whatever_the_blocks_print(project: Path) -> None:
    told = blazed(project, "run", "etl", "--json").data
    assert (told["status"], told["counts"], told["resume"]) == ("COMPLETED", {"COMPLETED": 3}, None)


def test_a_dry_run_checks_and_records_nothing(project: Path) -> None:
    assert "nothing was run" in blazed(project, "run", "etl", "--dry-run").out
    assert "did you mean 'limit'" in blazed(project, "run", "etl", "-p", "fetch.limt=1", "--dry-run", status=3).err
    assert len(blazed(project, "runs", "--json").data["runs"]) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"fetch": {"limit": 1,}}', r":1:\d+: it is no JSON"),
        (b'{"fetch": {"limit": NaN}}', "NaN is no JSON"),
        (b'{"fetch": {}, "fetch": {}}', "stands twice"),
        (b"[1]", "an object of objects"),
        (b"\xff\xfe{}", "UTF-8"),
        (b"[" * 100_000, "deep"),
    ],
)
def test_a_parameter_file_that_is_wrong_is_3(content: bytes, message: str, made: Path, tmp_path: Path) -> None:
    file = tmp_path / "parameters.json"
    file.write_bytes(content)
    from blaze.cli.parameters import parameters_of

    with pytest.raises(ValueError, match=message):
        parameters_of(None, str(file))


def test_what_is_no_regular_file_is_not_read(made: Path) -> None:
    for path in ("/dev/zero", "."):
        assert f"blazed: {path}: it is " in blazed(made, "run", "etl", "--param-file", path, status=3).err


def interrupted(place: Path, times: int, *words: str, **environ: str) -> str:
    """What a run that is interrupted on its terminal, once or twice, writes there."""
    terminal = Terminal(place, "run", "etl", "-p", f"fetch.seconds={1 if times == 1 else 60}", *words, **environ)
    with terminal:
        terminal.wait_for("fetch  ")  # it has a line of its own as soon as it runs
        terminal.type("\x03")
        if times == 2:
            terminal.wait_for("Ctrl-C again stops at once")
            terminal.type("\x03")
        assert terminal.end() == 130
    return terminal.shown


def told_command(shown: str, place: Path) -> List[str]:
    """The words after ``blazed`` of the command that goes on with the run."""
    (command,) = re.findall(r"to go on with it: blazed ([^\r\n]*)", shown)
    found: List[str] = command.split()
    return found


@pytest.mark.parametrize("times", [1, 2])
def test_after_ctrl_c_the_command_that_is_told_goes_on_with_the_run(times: int, project: Path) -> None:
    """DESIGN 8: "Ctrl-C once: a soft stop; twice: at once. Neither leaves anything RUNNING that is not resumed"."""
    shown = interrupted(project, times)
    words = told_command(shown, project)
    (run_id,) = re.findall(r"run (\w+) is not done", shown)
    assert words == ["run", "etl", "--run", run_id] and "the next 'blazed start' goes on with it, too" in shown
    before = blazed(project, "show", run_id, "--json").data
    assert (before["status"], before["resume"]) == ("RUNNING", f"blazed {' '.join(words)}")
    assert f"To go on with it: blazed {' '.join(words)}" in blazed(project, "show", run_id).out
    if times == 2:  # it would take its 60 s again
        assert f"run {run_id} is being stopped" in blazed(project, "cancel", run_id).err
        assert blazed(project, *words, "--json", status=1).data["status"] == "CANCELLED"
        return
    done = blazed(project, *words, "--json").data
    steps = {step["name"]: step["attempts"] for step in done["steps"]}
    assert (done["run_id"], done["status"]) == (run_id, "COMPLETED") and steps["fetch"] == 1, "it had its time to end"
    assert blazed(project, "show", run_id, "--json").data["resume"] is None


def test_what_was_left_is_told_before_another_run_is_begun_and_can_be_given_up(project: Path) -> None:
    words = told_command(interrupted(project, 1), project)
    run_id = words[-1]
    another = blazed(project, "run", "etl")
    assert (
        f"run {run_id} was left undone and this is another one; to go on with it: blazed run etl --run" in another.err
    )
    assert run_id not in another.out and "COMPLETED" in another.out
    assert "goes on where it is" in blazed(project, *words, "--from", "fetch", status=6).err
    assert blazed(project, "cancel", run_id).err == f"run {run_id} is cancelled\n"
    assert "was left" not in blazed(project, "run", "etl").err


def test_the_command_that_is_told_works_from_elsewhere_and_in_json(project: Path, tmp_path: Path) -> None:
    flags = ["--definition", str(project / "definition.py"), "--state-dir", str(project / ".blaze")]
    running = started(tmp_path, "run", "etl", "-p", "fetch.seconds=1", "--json", *flags)
    try:
        wait_for(running.stderr, "RUNNING")
        running.send_signal(signal.SIGTERM)
        out, _ = running.communicate(timeout=30)
    finally:
        finish(running)
    told = json.loads(out)
    assert running.returncode == 130 and told["status"] == "INTERRUPTED"
    assert told["resume"] == f"blazed run etl --run {told['run_id']} {' '.join(flags)}"
    assert blazed(tmp_path, *told["resume"].split()[1:], "--json").data["run_id"] == told["run_id"]


def test_the_next_scheduler_goes_on_with_what_ctrl_c_has_left(project: Path) -> None:
    run_id = told_command(interrupted(project, 1), project)[-1]
    sequences = load_definition(str(project / "definition.py")).sequences
    with Blaze(sequences=sequences, state_dir=project / ".blaze") as scheduler:
        (handle,) = scheduler.recovered
        assert handle.run_id == run_id and handle.result(30).steps["fetch"].attempts == 1


def test_an_empty_name_of_a_run_means_none(project: Path) -> None:
    """As of a shell variable that was never set: ``--run "$ID"``."""
    assert "there is no run ''" in blazed(project, "run", "etl", "--run", "", status=4).err


def test_a_run_that_somebody_is_at_work_on_is_not_taken_up(project: Path) -> None:
    running = started(project, "run", "etl", "-p", "fetch.seconds=60")
    try:
        wait_for(running.stderr, "RUNNING")
        refused = blazed(project, "run", "etl", "--run", "last", status=6)
        assert re.search(r"run \w+ is RUNNING and is in the hands of run-\w+", refused.err)
        assert "Nobody" not in blazed(project, "show", "last").out
        assert blazed(project, "show", "last", "--json").data["resume"] is None
    finally:
        finish(running)


def started(place: Path, *words: str) -> subprocess.Popen[bytes]:
    """A command that goes on until it is told to stop."""
    return subprocess.Popen(
        [sys.executable, "-m", "blaze", *words],
        cwd=place, env=environment(PYTHONUNBUFFERED="1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
    )  # fmt: skip


def wait_for(stream: Any, text: str) -> str:
    """What a command writes, up to the line with this text."""
    written = b""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if select.select([stream], [], [], 0.5)[0]:
            piece = os.read(stream.fileno(), 65536)
            written += piece
            if not piece or text.encode() in written:
                break
    assert text in written.decode(), written
    return written.decode()


def finish(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


# ---------------------------------------------------------------------- terminals and pipes


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, place: Path, *words: str, columns: int = 100, **environ: str) -> None:
        self._child, self._terminal = pty.fork()
        if self._child == 0:
            os.chdir(place)
            program = [sys.executable, "-m", "blaze", *words]
            os.execve(sys.executable, program, environment(COLUMNS=str(columns), **environ))
        self._written = b""
        self._status: Optional[int] = None

    @property
    def shown(self) -> str:
        """What it got so far."""
        return self._written.decode(errors="replace").replace("\r\n", "\n")

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def wait_for(self, text: str) -> None:
        """Read on until it shows this."""
        self._read(lambda: text in self.shown)
        assert text in self.shown, self.shown

    def end(self) -> int:
        """Read on until the command has ended; its exit status."""
        self._read(lambda: False)
        if self._status is None:
            self._status = os.WEXITSTATUS(os.waitpid(self._child, 0)[1])
        return self._status

    def _read(self, enough: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not enough() and time.monotonic() < deadline:
            if select.select([self._terminal], [], [], 1.0)[0]:
                try:
                    piece = os.read(self._terminal, 65536)
                except OSError:  # the other end is closed
                    break
                if not piece:
                    break
                self._written += piece

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._status is None:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
        os.close(self._terminal)


def on_terminal(place: Path, *words: str, columns: int = 100, **environ: str) -> str:
    """What a terminal of so many columns gets."""
    with Terminal(place, *words, columns=columns, **environ) as terminal:
        terminal.end()
    return terminal.shown


def test_a_terminal_gets_boxes_and_colour(made: Path) -> None:
    shown = on_terminal(made, "runs")
    assert "┌──" in shown and "\x1b[31mFAILED" in shown and "\x1b[32mCOMPLETED" in shown


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"BLAZE_NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colour_is_left_out_where_it_is_not_wanted(environ: Dict[str, str], made: Path) -> None:
    assert "\x1b[" not in on_terminal(made, "runs", **environ)


def test_a_terminal_that_can_not_show_boxes_gets_none(made: Path) -> None:
    shown = on_terminal(made, "status", LANG="C")
    assert shown.isascii() and "Seq ID" in shown
    assert on_terminal(made, "graph", "etl", LANG="C").splitlines()[1] == "`- fetch"


def test_a_pipe_gets_neither(made: Path) -> None:
    for words in (["runs"], ["status"], ["show", "last"]):
        assert blazed(made, *words).out.isascii()


def test_twenty_columns_are_enough(made: Path) -> None:
    shown = on_terminal(made, "runs", columns=20, NO_COLOR="1")
    assert "Run: " in shown and "Status: FAILED" in shown
    on_terminal(made, "show", "last", columns=20)
    assert "usage:" in on_terminal(made, "runs", "--help", columns=20)


def test_progress_on_a_terminal_is_a_line_a_running_step_and_a_bar(project: Path) -> None:
    shown = on_terminal(project, "run", "etl", "-p", "fetch.seconds=0.7")
    assert re.search(r"  fetch  0\.\d\ds  1/4", shown) and "░ 0/3" in shown
    assert "a block prints\n" in shown
    assert shown.rstrip().endswith("Output: 3")


@pytest.mark.parametrize("words", [["show", "last"], ["logs"], ["runs"], ["status", "--sequence", "etl", "-v"]])
def test_what_is_recorded_can_not_act_on_the_terminal(words: List[str], made: Path) -> None:
    shown = blazed(made, *words).out
    assert not set(shown) & set("\x1b\x07\r\u202e")
    assert "\\x1b[31m" in shown


def test_a_pipe_that_nobody_reads_ends_the_command_quietly(made: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "blaze", "show", "last"],
        cwd=made,
        env=environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_stream_that_is_closed_is_written_to_by_nobody(made: Path) -> None:
    """``blazed status >&-``, as some supervisors do it."""
    for words, streams, status in (("status", ">&-", 0), ("show nope", "2>&-", 4), ("runs --json", ">&- 2>&-", 0)):
        done = subprocess.run(
            ["sh", "-c", f"{sys.executable} -W error -m blaze {words} {streams}"],
            cwd=made, env=environment(), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


def test_the_c_locale_and_a_stream_of_ascii_are_no_obstacle(project: Path) -> None:
    text = (project / "definition.py").read_text().replace("Rows, cleaned", "Größe, cleaned")
    (project / "definition.py").write_text(text, encoding="utf-8")
    assert "Gr\\xf6\\xdfe" in blazed(project, "list", LC_ALL="C", PYTHONIOENCODING="ascii").out


def test_debug_adds_the_traceback(made: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "blaze", "--debug", "show", "zz"],
        cwd=made,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert "Traceback" in done.stderr and done.stderr.endswith("'last' is the newest\n")


def test_help_touches_nothing(tmp_path: Path) -> None:
    assert "exit status:" in blazed(tmp_path, "--help").out
    assert "example:" in blazed(tmp_path, "run", "--help").out
    assert blazed(tmp_path, "--version").out.startswith("blazed ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "without"),
    [
        ("--help", ("blaze.core.blaze", "blaze.core.what", "sqlite3", "json", "logging", "pathlib", "croniter")),
        ("runs --help", ("blaze.core.blaze", "blaze.core.what", "sqlite3", "logging", "croniter")),
        ("status --json", ("blaze.core.blaze", "blaze.core.what", "blaze.core.do", "croniter")),
    ],
)
def test_a_command_loads_no_more_than_it_needs(words: str, without: tuple[str, ...], made: Path) -> None:
    program = (
        "import sys; from blaze.cli.main import main; main(sys.argv[1:]); print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words.split()],
        cwd=made, env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert [name for name in done.stderr.split() if name in without] == []


def test_status_is_watched_until_it_is_interrupted(made: Path) -> None:
    watching = started(made, "status", "--watch", "0.1", "--json")
    try:
        lines = ""
        while lines.count("\n") < 2:
            lines += wait_for(watching.stdout, "\n")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 130
    finally:
        finish(watching)
    first, second = (json.loads(line)["at"] for line in lines.splitlines()[:2])
    assert first < second
