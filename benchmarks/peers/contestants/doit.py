"""doit: python actions whose values are passed with ``getargs``; the state goes to one file when a run ends."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain
from doit.tools import run_once

from ... import graphs
from ...graphs import Graph, Task
from ...measure import Timed, require, stopwatch
from ..places import fresh
from ..workloads import witnessed


def _run(tasks: List[Dict[str, Any]], state: Path) -> None:
    """Run tasks as ``doit run`` would."""

    def task_bench() -> Iterator[Dict[str, Any]]:
        yield from tasks

    main = DoitMain(ModuleTaskLoader({"task_bench": task_bench}))
    arguments = ["run", "--backend", "sqlite3", "--db-file", str(state), "--verbosity", "0", "--reporter", "zero"]
    status = main.run(arguments)
    require(status == 0, f"doit ended with {status}")


def _tasks(graph: Graph, body: Callable[[Task, List[int]], int], found: Dict[str, int]) -> List[Dict[str, Any]]:
    def action(task: Task) -> Callable[..., Dict[str, int]]:
        def call(**inputs: int) -> Dict[str, int]:
            found[task.name] = value = body(task, [inputs[f"in{n}"] for n in range(len(task.parents))])
            return {"value": value}

        return call

    return [
        {
            "name": task.name,
            "actions": [action(task)],
            "getargs": {f"in{n}": (f"bench:{parent}", "value") for n, parent in enumerate(task.parents)},
            "uptodate": [run_once],
        }
        for task in graph.tasks
    ]


def _added(task: Task, values: List[int]) -> int:
    if task.needs is None:
        return task.function()
    return task.function(values[0] if isinstance(task.needs, str) else values)


@contextmanager
def graph(setting: str, graph: Graph, place: Path) -> Iterator[Callable[[], Tuple[Timed, Any]]]:
    """One ``doit run`` with a new state file."""

    def once() -> Tuple[Timed, Any]:
        found: Dict[str, int] = {}
        tasks = _tasks(graph, _added, found)
        with fresh(place) as directory:
            stop = stopwatch()
            _run(tasks, directory / "doit.db")
            return stop(), found.get(graph.tasks[-1].name)

    yield once


@contextmanager
def runs(setting: str, count: int, place: Path) -> Iterator[Callable[[], Tuple[Timed, List[Any]]]]:
    """``doit run`` again and again with one state file; nothing is up to date."""
    outputs: List[Any] = []

    def extract() -> Dict[str, Any]:
        return {"rows": graphs.extract()}

    def transform(rows: List[int]) -> Dict[str, Any]:
        return {"rows": graphs.transform(rows)}

    def load(rows: List[int]) -> Dict[str, Any]:
        outputs.append(graphs.load(rows))
        return {"total": outputs[-1]}

    tasks: List[Dict[str, Any]] = [
        {"name": "extract", "actions": [extract]},
        {"name": "transform", "actions": [transform], "getargs": {"rows": ("bench:extract", "rows")}},
        {"name": "load", "actions": [load], "getargs": {"rows": ("bench:transform", "rows")}},
    ]
    for task in tasks:
        task["uptodate"] = [False]  # or the second run would find that nothing has changed

    def once() -> Tuple[Timed, List[Any]]:
        outputs.clear()
        with fresh(place) as directory:
            stop = stopwatch()
            for _ in range(count):
                _run([dict(task) for task in tasks], directory / "doit.db")
            return stop(), list(outputs)

    yield once


def carry(setting: str, graph: Graph, place: Path, again: bool) -> Optional[int]:
    """Run again; what the state file knows to be up to date is skipped."""
    found: Dict[str, int] = {}
    _run(_tasks(graph, lambda task, values: witnessed(task.name, values), found), place / "doit.db")
    return found.get(graph.tasks[-1].name)
