"""Random graphs of steps that fail, retry, skip and refer to each other, held against a model of DESIGN §3 (R70)."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import zlib
from collections import Counter
from pathlib import Path
from typing import List, NamedTuple, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blaze import Abort, Blaze, BlazeBlock, BlazeSequence, BlockStatus, Retry, RunStatus, SeqBlockData, current
from tests.integration.workbench import PATIENCE, within_patience

COMPLETED, FAILED, SKIPPED, CANCELLED = (
    BlockStatus.COMPLETED, BlockStatus.FAILED, BlockStatus.SKIPPED, BlockStatus.CANCELLED,
)  # fmt: skip

WORKFLOWS = sorted((Path(__file__).parents[1] / "data" / "workflows").glob("*.json.gz"))

RUN_WHEN = ("all_success", "all_done", "any_success", "any_failed")


# ---------------------------------------------------------------------- what is drawn


class Behaviour(NamedTuple):
    """What the attempts of a step raise, one after the other; where there is None, it returns."""

    retries: int
    raises: Tuple[object, ...]


BEHAVIOURS = (
    Behaviour(0, (None,)),
    Behaviour(2, (None,)),
    Behaviour(1, (ValueError("1"), None)),
    Behaviour(0, (ValueError("1"),)),
    Behaviour(2, (ValueError("1"), ValueError("2"), ValueError("3"))),
    Behaviour(3, (ValueError("1"), Abort("2"))),
    Behaviour(1, (Retry("1", delay=0), None)),
    # Not named by retry_on:
    Behaviour(5, (KeyError("1"),)),
)

#: Ways in which a step refers to another.
DECLARED, WHOLE, PATH, NESTED = range(4)


class Node(NamedTuple):
    """One step; the others are named by their indexes, which are lower than its own."""

    links: Tuple[Tuple[int, int], ...]
    run_when: str
    behaviour: Behaviour
    is_async: bool

    @property
    def sources(self):
        """Everything it depends on."""
        return sorted({source for source, _ in self.links})


def decoded(numbers: List[int]) -> List[Node]:
    """A graph; small numbers are plain steps, so that a failing example shrinks to few and plain ones."""
    nodes = []
    for index, number in enumerate(numbers):

        def take(choices):
            nonlocal number
            number, choice = divmod(number, choices)
            return choice

        behaviour = BEHAVIOURS[take(len(BEHAVIOURS))]
        run_when = RUN_WHEN[take(4)]
        is_async = take(3) == 1
        links = {}
        for _ in range(take(5)):
            source = index - 1 - take(12)
            form = take(4)
            if source >= 0:
                links[source] = form
        nodes.append(Node(tuple(links.items()), run_when, behaviour, is_async))
    return nodes


GRAPHS = st.lists(st.integers(0, 2**44 - 1), min_size=1, max_size=40).map(decoded)


# ---------------------------------------------------------------------- the model


class Played(NamedTuple):
    """How a run has to end."""

    statuses: dict
    reasons: dict
    attempts: dict
    outputs: dict
    status: RunStatus


def output_of(name, inputs):
    """What a step returns, told by what it was given."""
    number = zlib.crc32(repr((name, inputs)).encode())
    return {"value": number, "rows": [number, name]}


def wired(node, refer):
    """A step's ``inputs``, each reference told by ``refer(source, path)``."""
    inputs = {}
    for source, form in node.links:
        if form == WHOLE:
            inputs[f"s{source}"] = refer(source, ())
        elif form == PATH:
            inputs[f"s{source}"] = refer(source, ("value",))
        elif form == NESTED:
            inputs[f"s{source}"] = [{"deep": (refer(source, ("rows", "1")), "plain")}]
    return inputs


