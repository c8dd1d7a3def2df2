"""Reaching the scheduler of a state directory: the daemon's, or, for what needs none, the state itself."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Iterator, Union

from .commands import Arguments
from .state import state_dir_of

if TYPE_CHECKING:
    from ..core.blaze import Blaze
    from ..daemon.remote import RemoteScheduler


@contextlib.contextmanager
def daemon_of(args: Arguments) -> Iterator[RemoteScheduler]:
    """The daemon's scheduler. Raises :class:`NoDaemon`."""
    from ..daemon.remote import connect

    with connect(state_dir_of(args).existing().path) as remote:
        yield remote


@contextlib.contextmanager
def scheduler_of(args: Arguments) -> Iterator[Union[Blaze, RemoteScheduler]]:
    """The daemon's scheduler, or else one here that only writes down what is to be.

    Raises :class:`NoDaemon` if there is neither a daemon nor a state.
    """
    from ..daemon.owner import owner_of

    directory = state_dir_of(args).existing()
    if owner_of(directory.path) is not None or not directory.has_state():
        with daemon_of(args) as remote:
            yield remote
        return
    from ..core.blaze import Blaze
    from ..daemon.recorded import recorded_definitions

    scheduler = Blaze(sequences=recorded_definitions(directory.path), state_dir=directory.path, name="command")
    try:
        yield scheduler
    finally:
        scheduler.stop(grace=0.0)
