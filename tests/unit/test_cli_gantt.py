"""The timeline of a run: waiting, running, failed attempts and waits for a retry apart."""

from __future__ import annotations

import io

from blaze import BlockStatus, RunStatus
from blaze.cli.console import Console
from blaze.cli.gantt import FAILS, RETRIES, RUNS, WAITS, draw, spans_of
from blaze.core.remember.records import AttemptRecord, RunRecord, StepRecord

RUN = RunRecord(
    key=1, run_id="a1", seq_id="etl", job_id=None, status=RunStatus.COMPLETED, reason=None, scheduled=None,
    created=100.0, started=100.0, ended=110.0, seconds=10.0, deadline=None, owner=None, recoveries=0, retry_of=None,
    cancel=None, steps=3, preview=None, error=None,
)  # fmt: skip
FETCH = StepRecord("fetch", "fetch", (), BlockStatus.COMPLETED, attempts=1, started=100.0, seconds=2.0)
CLEAN = StepRecord("clean", "clean", ("fetch",), BlockStatus.COMPLETED, attempts=2, started=107.0, seconds=3.0)
LOAD = StepRecord("load", "load", ("clean",))
FAILED = AttemptRecord("clean", 1, 103.0, 1.0, None, "ValueError: x", None, None)


def test_the_life_of_a_step_falls_into_waiting_failing_and_running() -> None:
    spans = spans_of(RUN, [FETCH, CLEAN, LOAD], [FAILED], now=110.0)
    assert [tuple(span) for span in spans["fetch"]] == [(RUNS, 100.0, 102.0)]
    assert [tuple(span) for span in spans["clean"]] == [
        (WAITS, 102.0, 103.0),
        (FAILS, 103.0, 104.0),
        (RETRIES, 104.0, 107.0),
        (RUNS, 107.0, 110.0),
    ]
    assert spans["load"] == []


def test_a_step_that_failed_for_good_shows_its_attempts_and_no_run() -> None:
    step = CLEAN._replace(status=BlockStatus.FAILED, attempts=1, started=103.0, seconds=1.0)
    assert [span.kind for span in spans_of(RUN, [FETCH, step], [FAILED], now=110.0)["clean"]] == [WAITS, FAILS]


def test_a_step_that_waits_for_its_retry_waits_until_now() -> None:
    step = CLEAN._replace(status=BlockStatus.RETRYING, attempts=1, started=103.0, seconds=1.0, retry=120.0)
    assert spans_of(RUN, [FETCH, step], [FAILED], now=106.0)["clean"][-1] == (RETRIES, 104.0, 106.0)


def test_it_is_drawn_to_scale() -> None:
    lines = draw(RUN, [FETCH, CLEAN, LOAD], [FAILED], 110.0, Console(io.StringIO(), io.StringIO(), environ={}))
    assert lines[1] == "fetch  " + "#" * 12
    assert lines[2] == "clean  " + " " * 12 + "." * 6 + "x" * 6 + "-" * 18 + "#" * 18
    assert lines[3] == ". waiting  - waiting for a retry  x failed attempt  # running"


def test_a_run_of_which_nothing_was_begun_has_no_timeline() -> None:
    assert draw(RUN, [LOAD], [], 110.0, Console(io.StringIO(), io.StringIO(), environ={})) == []