def play(nodes, finaliser_fails):
    """DESIGN §3, one step after the other."""
    statuses, reasons, attempts, outputs = {}, {}, {}, {}

    def refer(source, path):
        value = outputs.get(f"s{source}")
        for key in path if value is not None else ():
            value = value[int(key)] if isinstance(value, list) else value[key]
        return value

    for index, node in enumerate(nodes):
        name, ends = f"s{index}", [statuses[f"s{source}"] for source in node.sources]
        starts = (
            not ends
            or {
                "all_success": all(end is COMPLETED for end in ends),
                "all_done": True,
                "any_success": COMPLETED in ends,
                "any_failed": FAILED in ends,
            }[node.run_when]
        )
        if not starts:
            statuses[name], attempts[name] = SKIPPED, 0
            unharmed = all(end is COMPLETED for end in ends)
            below_a_failure = "upstream_failed" in [reasons[f"s{source}"] for source in node.sources]
            reasons[name] = (
                "upstream_failed"
                if FAILED in ends or below_a_failure
                else "nothing_failed"
                if unharmed
                else "upstream_skipped"
            )
            continue
        good = node.behaviour.raises[-1] is None
        statuses[name], attempts[name], reasons[name] = COMPLETED if good else FAILED, len(node.behaviour.raises), None
        if good:
            outputs[name] = output_of(name, wired(node, refer))
    failed = FAILED in statuses.values() or finaliser_fails
    return Played(statuses, reasons, attempts, outputs, RunStatus.FAILED if failed else RunStatus.COMPLETED)


# ---------------------------------------------------------------------- the real thing


class Graph:
    """A graph as blocks and a sequence, and the witness of what they did."""

    def __init__(self, nodes, sequences, seq_id, finaliser_fails=False, recorded=None, **settings):
        self.nodes = nodes
        self._lock = threading.Lock()
        self.events = []
        self.finalised = []
        #: Asked at each start for the states of the steps as they are recorded by then.
        self._recorded = recorded
        self.unrecorded = []
        blocks = BlazeBlock()

        @blocks.block(retry_on=(ValueError,))
        def act(inputs):
            return self._act(inputs)

        @blocks.block(retry_on=(ValueError,))
        async def act_async(inputs):
            await asyncio.sleep(0)
            return self._act(inputs)

        def finaliser(context):
            self.finalised.append(context)
            if finaliser_fails:
                raise RuntimeError("in the end")
            return "finalised"

        sequences.sequence(
            blocks=blocks,
            sequence=[self._step(index, node) for index, node in enumerate(nodes)],
            seq_id=seq_id,
            **settings,
        )(finaliser)

    def _step(self, index, node):
        return SeqBlockData(
            "act_async" if node.is_async else "act",
            name=f"s{index}",
            dependencies=[f"s{source}" for source, form in node.links if form == DECLARED],
            parameters={"inputs": wired(node, lambda source, path: "@" + ".".join((f"s{source}", *path)))},
            run_when=node.run_when,
            retries=node.behaviour.retries,
        )

    def _act(self, inputs):
        here = current()
        node = self.nodes[int(here.step[1:])]
        if self._recorded is not None:
            states = self._recorded(here.run_id)
            self.unrecorded += [
                (here.step, source)
                for source in node.sources
                if not states[source].status.ended and states[source].attempts
            ]
        with self._lock:
            self.events.append(("start", here.step, here.attempt))
        try:
            error = node.behaviour.raises[here.attempt - 1]
            if error is not None:
                raise error
            return output_of(here.step, inputs)
        finally:
            with self._lock:
                self.events.append(("end", here.step, here.attempt))

    def starts(self):
        """How often each step was started."""
        return Counter(step for what, step, _ in self.events if what == "start")

    def started_early(self):
        """Steps that started before an attempt of one they depend on had ended, or beside another of their own."""
        last = {step: place for place, (what, step, _) in enumerate(self.events) if what == "end"}
        found, running = [], set()
        for place, (what, step, attempt) in enumerate(self.events):
            if what == "end":
                running.discard(step)
                continue
            sources = self.nodes[int(step[1:])].sources
            found += [(step, source) for source in sources if last.get(f"s{source}", -1) > place]
            found += [(step, attempt)] * (step in running)
            running.add(step)
        return found


