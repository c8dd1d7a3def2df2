"""Blaze's pytest plugin: fixtures that play pipelines, and the story of what was played in the report of a failed test.

A module of its own outside of the package, since pytest imports it at every start: importing
``blaze.testing`` would import ``blaze``. What the fixtures need is imported when one is used.
The examples are run by ``tests/acceptance/test_pytest_plugin.py``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Callable, Generator, Iterator, List

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from blaze.daemon.leashed import LeashedDaemon
    from blaze.testing import Faults, SequenceRun, VirtualScheduler


@pytest.fixture
def run_sequence(blaze_faults: Faults) -> Callable[..., SequenceRun]:
    """Run a sequence in memory, with real retries and no real waiting. See ``blaze.testing.run_sequence``.

    What ``blaze_faults`` was told goes wrong in it.

    ::

        def test_the_rows_are_cleaned(run_sequence):
            run = run_sequence(etl, overrides={"fetch": [" a ", ""]})
            run.assert_completed().assert_order("fetch", "clean")
            assert run.outputs["clean"] == ["a"]
    """
    from functools import partial

    from blaze.testing import run_sequence

    return partial(run_sequence, faults=blaze_faults)


@pytest.fixture
def run_every_order() -> Callable[..., Iterator[SequenceRun]]:
    """Run a sequence once for every order in which its steps can start. See ``blaze.testing.run_every_order``.

    ::

        def test_the_order_changes_nothing(run_every_order):
            for run in run_every_order(etl, overrides={"fetch": [" a ", ""]}):
                assert run.output == {"fetch": [" a ", ""], "clean": ["a"]}
    """
    from blaze.testing import run_every_order

    return run_every_order


@pytest.fixture
def run_through_crashes(blaze_faults: Faults, blaze_state: Path) -> Callable[..., SequenceRun]:
    """Run a sequence in processes that are killed where ``blaze_faults`` says, and carry it on to its end.

    See ``blaze.testing.run_through_crashes``. The state is in ``blaze_state``.

    ::

        def test_a_kill_costs_one_step(run_through_crashes, blaze_faults):
            blaze_faults.crash_after("clean")
            run = run_through_crashes(etl).assert_completed()
            assert (run.executions("fetch"), run.executions("clean")) == (1, 2)
    """
    from functools import partial

    from blaze.testing import run_through_crashes

    return partial(run_through_crashes, faults=blaze_faults, state_dir=blaze_state)


@pytest.fixture
def blaze_scheduler(blaze_faults: Faults, blaze_state: Path) -> Iterator[Callable[..., VirtualScheduler]]:
    """A function that makes schedulers on virtual time, started and with their state in ``blaze_state``.

    Its arguments are those of ``blaze.testing.VirtualScheduler``: the sequences, ``start=`` and
    the settings of ``Blaze``. They are stopped at the end of the test.

    ::

        def test_it_runs_every_night(blaze_scheduler):
            scheduler = blaze_scheduler(sequences, start=datetime(2026, 1, 1))
            scheduler.submit(SubmitSequenceData("etl", seq_run_interval="0 3 * * *", timezone="UTC"))
            scheduler.advance(days=7)
            assert len(scheduler.state.runs(job_id="etl").items) == 7
            scheduler.inspect("last").assert_completed()
    """
    from blaze.testing.plugin import Schedulers

    with Schedulers(blaze_state, blaze_faults) as schedulers:
        yield schedulers.make


@pytest.fixture
def blaze_faults(blaze_state: Path) -> Iterator[Faults]:
    """What is to go wrong in the runs and schedulers of this test. See ``blaze.testing.Faults``.

    A fault on a block that no sequence of the test has is an error at its end.

    ::

        def test_it_survives_a_bad_minute(run_sequence, blaze_faults):
            blaze_faults.fail("fetch", times=2, exc=ConnectionError("refused"))
            assert run_sequence(etl).attempts("fetch") == 3
    """
    from blaze.testing.plugin import faults_of_test

    with faults_of_test(blaze_state) as faults:
        yield faults


@pytest.fixture
def blaze_state(tmp_path: Path) -> Path:
    """A state directory of this test's own; it is made by the first scheduler that uses it.

    ::

        def test_what_is_left_is_there_at_the_next_start(blaze_state):
            with Blaze(sequences=sequences, state_dir=blaze_state) as scheduler:
                scheduler.run("etl")
            with StateManager(blaze_state) as state:
                assert state.find_run("last").status == "COMPLETED"
    """
    return tmp_path / "blaze-state"


@pytest.fixture
def blaze_daemon(blaze_state: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., LeashedDaemon]]:
    """A function that starts real daemons, each in a process of its own, with their state in ``blaze_state``.

    Its arguments are those of ``blaze.daemon.leashed.LeashedDaemon``: the definition (default: the file of the
    test itself), ``state_dir=``, ``workers=``, ``grace=``. They are killed at the end of the test, and however pytest
    itself ends; the log is in the report of a test that fails.

    ::

        def test_a_killed_daemon_keeps_its_jobs(blaze_daemon):
            daemon = blaze_daemon()
            assert daemon.run("etl").ok
            daemon.submit(SubmitSequenceData("etl", seq_run_interval="0 3 * * *"))
            daemon.kill()
            daemon.start()
            assert [job.job_id for job in daemon.state.jobs()] == ["etl"]
            daemon.inspect("last").assert_completed()
    """
    from blaze.daemon.leashed import LeashedDaemon
    from blaze.testing.plugin import telling

    daemons: List[LeashedDaemon] = []

    def start(definition: Any = None, **settings: Any) -> LeashedDaemon:
        settings.setdefault("state_dir", blaze_state)
        daemons.append(LeashedDaemon(request.path if definition is None else definition, **settings))
        return daemons[-1]

    try:
        with telling(daemons):
            yield start
    finally:
        for daemon in reversed(daemons):
            daemon.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Add what was played to the report of a test that failed."""
    report = yield
    plugin = sys.modules.get("blaze.testing.outcome")
    if plugin is not None and report.when != "teardown" and report.failed:
        from blaze.testing.plugin import sections

        report.sections += sections()
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test's report shows nothing of the tests before it."""
    played = sys.modules.get("blaze.testing.outcome")
    if played is not None:
        played.RECENT.clear()


__all__: List[str] = []
