"""redun: tasks whose calls are expressions, a local scheduler with 4 threads, and the call graph in SQLite.

``memory`` keeps the call graph in an in-memory database, ``sqlite`` in a file. In a benchmark each call is to run
(``cache=False``); the pipeline that is killed uses the cache, as redun does unless told otherwise.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from redun import Scheduler, task
from redun.config import Config

from ... import graphs
from ...graphs import Graph
from ...measure import Timed, stopwatch
from ..places import fresh
from ..workloads import witnessed

redun_namespace = "bench"
logging.getLogger("redun").setLevel(logging.ERROR)  # by default it writes a line or two a task


@task()  # type: ignore[misc]
def source() -> int:
    """A task."""
    return graphs.source()


@task()  # type: ignore[misc]
def step(name: str, value: int) -> int:
    """A task; equal calls are one call, so the name makes them different."""
    return graphs.step(value)


@task()  # type: ignore[misc]
def join(name: str, values: List[int]) -> int:
    """A task."""
    return graphs.join(values)


@task()  # type: ignore[misc]
def extract(number: int) -> List[int]:
    """A task."""
    return graphs.extract()


@task()  # type: ignore[misc]
def transform(number: int, rows: List[int]) -> List[int]:
    """A task."""
    return graphs.transform(rows)


@task()  # type: ignore[misc]
def load(number: int, rows: List[int]) -> int:
    """A task."""
    return graphs.load(rows)


@task()  # type: ignore[misc]
def doomed(name: str, values: List[int]) -> int:
    """A task of the pipeline that is killed."""
    return witnessed(name, values)


def _scheduler(setting: str, directory: Path) -> Scheduler:
    uri = "sqlite:///:memory:" if setting == "memory" else f"sqlite:///{directory}/redun.db"
    config = Config(
        {
            "backend": {"db_uri": uri},
            "executors.default": {"type": "local", "max_workers": "4"},
        }
    )
    scheduler = Scheduler(config=config)
    scheduler.load()
    return scheduler


@contextmanager
def graph(setting: str, graph: Graph, place: Path) -> Iterator[Callable[[], Tuple[Timed, Any]]]:
    """One expression."""

    def expression() -> Any:
        found: Dict[str, Any] = {}
        for one in graph.tasks:
            if one.needs is None:
                found[one.name] = source()
            elif isinstance(one.needs, str):
                found[one.name] = step(one.name, found[one.needs])
            else:
                found[one.name] = join(one.name, [found[name] for name in one.needs])
        return found[graph.tasks[-1].name]

    def once() -> Tuple[Timed, Any]:
        with fresh(place) as directory:
            scheduler = _scheduler(setting, directory)
            stop = stopwatch()
            output = scheduler.run(expression(), cache=False)
            return stop(), output

    yield once


@contextmanager
def runs(setting: str, count: int, place: Path) -> Iterator[Callable[[], Tuple[Timed, List[Any]]]]:
    """An execution a run, one after the other."""

    def once() -> Tuple[Timed, List[Any]]:
        with fresh(place) as directory:
            scheduler = _scheduler(setting, directory)
            stop = stopwatch()
            outputs = [scheduler.run(load(n, transform(n, extract(n))), cache=False) for n in range(count)]
            return stop(), outputs

    yield once


def carry(setting: str, graph: Graph, place: Path, again: bool) -> Optional[int]:
    """Run again; calls that are recorded are not made again."""
    found: Dict[str, Any] = {}
    for one in graph.tasks:
        found[one.name] = doomed(one.name, [found[name] for name in one.parents])
    return _scheduler(setting, place).run(found[graph.tasks[-1].name])  # type: ignore[no-any-return]
