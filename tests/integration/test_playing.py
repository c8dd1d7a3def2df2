"""`run_sequence`: what a test can make of a sequence without a scheduler, a disk or waiting."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass

import pytest

from blaze import RunFailed, RunStatus, SeqBlockData, ValidationError, current
from blaze.testing import Faults, run_every_order, run_sequence

from .workbench import PATIENCE, Workbench

log = logging.getLogger(__name__)


@pytest.fixture
def bench():
    return Workbench()


def diamond(bench, **settings):
    """a, then b and c, then d."""
    for name, *dependencies in (("a",), ("b", "a"), ("c", "a"), ("d", "b", "c")):
        bench.step(name, lambda name=name: name, *dependencies)
    return bench.sequence(**settings)


def test_it_gives_the_output_of_the_run_and_of_each_step(bench):
    run = run_sequence(diamond(bench, finaliser=lambda context: "".join(sorted(context))))
    assert run.output == "abcd"
    assert dict(run.outputs) == {name: name for name in "abcd"}
    assert run.order == ("a", "b", "c", "d")


def test_retries_with_delays_of_hours_are_made_at_once(bench):
    calls = []

    def flaky():
        calls.append(current().attempt)
        if len(calls) < 3:
            raise ConnectionError("refused")
        return len(calls)

    bench.step("flaky", flaky, retries=5, retry_delay=3600, retry_max_delay=9999)
    began = time.monotonic()
    run = run_sequence(bench.sequence(seq_run_timeout=None))
    assert time.monotonic() - began < PATIENCE
    assert run.attempts("flaky") == 3 and run.output == {"flaky": 3} and calls == [1, 2, 3]
    assert run.result.duration == pytest.approx(7200, abs=1)


def test_an_override_is_an_output_or_a_function_of_what_it_needs_of_the_arguments(bench):
    bench.step("fetch", lambda endpoint, limit=3: 1 / 0)
    bench.step("double", lambda fetch, by=2: fetch * by, "fetch")
    sequence = bench.sequence()
    assert run_sequence(sequence, overrides={"fetch": 21}).output["double"] == 42
    given = {"fetch": {"endpoint": "x"}}
    assert run_sequence(sequence, given, {"fetch": lambda endpoint: endpoint}).output == {"fetch": "x", "double": "xx"}
    assert run_sequence(sequence, overrides={"fetch": lambda: 5, "double": lambda **given: given}).output["double"] == {
        "fetch": 5
    }


def test_an_async_function_may_stand_in_for_a_block_and_a_plain_one_for_an_async_block(bench):
    async def slow():
        raise AssertionError("this is not called")

    async def quick():
        await asyncio.sleep(0)
        return 2

    bench.step("slow", slow)
    bench.step("plain", lambda: 1 / 0)
    assert run_sequence(bench.sequence(), overrides={"slow": 1, "plain": quick}).output == {"slow": 1, "plain": 2}


@dataclass
class Source:
    url: str
    limit: int = 100


@pytest.mark.parametrize(
    ("given", "received"),
    [
        ({}, {"limit": "a default"}),
        ({"url": "u"}, {"url": "u", "limit": 100}),
        ({"url": "u", "limit": "@a"}, {"url": "u", "limit": 1}),
        ({"url": "@a"}, {"url": 1, "limit": "a default"}),
    ],
    ids=["nothing", "a part", "a reference", "what the block would refuse"],
)
def test_a_function_gets_what_the_data_model_makes_of_the_arguments_or_what_there_is(bench, given, received):
    def double(limit="a default", **others):
        return {**others, "limit": limit}

    bench.step("a", lambda: 1)
    bench.step("fetch", lambda url, limit: url, "a", parameters=given, data_model=Source)
    assert run_sequence(bench.sequence(), overrides={"fetch": double}).outputs["fetch"] == received


def test_an_override_by_the_name_of_a_block_stands_for_all_its_steps_but_those_named_themselves(bench):
    bench.blocks.block(name="load")(lambda: 1 / 0)
    bench.wiring = [SeqBlockData("load", name="left"), SeqBlockData("load", name="right")]
    assert run_sequence(bench.sequence(), overrides={"load": 1, "right": 2}).output == {"left": 1, "right": 2}


@pytest.mark.parametrize("argument", ["overrides", "skip"])
def test_a_name_that_is_none_is_refused_with_the_near_one(bench, argument):
    sequence = diamond(bench, seq_id="etl")
    with pytest.raises(ValidationError, match="'etl' has no step and no block 'dd'"):
        run_sequence(sequence, **{argument: {"dd": 1}})


def test_what_is_left_out_is_skipped_and_its_dependants_follow_their_rules(bench):
    bench.step("a", lambda: 1)
    bench.step("b", lambda: 2, "a")
    bench.step("c", lambda: 3, "b")
    bench.step("always", lambda: 4, "c", run_when="all_done")
    run = run_sequence(bench.sequence(), skip=["b"])
    run.assert_completed().assert_outcomes(a="COMPLETED", b="SKIPPED", c="SKIPPED", always="COMPLETED")
    assert run.steps["b"].reason == "left_out_by_test" and run.steps["c"].reason == "upstream_skipped"
    assert run.output == {"a": 1, "always": 4}


def test_a_step_that_two_skipped_ones_set_free_is_started_once(bench):
    """It was queued once by its dependency and once for itself; the second time found it waiting for its retry."""
    calls = []

    def flaky():
        calls.append(current().attempt)
        raise ValueError

    bench.step("a", lambda: 1)
    bench.step("b", lambda: 2, "a")
    bench.step("late", flaky, "b", run_when="all_done", retries=1, retry_delay=60)
    run = run_sequence(bench.sequence(), skip=["a"], raise_on_fail=False)
    assert calls == [1, 2] and run.result.duration == pytest.approx(60, abs=1)


def test_a_failed_run_raises_with_the_blocks_own_exception_unless_told_not_to(bench):
    def broken():
        raise KeyError("gone")

    bench.step("broken", broken)
    sequence = bench.sequence()
    with pytest.raises(RunFailed) as caught:
        run_sequence(sequence)
    assert isinstance(caught.value.__cause__, KeyError)
    run = run_sequence(sequence, raise_on_fail=False).assert_failed("broken")
    assert run.status is RunStatus.FAILED


def test_the_log_of_each_step_is_at_hand(bench):
    bench.step("one", lambda: log.warning("of one"))
    bench.step("two", lambda: log.info("of two"))
    run = run_sequence(bench.sequence())
    assert [line.message for line in run.logs("two")] == ["of two"]
    assert [line.message for line in run.logs()] == ["of one", "of two"]


def test_the_same_seed_gives_the_same_order_and_other_seeds_others(bench):
    for name in "abcdefgh":
        bench.step(name, lambda: None)
    sequence = bench.sequence()
    orders = [run_sequence(sequence, seed=seed).order for seed in (1, 1, 2, 3)]
    assert orders[0] == orders[1] and len(set(orders)) == 3
    assert run_sequence(sequence, order="hgfedcba").order == tuple("hgfedcba")
    assert run_sequence(sequence, order=["h"]).order == tuple("habcdefg")


@pytest.mark.parametrize(
    ("edges", "orders"),
    [
        (["a", "b", "c"], 6),
        (["a", "b:a", "c:b"], 1),
        (["a", "b:a", "c:a", "d:b,c"], 2),
        (["a", "b", "c:a", "d:b"], math.comb(4, 2)),
        (["a", "b:a", "c:a", "d:a", "e:b,c,d"], 6),
    ],
)
def test_every_topological_order_is_played_once(bench, edges, orders):
    for edge in edges:
        name, _, sources = edge.partition(":")
        bench.step(name, lambda: None, *(sources.split(",") if sources else []))
    sequence = bench.sequence()
    played = [run.order for run in run_every_order(sequence)]
    assert len(played) == len(set(played)) == orders
    waits_for = {step.step_name: set(step.dependencies) for step in sequence.definition.steps}
    for order in played:
        assert all(waits_for[name] <= set(order[:place]) for place, name in enumerate(order))


def test_in_every_order_a_failure_leaves_the_same_steps_undone(bench):
    def faults():
        made = Faults()
        made.fail("b")
        return made

    ends = {
        tuple((name, step.status.value) for name, step in run.steps.items())
        for run in run_every_order(diamond(bench), faults=faults, raise_on_fail=False)
    }
    assert ends == {(("a", "COMPLETED"), ("b", "FAILED"), ("c", "COMPLETED"), ("d", "SKIPPED"))}


def test_more_orders_than_the_limit_are_refused_with_advice(bench):
    for name in "abcdef":
        bench.step(name, lambda: None)
    with pytest.raises(Exception, match="more than 10 orders; give a higher limit=, or a seed"):
        list(run_every_order(bench.sequence(), limit=10))


def test_messages_show_what_was_expected_the_tree_the_arguments_and_the_log(bench):
    def clean(rows):
        log.warning("row 2 is odd")
        raise ValueError("no number in row 2")

    bench.step("fetch", lambda: [1, "x"])
    bench.step("clean", clean, "fetch", parameters={"rows": "@fetch"}, retries=1, retry_delay=9)
    bench.step("load", lambda clean: None, "clean")
    run = run_sequence(bench.sequence(seq_id="etl"), raise_on_fail=False)
    with pytest.raises(AssertionError) as caught:
        run.assert_completed()
    told = str(caught.value)
    assert told.startswith("expected the run to be COMPLETED, it is FAILED\n\netl: FAILED")
    assert "  + fetch  COMPLETED\n  x clean  FAILED, 2 attempts  <- fetch\n" in told
    assert "  - load   SKIPPED (upstream_failed)  <- clean" in told
    assert "step 'clean', attempt 2 of 2: ValueError: no number in row 2\n  arguments: rows=[1, 'x']" in told
    assert f"log of step 'clean':\n    WARNING {__name__}: row 2 is odd\n" in told


@pytest.mark.parametrize(
    ("assertion", "told"),
    [
        (lambda run: run.assert_failed(), "expected the run to be FAILED, it is COMPLETED"),
        (lambda run: run.assert_order("b", "a"), "expected the order b -> a, it was a -> b -> c -> d"),
        (lambda run: run.assert_not_ran("a", "d"), "expected steps 'a', 'd' not to have run"),
        (lambda run: run.assert_outcomes(a="FAILED"), "expected step 'a' to be FAILED, it is COMPLETED"),
    ],
)
def test_each_assertion_says_what_it_expected(bench, assertion, told):
    run = run_sequence(diamond(bench))
    with pytest.raises(AssertionError) as caught:
        assertion(run)
    assert str(caught.value).startswith(told + "\n\nseq: COMPLETED")


def test_a_step_that_did_not_run_is_told_by_assert_ran(bench):
    run = run_sequence(diamond(bench), skip=["b"])
    with pytest.raises(AssertionError, match="expected steps 'b', 'd' to have run"):
        run.assert_ran("a", "b", "c", "d")
