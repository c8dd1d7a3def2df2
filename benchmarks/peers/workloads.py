"""The workloads, one definition for all: what is run, how much of it, and what has to come out.

Nothing but the standard library is imported, so that every peer's environment can.
"""

from __future__ import annotations

import os
import time
from typing import Callable, Dict, Iterator, List, Mapping, NamedTuple, Set, Tuple

from ..graphs import LOADED, PRIME, Graph, Task, chain, fan, join, source, workflows
from ..measure import require

#: Recorded workflows of the collection in ``tests/data/workflows``, each between a source and a sink.
RECORDED: Mapping[str, str] = {
    "montage": "montage-chameleon-dss-10d-001",
    "genome": "1000genome-chameleon-8ch-250k-001",
    "rnaseq": "rnaseq-dirt02-001",
}


class Workload(NamedTuple):
    """What is asked of everyone."""

    title: str
    #: Size that is asked for, unless a contestant says that it needs a smaller one.
    size: int
    #: What a figure is per: a step, a run, a job.
    per: str
    about: str


WORKLOADS: Mapping[str, Workload] = {
    "chain": Workload(
        "A chain of steps", 1_000, "step", "Each step takes the integer that the one before returned, and adds one."
    ),
    "fan": Workload(
        "1 → N → 1",
        1_000,
        "step",
        "One source, N steps that take its output, and one that takes the outputs of them all.",
    ),
    "runs": Workload(
        "Many runs of a 3-step pipeline",
        1_000,
        "run",
        "extract → transform → load, N runs of it, all asked for at once.",
    ),
    "montage": Workload(
        "A real workflow: Montage",
        1,
        "step",
        "472 tasks and 1,284 edges of an astronomical mosaic, tasks that only add.",
    ),
    "genome": Workload("A real workflow: 1000 Genomes", 1, "step", "328 tasks and 424 edges, tasks that only add."),
    "rnaseq": Workload("A real workflow: RNA-seq", 1, "step", "197 tasks and 451 edges, tasks that only add."),
    "cron": Workload(
        "Cron jobs added", 10_000, "job", "Daily and weekly times of a company's jobs, in the zone Europe/Berlin."
    ),
    "late": Workload(
        "Lateness",
        200,
        "tick",
        "200 jobs, each due every second for 20 s: from the nominal instant to the body's first line.",
    ),
    "idle": Workload(
        "Idleness", 1_000, "minute", "Processor time of a running scheduler with 1,000 jobs of which none is due."
    ),
    "kill": Workload(
        "kill -9 in the middle, then restart",
        5,
        "kill",
        "A chain of 10 steps, 10 side by side, and a join; each takes 20 ms.",
    ),
    "import": Workload("Importing", 9, "start", "A new interpreter that imports what its user imports, and exits."),
    "hello": Workload(
        "Hello",
        5,
        "start",
        "A pipeline of two steps in a new state directory, from the start of the process to its end.",
    ),
}
#: Workloads that are a graph.
GRAPHS = ("chain", "fan", *RECORDED)
#: Workloads of which every turn is one repetition in a child that stays.
TURNS = (*GRAPHS, "runs", "cron")

#: Seconds of the ``late`` window.
LATE_SECONDS = 20


def graph_of(workload: str, size: int) -> Graph:
    """The graph of a workload; a recorded one has the size that it has."""
    if workload == "chain":
        return chain(size)
    if workload == "fan":
        return fan(size)
    return workflows([(RECORDED[workload], 1)])


def steps_of(workload: str, size: int) -> int:
    """By how much the time of a repetition is divided."""
    return len(graph_of(workload, size).tasks) if workload in GRAPHS else size


# ---------------------------------------------------------------------- was it done?


def require_graph(graph: Graph, output: object) -> None:
    """The last task's output is the right one, which it is only if every task ran on the right inputs."""
    expected = graph.expected()[graph.tasks[-1].name]
    require(output == expected, f"the output is {output!r}, not {expected!r}")


def require_runs(count: int, outputs: List[object]) -> None:
    """Each run ended with what load returns."""
    wrong = [output for output in outputs if output != LOADED]
    require(len(outputs) == count, f"{len(outputs)} runs ended, not {count}")
    require(not wrong, f"{len(wrong)} outputs are wrong, such as {wrong[:1]!r}, not {LOADED!r}")


def require_jobs(count: int, stored: int) -> None:
    """Every job was added."""
    require(stored == count, f"{stored} jobs are there, not {count}")


def wait_for_ticks(seen: Callable[[], int], due: int, end: float) -> None:
    """Wait for a window's ticks: a second for any that should not come, ten for those that are late."""
    time.sleep(max(0.0, end + 1.0 - time.time()))
    while seen() < due and time.time() < end + 10.0:
        time.sleep(0.05)


