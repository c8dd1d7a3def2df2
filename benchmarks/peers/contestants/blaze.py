"""Blaze itself: blocks and a sequence, run by a scheduler, or by ``sequences.run()`` without one (``direct``)."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, Tuple

from blaze import Blaze, BlazeBlock, BlazeSequence, SeqBlockData, SubmitSequenceData, current

from ...graphs import RUN_LIMIT, Graph, sequences_of
from ...measure import Timed, require, stopwatch
from ...steps import pipeline
from ..places import fresh
from ..workloads import wait_for_ticks, witnessed

#: Steps at a time; everyone who has threads gets as many.
WORKERS = 4

fired: List[Tuple[str, float, float]] = []
blocks = BlazeBlock()
sequences = BlazeSequence()


@blocks.block()
def record() -> None:
    """Note when the body began."""
    began = time.time()
    info = current().info
    fired.append((info.job_id or "", info.scheduled_at or 0.0, began))


@sequences.sequence(blocks=blocks, sequence=[SeqBlockData("record")], seq_id="tick")
def tick(context: Any = None) -> None:
    """One step."""


def _scheduler(setting: str, known: BlazeSequence, directory: Path) -> Blaze:
    return Blaze(sequences=known, max_workers=WORKERS, state_dir=directory, durability=setting)


@contextmanager
def graph(setting: str, graph: Graph, place: Path) -> Iterator[Callable[[], Tuple[Timed, Any]]]:
    """One run of a sequence."""
    declared = sequences_of(graph)

    def in_memory() -> Tuple[Timed, Any]:
        stop = stopwatch()
        result = declared.run("bench", max_workers=WORKERS)
        timed = stop()
        return timed, result.raise_for_status().output

    def durably() -> Tuple[Timed, Any]:
        with fresh(place) as directory, _scheduler(setting, declared, directory) as scheduler:
            stop = stopwatch()
            result = scheduler.run("bench", timeout=RUN_LIMIT)
            timed = stop()
            steps = scheduler.state.steps(result.run_id)
            require(len(steps) == len(graph.tasks), f"{len(steps)} steps are stored, not {len(graph.tasks)}")
            return timed, result.raise_for_status().output

    yield in_memory if setting == "direct" else durably


@contextmanager
def runs(setting: str, count: int, place: Path) -> Iterator[Callable[[], Tuple[Timed, List[Any]]]]:
    """Each triggered, then each waited for; with ``sequences.run()`` one after the other, as it has no queue."""
    declared = pipeline()

    def in_memory() -> Tuple[Timed, List[Any]]:
        stop = stopwatch()
        results = [declared.run("pipeline", max_workers=WORKERS) for _ in range(count)]
        timed = stop()
        return timed, [result.raise_for_status().output for result in results]

    def durably() -> Tuple[Timed, List[Any]]:
        with fresh(place) as directory, _scheduler(setting, declared, directory) as scheduler:
            stop = stopwatch()
            handles = [scheduler.trigger("pipeline") for _ in range(count)]
            results = [handle.result(RUN_LIMIT) for handle in handles]
            timed = stop()
            return timed, [result.raise_for_status().output for result in results]

    yield in_memory if setting == "direct" else durably


def _submissions(texts: List[str], start_date: Optional[datetime] = None) -> List[SubmitSequenceData]:
    return [
        SubmitSequenceData(
            "tick", job_id=f"job-{number}", seq_run_interval=text, timezone="Europe/Berlin", start_date=start_date
        )
        for number, text in enumerate(texts)
    ]


@contextmanager
def cron(setting: str, texts: List[str], place: Path) -> Iterator[Callable[[], Tuple[Timed, int]]]:
    """All in one call."""
    from blaze.core.when import schedule

    def once() -> Tuple[Timed, int]:
        given = _submissions(texts)
        with fresh(place) as directory:
            scheduler = _scheduler(setting, sequences, directory)
            schedule._parsed.cache_clear()  # no expression is known from the repetition before
            stop = stopwatch()
            scheduler.submit(given)
            timed = stop()
            stored = sum(scheduler.status().jobs.values())
            scheduler.stop()
            return timed, stored

    yield once


def late(setting: str, count: int, seconds: int, place: Path) -> List[Tuple[str, float, float]]:
    """Jobs with a start and an end."""
    with _scheduler(setting, sequences, place) as scheduler:
        start = math.ceil(time.time()) + 2.0
        first, last = (datetime.fromtimestamp(at, timezone.utc) for at in (start, start + seconds - 1))
        scheduler.submit(
            [
                SubmitSequenceData(
                    "tick", job_id=f"job-{n}", seq_run_interval="* * * * * *", start_date=first, end_date=last
                )
                for n in range(count)
            ]
        )
        wait_for_ticks(lambda: len(fired), count * seconds, start + seconds)
    return fired


@contextmanager
def idle(setting: str, count: int, place: Path) -> Iterator[None]:
    """Jobs that start tomorrow."""
    tomorrow = datetime.fromtimestamp(time.time() + 86_400, timezone.utc)
    with _scheduler(setting, sequences, place) as scheduler:
        scheduler.submit(_submissions([f"{n % 60} {n // 60 % 24} * * *" for n in range(count)], tomorrow))
        yield


def _doomed(graph: Graph) -> BlazeSequence:
    doomed = BlazeBlock()
    declared = BlazeSequence()
    for task in graph.tasks:
        doomed.block(name=task.name)(partial(_body, task.name))

    @declared.sequence(
        blocks=doomed,
        sequence=[
            SeqBlockData(task.name, parameters={"values": [f"@{name}" for name in task.parents]})
            for task in graph.tasks
        ],
        seq_id="doomed",
    )
    def finaliser(context: Any = None) -> Any:
        return context[graph.tasks[-1].name]

    return declared


def _body(name: str, values: List[int]) -> int:
    return witnessed(name, values)


def carry(setting: str, graph: Graph, place: Path, again: bool) -> Optional[int]:
    """A start goes on with what a crash left."""
    with _scheduler(setting, _doomed(graph), place) as scheduler:
        if not again:
            return scheduler.run("doomed").raise_for_status().output  # type: ignore[no-any-return]
        (handle,) = scheduler.recovered
        return handle.result(RUN_LIMIT).raise_for_status().output  # type: ignore[no-any-return]
