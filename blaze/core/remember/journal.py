"""The journal: the one writing connection of a process, and group commit by whoever is there.

A worker appends what it has to record to ``pending`` and then calls :meth:`Journal.commit`
if it gets the lock without waiting. Whoever holds the lock commits all that is
pending, also for the others, in one transaction; the tokens of what is now safe are
returned, and the engine releases the steps that waited for it. So a chain costs one
commit a step, a fan-out one commit for many steps, and no worker ever waits for
another's commit.

What can't be written (disk full, a lock that another program holds) stays pending
and is tried again; nothing that depends on it goes on meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Callable, Deque, Iterator, List, NamedTuple, Optional, Tuple, TypeVar

from ..ground.errors import StateError
from ..ground.filelock import try_lock
from ..ground.own_log import OwnLog
from .database import BUSY_TIMEOUT, open_memory, open_writer, open_writer_again
from .forks import guard

#: Most rows in one transaction: bounds how long others wait for it.
BATCH_LIMIT = 1000
#: Commits after which the log is folded into the database. A commit of one step
#: writes one to three pages of 2 KiB, so the log stays below about 12 MiB.
COMMITS_PER_CHECKPOINT = 2000
#: The same for large values, in bytes.
VOLUME_PER_CHECKPOINT = 4 * 1024 * 1024
#: Seconds between two attempts to write what could not be written.
RETRY_DELAYS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)

#: How often a transaction waits out the busy timeout for another program's lock.
LOCK_ATTEMPTS = 4

#: A statement, its row, and what the engine wants back when it is committed (None: nothing).
Entry = Tuple[str, Tuple[Any, ...], Any]

T = TypeVar("T")

log = OwnLog("engine")


class Fault(NamedTuple):
    """Why nothing can be written at present."""

    message: str
    #: Epoch seconds.
    since: float
    attempts: int


class Journal:
    """All writing to one state file from one process.

    Lock order: ``lock`` before the checkpoint lock. ``lock`` is held over SQLite's
    work only, never over a block's code.
    """

    def __init__(self, path: Optional[Path], durability: str) -> None:
        self.path = path
        self.durability = durability
        self.pending: Deque[Entry] = deque()
        #: Protects the connection. Taken without waiting on the hot path.
        self.lock = threading.Lock()
        #: Called after the lock was held for something else while entries came in; set by the engine.
        self.when_pending: Callable[[], None] = _nothing
        #: Called before everything that is written; what it raises counts as raised by SQLite.
        self.before_write: Optional[Callable[[], None]] = None
        self.fault: Optional[Fault] = None
        self._connection = open_memory() if path is None else open_writer(path, durability)
        self._cursor = self._connection.cursor()
        #: How often the file was opened.
        self._opened = 1
        self._commits = 0
        #: Bytes of large values written since the last checkpoint; whoever appends one adds to it.
        self.volume = 0
        self._pid = os.getpid()
        #: Tokens of entries that the database will never take, each with the reason; whoever looks empties it.
        self.refused: List[Tuple[Any, str]] = []
        #: The file is gone or another one: nothing can be written any more.
        self.lost = False
        self._identity = (0, 0)
        if path is not None:
            status = os.stat(path)
            self._identity = (status.st_dev, status.st_ino)
        self._closed = False
        guard(self)

    def commit(self) -> List[Any]:
        """Write all that is pending; the tokens of what is committed. Call it with ``lock`` held.

        Returns an empty list when nothing could be written: ``fault`` then says why.
        """
        if self.lost:
            return []
        pending = self.pending
        # Only the holder of the lock takes entries out, so what is counted here stays.
        count = len(pending)
        if not count:
            return []
        if count > BATCH_LIMIT:
            count = BATCH_LIMIT
        batch: List[Entry] = []
        try:
            if self.before_write is not None:
                self.before_write()
            if count == 1:
                # One statement is a transaction of its own, and starts as a writing one.
                entry = pending.popleft()
                batch = [entry]
                self._cursor.execute(entry[0], entry[1])
            else:
                batch = [pending.popleft() for _ in range(count)]
                self._write(batch)
        except _ERRORS as error:
            self._roll_back()
            if not _is_passing(error):
                return self._write_one_by_one(batch)
            self.pending.extendleft(reversed(batch))
            self._note_fault(error)
            return []
        if self.fault is not None:
            self.fault = None
        self._commits += 1
        if self._commits >= COMMITS_PER_CHECKPOINT or self.volume > VOLUME_PER_CHECKPOINT:
            self.checkpoint()
        if count == 1:
            return [] if entry[2] is None else [entry[2]]
        return [entry[2] for entry in batch if entry[2] is not None]

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """The lock, for anything but a group commit.

        A worker that finds it taken counts on its holder to commit for it; so who has
        held it for something else has that looked after when it lets go.
        """
        try:
            with self.lock:
                yield
        finally:
            self._look_after_pending()

    def _look_after_pending(self) -> None:
        """The lock was held for something else: see to what was left behind meanwhile."""
        if self.pending:
            self.when_pending()

    def transaction(self, work: Callable[[sqlite3.Cursor], T]) -> T:
        """Run ``work`` in a transaction of its own and return its result; waits for the lock.

        Either all of it is committed when this returns, or nothing and a
        :class:`StateError` is raised. What is pending is left pending.
        """
        with self._alone():
            self._require_file()
            try:
                self._begin()
                result = work(self._cursor)
                self._cursor.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                raise StateError(f"the state can't be written: {_explain(error)}") from error
            except BaseException:
                self._roll_back()
                raise
            self._commits += 1
            return result

    def insert(self, sql: str, row: Tuple[Any, ...]) -> Optional[int]:
        """Commit one row and return its key; None if a constraint refuses it.

        One statement is a transaction of its own, at half the price. Otherwise as :meth:`transaction`.
        """
        try:
            with self.lock:
                self._require_file()
                for attempt in range(LOCK_ATTEMPTS):
                    try:
                        if self.before_write is not None:
                            self.before_write()
                        key = self._cursor.execute(sql, row).lastrowid
                        break
                    except sqlite3.IntegrityError:
                        return None
                    except sqlite3.Error as error:
                        if attempt + 1 == LOCK_ATTEMPTS or "locked" not in str(error):
                            raise StateError(f"the state can't be written: {_explain(error)}") from error
                self._commits += 1
                return key
        finally:  # as _alone has it, without the price of a generator
            if self.pending:
                self.when_pending()

    def _begin(self) -> None:
        """Take the write lock, with patience: another program may hold it for longer than the busy timeout."""
        for attempt in range(LOCK_ATTEMPTS):
            try:
                if self.before_write is not None:
                    self.before_write()
                self._cursor.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if attempt + 1 == LOCK_ATTEMPTS or "locked" not in str(error):
                    raise

    def check_file(self) -> None:
        """Notice that the state file was deleted or replaced; from then on nothing is written (RELIABILITY R45).

        What is written to a deleted file is lost, so it is better not reported as done.
        """
        if self.path is None or self.lost:
            return
        try:
            status = os.stat(self.path)
            self.lost = (status.st_dev, status.st_ino) != self._identity
        except FileNotFoundError:
            self.lost = True
        except OSError:
            return
        if self.lost:
            self._lose(_LOST.format(path=self.path))

    def _lose(self, message: str) -> None:
        """Nothing can be written any more."""
        self.lost = True
        self.fault = Fault(message, time.time(), 1)
        log.critical(message)

    def _require_file(self) -> None:
        if self.lost:
            raise StateError(self.fault.message if self.fault else _LOST.format(path=self.path))

    def read(self, sql: str, row: Tuple[Any, ...] = ()) -> List[Tuple[Any, ...]]:
        """Rows as the writer sees them; for the process's own recovery, and for a state in memory.

        Raises :class:`StateError`.
        """
        with self._alone():
            if self.path is None:
                # Nobody waits for what is pending here, so it is written when somebody looks.
                while self.pending and self.fault is None:
                    self.commit()
            try:
                return self._cursor.execute(sql, row).fetchall()
            except sqlite3.Error as error:
                raise StateError(f"the state can't be read: {error}") from error

    def version(self) -> Tuple[int, int]:
        """Another one than before, if another connection has written to the file meanwhile."""
        # What SQLite tells can be compared within one connection only.
        return self._opened, int(self.read("PRAGMA data_version")[0][0])

    def look(self, ask: Callable[[sqlite3.Cursor], T]) -> T:
        """What a function asks with the writing connection's cursor; it writes nothing."""
        with self._alone():
            try:
                return ask(self._cursor)
            except sqlite3.Error as error:
                raise StateError(f"the state can't be read: {error}") from error

    def checkpoint(self, *, truncate: bool = False) -> bool:
        """Fold the write-ahead log into the database. Call it with ``lock`` held.

        One at a time over all processes (SQLite before 3.51.3 can damage the file when
        two meet, RELIABILITY S7): another's turn is left to it. Whether it was made.
        """
        if self.path is None:
            return True
        try:
            descriptor = try_lock(self.path.with_name("checkpoint.lock"))
        except OSError:
            return False
        if descriptor is None:
            return False
        try:
            if truncate:
                # Without patience for readers: the lock is held, and the next turn comes.
                self._cursor.execute("PRAGMA busy_timeout = 0")
            self._cursor.execute(f"PRAGMA wal_checkpoint({'TRUNCATE' if truncate else 'PASSIVE'})").fetchall()
            self._commits = self.volume = 0
            return True
        except sqlite3.Error:
            # The log keeps what is in it; the next turn tries again.
            return False
        finally:
            if truncate:
                self._cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT * 1000:.0f}")
            os.close(descriptor)

    def fold(self, *, cut: bool) -> None:
        """Checkpoint; in idle time with ``cut``, which gives the log's room back."""
        with self._alone():
            self.checkpoint(truncate=cut)

    def close(self) -> None:
        """Close the connection. In a forked child it is only forgotten: closing it there would harm the parent's."""
        if os.getpid() != self._pid:
            _LEFT_OPEN.append((self._connection, self._cursor))
            return
        with self.lock:
            self._closed = True
            # Closing the last connection folds the log into the file and removes it.
            self._connection.close()

    # ------------------------------------------------------------------ over a fork

    def carried(self) -> Optional[Path]:
        """A fork goes on without waiting any longer."""
        return None if self._closed else self.path

    def let_go(self) -> None:
        """Close the file: a fork is about to happen."""
        if self.path is not None:
            self._connection.close()

    def take_again(self) -> None:
        """Open it again, in the parent."""
        if self.path is None or self._closed:
            return
        try:
            self._connection = open_writer_again(self.path, self.durability)
            self._cursor = self._connection.cursor()
            self._opened += 1
        except (StateError, sqlite3.Error, OSError) as error:
            self._lose(str(error))

    def after_fork(self) -> None:
        """See to what was left behind meanwhile."""
        self._look_after_pending()

    def _write(self, batch: List[Entry]) -> None:
        cursor = self._cursor
        cursor.execute("BEGIN IMMEDIATE")
        start, end = 0, len(batch)
        while start < end:
            sql = batch[start][0]
            stop = start + 1
            while stop < end and batch[stop][0] is sql:
                stop += 1
            if stop - start == 1:
                cursor.execute(sql, batch[start][1])
            else:
                cursor.executemany(sql, [entry[1] for entry in batch[start:stop]])
            start = stop
        cursor.execute("COMMIT")

    def _write_one_by_one(self, batch: List[Entry]) -> List[Any]:
        """After a refusal that no waiting will mend: keep it from blocking the entries around it."""
        tokens: List[Any] = []
        for number, entry in enumerate(batch):
            try:
                self._cursor.execute(entry[0], entry[1])
            except _ERRORS as error:
                if _is_passing(error):
                    self.pending.extendleft(reversed(batch[number:]))
                    self._note_fault(error)
                    break
                self.refused.append((entry[2], f"{type(error).__name__}: {error}"))
                continue
            if entry[2] is not None:
                tokens.append(entry[2])
        return tokens

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            pass

    def _note_fault(self, error: Exception) -> None:
        before = self.fault
        if before is None:
            self.fault = Fault(_explain(error), time.time(), 1)
        else:
            self.fault = Fault(_explain(error), before.since, before.attempts + 1)

    def retry_delay(self) -> float:
        """Seconds until what is pending should be tried again after a fault."""
        fault = self.fault
        return RETRY_DELAYS[min(fault.attempts, len(RETRY_DELAYS)) - 1] if fault else 0.0


#: Connections of a parent process, kept from being closed by the garbage collector of a forked child.
_LEFT_OPEN: List[Any] = []


def _nothing() -> None:
    return


_LOST = (
    "the state file {path} was deleted or replaced while it was in use; nothing more is written, and runs wait. "
    "Put it back or choose another state directory, and restart"
)

# Python's own refusals (an integer beyond 64 bits, a lone surrogate) are as final as SQLite's.
_ERRORS = (sqlite3.Error, ValueError, OverflowError, TypeError)

_PASSING = ("locked", "busy", "full", "disk i/o", "readonly", "unable to open", "out of memory")


def _is_passing(error: Exception) -> bool:
    """Whether the same statement may succeed later."""
    text = str(error).lower()
    return isinstance(error, sqlite3.OperationalError) and any(word in text for word in _PASSING)


def _explain(error: Exception) -> str:
    text = str(error)
    if "full" in text:
        return f"{text}: make room; what could not be written is kept and tried again"
    return text
