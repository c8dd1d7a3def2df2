"""The seam through which tests break an engine on purpose: a probe sees every plan, every write and every named point.

An engine has none unless it is given one, and then asks ``is None`` once a run and once a commit.
"""

from __future__ import annotations

from enum import Enum
from typing import Optional, Protocol

from ..what.plan import Plan


class Point(str, Enum):
    """The instants at which a process may die, in the order in which a run passes them."""

    #: After the run was recorded, before its first step starts.
    RECORDED = "recorded"
    #: Before the step's function is called.
    CALLED = "called"
    #: After the step's function returned, before anything of it is written.
    RETURNED = "returned"
    #: After a large output was written to its file, before the step's commit.
    WRITTEN = "written"
    #: After the step's commit, before its dependants start.
    COMMITTED = "committed"
    #: After the finaliser returned, before the end of the run is committed.
    FINALISED = "finalised"
    #: After the end of the run was committed, before anybody is told.
    ENDED = "ended"


class Probe(Protocol):
    """What looks over an engine's shoulder. Called in whatever thread is there; it must be quick, or deadly."""

    def adapt(self, plan: Plan) -> Plan:
        """The plan to run in the place of ``plan``: the same steps and dependencies, other functions."""

    def passes(self, point: Point, run_id: str, step: Optional[str]) -> None:
        """A run passes one of RECORDED, COMMITTED and ENDED; the other points lie inside of adapted functions."""

    def writes(self) -> None:
        """Something is about to be written; what this raises (``sqlite3.OperationalError``), the disk has raised."""


__all__ = ["Point", "Probe"]
