"""APScheduler 3: a background scheduler with its memory store, or with its SQLAlchemy store on SQLite.

It has jobs and no graphs: one job of the small pipeline is its three steps called by hand.
"""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from apscheduler.events import EVENT_JOB_SUBMITTED
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger

from ...graphs import RUN_LIMIT, Graph, extract, load, transform
from ...measure import Timed, require, stopwatch
from ..places import fresh
from ..workloads import wait_for_ticks, witnessed

outputs: List[int] = []
began: Dict[str, List[float]] = {}
ended = threading.Semaphore(0)


def pipeline() -> None:
    """A job: extract → transform → load. A store wants a function that can be imported."""
    outputs.append(load(transform(extract())))
    ended.release()


def note(job: str) -> None:
    """A job: note when the body began."""
    began[job].append(time.time())


def doomed() -> None:
    """A job: the pipeline that is killed, step after step."""
    from ..workloads import doomed_graph

    found: Dict[str, int] = {}
    for task in doomed_graph().tasks:
        found[task.name] = witnessed(task.name, [found[name] for name in task.parents])
    outputs.append(found["sink"])
    ended.release()


def _scheduler(setting: str, directory: Path) -> BackgroundScheduler:
    stores = {
        "default": SQLAlchemyJobStore(url=f"sqlite:///{directory}/jobs.sqlite")
        if setting == "sqlite"
        else MemoryJobStore()
    }
    return BackgroundScheduler(jobstores=stores, executors={"default": ThreadPoolExecutor(4)}, timezone="UTC")


@contextmanager
def runs(setting: str, count: int, place: Path) -> Iterator[Callable[[], Tuple[Timed, List[Any]]]]:
    """A job without a trigger runs at once; all are added, then waited for."""

    def once() -> Tuple[Timed, List[Any]]:
        outputs.clear()
        with fresh(place) as directory:
            scheduler = _scheduler(setting, directory)
            scheduler.start()
            stop = stopwatch()
            for _ in range(count):
                # None: also if its turn comes late. The default forgets what is more than a second late.
                scheduler.add_job(pipeline, misfire_grace_time=None)
            for _ in range(count):
                require(ended.acquire(timeout=RUN_LIMIT), "a job did not run")
            timed = stop()
            scheduler.shutdown()
            return timed, list(outputs)

    yield once


@contextmanager
def cron(setting: str, texts: List[str], place: Path) -> Iterator[Callable[[], Tuple[Timed, int]]]:
    """Added before the start, which computes their times: the faster of the two ways."""

    def once() -> Tuple[Timed, int]:
        with fresh(place) as directory:
            scheduler = _scheduler(setting, directory)
            stop = stopwatch()
            for number, text in enumerate(texts):
                scheduler.add_job(
                    pipeline, CronTrigger.from_crontab(text, timezone="Europe/Berlin"), id=f"job-{number}"
                )
            scheduler.start(paused=True)
            timed = stop()
            stored = len(scheduler.get_jobs())
            scheduler.shutdown()
            return timed, stored

    yield once


def late(setting: str, count: int, seconds: int, place: Path) -> List[Tuple[str, float, float]]:
    """Each job's bodies in turn belong to its submissions in turn: a job runs once at a time."""
    nominal: Dict[str, List[float]] = {f"job-{number}": [] for number in range(count)}
    began.update({job: [] for job in nominal})
    scheduler = _scheduler(setting, place)
    scheduler.add_listener(
        lambda event: nominal[event.job_id].append(event.scheduled_run_times[0].timestamp()), EVENT_JOB_SUBMITTED
    )
    start = math.ceil(time.time()) + (8.0 if setting == "sqlite" else 3.0)  # all are stored by then
    first, last = (datetime.fromtimestamp(at, timezone.utc) for at in (start, start + seconds - 1))
    for job in nominal:
        scheduler.add_job(
            note, CronTrigger(second="*", start_date=first, end_date=last, timezone="UTC"), args=[job], id=job
        )
    scheduler.start()
    wait_for_ticks(lambda: sum(map(len, began.values())), count * seconds, start + seconds)
    scheduler.shutdown()
    return [(job, due, at) for job in nominal for due, at in zip(nominal[job], began[job])]


@contextmanager
def idle(setting: str, count: int, place: Path) -> Iterator[None]:
    """Jobs that start tomorrow."""
    tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
    scheduler = _scheduler(setting, place)
    for number in range(count):
        trigger = CronTrigger(minute=number % 60, hour=number // 60 % 24, start_date=tomorrow, timezone="UTC")
        scheduler.add_job(pipeline, trigger, id=f"job-{number}")
    scheduler.start()
    yield
    scheduler.shutdown()


def carry(setting: str, graph: Graph, place: Path, again: bool) -> Optional[int]:
    """The store keeps jobs that have yet to fire; what has fired is not in it any more."""
    scheduler = _scheduler(setting, place)
    scheduler.start()
    if not again:
        scheduler.add_job(doomed, misfire_grace_time=None)
    done = ended.acquire(timeout=3.0 if again else 30.0)
    scheduler.shutdown(wait=False)
    return outputs[-1] if done else None
