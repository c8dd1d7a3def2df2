"""kill -9 at random instants: DESIGN "What survives", 1, 2 and 4; RELIABILITY R4, R5, R12."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from blaze import RunStatus, StateManager

from .crash_pipeline import STEPS, WORKERS

PROGRAM = Path(__file__).with_name("crash_pipeline.py")
ROOT = Path(__file__).resolve().parents[2]


class Campaign:
    """Kills the pipeline again and again, and holds what it did against what it had recorded."""

    def __init__(self, directory: Path, durability: str, seed: int) -> None:
        self.state_dir = directory / "state"
        self.witness = directory / "witness"
        self.durability = durability
        self.random = random.Random(seed)
        #: Steps that were recorded as COMPLETED at a kill, with the number of witness lines at that time.
        self.completed: dict[tuple[str, str], int] = {}
        self.kills_in_flight = 0

    def command(self, runs: int) -> list[str]:
        return [sys.executable, str(PROGRAM), str(self.state_dir), str(self.witness), str(runs), self.durability]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT)}

    def kill_once(self) -> None:
        child = subprocess.Popen(
            self.command(10_000), env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n", child.communicate()[1]
        # The instant of the kill is what is drawn by lot here.
        try:
            child.wait(self.random.random() * 0.25)
        except subprocess.TimeoutExpired:
            child.kill()
        child.communicate()
        assert child.returncode == -9
        self._note_what_is_recorded()

    def _note_what_is_recorded(self) -> None:
        lines = len(self.lines())
        with StateManager(self.state_dir) as state:
            open_runs = state.runs(status=["PENDING", "RUNNING"]).items
            self.kills_in_flight += bool(open_runs)
            for run in open_runs:
                for step in state.steps(run.run_id):
                    if str(step.status) == "COMPLETED":
                        self.completed.setdefault((run.run_id, step.name), lines)

    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.witness.read_text().splitlines()] if self.witness.exists() else []

    def finish(self) -> None:
        done = subprocess.run(
            self.command(0), env=self.environment(), capture_output=True, text=True, timeout=120, check=False
        )
        assert done.stdout == "ready\ndone\n", done.stderr

    def check(self) -> dict[str, int]:
        starts: dict[tuple[str, str], list[int]] = defaultdict(list)
        keys: dict[tuple[str, str], set[str]] = defaultdict(set)
        seen: dict[tuple[str, str], set[str]] = defaultdict(set)
        recorded: dict[tuple[str, str], set[str]] = defaultdict(set)
        for number, (kind, run, step, *rest) in enumerate(self.lines()):
            if kind == "start":
                starts[run, step].append(number)
                keys[run, step].add(rest[1])
            elif kind == "saw":
                seen[run, step].add(rest[0])
            else:
                recorded[run, step].add(rest[0])
        for step, lines in self.completed.items():
            assert not [number for number in starts[step] if number >= lines], f"{step} was completed and ran again"
        for step, values in seen.items():
            assert values == recorded[step], f"a step saw another output of {step} than the recorded one"
        assert all(len(found) == 1 for found in keys.values()), "an idempotency key changed"

        with StateManager(self.state_dir) as state:
            runs = state.runs(limit=1000).items
            assert {run.status for run in runs} == {RunStatus.COMPLETED}
            for run in runs:
                steps = state.steps(run.run_id)
                assert [str(step.status) for step in steps] == ["COMPLETED"] * STEPS
        connection = sqlite3.connect(self.state_dir / "blaze.db")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
        assert list((self.state_dir / "instances").iterdir()) == []
        again = sum(len(lines) - 1 for lines in starts.values())
        return {"runs": len(runs), "steps run again": again}


@pytest.mark.parametrize("durability", ["process", "power"])
def test_no_completed_step_runs_again_however_often_the_process_is_killed(tmp_path: Path, durability: str) -> None:
    campaign = Campaign(tmp_path, durability, seed=1)
    for _ in range(5):
        campaign.kill_once()
    campaign.finish()
    assert campaign.check()["runs"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("durability", ["process", "power"])
def test_two_hundred_kills(tmp_path: Path, durability: str, record_property: pytest.FixtureRequest) -> None:
    """RELIABILITY section 6: at least 200 kills; lost, doubled and stuck all zero."""
    campaign = Campaign(tmp_path, durability, seed=int.from_bytes(os.urandom(4), "big"))
    for _ in range(200):
        campaign.kill_once()
    campaign.finish()
    figures = campaign.check()
    print(f"\n{durability}: 200 kills, {campaign.kills_in_flight} with a run in flight, {figures}, {WORKERS} workers")
    assert campaign.kills_in_flight > 100
