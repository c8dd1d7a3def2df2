"""Huey on SQLite: tasks in a queue, a consumer with 4 threads in the same process, pipelines and chords.

``default`` is ``SqliteHuey`` as it is (WAL, FULL, polling from 0.1 s up to 10 s); ``quick`` polls from
1 ms up to 10 ms; ``nosync`` does so with ``fsync=False``; ``memory`` with the queue in memory.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from huey import MemoryHuey, SqliteHuey, crontab
from huey.api import Huey, chord, group
from huey.signals import SIGNAL_COMPLETE

from ... import graphs
from ...graphs import RUN_LIMIT, Graph
from ...measure import Timed, require, stopwatch
from ..places import fresh
from ..workloads import WITNESS, doomed_names, witnessed

#: Seconds without news after which a consumer that was started again has nothing left to do.
QUIET = 4.0


def _huey(setting: str, directory: Path) -> Huey:
    if setting == "memory":
        return MemoryHuey("bench")
    return SqliteHuey("bench", filename=str(directory / "huey.db"), fsync=setting != "nosync")


@contextmanager
def _consumer(huey: Huey, setting: str, periodic: bool = False) -> Iterator[None]:
    polling = {} if setting == "default" else {"initial_delay": 0.001, "max_delay": 0.01}
    consumer = huey.create_consumer(workers=4, periodic=periodic, **polling)
    consumer.start()
    try:
        yield
    finally:
        consumer.stop(graceful=True)


class _Ends:
    """Waits for some tasks, by the signal that Huey sends when a task's result is stored."""

    def __init__(self, huey: Huey) -> None:
        self.left: Dict[str, Any] = {}
        self.over = threading.Event()
        huey.signal(SIGNAL_COMPLETE)(self._ended)

    def _ended(self, signal: str, task: Any, value: Any = None) -> None:
        if self.left.pop(task.id, None) is not None and not self.left:
            self.over.set()

    def expect(self, results: List[Any]) -> None:
        self.over.clear()
        self.left = {result.id: True for result in results}

    def wait(self) -> None:
        require(self.over.wait(RUN_LIMIT), f"{len(self.left)} tasks have not ended")


@contextmanager
def graph(setting: str, graph: Graph, place: Path) -> Iterator[Callable[[], Tuple[Timed, Any]]]:
    """A chain is a pipeline of ``then``; a fan-out is a chord that the source puts into the queue."""

    def once() -> Tuple[Timed, Any]:
        with fresh(place) as directory:
            huey = _huey(setting, directory)
            source, step = huey.task()(graphs.source), huey.task()(graphs.step)
            join = huey.task()(graphs.join)
            ends = _Ends(huey)
            is_chain = graph.tasks[-1].function is graphs.step
            if is_chain:
                line = last = source.s()
                for _ in graph.tasks[1:]:
                    last.then(step)
                    last = last.on_complete
            with _consumer(huey, setting):
                stop = stopwatch()
                if is_chain:
                    ends.expect([last])
                    huey.enqueue(line)
                else:
                    value = source()(blocking=True, max_delay=0.001)
                    last = join.s()
                    ends.expect([last])
                    huey.enqueue(group([step.s(value) for _ in graph.tasks[1:-1]]).then(last))
                ends.wait()
                timed = stop()
            output = huey.result(last.id)
            return timed, output

    yield once


@contextmanager
def runs(setting: str, count: int, place: Path) -> Iterator[Callable[[], Tuple[Timed, List[Any]]]]:
    """A pipeline of three tasks a run."""

    def once() -> Tuple[Timed, List[Any]]:
        with fresh(place) as directory:
            huey = _huey(setting, directory)
            extract, transform = huey.task()(graphs.extract), huey.task()(graphs.transform)
            load = huey.task()(graphs.load)
            ends = _Ends(huey)
            lines = [extract.s().then(transform).then(load) for _ in range(count)]
            lasts = [line.on_complete.on_complete for line in lines]
            with _consumer(huey, setting):
                ends.expect(lasts)
                stop = stopwatch()
                for line in lines:
                    huey.enqueue(line)
                ends.wait()
                timed = stop()
            return timed, [huey.result(last.id) for last in lasts]

    yield once


@contextmanager
def cron(setting: str, texts: List[str], place: Path) -> Iterator[Callable[[], Tuple[Timed, int]]]:
    """Periodic tasks are declared in code: parsed and kept in memory."""

    def once() -> Tuple[Timed, int]:
        with fresh(place) as directory:
            huey = _huey(setting, directory)
            stop = stopwatch()
            for number, text in enumerate(texts):
                minute, hour, _, _, weekday = text.split()
                when = crontab(minute=minute, hour=hour, day_of_week=weekday)
                huey.periodic_task(when, name=f"job-{number}")(graphs.source)
            timed = stop()
            return timed, len(huey._registry.periodic_tasks)

    yield once


@contextmanager
def idle(setting: str, count: int, place: Path) -> Iterator[None]:
    """A consumer with periodic tasks that are due on the 29th of February only."""
    huey = _huey(setting, place)
    for number in range(count):
        when = crontab(minute=str(number % 60), hour=str(number // 60 % 24), day="29", month="2")
        huey.periodic_task(when, name=f"job-{number}")(graphs.source)
    with _consumer(huey, setting, periodic=True):
        yield


def carry(setting: str, graph: Graph, place: Path, again: bool) -> Optional[int]:
    """What is in the queue goes on when a consumer is started; what a worker had taken is not in it any more."""
    huey = _huey(setting, place)
    line, side, last = doomed_names()
    found: List[int] = []

    @huey.task()  # type: ignore[misc]
    def link(name: str, *before: int) -> int:
        return witnessed(name, list(before))

    @huey.task()  # type: ignore[misc]
    def spread(value: int) -> None:
        huey.enqueue(chord([link.s(name, value) for name in side], sink.s()))

    @huey.task()  # type: ignore[misc]
    def sink(values: List[int]) -> int:
        found.append(witnessed(last, values))
        return found[0]

    with _consumer(huey, setting):
        if not again:
            first = link.s(line[0])
            for name in line[1:]:
                first.then(link, name)
            first.then(spread)
            huey.enqueue(first)
        witness = Path(os.environ[WITNESS])
        size, since = -1, time.monotonic()
        while not found and time.monotonic() - since < QUIET:
            now = witness.stat().st_size if witness.exists() else 0
            if now != size:
                size, since = now, time.monotonic()
            time.sleep(0.02)
    return found[0] if found else None
