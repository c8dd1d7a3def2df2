"""Rows that show whether anything grows faster than the number of steps."""

from __future__ import annotations

import gc
import time
from dataclasses import replace
from typing import Callable, Dict, List, NamedTuple

from blaze import Blaze

from .bench import Bench
from .graphs import RUN_LIMIT, Graph, chain, fan, sequences_of
from .measure import Spread, median_spin, spin
from .report import Goal, Row
from .steps import WORKERS, require_graph

#: The cost of a step may grow by this factor, when there are ten times as many; were it quadratic, it would by ten.
LIMIT = 2.0

_began: List[float] = []


class Phases(NamedTuple):
    """Seconds."""

    #: From the declared sequence to the checked plan.
    validate: float
    #: From run(), which checks the sequence, to the first line of the first block.
    first: float
    #: From run() to the result.
    total: float


TOLD = {
    "validate": "checking the declared sequence (validate())",
    "first": "run() until the first step starts, checking included",
    "total": "run() until the result, checking included",
}


def chain_rows(bench: Bench) -> List[Row]:
    """A chain, and one ten times as long."""
    return _rows(bench, "chain", chain)


def fan_rows(bench: Bench) -> List[Row]:
    """A fan-out and fan-in, and one ten times as wide."""
    return _rows(bench, "fan", fan)


def clocked_source() -> int:
    """The source of the graphs, which tells when it was called."""
    _began.append(time.perf_counter())
    return 0


def _rows(bench: Bench, kind: str, make: Callable[[int], Graph]) -> List[Row]:
    sizes = (bench.sizes.steps, bench.sizes.steps * bench.sizes.growth)
    graphs = [_clocked(make(size)) for size in sizes]
    per_step: Dict[str, List[List[float]]] = {phase: [[], []] for phase in Phases._fields}
    spins = []
    for turn in range(-bench.sizes.warmups, bench.repeat):
        for number, graph in enumerate(graphs):
            gc.collect()
            phases = _once(bench, graph)
            spins.append(spin())
            if turn < 0:
                continue
            for phase, seconds in zip(Phases._fields, phases):
                per_step[phase][number].append(seconds * 1e6 / len(graph.tasks))
    bench.report.spins.extend(spins)
    rows = []
    for phase, (small, big) in per_step.items():
        growth, value, goal = Spread.of(b / s for s, b in zip(small, big)), Spread.of(big), Goal(ratio=LIMIT)
        rows.append(
            Row(
                f"growth-{kind}-{phase}",
                f"{graphs[0].name} and {graphs[1].name}, durable: {TOLD[phase]}",
                "µs/step",
                Spread.of(small),
                value,
                growth,
                goal.told("µs/step"),
                goal.reached(growth, value, False),
                spin=median_spin(spins),
                notes=(f"{value.median * len(graphs[1].tasks) / 1e3:,.0f} ms in all for the larger",),
                columns=(f"{sizes[0]:,} steps", f"{sizes[1]:,} steps", "growth"),
            )
        )
    return rows


def _clocked(graph: Graph) -> Graph:
    first, *others = graph.tasks
    return replace(graph, tasks=(replace(first, function=clocked_source), *others))


def _once(bench: Bench, graph: Graph) -> Phases:
    expected = graph.expected()
    declared = sequences_of(graph)["bench"]
    start = time.perf_counter()
    declared.validate()
    validated = time.perf_counter() - start
    # Declared anew: what was checked is remembered.
    with (
        bench.fresh() as directory,
        Blaze(sequences=sequences_of(graph), max_workers=WORKERS, state_dir=directory) as scheduler,
    ):
        _began.clear()
        start = time.perf_counter()
        result = scheduler.run("bench", timeout=RUN_LIMIT)
        total = time.perf_counter() - start
        require_graph(result, graph, expected)
    return Phases(validated, _began[0] - start, total)
