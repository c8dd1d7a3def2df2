"""History is bounded: what is deleted, what stays, what it costs, and that the file shrinks.

RELIABILITY R47: "Retention bounded by default; 1,000,000 runs: start < 2 s, status < 200 ms; -wal < 16 MB in
steady state." R48: "Ids are data: bound SQL parameters only; never part of a path without encoding".
"""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Set

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blaze.core.ground.errors import StateError, ValidationError
from blaze.core.ground.status import RunStatus
from blaze.core.remember import retention as module
from blaze.core.remember.journal import Journal
from blaze.core.remember.retention import DAY, Retention, prune, sweep_results
from blaze.core.remember.schema import PLACE_BITS
from blaze.core.state import StateManager
from tests.integration.recorded_history import NEW_YEAR, History, Written
from tests.integration.test_state_queries import fill

COMPLETED, FAILED, SKIPPED, CANCELLED = RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.SKIPPED, RunStatus.CANCELLED
PENDING, RUNNING = RunStatus.PENDING, RunStatus.RUNNING
FOREVER = Retention(runs=None, days=None)
HOUR = 3600.0


def prune_all(history: History, retention: Retention, now: Optional[float] = None, batch: int = 200) -> int:
    """Prune to the end; the number of calls."""
    at = history.at + 60 if now is None else now
    for calls in range(1, 5000):
        if not prune(history.journal, history.recorder.results, retention, at, batch):
            return calls
    raise AssertionError("it never came to an end")


def kept(history: History) -> Set[str]:
    return set(history.column("SELECT run_id FROM runs"))


def ids(*runs: Written) -> Set[str]:
    return {run.run_id for run in runs}


# -------------------------------------------------------------------- the limits