class Lateness(NamedTuple):
    """How late ticks were, in milliseconds."""

    due: int
    fired: int
    missed: int
    twice: int
    p50: float
    p99: float
    most: float


def lateness_of(ticks: List[Tuple[str, float, float]], count: int, seconds: int) -> Lateness:
    """What became of ticks.

    :param ticks: (job, nominal instant, instant of the body's first line); jobs are ``job-0`` and so on.
    """
    require(bool(ticks), "no tick fired")
    start = min(nominal for _, nominal, _ in ticks)
    due = {(f"job-{number}", start + second) for number in range(count) for second in range(seconds)}
    seen: Dict[Tuple[str, float], int] = {}
    late: List[float] = []
    for job, nominal, began in ticks:
        if (job, nominal) in due:
            seen[job, nominal] = seen.get((job, nominal), 0) + 1
            late.append((began - nominal) * 1e3)
    late.sort()
    return Lateness(
        len(due),
        len(late),
        len(due - seen.keys()),
        sum(number - 1 for number in seen.values()),
        late[len(late) // 2],
        late[min(len(late) - 1, int(len(late) * 0.99))],
        late[-1],
    )


# ---------------------------------------------------------------------- kill -9

#: Steps of the chain and of the fan-out behind it, in the pipeline that is killed.
DOOMED_CHAIN, DOOMED_FAN = 10, 10
#: Seconds that each of its steps takes.
DOOMED_SECONDS = 0.02
#: Names the witness file to the pipeline that is killed.
WITNESS = "BENCH_WITNESS"


def doomed_names() -> Tuple[List[str], List[str], str]:
    """Names of the steps: the chain, those side by side, and the join."""
    return [f"c{n:02}" for n in range(DOOMED_CHAIN)], [f"f{n:02}" for n in range(DOOMED_FAN)], "sink"


def doomed_graph() -> Graph:
    """The pipeline that is killed."""
    line, side, last = doomed_names()
    tasks = [Task(line[0], source)]
    tasks += [Task(name, join, (before,)) for before, name in zip(line, line[1:])]
    tasks += [Task(name, join, (line[-1],)) for name in side]
    return Graph("doomed", (*tasks, Task(last, join, tuple(side))))


def witnessed(name: str, values: List[int]) -> int:
    """The body of every step of it: tell the witness, take a while, tell the witness, and return.

    The witness is a file that no contestant knows of. What is in it when the process is
    killed stays in it: a line is one ``write`` to a file opened for appending.
    """
    _tell("B", name)
    time.sleep(DOOMED_SECONDS)
    _tell("E", name)
    return (1 + sum(values)) % PRIME if values else source()


def _tell(what: str, name: str) -> None:
    file = os.open(os.environ[WITNESS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, f"{what} {name}\n".encode())
    finally:
        os.close(file)


def told(text: str) -> Iterator[Tuple[str, str]]:
    """The whole lines of a witness file: B or E, and the step."""
    for line in text.splitlines(keepends=True):
        if line.endswith("\n") and len(line.split()) == 2:
            what, name = line.split()
            yield what, name


class Aftermath(NamedTuple):
    """What the witness tells about one kill and the restart behind it."""

    #: Steps whose body had ended before the kill, and began again.
    completed_again: Tuple[str, ...]
    #: Those of them that a dependent had begun on: surely recorded, however late recording is.
    built_upon_again: Tuple[str, ...]
    #: Steps whose body was at work when the process was killed, and began again.
    in_flight_again: Tuple[str, ...]
    #: Steps that never ran to their end, before or after.
    never: Tuple[str, ...]
    #: Steps that had ended before the kill.
    completed: int


def aftermath(before: str, after: str) -> Aftermath:
    """Compare the witness at the kill with what was added after the restart."""
    graph = doomed_graph()
    parents = {task.name: task.parents for task in graph.tasks}
    begun, ended = _sides(before)
    again, ended_again = _sides(after)
    built_upon = {parent for name in begun for parent in parents[name]}
    order = [task.name for task in graph.tasks]
    return Aftermath(
        tuple(name for name in order if name in ended and name in again),
        tuple(name for name in order if name in ended and name in again and name in built_upon),
        tuple(name for name in order if name in begun - ended and name in again),
        tuple(name for name in order if name not in ended | ended_again),
        len(ended),
    )


def _sides(text: str) -> Tuple[Set[str], Set[str]]:
    lines = list(told(text))
    return {name for what, name in lines if what == "B"}, {name for what, name in lines if what == "E"}
