"""The programs that embed a scheduler, run as a user runs them."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import List

import pytest

from blaze import RunStatus, StateManager

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "embedded"
with (ROOT / "examples" / "data" / "seattle-weather.csv").open(newline="") as _file:
    ROWS = list(csv.DictReader(_file))


def run(program: str, *arguments: object, cwd: Path) -> List[str]:
    """The lines that an example prints; it succeeds and has nothing to complain of."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(EXAMPLES / program), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, encoding="utf-8", timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout.splitlines()


def told_of(tick: float) -> str:
    """What the pipeline tells at a tick."""
    day = ROWS[int(tick) % len(ROWS)]
    return f"{day['date']}: {day['weather']}, {day['temp_min']} to {day['temp_max']} °C, {day['precipitation']} mm"


def test_a_thread_of_a_program_schedules_while_the_main_thread_works(tmp_path: Path) -> None:
    printed = run("thread.py", "--seconds=2.2", f"--state-dir={tmp_path / 'state'}", cwd=tmp_path)
    assert printed[0] == "the main thread does its own work"
    with StateManager(tmp_path / "state") as state:
        runs = state.runs(job_id="weather").items
    # The newest may have been under way when the program ended: the next start would go on with it.
    assert len(runs) >= 2 and {run.status for run in runs[1:]} == {RunStatus.COMPLETED}
    ticks = [run.scheduled for run in reversed(runs) if run.scheduled is not None]
    assert ticks == [ticks[0] + number for number in range(len(ticks))]
    lines = [line for line in printed if "COMPLETED  '" in line]
    moments = [f"{datetime.fromtimestamp(tick, timezone.utc):%H:%M:%S}" for tick in ticks]
    expected = [f"{moment}  COMPLETED  '{told_of(tick)}'" for moment, tick in zip(moments, ticks)]
    assert lines == expected[: len(lines)] and len(lines) >= 2  # a last one may have come after them


def test_runs_are_awaited_and_the_event_loop_goes_on(tmp_path: Path) -> None:
    printed = run("asyncio_app.py", cwd=tmp_path)
    assert printed[:3] == [f"by hand  COMPLETED  {told_of(0)}"] * 3
    for line in printed[3:5]:
        assert re.fullmatch(r"\d\d:\d\d:\d\d  COMPLETED  '\d{4}/\d\d/\d\d: .*'", line)
    assert printed[5:] == ["the event loop went on"]


def test_two_processes_fire_each_tick_once_though_one_is_killed(tmp_path: Path) -> None:
    printed = run("two_processes.py", "--seconds=4", cwd=tmp_path)
    assert " is killed; " in printed[0]
    assert re.fullmatch(r"(\d+) ticks in \d+ seconds: each once, \d+ skipped", printed[-1])
    assert len([line for line in printed if line.startswith("tick of ")]) >= 2


def test_a_web_app_starts_and_shows_runs_and_fires_ticks(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="the extra 'examples' is not installed")
    printed = run("web_app.py", "--demo", cwd=tmp_path)
    assert printed[0] == f"POST /runs       COMPLETED  {told_of(0)}"
    assert printed[1] == "GET /runs/{id}   read COMPLETED, describe COMPLETED"
    assert re.fullmatch(r"GET /runs        the tick of \S+ came \d+ ms late", printed[2])
    assert printed[3:] == ["GET /health      ok: True"]
