"""Hamilton: functions of a module are the graph, a driver executes it in the calling thread.

``driver`` keeps nothing; ``cache`` stores every result (``with_cache()``), so that a later execution finds it.
"""

from __future__ import annotations

import importlib.util
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Iterator, List, Optional, Tuple

from hamilton import driver

from ...graphs import Graph
from ...measure import Timed, stopwatch
from ..places import fresh

PIPELINE = """
from typing import List
from benchmarks import graphs

def extract() -> List[int]:
    return graphs.extract()

def transform(extract: List[int]) -> List[int]:
    return graphs.transform(extract)

def load(transform: List[int]) -> int:
    return graphs.load(transform)
"""


def _module(place: Path, name: str, source: str) -> ModuleType:
    """A real file: Hamilton reads the source of functions."""
    path = place / f"{name}.py"
    path.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _name(task: str) -> str:
    return "task_" + task.replace("-", "_").replace(".", "_")


def _source(graph: Graph, body: Callable[[Any], str]) -> str:
    lines = ["from benchmarks import graphs", "from benchmarks.peers import workloads", ""]
    for task in graph.tasks:
        arguments = ", ".join(f"{_name(parent)}: int" for parent in task.parents)
        lines += [f"def {_name(task.name)}({arguments}) -> int:", f"    return {body(task)}", ""]
    return "\n".join(lines)


def _adding(task: Any) -> str:
    arguments = [_name(parent) for parent in task.parents]
    if task.needs is not None and not isinstance(task.needs, str):
        return f"graphs.{task.function.__name__}([{', '.join(arguments)}])"
    return f"graphs.{task.function.__name__}({', '.join(arguments)})"


def _telling(task: Any) -> str:
    return f"workloads.witnessed({task.name!r}, [{', '.join(_name(parent) for parent in task.parents)}])"


def _driver(setting: str, module: ModuleType, place: Path, recompute: bool) -> Any:
    builder = driver.Builder().with_modules(module)
    if setting == "cache":
        # In a benchmark each run is to run: results are stored, and not taken from the store.
        builder = builder.with_cache(path=place / "cache", recompute=True if recompute else None)
    return builder.build()


@contextmanager
def graph(setting: str, graph: Graph, place: Path) -> Iterator[Callable[[], Tuple[Timed, Any]]]:
    """``execute`` of the last function."""
    sys.setrecursionlimit(20_000)  # the graph is walked by recursion
    last = _name(graph.tasks[-1].name)
    module = _module(place, "bench_graph", _source(graph, _adding))

    def once() -> Tuple[Timed, Any]:
        with fresh(place) as directory:
            built = _driver(setting, module, directory, True)
            stop = stopwatch()
            found = built.execute([last])
            return stop(), found[last]

    yield once


@contextmanager
def runs(setting: str, count: int, place: Path) -> Iterator[Callable[[], Tuple[Timed, List[Any]]]]:
    """``execute`` again and again."""
    module = _module(place, "bench_pipeline", PIPELINE)

    def once() -> Tuple[Timed, List[Any]]:
        with fresh(place) as directory:
            built = _driver(setting, module, directory, True)
            stop = stopwatch()
            outputs = [built.execute(["load"])["load"] for _ in range(count)]
            return stop(), outputs

    yield once


def carry(setting: str, graph: Graph, place: Path, again: bool) -> Optional[int]:
    """Executed again; what the cache holds is taken from it."""
    module = _module(place, "bench_doomed", _source(graph, _telling))
    last = _name(graph.tasks[-1].name)
    return _driver(setting, module, place, False).execute([last])[last]  # type: ignore[no-any-return]
