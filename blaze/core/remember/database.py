"""Opening the state file: created whole or not at all, checked before it is used, always through SQLite.

The file is never opened with ``open()``: closing any plain descriptor of it drops
every POSIX lock that SQLite holds on it in this process, and commits get lost
(RELIABILITY S3; https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from pathlib import Path
from typing import Iterator, Optional

from ..ground.errors import StateError
from . import schema
from .forks import opening

#: Name of the database in the state directory.
FILE_NAME = "blaze.db"
#: How long one statement waits for another process's write, in seconds.
BUSY_TIMEOUT = 30.0
#: ``synchronous`` of each durability level.
SYNCHRONOUS = {"process": "NORMAL", "power": "FULL", "memory": "OFF"}

#: File systems on which WAL's shared memory and POSIX locks can't be relied on.
NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "9p", "fuse.sshfs", "fuse.s3fs",
     "fuse.glusterfs", "ncpfs", "beegfs", "fuse.gcsfuse", "fuse.rclone"}
)  # fmt: skip


def prepare_directory(directory: Path) -> None:
    """Make the state directory (mode 0700), or check that an existing one is safe to use.

    Raises :class:`StateError` for one that belongs to another user, that others may
    write to, or that lies on a network file system.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = os.stat(directory)
    except OSError as error:
        raise StateError(f"the state directory {directory} can't be made: {error.strerror or error}") from error
    if not stat.S_ISDIR(info.st_mode):
        raise StateError(f"the state directory {directory} is not a directory")
    if hasattr(os, "getuid"):
        if info.st_uid not in (os.getuid(), 0):
            raise StateError(f"the state directory {directory} belongs to another user (uid {info.st_uid})")
        if info.st_mode & 0o022:
            raise StateError(
                f"others may write to the state directory {directory} (mode {stat.S_IMODE(info.st_mode):04o}), and "
                f"what is stored there is trusted: run chmod go-w {directory}"
            )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise StateError(f"the state directory {directory} is not writable")
    kind = file_system_of(directory)
    if kind in NETWORK_FILE_SYSTEMS:
        raise StateError(
            f"the state directory {directory} is on a network file system ({kind}), where SQLite's locks can't be "
            "relied on; choose a directory on a local disk"
        )


def file_system_of(path: Path) -> Optional[str]:
    """Type of the file system that holds ``path``, where the system tells (Linux)."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
        real = os.path.realpath(path)
    except OSError:
        return None
    best = ("", None)
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if len(fields) < 5 or not tail:
            continue
        mount = fields[4].replace("\\040", " ")
        inside = real == mount or real.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best[0]):
            best = (mount, tail[0])  # type: ignore[assignment]
    return best[1]


def open_writer(path: Path, durability: str) -> sqlite3.Connection:
    """The one writing connection of this process, on a file that is created if there is none.

    Checkpoints are off: the journal makes them, one at a time.
    """
    with opening.of(path):
        return _open_writer(path, durability)


def open_writer_again(path: Path, durability: str) -> sqlite3.Connection:
    """The same, of a file that was open until just now: for the parent of a fork, which keeps other forks away."""
    connection = _connect(path)
    try:
        with _explained(path):
            schema.check(connection, str(path))
            _set_pragmas(connection, path, durability)
    except BaseException:
        connection.close()
        raise
    return connection


def _open_writer(path: Path, durability: str) -> sqlite3.Connection:
    # The logs first: who makes the file has it in its place before it begins a log.
    logs = [log.name for log in (_beside(path, "-wal"), _beside(path, "-journal")) if log.exists()]
    if path.exists():
        _check_untouched(path)
    elif logs:
        raise StateError(
            f"{path} is gone, but its log {logs[0]} is still there and would damage a new one. Put the file back, "
            f"or move {logs[0]} away too to start anew"
        )
    else:
        _create(path)
    connection = _connect(path)
    try:
        with _explained(path):
            schema.migrate(connection, str(path))
        _set_up(connection, path, durability)
    except BaseException:
        connection.close()
        raise
    return connection


def open_memory() -> sqlite3.Connection:
    """A database that lives in this process's memory."""
    with opening.of(None):
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        schema.create(connection)
        connection.execute("PRAGMA foreign_keys = ON")
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that can't write, for queries. Raises :class:`StateError` if there is no state yet."""
    if not path.exists():
        raise StateError(f"there is no state in {path.parent} yet")
    with opening.of(path), _explained(path):
        connection = _connect(path, "mode=ro")
        try:
            schema.check(connection, str(path))
            connection.execute("PRAGMA query_only = ON")
        except BaseException:
            connection.close()
            raise
    return connection


