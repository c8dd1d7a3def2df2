"""The state as the commands that read it see it: whether or not a daemon runs, and also where there is none yet."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Iterator, List, Optional

from ..daemon.state_dir import StateDir, find_state_dir
from .commands import Arguments
from .console import Console

if TYPE_CHECKING:
    from ..core.remember.instances import InstanceInfo
    from ..core.state import StateManager


def state_dir_of(args: Arguments) -> StateDir:
    """The state directory that the command line means; it may not be there yet."""
    return find_state_dir(args.state_dir)


@contextlib.contextmanager
def reading(args: Arguments) -> Iterator[StateManager]:
    """The state, to be read.

    Raises :class:`NotFound` if its directory was named and is not there, :class:`StateError` if there is no state.
    """
    directory = state_dir_of(args).existing()
    from ..core.state import StateManager

    with StateManager(directory.path) as state:
        yield state


@contextlib.contextmanager
def reading_if_any(args: Arguments, console: Console) -> Iterator[Optional[StateManager]]:
    """The same for commands that list things: None, and a note, where nothing has been recorded yet."""
    directory = state_dir_of(args).existing()
    if not directory.has_state():
        console.note(f"there is no state in {directory.path} yet: nothing has run")
        yield None
        return
    with reading(args) as state:
        yield state


def living_instances(directory: StateDir) -> List[InstanceInfo]:
    """The schedulers that are at work on a state directory, the newest first."""
    from ..core.remember.instances import list_instances

    found = [one for one in list_instances(directory.path / "instances") if one.alive]
    return sorted(found, key=lambda one: -one.started_at)
