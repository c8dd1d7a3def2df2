"""Dagster: ops wired into a job, executed in this process; the instance is ephemeral, or one on SQLite.

``execute_in_process`` keeps outputs in memory. The pipeline that is killed runs with ``execute_job`` on the SQLite
instance, whose default keeps outputs in files, and is re-executed from the failure.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    DependencyDefinition,
    GraphDefinition,
    In,
    JobDefinition,
    MultiDependencyDefinition,
    Out,
    ReexecutionOptions,
    execute_job,
    in_process_executor,
    op,
    reconstructable,
)

from ... import graphs
from ...graphs import Graph, Task
from ...measure import Timed, require, stopwatch
from ..places import fresh
from ..workloads import witnessed


#: By default every event is also written to the console.
QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


@op
def extract() -> List[int]:
    """An op."""
    return graphs.extract()


@op
def transform(rows: List[int]) -> List[int]:
    """An op."""
    return graphs.transform(rows)


@op
def load(rows: List[int]) -> int:
    """An op."""
    return graphs.load(rows)


def _op_of(task: Task, witness: bool) -> Any:
    def call(values: List[int]) -> int:
        if witness:
            return witnessed(task.name, values)
        if task.needs is None:
            return task.function()
        return task.function(values[0] if isinstance(task.needs, str) else values)

    if not task.parents:
        return op(name=_name(task.name), out=Out(int))(lambda: call([]))
    return op(name=_name(task.name), ins={"values": In(List[int])}, out=Out(int))(lambda values: call(values))


def _name(task: str) -> str:
    return "task_" + task.replace("-", "_").replace(".", "_")


def job_of(graph: Graph, name: str, witness: bool = False) -> JobDefinition:
    dependencies: Dict[str, Dict[str, Any]] = {
        _name(task.name): {
            "values": MultiDependencyDefinition([DependencyDefinition(_name(parent)) for parent in task.parents])
        }
        for task in graph.tasks
        if task.parents
    }
    nodes = [_op_of(task, witness) for task in graph.tasks]
    whole = GraphDefinition(name=name, node_defs=nodes, dependencies=dependencies)
    return whole.to_job(name=name, executor_def=in_process_executor)


@contextmanager
def _instance(setting: str, place: Path) -> Iterator[DagsterInstance]:
    if setting == "ephemeral":
        with DagsterInstance.ephemeral() as instance:
            yield instance
    else:
        with fresh(place) as home, _stored(home) as instance:
            yield instance


@contextmanager
def _stored(home: Path) -> Iterator[DagsterInstance]:
    os.environ["DAGSTER_HOME"] = str(home)
    with DagsterInstance.get() as instance:
        yield instance


@contextmanager
def graph(setting: str, graph: Graph, place: Path) -> Iterator[Callable[[], Tuple[Timed, Any]]]:
    """``execute_in_process``."""
    job, last = job_of(graph, "bench"), _name(graph.tasks[-1].name)

    def once() -> Tuple[Timed, Any]:
        with _instance(setting, place) as instance:
            stop = stopwatch()
            result = job.execute_in_process(instance=instance, run_config=QUIET)
            timed = stop()
            return timed, result.output_for_node(last)

    yield once


@contextmanager
def runs(setting: str, count: int, place: Path) -> Iterator[Callable[[], Tuple[Timed, List[Any]]]]:
    """``execute_in_process`` again and again."""
    job = GraphDefinition(
        name="pipeline",
        node_defs=[extract, transform, load],
        dependencies={
            "transform": {"rows": DependencyDefinition("extract")},
            "load": {"rows": DependencyDefinition("transform")},
        },
    ).to_job(name="pipeline")

    def once() -> Tuple[Timed, List[Any]]:
        with _instance(setting, place) as instance:
            stop = stopwatch()
            results = [job.execute_in_process(instance=instance, run_config=QUIET) for _ in range(count)]
            timed = stop()
            return timed, [result.output_for_node("load") for result in results]

    yield once


def carry(setting: str, graph: Graph, place: Path, again: bool) -> Optional[int]:
    """Mark the run as failed, as the daemon's run monitoring would, and re-execute it from the failure."""
    from .dagster_doomed import doomed_job

    home = place / "home"
    home.mkdir(exist_ok=True)
    with _stored(home) as instance:
        options = None
        if again:
            (run,) = instance.get_runs()
            if run.status is not DagsterRunStatus.FAILURE:
                instance.report_run_failed(run)
            options = ReexecutionOptions.from_failure(run.run_id, instance)
        with execute_job(
            reconstructable(doomed_job), instance=instance, run_config=QUIET, reexecution_options=options
        ) as result:
            require(result.success, "the job failed")
            return result.output_for_node(_name(graph.tasks[-1].name))  # type: ignore[no-any-return]
