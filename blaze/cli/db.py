"""``blazed db``: the state file itself."""

from __future__ import annotations

from typing import Any, Dict, Optional

from .commands import Arguments, Commands
from .console import Console
from .exits import DONE, FAILED
from .numbers import days, positive
from .state import living_instances, reading, state_dir_of
from .text import counted, visible


def register(commands: Commands) -> None:
    """Add the commands of ``db``."""
    db = commands.group("db", "look after the state file")
    db.add("info", show_info, "tell what the state file holds and takes", example="blazed db info --json")
    parser = db.add(
        "backup",
        back_up,
        "copy the state to a new directory, while schedulers go on",
        example="blazed db backup ./backup-of-today",
        description="To go back to it, stop every scheduler and put the directory in the place of the other.",
    )
    parser.add_argument("target", metavar="DIR", help="a new directory")
    parser = db.add(
        "prune", prune, "delete history beyond a limit", example="blazed db prune --keep-days 7 --keep-runs 1000"
    )
    parser.add_argument("--keep-runs", type=positive, metavar="N", help="newest runs of each sequence (default: 10000)")
    parser.add_argument("--keep-days", type=days, metavar="DAYS", help="days since a run ended (default: 30)")
    db.add("check", check, "read all of the state file, and tell what is wrong with it", example="blazed db check")


def show_info(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    directory = state_dir_of(args)
    with reading(args) as state:
        size = state.size()
        told: Dict[str, Any] = {
            "path": str(directory.database),
            "db_bytes": size.db,
            "wal_bytes": size.wal,
            "schema_version": state.schema_version(),
            "sequences": len(state.sequences()),
            "jobs": {status.value: number for status, number in state.job_counts().items()},
            "open_runs": {status.value: number for status, number in state.counts().items()},
            "instances": [one.instance_id for one in living_instances(directory)],
        }
    if console.json:
        console.document(told)
        return None
    console.fields(
        {
            "State file": told["path"],
            "Size": f"{size.db:,} bytes",
            "Its log": f"{size.wal:,} bytes",
            "Version": told["schema_version"],
            "Sequences": told["sequences"],
            "Jobs": ", ".join(f"{number} {status}" for status, number in told["jobs"].items() if number) or "none",
            "Open runs": sum(told["open_runs"].values()),
            "At work": ", ".join(told["instances"]) or "nobody",
        }
    )
    return None


def back_up(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    from pathlib import Path

    from ..core.remember import upkeep

    made = upkeep.back_up(state_dir_of(args).existing().path, Path(args.target).absolute())
    if console.json:
        console.document({"backup": str(made), "bytes": made.stat().st_size})
    else:
        console.print(f"{visible(made)}: {made.stat().st_size:,} bytes, checked")
    return None


def prune(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    from ..core.remember.retention import Retention
    from ..core.remember.upkeep import prune_now

    given = {"runs": args.keep_runs, "days": args.keep_days}
    retention = Retention(**{name: value for name, value in given.items() if value is not None})
    found = prune_now(state_dir_of(args).existing().path, retention)
    if console.json:
        console.document({"runs": found.runs, "files": found.files})
    else:
        console.print(f"{counted(found.runs, 'run')} deleted" + (f", {found.files} stray files" if found.files else ""))
    return None


def check(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    with reading(args) as state:
        state.schema_version()  # that it can be opened, which has its own exit status
        wrong = state.integrity()
    path = state_dir_of(args).database
    if console.json:
        console.document({"path": str(path), "sound": not wrong, "faults": wrong})
    elif not wrong:
        console.print(f"{visible(path)} is sound")
    else:
        console.print(*(visible(line) for line in wrong))
    if wrong:
        console.error(f"{path} is damaged: stop every scheduler, keep the file, and put a backup in its place")
    return FAILED if wrong else DONE
