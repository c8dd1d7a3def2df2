"""``blazed doctor``: what is wrong with this installation or state directory, and what to do about it."""

from __future__ import annotations

import os
import stat
import sys
import time
from typing import TYPE_CHECKING, FrozenSet, Iterator, List, NamedTuple, Optional, Tuple

from ..core.ground.errors import BlazeError, StateError
from ..daemon.state_dir import StateDir
from .commands import Arguments, Commands
from .console import Console
from .definitions import add_definition_flag, has_definition, load
from .exits import DONE, FAILED
from .moments import duration, local
from .state import state_dir_of
from .text import counted, visible_lines
from .versions import versions

if TYPE_CHECKING:
    from pathlib import Path

    from ..core.state import StateManager

OK, WARNING, WRONG = "ok", "warning", "wrong"
STYLES = {OK: "good", WARNING: "waiting", WRONG: "bad"}
#: Bytes: a write-ahead log that is larger was not folded into the file for long.
LARGE_LOG = 64 * 1024 * 1024
#: Bytes of a file that is read through at once; others with ``blazed db check``.
SMALL = 256 * 1024 * 1024
LITTLE_ROOM = 200 * 1024 * 1024
#: Seconds by which a tick has to be overdue to be told.
OVERDUE = 60.0
#: Open runs that are looked at.
OPEN_RUNS = 1000
#: The first SQLite whose every statement used here is known.
OLDEST_SQLITE = (3, 24, 0)


class Finding(NamedTuple):
    """What one look found."""

    about: str
    #: ``ok``, ``warning`` or ``wrong``.
    state: str
    what: str


def register(commands: Commands) -> None:
    """Add ``doctor``."""
    parser = commands.add(
        "doctor",
        examine,
        "tell what is wrong with the installation or the state, and what to do",
        example="blazed doctor",
        description="The exit status is 1 if something is wrong.",
    )
    add_definition_flag(parser)


