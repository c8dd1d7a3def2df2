"""Fixtures of the tests that run sequences."""

from __future__ import annotations

import pytest

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
