"""What the daemons of ``benchmarks.serving`` serve: a few sequences of one step that does nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from blaze import BlazeBlock, BlazeSequence, SeqBlockData

#: How many there are, as many as a small installation has.
SEQUENCES = 5

blocks = BlazeBlock()
sequences = BlazeSequence()


@blocks.block()
def nothing() -> None:
    """The least that a block can do."""


@blocks.block()
def modules(path: Path) -> None:
    """Write down what this process has imported."""
    path.write_text("\n".join(sorted(sys.modules)))


for _number in range(SEQUENCES):

    @sequences.sequence(blocks, [SeqBlockData("nothing")], seq_id=f"sequence-{_number}")
    def etl(context: Any = None) -> Any:
        """One step."""
        return context


@sequences.sequence(blocks, [SeqBlockData("modules")])
def imported(context: Any = None) -> None:
    """Tells what is imported."""
