"""The floor: what the same promise takes by hand, and nothing more.

F1 is graphlib and a pool of 4 threads; F2 commits one row a step besides, from the thread that
coordinates; F2i does so without a pool; F3 is F2 with an fsync a commit. No error is handled,
nothing could be resumed.
"""

from __future__ import annotations

import heapq
import json
import math
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, Tuple

from ... import bare
from ...graphs import Graph, extract, load, transform
from ...measure import Timed, stopwatch
from ..places import fresh

SYNCHRONOUS = {"F2": "NORMAL", "F2i": "NORMAL", "F3": "FULL"}
JOBS = "CREATE TABLE jobs (job TEXT PRIMARY KEY, sequence TEXT, interval TEXT, next_at REAL) WITHOUT ROWID"
#: Steps at a time.
WORKERS = 4


@contextmanager
def _database(setting: str, place: Path) -> Iterator[Optional[sqlite3.Connection]]:
    with ExitStack() as stack:
        if setting == "F1":
            yield None
        else:
            directory = stack.enter_context(fresh(place))
            yield stack.enter_context(closing(bare.open_database(directory / "bare.db", SYNCHRONOUS[setting])))


@contextmanager
def graph(setting: str, graph: Graph, place: Path) -> Iterator[Callable[[], Tuple[Timed, Any]]]:
    """One pass over the graph."""
    last = graph.tasks[-1].name

    def once() -> Tuple[Timed, Any]:
        with _database(setting, place) as connection:
            if connection is not None and setting == "F2i":
                timed, outputs = bare.committed(graph, connection)
            else:
                timed, outputs = bare.pooled(graph, WORKERS, connection)
            return timed, outputs.get(last)

    yield once


@contextmanager
def runs(setting: str, count: int, place: Path) -> Iterator[Callable[[], Tuple[Timed, List[Any]]]]:
    """Run after run; with a database one row a step and two a run."""
    functions = (extract, transform, load)

    def once() -> Tuple[Timed, List[Any]]:
        with _database(setting, place) as connection:
            if connection is not None and setting == "F2i":
                timed, output = bare.runs(functions, count, connection)
                (ended,) = connection.execute("SELECT count(*) FROM ends WHERE result = ?", (json.dumps(output),))
                return timed, [output] * ended[0]
            return _pooled_runs(functions, count, connection)

    yield once


def _pooled_runs(
    functions: Tuple[Callable[..., Any], ...], count: int, connection: Optional[sqlite3.Connection]
) -> Tuple[Timed, List[Any]]:
    outputs: List[Any] = []

    def write(statement: str, row: Tuple[Any, ...]) -> None:
        if connection is not None:
            connection.execute(statement, row)  # in autocommit mode: a transaction of its own

    stop = stopwatch()
    with ThreadPoolExecutor(WORKERS) as pool:
        for number in range(count):
            run, value = f"run-{number:06}", None
            write(bare.RUN, (run, "pipeline", time.time()))
            for function in functions:
                started = time.time()
                value = (pool.submit(function) if value is None else pool.submit(function, value)).result()
                write(bare.STEP, (run, function.__name__, started, time.time(), json.dumps(value)))
            write(bare.END, (run, time.time(), json.dumps(value)))
            outputs.append(value)
    return stop(), outputs


@contextmanager
def cron(setting: str, texts: List[str], place: Path) -> Iterator[Callable[[], Tuple[Timed, int]]]:
    """croniter's next time of each, on a heap; with a database also a row of each, in one transaction."""
    from zoneinfo import ZoneInfo

    from croniter import croniter

    zone = ZoneInfo("Europe/Berlin")

    def once() -> Tuple[Timed, int]:
        with _database(setting, place) as connection:
            if connection is not None:
                connection.execute(JOBS)
            stop = stopwatch()
            now, heap = datetime.now(zone), []  # type: ignore[var-annotated]
            for number, text in enumerate(texts):
                heapq.heappush(heap, (croniter(text, now).get_next(float), f"job-{number}", text))
            if connection is not None:
                connection.execute("BEGIN")
                connection.executemany(
                    "INSERT INTO jobs VALUES (?, 'tick', ?, ?)", [(job, text, at) for at, job, text in heap]
                )
                connection.execute("COMMIT")
            timed = stop()
            if connection is None:
                return timed, len(heap)
            return timed, connection.execute("SELECT count(*) FROM jobs").fetchone()[0]

    yield once


def late(setting: str, count: int, seconds: int, place: Path) -> List[Tuple[str, float, float]]:
    """A heap, a sleep, and a pool."""
    start = math.ceil(time.time()) + 2.0
    heap = [(start, number) for number in range(count)]
    found: List[Tuple[str, float, float]] = []

    def body(job: str, nominal: float) -> None:
        found.append((job, nominal, time.time()))

    with ThreadPoolExecutor(WORKERS) as pool:
        while heap:
            nominal, number = heap[0]
            time.sleep(max(0.0, nominal - time.time()))
            pool.submit(body, f"job-{number}", nominal)
            if nominal + 1 < start + seconds:
                heapq.heapreplace(heap, (nominal + 1, number))
            else:
                heapq.heappop(heap)
    return found


@contextmanager
def idle(setting: str, count: int, place: Path) -> Iterator[None]:
    """A thread that waits for the head of a heap."""
    heap = [(time.time() + 86_400 + number, number) for number in range(count)]
    over = threading.Event()
    thread = threading.Thread(target=lambda: over.wait(heap[0][0] - time.time()))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
