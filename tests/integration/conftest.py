"""Fixtures of the tests that run sequences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.doomed import Doomed
from tests.integration.recorded_history import History
from tests.integration.workbench import Way, Workbench


@pytest.fixture(params=("in_memory", "unsaved", "durable"))
def way(request, tmp_path):
    """Every way of running a sequence."""
    way = Way(request.param, tmp_path)
    yield way
    way.close()


@pytest.fixture(params=("unsaved", "durable"))
def scheduled(request, tmp_path):
    """The ways that give out handles."""
    way = Way(request.param, tmp_path)
    yield way
    way.close()


@pytest.fixture
def durable(tmp_path):
    """The one way that is on disk."""
    way = Way("durable", tmp_path)
    yield way
    way.close()


@pytest.fixture
def bench():
    """Blocks and sequences of the test's own."""
    return Workbench()


@pytest.fixture
def doomed(tmp_path):
    """A pipeline whose process may die."""
    doomed = Doomed(tmp_path)
    yield doomed
    doomed.close()


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History(tmp_path / "state") as found:
        yield found


@pytest.fixture
def memory() -> Iterator[History]:
    """A history without a file, where the file makes no difference."""
    with History(None) as found:
        yield found