def test_by_default_history_is_bounded_and_failed_runs_stay_three_times_as_long() -> None:
    """R47: "Retention bounded by default"."""
    assert dataclasses.astuple(Retention()) == (10_000, 30, 30_000, 90)
    assert dataclasses.astuple(Retention(runs=5, days=0.5)) == (5, 0.5, 15, 1.5)
    assert dataclasses.astuple(Retention(runs=None, days=7)) == (None, 7, None, 21)
    assert dataclasses.astuple(Retention(runs=5, failed_runs=None, failed_days=30)) == (5, 30, None, 30)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        *(({name: value}, name) for name in ("runs", "failed_runs") for value in (0, -1, 1.5, True, "5", [])),
        *(({name: value}, name) for name in ("days", "failed_days") for value in (0, -1, float("nan"), True, "5")),
        ({"days": float("inf")}, "days"),
        ({"runs": 10, "failed_runs": 9}, "failed_runs"),
        ({"days": 10, "failed_days": 9.5}, "failed_days"),
        ({"runs": None, "failed_runs": 9}, "failed_runs"),
    ],
)
def test_limits_that_make_no_sense_are_refused(values: Dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Retention(**values)
    assert [fault.where for fault in caught.value.errors] == [where]


def test_all_faults_of_a_retention_are_told_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        Retention(runs=0, days=-1, failed_runs="x", failed_days=0)  # type: ignore[arg-type]
    assert [fault.where for fault in caught.value.errors] == ["runs", "days", "failed_runs", "failed_days"]


def test_a_retention_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Retention().runs = 5  # type: ignore[misc]


# -------------------------------------------------------------------- what goes and what stays


def test_of_each_sequence_the_newest_runs_stay(memory: History) -> None:
    etl = [memory.run("etl", status) for status in (COMPLETED, CANCELLED, SKIPPED, COMPLETED, COMPLETED)]
    other = [memory.run("other") for _ in range(2)]
    prune_all(memory, Retention(runs=3, days=None))
    assert kept(memory) == ids(*etl[2:], *other)


def test_failed_runs_stay_until_there_are_too_many_newer_ones(memory: History) -> None:
    old_failed = memory.run(status=FAILED)
    failed = memory.run(status=FAILED)
    memory.run()
    newest = [memory.run() for _ in range(2)]
    prune_all(memory, Retention(runs=2, days=None, failed_runs=4))
    assert kept(memory) == ids(failed, *newest), "the oldest failed one is not among the newest four"
    assert old_failed.run_id not in kept(memory)


def test_runs_that_ended_too_long_ago_go_and_failed_ones_stay_longer(memory: History) -> None:
    now = NEW_YEAR + 200 * DAY
    very_old = memory.run(status=FAILED, at=now - 91 * DAY)
    old = [memory.run(status=status, at=now - 31 * DAY) for status in (COMPLETED, FAILED, CANCELLED, SKIPPED)]
    # The time of a tick that was skipped is when it was skipped: by the clock of the machine.
    memory.journal.transaction(lambda cursor: cursor.execute("UPDATE runs SET ended_at = created_at"))
    recent = [memory.run(status=status, at=now - 29 * DAY) for status in (COMPLETED, FAILED)]
    prune_all(memory, Retention(), now)
    assert kept(memory) == ids(old[1], *recent)
    assert very_old.run_id not in kept(memory)


def test_a_long_run_is_as_old_as_its_end(memory: History) -> None:
    now = NEW_YEAR + 200 * DAY
    long = memory.run(at=now - 40 * DAY, seconds=20 * DAY)
    memory.run(at=now - 39 * DAY)
    newest = memory.run(at=now)
    prune_all(memory, Retention(), now)
    assert kept(memory) == ids(long, newest)


def test_open_runs_are_never_deleted(memory: History) -> None:
    still_open = [memory.run(status=status, at=NEW_YEAR) for status in (PENDING, RUNNING)]
    for run in still_open:
        memory.completed(run, 0, "fetch", [1])
        memory.failed(run, 1)
        memory.log(run, "line")
    memory.run(at=NEW_YEAR)
    newest = memory.run(at=NEW_YEAR + 1000 * DAY)
    prune_all(memory, Retention(runs=1, days=1))
    assert kept(memory) == ids(*still_open, newest)
    for table, rows in (("steps", 4), ("attempts", 2), ("logs", 2)):
        assert len(memory.column(f"SELECT 1 FROM {table}")) == rows


def test_a_run_stays_while_a_run_that_was_retried_from_it_is_open(memory: History) -> None:
    original, unrelated = memory.run(status=FAILED), memory.run(status=FAILED)
    retry = memory.run(status=RUNNING, retry_of=original.run_id)
    newest = memory.run()
    prune_all(memory, Retention(runs=1, days=None, failed_runs=1))
    assert kept(memory) == ids(original, retry, newest)
    assert unrelated.run_id not in kept(memory)
    memory.end(retry)
    prune_all(memory, Retention(runs=1, days=None, failed_runs=1), memory.at + 2 * HOUR)
    assert kept(memory) == ids(newest)


def test_a_retry_that_begins_between_looking_and_deleting_keeps_its_original(
    memory: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = memory.run(status=FAILED)
    memory.run()
    transaction = memory.journal.transaction

    def and_someone_was_first(work: Any) -> Any:
        monkeypatch.setattr(memory.journal, "transaction", transaction)
        memory.run(status=PENDING, retry_of=original.run_id)
        return transaction(work)

    monkeypatch.setattr(memory.journal, "transaction", and_someone_was_first)
    prune_all(memory, Retention(runs=1, days=None, failed_runs=1))
    assert original.run_id in kept(memory)


def test_when_a_sequence_ran_last_is_known_for_a_year(memory: History) -> None:
    yearly = [memory.run("yearly", at=NEW_YEAR + hour) for hour in (0, 1)]
    memory.run("long-gone", at=NEW_YEAR - 80 * DAY)
    now = NEW_YEAR + 300 * DAY
    newest = memory.run("busy", at=now)
    prune_all(memory, Retention(), now)
    assert kept(memory) == ids(yearly[1], newest)


def test_no_key_is_ever_used_twice(memory: History) -> None:
    """R38: "zero mixing": a line that is written late about a deleted run must not turn up in a new one."""
    gone = memory.run("etl", at=NEW_YEAR)
    logged = memory.run("etl", at=NEW_YEAR + 1)
    memory.log(logged, "the newest line", 0)
    last = memory.run("etl", at=NEW_YEAR + 2)
    highest = memory.column("SELECT MAX(id) FROM logs")
    prune_all(memory, Retention(runs=1, days=1, failed_days=1), NEW_YEAR + 9999 * DAY)
    assert kept(memory) == ids(logged, last)
    memory.log(gone, "late")
    new = memory.run("etl", at=NEW_YEAR + 9999 * DAY)
    assert new.key > last.key and memory.column("SELECT MAX(id) FROM logs") > highest
    assert StateManager.of_journal(memory.journal).logs(run_id=new.run_id).items == []


def test_all_that_belongs_to_a_run_goes_with_it(history: History) -> None:
    def lived_through(run: Written) -> None:
        history.completed(run, 0, "fetch", b"x" * 100_000)
        history.completed(run, 1, "clean", [1])
        history.failed(run, 2, attempts=3)
        history.log(run, "line", 0)

    old, new = history.run(status=RUNNING), history.run(status=RUNNING)
    for run in (old, new):
        lived_through(run)
        history.end(run, output=b"y" * 100_000)
    assert history.state_dir is not None
    results = history.state_dir / "results"
    assert {path.name for path in (results / old.run_id).iterdir()} == {"fetch.pickle", "@output.pickle"}
    prune_all(history, Retention(runs=1, days=None))
    assert kept(history) == ids(new)
    for run, table, rows in ((f"id >> {PLACE_BITS}", "steps", 3), ("run", "attempts", 3), ("run", "logs", 1)):
        assert history.column(f"SELECT {run} FROM {table}") == [new.key] * rows
    assert [path.name for path in results.iterdir()] == [new.run_id]


def test_definitions_that_no_run_has_any_more_go_and_may_come_back(memory: History) -> None:
    first, second = ((("a", "b", ()),), (("a", "b", ()), ("c", "d", ("a",))))
    memory.run("gone", graph=first, at=NEW_YEAR - 400 * DAY)
    memory.run("etl", graph=first, at=NEW_YEAR)
    memory.run("etl", graph=first)
    memory.run("other", graph=first)
    last = memory.run("etl", graph=second)
    prune_all(memory, Retention(runs=1, days=30))
    assert memory.column("SELECT seq_id FROM definitions ORDER BY id") == ["other", "etl"]
    again = memory.run("etl", graph=first)
    state = StateManager.of_journal(memory.journal)
    assert [step.name for step in state.steps(again.run_id)] == ["a"]
    assert [step.name for step in state.steps(last.run_id)] == ["a", "c"]
    assert state.integrity() == []


def test_times_in_the_future_neither_go_nor_hide_what_is_too_old(memory: History) -> None:
    """A clock that was wrong for a while leaves runs that seem to be of another year."""
    now = NEW_YEAR + 100 * DAY
    future = memory.run(at=now + 5000 * DAY)
    memory.run(at=now - 50 * DAY)
    newest = memory.run(at=now)
    prune_all(memory, Retention(), now)
    assert kept(memory) == ids(future, newest)


def test_without_limits_everything_stays(memory: History) -> None:
    runs = [memory.run(at=NEW_YEAR - 10_000 * DAY * number) for number in range(5)]
    prune_all(memory, FOREVER, NEW_YEAR + 10_000 * DAY)
    assert kept(memory) == ids(*runs)


def expected_to_stay(runs: List[Any], retention: Retention, now: float) -> Set[int]:
    """The same rules, told slowly: keys of ``(key, sequence, status, ended, retry_of)`` that stay."""
    open_retries = {retry for _, _, status, _, retry in runs if not status.ended and retry is not None}
    stay = set()
    for key, name, status, ended, _ in runs:
        newer = sum(1 for other in runs if other[1] == name and other[0] > key)
        number = retention.failed_runs if status is FAILED else retention.runs
        days = retention.failed_days if status is FAILED else retention.days
        if newer == 0 and days is not None:
            days = max(days, 366.0)
        too_many = number is not None and newer >= number
        too_old = days is not None and ended < now - days * DAY
        last = key == max(run[0] for run in runs)
        if not status.ended or key in open_retries or last or not (too_many or too_old):
            stay.add(key)
    return stay


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    runs=st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.sampled_from([COMPLETED, COMPLETED, FAILED, FAILED, CANCELLED, RUNNING]),
            st.integers(0, 12),
            st.none() | st.integers(0, 10),
        ),
        max_size=40,
    ),
    limits=st.tuples(st.none() | st.integers(1, 8), st.none() | st.integers(1, 500)),
    more=st.tuples(st.integers(0, 9), st.integers(0, 500)),
    batch=st.integers(1, 9),
    slice_of=st.sampled_from([1, 2, 500]),
)
def test_what_stays_is_what_the_rules_say(runs: List[Any], limits: Any, more: Any, batch: int, slice_of: int) -> None:
    count, days = limits
    retention = Retention(
        count, days, None if count is None else count + more[0], None if days is None else days + more[1]
    )
    with History(None) as history, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FIRST", slice_of)
        patch.setattr(module, "_BOUND", slice_of)
        patch.setattr(module, "ROWS_PER_TRANSACTION", slice_of)
        patch.setattr(module, "SEQUENCES_PER_CALL", 1)
        written: List[Any] = []
        for number, (name, status, month, retried) in enumerate(runs):
            at = NEW_YEAR + sum(run[2] for run in runs[:number]) * 30 * DAY
            original = written[retried] if retried is not None and retried < len(written) else None
            seconds = month * DAY
            run = history.run(name, status, at, graph=(), seconds=seconds, retry_of=original and original[5])
            written.append((run.key, name, status, at + 0.5 + seconds, original and original[0], run.run_id))
        now = history.at + 13 * DAY
        expected = expected_to_stay([run[:5] for run in written], retention, now)
        prune_all(history, retention, now, batch)
        assert set(history.column("SELECT id FROM runs")) == expected


