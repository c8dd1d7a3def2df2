"""The state as the commands that read it see it: whether or not a daemon runs, and also where there is none yet."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Iterator, List, Optional

from ..daemon.state_dir import StateDir, find_state_dir
from .commands import Arguments
from .console import Console

if TYPE_CHECKING:
    from ..core.remember.instances import InstanceInfo
    from ..core.remember.records import RunRecord
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


def left_runs(directory: StateDir, state: StateManager, seq_id: str) -> List[RunRecord]:
    """The runs of a sequence that have not ended and that nobody is at work on, the newest first."""
    found = state.runs(seq_id=seq_id, status=["PENDING", "RUNNING"], limit=100).items
    return [run for run in found if is_left(directory, run)]


def is_left(directory: StateDir, run: RunRecord) -> bool:
    """Whether a stop or a crash has left a run: it has not ended, and whoever had it in hand does not live."""
    if run.status.ended or (run.owner is None and run.reason == "queued"):
        return False
    return run.owner not in {one.instance_id for one in living_instances(directory)}