def check(graph, result, played):
    assert {name: step.status for name, step in result.steps.items()} == played.statuses
    assert {name: step.reason for name, step in result.steps.items()} == played.reasons
    assert {name: step.attempts for name, step in result.steps.items()} == played.attempts
    assert dict(result.outputs) == played.outputs
    assert result.status is played.status
    failures = [name for name, status in played.statuses.items() if status is FAILED]
    assert [failure.step for failure in result.failures][: len(failures)] == failures
    assert graph.finalised == ([] if failures else [played.outputs])
    assert result.output == (None if played.status is RunStatus.FAILED else "finalised")
    assert graph.starts() == Counter({name: number for name, number in played.attempts.items() if number})
    assert not graph.started_early()
    assert sorted(result.order) == sorted(name for name, number in played.attempts.items() if number)


def check_records(state, graph, result, played):
    run = state.find_run(result.run_id)
    assert (run.status, run.reason, run.ended_at) == (result.status, result.reason, result.ended_at)
    records = {record.name: record for record in state.steps(result.run_id)}
    assert {name: record.status for name, record in records.items()} == played.statuses
    assert {name: record.reason for name, record in records.items()} == played.reasons
    assert {name: record.attempts for name, record in records.items()} == played.attempts
    assert all((record.started is None) is (record.attempts == 0) for record in records.values())
    raised = [
        (f"s{index}", number + 1)
        for index, node in enumerate(graph.nodes)
        for number, error in enumerate(node.behaviour.raises)
        if error is not None and played.attempts[f"s{index}"]
    ]
    assert [(attempt.step, attempt.attempt) for attempt in state.attempts(result.run_id, limit=1000)] == raised
    assert not graph.unrecorded


@settings(max_examples=80, deadline=None)
@given(GRAPHS, st.integers(1, 4), st.booleans())
def test_a_run_in_memory_ends_as_the_model_says(nodes, workers, finaliser_fails):
    sequences = BlazeSequence()
    graph = Graph(nodes, sequences, "dag", finaliser_fails)
    result = within_patience(sequences.run, "dag", max_workers=workers)
    check(graph, result, play(nodes, finaliser_fails))


@pytest.fixture(scope="module", params=["process-1", "process-3", "memory-3"])
def scheduler(request, tmp_path_factory):
    """One for all examples; it learns each new sequence when that is registered.

    It is stopped behind each test (tests/conftest.py), so each example starts it.
    """
    durability, workers = request.param.split("-")
    with Blaze(
        sequences=BlazeSequence(),
        state_dir=tmp_path_factory.mktemp("state"),
        durability=durability,
        max_workers=int(workers),
    ) as scheduler:
        yield scheduler


@settings(max_examples=30, deadline=None)
@given(GRAPHS, st.booleans())
def test_a_recorded_run_ends_as_the_model_says_and_is_recorded_so(scheduler, nodes, finaliser_fails):
    scheduler.start()
    graph = Graph(nodes, scheduler.sequences, f"dag{len(scheduler.sequences)}", finaliser_fails, scheduler.state.steps)
    result = scheduler.run(f"dag{len(scheduler.sequences) - 1}", timeout=PATIENCE)
    played = play(nodes, finaliser_fails)
    check(graph, result, played)
    check_records(scheduler.state, graph, result, played)


@settings(max_examples=6, deadline=None)
@given(st.lists(GRAPHS, min_size=2, max_size=6))
def test_runs_at_the_same_time_end_as_if_each_were_alone(scheduler, many):
    scheduler.start()
    graphs = [
        Graph(nodes, scheduler.sequences, f"dag{len(scheduler.sequences)}", recorded=scheduler.state.steps)
        for nodes in many
    ]
    first = len(scheduler.sequences) - len(many)
    handles = [scheduler.trigger(f"dag{first + number}") for number in range(len(many))]
    for graph, handle, nodes in zip(graphs, handles, many):
        result, played = handle.result(PATIENCE), play(nodes, False)
        check(graph, result, played)
        check_records(scheduler.state, graph, result, played)


# ---------------------------------------------------------------------- fail_stop


