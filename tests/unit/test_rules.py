"""The whole truth table of ``run_when``, and when a failed attempt is followed by another (DESIGN §3, R31, R33)."""

from __future__ import annotations

import math
from itertools import combinations_with_replacement, permutations

import pytest

from blaze import Abort, Retry, StepTimeout, ValidationError
from blaze.core.do.retrying import draw_spread, retry_delay
from blaze.core.do.rules import MIXTURES, STARTS_WITH, mixture_of, skip_reason, starts
from blaze.core.ground.errors import BlockCrashed, Fault, ReferenceFailed, StepCancelled
from blaze.core.ground.status import BlockStatus
from blaze.core.what.declarations import RUN_WHEN
from blaze.core.what.options import MAX_SECONDS
from blaze.core.what.plan import RetryPolicy

COMPLETED, FAILED, SKIPPED, CANCELLED = (
    BlockStatus.COMPLETED, BlockStatus.FAILED, BlockStatus.SKIPPED, BlockStatus.CANCELLED,
)  # fmt: skip

#: Every multiset of none to three ends.
ENDS = [
    ends for size in range(4) for ends in combinations_with_replacement((COMPLETED, FAILED, SKIPPED, CANCELLED), size)
]


def told(ends):
    return "+".join(str(end) for end in ends) or "no dependencies"


def may_start(run_when, ends):
    """DESIGN §3, said in its own words and not in mixtures."""
    if not ends:
        return True
    if run_when == "all_success":
        return all(end is COMPLETED for end in ends)
    if run_when == "any_success":
        return any(end is COMPLETED for end in ends)
    if run_when == "any_failed":
        return any(end is FAILED for end in ends)
    assert run_when == "all_done"
    return True


# ---------------------------------------------------------------------- starting


@pytest.mark.parametrize("ends", ENDS, ids=told)
@pytest.mark.parametrize("run_when", RUN_WHEN)
def test_a_step_starts_exactly_when_its_run_when_is_satisfied(run_when, ends):
    assert starts(run_when, mixture_of(ends)) is may_start(run_when, ends)


@pytest.mark.parametrize("ends", ENDS, ids=told)
def test_neither_the_order_nor_the_number_of_equal_ends_matters(ends):
    assert {mixture_of(order) for order in permutations(ends)} == {mixture_of(ends * 7)} == {mixture_of(iter(ends))}


def test_every_run_when_of_the_declarations_has_its_row_and_no_row_is_without_one():
    assert set(STARTS_WITH) == set(RUN_WHEN)
    assert all(mixtures <= set(MIXTURES) for mixtures in STARTS_WITH.values())


@pytest.mark.parametrize("status", [status for status in BlockStatus if not status.ended], ids=str)
def test_a_dependency_that_has_not_ended_is_no_mixture(status):
    with pytest.raises(KeyError):
        mixture_of([COMPLETED, status])


@pytest.mark.parametrize("ends", ENDS[1:], ids=told)
@pytest.mark.parametrize("below_a_failure", [False, True])
def test_a_skipped_step_names_its_cause(ends, below_a_failure):
    """R31: a step below a failed one says so, though those between were only skipped."""
    skipped = "upstream_failed" if below_a_failure else "upstream_skipped"
    reason = skip_reason(mixture_of(ends), [skipped if end is SKIPPED else None for end in ends])
    if FAILED in ends or (SKIPPED in ends and below_a_failure):
        assert reason == "upstream_failed"
    elif all(end is COMPLETED for end in ends):
        assert reason == "nothing_failed"
    else:
        assert reason == "upstream_skipped"


# ---------------------------------------------------------------------- retrying


def policy(retries=5, delay=10.0, **more):
    return RetryPolicy(retries, delay, **more)


@pytest.mark.parametrize("retries", [0, 1, 2, 7])
def test_there_are_as_many_retries_as_were_asked_for_and_no_delay_after_the_last(retries):
    delays = [retry_delay(policy(retries), attempt, ValueError()) for attempt in range(1, retries + 3)]
    assert delays == [10.0] * retries + [None, None]


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        (1.0, [10, 10, 10, 10]),
        (2.0, [10, 20, 40, 80]),
        (1.5, [10, 15, 22.5, 33.75]),
        (0.5, [10, 5, 2.5, 1.25]),
        (0.0, [10, 0, 0, 0]),
        (3, [10, 30, 90, 270]),
    ],
)
def test_each_delay_is_backoff_times_the_one_before(backoff, delays):
    found = [retry_delay(policy(backoff=backoff), attempt, ValueError()) for attempt in range(1, 5)]
    assert found == pytest.approx(delays)


def test_no_delay_is_longer_than_the_longest_that_was_allowed():
    found = [retry_delay(policy(backoff=2.0, max_delay=35.0), attempt, ValueError()) for attempt in range(1, 6)]
    assert found == [10, 20, 35, 35, 35]
    assert retry_delay(policy(delay=100.0, max_delay=7.0), 1, ValueError()) == 7


