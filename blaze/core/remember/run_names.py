"""Which run a name means (an id, a unique prefix of one, ``last``, ``last-failed``), and what is said if it is none."""

from __future__ import annotations

from typing import NoReturn, Optional

from ..ground.errors import AmbiguousName, NotFound
from ..ground.names import did_you_mean, name_fault
from ..ground.status import RunStatus
from . import queries
from .arguments import shown
from .queries import run_of
from .reader import Read
from .records import RunRecord

#: Runs that the message of an ambiguous name lists.
CANDIDATES = 10
#: Characters in which an unknown run id and a near one agree.
NEAR = 3


def find_run(read: Read, name: str, seq_id: Optional[str]) -> RunRecord:
    """The run that is meant, of one sequence or of any; see ``StateManager.find_run``."""
    if name in ("last", "last-failed"):
        return _last(read, name, seq_id)
    if name_fault(name, dotted=True) is not None:
        raise NotFound(f"there is no run {shown(name)}: a run is named by its id, a prefix of it, or 'last'")
    also, scope = ("", ()) if seq_id is None else ("AND seq_id = ?", (seq_id,))
    # Ids are ASCII: DEL is greater than all that may follow the prefix. No LIKE, whose wildcards are valid in ids.
    between = (queries.RUNS_BETWEEN.format(also=also), (name, f"{name}\x7f", *scope, CANDIDATES + 1))
    found = [run_of(row) for row in read(*between)]
    if len(found) == 1 or (found and found[0].run_id == name):
        return found[0]
    if not found:
        raise NotFound(f"there is no run {shown(name)}{_of(seq_id)}{_hint(read, name)}")
    lines = [f"  {_line(run)}" for run in found[:CANDIDATES]]
    fits = f"{len(found)} runs" if len(found) <= CANDIDATES else f"more than {CANDIDATES} runs, among them"
    raise AmbiguousName(f"{shown(name)} fits {fits}{_of(seq_id)}:\n" + "\n".join(lines), [run.run_id for run in found])


def checked(run_id: str) -> str:
    """An id that may be one. Raises :class:`NotFound`."""
    if name_fault(run_id, dotted=True) is not None:
        raise NotFound(f"there is no run {shown(run_id)}")
    return run_id


def no_run(read: Read, run_id: str) -> NoReturn:
    """Raise :class:`NotFound`, with what may have been meant."""
    raise NotFound(f"there is no run {shown(run_id)}{_hint(read, run_id)}")


def no_sequence(read: Read, seq_id: str) -> NoReturn:
    """Raise :class:`NotFound`, with near names."""
    known = [row[0] for row in read(queries.SEQUENCE_IDS, ())]
    raise NotFound(f"sequence '{seq_id}' has no runs{did_you_mean(seq_id, known)}")


def _last(read: Read, name: str, seq_id: Optional[str]) -> RunRecord:
    if name == "last-failed":
        rows = queries.newest_runs(read, 1, statuses=(RunStatus.FAILED,), seq_id=seq_id)
    else:
        rows = queries.newest_runs(read, 1, seq_id=seq_id, without_skipped=True)
        rows = rows or queries.newest_runs(read, 1, seq_id=seq_id)
    if rows:
        return run_of(rows[0])
    if seq_id is not None and not queries.newest_runs(read, 1, seq_id=seq_id):
        no_sequence(read, seq_id)
    raise NotFound(f"there is no {'failed run' if name == 'last-failed' else 'run'}{_of(seq_id)} yet")


def _hint(read: Read, name: str) -> str:
    """What may have been meant instead of a name that is no run's."""
    if read(queries.LATEST_BY_STATUS, (name, 1)):
        return f"; '{name}' is a sequence: its last run is 'last' within it"
    near = []
    for sql in (queries.RUN_ID_BEFORE, queries.RUN_ID_AFTER):
        near += [row[0] for row in read(sql, (name,))]
    near = [run_id for run_id in near if run_id[:NEAR] == name[:NEAR]]
    if near and len(name) > NEAR:
        return f"; did you mean {' or '.join(repr(run_id) for run_id in near)}?"
    return did_you_mean(name, ("last", "last-failed")) or "; 'last' is the newest"


def _of(seq_id: Optional[str]) -> str:
    return "" if seq_id is None else f" of sequence '{seq_id}'"


def _line(run: RunRecord) -> str:
    moment = run.created_at
    when = "-" if moment is None else moment.astimezone().isoformat(" ", "seconds")
    return f"{run.run_id}  {run.status.value:<9}  {when}  {run.seq_id}"


__all__ = ["checked", "find_run", "no_run", "no_sequence"]
