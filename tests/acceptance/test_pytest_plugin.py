"""The pytest plugin as a user's test suite meets it: its examples, its reports, what it costs."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import pytest_blaze
from blaze.testing import CrashPoint, Faults
from tests.acceptance.pages import script_of

ROOT = Path(__file__).resolve().parents[2]
MANUAL = ROOT / "docs" / "testing.md"

#: The plugin is loaded by its entry point where Blaze is installed, and by this where it is not.
CONFTEST = """
import pytest_blaze
from blaze.testing import CrashPoint, Faults

def pytest_configure(config):
    if not config.pluginmanager.has_plugin("blaze"):
        config.pluginmanager.register(pytest_blaze, "blaze")
"""

#: What the examples of the fixtures stand in.
HEAD = """
import logging
from datetime import datetime

import pytest

from blaze import Blaze, BlazeBlock, BlazeSequence, SeqBlockData, StateManager, SubmitSequenceData

blocks, sequences = BlazeBlock(), BlazeSequence()


@blocks.block(retries=2, retry_delay=600)
def fetch() -> list:
    return [" a ", ""]


@blocks.block
def clean(rows: list) -> list:
    logging.getLogger("app").warning("%d rows", len(rows))
    return [row.strip() for row in rows if row.strip()]


@sequences.sequence(
    blocks=blocks,
    sequence=[SeqBlockData("fetch"), SeqBlockData("clean", parameters={"rows": "@fetch"})],
    seq_id="etl",
)
def etl(context):
    return context

"""

FIXTURES = [
    name for name, value in vars(pytest_blaze).items() if "::\n\n    def test_" in (inspect.getdoc(value) or "")
]


def pytest_in(folder: Path, tests: str, *options: str, head: str = HEAD) -> str:
    """What pytest says about a file of tests."""
    (folder / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (folder / "test_etl.py").write_text(head + textwrap.dedent(tests), encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", *options, "test_etl.py"],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


def example_of(name: str) -> str:
    """The test in a fixture's docstring."""
    text = inspect.getdoc(getattr(pytest_blaze, name)) or ""
    return textwrap.dedent(text.partition("::\n\n")[2])


def test_every_fixture_has_an_example_and_all_of_them_run_under_xdist(tmp_path: Path) -> None:
    assert set(FIXTURES) == {
        "run_sequence", "run_every_order", "run_through_crashes", "blaze_scheduler", "blaze_faults", "blaze_state",
        "blaze_daemon",
    }  # fmt: skip
    told = pytest_in(tmp_path, "\n\n".join(map(example_of, FIXTURES)), "-n", "2")
    assert re.search(rf"\b{len(FIXTURES)} passed", told), told


def test_the_report_of_a_failed_test_shows_the_tree_the_arguments_and_the_log(tmp_path: Path) -> None:
    told = pytest_in(
        tmp_path,
        """
        def test_one(run_sequence):
            run_sequence(etl, overrides={"fetch": ["  untold  "]})

        def test_two(run_sequence):
            run_sequence(etl, overrides={"fetch": ["x", 7]})

        def test_three(blaze_scheduler, blaze_faults):
            blaze_faults.fail("clean", exc=OSError("no room"))
            assert blaze_scheduler(sequences).run("etl").ok
        """,
    )
    assert "2 failed, 1 passed" in told
    story = "etl: FAILED.*\n  \\+ fetch  COMPLETED\n  x clean  FAILED  <- fetch\n\nstep 'clean', attempt 1"
    assert len(re.findall(f"- blaze run of etl -+\n{story}", told)) == 2, told
    assert "arguments: rows=['x', 7]" in told and "WARNING app: 2 rows" in told
    assert "OSError: no room\n  arguments: rows=[' a ', '']" in told
    assert "untold" not in told.replace("test_etl.py", "")


def test_a_fault_on_a_block_that_is_nowhere_is_told(tmp_path: Path) -> None:
    told = pytest_in(
        tmp_path,
        """
        def test_one(run_sequence, blaze_faults):
            blaze_faults.fail("fetchh")
            run_sequence(etl)
        """,
    )
    assert "1 passed, 1 error" in told
    assert "blaze_faults was told of blocks that nothing which ran has: 'fetchh'" in told


def test_the_plugin_imports_nothing_of_blaze_before_a_fixture_is_used() -> None:
    code = "import sys, pytest; before = set(sys.modules); import pytest_blaze; print(set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "{'pytest_blaze'}\n"


def test_the_tests_in_the_manual_pass(tmp_path: Path) -> None:
    code = script_of(MANUAL)
    told = pytest_in(tmp_path, code, head="")
    assert re.search(rf"\b{code.count('def test_')} passed", told), told


def test_the_manual_tells_of_every_point_at_which_a_process_may_die_and_of_every_fault() -> None:
    manual = MANUAL.read_text(encoding="utf-8")
    points = re.findall(r'^\| `"(\w+)"` \|', manual, re.MULTILINE)
    assert points == [point.value for point in CrashPoint]
    faults = {"fail", "hang", "override", "fill_disk", "free_disk", "lock_db", "crash_after", "crash_at"}
    assert faults == {name for name in re.findall(r"`(\w+)\(", manual) if hasattr(Faults, name)}


@pytest.mark.parametrize("name", FIXTURES)
def test_the_manual_tells_of_every_fixture(name: str) -> None:
    assert f"`{name}`" in MANUAL.read_text(encoding="utf-8")
