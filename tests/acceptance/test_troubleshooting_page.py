"""Every message that the page about troubles quotes, provoked: it is the real one."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

import blaze
from blaze import Blaze, BlazeBlock, BlazeError, BlazeSequence, SeqBlockData, SubmitSequenceData
from blaze.cli.main import main
from blaze.core.remember import database
from blaze.daemon.owner import OwnerLock
from blaze.daemon.recorded import record_definitions
from blaze.testing import VirtualClock
from tests.acceptance.pages import HOME, MANUAL, fences_of

QUOTED = [fence.code.rstrip("\n") for fence in fences_of(MANUAL / "troubleshooting.md") if fence.language == "text"]
PROVOKED: Dict[str, Callable[..., str]] = {}


def provokes(beginning: str) -> Callable[[Callable[..., str]], Callable[..., str]]:
    """What it returns is the quoted message with this beginning."""

    def register(function: Callable[..., str]) -> Callable[..., str]:
        PROVOKED[beginning] = function
        return function

    return register


def alike(text: str, folder: Path) -> str:
    """A message without what differs from machine to machine: places, ids, the folder."""
    text = text.strip().replace(str(folder), HOME)
    text = re.sub(r"(?<![\w/])[\w/.]+\.py:\d+", "definition.py:N", text)
    text = re.sub(r"\b[0-9a-f]{16}\b", "ID", text)
    return re.sub(r"[\w-]+ \(PID \d+\)", "NAME (PID N)", text)


@pytest.mark.parametrize("quoted", QUOTED, ids=lambda text: text[:60])
def test_the_message_is_the_real_one(
    quoted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, caplog: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("BLAZE_STATE_DIR", "BLAZE_DEFINITION"):
        monkeypatch.delenv(name, raising=False)
    (provoke,) = [function for beginning, function in PROVOKED.items() if quoted.startswith(beginning)]
    # Functions ask for what they need by the names of their parameters, as fixtures do.
    at_hand = {"folder": tmp_path, "monkeypatch": monkeypatch, "capsys": capsys, "caplog": caplog}
    wanted = provoke.__code__.co_varnames[: provoke.__code__.co_argcount]
    told = provoke(*(at_hand[name] for name in wanted))
    assert alike(told, tmp_path) == alike(quoted, tmp_path)


def test_nothing_is_provoked_that_is_not_quoted() -> None:
    assert all(any(quoted.startswith(beginning) for quoted in QUOTED) for beginning in PROVOKED)


# ---------------------------------------------------------------------- how


def error_of(function: Callable[..., Any], *arguments: Any, **settings: Any) -> str:
    with pytest.raises(BlazeError) as caught:
        function(*arguments, **settings)
    return str(caught.value)


def said_by(capsys: Any, *arguments: str) -> str:
    capsys.readouterr()
    main(list(arguments))
    return capsys.readouterr().err


class Etl:
    """A registry with ``fetch`` and ``clean``, and a sequence of some steps."""

    def __init__(self, *steps: SeqBlockData, seq_id: str = "etl") -> None:
        self.blocks, self.sequences = BlazeBlock(), BlazeSequence()

        @self.blocks.block
        def fetch(limit: int = 1) -> dict:
            return {"rows": []}

        @self.blocks.block
        def clean(rows: Any) -> Any:
            return rows

        @self.blocks.block
        def show(x: Any) -> Any:
            return x

        wire = self.sequences.sequence(blocks=self.blocks, sequence=steps or [SeqBlockData("fetch")], seq_id=seq_id)
        wire(lambda context=None: context)

    def fault(self, seq_id: str = "etl") -> str:
        return error_of(self.sequences[seq_id].validate)

    def submission_fault(self, **fields: Any) -> str:
        with Blaze(sequences=self.sequences, state_dir="./state") as scheduler:
            return error_of(scheduler.submit, SubmitSequenceData("etl", **fields))


def state_error() -> str:
    return error_of(Blaze(sequences=Etl().sequences, state_dir="./state").start)


# ---------------------------------------------------------------------- definitions and parameters


@provokes("seq 'etl', step 'clean' (definition.py:18): parameter 'rows' refers")
def _() -> str:
    return Etl(SeqBlockData("fetch"), SeqBlockData("clean", parameters={"rows": "@fetchh"})).fault()


@provokes("parameter 'x': '@fetch.row'")
def _() -> str:
    etl = Etl(SeqBlockData("fetch"), SeqBlockData("show", parameters={"x": "@fetch.row"}))
    return str(etl.sequences.run("etl").steps["show"].error)


@provokes("seq 'etl', step 'fetch' (parameters of the run)")
def _() -> str:
    return error_of(Etl().sequences.run, "etl", {"fetch": {"limit": "100"}})


@provokes("seq 'etl', step 'clean' (definition.py:18): parameter 'rows' of")
def _() -> str:
    return Etl(SeqBlockData("fetch"), SeqBlockData("clean", dependencies=["fetch"])).fault()


@provokes("seq 'circle'")
def _() -> str:
    steps = [SeqBlockData("fetch", name=a, dependencies=[b]) for a, b in (("a", "b"), ("b", "a"))]
    return Etl(*steps, seq_id="circle").fault("circle")


@provokes("fetch.limit: a lambda")
def _() -> str:
    blocks, sequences = BlazeBlock(), BlazeSequence()

    @blocks.block
    def fetch(limit: object = 1) -> None: ...

    sequences.sequence(blocks=blocks, sequence=[SeqBlockData("fetch")], seq_id="etl")(lambda context=None: context)
    with Blaze(sequences=sequences, state_dir="./state") as scheduler:
        return error_of(scheduler.trigger, "etl", {"fetch": {"limit": lambda: 1}})


@provokes("block 'fetch' (definition.py:18): the name is taken")
def _() -> str:
    return error_of(Etl().blocks.block(name="fetch"), said_by)


@provokes("seq 'x', step 'inner'")
def _() -> str:
    blocks, sequences = BlazeBlock(), BlazeSequence()

    @blocks.block(executor="process")
    def inner() -> None: ...

    sequences.sequence(blocks=blocks, sequence=[SeqBlockData("inner")], seq_id="x")(lambda context=None: context)
    return error_of(sequences.run, "x")


@provokes("blazed: ./definition.py: there is no definition")
def _(capsys: Any) -> str:
    return said_by(capsys, "check")


@provokes("blazed: /home/ada/shop/empty.py")
def _(folder: Path, capsys: Any) -> str:
    (folder / "empty.py").write_text("")
    return said_by(capsys, "start", "--definition", "empty.py")


# ---------------------------------------------------------------------- schedules


@provokes("job 'etl': schedule '0 0 30 2 *'")
def _() -> str:
    return Etl().submission_fault(seq_run_interval="0 0 30 2 *")


@provokes("job 'etl': schedule '0 22-2 * * *'")
def _() -> str:
    return Etl().submission_fault(seq_run_interval="0 22-2 * * *")


@provokes("job 'etl': there is no time zone")
def _() -> str:
    return Etl().submission_fault(seq_run_interval="0 2 * * *", timezone="Europe/Berln")


@provokes("no scheduler that runs")
def _() -> str:
    clock = VirtualClock(datetime(2026, 1, 1, tzinfo=timezone.utc))
    hourly: Dict[str, Any] = {"seq_run_interval": "@hourly", "timezone": "UTC"}
    with Blaze(sequences=Etl().sequences, state_dir="./state", clock=clock) as scheduler:
        scheduler.submit(SubmitSequenceData("etl", **hourly))
    with Blaze(sequences=Etl(seq_id="another").sequences, state_dir="./state", clock=clock) as scheduler:
        scheduler.submit(SubmitSequenceData("another", **hourly))
        clock.advance(hours=2)
        return str(scheduler.state.job("etl").error)


# ---------------------------------------------------------------------- the state


@provokes("others may write to the state directory")
def _() -> str:
    os.mkdir("state")
    os.chmod("state", 0o777)
    return state_error()


@provokes("the state directory /home/ada/shop/state is on a network")
def _(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(database, "file_system_of", lambda path: "nfs4")
    return state_error()


@provokes("/home/ada/shop/state/blaze.db can't be opened")
def _() -> str:
    os.mkdir("state", 0o700)
    Path("state/blaze.db").write_text("This is a text, and long enough to look like the head of a database. " * 10)
    return state_error()


def write_with_sqlite(statement: str) -> None:
    connection = sqlite3.connect("state/blaze.db")
    connection.execute(statement)
    connection.commit()
    connection.close()


@provokes("/home/ada/shop/state/blaze.db is not a state file")
def _() -> str:
    os.mkdir("state", 0o700)
    write_with_sqlite("CREATE TABLE somebody_else (x)")
    return state_error()


@provokes("/home/ada/shop/state/blaze.db was written by a newer")
def _() -> str:
    Blaze(sequences=Etl().sequences, state_dir="./state").start().stop()
    write_with_sqlite("PRAGMA user_version = 9999")
    return state_error()


@provokes("blazed: there is no state directory")
def _(capsys: Any) -> str:
    return said_by(capsys, "status", "--state-dir", "nowhere")


# ---------------------------------------------------------------------- the daemon


@provokes("blazed: no daemon serves")
def _(capsys: Any) -> str:
    return said_by(capsys, "trigger", "etl")


@provokes("blaze-x1y2z3 (PID 12345) serves")
def _(folder: Path, capsys: Any) -> str:
    lock = OwnerLock(folder / ".blaze")
    try:
        lock.introduce("blaze-x1y2z3")
        (folder / "definition.py").write_text("from blaze import BlazeSequence\nsequences = BlazeSequence()\n")
        return said_by(capsys, "start")
    finally:
        lock.undo()


def told_of_job_file(capsys: Any, text: str) -> str:
    Path("jobs.json").write_text(text)
    Path("definition.py").write_text("from blaze import BlazeSequence\nsequences = BlazeSequence()\n")
    return said_by(capsys, "jobs", "submit", "--job-file", "jobs.json")


@provokes("blazed: jobs.json:1:12")
def _(capsys: Any) -> str:
    return told_of_job_file(capsys, '[{"seq_id" "etl"}]')


@provokes("blazed: jobs.json: $[0]")
def _(capsys: Any) -> str:
    os.mkdir(".blaze", 0o700)
    record_definitions(Path(".blaze"), Etl().sequences)
    return told_of_job_file(capsys, '[{"seq_id": "etl", "seq_run_intervall": "* * * * *"}]')


# ---------------------------------------------------------------------- runs


@provokes("step 'slow'")
def _() -> str:
    blocks, sequences = BlazeBlock(), BlazeSequence()

    @blocks.block(timeout=0.1)
    def slow() -> None:
        while True:
            time.sleep(0.01)

    sequences.sequence(blocks=blocks, sequence=[SeqBlockData("slow")], seq_id="x")(lambda context=None: context)
    return sequences.run("x").error.splitlines()[0]


@provokes("the output of step 'connect'")
def _(caplog: Any) -> str:
    blocks, sequences = BlazeBlock(), BlazeSequence()

    @blocks.block
    def connect() -> Any:
        return threading.Lock()

    sequences.sequence(blocks=blocks, sequence=[SeqBlockData("connect")], seq_id="x")(lambda context=None: None)
    with Blaze(sequences=sequences, state_dir="./state") as scheduler:
        scheduler.run("x").raise_for_status()
    return next(line for line in caplog.messages if "can't be stored" in line)


def interrupted(*steps: SeqBlockData) -> List[Any]:
    """A run whose second step was at work when the scheduler stopped; the scheduler and its handle."""
    etl = Etl()
    at_it = threading.Event()

    @etl.blocks.block
    def wait() -> None:
        at_it.set()
        while True:
            blaze.current().check_cancelled()
            time.sleep(0.005)

    steps = (SeqBlockData("fetch"), SeqBlockData("wait", dependencies=["fetch"]))
    etl.sequences.sequence(blocks=etl.blocks, sequence=steps, seq_id="x")(lambda context=None: context)
    scheduler = Blaze(sequences=etl.sequences, state_dir="./state", grace=0.01)
    handle = scheduler.trigger("x")
    assert at_it.wait(60)
    scheduler.stop()
    return [scheduler, handle]


@provokes("the scheduler stopped before run")
def _() -> str:
    return error_of(interrupted()[1].result, 60)


@provokes("the sequence changed since the run started")
def _() -> str:
    interrupted()
    changed = Etl(SeqBlockData("fetch", name="fetch_all"), seq_id="x")
    with Blaze(sequences=changed.sequences, state_dir="./state") as scheduler:
        return str(scheduler.state.runs().items[0].error)
