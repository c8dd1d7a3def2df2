"""Luigi: a class a task, files that tell whether it is done, and the local scheduler with one worker."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import luigi

from ... import graphs
from ...graphs import Graph, Task
from ...measure import Timed, require, stopwatch
from ..places import fresh
from ..workloads import witnessed

#: The graph at hand, by the name of a task; what tasks do with their inputs.
known: Dict[str, Task] = {}


class Step(luigi.Task):  # type: ignore[misc]
    """A task of a graph."""

    name = luigi.Parameter()
    folder = luigi.Parameter()
    witness = luigi.BoolParameter(default=False)

    def requires(self) -> List[Step]:
        """The tasks that it needs."""
        return [Step(name=name, folder=self.folder, witness=self.witness) for name in known[self.name].parents]

    def output(self) -> Any:
        """Its target."""
        return luigi.LocalTarget(f"{self.folder}/{self.name}")

    def run(self) -> None:
        """Read the targets of the others, write its own."""
        task, values = known[self.name], []
        for target in self.input():
            with target.open() as file:
                values.append(int(file.read()))
        if self.witness:
            value = witnessed(task.name, values)
        elif task.needs is None:
            value = task.function()
        else:
            value = task.function(values[0] if isinstance(task.needs, str) else values)
        with self.output().open("w") as file:
            file.write(str(value))


class Extract(luigi.Task):  # type: ignore[misc]
    """extract of one run."""

    run_name = luigi.Parameter()
    folder = luigi.Parameter()

    def output(self) -> Any:
        """Its target."""
        return luigi.LocalTarget(f"{self.folder}/{self.run_name}-{type(self).__name__}")

    def rows(self) -> List[int]:
        """What the task before wrote."""
        with self.input().open() as file:
            return [int(row) for row in file.read().split()]

    def write(self, rows: List[int]) -> None:
        """Write the target."""
        with self.output().open("w") as file:
            file.write(" ".join(map(str, rows)))

    def run(self) -> None:
        """The step."""
        self.write(graphs.extract())


class Transform(Extract):
    """transform of one run."""

    def requires(self) -> Extract:
        """extract."""
        return Extract(run_name=self.run_name, folder=self.folder)

    def run(self) -> None:
        """The step."""
        self.write(graphs.transform(self.rows()))


class Load(Extract):
    """load of one run."""

    def requires(self) -> Extract:
        """transform."""
        return Transform(run_name=self.run_name, folder=self.folder)

    def run(self) -> None:
        """The step."""
        self.write([graphs.load(self.rows())])


def _build(tasks: List[luigi.Task]) -> None:
    done = luigi.build(tasks, local_scheduler=True, workers=1, log_level="ERROR")
    require(done, "luigi.build() says that it failed")


def _read(task: luigi.Task) -> int:
    with task.output().open() as file:
        return int(file.read())


@contextmanager
def graph(setting: str, graph: Graph, place: Path) -> Iterator[Callable[[], Tuple[Timed, Any]]]:
    """``luigi.build`` of the last task."""
    known.update({task.name: task for task in graph.tasks})

    def once() -> Tuple[Timed, Any]:
        with fresh(place) as directory:
            last = Step(name=graph.tasks[-1].name, folder=str(directory))
            stop = stopwatch()
            _build([last])
            timed = stop()
            output = _read(last)
            return timed, output

    yield once


@contextmanager
def runs(setting: str, count: int, place: Path) -> Iterator[Callable[[], Tuple[Timed, List[Any]]]]:
    """The last tasks of all runs in one ``luigi.build``."""

    def once() -> Tuple[Timed, List[Any]]:
        with fresh(place) as directory:
            lasts = [Load(run_name=f"run{n:05}", folder=str(directory)) for n in range(count)]
            stop = stopwatch()
            _build(lasts)
            timed = stop()
            outputs: List[Any] = [_read(last) for last in lasts]
            return timed, outputs

    yield once


def carry(setting: str, graph: Graph, place: Path, again: bool) -> Optional[int]:
    """Built again; a task whose target is there is complete."""
    known.update({task.name: task for task in graph.tasks})
    last = Step(name=graph.tasks[-1].name, folder=str(place / "targets"), witness=True)
    _build([last])
    return _read(last)
