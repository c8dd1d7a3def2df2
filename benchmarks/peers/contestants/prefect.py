"""Prefect: flows of tasks in this process, on the ephemeral server that a flow starts when no other is configured.

Its state goes to a SQLite file below ``PREFECT_HOME``. ``default`` is as it comes; results are not persisted, as is
the default. The pipeline that is killed persists them, and takes over those with the same inputs.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE
from prefect.task_runners import ThreadPoolTaskRunner

from ... import graphs
from ...graphs import Graph, Task
from ...measure import Timed, stopwatch
from ..workloads import witnessed

known: Dict[str, Task] = {}


@task
def source() -> int:
    """A task."""
    return graphs.source()


@task
def step(value: int) -> int:
    """A task."""
    return graphs.step(value)


@task
def join(values: List[int]) -> int:
    """A task."""
    return graphs.join(values)


@flow
def chain_flow(size: int) -> int:
    """Task after task."""
    value = source()
    for _ in range(size - 1):
        value = step(value)
    return value


@flow(task_runner=ThreadPoolTaskRunner(max_workers=4))  # type: ignore[arg-type]
def graph_flow(last: str) -> int:
    """Everything is submitted; a future as an argument is waited for."""
    futures: Dict[str, Any] = {}
    for one in known.values():
        if one.needs is None:
            futures[one.name] = source.submit()
        elif isinstance(one.needs, str):
            futures[one.name] = step.submit(futures[one.needs])
        else:
            futures[one.name] = join.submit([futures[name] for name in one.needs])
    return futures[last].result()  # type: ignore[no-any-return]


@task
def extract() -> List[int]:
    """A task."""
    return graphs.extract()


@task
def transform(rows: List[int]) -> List[int]:
    """A task."""
    return graphs.transform(rows)


@task
def load(rows: List[int]) -> int:
    """A task."""
    return graphs.load(rows)


@flow
def pipeline() -> int:
    """extract → transform → load."""
    return load(transform(extract()))


@task(persist_result=True, cache_policy=INPUTS + TASK_SOURCE)
def doomed_task(name: str, values: List[int]) -> int:
    """A task of the pipeline that is killed."""
    return witnessed(name, values)


@flow(task_runner=ThreadPoolTaskRunner(max_workers=4), persist_result=True)  # type: ignore[arg-type]
def doomed_flow() -> int:
    """The pipeline that is killed."""
    futures: Dict[str, Any] = {}
    last = ""
    for last, one in known.items():
        futures[last] = doomed_task.submit(last, [futures[name] for name in one.parents])
    return futures[last].result()  # type: ignore[no-any-return]


@contextmanager
def graph(setting: str, graph: Graph, place: Path) -> Iterator[Callable[[], Tuple[Timed, Any]]]:
    """A flow run; the warm-up starts the server."""
    known.update({one.name: one for one in graph.tasks})
    is_chain = graph.tasks[-1].function is graphs.step

    def once() -> Tuple[Timed, Any]:
        stop = stopwatch()
        output = chain_flow(len(graph.tasks)) if is_chain else graph_flow(graph.tasks[-1].name)
        return stop(), output

    yield once


@contextmanager
def runs(setting: str, count: int, place: Path) -> Iterator[Callable[[], Tuple[Timed, List[Any]]]]:
    """A flow run a run, one after the other."""

    def once() -> Tuple[Timed, List[Any]]:
        stop = stopwatch()
        outputs: List[Any] = [pipeline() for _ in range(count)]
        return stop(), outputs

    yield once


def carry(setting: str, graph: Graph, place: Path, again: bool) -> Optional[int]:
    """The flow is called again; a task run with inputs that are cached takes the result from there."""
    known.update({one.name: one for one in graph.tasks})
    return doomed_flow()