# -------------------------------------------------------------------- a few at a time


def test_a_call_deletes_at_most_a_batch_and_says_whether_there_is_more(memory: History) -> None:
    for _ in range(25):
        memory.run(graph=())
    left = []
    while prune(memory.journal, None, Retention(runs=5, days=None), memory.at, batch=8):
        left.append(len(kept(memory)))
    assert left == [17, 9, 5]


def test_a_hundred_small_runs_go_in_a_handful_of_statements(memory: History) -> None:
    """Each statement lets go of the interpreter: a stream of short runs must not outrun their deletion."""
    for _ in range(101):
        memory.run(graph=())
    told: List[str] = []
    memory.journal._connection.set_trace_callback(told.append)
    while prune(memory.journal, None, Retention(runs=1, days=None), memory.at):
        pass
    memory.journal._connection.set_trace_callback(None)
    assert len(kept(memory)) == 1
    assert len([sql for sql in told if sql.lstrip().startswith("DELETE")]) <= 12


def test_a_run_with_very_many_rows_goes_in_several_transactions_its_own_row_last(
    memory: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS_PER_TRANSACTION", 10)
    big = memory.run(status=RUNNING)
    for index in range(25):
        memory.completed(big, index, f"s{index}")
        memory.failed(big, 100 + index)
        memory.log(big, "line", index)
    memory.end(big)
    last = memory.run()
    memory.log(last, "newest")
    tables = (("logs", "run"), ("attempts", "run"), ("steps", f"id >> {PLACE_BITS}"))

    def left() -> List[int]:
        return [len(memory.column(f"SELECT 1 FROM {table} WHERE {run} = ?", big.key)) for table, run in tables]

    before = left()
    calls = 0
    while prune(memory.journal, None, Retention(runs=1, days=None), memory.at):
        calls += 1
        now = left()
        assert sum(before) - sum(now) <= 11, "one transaction deleted more than it may"
        assert (big.run_id in kept(memory)) or sum(now) == 0
        before = now
    assert kept(memory) == ids(last) and sum(before) == 0 and calls > 9


def test_a_write_that_fails_loses_nothing_and_the_next_call_goes_on(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(10):
        history.run(graph=())
    transaction = history.journal.transaction

    def full(work: Any) -> Any:
        raise StateError("the state can't be written: database or disk is full")

    monkeypatch.setattr(history.journal, "transaction", full)
    with pytest.raises(StateError, match="full"):
        prune_all(history, Retention(runs=2, days=None))
    assert len(kept(history)) == 10
    monkeypatch.setattr(history.journal, "transaction", transaction)
    prune_all(history, Retention(runs=2, days=None))
    assert len(kept(history)) == 2


def test_the_files_of_a_run_go_only_after_its_row(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash in between leaves files without a run, which are swept; never a run without its files."""
    old = history.run(status=RUNNING)
    history.completed(old, 0, "fetch", b"x" * 100_000)
    history.end(old)
    history.run()
    assert history.recorder.results is not None
    seen: List[Any] = []
    monkeypatch.setattr(history.recorder.results, "remove", lambda run_id: seen.append((run_id, kept(history))))
    prune_all(history, Retention(runs=1, days=None))
    assert [run_id for run_id, _ in seen] == [old.run_id] and old.run_id not in seen[0][1]


def test_two_processes_may_prune_the_same_file(history: History) -> None:
    assert history.state_dir is not None
    runs = [history.run(graph=()) for _ in range(60)]
    other = Journal(history.state_dir / "blaze.db", "process")
    try:
        more = [True, True]
        while any(more):
            for number, journal in enumerate((history.journal, other)):
                more[number] = prune(journal, history.recorder.results, Retention(runs=5, days=None), history.at, 7)
    finally:
        other.close()
    assert kept(history) == ids(*runs[-5:])
    with StateManager.of_journal(history.journal) as state:
        assert state.integrity() == []


# -------------------------------------------------------------------- what it costs when there is nothing to do


class Watched:
    """Counts what is asked of a journal."""

    def __init__(self, history: History, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads: List[str] = []
        self.transactions = 0
        read, transaction = history.journal.read, history.journal.transaction

        def reading(sql: str, row: Any = ()) -> Any:
            self.reads.append(sql)
            return read(sql, row)

        def writing(work: Callable[[sqlite3.Cursor], Any]) -> Any:
            self.transactions += 1
            return transaction(work)

        monkeypatch.setattr(history.journal, "read", reading)
        monkeypatch.setattr(history.journal, "transaction", writing)


def test_when_nothing_is_due_a_call_is_two_look_ups(memory: History, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(20):
        memory.run(graph=())
    prune_all(memory, Retention(runs=5))
    memory.run()
    watched = Watched(memory, monkeypatch)
    for minute in range(50):
        assert not prune(memory.journal, None, Retention(runs=5), memory.at + 60 * minute)
    assert watched.reads == [module.NEWEST_RUN, "PRAGMA freelist_count"] * 50
    assert watched.transactions == 0


@pytest.mark.parametrize(
    ("runs", "seconds", "due"),
    [(1, 60.0, False), (29, 60.0, False), (30, 60.0, True), (1, HOUR + 1, True), (1, -1000.0, True)],
)
def test_the_next_round_is_due_after_many_runs_or_an_hour_or_when_the_clock_was_set_back(
    memory: History, monkeypatch: pytest.MonkeyPatch, runs: int, seconds: float, due: bool
) -> None:
    monkeypatch.setattr(module, "RUNS_PER_ROUND", 30)
    memory.run()
    now = NEW_YEAR + DAY
    prune_all(memory, Retention(runs=1, days=None), now)
    for _ in range(runs):
        memory.run()
    prune_all(memory, Retention(runs=1, days=None), now + seconds)
    assert (len(kept(memory)) == 1) == due


def test_another_retention_begins_a_round_at_once(memory: History) -> None:
    for _ in range(9):
        memory.run()
    prune_all(memory, Retention(runs=6, days=None))
    assert len(kept(memory)) == 6
    prune_all(memory, Retention(runs=2, days=None))
    assert len(kept(memory)) == 2


def test_a_round_over_many_sequences_is_shared_out_over_many_calls(
    memory: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(100):
        memory.run(f"seq{number:03}", graph=())
    watched = Watched(memory, monkeypatch)
    calls = prune_all(memory, Retention())
    assert calls > 100 / module.SEQUENCES_PER_CALL
    assert watched.transactions == 0


def test_nothing_is_remembered_of_a_journal_that_is_gone(tmp_path: Path) -> None:
    with History(tmp_path / "state") as history:
        prune_all(history, Retention())
        assert history.journal in module._MEMORIES
    count = len(module._MEMORIES)
    del history
    assert len(module._MEMORIES) < count


# -------------------------------------------------------------------- the file


def test_the_file_shrinks_a_little_at_a_time(history: History) -> None:
    assert history.state_dir is not None
    for _ in range(40):
        run = history.run(status=RUNNING)
        for index in range(3):
            history.completed(run, index, f"s{index}", os.urandom(60_000))
        history.end(run)
        with history.journal.lock:
            history.journal.checkpoint()
    path = history.state_dir / "blaze.db"
    full = path.stat().st_size
    assert full > 7_000_000
    largest_log = steps = 0
    while prune(history.journal, history.recorder.results, Retention(runs=1, days=None), history.at):
        largest_log = max(largest_log, path.with_name("blaze.db-wal").stat().st_size)
        steps += 1
    assert path.stat().st_size < 2_000_000
    assert largest_log < 4_000_000, "-wal < 16 MB in steady state, of which deleting may not take much (R47)"
    assert steps > 4, "it gave everything back in one long transaction"
    with StateManager.of_journal(history.journal) as state:
        assert state.integrity() == []


def test_the_log_stays_small_however_much_is_deleted(history: History) -> None:
    """R47: "-wal < 16 MB in steady state"."""
    assert history.state_dir is not None
    for _ in range(2500):
        history.run(graph=(), error="x" * 500)
        if history.recorder.journal._commits > 200:
            with history.journal.lock:
                history.journal.checkpoint()
    log = history.state_dir / "blaze.db-wal"
    before = log.stat().st_size
    assert before < 8_000_000
    while prune(history.journal, history.recorder.results, Retention(runs=10, days=None), history.at, batch=10):
        assert log.stat().st_size <= max(before, 1_000_000)
    assert len(kept(history)) == 10


def test_some_free_pages_are_kept_since_they_are_soon_used_again(history: History) -> None:
    for _ in range(300):
        history.run(graph=(), error="x" * 2000)
    prune_all(history, Retention(runs=200, days=None))
    free = history.column("PRAGMA freelist_count")[0]
    assert 10 < free <= module.FREE_PAGES


def test_a_state_in_memory_is_pruned_too(memory: History) -> None:
    for _ in range(3000):
        memory.run(graph=(), error="x" * 1000)
    prune_all(memory, Retention(runs=10, days=None))
    assert len(kept(memory)) == 10


def test_deleting_does_not_write_zeros_over_all_that_becomes_free(history: History) -> None:
    history.run(graph=())
    history.run(graph=())
    prune_all(history, Retention(runs=1, days=None))
    assert history.column("PRAGMA secure_delete") == [2]


# -------------------------------------------------------------------- files without a run


def sweep(history: History, now: float, **more: Any) -> Set[str]:
    return set(sweep_results(history.journal, history.recorder.results, now, **more))


@pytest.fixture
def results(history: History) -> Path:
    assert history.state_dir is not None
    return history.state_dir / "results"


def put(path: Path, age: float) -> Path:
    """A file that was written so many seconds ago, in a directory as old."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    for target in (path, path.parent):
        os.utime(target, (NEW_YEAR - age, NEW_YEAR - age))
    return path


def test_files_of_runs_that_are_not_recorded_are_swept_when_they_are_an_hour_old(
    history: History, results: Path
) -> None:
    known, old, young = (
        history.run(),
        put(results / "old1" / "a.pickle", 2 * HOUR),
        put(results / "new1" / "a.pickle", 60),
    )
    put(results / known.run_id / "a.pickle", 2 * HOUR)
    assert sweep(history, NEW_YEAR) == {"old1"}
    assert not old.parent.exists() and young.exists() and (results / known.run_id / "a.pickle").exists()


def test_half_written_files_are_swept_also_from_runs_that_are_recorded(history: History, results: Path) -> None:
    run, busy = history.run(), history.run(status=RUNNING)
    put(results / run.run_id / ".fetch.123.part", 2 * HOUR)
    put(results / run.run_id / "fetch.pickle", 2 * HOUR)
    put(results / busy.run_id / ".load.123.part", 2 * HOUR)
    os.utime(results / busy.run_id / ".load.123.part", (NEW_YEAR - 5, NEW_YEAR - 5))
    assert sweep(history, NEW_YEAR) == {f"{run.run_id}/.fetch.123.part"}
    assert [path.name for path in (results / run.run_id).iterdir()] == ["fetch.pickle"]
    assert (results / busy.run_id / ".load.123.part").exists(), "it is being written"


def test_what_blaze_did_not_put_there_is_left_alone(history: History, results: Path, tmp_path: Path) -> None:
    """R48: "never part of a path without encoding"."""
    outside = put(tmp_path / "elsewhere" / "precious", 2 * HOUR)
    notes = put(results / "notes.txt", 2 * HOUR)
    strange = put(results / "a b;é" / "x", 2 * HOUR)
    (results / "linked").symlink_to(outside.parent)
    os.utime(results / "linked", (0, 0), follow_symlinks=False)
    assert sweep(history, NEW_YEAR) == set()
    assert outside.exists() and notes.exists() and strange.exists() and (results / "linked").is_symlink()


def test_sweeping_reads_the_directory_once_an_hour_at_most(history: History, results: Path) -> None:
    assert sweep(history, NEW_YEAR) == set()
    put(results / "old1" / "a.pickle", 2 * HOUR)
    assert sweep(history, NEW_YEAR + 60) == set()
    assert sweep(history, NEW_YEAR + HOUR + 60) == {"old1"}


def test_very_many_directories_are_looked_up_some_at_a_time(history: History, results: Path) -> None:
    known = {history.run(graph=()).run_id for _ in range(3)}
    for number in range(1203):
        put(results / f"f{number:05}" / "a.pickle", 2 * HOUR)
    for run_id in known:
        put(results / run_id / "a.pickle", 2 * HOUR)
    assert len(sweep(history, NEW_YEAR)) == 1203
    assert {path.name for path in results.iterdir()} == known


def test_there_is_nothing_to_sweep_in_memory_or_before_the_first_result(history: History, memory: History) -> None:
    assert sweep(history, NEW_YEAR) == set()
    assert sweep(memory, NEW_YEAR) == set()


# -------------------------------------------------------------------- the measurement


@pytest.mark.slow
def test_with_a_million_runs_nothing_to_do_takes_microseconds_and_a_round_a_few_ms_a_call(tmp_path: Path) -> None:
    fill(tmp_path, runs=1_000_000, sequences=100)
    with History(tmp_path) as history:
        history.at = NEW_YEAR + 1_000_000

        def timed(retention: Retention, most: int = 100_000) -> List[float]:
            times = []
            for _ in range(most):
                begin = time.perf_counter()
                more = prune(history.journal, history.recorder.results, retention, history.at)
                times.append(time.perf_counter() - begin)
                if not more:
                    break
            return sorted(times)

        roundtrip = timed(Retention())
        idle = sorted(timed(Retention())[0] for _ in range(1000))
        log = tmp_path / "blaze.db-wal"
        deleting = timed(Retention(runs=9_900, days=None))
        for name, times in (("round", roundtrip), ("idle", idle), ("deleting 10,000 runs", deleting)):
            print(f"{name}: {len(times)} calls, {sum(times):.3f} s, median {times[len(times) // 2] * 1000:.3f} ms")
        assert idle[500] < 0.001
        assert roundtrip[len(roundtrip) // 2] < 0.05
        assert 970_000 < len(history.column("SELECT id FROM runs")) < 1_000_000
        assert log.stat().st_size < 16_000_000