def examine(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    directory = state_dir_of(args).existing()
    found = [*_installation(), *_definition(args, console), *_directory(directory), *_state(directory)]
    if console.json:
        console.document(
            {"ok": _is_ok(found), "state_dir": str(directory.path), "findings": [one._asdict() for one in found]}
        )
    else:
        for one in found:
            first, *more = visible_lines(one.what).split("\n")
            console.print(
                f"{console.paint(one.state.ljust(7), STYLES[one.state])}  {one.about}: {first}",
                *(f"         {line}" for line in more),
            )
    return DONE if _is_ok(found) else FAILED


def _is_ok(found: List[Finding]) -> bool:
    return all(one.state != WRONG for one in found)


# ---------------------------------------------------------------------- the installation


def _installation() -> Iterator[Finding]:
    import sqlite3

    told = ", ".join(f"{name} {version}" for name, version in versions().items())
    yield Finding("versions", OK, told)
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        wanted = ".".join(map(str, OLDEST_SQLITE))
        yield Finding("sqlite", WRONG, f"version {sqlite3.sqlite_version} is too old; {wanted} is needed")
    if versions()["croniter"] == "not installed":
        yield Finding("croniter", WRONG, "it is not installed, and schedules need it: pip install croniter")
    from ..core.when.zone import zone_of

    try:
        yield Finding("time zone", OK, f"the machine's is {zone_of(None).name}")
        zone_of("Europe/Berlin")
    except BlazeError as error:
        yield Finding("time zone", WARNING, f"{error}\npip install tzdata brings all zones")


def _definition(args: Arguments, console: Console) -> Iterator[Finding]:
    if not has_definition(args):
        return
    from .sequences import faults_of

    try:
        definition = load(args.definition, console)
    except BlazeError as error:
        yield Finding("definition", WRONG, str(error))
        return
    faults = [fault for sequence in definition.sequences.values() for fault in faults_of(sequence)]
    if faults:
        yield Finding("definition", WRONG, "\n".join(map(str, faults)))
    else:
        yield Finding("definition", OK, f"{definition.path}, {counted(len(definition.sequences), 'sequence')}")


# ---------------------------------------------------------------------- the directory


def _directory(directory: StateDir) -> Iterator[Finding]:
    import shutil

    from ..core.remember.database import NETWORK_FILE_SYSTEMS, file_system_of

    path = directory.path
    if not path.is_dir():
        yield Finding("state directory", OK, f"{path} is not there yet; whatever runs first makes it")
        return
    yield from _permissions(path)
    kind = file_system_of(path)
    if kind in NETWORK_FILE_SYSTEMS:
        what = f"it is a network file system ({kind}), where locks can't be relied on: move {path} to a local disk"
        yield Finding("file system", WRONG, what)
    elif kind is not None:
        yield Finding("file system", OK, kind)
    free = shutil.disk_usage(path).free
    if free < LITTLE_ROOM:
        yield Finding("room", WARNING, f"{free / 1e6:,.0f} MB are free on the disk of {path}")


def _permissions(path: Path) -> Iterator[Finding]:
    info = path.stat()
    if hasattr(os, "getuid") and info.st_uid not in (os.getuid(), 0):
        yield Finding("state directory", WRONG, f"{path} belongs to another user (uid {info.st_uid})")
    elif info.st_mode & 0o022:
        yield Finding("state directory", WRONG, f"others may write to {path}: run chmod go-w {path}")
    elif info.st_mode & 0o055:
        yield Finding("state directory", WARNING, f"others may look into {path}: run chmod go-rwx {path}")
    elif not os.access(path, os.W_OK | os.X_OK):
        yield Finding("state directory", WRONG, f"{path} is not writable by you: run chmod u+rwx {path}")
    else:
        yield Finding("state directory", OK, f"{path}, mode {stat.S_IMODE(info.st_mode):04o}")
    for name in ("blaze.db", "daemon.tcp"):
        file = path / name
        if file.exists() and file.stat().st_mode & 0o077 and sys.platform != "win32":
            yield Finding(name, WARNING, f"others may read it: run chmod 600 {file}")


# ---------------------------------------------------------------------- the state


def _state(directory: StateDir) -> Iterator[Finding]:
    from ..core.remember.instances import list_instances
    from ..core.state import StateManager

    if not directory.has_state():
        log = directory.database.with_name(directory.database.name + "-wal")
        if log.exists():
            what = f"{directory.database} is gone, but {log.name} is there: put the file back, or move the log away"
            yield Finding("state file", WRONG, what)
        return
    instances = list_instances(directory.path / "instances")
    alive = frozenset(one.instance_id for one in instances if one.alive)
    dead = [one.instance_id for one in instances if not one.alive]
    told = ", ".join(f"{one.instance_id} (PID {one.pid})" for one in instances if one.alive)
    yield Finding("schedulers", OK, told or "none is at work")
    if dead:
        what = f"{', '.join(dead)} died; the next start, or another one at work, takes over what it left"
        yield Finding("dead schedulers", OK if alive else WARNING, what)
    with StateManager(directory.path) as state:
        try:
            for look in (_file, _runs, _jobs):
                yield from look(state, alive)
        except StateError as error:
            yield Finding("state file", WRONG, str(error))
    socket = directory.path / "daemon.sock"
    if socket.exists() and not alive:
        yield Finding("socket", OK, f"{socket.name} was left over by a daemon that died; the next start replaces it")


def _file(state: StateManager, alive: FrozenSet[str]) -> Iterator[Finding]:
    size = state.size()
    state.schema_version()
    if size.db > SMALL:
        yield Finding("state file", OK, f"{size.db:,} bytes; 'blazed db check' reads all of it")
    else:
        wrong = state.integrity()
        if wrong:
            advice = "stop every scheduler, keep the file, and put a backup in its place"
            yield Finding("state file", WRONG, "\n".join([*wrong[:10], advice]))
        else:
            yield Finding("state file", OK, f"{size.db:,} bytes, sound")
    if size.wal > LARGE_LOG:
        who = "something reads for very long" if alive else "'blazed db prune' folds it in"
        yield Finding("write-ahead log", WARNING, f"{size.wal:,} bytes, and not folded into the file: {who}")
    if state.is_paused():
        yield Finding("pause", WARNING, "everything is paused: 'blazed resume' lets it go on")


def _runs(state: StateManager, alive: FrozenSet[str]) -> Iterator[Finding]:
    page = state.runs(status=("PENDING", "RUNNING"), limit=OPEN_RUNS)
    now = time.time()
    left = [run for run in page if run.owner not in alive and run.reason != "queued"]
    late = [run for run in page if run.deadline is not None and run.deadline + OVERDUE < now and run not in left]
    if left:
        names = ", ".join(run.run_id for run in left[:5])
        yield Finding(
            "runs", WARNING, f"nobody works on {counted(len(left), 'open run')} ({names}): blazed start resumes"
        )
    if late:
        names = ", ".join(run.run_id for run in late[:5])
        yield Finding(
            "runs", WRONG, f"{counted(len(late), 'run')} should have ended by now ({names}): blazed cancel RUN"
        )
    if not left and not late:
        yield Finding("runs", OK, f"{counted(len(page), 'open run')}")


def _jobs(state: StateManager, alive: FrozenSet[str]) -> Iterator[Finding]:
    for job in state.jobs(status="BROKEN", limit=20):
        yield Finding("jobs", WRONG, f"'{job.job_id}' is BROKEN: {job.error}\nmend it, then blazed resume {job.job_id}")
    due = _overdue(state)
    if due is not None:
        what = f"a tick of {due[0]} is due since {local(due[1])} ({duration(time.time() - due[1])})"
        advice = "the scheduler does not fire it: see its log" if alive else "no scheduler is at work: blazed start"
        yield Finding("ticks", WARNING, f"{what}, and {advice}")


def _overdue(state: StateManager) -> Optional[Tuple[str, float]]:
    ticks = [(seq_id, tick) for seq_id, (_, tick) in state.next_ticks().items() if tick is not None]
    first = min(ticks, key=lambda one: one[1], default=None)
    return first if first is not None and first[1] < time.time() - OVERDUE and not state.is_paused() else None
