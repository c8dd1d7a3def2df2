"""The field: who takes part, in which settings, how much each is asked for, and what each can't do and why.

Nothing of a peer is imported here, so the program that measures needs none of them.
"""

from __future__ import annotations

import configparser
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, Mapping, Optional, Tuple

from .workloads import GRAPHS, WORKLOADS

PINS = Path(__file__).resolve().parent / "pins.ini"

#: What survives: nothing, kill -9 of the process, or a power cut too. Compare within a level.
MEMORY, PROCESS, POWER = "memory", "process", "power"
LEVELS = (MEMORY, PROCESS, POWER)

#: Switches off what peers would report home, by the settings that their documentation names.
NO_TELEMETRY: Mapping[str, str] = {
    "DAGSTER_DISABLE_TELEMETRY": "yes",
    "HAMILTON_TELEMETRY_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}
#: Other settings by environment, each documented by its peer.
QUIET: Mapping[str, str] = {
    "PREFECT_LOGGING_LEVEL": "ERROR",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    # The default of 20 s is too little for its server on a busy machine.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}

#: Measured for one setting, the same for the others.
ONCE = "as above"
NO_SCHEDULER = {"cron": "no scheduler", "late": "no scheduler", "idle": "no scheduler"}


@dataclass(frozen=True)
class Setting:
    """One way to use a contestant."""

    key: str
    #: What it is, in a few words.
    how: str
    #: What is stored, and when.
    stored: str
    level: str
    #: Workloads that this setting sits out, and why.
    cannot: Mapping[str, str] = field(default_factory=dict)
    #: How much it is asked for, where that is less than the others' share.
    sizes: Mapping[str, int] = field(default_factory=dict)
    #: Workloads for which it stores more or less than its level says.
    levels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Contestant:
    """Someone who takes part."""

    key: str
    title: str
    #: The distribution whose version is shown.
    distribution: str
    settings: Tuple[Setting, ...]
    #: What its user imports.
    imports: str
    #: What it does that Blaze does not: reasons to choose it.
    strength: str
    #: What has to be known to read its figures.
    reading: str
    #: Name of its environment below ``.venv-peers``, and its section of ``pins.ini``.
    venv: str
    #: Workloads that it can't do in any setting, and why.
    cannot: Mapping[str, str] = field(default_factory=dict)
    #: How much it is asked for where a repetition would take more than a few seconds otherwise.
    sizes: Mapping[str, int] = field(default_factory=dict)
    #: Repetitions at most, for those of which one takes seconds.
    rounds: int = 1_000


@dataclass(frozen=True)
class Entry:
    """A contestant in one of its settings: a row of the tables."""

    contestant: Contestant
    setting: Setting

    @property
    def key(self) -> str:
        """Its name on the command line and in the results."""
        return f"{self.contestant.key}:{self.setting.key}"

    @property
    def title(self) -> str:
        """Its name in tables."""
        return f"{self.contestant.title}, {self.setting.how}"

    def level(self, workload: str) -> str:
        """What survives of what this workload makes."""
        return self.setting.levels.get(workload, self.setting.level)

    def why_not(self, workload: str) -> Optional[str]:
        """The reason for an empty cell; None: it is measured."""
        reason = self.setting.cannot.get(workload) or self.contestant.cannot.get(workload)
        if reason is None and workload in ("import", "hello") and self.setting is not self.contestant.settings[0]:
            return ONCE
        return reason

    def size(self, workload: str) -> int:
        """How much it is asked for."""
        sizes = {**self.contestant.sizes, **self.setting.sizes}
        return sizes.get(workload, WORKLOADS[workload].size)


BARE = Contestant(
    key="bare_loops",
    title="By hand",
    distribution="",
    venv="blaze",
    settings=(
        Setting("F1", "F1: graphlib and a pool of 4 threads", "nothing", MEMORY, levels={"hello": PROCESS}),
        Setting(
            "F2i", "F2i: one thread, INSERT + COMMIT a step", "a row a step, WAL, NORMAL", PROCESS,
            {"late": "nothing is stored when it fires", "idle": ONCE},
        ),
        Setting(
            "F2", "F2: pool of 4, INSERT + COMMIT a step", "a row a step, WAL, NORMAL", PROCESS,
            {"cron": "F2i is the same", "late": ONCE, "idle": ONCE},
        ),
        Setting(
            "F3", "F3: F2 with synchronous=FULL", "a row a step, WAL, FULL: an fsync each", POWER,
            {"late": ONCE, "idle": ONCE},
        ),
    ),
    imports="import threading, queue, heapq, graphlib, sqlite3, json, time, concurrent.futures.thread",
    strength="",
    reading="Loops that do the least that the promise takes: no error is handled, nothing is checked or resumed.",
    cannot={"kill": "nothing resumes"},
)  # fmt: skip

BLAZE = Contestant(
    key="blaze",
    title="Blaze",
    distribution="blaze-etl",
    venv="blaze",
    settings=(
        Setting("process", "durability=process (default)", "outputs a step, WAL, NORMAL; group commit", PROCESS),
        Setting("power", "durability=power", "outputs a step, WAL, FULL: fsync; group commit", POWER, {"idle": ONCE}),
        Setting(
            "memory", "durability=memory", "nothing", MEMORY,
            {"late": "measured durably", "idle": "measured durably", "kill": "stores nothing"},
        ),
        Setting(
            "direct", "sequences.run(), no scheduler", "nothing", MEMORY,
            {**NO_SCHEDULER, "kill": "stores nothing"},
        ),
    ),
    imports="import blaze",
    strength="",
    reading="4 workers. `sequences.run()` makes its workers anew for every run; a scheduler keeps them.",
)  # fmt: skip

APSCHEDULER = Contestant(
    key="apscheduler",
    title="APScheduler",
    distribution="apscheduler",
    venv="apscheduler",
    settings=(
        Setting("memory", "memory store", "nothing", MEMORY, {"kill": "stores nothing"}),
        Setting(
            "sqlite", "SQLAlchemy store on SQLite", "the job, pickled; no results", POWER,
            sizes={"runs": 200, "cron": 2_000},
        ),
    ),
    imports="from apscheduler.schedulers.background import BackgroundScheduler",
    strength="Schedulers for asyncio, Qt, Tornado, Twisted and gevent; interval triggers and combined triggers; "
    "stores on "
    "PostgreSQL, MySQL, MongoDB, Redis and others.",
    reading="It fires jobs and knows no graphs: one job of the small pipeline is its three steps called by hand, "
    "without a record of any of them. A job leaves the store when it fires, so what was at work when the process "
    "was killed is not done again.",
    cannot=dict.fromkeys(GRAPHS, "jobs, no graphs"),
)  # fmt: skip

HUEY = Contestant(
    key="huey",
    title="Huey",
    distribution="huey",
    venv="huey",
    settings=(
        Setting(
            "default", "SqliteHuey, polling 0.1 s – 10 s (default)", "queue and results, WAL, FULL", POWER,
            {"kill": "polling makes no difference"}, levels={"cron": MEMORY, "idle": MEMORY},
        ),
        Setting(
            "quick", "SqliteHuey, polling 1 ms – 10 ms", "queue and results, WAL, FULL", POWER,
            {"cron": ONCE},
        ),
        Setting(
            "nosync", "SqliteHuey, fsync=False, polling 1 ms – 10 ms", "queue and results, WAL, OFF", PROCESS,
            {"cron": ONCE, "idle": ONCE},
        ),
        Setting(
            "memory", "MemoryHuey, polling 1 ms – 10 ms", "nothing", MEMORY,
            {"cron": ONCE, "idle": ONCE, "kill": "stores nothing"},
        ),
    ),
    imports="from huey import SqliteHuey, crontab",
    strength="Redis, PostgreSQL and file storage, so that workers on many machines share a queue; process and greenlet "
    "workers; task priorities and rate limits; Django integration.",
    reading="A task queue: pipelines and chords, no general graphs. A worker takes a task out of the queue before it "
    "runs it, so a task that was at work when the process was killed is gone, and what would have followed it too. "
    "A message carries the rest of its pipeline, hence the chain of 200. Periodic tasks are declared in code and only "
    "parsed when added; their resolution is one minute.",
    cannot={
        **{name: "pipelines and chords, no general graphs" for name in GRAPHS if name not in ("chain", "fan")},
        "late": "resolution of one minute",
    },
    sizes={"chain": 200, "runs": 100},
)  # fmt: skip

DBOS = Contestant(
    key="dbos",
    title="DBOS",
    distribution="dbos",
    venv="dbos",
    settings=(Setting("default", "SQLite system database (default)", "a row a step, rollback journal, FULL", POWER),),
    imports="from dbos import DBOS, DBOSConfig",
    strength="PostgreSQL as the system database and many executors on it; workflows are ordinary Python control flow, "
    "decided while they run; queues with rate limits; messages and events between workflows; forking a workflow "
    "from a step.",
    reading="Its documentation recommends PostgreSQL for production; SQLite is its default for local use. A "
    "schedule has a "
    "thread of its own, so 10,000 were not tried.",
    sizes={"chain": 500, "fan": 500, "runs": 100, "cron": 500},
    rounds=3,
)

PREFECT = Contestant(
    key="prefect",
    title="Prefect",
    distribution="prefect",
    venv="prefect",
    settings=(
        Setting("default", "ephemeral server on SQLite (default)", "states over HTTP, WAL; no results", PROCESS),
    ),
    imports="from prefect import flow, task",
    strength="A web interface, deployments to remote workers, events and automations, blocks for credentials, a hosted "
    "service; flows are ordinary Python control flow.",
    reading="A flow run has fixed costs of about a second. Its server is a second process, started before the "
    "clock and not "
    "counted in CPU time; it goes on writing states after a flow has ended. In the kill test results are "
    "persisted and cached by inputs (INPUTS + TASK_SOURCE), and the flow is called again.",
    cannot={
        "cron": "deployments need a server that runs",
        "late": "deployments are polled for, and start a process a run",
        "idle": "deployments need a server that runs",
    },
    sizes={"chain": 100, "fan": 100, "runs": 3, "kill": 3, "hello": 3},
    rounds=3,
)

DAGSTER = Contestant(
    key="dagster",
    title="Dagster",
    distribution="dagster",
    venv="dagster",
    settings=(
        Setting("ephemeral", "in process, ephemeral instance", "nothing", MEMORY, {"kill": "stores nothing"}),
        Setting(
            "sqlite", "in process, SQLite instance", "about 7 events a step, a commit each", POWER,
            sizes={"chain": 100, "fan": 100, "runs": 10},
        ),
    ),
    imports="from dagster import job, op",
    strength="Assets with lineage, partitions and checks; a web interface; sensors and declarative automation; "
    "typed configuration; integrations with most data tools.",
    reading="In-process execution is one step at a time by design. In the kill test the run is marked as failed, "
    "as its daemon's run "
    "monitoring would, and re-executed from the failure; outputs are in files.",
    cannot={
        "cron": "schedules need its daemon",
        "late": "schedules need its daemon, and start a process a run",
        "idle": "schedules need its daemon",
    },
    sizes={"chain": 200, "fan": 200, "runs": 30},
    rounds=3,
)  # fmt: skip

LUIGI = Contestant(
    key="luigi",
    title="Luigi",
    distribution="luigi",
    venv="luigi",
    settings=(Setting("files", "local scheduler, 1 worker, a file a task", "a file a task, no fsync", PROCESS),),
    imports="import luigi",
    strength="Targets for HDFS, S3, databases and more: what is done is what is there, so that no state can be "
    "lost; a central "
    "scheduler with a web page; Hadoop and Spark tasks.",
    reading="With more workers each task is a process. Its scheduler looks at all tasks for each one, "
    "so the cost of a step grows with the number of steps.",
    cannot=NO_SCHEDULER,
    sizes={"runs": 100},
    rounds=3,
)

HAMILTON = Contestant(
    key="hamilton",
    title="Hamilton",
    distribution="sf-hamilton",
    venv="hamilton",
    settings=(
        Setting("driver", "driver, execute() only", "nothing", MEMORY, {"kill": "stores nothing"}),
        Setting(
            "cache", "driver with_cache()", "result files, metadata in SQLite", PROCESS,
            sizes={"chain": 200, "fan": 200, "runs": 50},
        ),
    ),
    imports="from hamilton import driver",
    strength="Functions are wired by their parameters' names, with lineage and data-quality checks on columns; "
    "decorators that make "
    "nodes from nodes; execution on Dask, Ray and Spark.",
    reading="Everything runs in the calling thread, one step at a time, so its steps neither wait for a thread "
    "nor for a lock, and "
    "two that wait for a network wait one after the other. With the cache in a benchmark, results are stored and "
    "not taken.",
    cannot=NO_SCHEDULER,
)  # fmt: skip

REDUN = Contestant(
    key="redun",
    title="redun",
    distribution="redun",
    venv="redun",
    settings=(
        Setting(
            "memory", "in-memory database, 4 threads", "nothing", MEMORY,
            {"kill": "stores nothing"}, levels={"hello": POWER},
        ),
        Setting(
            "sqlite", "SQLite file, 4 threads", "call graph, several commits a task", POWER,
            sizes={"chain": 100, "fan": 100},
        ),
    ),
    imports="from redun import Scheduler, task",
    strength="Results are known by a hash of code and arguments, so that a changed function reruns what depends "
    "on it and nothing else; "
    "provenance queries; AWS Batch, Glue and Kubernetes executors; files as values.",
    reading="A chain of 200 is too deep for its recursion over expressions, so N is 100 there. In the benchmarks each "
    "call is made (cache=False); in the kill test its cache is on, as by default.",
    cannot=NO_SCHEDULER,
    sizes={"chain": 100, "fan": 200, "runs": 30},
    rounds=3,
)  # fmt: skip

DOIT = Contestant(
    key="doit",
    title="doit",
    distribution="doit",
    venv="doit",
    settings=(
        Setting("sqlite", "serial, sqlite3 state file", "values, once when the run ends", PROCESS, sizes={"runs": 100}),
    ),
    imports="from doit.cmd_base import ModuleTaskLoader; from doit.doit_cmd import DoitMain",
    strength="File dependencies and targets, as make has them; shell actions; a command line for every task file.",
    reading="Values are written once, when the run ends: that is why a step is cheap, and why a killed run "
    "begins anew.",
    cannot=NO_SCHEDULER,
)

DASK = Contestant(
    key="dask",
    title="dask",
    distribution="dask",
    venv="dask",
    settings=(
        Setting("threaded", "dask.threaded.get, 4 threads", "nothing", MEMORY),
        Setting(
            "distributed", "distributed, LocalCluster of 4 threads, futures", "nothing", MEMORY,
            {"kill": ONCE}, {"chain": 300, "runs": 200},
        ),
    ),
    imports="from distributed import Client, LocalCluster",
    strength="Arrays and data frames larger than memory; clusters of many machines; a dashboard.",
    reading="It stores nothing: a computation that is killed is computed again.",
    cannot=NO_SCHEDULER,
)  # fmt: skip

FIELD: Tuple[Contestant, ...] = (
    BARE, BLAZE, APSCHEDULER, HUEY, DBOS, PREFECT, DAGSTER, LUIGI, HAMILTON, REDUN, DOIT, DASK,
)  # fmt: skip


def entries() -> Iterator[Entry]:
    """Every row, in the order in which turns are taken."""
    for contestant in FIELD:
        for setting in contestant.settings:
            yield Entry(contestant, setting)


def pins() -> Dict[str, Dict[str, str]]:
    """What is to be installed: environment → distribution → version."""
    parser = configparser.ConfigParser()
    parser.read_string(PINS.read_text(encoding="utf-8"))
    return {section: dict(parser[section]) for section in parser.sections()}
