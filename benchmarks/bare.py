"""The bare loops: what the standard library needs for the same work by hand, and nothing more.

They leave out whatever can be: the order of the tasks is known beforehand, no error is
handled, no state is checked, nothing could be resumed. The tables have one primary key
and no index besides, the variant (WITHOUT ROWID) in which SQLite commits a row fastest.
"""

from __future__ import annotations

import json
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from graphlib import TopologicalSorter
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

from .graphs import Graph
from .measure import Timed, stopwatch

TABLES = """
CREATE TABLE runs (run TEXT PRIMARY KEY, sequence TEXT, status TEXT, at REAL) WITHOUT ROWID;
CREATE TABLE ends (run TEXT PRIMARY KEY, status TEXT, at REAL, result TEXT) WITHOUT ROWID;
CREATE TABLE steps (run TEXT, step TEXT, status TEXT, started REAL, ended REAL, result TEXT,
                    PRIMARY KEY (run, step)) WITHOUT ROWID;
"""
RUN = "INSERT INTO runs VALUES (?, ?, 'RUNNING', ?)"
STEP = "INSERT INTO steps VALUES (?, ?, 'COMPLETED', ?, ?, ?)"
END = "INSERT INTO ends VALUES (?, 'COMPLETED', ?, ?)"


def open_database(path: Path, synchronous: str) -> sqlite3.Connection:
    """A new database in WAL mode."""
    connection = sqlite3.connect(str(path), isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.executescript(TABLES)
    return connection


def committed(graph: Graph, connection: sqlite3.Connection, run: str = "run-1") -> Tuple[Timed, Dict[str, int]]:
    """Run a graph in this thread with one INSERT and COMMIT a task; the time, and the outputs."""
    execute = connection.cursor().execute
    tasks = graph.tasks
    outputs: Dict[str, int] = {}
    now, dumps = time.time, json.dumps
    stop = stopwatch()
    for task in tasks:
        started = now()
        value = task(outputs)
        ended = now()
        execute("BEGIN")
        execute(STEP, (run, task.name, started, ended, dumps(value)))
        execute("COMMIT")
        outputs[task.name] = value
    return stop(), outputs


def runs(functions: Sequence[Callable[..., Any]], count: int, connection: sqlite3.Connection) -> Tuple[Timed, Any]:
    """Run a line of functions ``count`` times, with one INSERT and COMMIT a step and two a run.

    The time, and the last output of the last run.
    """
    execute = connection.cursor().execute
    named = [(function.__name__, function) for function in functions]
    now, dumps = time.time, json.dumps
    value: Any = None
    stop = stopwatch()
    for number in range(count):
        run = f"run-{number:06}"
        execute("BEGIN")
        execute(RUN, (run, "pipeline", now()))
        execute("COMMIT")
        value = None
        for name, function in named:
            started = now()
            value = function() if value is None else function(value)
            ended = now()
            execute("BEGIN")
            execute(STEP, (run, name, started, ended, dumps(value)))
            execute("COMMIT")
        execute("BEGIN")
        execute(END, (run, now(), dumps(value)))
        execute("COMMIT")
    return stop(), value


def pooled(
    graph: Graph, workers: int = 4, connection: Optional[sqlite3.Connection] = None
) -> Tuple[Timed, Dict[str, int]]:
    """Run a graph on a thread pool, coordinated by ``graphlib``; the time, and the outputs.

    Completions come through a ``SimpleQueue`` and are taken in batches; sorter and
    cycle check are made before the clock starts, as Blaze's plan is. With a connection,
    the coordinator commits a row of every task before any that depends on it starts.
    """
    tasks = {task.name: task for task in graph.tasks}
    sorter = TopologicalSorter(graph.predecessors)
    sorter.prepare()
    outputs: Dict[str, int] = {}
    completed: SimpleQueue[Tuple[str, Optional[BaseException]]] = SimpleQueue()
    execute: Any = None if connection is None else connection.cursor().execute

    def call(name: str) -> None:
        try:
            outputs[name] = tasks[name](outputs)
        except BaseException as error:
            completed.put((name, error))
        else:
            completed.put((name, None))

    def commit(name: str) -> None:
        now = time.time()
        execute("BEGIN")
        execute(STEP, ("run-1", name, now, now, json.dumps(outputs[name])))
        execute("COMMIT")

    stop = stopwatch()
    with ThreadPoolExecutor(workers) as pool:
        submit = pool.submit
        for name in sorter.get_ready():
            submit(call, name)
        while sorter.is_active():
            batch = [completed.get()]
            while not completed.empty():
                batch.append(completed.get())
            for name, error in batch:
                if error is not None:
                    raise error
                if connection is not None:
                    commit(name)
                sorter.done(name)
            for name in sorter.get_ready():
                submit(call, name)
    return stop(), outputs
