"""``blazed status``: who is at work, and how each sequence stands."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional

from ..core.ground.errors import BlazeError, NotFound
from ..core.ground.names import did_you_mean
from ..core.ground.status import JobStatus, RunStatus
from ..daemon.state_dir import StateDir
from .commands import Arguments, Commands
from .console import Console, state_cell
from .moments import ago, beside, duration, iso, local, until
from .numbers import seconds
from .state import living_instances, reading_if_any, state_dir_of
from .text import clipped, counted, indented, visible

if TYPE_CHECKING:
    from ..core.remember.instances import InstanceInfo
    from ..core.remember.records import JobRecord, RunRecord, SequenceSummary
    from ..core.state import StateManager
    from ..core.status_report import SequenceStatus
    from ..daemon.owner import Owner

COLUMNS = ("Seq ID", "Last Run", "Next Run", "Status", "Total Execution Time")
#: Runs that are told of one sequence, with and without ``--verbose``.
RUNS, RUNS_VERBOSE = 5, 20
#: Seconds between two looks of ``--watch``.
WATCH = 2.0
#: Seconds that the daemon gets to tell how it is.
ANSWER = 2.0
CLEAR = "\x1b[H\x1b[2J"


def register(commands: Commands) -> None:
    """Add ``status``."""
    parser = commands.add(
        "status",
        show_status,
        "show who is at work and how each sequence stands",
        example="blazed status --sequence etl_pipeline --verbose",
    )
    parser.add_argument("--sequence", metavar="ID", help="one sequence in detail")
    parser.add_argument("--verbose", "-v", action="store_true", help="jobs, latest runs, lateness and versions, too")
    parser.add_argument(
        "--watch",
        nargs="?",
        const=WATCH,
        type=seconds,
        metavar="SECONDS",
        help=f"show it again and again (default: every {WATCH:g} s)",
    )


def show_status(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    if args.watch is None:
        _show_once(args, console)
        return None
    while True:
        if console.looks.cursor and not console.json:
            console.out.write(CLEAR)
        _show_once(args, console)
        console.out.flush()
        time.sleep(args.watch)


def _show_once(args: Arguments, console: Console) -> None:
    with reading_if_any(args, console) as state:
        found = observe(state_dir_of(args), state)
        if args.sequence is not None:
            _show_sequence(state, found, args, console)
        elif console.json:
            answer = console.document if args.watch is None else console.item
            answer({**found.to_dict(), **(_examined(state, found) if args.verbose else {})})
        else:
            _show_all(state, found, args, console)


class Observed(NamedTuple):
    """The state at one instant."""

    state_dir: StateDir
    #: Epoch seconds.
    at: float
    instances: List[InstanceInfo]
    #: A daemon that holds the lock and does not serve yet.
    starting: Optional[Owner]
    paused: bool
    #: Jobs and open runs by state.
    jobs: Dict[str, int]
    runs: Dict[str, int]
    sequences: List[SequenceStatus]

    @property
    def next_tick(self) -> Optional[float]:
        """The next tick of all jobs."""
        return min((line.next_run for line in self.sequences if line.next_run is not None), default=None)

    def to_dict(self) -> Dict[str, Any]:
        """As JSON-able data; times are UTC, ISO 8601."""
        return {
            "state_dir": str(self.state_dir.path),
            "at": iso(self.at),
            "instances": [
                {"instance": one.instance_id, "pid": one.pid, "started_at": iso(one.started_at)}
                for one in self.instances
            ],
            "starting": None if self.starting is None else {"pid": self.starting.pid},
            "paused": self.paused,
            "jobs": self.jobs,
            "runs": self.runs,
            "next_tick": iso(self.next_tick),
            "sequences": [_line_data(line) for line in self.sequences],
        }


def observe(state_dir: StateDir, state: Optional[StateManager]) -> Observed:
    """What the state file tells at this instant; ``state`` is None where there is none yet."""
    from ..core.status_report import lines_of
    from ..daemon.owner import owner_of

    instances = living_instances(state_dir)
    owner = owner_of(state_dir.path)
    starting = owner if owner is not None and owner.name is None else None
    if state is None:
        jobs = dict.fromkeys((status.value for status in JobStatus), 0)
        runs = {RunStatus.PENDING.value: 0, RunStatus.RUNNING.value: 0}
        return Observed(state_dir, time.time(), instances, starting, False, jobs, runs, [])
    overview = state.overview()
    jobs = {status.value: number for status, number in overview.jobs.items()}
    runs = {status.value: number for status, number in state.counts().items()}
    return Observed(state_dir, time.time(), instances, starting, state.is_paused(), jobs, runs, lines_of(overview))


def _line_data(line: SequenceStatus) -> Dict[str, Any]:
    return {
        "seq_id": line.seq_id,
        "status": line.status,
        "last_run": iso(line.last_run),
        "last_run_id": line.last_run_id,
        "last_seconds": line.last_seconds,
        "next_run": iso(line.next_run),
        "jobs": line.jobs,
    }


# ---------------------------------------------------------------------- all sequences


def _show_all(state: Optional[StateManager], found: Observed, args: Arguments, console: Console) -> None:
    _show_head(found, console)
    console.print("")
    rows = [
        (
            line.seq_id,
            beside(line.last_run, found.at, "Never run"),
            _due(line.next_run, found.at),
            state_cell(line.status),
            f"{line.last_seconds:.2f}s",
        )
        for line in found.sequences
    ]
    console.table(COLUMNS, rows)
    if args.verbose and state is not None:
        _show_examined(_examined(state, found), console)


def _show_head(found: Observed, console: Console) -> None:
    for one in found.instances:
        console.print(f"Blaze {visible(one.instance_id)} - PID {one.pid} - since {beside(one.started_at, found.at)}")
    if found.starting is not None:
        console.print(f"A daemon is starting (PID {found.starting.pid}) and does not serve yet")
    elif not found.instances:
        console.print(f"No scheduler is running on {visible(found.state_dir.path)}")
    number = sum(found.jobs.values())
    others = [f"{many} {status}" for status, many in found.jobs.items() if many and status != "ACTIVE"]
    console.print(
        f"There {'is' if number == 1 else 'are'} {counted(number, 'job')} in the state"
        + (f" ({', '.join(others)})" if others else "")
    )
    tick = found.next_tick
    console.print(f"The next tick is {_due(tick, found.at)}" if tick is not None else "No tick is due")
    if found.paused:
        console.print(console.paint("Paused: no tick and no step starts until 'blazed resume'", "waiting"))
    running = found.runs.get("RUNNING", 0) + found.runs.get("PENDING", 0)
    if running:
        what = "going on" if found.instances else "open, for the next start to go on with"
        console.print(f"{counted(running, 'run is', 'runs are')} {what}")


def _due(epoch: Optional[float], now: float) -> str:
    return "-" if epoch is None else f"{local(epoch)} {until(epoch - now)}"


def _examined(state: Optional[StateManager], found: Observed) -> Dict[str, Any]:
    """What tells whether all is well."""
    if state is None:
        return {}
    from ..core.status_report import summary_of
    from .versions import versions

    lateness = summary_of(state.lateness())
    size = state.size()
    failed = state.runs(status="FAILED", limit=1).items
    return {
        "lateness": None if lateness is None else dict(zip(("p50", "p99", "max"), lateness)),
        "missed": state.missed(),
        "health": _health(found),
        "db_bytes": size.db,
        "wal_bytes": size.wal,
        "last_error": {"run_id": failed[0].run_id, "error": failed[0].error} if failed else None,
        "versions": versions(),
    }


def _health(found: Observed) -> Optional[Dict[str, Any]]:
    """What the daemon tells of itself; None if there is none that answers."""
    from ..daemon.client import Client
    from ..daemon.owner import owner_of

    if not found.instances or owner_of(found.state_dir.path) is None:
        return None
    try:
        with Client(found.state_dir.path, timeout=ANSWER) as client:
            told = client.call("health")
    except BlazeError:
        return None
    return {name: told[name] for name in ("ok", "problems", "restarts", "leaked_threads")}


def _show_examined(told: Dict[str, Any], console: Console) -> None:
    late, error, health = told["lateness"], told["last_error"], told["health"]
    lateness = None if late is None else ", ".join(f"{name} {duration(value)}" for name, value in late.items())
    console.print("")
    console.fields(
        {
            "Health": None if health is None else visible("; ".join(health["problems"])) or "all is well",
            "Lateness of ticks": lateness,
            "Missed ticks": told["missed"] or None,
            "State file": f"{told['db_bytes']:,} bytes, log {told['wal_bytes']:,} bytes",
            "Last failure": f"{error['run_id']}  {clipped(_first_line(error['error']), 100)}" if error else None,
            "Versions": ", ".join(f"{name} {version}" for name, version in told["versions"].items()),
        }
    )


def _first_line(text: Optional[str]) -> str:
    return (text or "").split("\n", 1)[0]


# ---------------------------------------------------------------------- one sequence


def _show_sequence(state: Optional[StateManager], found: Observed, args: Arguments, console: Console) -> None:
    line = next((line for line in found.sequences if line.seq_id == args.sequence), None)
    if line is None or state is None:
        near = did_you_mean(args.sequence[:128], [line.seq_id for line in found.sequences])
        raise NotFound(f"sequence {args.sequence!r:.140} has neither runs nor jobs{near}")
    limit = RUNS_VERBOSE if args.verbose else RUNS
    runs = state.runs(seq_id=line.seq_id, limit=limit).items
    jobs = state.jobs(seq_id=line.seq_id, limit=limit).items
    summary = state.sequence(line.seq_id) if runs else None
    if console.json:
        answer = console.document if args.watch is None else console.item
        answer(
            {
                **_line_data(line),
                "at": iso(found.at),
                "summary": summary.to_dict() if summary else None,
                "jobs": [job.to_dict() for job in jobs],
                "runs": [run.to_dict() for run in runs],
            }
        )
        return
    _show_head(found, console)
    console.print("")
    console.fields(_of_sequence(line, summary, found.at))
    _show_jobs(jobs, found.at, console)
    _show_runs(runs, found.at, args.verbose, console)


def _of_sequence(line: SequenceStatus, summary: Optional[SequenceSummary], now: float) -> Dict[str, Any]:
    counts = {} if summary is None else summary.counts
    return {
        "Sequence": line.seq_id,
        "Status": state_cell(line.status),
        "Last run": beside(line.last_run, now, "Never run"),
        "Next run": _due(line.next_run, now),
        "Last took": None if line.last_run is None else duration(line.last_seconds),
        "On average": duration(summary.mean_seconds) if summary and summary.mean_seconds is not None else None,
        "Runs": ", ".join(f"{number:,} {status}" for status, number in counts.items() if number) or None,
    }


def _show_jobs(jobs: List[JobRecord], now: float, console: Console) -> None:
    if jobs:
        console.heading("Jobs")
        rows = [(job.job_id, job.interval or "once", _due(job.next, now), state_cell(job.status)) for job in jobs]
        console.table(("Job ID", "Schedule", "Next", "Status"), rows)


def _show_runs(runs: List[RunRecord], now: float, verbose: bool, console: Console) -> None:
    if not runs:
        return
    console.heading("Latest runs")
    rows = [
        (run.run_id, f"{local(run.created)} {ago(now - run.created)}", state_cell(run.status), duration(run.seconds))
        for run in runs
    ]
    console.table(("Run", "Created", "Status", "Took"), rows)
    failed = next((run for run in runs if run.error), None)
    if verbose and failed is not None:
        console.heading(f"Error of {failed.run_id}")
        console.print(*indented(failed.error or ""))
