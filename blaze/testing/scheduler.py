"""`VirtualScheduler`: a real scheduler, with its real store and its real retries, on time that is driven by hand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Optional, Union

from blaze.core.blaze import Blaze
from blaze.core.do.result import RunHandle, RunResult
from blaze.core.ground.errors import BlazeError
from blaze.core.remember.retention import Retention
from blaze.core.seq import BlazeSequence

from .clock import VirtualClock
from .faults import Faults
from .outcome import SequenceRun
from .playing import drive
from .story import story_of_record

if TYPE_CHECKING:
    from blaze.core.what.declarations import Parameters


class VirtualScheduler(Blaze):
    """A :class:`Blaze` that waits for nothing.

    ::

        scheduler = blaze_scheduler(sequences)
        scheduler.submit(SubmitSequenceData("etl", seq_run_interval="0 3 * * *", timezone="UTC"))
        scheduler.advance(hours=24)

    :param sequences: the registry.
    :param state_dir: where its state is.
    :param start: the instant at which its clock begins: an aware datetime, or a naive one in UTC.
    :param clock: a clock instead, to be shared with another scheduler.
    :param probe: what is to go wrong.
    :param overrides: ``{step or block: output}`` or ``{step or block: function}``, as in :func:`run_sequence`.
    :param settings: those of :class:`Blaze`; history is kept whole unless ``retention`` is given.
    """

    def __init__(
        self,
        sequences: BlazeSequence,
        state_dir: Union[str, os.PathLike[str]],
        *,
        start: Union[datetime, float, None] = None,
        clock: Optional[VirtualClock] = None,
        probe: Optional[Faults] = None,
        overrides: Optional[Mapping[str, Any]] = None,
        **settings: Any,
    ) -> None:
        self.clock = clock or VirtualClock(start)
        settings.setdefault("grace", 0.0)
        settings.setdefault("max_workers", 4)
        # What a test asks for must not have been pruned because months have passed meanwhile.
        settings.setdefault("retention", Retention(runs=None, days=None))
        if overrides:
            probe = probe or Faults(state_dir)
            for name, given in overrides.items():
                probe.override(name, given)
        super().__init__(sequences=sequences, state_dir=state_dir, clock=self.clock, probe=probe, **settings)

    @property
    def now(self) -> datetime:
        """This instant (aware, UTC)."""
        return self.clock.now

    def advance(
        self,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        until: Optional[datetime] = None,
    ) -> datetime:
        """Let time pass, and everything happen that is due meanwhile, in order; see ``VirtualClock.advance``."""
        return self.clock.advance(days=days, hours=hours, minutes=minutes, seconds=seconds, until=until)

    def to_next_tick(self) -> datetime:
        """Go to the next instant at which anything is due, and let it happen. That instant."""
        return self.clock.to_next_tick()

    def finish(self, handle: RunHandle) -> RunResult:
        """Let time pass until a run has ended."""
        drive(self.clock, handle.done, f"run {handle.run_id} of '{handle.seq_id}'")
        return handle.result(0)

    def run(self, seq_id: str, parameters: Optional[Parameters] = None, timeout: Optional[float] = None) -> RunResult:
        """Start a run and let time pass until it has ended."""
        return self.finish(self.trigger(seq_id, parameters))

    def inspect(self, run_id: str = "last") -> SequenceRun:
        """What is recorded of a run, with the assertions of :func:`run_sequence`; see :class:`SequenceRun`.

        :param run_id: an id, a unique prefix of one, ``"last"`` or ``"last-failed"``.
        """
        return SequenceRun(story_of_record(self.state, run_id))

    def restart(self) -> VirtualScheduler:
        """Stop, and start again on the same state at the same instant. This scheduler."""
        if self.durability == "memory":
            raise BlazeError('nothing of durability="memory" is left after a stop')
        self.stop()
        self.start()
        return self


__all__ = ["VirtualScheduler"]
