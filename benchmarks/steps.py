"""Rows about steps: chains, fan-outs and a large real graph, durable and in memory, and many small runs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Dict, List, Mapping

from blaze import Blaze, BlazeBlock, BlazeSequence, RunResult, RunStatus, SeqBlockData

from . import bare
from .bench import Bench
from .graphs import LOADED, RUN_LIMIT, Graph, chain, extract, fan, load, sequences_of, transform, workflows
from .measure import Pairs, Repetition, Timed, require, stopwatch
from .report import Goal, Row, row_of

#: Steps at a time, here and in the bare pool.
WORKERS = 4
#: ``synchronous`` of the bare database that promises as much.
SYNCHRONOUS = {"process": "NORMAL", "power": "FULL"}


def chain_row(bench: Bench) -> List[Row]:
    """A chain, durable, against one INSERT + COMMIT a step."""
    return [_durable_row(bench, "chain", chain(bench.sizes.steps), "process", Goal(ratio=1.5))]


def chain_power_row(bench: Bench) -> List[Row]:
    """The same, safe from power loss, against the same with synchronous=FULL."""
    return [_durable_row(bench, "chain-power", chain(bench.sizes.steps), "power", Goal(ratio=1.1))]


def fan_row(bench: Bench) -> List[Row]:
    """A fan-out and fan-in, durable, against one INSERT + COMMIT a step."""
    return [_durable_row(bench, "fan", fan(bench.sizes.steps), "process", Goal(ratio=0.5))]


def dag_row(bench: Bench) -> List[Row]:
    """Recorded workflows, durable, against one INSERT + COMMIT a task."""
    return [_durable_row(bench, "dag", workflows(bench.sizes.workflows), "process", Goal(ratio=1.0))]


def chain_memory_rows(bench: Bench) -> List[Row]:
    """A chain in memory, against a thread pool and graphlib."""
    return _memory_rows(bench, "chain-memory", chain(bench.sizes.steps), Goal(ratio=0.8, value=9.0))


def fan_memory_rows(bench: Bench) -> List[Row]:
    """A fan-out and fan-in in memory, against a thread pool and graphlib."""
    return _memory_rows(bench, "fan-memory", fan(bench.sizes.steps), Goal(ratio=0.8))


def runs_rows(bench: Bench) -> List[Row]:
    """Many runs of a 3-step pipeline, durable, against 5 INSERT + COMMIT a run."""
    count = bench.sizes.runs
    sequences = pipeline()

    def by_hand() -> Timed:
        with bench.fresh() as directory:
            database = directory / "bare.db"
            with closing(bare.open_database(database, "NORMAL")) as connection:
                timed, output = bare.runs((extract, transform, load), count, connection)
            require(output == LOADED, f"bare: output {output!r}, not {LOADED!r}")
            _require_rows("bare", database, {"runs": count, "steps": 3 * count, "ends": count})
            return timed

    def scheduled(triggered: bool) -> Timed:
        with bench.fresh() as directory:
            with Blaze(sequences=sequences, max_workers=WORKERS, state_dir=directory) as scheduler:
                stop = stopwatch()
                if triggered:
                    handles = [scheduler.trigger("pipeline") for _ in range(count)]
                    results = [handle.result(RUN_LIMIT) for handle in handles]
                else:
                    results = [scheduler.run("pipeline", timeout=RUN_LIMIT) for _ in range(count)]
                timed = stop()
            for result in results:
                require_pipeline(result)
            _require_rows("Blaze", directory / "blaze.db", {"runs": count, "steps": 3 * count}, completed=True)
            return timed

    goal, per = Goal(ratio=1.5), 1e6 / count
    one_by_one = bench.pairs(by_hand, lambda: scheduled(False))
    at_once = bench.pairs(by_hand, lambda: scheduled(True))
    what = f"{count:,} runs of extract → transform → load, durable; bare: 5 INSERT + COMMIT a run"
    return [
        row_of("runs", f"{what}; scheduler.run() one after the other", one_by_one, per, "µs/run", goal),
        row_of("runs-triggered", f"{what}; trigger() of all, then waiting", at_once, per, "µs/run", goal),
    ]


# ---------------------------------------------------------------------- graphs


def _durable_row(bench: Bench, key: str, graph: Graph, durability: str, goal: Goal) -> Row:
    synchronous = SYNCHRONOUS[durability]
    pairs = bench.pairs(_committed(bench, graph, synchronous), _scheduled(bench, graph, durability))
    what = f'{graph.name}, Blaze(durability="{durability}", max_workers={WORKERS}); '
    what += f"bare: one thread, INSERT + COMMIT a step, WAL, synchronous={synchronous}"
    return _row(key, what, graph, pairs, goal)


def _memory_rows(bench: Bench, key: str, graph: Graph, goal: Goal) -> List[Row]:
    against = f"bare: ThreadPoolExecutor({WORKERS}) and graphlib"
    pooled = _pooled(graph)
    direct = bench.pairs(pooled, _in_memory(graph))
    scheduled = bench.pairs(pooled, _scheduled(bench, graph, "memory"))
    return [
        _row(key, f"{graph.name}, sequences.run(max_workers={WORKERS}); {against}", graph, direct, goal),
        _row(f"{key}-blaze", f'{graph.name}, Blaze(durability="memory"); {against}', graph, scheduled, Goal()),
    ]


def _row(key: str, what: str, graph: Graph, pairs: Pairs, goal: Goal) -> Row:
    return row_of(key, what, pairs, 1e6 / len(graph.tasks), "µs/step", goal)


def _committed(bench: Bench, graph: Graph, synchronous: str) -> Repetition:
    expected = graph.expected()

    def once() -> Timed:
        with bench.fresh() as directory:
            database = directory / "bare.db"
            with closing(bare.open_database(database, synchronous)) as connection:
                timed, outputs = bare.committed(graph, connection)
            _require_outputs("bare", outputs, expected)
            _require_rows("bare", database, {"steps": len(graph.tasks)}, completed=True)
            return timed

    return once


def _pooled(graph: Graph) -> Repetition:
    expected = graph.expected()

    def once() -> Timed:
        timed, outputs = bare.pooled(graph, WORKERS)
        _require_outputs("bare", outputs, expected)
        return timed

    return once


def _scheduled(bench: Bench, graph: Graph, durability: str) -> Repetition:
    sequences, expected = sequences_of(graph), graph.expected()

    def once() -> Timed:
        with bench.fresh() as directory:
            with Blaze(
                sequences=sequences, max_workers=WORKERS, state_dir=directory, durability=durability
            ) as scheduler:
                stop = stopwatch()
                result = scheduler.run("bench", timeout=RUN_LIMIT)
                timed = stop()
                require_graph(result, graph, expected)
            if durability != "memory":
                _require_rows("Blaze", directory / "blaze.db", {"runs": 1, "steps": len(graph.tasks)}, completed=True)
            return timed

    return once


def _in_memory(graph: Graph) -> Repetition:
    sequences, expected = sequences_of(graph), graph.expected()

    def once() -> Timed:
        stop = stopwatch()
        result = sequences.run("bench", max_workers=WORKERS)
        timed = stop()
        require_graph(result, graph, expected)
        return timed

    return once


# ---------------------------------------------------------------------- the 3-step pipeline


def pipeline() -> BlazeSequence:
    """extract → transform → load."""
    blocks, sequences = BlazeBlock(), BlazeSequence()
    for function in (extract, transform, load):
        blocks.block(function)

    @sequences.sequence(
        blocks=blocks,
        sequence=[
            SeqBlockData("extract"),
            SeqBlockData("transform", parameters={"rows": "@extract"}),
            SeqBlockData("load", parameters={"rows": "@transform"}),
        ],
        seq_id="pipeline",
        seq_run_timeout=RUN_LIMIT,
    )
    def finaliser(context: Any = None) -> Any:
        return context["load"]

    return sequences


# ---------------------------------------------------------------------- was it done?


def require_pipeline(result: RunResult) -> None:
    """A run of the pipeline did its work."""
    require(result.status is RunStatus.COMPLETED, f"Blaze: a run is {result.status}: {result.error}")
    require(result.output == LOADED, f"Blaze: a run's output is {result.output!r}, not {LOADED!r}")


def require_graph(result: RunResult, graph: Graph, expected: Mapping[str, int]) -> None:
    """A run of a graph did its work."""
    require(result.status is RunStatus.COMPLETED, f"Blaze: the run is {result.status}: {result.error}")
    last = graph.tasks[-1].name
    require(result.output == expected[last], f"Blaze: the output is {result.output!r}, not {expected[last]!r}")
    _require_outputs("Blaze", dict(result.outputs), expected)


def _require_outputs(who: str, outputs: Mapping[str, int], expected: Mapping[str, int]) -> None:
    if outputs != expected:
        other = [name for name in expected if outputs.get(name) != expected[name]]
        require(False, f"{who}: {len(outputs)} outputs of {len(expected)}; wrong or missing: {', '.join(other[:5])}")


def _require_rows(who: str, database: Path, expected: Mapping[str, int], completed: bool = False) -> None:
    """The database of a scheduler that has stopped, or of a bare loop, holds what it should."""
    found: Dict[str, int] = {}
    condition = " WHERE status = 'COMPLETED'" if completed else ""
    with closing(sqlite3.connect(str(database))) as connection:
        for table in expected:
            found[table] = connection.execute(f"SELECT count(*) FROM {table}{condition}").fetchone()[0]
    require(found == dict(expected), f"{who}: rows in the database are {found}, not {dict(expected)}")
