"""Who executes questions: a read-only connection beside the writer, or the writer of a state in memory.

Each statement is a short read transaction, its rows fetched at once, because a long
one keeps the write-ahead log from being folded into the database (RELIABILITY S6).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, TypeVar

from ..ground.errors import StateError
from .database import open_reader
from .forks import guard
from .journal import Journal

Row = Tuple[Any, ...]
#: Executes a statement with its parameters and returns all rows.
Read = Callable[[str, Sequence[Any]], List[Row]]
T = TypeVar("T")

_VERSION = "PRAGMA data_version"
_PAGES = "SELECT (SELECT * FROM pragma_page_count()) * (SELECT * FROM pragma_page_size())"


class FileSource:
    """Reads through a connection of its own, opened when it is first needed.

    It is opened anew after a fork, whose child must not touch the parent's (RELIABILITY
    S4), and when another file has taken the place of the one that is open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._closed = False
        # By process: a lock that some thread held at the fork stays locked in the child for ever.
        self._by_process: Dict[int, _Opened] = {}

    def read(self, sql: str, row: Sequence[Any] = ()) -> List[Row]:
        """All rows of one statement. Raises :class:`StateError`."""
        opened = self._opened()
        with opened.lock:
            connection = self._connection(opened)
            try:
                return connection.execute(sql, row).fetchall()
            except sqlite3.Error as error:
                raise self._failed(opened, error) from error

    def snapshot(self, work: Callable[[Read], T]) -> T:
        """Call ``work`` with a ``read`` whose statements all see the file as it is now; keep it short."""
        opened = self._opened()
        with opened.lock:
            connection = self._connection(opened)
            try:
                return _at_one_instant(connection, work)
            except sqlite3.Error as error:
                raise self._failed(opened, error) from error

    def while_unchanged(self, work: Callable[[Read], T]) -> T:
        """What ``work`` finds, as :meth:`snapshot`; the same again for as long as nobody has committed anything.

        Of those who ask at the same time one finds it for all.
        """
        opened = self._opened()
        with opened.lock:
            connection = self._connection(opened)
            try:
                # Before the work: what is committed while that goes on is looked for again the next time. This
                # connection never writes, so that its number changes with every commit, whoever makes it.
                version = connection.execute(_VERSION).fetchone()[0]
                if version != opened.version:
                    opened.version, opened.found = version, {}
                elif work in opened.found:
                    found: T = opened.found[work]
                    return found
                found = opened.found[work] = _at_one_instant(connection, work)
                return found
            except sqlite3.Error as error:
                raise self._failed(opened, error) from error

    def size(self) -> Tuple[int, int]:
        """Bytes of the database and of its write-ahead log."""
        sizes = []
        for path in (str(self.path), f"{self.path}-wal"):
            try:
                sizes.append(os.stat(path).st_size)
            except OSError:
                sizes.append(0)
        return sizes[0], sizes[1]

    def close(self) -> None:
        """Close the connection. Safe to call twice."""
        self._closed = True
        opened = self._by_process.get(os.getpid())
        if opened is not None:
            with opened.lock:
                opened.close()

    def _opened(self) -> _Opened:
        pid = os.getpid()
        opened = self._by_process.get(pid)
        return self._by_process.setdefault(pid, _Opened(self.path)) if opened is None else opened

    def _connection(self, opened: _Opened) -> sqlite3.Connection:
        if self._closed:
            raise StateError(f"this StateManager of {self.path.parent} is closed")
        try:
            found = os.stat(self.path)
        except OSError:
            opened.close()
        else:
            identity = (found.st_dev, found.st_ino)
            if opened.connection is not None and opened.identity == identity:
                return opened.connection
            opened.close()
            opened.identity = identity
        opened.connection = open_reader(self.path)
        return opened.connection

    def _failed(self, opened: _Opened, error: sqlite3.Error) -> StateError:
        opened.close()
        return StateError(f"{self.path} can't be read: {error}; see 'blazed db check'")


def _at_one_instant(connection: sqlite3.Connection, work: Callable[[Read], T]) -> T:
    connection.execute("BEGIN")
    try:
        return work(lambda sql, row: connection.execute(sql, row).fetchall())
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


class _Opened:
    """What one process has open; ``lock`` protects the connection."""

    def __init__(self, path: Path) -> None:
        self.lock = threading.Lock()
        self._path = path
        guard(self)
        self.connection: Optional[sqlite3.Connection] = None
        self.identity: Optional[Tuple[int, int]] = None
        #: What was found in the file at a version of it, by what found it.
        self.version: Optional[int] = None
        self.found: Dict[Any, Any] = {}

    def close(self) -> None:
        connection, self.connection = self.connection, None
        self.version, self.found = None, {}
        if connection is not None:
            connection.close()

    def carried(self) -> Optional[Path]:
        """A fork goes on without waiting any longer."""
        return self._path

    def let_go(self) -> None:
        """A fork is about to happen; the next question opens the file again."""
        self.close()

    def take_again(self) -> None:
        """The next question does it."""

    def after_fork(self) -> None:
        """Nobody waits."""


class JournalSource:
    """Reads through the writer of this process: the only way to a state that is in its memory."""

    def __init__(self, journal: Journal) -> None:
        self._journal: Optional[Journal] = journal

    def read(self, sql: str, row: Sequence[Any] = ()) -> List[Row]:
        """All rows of one statement. Raises :class:`StateError`."""
        if self._journal is None:
            raise StateError("this StateManager is closed")
        return self._journal.read(sql, tuple(row))

    def snapshot(self, work: Callable[[Read], T]) -> T:
        """Call ``work`` with a ``read``; between two statements the state may change."""
        return work(self.read)

    def while_unchanged(self, work: Callable[[Read], T]) -> T:
        """The same: what is in memory is found soon enough."""
        return self.snapshot(work)

    def size(self) -> Tuple[int, int]:
        """Bytes of memory; there is no write-ahead log."""
        return int(self.read(_PAGES)[0][0]), 0

    def close(self) -> None:
        """Let go of the journal, which stays open."""
        self._journal = None
