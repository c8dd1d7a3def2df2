"""What is done to a state by hand: a backup while others use it, and pruning while none does."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional

from ..ground.errors import Refused, StateError
from ..ground.names import new_instance_id
from .codec import ResultFiles
from .database import FILE_NAME, open_reader, prepare_directory
from .forks import opening
from .instances import InstanceLock, list_instances
from .journal import Journal
from .recorder import results_directory
from .retention import Retention, prune, sweep_results

#: Runs deleted by one call.
BATCH = 200


class Pruned(NamedTuple):
    """What was deleted."""

    runs: int
    #: Files of results that belonged to no run.
    files: int


def back_up(state_dir: Path, target: Path) -> Path:
    """Copy a state, as it is at one instant, to a new directory; schedulers may be at work on it meanwhile.

    The copy is a state directory itself: to go back to it, stop every scheduler and put
    it in the place of the other. Raises :class:`Refused` if there is something at
    ``target``, :class:`StateError` if the state can't be read or the copy not be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Refused(f"there is something at {target} already; name a new directory")
    source = open_reader(state_dir / FILE_NAME)
    try:
        prepare_directory(target)
        _copy_database(source, target / FILE_NAME)
        # After the database: every file that it names was there by then.
        _copy_results(results_directory(state_dir), results_directory(target))
    except (OSError, shutil.Error, sqlite3.Error) as error:
        raise StateError(f"the backup {target} can't be written: {error}") from error
    finally:
        source.close()
    return target / FILE_NAME


def _copy_database(source: sqlite3.Connection, path: Path) -> None:
    """The file gets its name when it is whole."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))  # SQLite has not seen it yet
    try:
        with opening.of(aside), contextlib.closing(sqlite3.connect(str(aside), isolation_level=None)) as copy:
            source.backup(copy)
            damage = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
            if damage != "ok":
                raise StateError(f"the state is damaged ({damage}), and so would be its backup; see 'blazed db check'")
            copy.execute("PRAGMA journal_mode = DELETE")
        os.rename(aside, path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(aside)


def _copy_results(source: Path, target: Path) -> None:
    """Large outputs; those of runs that are pruned meanwhile may vanish."""
    if not source.is_dir():
        return
    target.mkdir(mode=0o700)
    for folder in sorted(source.iterdir()):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            shutil.copytree(folder, target / folder.name, ignore_dangling_symlinks=True)


@contextlib.contextmanager
def alone(state_dir: Path) -> Iterator[None]:
    """Be the only one at work on a state. Raises :class:`Refused` if there is a scheduler."""
    lock = InstanceLock(state_dir / "instances", new_instance_id("upkeep"))
    try:
        others = [
            one for one in list_instances(state_dir / "instances") if one.alive and one.instance_id != lock.instance_id
        ]
        if others:
            told = ", ".join(f"{one.instance_id} (PID {one.pid})" for one in others)
            raise Refused(f"{told} is at work on {state_dir}, and prunes it by itself; stop it first")
        yield
    finally:
        lock.release()


def prune_now(state_dir: Path, retention: Retention, now: Optional[float] = None) -> Pruned:
    """Delete all history that is beyond a retention, and give its room back.

    Raises :class:`Refused` while a scheduler is at work, :class:`StateError` if there is no state.
    """
    path = state_dir / FILE_NAME
    open_reader(path).close()  # who prunes makes no new state
    instant = time.time() if now is None else now
    with alone(state_dir), contextlib.closing(Journal(path, "process")) as journal:
        results = ResultFiles(results_directory(state_dir), sync=False)
        before = _runs(journal)
        while prune(journal, results, retention, instant, BATCH):
            pass
        files: List[str] = sweep_results(journal, results, instant)
        journal.fold(cut=True)
        return Pruned(before - _runs(journal), len(files))


def _runs(journal: Journal) -> int:
    return int(journal.read("SELECT COUNT(*) FROM runs")[0][0])
