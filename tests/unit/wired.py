"""Short ways to wire a sequence and to look at what is wrong with one."""

from __future__ import annotations

from typing import Any, List

import pytest

from blaze import BlazeBlock, BlazeSequence, SeqBlockData, ValidationError
from blaze.core.seq import Sequence


def keep(context: Any = None) -> Any:
    """A finaliser that returns what it is given."""
    return context


def sequence_of(blocks: BlazeBlock, *steps: SeqBlockData, finaliser: Any = keep, **settings: Any) -> Sequence:
    """A sequence of its own registry, with the id ``etl`` unless told otherwise."""
    settings.setdefault("seq_id", "etl")
    return BlazeSequence().sequence(blocks, list(steps), **settings)(finaliser)


def faults_of(call: Any, *args: Any, **kwargs: Any) -> List[str]:
    """The faults, as text, of the ValidationError that a call raises."""
    with pytest.raises(ValidationError) as caught:
        call(*args, **kwargs)
    faults = caught.value.errors
    assert all(where and what for where, what in faults)
    assert all(str(fault) in str(caught.value) for fault in faults)
    return list(map(str, faults))
