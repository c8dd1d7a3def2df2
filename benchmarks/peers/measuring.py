"""Measures the cells of a workload: in turns, side by side, by killing, or by starting interpreters."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

from ..bench import ROOT
from ..measure import spin
from ..report import note
from . import workloads
from .children import Child, Failed, end_marked, environment
from .field import Entry
from .results import Results
from .venvs import interpreter
from .workloads import DOOMED_CHAIN, DOOMED_FAN, DOOMED_SECONDS, LATE_SECONDS

HELLO = Path(__file__).resolve().parent / "hello"


class Effort(NamedTuple):
    """How much is done: everything, or just enough to see that it works."""

    #: Repetitions after a warm-up; a contestant may be asked for fewer.
    rounds: int = 7
    #: Sizes are divided by this, down to a least.
    shrink: int = 1
    #: Seconds before the window in which idleness is watched, and of the window.
    settle: float = 75.0
    idle: float = 60.0
    #: Windows of lateness, and the seconds of one.
    windows: int = 2
    window: int = LATE_SECONDS

    def size(self, entry: Entry, workload: str) -> int:
        """How much an entry is asked for."""
        full = entry.size(workload)
        return full if self.shrink == 1 else max(min(full, 4), full // self.shrink)


QUICK = Effort(rounds=1, shrink=50, settle=0.1, idle=0.2, windows=1, window=2)


#: What the cells of a contestant say that has no environment.
ABSENT = "not installed"


class Absent(Exception):
    """An entry has no environment here."""


def python_of(entry: Entry) -> Path:
    """The interpreter of an entry's environment. Blaze and the bare loops can do with this one."""
    found = interpreter(entry.contestant.venv)
    if found is None:
        if entry.contestant.venv == "blaze":
            return Path(sys.executable)
        raise Absent(f"{ABSENT} for Python {sys.version.split()[0]}")
    return found


def measure(results: Results, workload: str, entries: Sequence[Entry], effort: Effort, place: Path) -> None:
    """Measure one workload for those of the entries that can do it."""
    present = []
    for entry in entries:
        if entry.why_not(workload) is None:
            cell = results.begin(workload, entry.key, effort.size(entry, workload))
            try:
                python_of(entry)
            except Absent as absent:
                cell["error"] = str(absent)
            else:
                present.append(entry)
    started = time.monotonic()
    work = {"late": _late, "idle": _idle, "kill": _kill, "import": _start, "hello": _start}.get(workload, _turns)
    work(results, workload, present, effort, place)
    results.stamp(
        workload, {"rounds": effort.rounds, "shrink": effort.shrink, "seconds": round(time.monotonic() - started, 1)}
    )
    results.save()
    note(f"{workload}: measured in {time.monotonic() - started:.0f} s")


def _place(place: Path, entry: Entry, number: int = 0) -> Path:
    return place / f"{number}-{entry.key.replace(':', '-')}"


def _fail(results: Results, workload: str, entry: Entry, why: object) -> None:
    cell = results.cells[workload][entry.key]
    cell["error"] = str(why)
    note(f"{workload}, {entry.key}: {why}")


# ---------------------------------------------------------------------- in turns


def _turns(results: Results, workload: str, entries: Sequence[Entry], effort: Effort, place: Path) -> None:
    """One repetition of each, and again: A B C A B C. The first of each is a warm-up and dropped."""
    children: Dict[str, Tuple[Entry, Child]] = {}
    try:
        for entry in entries:
            size = effort.size(entry, workload)
            child = Child(python_of(entry), entry, workload, size, _place(place, entry))
            children[entry.key] = entry, child
            _turn(results, workload, entry, children, warm_up=True)
        for number in range(effort.rounds):
            for entry, _ in list(children.values()):
                if number < entry.contestant.rounds:
                    _turn(results, workload, entry, children)
            results.save()
    finally:
        for _, child in children.values():
            child.kill()


def _turn(
    results: Results, workload: str, entry: Entry, children: Dict[str, Tuple[Entry, Child]], warm_up: bool = False
) -> None:
    try:
        answer = children[entry.key][1].ask()
    except Failed as failed:
        children.pop(entry.key)[1].kill()
        _fail(results, workload, entry, failed)
        return
    if not warm_up:
        cell = results.cells[workload][entry.key]
        for name, value in (("times", "wall"), ("cpus", "cpu"), ("spins", "spin")):
            cell.setdefault(name, []).append(answer[value])


# ---------------------------------------------------------------------- one after the other


def _late(results: Results, workload: str, entries: Sequence[Entry], effort: Effort, place: Path) -> None:
    """A window each, and again."""
    for number in range(effort.windows):
        for entry in entries:
            if number >= entry.contestant.rounds or "error" in results.cells[workload][entry.key]:
                continue
            size = effort.size(entry, workload)
            before = spin()
            child = Child(python_of(entry), entry, workload, size, _place(place, entry, number), str(effort.window))
            try:
                found = child.ask()["late"]
            except Failed as failed:
                _fail(results, workload, entry, failed)
            else:
                cell = results.cells[workload][entry.key]
                cell.setdefault("windows", []).append(found)
                cell.setdefault("spins", []).append((before.cpu + spin().cpu) / 2)
                results.save()
            finally:
                child.kill()


# ---------------------------------------------------------------------- side by side


