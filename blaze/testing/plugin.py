"""What the fixtures of ``pytest_blaze`` need once one of them is used."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Iterable, Iterator, List, Protocol, Sequence, Set, Tuple

import pytest

from blaze.core.ground.errors import BlazeError
from blaze.core.ground.status import RunStatus
from blaze.core.seq import BlazeSequence
from blaze.core.state import StateManager

from .faults import Faults
from .outcome import RECENT
from .scheduler import VirtualScheduler
from .story import RunStory, story_of_record

#: Runs of which a failed test's report shows the story: the last ones, those that failed first.
RUNS_SHOWN = 5

#: The schedulers of the running test.
_OPEN: List[VirtualScheduler] = []


class Telling(Protocol):
    """What has something to say in the report of a failed test: a daemon, which lives a floor above."""

    state: StateManager

    def sections(self) -> Iterable[Tuple[str, str]]:
        """A title and a text each."""


#: What the running test has of these.
_TELLING: List[Sequence[Telling]] = []


@contextlib.contextmanager
def telling(things: Sequence[Telling]) -> Iterator[None]:
    """Should the test fail meanwhile, its report shows the last runs of these, and what they have to say."""
    _TELLING.append(things)
    try:
        yield
    finally:
        _TELLING.pop()


class Schedulers:
    """The schedulers of one test; those of one state directory stop before the next one starts."""

    def __init__(self, state_dir: Path, faults: Faults) -> None:
        self._state_dir = state_dir
        self._faults = faults

    def make(self, sequences: BlazeSequence, **settings: Any) -> VirtualScheduler:
        """A started scheduler."""
        settings.setdefault("state_dir", self._state_dir)
        settings.setdefault("probe", self._faults)
        scheduler = VirtualScheduler(sequences, **settings)
        _OPEN.append(scheduler)
        scheduler.start()
        return scheduler

    def __enter__(self) -> Schedulers:
        return self

    def __exit__(self, *exc_info: object) -> None:
        while _OPEN:
            _OPEN.pop().stop()


@contextlib.contextmanager
def faults_of_test(state_dir: Path) -> Iterator[Faults]:
    """Faults that are over with the test."""
    faults = Faults(state_dir)
    try:
        yield faults
    finally:
        faults.close()
    unmet = faults.unmet()
    if unmet:
        names = ", ".join(map(repr, unmet))
        pytest.fail(f"blaze_faults was told of blocks that nothing which ran has: {names}", pytrace=False)


def sections() -> List[Tuple[str, str]]:
    """The stories of what the running test played, for its report."""
    others = [thing for things in _TELLING for thing in things]
    states = [*(scheduler.state for scheduler in _OPEN), *(thing.state for thing in others)]
    stories = [*RECENT] + [story for state in states for story in _recorded(state)]
    chosen: List[RunStory] = []
    seen: Set[str] = set()
    for story in reversed(stories):
        if story.run_id not in seen:
            seen.add(story.run_id)
            chosen.append(story)
    chosen.sort(key=lambda story: story.status is not RunStatus.FAILED)
    shown = [(f"blaze run of {story.seq_id}", str(story)) for story in chosen[:RUNS_SHOWN]]
    return [*shown, *(section for thing in others for section in thing.sections())]


def _recorded(state: StateManager) -> Iterator[RunStory]:
    """What was recorded last; nothing if nothing can be read there."""
    try:
        failed = state.runs(status="FAILED", limit=RUNS_SHOWN).items
        others = state.runs(limit=1).items
        for run in reversed([*failed, *others]):
            yield story_of_record(state, run.run_id)
    except BlazeError:
        return


__all__ = ["Schedulers", "Telling", "faults_of_test", "sections", "telling"]
