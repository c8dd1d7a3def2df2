"""The graphs that are run, and the blocks in them: the same functions for Blaze, its peers and the bare loops.

Interpreters that have no Blaze import this module too: only ``sequences_of`` needs it.
"""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Sequence, Tuple, Union

if TYPE_CHECKING:
    from blaze import BlazeSequence, SeqBlockData

#: Recorded workflows of the WfCommons project, reduced to their graphs.
WORKFLOWS = Path(__file__).resolve().parent.parent / "tests" / "data" / "workflows"
#: Seconds after which a run that hangs is FAILED, and so reported as wrong.
RUN_LIMIT = 300
#: Keeps the outputs of wide and deep graphs small.
PRIME = 1_000_003

#: What stands in recorded names and in no step's name.
UNNAMEABLE = re.compile(r"[^A-Za-z0-9_-]")

#: What a task reads: nothing, one task's output, or a list of several.
Needs = Union[None, str, Tuple[str, ...]]


@dataclass(frozen=True)
class Task:
    """One step: a function, and whose outputs it is called with."""

    name: str
    function: Callable[..., int]
    needs: Needs = None

    @property
    def parents(self) -> Tuple[str, ...]:
        """The tasks that it depends on."""
        if self.needs is None:
            return ()
        return (self.needs,) if isinstance(self.needs, str) else self.needs

    def __call__(self, outputs: Mapping[str, int]) -> int:
        """Call the function by hand."""
        needs = self.needs
        if needs is None:
            return self.function()
        if type(needs) is str:
            return self.function(outputs[needs])
        return self.function([outputs[name] for name in needs])


@dataclass(frozen=True)
class Graph:
    """Tasks in a topological order."""

    name: str
    tasks: Tuple[Task, ...]

    @property
    def edges(self) -> int:
        """Dependencies in all."""
        return sum(len(task.parents) for task in self.tasks)

    @property
    def predecessors(self) -> Dict[str, Tuple[str, ...]]:
        """The form that ``graphlib`` takes."""
        return {task.name: task.parents for task in self.tasks}

    def expected(self) -> Dict[str, int]:
        """The output of every task."""
        outputs: Dict[str, int] = {}
        for task in self.tasks:
            outputs[task.name] = task(outputs)
        return outputs


def source() -> int:
    """The start of a graph."""
    return 0


def step(value: int) -> int:
    """A step that does nothing, but not so that it could be left out."""
    return value + 1


def join(values: List[int]) -> int:
    """A step behind several: every one of them shows in what comes out."""
    return (1 + sum(values)) % PRIME


def extract() -> List[int]:
    """The first step of the small pipeline: a few rows."""
    return [1, 2, 3]


def transform(rows: List[int]) -> List[int]:
    """The second: something done to them."""
    return [2 * row for row in rows]


def load(rows: List[int]) -> int:
    """The third: what is left of them."""
    return sum(rows)


#: What a run of extract → transform → load ends with.
LOADED = load(transform(extract()))


def chain(size: int) -> Graph:
    """``size`` steps, each of which needs the one before."""
    names = [f"step_{number:05}" for number in range(size)]
    tasks = [Task(names[0], source)]
    tasks += [Task(name, step, before) for before, name in zip(names, names[1:])]
    return Graph(f"chain of {size:,}", tuple(tasks))


def fan(size: int) -> Graph:
    """One source, ``size`` steps that need it, and one that needs them all."""
    names = [f"leaf_{number:05}" for number in range(size)]
    leaves = [Task(name, step, "source") for name in names]
    return Graph(f"1 → {size:,} → 1", (Task("source", source), *leaves, Task("sink", join, tuple(names))))


def workflows(parts: Sequence[Tuple[str, int]]) -> Graph:
    """Recorded workflows, each a number of times, side by side between a common source and a common sink."""
    parents: Dict[str, List[str]] = {}
    for name, copies in parts:
        recorded = json.loads(gzip.decompress((WORKFLOWS / f"{name}.json.gz").read_bytes()))["tasks"]
        for copy in range(copies):
            prefix = f"{name.split('-')[2]}{copy}_"
            named = {task: prefix + UNNAMEABLE.sub("_", task) for task in recorded}
            for task, needs in recorded.items():
                parents[named[task]] = [named[need] for need in needs]
    leaves = set(parents) - {need for needs in parents.values() for need in needs}
    tasks = [Task("source", source)]
    tasks += [
        Task(name, *((join, tuple(parents[name])) if parents[name] else (step, "source")))
        for name in TopologicalSorter(parents).static_order()
    ]
    graph = Graph("", (*tasks, Task("sink", join, tuple(sorted(leaves)))))
    told = " + ".join(f"{copies} × {name}" for name, copies in parts)
    return Graph(f"{len(graph.tasks):,} tasks, {graph.edges:,} edges ({told})", graph.tasks)


def sequences_of(graph: Graph, seq_id: str = "bench") -> BlazeSequence:
    """A graph as a user of Blaze would declare it: references make the dependencies. Its output is the last task's."""
    from blaze import BlazeBlock, BlazeSequence

    blocks = BlazeBlock()
    for function in {task.function.__name__: task.function for task in graph.tasks}.values():
        blocks.block(function)
    sequences = BlazeSequence()
    last = graph.tasks[-1].name

    @sequences.sequence(
        blocks=blocks, sequence=[_declared(task) for task in graph.tasks], seq_id=seq_id, seq_run_timeout=RUN_LIMIT
    )
    def finaliser(context: Any = None) -> Any:
        return context[last]

    return sequences


def _declared(task: Task) -> SeqBlockData:
    from blaze import SeqBlockData

    parameters: Dict[str, Any] = {}
    if isinstance(task.needs, str):
        parameters["value"] = f"@{task.needs}"
    elif task.needs is not None:
        parameters["values"] = [f"@{name}" for name in task.needs]
    return SeqBlockData(task.function.__name__, name=task.name, parameters=parameters)
