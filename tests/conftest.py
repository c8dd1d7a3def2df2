"""What holds for every test: nothing that one leaves open reaches the next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from blaze.core import lifetimes


@pytest.fixture(autouse=True)
def no_scheduler_is_left_open() -> Iterator[None]:
    """Stop what a test, most of all a failed one, has not stopped."""
    before = set(lifetimes._OPEN)
    yield
    for scheduler in set(lifetimes._OPEN) - before:
        scheduler._end()