@pytest.mark.parametrize("spread", [-1.0, -0.5, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("jitter", [0.0, 0.2, 1.0])
def test_jitter_spreads_a_delay_on_both_sides_of_it(jitter, spread):
    assert retry_delay(policy(jitter=jitter), 1, ValueError(), spread) == pytest.approx(10 * (1 + jitter * spread))


def test_jitter_is_drawn_evenly_on_both_sides_and_no_further():
    drawn = sorted(draw_spread() for _ in range(2000))
    assert -1.0 <= drawn[0] < -0.9 and 0.9 < drawn[-1] <= 1.0
    assert -0.2 < drawn[1000] < 0.2


def test_a_delay_that_was_not_spread_is_the_one_that_was_asked_for():
    assert retry_delay(policy(jitter=0.5), 1, ValueError()) == 10


@pytest.mark.parametrize("spread", [-1.0, 0.0, 1.0])
def test_a_spread_delay_is_never_negative_and_never_beyond_the_longest(spread):
    delay = retry_delay(policy(jitter=1.0, max_delay=10.0), 1, ValueError(), spread)
    assert 0 <= delay <= 10


@pytest.mark.parametrize("backoff", [2.0, 2, 1e9, 1000])
@pytest.mark.parametrize("attempt", [1_100, 100_000])
def test_a_delay_that_grew_beyond_all_numbers_is_the_longest_allowed(backoff, attempt):
    delay = retry_delay(policy(1_000_000, backoff=backoff, max_delay=60.0), attempt, ValueError())
    assert delay == 60


@pytest.mark.parametrize("attempt", [2, 1_100, 900_000])
def test_no_delay_stays_no_delay_however_much_it_is_multiplied(attempt):
    assert retry_delay(policy(1_000_000, delay=0.0, backoff=2.0), attempt, ValueError()) == 0


@pytest.mark.parametrize("attempt", [1, 50, 1_100, 999_999])
@pytest.mark.parametrize("backoff", [0.0, 0.5, 1.0, 1.1, 2.0, 1e200])
def test_every_delay_is_finite_and_within_its_bounds(attempt, backoff):
    for spread in (-1.0, 0.3, 1.0):
        delay = retry_delay(policy(1_000_000, backoff=backoff, jitter=1.0), attempt, ValueError(), spread)
        assert math.isfinite(delay) and 0 <= delay <= 3600


# ---------------------------------------------------------------------- what the block says


@pytest.mark.parametrize("delay", [0, 0.25, 90, 7200.0])
def test_a_block_that_asks_for_a_retry_chooses_the_delay(delay):
    chosen = policy(backoff=3.0, max_delay=20.0, jitter=1.0)
    assert retry_delay(chosen, 2, Retry(delay=delay), 0.7) == delay


def test_a_block_that_asks_for_a_retry_without_a_delay_gets_that_of_the_step():
    assert retry_delay(policy(backoff=2.0), 2, Retry("not yet")) == 20


def test_a_retry_that_was_asked_for_needs_no_retry_on_but_counts_as_any_other():
    picky = policy(1, on=(KeyError,))
    assert retry_delay(picky, 1, Retry()) == 10
    assert retry_delay(picky, 2, Retry(delay=0)) is None
    assert retry_delay(policy(0), 1, Retry(delay=0)) is None


@pytest.mark.parametrize(("delay", "found"), [(-5, 0), (1e30, MAX_SECONDS), (math.inf, MAX_SECONDS)])
def test_a_delay_beyond_all_sense_is_brought_to_its_bound(delay, found):
    assert retry_delay(policy(), 1, Retry(delay=delay)) == found


def test_a_subclass_of_retry_is_one():
    class Later(Retry):
        pass

    assert retry_delay(policy(on=()), 1, Later(delay=3)) == 3


@pytest.mark.parametrize(
    "error",
    [Abort("no"), ReferenceFailed("@a.b"), ValidationError([Fault("a", "b")])],
    ids=lambda error: type(error).__name__,
)
def test_what_another_attempt_would_meet_again_is_not_retried(error):
    assert retry_delay(policy(on=(BaseException,)), 1, error) is None


@pytest.mark.parametrize("error", [ValueError(), RecursionError(), MemoryError(), StepTimeout(), BlockCrashed()])
def test_every_exception_is_retried_by_default(error):
    assert retry_delay(policy(), 1, error) == 10


@pytest.mark.parametrize("error", [SystemExit(), KeyboardInterrupt(), GeneratorExit(), StepCancelled()])
def test_what_is_no_exception_is_retried_only_if_retry_on_says_so(error):
    assert retry_delay(policy(), 1, error) is None
    assert retry_delay(policy(on=(BaseException,)), 1, error) == 10


def test_retry_on_goes_by_the_classes_it_names_and_their_subclasses():
    lookups = policy(on=(LookupError, OSError))
    assert retry_delay(lookups, 1, KeyError()) == 10
    assert retry_delay(lookups, 1, ConnectionError()) == 10
    assert retry_delay(lookups, 1, ValueError()) is None
    assert retry_delay(policy(on=()), 1, ValueError()) is None
