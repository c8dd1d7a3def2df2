"""Submitting while no daemon runs: checked against what is known without one, stored, fired after the next start."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterable, List

from ..core.blaze import Blaze
from ..core.ground.errors import NoDaemon
from ..core.remember.records import JobRecord
from ..core.seq import BlazeSequence, SubmitSequenceData
from .owner import refuse_foreign_link
from .recorded import recorded_definitions
from .submissions import read_submissions


def known_sequences(state_dir: Path, here: Iterable[BlazeSequence] = ()) -> BlazeSequence:
    """What a submission can be checked against: sequences of this process, then those that the last daemon served.

    Raises :class:`NoDaemon` if there are none.
    """
    known = BlazeSequence()
    recorded = recorded_definitions(state_dir)
    for registry in (*here, *([] if recorded is None else [recorded])):
        for seq_id, sequence in registry.items():
            if seq_id not in known:
                known.include(sequence)
    if not known:
        raise NoDaemon(
            f"no daemon serves {state_dir}, and none has served it before, so that there is nothing to check a "
            "submission against: start one with 'blazed start'"
        )
    return known


def store_submissions(state_dir: Path, data: Iterable[SubmitSequenceData], sequences: BlazeSequence) -> List[JobRecord]:
    """Check and store submissions, all or none. Raises :class:`ValidationError` and :class:`StateError`."""
    refuse_foreign_link(state_dir)
    scheduler = Blaze(sequences=sequences, state_dir=state_dir, name="submission")
    try:
        return scheduler.submit(data)
    finally:
        scheduler.stop(grace=0.0)


def submit_offline(state_dir: Path, given: List[Any]) -> List[JobRecord]:
    """Check and store submissions that are JSON objects; see :func:`read_submissions`."""
    sequences = known_sequences(state_dir)
    return store_submissions(state_dir, read_submissions(given, sequences), sequences)


__all__ = ["known_sequences", "store_submissions", "submit_offline"]
