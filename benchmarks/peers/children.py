"""Child processes that take turns: each in its contestant's environment, stopped while it is another one's turn.

A child and whatever it starts are one process group, and carry a mark in their environment, so that nothing of
theirs outlives the cell, whatever groups they move to.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any, Dict, List, Optional

from ..bench import ROOT
from .field import NO_TELEMETRY, QUIET, Entry
from .workloads import WITNESS

#: Names the mark in a child's environment.
MARK = "BENCH_MARK"
#: Seconds that one answer may take.
ANSWER_LIMIT = 150.0


class Failed(Exception):
    """A child did not do its part; the message is what its cell shows."""


def environment(place: Path, mark: str) -> Dict[str, str]:
    """What a child's environment is: no settings of the user, nothing outside of its own directory."""
    kept = {
        name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH") if name in os.environ
    }
    home = {
        "HOME": place,
        "PREFECT_HOME": place / "prefect",
        "DAGSTER_HOME": place / "dagster",
        "TMPDIR": place / "tmp",
    }
    for directory in home.values():
        directory.mkdir(exist_ok=True)
    (home["DAGSTER_HOME"] / "dagster.yaml").write_text("telemetry:\n  enabled: false\n", encoding="utf-8")
    return {
        **kept,
        **NO_TELEMETRY,
        **QUIET,
        **{name: str(directory) for name, directory in home.items()},
        WITNESS: str(place / "witness"),
        MARK: mark,
    }


class Child:
    """One contestant's part of one workload."""

    def __init__(self, python: Path, entry: Entry, workload: str, size: int, place: Path, argument: str = "") -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.entry = entry
        self.mark = uuid.uuid4().hex
        self._log = place / f"{self.mark}.log"
        self._unread = b""
        command = [str(python), "-m", "benchmarks.peers.cell", entry.contestant.key, entry.setting.key, workload]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, str(size), str(place), *filter(None, [argument])],
                cwd=place,
                env={**environment(place, self.mark), "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    def ask(self, limit: float = ANSWER_LIMIT) -> Dict[str, Any]:
        """Let it go on until it has answered. Raises :class:`Failed`, and then the child has been killed."""
        self.send()
        try:
            answer = self.answer(limit)
        finally:
            self._signal(signal.SIGSTOP)
        return answer

    def send(self) -> None:
        """Let it go on."""
        assert self._process.stdin is not None
        self._signal(signal.SIGCONT)
        try:
            self._process.stdin.write(b"go\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # what it said before it ended is still to be read

    def answer(self, limit: float = ANSWER_LIMIT) -> Dict[str, Any]:
        """What it answers. Raises :class:`Failed` if that is an error, takes too long, or never comes."""
        line = self._line(limit)
        if line is None:
            self.kill()
            raise Failed(f"no answer within {limit:g} s")
        if not line:
            status = self._process.wait()
            raise Failed(f"ended with {status}: {self.tail()}")
        found: Dict[str, Any] = json.loads(line)
        if "error" in found:
            self.kill()
            raise Failed(found["error"])
        return found

    def _line(self, limit: float) -> Optional[bytes]:
        assert self._process.stdout is not None
        file = self._process.stdout.fileno()
        deadline = time.monotonic() + limit
        while b"\n" not in self._unread:
            ready, _, _ = select.select([file], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            read = os.read(file, 65_536)
            if not read:
                return b""
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def tail(self) -> str:
        """The last of what it printed."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return " | ".join(lines[-3:])[-400:]

    def kill(self) -> None:
        """End it and whatever it started, as ``kill -9`` does."""
        self._signal(signal.SIGKILL)
        end_marked(self.mark)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                pass

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass


def marked(mark: str) -> List[int]:
    """The processes that carry a mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (directory / "environ").read_bytes().split(b"\0"):
                found.append(int(directory.name))
        except OSError:
            pass  # it has ended, or is another user's
    return found


def end_marked(mark: str) -> None:
    """End them."""
    for pid in marked(mark):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
