"""``blazed runs``: the latest runs, and which run a name means."""

from __future__ import annotations

import time
from typing import Optional

from .commands import Arguments, Commands
from .console import Console, page_document, state_cell
from .moments import beside, duration, since
from .numbers import limit
from .state import reading_if_any
from .text import clipped

RUN_STATES = ("PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "SKIPPED")
#: Columns of an error in the table.
ERROR = 60


def register(commands: Commands) -> None:
    """Add ``runs``."""
    parser = commands.add(
        "runs", list_runs, "list the latest runs", example="blazed runs etl_pipeline --status failed --since 2d"
    )
    parser.add_argument("sequence", nargs="?", metavar="SEQ", help="only those of this sequence")
    parser.add_argument("--status", type=str.upper, choices=RUN_STATES, help="only those in this state")
    parser.add_argument("--since", metavar="TIME", help="only those created since: 90s, 15m, 2h, 7d ago, or a date")
    parser.add_argument("--limit", type=limit, default=20, metavar="N", help="most runs (default: 20)")


def list_runs(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    begin = None if args.since is None else since(args.since)
    with reading_if_any(args, console) as state:
        page = (
            None
            if state is None
            else state.runs(seq_id=args.sequence, status=args.status, since=begin, limit=args.limit)
        )
        if state is not None and args.sequence is not None and page is not None and not page.items:
            state.sequence(args.sequence)  # whose near names are told if there is none
    found = page.items if page else []
    if console.json:
        console.document(page_document("runs", found, more=bool(page and page.next)))
        return None
    now = time.time()
    rows = [
        (
            run.run_id,
            run.seq_id,
            beside(run.created, now),
            state_cell(run.status),
            duration(run.seconds),
            _story(run.reason, run.error, run.missed),
        )
        for run in found
    ]
    console.table(("Run", "Seq ID", "Created", "Status", "Took", "Why"), rows)
    if page and page.next:
        console.note(f"there are more; these are the newest {len(found):,} (--limit)")
    return None


def _story(reason: Optional[str], error: Optional[str], missed: Optional[int]) -> str:
    parts = [reason or "", f"{missed:,} ticks" if missed and missed > 1 else "", (error or "").split("\n", 1)[0]]
    return clipped(", ".join(part for part in parts if part), ERROR)