def _create(path: Path) -> None:
    """Make the file under another name and link it to its own.

    So it exists only once it is complete, whenever the process is killed, and of
    several processes that start at once exactly one makes it.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.close(descriptor)  # an empty file of our own that SQLite has not seen yet
        connection = _connect(aside)
        try:
            with _explained(path):
                connection.execute("PRAGMA synchronous = OFF")  # the first: the others write
                connection.execute(f"PRAGMA page_size = {schema.PAGE_SIZE}")
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                # Written to the file itself, which has no journal yet and nobody else knows.
                connection.execute("PRAGMA journal_mode = OFF")
                connection.execute("BEGIN IMMEDIATE")
                schema.create(connection)
                connection.execute("COMMIT")
                # Now and not when it is opened: a kill in the middle would leave a journal that readers can't undo.
                connection.execute("PRAGMA journal_mode = WAL")
        finally:
            connection.close()
        # Written out once, as a whole; SQLite has let go of this file, and nobody else has it yet.
        _sync(aside)
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
        _sync(path.parent)
    except OSError as error:
        raise StateError(f"{path} can't be made: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(aside)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_untouched(path: Path) -> None:
    """Refuse what is no state file, or a newer one's, through a connection that can't write.

    Closing one that can folds a log that a crash left into the file, whoever's it is.
    """
    if path.is_dir():
        raise StateError(f"{path} is a directory, and the state file has to be there; move it away")
    if path.stat().st_size == 0:
        raise StateError(
            f"{path} is empty; a state file is never left so by Blaze, and it was left as it is. Restore it from "
            "a backup, or move it away to start anew"
        )
    if not os.access(path, os.W_OK):  # SQLite would open it all the same, and fail at the first write
        raise StateError(f"{path} is not writable by this user; see who owns it, or run chmod u+w {path}")
    with contextlib.closing(_connect(path, "mode=ro")) as connection, _explained(path):
        schema.check(connection, str(path))


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _connect(path: Path, how: str = "mode=rw") -> sqlite3.Connection:
    """Open a file that exists; SQLite never makes one."""
    name = str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    with _explained(path):
        return sqlite3.connect(
            f"file:{name}?{how}", timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, uri=True
        )


def _set_up(connection: sqlite3.Connection, path: Path, durability: str) -> None:
    with _explained(path):
        _set_pragmas(connection, path, durability)
        damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0] if _is_small(path) else "ok"
    if damage != "ok":
        raise StateError(f"{path} is damaged ({damage}); put a backup in its place, or move the file away")


def _set_pragmas(connection: sqlite3.Connection, path: Path, durability: str) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StateError(
            f"SQLite could not switch {path} to its write-ahead log (it says '{mode}'); "
            "choose a state directory on a local disk"
        )
    connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS[durability]}")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA foreign_keys = ON")
    # Some distributions let SQLite overwrite what is deleted, which makes pruning write it all again.
    connection.execute("PRAGMA secure_delete = FAST")


def _is_small(path: Path) -> bool:
    # quick_check reads the whole file; beyond this it is 'blazed db check' that does it.
    return path.stat().st_size < 8 * 1024 * 1024


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """SQLite's errors on opening, as a :class:`StateError` that says what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = str(error)
        if "not a database" in text or "malformed" in text:
            advice = "it is not a SQLite database, or damaged; it was left as it is. Restore a backup or move it away"
        elif "locked" in text or "busy" in text:
            advice = f"another program has been writing to it for {BUSY_TIMEOUT:.0f} s; find it with 'fuser {path}'"
        elif "readonly" in text or "unable to open" in text:
            advice = "check that it and its directory are writable by this user"
        elif "full" in text or "disk I/O" in text:
            advice = "the disk is full, or fails: make room"
        else:
            advice = "see the message of SQLite"
        raise StateError(f"{path} can't be opened ({text}): {advice}") from error