def check_stopped(graph, result, alone):
    """What holds with ``fail_stop`` whatever the order in which the steps were run."""
    statuses = {name: step.status for name, step in result.steps.items()}
    failed = [name for name, status in statuses.items() if status is FAILED]
    starts = graph.starts()
    assert {name: step.attempts for name, step in result.steps.items() if step.attempts} == starts
    assert not graph.started_early()
    for index, node in enumerate(graph.nodes):
        name, step = f"s{index}", result.steps[f"s{index}"]
        if step.status in (COMPLETED, FAILED):
            assert starts[name] and all(statuses[f"s{source}"].ended for source in node.sources)
        elif step.status is SKIPPED:
            # Decided before anything had failed.
            assert step.reason in ("nothing_failed", "upstream_skipped") and not starts[name]
        else:
            assert (step.status, step.reason) == (CANCELLED, "fail_stop")
    if failed:
        assert result.status is RunStatus.FAILED and not graph.finalised
        assert {failure.step for failure in result.failures} == set(failed)
        # Nothing was started but what would have been started anyway.
        assert all(alone.attempts[name] for name in starts)
    else:
        assert CANCELLED not in statuses.values()
        check(graph, result, alone)


@settings(max_examples=60, deadline=None)
@given(GRAPHS)
def test_with_fail_stop_one_worker_starts_nothing_after_the_first_final_failure(nodes):
    nodes = [node._replace(is_async=False) for node in nodes]
    sequences = BlazeSequence()
    graph = Graph(nodes, sequences, "dag", fail_stop=True)
    result = within_patience(sequences.run, "dag", max_workers=1)
    check_stopped(graph, result, play(nodes, False))
    failed = [name for name, step in result.steps.items() if step.status is FAILED]
    assert len(failed) <= 1
    if failed:
        assert graph.events[-1][:2] == ("end", failed[0])


@settings(max_examples=30, deadline=None)
@given(GRAPHS)
def test_with_fail_stop_a_recorded_run_cancels_what_has_not_started(scheduler, nodes):
    scheduler.start()
    graph = Graph(nodes, scheduler.sequences, f"dag{len(scheduler.sequences)}", fail_stop=True)
    result = scheduler.run(f"dag{len(scheduler.sequences) - 1}", timeout=PATIENCE)
    check_stopped(graph, result, play(nodes, False))
    for record in scheduler.state.steps(result.run_id):
        step = result.steps[record.name]
        assert (record.status, record.reason, record.attempts) == (step.status, step.reason, step.attempts)


# ---------------------------------------------------------------------- real graphs


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name.partition(".")[0])
def test_a_real_workflow_runs_every_step_once_in_an_order_that_its_graph_allows(way, bench, path):
    tasks = json.loads(gzip.decompress(path.read_bytes()))["tasks"]
    names = {task: f"t{number}" for number, task in enumerate(tasks)}
    lock, ended, early, threads = threading.Lock(), [], [], set()

    def level(name, needs, levels):
        with lock:
            early.extend((name, need) for need in needs if need not in ended)
            threads.add(threading.get_ident())
            ended.append(name)
        return 1 + max(levels, default=0)

    bench.blocks.block(name="level")(level)
    for task, parents in tasks.items():
        needs = [names[parent] for parent in parents]
        parameters = {"name": names[task], "needs": needs, "levels": [f"@{need}" for need in needs]}
        bench.wiring.append(SeqBlockData("level", name=names[task], parameters=parameters))
    bench.sequence()
    result = way.run(bench, max_workers=4)
    assert result.ok and not early
    assert Counter(ended) == Counter(names.values()) and len(result.order) == len(tasks)
    expected = {}

    def level_of(task):
        stack = [task]
        while stack:
            missing = [parent for parent in tasks[stack[-1]] if parent not in expected]
            if missing:
                stack += missing
                continue
            here = stack.pop()
            expected[here] = 1 + max((expected[parent] for parent in tasks[here]), default=0)
        return expected[task]

    assert result.output == {names[task]: level_of(task) for task in tasks}
    if way.has_scheduler:
        assert all(record.status is COMPLETED for record in way.state.steps(result.run_id))
