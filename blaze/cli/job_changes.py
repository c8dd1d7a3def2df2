"""``blazed jobs submit``, ``remove`` and ``clear``, ``pause`` and ``resume``: with a daemon and without."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, List, Optional

from ..core.ground.errors import Fault, ValidationError
from .commands import Arguments, Commands
from .console import Console
from .moments import beside
from .reaching import daemon_of, scheduler_of
from .state import state_dir_of
from .text import counted

if TYPE_CHECKING:
    from ..core.remember.records import JobRecord

LATER = "no daemon runs: what is stored is seen to when one is started"


def register(commands: Commands) -> None:
    """Add the commands."""
    jobs = commands.group("jobs", "list, submit and remove jobs")
    submit = jobs.add(
        "submit",
        submit_jobs,
        "submit the jobs of a file, all or none",
        example="blazed jobs submit --job-file jobs.json",
        description=(
            "The file is a list of JSON objects with the fields of SubmitSequenceData; dates are ISO 8601 texts.\n"
            "A job that is submitted again replaces the one with its job_id. Without a daemon, the jobs are checked\n"
            "against what the last daemon served, and fired after the next start."
        ),
    )
    submit.add_argument("--job-file", required=True, metavar="FILE", help="the file, in UTF-8, at most 16 MiB")
    remove = jobs.add(
        "remove", remove_job, "forget a job; its history stays", example="blazed jobs remove etl_pipeline"
    )
    remove.add_argument("job", metavar="JOB", help="id of the job")
    jobs.add("clear", clear_jobs, "forget all jobs; history stays", example="blazed jobs clear")
    pause = commands.add("pause", pause_jobs, "hold a job back, or everything", example="blazed pause etl_pipeline")
    pause.add_argument("job", nargs="?", metavar="JOB", help="id of the job (default: start nothing further at all)")
    resume = commands.add("resume", resume_jobs, "go on after a pause", example="blazed resume etl_pipeline")
    resume.add_argument("job", nargs="?", metavar="JOB", help="id of the job (default: what 'pause' held back)")


def submit_jobs(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    from ..daemon.owner import owner_of
    from .job_file import read_job_file
    from .json_file import name_of

    given = read_job_file(args.job_file)
    directory = state_dir_of(args).path
    try:
        records = _submit_offline(args, given, console) if owner_of(directory) is None else _submit(args, given)
    except ValidationError as error:
        name = name_of(args.job_file)
        raise ValidationError([Fault(f"{name}: {fault.where}", fault.what) for fault in error.errors], name) from None
    _tell(records, console)
    return None


def _submit(args: Arguments, given: List[Any]) -> List[JobRecord]:
    with daemon_of(args) as daemon:
        stored = daemon.client.request("jobs.submit", {"submissions": given}, None)
        return daemon.state.jobs_by_id([job["job_id"] for job in stored])


def _submit_offline(args: Arguments, given: List[Any], console: Console) -> List[JobRecord]:
    from ..daemon.offline import submit_offline

    records = submit_offline(state_dir_of(args).existing().path, given)
    console.note(LATER)
    return records


def _tell(records: List[JobRecord], console: Console) -> None:
    if console.json:
        console.document({"jobs": [record.to_dict() for record in records]})
        return
    now = time.time()
    console.table(
        ("Job ID", "Seq ID", "Schedule", "Next Tick"),
        [(job.job_id, job.seq_id, job.interval or "once", beside(job.next, now)) for job in records],
    )
    console.note(f"{counted(len(records), 'job')} submitted")


def remove_job(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    with scheduler_of(args) as scheduler:
        scheduler.remove_job(args.job)
    _done({"job_id": args.job, "removed": 1}, f"job '{args.job}' is removed; its history stays", console)
    return None


def clear_jobs(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    with scheduler_of(args) as scheduler:
        number = scheduler.clear_jobs()
    _done({"removed": number}, f"{counted(number, 'job')} removed; history stays", console)
    return None


def pause_jobs(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    with scheduler_of(args) as scheduler:
        if args.job is None:
            scheduler.pause()
            _done({"paused": True}, "paused: nothing further starts until 'blazed resume'", console)
        else:
            changed = scheduler.pause_job(args.job)
            was = "" if changed else " already"
            _done({"job_id": args.job, "changed": changed}, f"job '{args.job}' is paused{was}", console)
    return None


def resume_jobs(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    with scheduler_of(args) as scheduler:
        if args.job is None:
            scheduler.resume()
            _done({"paused": False}, "resumed; ticks that passed meanwhile are skipped", console)
        else:
            changed = scheduler.resume_job(args.job)
            text = f"job '{args.job}' is resumed" if changed else f"job '{args.job}' was not paused"
            _done({"job_id": args.job, "changed": changed}, text, console)
    return None


def _done(data: Any, text: str, console: Console) -> None:
    if console.json:
        console.document(data)
    else:
        console.note(text)
