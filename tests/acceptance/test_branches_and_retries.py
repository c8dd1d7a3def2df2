"""Branch, join and clean-up in everything that may happen to them, and what retries are counted."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from blaze import BlazeBlock, BlazeSequence, RunStatus, SeqBlockData, Sequence, current

# ---------------------------------------------------------------------- the truth table

#: extract, then left and right, then join; an alarm if left or right failed; the clean-up in any case.
STEPS = ("extract", "left", "right", "join", "alarm", "cleanup")
STATUS = {"C": "COMPLETED", "F": "FAILED", "S": "SKIPPED", "x": "CANCELLED"}

#: How each step ends, in the order of ``STEPS``, by the step that fails and whether that stops the rest.
TABLE = {
    (None, False): "CCCCSC", (None, True): "CCCCSC",
    ("extract", False): "FSSSSC", ("extract", True): "Fxxxxx",
    ("left", False): "CFCSCC", ("left", True): "CFxxxx",
    ("right", False): "CCFSCC", ("right", True): "CCFxxx",
    ("join", False): "CCCFSC", ("join", True): "CCCFSx",
    ("cleanup", False): "CCCCSF", ("cleanup", True): "CCCCSF",
}  # fmt: skip

#: The same when the run is stopped while that step runs: by its own limit or by the user.
STOPPED = {
    "extract": "?xxxxx", "left": "C?xxxx", "right": "CC?xxx", "join": "CCC?Sx", "cleanup": "CCCCS?",
}  # fmt: skip


def branches(sequences: BlazeSequence, fail_stop: bool, timeout: Any = None) -> Sequence[Any, Any]:
    """The sequence, with a limit of an hour for the run and perhaps one for each step."""
    blocks = BlazeBlock()
    for name in STEPS:
        blocks.block(name=name, timeout=timeout)(lambda: current().step)

    @sequences.sequence(
        blocks=blocks,
        sequence=[
            SeqBlockData("extract"),
            SeqBlockData("left", ["extract"]),
            SeqBlockData("right", ["extract"]),
            SeqBlockData("join", ["left", "right"]),
            SeqBlockData("alarm", ["left", "right"], run_when="any_failed"),
            SeqBlockData("cleanup", ["join", "alarm"], run_when="all_done"),
        ],
        seq_id="branches",
        fail_stop=fail_stop,
    )
    def finaliser(context: Dict[str, Any]) -> Any:
        return sorted(context)

    return finaliser


def statuses(marks: str) -> Dict[str, str]:
    return {name: STATUS[mark] for name, mark in zip(STEPS, marks)}


def check(run: Any, failing: Any, marks: str) -> None:
    run.assert_outcomes(**statuses(marks))
    run.assert_status(RunStatus.COMPLETED if failing is None else RunStatus.FAILED)
    run.assert_ran(*(name for name, mark in zip(STEPS, marks) if mark in "CF"))
    run.assert_not_ran(*(name for name, mark in zip(STEPS, marks) if mark in "Sx"))


@pytest.mark.parametrize(("failing", "fail_stop"), list(TABLE))
def test_a_step_that_raises(run_sequence: Any, blaze_faults: Any, failing: Any, fail_stop: bool) -> None:
    if failing is not None:
        blaze_faults.fail(failing)
    run = run_sequence(branches(BlazeSequence(), fail_stop), raise_on_fail=False)
    check(run, failing, TABLE[failing, fail_stop])
    if failing is None:
        assert run.output == ["cleanup", "extract", "join", "left", "right"]


@pytest.mark.parametrize(("failing", "fail_stop"), [case for case in TABLE if case[0] is not None])
def test_a_step_past_its_own_limit(run_sequence: Any, blaze_faults: Any, failing: str, fail_stop: bool) -> None:
    blaze_faults.hang(failing)
    run = run_sequence(branches(BlazeSequence(), fail_stop, timeout=600), raise_on_fail=False)
    check(run, failing, TABLE[failing, fail_stop])
    assert run.steps[failing].reason == "timeout"
    assert run.result.duration == pytest.approx(600, abs=1)


@pytest.mark.parametrize("fail_stop", [False, True])
@pytest.mark.parametrize("hanging", list(STOPPED))
def test_a_run_past_its_limit(run_sequence: Any, blaze_faults: Any, hanging: str, fail_stop: bool) -> None:
    blaze_faults.hang(hanging)
    run = run_sequence(branches(BlazeSequence(), fail_stop), raise_on_fail=False)
    check(run, hanging, STOPPED[hanging].replace("?", "F"))
    assert run.reason == "timeout"
    assert run.result.duration == pytest.approx(3600, abs=1)


@pytest.mark.parametrize("fail_stop", [False, True])
@pytest.mark.parametrize("running", list(STOPPED))
def test_a_run_that_is_cancelled(blaze_scheduler: Any, running: str, fail_stop: bool) -> None:
    sequences = BlazeSequence()
    branches(sequences, fail_stop)

    def cancel() -> None:
        scheduler.cancel(current().run_id)
        current().check_cancelled()

    scheduler = blaze_scheduler(sequences, max_workers=1, overrides={running: cancel})
    run = scheduler.inspect(scheduler.run("branches").run_id)
    run.assert_status(RunStatus.CANCELLED).assert_outcomes(**statuses(STOPPED[running].replace("?", "x")))
    assert run.reason == "cancelled_by_user"


# ---------------------------------------------------------------------- retry accounting


def retrying(sequences: BlazeSequence) -> Sequence[Any, Any]:
    """Three steps in a row that may be tried again 5, 2 and 3 times."""
    blocks = BlazeBlock()
    blocks.block(name="five", retries=5, retry_delay=10)(lambda: 5)
    blocks.block(name="two", retries=2, retry_delay=60, retry_backoff=2)(lambda: 2)
    blocks.block(name="three", retry_delay=1)(lambda: 3)

    @sequences.sequence(
        blocks=blocks,
        sequence=[SeqBlockData("five"), SeqBlockData("two", ["five"]), SeqBlockData("three", ["two"], retries=3)],
        seq_id="limits",
    )
    def finaliser(context: Dict[str, Any]) -> Any:
        return sum(context.values())

    return finaliser


def test_limits_of_five_two_and_three_are_used_up_to_the_last(run_sequence: Any, blaze_faults: Any) -> None:
    for name, times in (("five", 5), ("two", 2), ("three", 3)):
        blaze_faults.fail(name, times=times)
    run = run_sequence(retrying(BlazeSequence())).assert_order("five", "two", "three")
    assert [run.attempts(name) for name in ("five", "two", "three")] == [6, 3, 4]
    assert run.output == 10
    assert run.result.duration == pytest.approx(5 * 10 + (60 + 120) + 3 * 1, abs=0.5)


@pytest.mark.parametrize(
    ("name", "limit", "attempts"), [("five", 5, [6, 0, 0]), ("two", 2, [1, 3, 0]), ("three", 3, [1, 1, 4])]
)
def test_one_failure_more_than_the_limit_fails_the_run(
    blaze_scheduler: Any, blaze_faults: Any, name: str, limit: int, attempts: Any
) -> None:
    sequences = BlazeSequence()
    retrying(sequences)
    blaze_faults.fail(name, times=limit + 1, exc=OSError("still down"))
    scheduler = blaze_scheduler(sequences)
    scheduler.run("limits")
    run = scheduler.inspect().assert_failed(name)
    assert [run.attempts(step) for step in ("five", "two", "three")] == attempts
    recorded = scheduler.state.attempts(run.story.run_id)
    assert [(one.step, one.attempt) for one in recorded] == [(name, number + 1) for number in range(limit + 1)]
    assert {one.error for one in recorded} == {"OSError: still down"}
