"""dask: a graph as a dict on its threaded scheduler, or futures on a local cluster of threads (``distributed``)."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import dask.threaded

from ... import graphs
from ...graphs import Graph
from ...measure import Timed, stopwatch
from ..workloads import witnessed

WORKERS = 4


@contextmanager
def _client() -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(processes=False, n_workers=1, threads_per_worker=WORKERS, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _dict_of(graph: Graph) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for task in graph.tasks:
        if task.needs is None:
            found[task.name] = (task.function,)
        elif isinstance(task.needs, str):
            found[task.name] = (task.function, task.needs)
        else:
            found[task.name] = (task.function, list(task.needs))
    return found


@contextmanager
def graph(setting: str, graph: Graph, place: Path) -> Iterator[Callable[[], Tuple[Timed, Any]]]:
    """``dask.threaded.get``, or a future a task."""
    last = graph.tasks[-1].name
    if setting == "threaded":
        described = _dict_of(graph)

        def by_threads() -> Tuple[Timed, Any]:
            stop = stopwatch()
            output = dask.threaded.get(described, last, num_workers=WORKERS)
            return stop(), output

        yield by_threads
        return
    with _client() as client:

        def by_futures() -> Tuple[Timed, Any]:
            stop = stopwatch()
            futures: Dict[str, Any] = {}
            for task in graph.tasks:
                if task.needs is None:
                    futures[task.name] = client.submit(task.function, pure=False)
                elif isinstance(task.needs, str):
                    futures[task.name] = client.submit(task.function, futures[task.needs], pure=False)
                else:
                    needs = [futures[name] for name in task.needs]
                    futures[task.name] = client.submit(task.function, needs, pure=False)
            output = futures[last].result()
            return stop(), output

        yield by_futures


@contextmanager
def runs(setting: str, count: int, place: Path) -> Iterator[Callable[[], Tuple[Timed, List[Any]]]]:
    """One run after the other on threads; futures of all of them at once on the cluster."""
    if setting == "threaded":
        described = {
            "extract": (graphs.extract,),
            "transform": (graphs.transform, "extract"),
            "load": (graphs.load, "transform"),
        }

        def by_threads() -> Tuple[Timed, List[Any]]:
            stop = stopwatch()
            outputs = [dask.threaded.get(described, "load", num_workers=WORKERS) for _ in range(count)]
            return stop(), outputs

        yield by_threads
        return
    with _client() as client:

        def by_futures() -> Tuple[Timed, List[Any]]:
            stop = stopwatch()
            loaded = []
            for _ in range(count):
                extracted = client.submit(graphs.extract, pure=False)
                transformed = client.submit(graphs.transform, extracted, pure=False)
                loaded.append(client.submit(graphs.load, transformed, pure=False))
            outputs = client.gather(loaded)
            return stop(), outputs

        yield by_futures


def carry(setting: str, graph: Graph, place: Path, again: bool) -> Optional[int]:
    """Nothing is stored: after a restart the graph is computed again."""
    # Keys that are no step's name: a name in a task's arguments would be taken for a key.
    described = {
        f"out-{task.name}": (witnessed, task.name, [f"out-{name}" for name in task.parents]) for task in graph.tasks
    }
    return dask.threaded.get(described, f"out-{graph.tasks[-1].name}", num_workers=WORKERS)  # type: ignore[no-any-return]
