"""Many processes on one state directory, what is done to them, and a checker that knows only the promises.

DESIGN §3 and §4; RELIABILITY R3 to R8, R12, R20 to R24. The checker holds the state file
against a witness file that the blocks themselves write, and against the ticks that
``Schedule`` computes for each job.
"""

from __future__ import annotations

import contextlib
import os
import queue
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple, Optional

from blaze import Schedule
from tests.integration.fleet_program import JOBS
from tests.integration.shared_clock import SharedClock

ROOT = Path(__file__).resolve().parents[2]
#: Seconds after which a process that does not answer is a failure.
PATIENCE = 60.0
OPEN = "status IN ('PENDING', 'RUNNING')"


class Word(NamedTuple):
    """A line of the witness."""

    kind: str
    job_id: str
    scheduled_at: str
    run_id: str
    step: str
    key: str
    pid: int
    attempt: int


class Member:
    """One process of the fleet."""

    def __init__(self, fleet: Fleet, number: int) -> None:
        self.number = number
        self.frozen = False
        self.errors = fleet.folder / f"stderr-{number}-{time.monotonic_ns()}"
        arguments = (fleet.state_dir, fleet.witness, fleet.clock_file, number)
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.fleet_program", *map(str, arguments)],
                env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT, text=True, bufsize=1,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        #: Its scheduler, as it called itself last.
        self.instance = ""
        self.answers: queue.Queue[list[str]] = queue.Queue()
        self.orders = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            words = line.split()
            self.instance = words[1]
            self.answers.put([words[0], *words[2:]])

    def ready(self) -> Member:
        """Wait until its scheduler has started."""
        assert self.answer()[0] == "ready"
        return self

    def answer(self) -> list[str]:
        try:
            return self.answers.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"process {self.number} is silent: {self.errors.read_text()}") from None

    def order(self, *words: object) -> None:
        """Tell it to do something; whether it can will be seen."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(" ".join(map(str, words)) + "\n")

    def ask(self, *words: object) -> list[str]:
        """Tell it to do something, and wait until it has."""
        self.order(*words)
        text = [str(word) for word in words]
        while True:
            kind, *rest = self.answer()
            if kind == "done" and rest[: len(text)] == text:
                return rest[len(text) :]

    def freeze(self) -> None:
        self.frozen = True
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.frozen = False
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def stop(self) -> None:
        """Let it stop cleanly."""
        self.process.stdin.close()
        try:
            assert self.process.wait(PATIENCE) == 0, self.errors.read_text()
        finally:
            self.process.kill()
            self.close()

    def close(self) -> None:
        self.process.wait()
        self._reader.join()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()


class Fleet:
    """The processes, what is done to them by lot, and what came of it."""

    def __init__(self, folder: Path, size: int, seed: int) -> None:
        self.folder = folder
        self.state_dir = folder / "state"
        self.witness = folder / "witness"
        self.clock_file = folder / "clock"
        self.clock = SharedClock(self.clock_file)
        self.size = size
        self.seed = seed
        self.random = random.Random(seed)
        self.members: list[Member] = []
        self.deeds: Counter[str] = Counter()
        self.first_ticks: dict[str, float] = {}
        #: Submissions that were answered for.
        self.acknowledged: set[str] = set()
        #: Processes whose blocks in flight were cut off: killed, stopped or restarted.
        self.cut_off: set[int] = set()
        #: Steps that were recorded as COMPLETED, with the size of the witness at a later instant.
        self.completed: dict[tuple[str, str], int] = {}
        self.paused = False
        self.paused_jobs: set[str] = set()
        #: What the clock showed before and after it was set.
        self.jumps: list[tuple[float, float]] = []
        self.last_seconds = 0.0
        self._numbers = 0

    def __enter__(self) -> Fleet:
        self.members = [Member(self, number) for number in range(self.size)]
        for member in self.members:
            member.ready()
        for job_id, *_ in JOBS:
            member = self.members[1]  # it has all sequences
            submitted = float(member.ask("submit", job_id, 0)[0])
            interval = next(job[2] for job in JOBS if job[0] == job_id)
            self.first_ticks[job_id] = Schedule.parse(interval, "UTC").after(int(submitted))
        return self

    def __exit__(self, *exc_info: object) -> None:
        for member in self.members:
            if member.process.poll() is None:
                member.process.kill()
            with contextlib.suppress(Exception):
                member.close()

    # ------------------------------------------------------------------ what is done to them

    def rage(self, seconds: float) -> None:
        """Do things by lot for so long."""
        deeds = {
            self.kill: 30, self.freeze: 12, self.thaw: 12, self.stop: 8, self.restart: 5, self.hold_a_job: 8,
            self.hold_all: 4, self.resubmit: 6, self.submit_once: 10, self.cancel: 5, self.set_the_clock: 6,
        }  # fmt: skip
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            deeds[self.hold_all] = 40 if self.paused else 4  # paused, little happens
            (deed,) = self.random.choices(list(deeds), weights=list(deeds.values()))
            member = self.random.choice(self.members)
            if deed(member) is not False:
                self.deeds[deed.__name__] += 1
            self._note_what_is_recorded()
            # The instant of the next deed is drawn by lot.
            time.sleep(self.random.random() * 0.3)

    def kill(self, member: Member) -> None:
        owners = {owner for (owner,) in self.rows(f"SELECT DISTINCT owner FROM runs WHERE {OPEN}")}
        busy = [one for one in self.members if one.instance in owners]
        if busy and self.random.random() < 0.7:
            member = self.random.choice(busy)
        self.deeds["kills with a run in flight"] += member.instance in owners
        self.cut_off.add(member.process.pid)
        member.kill()
        self._replace(member)

    def freeze(self, member: Member) -> Optional[bool]:
        frozen = sum(member.frozen for member in self.members)
        if member.frozen or frozen > self.size // 3 or not member.instance:
            return False
        member.freeze()
        return None

    def thaw(self, member: Member) -> Optional[bool]:
        frozen = [member for member in self.members if member.frozen]
        if not frozen:
            return False
        self.random.choice(frozen).thaw()
        return None

    def stop(self, member: Member) -> None:
        self.cut_off.add(member.process.pid)
        if member.frozen:
            member.thaw()
        member.stop()
        self._replace(member)

    def restart(self, member: Member) -> Optional[bool]:
        if member.instance:
            self.cut_off.add(member.process.pid)
        return self._tell(member, "restart")

    def hold_a_job(self, member: Member) -> Optional[bool]:
        if self.paused_jobs and self.random.random() < 0.6:
            return self._tell(member, "resume_job", self.paused_jobs.pop())
        job_id = self.random.choice(JOBS)[0]
        if self._tell(member, "pause_job", job_id) is False:
            return False
        self.paused_jobs.add(job_id)
        return None

    def hold_all(self, member: Member) -> Optional[bool]:
        if self._tell(member, "resume" if self.paused else "pause") is False:
            return False
        self.paused = not self.paused
        return None

    def resubmit(self, member: Member) -> Optional[bool]:
        job_id = self.random.choice(JOBS[:-1])[0]
        return self._tell(member, "submit", job_id, self.random.randrange(2))

    def submit_once(self, member: Member) -> Optional[bool]:
        if member.frozen or not member.instance:
            return False
        self._numbers += 1
        name = f"once-{self._numbers}"
        member.ask("once", name)
        self.acknowledged.add(name)
        return None

    def cancel(self, member: Member) -> Optional[bool]:
        found = self.rows(f"SELECT run_id FROM runs WHERE {OPEN} AND job_id NOT LIKE 'once%' ORDER BY random() LIMIT 1")
        return self._tell(member, "cancel", found[0][0]) if found else False

    def set_the_clock(self, member: Member) -> None:
        before = self.clock.time()
        self.clock.move(self.random.choice([-2.5, -1.0, -0.3, 0.7, 2.0, 8.0, 90.0]))
        self.jumps.append((before, self.clock.time()))

    def _tell(self, member: Member, *words: object) -> Optional[bool]:
        if member.frozen or not member.instance:
            return False
        member.ask(*words)
        return None

    def _replace(self, member: Member) -> None:
        self.members[self.members.index(member)] = Member(self, member.number)

    def _note_what_is_recorded(self) -> None:
        """The record first and then the witness: what was completed then may not start in any line to come."""
        found = self.rows(
            "SELECT r.run_id, s.id & 0xFFFFF FROM runs r "
            "JOIN steps s ON s.id >= r.id << 20 AND s.id < (r.id + 1) << 20 "
            f"WHERE r.{OPEN} AND s.status = 'COMPLETED'"
        )
        size = self.witness.stat().st_size if self.witness.exists() else 0
        for run_id, place in found:
            self.completed.setdefault((run_id, f"s{place}"), size)

    # ------------------------------------------------------------------ the end of it

    def calm(self) -> None:
        """End all but one process, let that one bring everything to its end, and end it too."""
        for member in self.members:
            if member.frozen:
                member.thaw()
        for member in self.members[1:] + self.members[:1]:
            self.cut_off.add(member.process.pid)
            if self.random.random() < 0.5:
                member.kill()
            else:
                member.stop()
        began = time.monotonic()
        last = Member(self, 1).ready()
        self.members = [last]
        last.ask("resume")
        for job_id, *_ in JOBS:
            last.ask("resume_job", job_id)
        # Everything that is due is fired before the jobs are held.
        now = self.clock.time()
        self._wait_for(lambda: not self.rows("SELECT 1 FROM jobs WHERE status = 'ACTIVE' AND next_at <= ?", now))
        for job_id, *_ in JOBS:
            last.ask("pause_job", job_id)
        self._wait_for(lambda: not self.rows(f"SELECT 1 FROM runs WHERE {OPEN}"))
        self.last_seconds = time.monotonic() - began
        last.stop()

    def _wait_for(self, condition, seconds: float = PATIENCE) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (
                self.rows(f"SELECT job_id, run_id, status, reason, owner FROM runs WHERE {OPEN}"),
                self.rows("SELECT job_id, status, error, next_at FROM jobs WHERE status NOT IN ('PAUSED', 'ENDED')"),
            )
            time.sleep(0.05)

    def rows(self, sql: str, *values: object) -> list[tuple]:
        """Rows of the state file, read without Blaze; a process of its own may do that."""
        connection = sqlite3.connect(f"file:{self.state_dir / 'blaze.db'}?mode=ro", uri=True, timeout=30)
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()

    # ------------------------------------------------------------------ the promises

    def check(self) -> str:
        """Hold everything against the promises; the summary."""
        words = [Word(*line.split()[:6], *map(int, line.split()[6:])) for line in self.witness.read_text().splitlines()]
        faults = [
            *self._ticks_lost_or_doubled(),
            *self._doubled_in_the_witness(words),
            *self._completed_and_run_again(),
            *self._run_again_without_a_cause(words),
            *self._runs_that_met(words),
            *self._ends(),
            *self._lost_submissions(),
            *self._complaints(),
        ]
        integrity = self.rows("PRAGMA integrity_check")
        if integrity != [("ok",)]:
            faults.append(f"integrity: {integrity}")
        left = os.listdir(self.state_dir / "instances")
        if left:
            faults.append(f"lock files are left: {left}")
        summary = self.summary(words, faults)
        assert not faults, summary
        return summary

    def _ticks_lost_or_doubled(self) -> list[str]:
        """Every tick has one run, or lies in one SKIPPED row, which says why."""
        faults: list[str] = []
        for job_id, _, interval, _, _ in JOBS:
            ((next_at,),) = self.rows("SELECT next_at FROM jobs WHERE job_id = ?", job_id)
            schedule = Schedule.parse(interval, "UTC")
            ((last,),) = self.rows("SELECT MAX(scheduled_at) FROM runs WHERE job_id = ?", job_id)
            # Ticks that were recorded come again if the clock was set back and the job submitted then.
            ticks = ticks_between(schedule, self.first_ticks[job_id], max(next_at, (last or 0.0) + 1.0))
            covered: Counter[float] = Counter()
            rows = self.rows(
                "SELECT scheduled_at, status, missed, missed_from, reason FROM runs WHERE job_id = ?", job_id
            )
            for scheduled_at, status, missed, missed_from, reason in rows:
                if status != "SKIPPED":
                    covered[scheduled_at] += 1
                    continue
                some = ticks[bisect_left(ticks, missed_from) : bisect_right(ticks, scheduled_at)]
                if reason is None or len(some) != missed:
                    faults.append(f"{job_id}: {missed} skipped of {len(some)} ({reason}), {missed_from} {scheduled_at}")
                covered.update(some)
            lost = [tick for tick in ticks if not covered[tick]]
            doubled = [tick for tick, times in covered.items() if times > 1]
            strange = set(covered) - set(ticks)
            self.deeds["ticks"] += len(ticks)
            self.deeds["lost"] += len(lost)
            self.deeds["doubled"] += len(doubled)
            for what, some in (("lost", lost), ("doubled", doubled), ("no tick of its", sorted(strange))):
                if some:
                    faults.append(f"{job_id}: {len(some)} {what}: {some[:5]}")
        return faults

    def _doubled_in_the_witness(self, words: list[Word]) -> list[str]:
        runs: dict[tuple[str, str], set[str]] = defaultdict(set)
        keys: dict[tuple[str, str], set[str]] = defaultdict(set)
        for word in words:
            runs[word.job_id, word.scheduled_at].add(word.run_id)
            keys[word.run_id, word.step].add(word.key)
        twice = [f"tick {tick} ran as {found}" for tick, found in runs.items() if len(found) > 1]
        return twice + [f"step {step} has the keys {found}" for step, found in keys.items() if len(found) > 1]

    def _completed_and_run_again(self) -> list[str]:
        faults, at = [], 0
        for line in self.witness.read_text().splitlines(keepends=True):
            word = line.split()
            if word[0] == "start" and at >= self.completed.get((word[3], word[4]), sys.maxsize):
                faults.append(f"{word[3]} {word[4]} was completed and ran again")
            at += len(line)
        return faults

    def _run_again_without_a_cause(self, words: list[Word]) -> list[str]:
        """A step starts again only if the process where it ran before died or stopped."""
        starts: dict[tuple[str, str], list[int]] = defaultdict(list)
        for word in words:
            if word.kind == "start":
                starts[word.run_id, word.step].append(word.pid)
        self.deeds["steps run again"] = sum(len(pids) - 1 for pids in starts.values())
        return [
            f"{step} ran again though process {pid} went on"
            for step, pids in starts.items()
            for pid in pids[:-1]
            if pid not in self.cut_off
        ]

    def _runs_that_met(self, words: list[Word]) -> list[str]:
        """Runs of one job are never at work at the same time, unless it allows that."""
        spans: dict[str, dict[str, list[int]]] = defaultdict(dict)
        for number, word in enumerate(words):
            spans[word.job_id].setdefault(word.run_id, [number, number])[1] = number
        faults = []
        for job_id, runs in spans.items():
            if job_id.startswith("allow"):
                continue
            in_order = sorted(runs.items(), key=lambda run: run[1])
            faults += [
                f"{job_id}: runs {one} and {other} met"
                for (one, (_, end)), (other, (start, _)) in zip(in_order, in_order[1:])
                if start < end
            ]
        return faults

    def _ends(self) -> list[str]:
        fine = ("COMPLETED", "SKIPPED", "CANCELLED")
        rows = self.rows("SELECT status, reason, error, COUNT(*) FROM runs GROUP BY 1, 2, 3")
        self.ends = {f"{status} {reason or ''}".strip(): number for status, reason, _, number in rows}
        return [f"{number} runs are {status} ({reason}): {error}" for status, reason, error, number in rows
                if status not in fine]  # fmt: skip

    def _lost_submissions(self) -> list[str]:
        rows = self.rows("SELECT job_id, COUNT(*), MIN(status) FROM runs WHERE job_id LIKE 'once-%' GROUP BY 1")
        ran = {job_id: (number, status) for job_id, number, status in rows}
        return [
            f"{job_id} was acknowledged and has {ran.get(job_id)}"
            for job_id in sorted(self.acknowledged)
            if ran.get(job_id, (0, ""))[0] != 1
        ]

    def _complaints(self) -> list[str]:
        """Nobody says that the database is locked, that a loop failed, or anything on standard error."""
        faults = []
        for path in [*self.folder.glob("stderr-*"), *(self.state_dir / "log").rglob("*.log")]:
            for line in path.read_text(errors="replace").splitlines():
                bad = ("locked", "Traceback", "failed and goes on", "can't be", "BROKEN", "ERROR")
                if path.name.startswith("stderr") or any(word in line for word in bad):
                    faults.append(f"{path.name}: {line}")
        return faults[:20]

    def summary(self, words: list[Word], faults: list[str]) -> str:
        late = sorted(
            started - tick for tick, started in self.rows(
                "SELECT scheduled_at, started_at FROM runs WHERE started_at IS NOT NULL "
                "AND (job_id LIKE 'skip%' OR job_id LIKE 'allow%') AND recoveries = 0"
            )
            if not any(before <= tick <= after for before, after in self.jumps)
        )  # fmt: skip
        late = late or [0.0]
        cuts = statistics.quantiles(late * 2, n=100, method="inclusive")  # twice: of one there are none
        deeds = self.deeds
        skipped = self.rows("SELECT reason, SUM(missed), COUNT(*) FROM runs WHERE status = 'SKIPPED' GROUP BY 1")
        lines = [
            f"{self.size} processes, seed {self.seed}: {deeds['kill']} kills, "
            f"{deeds['kills with a run in flight']} with a run in flight",
            "also: " + ", ".join(
                f"{deeds[name]} {name}" for name in (
                    "stop", "restart", "freeze", "thaw", "hold_a_job", "hold_all", "resubmit", "submit_once", "cancel",
                    "set_the_clock",
                )
            ),
            f"ticks {deeds['ticks']}, lost {deeds['lost']}, doubled {deeds['doubled']}; "
            f"steps started {sum(word.kind == 'start' for word in words)}, again {deeds['steps run again']}; "
            f"acknowledged submissions {len(self.acknowledged)}",
            "skipped: " + ", ".join(f"{ticks} {reason} in {rows} rows" for reason, ticks, rows in skipped),
            f"ends: {self.ends}",
            f"late by (s): p50 {cuts[49]:.3f}, p99 {cuts[98]:.3f}, max {late[-1]:.3f}, "
            f"over {len(late)} runs (without what the clock leapt over); "
            f"all ended {self.last_seconds:.1f} s after the last start",
            f"faults: {len(faults)}", *faults[:40],
        ]  # fmt: skip
        return "\n".join(lines)


def ticks_between(schedule: Schedule, first: float, end: float) -> list[float]:
    """The ticks from ``first`` to before ``end``."""
    if first >= end:
        return []
    a, b = (datetime.fromtimestamp(second, timezone.utc) for second in (first - 1, end - 1))
    return [instant.timestamp() for instant in schedule.between(a, b)]
