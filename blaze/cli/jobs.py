"""``blazed jobs list``: the jobs in the state."""

from __future__ import annotations

import time
from typing import Optional

from .commands import Arguments, Commands
from .console import Console, page_document, state_cell
from .moments import beside, local, until
from .numbers import limit
from .state import reading_if_any

JOB_STATES = ("ACTIVE", "PAUSED", "ENDED", "BROKEN")


def register(commands: Commands) -> None:
    """Add ``jobs list``."""
    jobs = commands.group("jobs", "list, submit and remove jobs")
    parser = jobs.add("list", list_jobs, "list the jobs", example="blazed jobs list --status BROKEN")
    parser.add_argument("sequence", nargs="?", metavar="SEQ", help="only those of this sequence")
    parser.add_argument("--status", type=str.upper, choices=JOB_STATES, help="only those in this state")
    parser.add_argument("--limit", type=limit, default=1000, metavar="N", help="most jobs (default: 1000)")


def list_jobs(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    with reading_if_any(args, console) as state:
        page = None if state is None else state.jobs(seq_id=args.sequence, status=args.status, limit=args.limit)
    found = page.items if page else []
    if console.json:
        console.document(page_document("jobs", found, more=bool(page and page.next)))
        return None
    now = time.time()
    rows = [
        (
            job.job_id,
            job.seq_id,
            job.interval or "once",
            job.timezone,
            beside(job.last, now, "Never"),
            "-" if job.next is None else f"{local(job.next)} {until(job.next - now)}",
            state_cell(job.status),
        )
        for job in found
    ]
    console.table(("Job ID", "Seq ID", "Schedule", "Time zone", "Last Tick", "Next Tick", "Status"), rows)
    for job in found:
        if job.error:
            console.warn(f"job '{job.job_id}' is {job.status}: {job.error}")
    if page and page.next:
        console.note(f"there are more; these are the first {len(found):,} (--limit)")
    return None