def _idle(results: Results, workload: str, entries: Sequence[Entry], effort: Effort, place: Path) -> None:
    """All at the same time: what is counted is each process's own processor time."""
    children: Dict[str, Tuple[Entry, Child]] = {}

    def everyone() -> List[Tuple[Entry, Dict[str, Any]]]:
        for _, child in children.values():
            child.send()
        found = []
        for entry, child in list(children.values()):
            try:
                found.append((entry, child.answer()))
            except Failed as failed:
                children.pop(entry.key)[1].kill()
                _fail(results, workload, entry, failed)
        return found

    try:
        for entry in entries:
            size = effort.size(entry, workload)
            child = Child(python_of(entry), entry, workload, size, _place(place, entry))
            children[entry.key] = entry, child
        everyone()
        time.sleep(effort.settle)
        everyone()
        time.sleep(effort.idle)
        for entry, answer in everyone():
            results.cells[workload][entry.key]["cpu_per_minute"] = answer["cpu"] * 60 / effort.idle
    finally:
        for _, child in children.values():
            child.kill()


# ---------------------------------------------------------------------- kill -9


def _kill(results: Results, workload: str, entries: Sequence[Entry], effort: Effort, place: Path) -> None:
    """Kill each at the same instants of the pipeline's progress, and let it go on in its documented way."""
    chance = random.Random(9)
    last = DOOMED_CHAIN + DOOMED_FAN - 1
    most = max((effort.size(entry, workload) for entry in entries), default=0)
    instants = [(chance.randint(2, last), chance.uniform(0.0, 1.5 * DOOMED_SECONDS)) for _ in range(most)]
    for number, (steps, delay) in enumerate(instants):
        for entry in entries:
            cell = results.cells[workload][entry.key]
            if number >= effort.size(entry, workload) or "error" in cell:
                continue
            try:
                found = killed(python_of(entry), entry, _place(place, entry, number), steps, delay)
            except Failed as failed:
                _fail(results, workload, entry, failed)
            else:
                cell.setdefault("kills", []).append({"after_steps": steps, "delay": round(delay, 4), **found})
                results.save()


def killed(python: Path, entry: Entry, place: Path, steps: int, delay: float) -> Dict[str, Any]:
    """Kill a pipeline ``delay`` seconds after so many steps have begun, restart it, and tell what became of it."""
    witness = place / "witness"
    first = Child(python, entry, "kill", 1, place, "first")
    try:
        first.send()
        deadline = time.monotonic() + 150
        while _begun(witness) < steps:
            if time.monotonic() > deadline:
                raise Failed(f"only {_begun(witness)} steps began within 150 s: {first.tail()}")
            time.sleep(0.001)
        time.sleep(delay)
    finally:
        first.kill()
    before = witness.read_text(encoding="utf-8")
    again = Child(python, entry, "kill", 1, place, "again")
    try:
        output = again.ask()["output"]
    finally:
        again.kill()
    found = workloads.aftermath(before, witness.read_text(encoding="utf-8")[len(before) :])
    graph = workloads.doomed_graph()
    expected = graph.expected()[graph.tasks[-1].name]
    if output is not None and output != expected:
        raise Failed(f"wrong result after the restart: {output!r}, not {expected!r}")
    return {**found._asdict(), "finished": output is not None}


def _begun(witness: Path) -> int:
    try:
        text = witness.read_text(encoding="utf-8")
    except FileNotFoundError:
        return 0
    return sum(1 for what, _ in workloads.told(text) if what == "B")


# ---------------------------------------------------------------------- starting interpreters


def _start(results: Results, workload: str, entries: Sequence[Entry], effort: Effort, place: Path) -> None:
    """A new process each, in turns; the first of each compiles what is imported, and is dropped."""
    most = max((effort.size(entry, workload) for entry in entries), default=0)
    for number in range(1 + (most if effort.shrink == 1 else 1)):
        for entry in entries:
            cell = results.cells[workload][entry.key]
            if number > effort.size(entry, workload) or "error" in cell:
                continue
            before = spin()
            try:
                found = started(entry, workload, _place(place, entry, number))
            except Failed as failed:
                _fail(results, workload, entry, failed)
                continue
            if number:
                found["spins"] = (before.cpu + spin().cpu) / 2
                for name, value in found.items():
                    cell.setdefault(name, []).append(value)
        results.save()


def started(entry: Entry, workload: str, place: Path) -> Dict[str, float]:
    """Start an interpreter and wait for its end: seconds, processor seconds, and the most memory that it took."""
    place.mkdir(parents=True)
    mark = uuid.uuid4().hex
    environ = {
        **environment(place, mark),
        "PYTHONPYCACHEPREFIX": str(place.parent / f"compiled-{entry.contestant.key}"),
    }
    python = python_of(entry)
    if entry.contestant.venv == "blaze":
        environ["PYTHONPATH"] = str(ROOT)
    arguments = ["-c", f"{entry.contestant.imports}\nprint('HELLO')"]
    if workload == "hello":
        arguments = [str(_hello(entry)), str(place)]
    with (place / "out").open("wb") as out, (place / "err").open("wb") as err:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [str(python), *arguments], cwd=place, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
    end_marked(mark)
    printed = (place / "out").read_text(encoding="utf-8").split()
    if process.returncode or "HELLO" not in printed:
        told = (place / "err").read_text(encoding="utf-8", errors="replace").strip()[-300:]
        raise Failed(f"ended with {process.returncode}, printed {printed[:5]}: {told}")
    shutil.rmtree(place, ignore_errors=True)
    return {"times": wall, "cpus": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss * 1024.0}


def _hello(entry: Entry) -> Path:
    ours: Mapping[str, Path] = {
        "blaze": ROOT / "benchmarks" / "hello_blaze.py",
        "bare_loops": ROOT / "benchmarks" / "hello_bare.py",
    }
    return ours.get(entry.contestant.key, HELLO / f"hello_{entry.contestant.key}.py")
