"""What holds for every test: nothing that one leaves open reaches the next."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator

import pytest

import pytest_blaze
from blaze.core import lifetimes


def pytest_configure(config: pytest.Config) -> None:
    """The plugin of the package, also where Blaze is not installed."""
    if not config.pluginmanager.has_plugin("blaze"):
        config.pluginmanager.register(pytest_blaze, "blaze")


def pytest_collection_finish(session: pytest.Session) -> None:
    """What was collected stays to the end: leave it out of every garbage collection, of which tests make many."""
    gc.collect()
    gc.freeze()


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell starts what it runs in the background; the programs that tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_scheduler_is_left_open() -> Iterator[None]:
    """Stop what a test, most of all a failed one, has not stopped."""
    before = set(lifetimes._OPEN)
    yield
    for scheduler in set(lifetimes._OPEN) - before:
        scheduler._end()
