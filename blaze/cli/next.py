"""``blazed next``: when a job, or a cron expression, fires."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, List, NamedTuple, Optional, Tuple

from ..core.ground.errors import NotFound
from .commands import Arguments, Commands
from .console import Console
from .moments import iso, local, until
from .numbers import limit
from .state import reading, state_dir_of
from .text import visible

if TYPE_CHECKING:
    from datetime import datetime

    from ..core.remember.records import JobRecord


def register(commands: Commands) -> None:
    """Add ``next``."""
    parser = commands.add(
        "next",
        show_next,
        "show when a job or a cron expression fires next",
        example="blazed next etl_pipeline -n 3\nblazed next '30 2 * * *' --timezone Europe/Berlin",
    )
    parser.add_argument("what", metavar="JOB|CRON", help="id of a job, or cron text")
    parser.add_argument("-n", "--count", type=limit, default=10, metavar="N", help="how many (default: 10)")
    parser.add_argument("--timezone", metavar="ZONE", help="IANA name for cron text (default: the machine's)")


class _Ticks(NamedTuple):
    timezone: str
    #: Epoch seconds, and the same on the wall clock of the zone.
    ticks: List[Tuple[float, datetime]]
    notes: List[str]


def show_next(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    is_cron = any(char.isspace() or char in "*@" for char in args.what.strip())
    found = _of_cron(args.what, args.timezone, args.count) if is_cron else _of_job(args)
    if console.json:
        ticks = [iso(epoch) for epoch, _ in found.ticks]
        console.document({"next": ticks, "timezone": found.timezone, "notes": found.notes})
        return None
    for note in found.notes:
        console.note(note)
    now = time.time()
    rows = [
        (local(epoch), until(epoch - now), moment.strftime("%a %Y-%m-%d %H:%M:%S %Z")) for epoch, moment in found.ticks
    ]
    console.table(("Local time", "In", visible(found.timezone)), rows)
    return None


def _of_cron(text: str, zone: Optional[str], number: int) -> _Ticks:
    from ..core.when.schedule import Schedule

    schedule = Schedule.parse(text, zone)
    return _Ticks(schedule.timezone, [(moment.timestamp(), moment) for moment in schedule.next(number)], [])


def _of_job(args: Arguments) -> _Ticks:
    if not state_dir_of(args).existing().has_state():
        raise NotFound(f"there is no job '{args.what}': nothing is recorded yet. Cron text has spaces: '*/15 * * * *'")
    with reading(args) as state:
        job, paused = state.job(args.what), state.is_paused()
    notes = [f"job '{job.job_id}' is {job.status}{f': {job.error}' if job.error else ''}"] * (job.status != "ACTIVE")
    if paused:
        notes.append("everything is paused: nothing fires until 'blazed resume'")
    return _Ticks(job.timezone, _ticks_of(job, args.count), notes)


def _ticks_of(job: JobRecord, number: int) -> List[Tuple[float, datetime]]:
    from datetime import datetime

    from ..core.when.schedule import Schedule
    from ..core.when.zone import zone_of

    if job.next is None:
        return []
    zone = zone_of(job.timezone)
    found = [job.next]
    if job.interval is not None:
        for tick in Schedule.parse(job.interval, job.timezone).instants(int(job.next)):
            if len(found) >= number or (job.end is not None and tick > job.end):
                break
            found.append(float(tick))
    return [(tick, datetime.fromtimestamp(tick, zone.info)) for tick in found[:number]]
