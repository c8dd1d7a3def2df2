"""DBOS on its default system database, a SQLite file: workflows of steps in the same process.

A chain is a workflow that calls synchronous steps; in wider graphs the steps are coroutines, and what is
ready is gathered. Runs are called one after the other: as background workflows they took as long.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from dbos import DBOS, DBOSConfig

from ... import graphs
from ...graphs import Graph
from ...measure import Timed, stopwatch
from ..workloads import doomed_graph, wait_for_ticks, witnessed

#: The tasks of the graph at hand; a workflow's arguments are stored, so they are small.
known: Dict[str, graphs.Task] = {}
fired: List[Tuple[str, float, float]] = []


@DBOS.step()
def source() -> int:
    """A step."""
    return graphs.source()


@DBOS.step()
def step(value: int) -> int:
    """A step."""
    return graphs.step(value)


@DBOS.step()
async def call(name: str, values: List[int]) -> int:
    """A step of a wider graph."""
    task = known[name]
    if task.needs is None:
        return task.function()
    return task.function(values[0] if isinstance(task.needs, str) else values)


@DBOS.workflow()
def chain_workflow(size: int) -> int:
    """Step after step."""
    value = source()
    for _ in range(size - 1):
        value = step(value)
    return value


@DBOS.workflow()
async def graph_workflow(last: str) -> int:
    """Level after level: every step of a level is ready when the level before has ended."""
    found: Dict[str, int] = {}
    for level in _levels():
        values = await asyncio.gather(*[call(task.name, [found[parent] for parent in task.parents]) for task in level])
        found.update(zip((task.name for task in level), values))
    return found[last]


def _levels() -> List[List[graphs.Task]]:
    depth: Dict[str, int] = {}
    levels: List[List[graphs.Task]] = []
    for task in known.values():
        depth[task.name] = 1 + max((depth[parent] for parent in task.parents), default=-1)
        if depth[task.name] == len(levels):
            levels.append([])
        levels[depth[task.name]].append(task)
    return levels


@DBOS.step()
def extract() -> List[int]:
    """A step."""
    return graphs.extract()


@DBOS.step()
def transform(rows: List[int]) -> List[int]:
    """A step."""
    return graphs.transform(rows)


@DBOS.step()
def load(rows: List[int]) -> int:
    """A step."""
    return graphs.load(rows)


@DBOS.workflow()
def pipeline() -> int:
    """extract → transform → load."""
    return load(transform(extract()))


@DBOS.step()
async def doomed_step(name: str, values: List[int]) -> int:
    """A step of the pipeline that is killed; its body waits, so it has a thread."""
    return await asyncio.to_thread(witnessed, name, values)


@DBOS.workflow()
async def doomed_workflow() -> int:
    """The pipeline that is killed."""
    graph = doomed_graph()
    found: Dict[str, int] = {}
    side = [task for task in graph.tasks if task.name.startswith("f")]
    for task in graph.tasks[: -len(side) - 1]:
        found[task.name] = await doomed_step(task.name, [found[parent] for parent in task.parents])
    values = await asyncio.gather(*[doomed_step(task.name, [found[task.parents[0]]]) for task in side])
    return await doomed_step(graph.tasks[-1].name, list(values))


@DBOS.workflow()
def tick(scheduled: datetime, context: Any) -> None:
    """A scheduled workflow: note when the body began."""
    fired.append((context, scheduled.timestamp(), time.time()))


@contextmanager
def _launched(place: Path) -> Iterator[None]:
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": f"sqlite:///{place}/bench.sqlite",
        "log_level": "ERROR",
        "application_version": "1",
    }
    DBOS(config=config)
    DBOS.launch()
    try:
        yield
    finally:
        DBOS.destroy()


@contextmanager
def graph(setting: str, graph: Graph, place: Path) -> Iterator[Callable[[], Tuple[Timed, Any]]]:
    """One workflow."""
    known.update({task.name: task for task in graph.tasks})
    is_chain = graph.tasks[-1].function is graphs.step

    def once() -> Tuple[Timed, Any]:
        stop = stopwatch()
        output = chain_workflow(len(graph.tasks)) if is_chain else asyncio.run(_awaited(graph.tasks[-1].name))
        return stop(), output

    with _launched(place):
        yield once


async def _awaited(last: str) -> int:
    return await graph_workflow(last)


@contextmanager
def runs(setting: str, count: int, place: Path) -> Iterator[Callable[[], Tuple[Timed, List[Any]]]]:
    """A workflow a run."""

    def once() -> Tuple[Timed, List[Any]]:
        stop = stopwatch()
        outputs: List[Any] = [pipeline() for _ in range(count)]
        return stop(), outputs

    with _launched(place):
        yield once


@contextmanager
def cron(setting: str, texts: List[str], place: Path) -> Iterator[Callable[[], Tuple[Timed, int]]]:
    """A schedule each; each has a thread of its own."""

    def once() -> Tuple[Timed, int]:
        stop = stopwatch()
        _schedule(texts)
        timed = stop()
        stored = len(DBOS.list_schedules())
        for number in range(len(texts)):
            DBOS.delete_schedule(f"job-{number}")
        return timed, stored

    with _launched(place):
        yield once


def _schedule(texts: List[str]) -> None:
    for number, text in enumerate(texts):
        DBOS.create_schedule(
            schedule_name=f"job-{number}", workflow_fn=tick, schedule=text, context=f"job-{number}", cron_timezone="UTC"
        )


def late(setting: str, count: int, seconds: int, place: Path) -> List[Tuple[str, float, float]]:
    """Schedules of every second; those that are due in the window are waited for."""
    with _launched(place):
        _schedule(["* * * * * *"] * count)
        time.sleep(35.0)  # it looks for new schedules every 30 s
        start = math.ceil(time.time()) + 1.0

        def due() -> List[Tuple[str, float, float]]:
            return [tick for tick in list(fired) if start <= tick[1] < start + seconds]

        wait_for_ticks(lambda: len(due()), count * seconds, start + seconds)
        return due()


@contextmanager
def idle(setting: str, count: int, place: Path) -> Iterator[None]:
    """Schedules that are due on the 29th of February only."""
    with _launched(place):
        _schedule([f"{n % 60} {n // 60 % 24} 29 2 *" for n in range(count)])
        yield


def carry(setting: str, graph: Graph, place: Path, again: bool) -> Optional[int]:
    """A launch recovers the workflows of this executor that have not ended."""
    with _launched(place):
        if not again:
            return asyncio.run(_doomed())
        (run,) = DBOS.list_workflows()
        return DBOS.retrieve_workflow(run.workflow_id).get_result()  # type: ignore[no-any-return]


async def _doomed() -> int:
    return await doomed_workflow()
