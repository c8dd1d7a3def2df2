"""``blazed start``, ``stop``, ``restart`` and ``reload``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Set

from ..core.ground.errors import NoDaemon, Refused
from .commands import Arguments, Commands, Parser
from .console import Console
from .exits import DONE, INTERRUPTED
from .numbers import patience, workers
from .reaching import daemon_of
from .state import state_dir_of
from .text import counted

if TYPE_CHECKING:
    from pathlib import Path

    from ..daemon.owner import Owner
    from ..daemon.process import Settings

#: Seconds that a daemon gets to stop, unless told otherwise.
STOPPING = 60.0
#: Seconds between two looks whether it has.
LOOK = 0.02

#: The flags that are settings of a daemon, in the order of ``Settings``.
SETTINGS = ("definition", "name", "workers", "loop_interval", "grace")


def register(commands: Commands) -> None:
    """Add the commands."""
    start = commands.add(
        "start",
        start_daemon,
        "start the daemon",
        example="blazed start --name my-etl --workers 8 --definition ./my_definition.py --detach",
        description="In the foreground, until Ctrl-C (twice: at once); with --detach in the background.",
    )
    _add_settings(start)
    start.add_argument("--detach", "-d", action="store_true", help="in the background; returns when it serves")
    stop = commands.add("stop", stop_daemon, "stop the daemon; jobs and history stay", example="blazed stop --drain")
    how = stop.add_mutually_exclusive_group()
    how.add_argument("--shutdown", action="store_true", help="clear jobs and history, too: they go to archive/")
    how.add_argument("--drain", action="store_true", help="let the runs at hand end first, however long they take")
    stop.add_argument("--yes", "-y", action="store_true", help="do not ask before --shutdown")
    stop.add_argument(
        "--timeout", type=patience, metavar="SECONDS", help="wait at most so long (default: 60; --drain: any time)"
    )
    restart = commands.add(
        "restart",
        restart_daemon,
        "stop the daemon and start it again in the background",
        example="blazed restart --workers 16",
        description="What is not given stays as it was. Runs at hand are resumed.",
    )
    _add_settings(restart)
    commands.add("reload", reload_daemon, "let the daemon load its definition again", example="blazed reload")


def _add_settings(parser: Parser) -> None:
    parser.add_argument("--name", metavar="NAME", help="what it is called; a unique tail is added (default: blaze)")
    parser.add_argument("--workers", type=workers, metavar="N", help="steps at a time (default: 8)")
    parser.add_argument(
        "--definition", metavar="FILE", help="file or dotted module with the sequences (default: ./definition.py)"
    )
    parser.add_argument(
        "--loop-interval", type=patience, metavar="SECONDS", help="between looks at other processes (default: 5)"
    )
    parser.add_argument("--grace", type=patience, metavar="SECONDS", help="for running blocks at a stop (default: 10)")


# ---------------------------------------------------------------------- start


def start_daemon(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    from ..daemon.owner import Owned, owner_of

    directory = state_dir_of(args).path
    owner = owner_of(directory)
    if owner is None:
        settings = _settings(args, {})
        try:
            return _detach(settings, console) if args.detach else _run(settings, console)
        except Owned as owned:
            owner = owned.owner
        except Refused:
            owner = owner_of(directory)  # another one was quicker
            if owner is None:
                raise
    _tell_running(owner, directory, console)
    return None


def _settings(args: Arguments, before: Mapping[str, Any]) -> Settings:
    """What is asked for, else what was ``before``, else the default."""
    from ..daemon.process import Settings, absolute_definition

    found: Dict[str, Any] = {name: before[name] for name in SETTINGS if name in before}
    found.update({name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None})
    if args.definition is not None or "definition" not in found:
        found["definition"] = absolute_definition(args.definition)
    return Settings(state_dir_of(args).path, **found)


def _run(settings: Settings, console: Console) -> int:
    from ..daemon.process import run_daemon
    from ..daemon.readiness import Readiness

    run_daemon(settings, Readiness(when_serving=console.item if console.json else None))
    return DONE


def _detach(settings: Settings, console: Console) -> int:
    from ..daemon.detaching import start_detached

    try:
        told = start_detached(settings)
    except KeyboardInterrupt:
        console.note("the daemon goes on starting; 'blazed status' tells when it serves")
        return INTERRUPTED
    if console.json:
        console.document(told)
    else:
        for warning in told["warnings"]:
            console.warn(warning)
        console.note(f"{told['instance']} serves {settings.state_dir} (PID {told['pid']})")
    return DONE


def _tell_running(owner: Owner, directory: Path, console: Console) -> None:
    if console.json:
        console.document({"instance": owner.name, "pid": owner.pid, "state_dir": str(directory), "already": True})
    else:
        console.note(f"{owner} serves {directory} already; 'blazed restart' starts it anew")


# ---------------------------------------------------------------------- stop


def stop_daemon(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    from ..daemon.owner import owner_of
    from ..daemon.service import DRAIN, HARD, SOFT

    directory = state_dir_of(args).path
    owner = owner_of(directory)
    if args.shutdown and not _agreed(args, console):
        console.note("nothing was stopped or cleared")
        return None
    archives = _archives(directory)
    if owner is not None:
        _stop(args, HARD if args.shutdown else DRAIN if args.drain else SOFT)
    if args.shutdown and state_dir_of(args).has_state():  # it was not the daemon, or not this stop, that ended it
        _clear(directory)
    moved = sorted(_archives(directory) - archives)
    if console.json:
        told = {"instance": owner.name, "pid": owner.pid} if owner else {"instance": None, "pid": None}
        console.document({**told, "stopped": owner is not None, "archived": moved})
        return None
    console.note(f"no daemon serves {directory}" if owner is None else f"{owner} has stopped")
    for name in moved:
        archive = directory / "archive" / name
        console.note(f"jobs and history are in {archive}; to get them back, while no daemon runs:")
        console.note(f"  mv {archive}/* {directory}/")
    return None


def _agreed(args: Arguments, console: Console) -> bool:
    """Tell what ``--shutdown`` clears, and ask whether to, where there is somebody to ask."""
    directory = state_dir_of(args)
    if not directory.has_state():
        return True
    from ..core.state import StateManager

    with StateManager(directory.path) as state:
        jobs, sequences, size = sum(state.job_counts().values()), state.sequences(), state.size()
    what = f"{counted(jobs, 'job')}, the history of {counted(len(sequences), 'sequence')}"
    console.note(f"this clears {what} ({(size.db + size.wal) / 2**20:.1f} MiB) in {directory.path}:")
    names = [sequence.seq_id for sequence in sequences]
    console.note("  " + ", ".join(names[:10]) + (", ..." if len(names) > 10 else "" if names else "nothing has run"))
    if args.yes or console.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    console.err.write("clear them? [y/N] ")
    console.err.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _stop(args: Arguments, how: str) -> None:
    """Ask the daemon to stop, and wait until it has. One that somebody else has stopped is waited for, too."""
    from ..daemon.owner import owner_of

    try:
        with daemon_of(args) as daemon:
            pid = daemon.client.call("stop", how=how)["pid"]
    except NoDaemon:
        owner = owner_of(state_dir_of(args).path)
        if owner is None:
            return
        if owner.name is None:
            raise Refused(
                f"{owner} answers nobody yet: wait until it serves, or end it with 'kill {owner.pid}'"
            ) from None
        pid = owner.pid
    limit = args.timeout if args.timeout is not None else None if args.drain else STOPPING
    end = None if limit is None else time.monotonic() + limit
    while True:
        owner = owner_of(state_dir_of(args).path)
        if owner is None or owner.pid != pid:
            return
        if end is not None and time.monotonic() >= end:
            raise TimeoutError(f"{owner} has not stopped after {limit:g} s; it goes on stopping")
        time.sleep(LOOK)


def _clear(directory: Path) -> None:
    from ..core.remember.archive import archive_state
    from ..daemon.owner import OwnerLock

    lock = OwnerLock(directory)
    try:
        archive_state(directory)
    finally:
        lock.release()


def _archives(directory: Path) -> Set[str]:
    try:
        return {path.name for path in (directory / "archive").iterdir()}
    except OSError:
        return set()


# ---------------------------------------------------------------------- restart and reload


def restart_daemon(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    from ..daemon.definition import load_definition
    from ..daemon.owner import owner_of
    from ..daemon.service import SOFT

    before: Mapping[str, Any] = {}
    args.drain, args.timeout = False, None
    if owner_of(state_dir_of(args).path) is not None:
        with daemon_of(args) as daemon:
            found = daemon.client.call("ping")["settings"]
        if found is None:
            raise Refused("a program that embeds Blaze serves this state directory: restart that program")
        before = found
        settings = _settings(args, before)
        load_definition(settings.definition)  # before anything is stopped: one that fails leaves all as it is
        _stop(args, SOFT)
    else:
        console.note("no daemon was running")
        settings = _settings(args, before)
    return _detach(settings, console)


def reload_daemon(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    with daemon_of(args) as daemon:
        told = daemon.client.request("reload", {}, None)
    if console.json:
        console.document(told)
        return None
    changes: List[str] = [
        f"{word} {', '.join(told[name])}" for name, word in (("added", "new:"), ("removed", "gone:")) if told[name]
    ]
    more = f" ({'; '.join(changes)})" if changes else ""
    console.note(f"the definition was loaded again: {counted(len(told['sequences']), 'sequence')}{more}")
    return None
