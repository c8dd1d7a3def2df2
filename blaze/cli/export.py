"""``blazed export DIR``: state and history as JSON files, ``{sequence_id}/state.json`` and ``runs.json``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, TextIO

from ..core.ground.errors import Refused
from ..core.ground.names import name_fault
from .commands import Arguments, Commands
from .console import Console
from .moments import iso
from .state import reading_if_any
from .text import counted, visible

if TYPE_CHECKING:
    from pathlib import Path

    from ..core.state import StateManager

PAGE = 1000


def register(commands: Commands) -> None:
    """Add ``export``."""
    parser = commands.add(
        "export",
        export,
        "write state and history as JSON files",
        example="blazed export ./log",
        description="Each sequence gets a directory with state.json and runs.json.",
    )
    parser.add_argument("target", metavar="DIR", help="made if it is missing; files of an earlier export are replaced")
    parser.add_argument("--sequence", metavar="ID", help="only this sequence")


def export(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    from pathlib import Path

    target = Path(args.target)
    written: List[Dict[str, Any]] = []
    with reading_if_any(args, console) as state:
        if state is not None:
            if args.sequence is not None and args.sequence not in state.next_ticks():
                state.sequence(args.sequence)
            known = {summary.seq_id for summary in state.sequences()} | set(state.next_ticks())
            names = sorted(known) if args.sequence is None else [args.sequence]
            written = [_export_one(state, name, target) for name in names]
    if console.json:
        console.document({"exported": written})
    else:
        console.print(*(f"{visible(one['directory'])}: {counted(one['runs'], 'run')}" for one in written))
    return None


def _export_one(state: StateManager, seq_id: str, target: Path) -> Dict[str, Any]:
    if name_fault(seq_id, dotted=True) is not None:  # it becomes part of a path
        raise Refused(
            f"the sequence {seq_id!r:.80} has a name that can't be a directory's; 'blazed db check' tells more"
        )
    import json

    folder = target / seq_id
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "state.json", iter([json.dumps(_state_of(state, seq_id), indent=2), "\n"]))
    counter = [0]
    _write(folder / "runs.json", _runs_text(state, seq_id, counter))
    return {"seq_id": seq_id, "directory": str(folder), "runs": counter[0]}


def _state_of(state: StateManager, seq_id: str) -> Dict[str, Any]:
    summary = next((one for one in state.sequences() if one.seq_id == seq_id), None)
    jobs, next_run = state.next_ticks().get(seq_id, (0, None))
    last = summary.last_run if summary else None
    return {
        "seq_id": seq_id,
        "status": last.status.value if last else "PENDING",
        "last_run": last.to_dict() if last else None,
        "next_run": iso(next_run),
        "total_execution_time": (last.seconds if last else None) or 0.0,
        "summary": summary.to_dict() if summary else None,
        "jobs": [job.to_dict() for job in state.jobs(seq_id=seq_id, limit=10_000)] if jobs else [],
    }


def _runs_text(state: StateManager, seq_id: str, counter: List[int]) -> Iterator[str]:
    """A JSON list, a run a line, newest first: page by page, however many there are."""
    import json

    before, cursor = "[\n", None
    while True:
        page = state.runs(seq_id=seq_id, limit=PAGE, cursor=cursor)
        for run in page:
            yield before + json.dumps(run.to_dict())
            before = ",\n"
            counter[0] += 1
        cursor = page.next
        if cursor is None:
            break
    yield "\n]\n" if counter[0] else "[]\n"


def _write(path: Path, parts: Iterator[str]) -> None:
    """The file, replaced once the new one is whole."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(aside, "w", encoding="utf-8") as file:
            _write_parts(file, parts)
        os.replace(aside, path)
    finally:
        if aside.exists():
            aside.unlink()


def _write_parts(file: TextIO, parts: Iterator[str]) -> None:
    for part in parts:
        file.write(part)
