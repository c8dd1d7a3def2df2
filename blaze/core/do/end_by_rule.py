"""The end of a recorded run that nobody carries on: its sequence is another one, or it could not be started."""

from __future__ import annotations

from typing import TYPE_CHECKING, List

from ..ground.context import RunInfo
from ..ground.status import RunStatus
from .run_state import END

if TYPE_CHECKING:
    from .engine import Engine
    from .pool import Item


class EndByRule:
    """The end of a recorded run that is not carried on: told when it is written down."""

    __slots__ = ("info", "_engine", "_about")

    def __init__(self, engine: Engine, info: RunInfo, status: RunStatus, reason: str, error: str, at: float) -> None:
        self.info = info
        self._engine = engine
        self._about = (info, status, reason, at, error)

    def record(self, key: int) -> None:
        """Write it down, as soon as that is possible."""
        recorder = self._engine.recorder
        if recorder is not None:
            _, status, reason, at, error = self._about
            recorder.end_by_rule(key, status, reason, error, at, (self, END))
            self._engine.flush()

    def committed(self, tokens: List[Item], place: int, ready: List[Item]) -> int:
        """It is safe. See :meth:`Run.committed`."""
        if self._engine.herald is not None:
            self._engine.herald.run_ended_by_rule(*self._about)
        return place + 1

    def refused(self, index: int, error: BaseException) -> None:
        """It could not be written, which has been logged: the run is left to the next start."""


__all__ = ["EndByRule"]
