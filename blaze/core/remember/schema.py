"""The tables, their version, and how an older file becomes a newer one. All DDL stands here."""

from __future__ import annotations

import sqlite3
from typing import Callable, Dict

from ..ground.errors import StateError
from ..ground.names import MAX_STEPS

#: Marks the file as Blaze's in its SQLite header ("BLZE").
APPLICATION_ID = 0x424C5A45
#: Version of the tables below.
SCHEMA_VERSION = 1

#: Low bits of a step's key, which hold its index in the run's definition; above them stands the run's key.
PLACE_BITS = MAX_STEPS.bit_length() - 1
#: Bytes. A commit writes whole pages, most often one: half of SQLite's usual 4096 makes it a tenth cheaper.
PAGE_SIZE = 2048

# Times are epoch seconds (REAL, UTC), durations seconds. A step has one integer as its
# key (see step_key), since SQLite appends such rows to a table without looking for their
# place; under a key of two columns it shares out the last pages again and again. The key of a job
# is never handed out twice, since schedulers have jobs at hand by their keys. The checks of a
# status ask for the usual one first, since looking into the list costs 5 µs a row.
TABLES = """
CREATE TABLE definitions (
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    seq_id TEXT NOT NULL,
    graph  TEXT NOT NULL
);
CREATE TABLE runs (
    id           INTEGER PRIMARY KEY,
    run_id       TEXT NOT NULL UNIQUE,
    seq_id       TEXT NOT NULL,
    definition   INTEGER NOT NULL REFERENCES definitions (id),
    job_id       TEXT,
    scheduled_at REAL,
    status       TEXT NOT NULL CHECK (status = 'COMPLETED' OR status = 'PENDING' OR status IN
                 ('PENDING', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED', 'SKIPPED')),
    reason       TEXT,
    parameters   TEXT,
    created_at   REAL NOT NULL,
    started_at   REAL,
    ended_at     REAL,
    seconds      REAL,
    deadline     REAL,
    owner        TEXT,
    recoveries   INTEGER NOT NULL DEFAULT 0,
    retry_of     TEXT,
    cancel       TEXT,
    steps        INTEGER NOT NULL,
    output       BLOB,
    spilled      TEXT,
    preview      TEXT,
    error        TEXT,
    missed       INTEGER,
    missed_from  REAL
);
CREATE INDEX runs_of_sequence ON runs (seq_id, id);
CREATE INDEX runs_open ON runs (job_id, owner) WHERE status IN ('PENDING', 'RUNNING');
CREATE INDEX runs_failed ON runs (id) WHERE status = 'FAILED';
CREATE UNIQUE INDEX runs_of_tick ON runs (job_id, scheduled_at) WHERE job_id IS NOT NULL;
CREATE TABLE steps (
    id         INTEGER PRIMARY KEY,
    status     TEXT NOT NULL CHECK (status = 'COMPLETED' OR status IN
               ('PENDING', 'RUNNING', 'RETRYING', 'COMPLETED', 'FAILED', 'SKIPPED', 'CANCELLED')),
    reason     TEXT,
    attempts   INTEGER NOT NULL,
    started_at REAL,
    seconds    REAL,
    stored     INTEGER NOT NULL DEFAULT 0,
    output     BLOB,
    spilled    TEXT,
    preview    TEXT,
    error      TEXT,
    retry_at   REAL,
    done       REAL,
    total      REAL
);
CREATE TABLE attempts (
    run        INTEGER NOT NULL,
    step       INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    started_at REAL NOT NULL,
    seconds    REAL NOT NULL,
    reason     TEXT,
    error      TEXT NOT NULL,
    arguments  TEXT,
    traceback  TEXT,
    PRIMARY KEY (run, step, attempt)
) WITHOUT ROWID;
CREATE TABLE logs (
    id      INTEGER PRIMARY KEY,
    run     INTEGER NOT NULL,
    step    INTEGER,
    attempt INTEGER,
    at      REAL NOT NULL,
    level   INTEGER NOT NULL,
    logger  TEXT NOT NULL,
    message TEXT NOT NULL
);
CREATE INDEX logs_of_run ON logs (run, id);
CREATE TABLE jobs (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id       TEXT NOT NULL UNIQUE,
    seq_id       TEXT NOT NULL,
    parameters   TEXT,
    interval     TEXT,
    timezone     TEXT NOT NULL,
    start_at     REAL,
    end_at       REAL,
    catchup      TEXT NOT NULL,
    overlap      TEXT NOT NULL,
    priority     INTEGER NOT NULL,
    source       TEXT NOT NULL,
    status       TEXT NOT NULL CHECK (status IN ('ACTIVE', 'PAUSED', 'ENDED', 'BROKEN')),
    error        TEXT,
    next_at      REAL,
    submitted_at REAL NOT NULL,
    version      INTEGER NOT NULL
);
CREATE INDEX jobs_due ON jobs (next_at, priority, seq_id) WHERE status = 'ACTIVE';
CREATE INDEX jobs_of_sequence ON jobs (seq_id, status);
CREATE INDEX jobs_broken ON jobs (seq_id) WHERE status = 'BROKEN';
CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
"""

#: Which runs are open, word for word as the partial index has it: SQLite would not use it otherwise.
IS_OPEN = "status IN ('PENDING', 'RUNNING')"
#: Asks whether all ticks and steps are held back.
IS_PAUSED = "SELECT 1 FROM settings WHERE name = 'paused'"

#: ``{version: step to the next version}``; each runs inside the one migrating transaction.
MIGRATIONS: Dict[int, Callable[[sqlite3.Connection], None]] = {}


def step_key(run: int, place: int) -> int:
    """Key of a step's row: the run's key, and the step's index in the run's definition."""
    return (run << PLACE_BITS) + place


def place_of(key: int) -> int:
    """Index of a step in its run's definition, from the key of its row."""
    return key & (MAX_STEPS - 1)


def create(connection: sqlite3.Connection) -> None:
    """Make the tables in an empty database, inside the caller's transaction."""
    for statement in TABLES.split(";"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring an older file up to date in one transaction; refuse newer and foreign ones untouched.

    A process that is killed on the way leaves the old version, whole.
    """
    check(connection, path)
    if _pragma(connection, "user_version") == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Read again under the write lock: another process may have migrated meanwhile.
        while True:
            version = _pragma(connection, "user_version")
            if version == SCHEMA_VERSION:
                break
            MIGRATIONS[version](connection)
            connection.execute(f"PRAGMA user_version = {version + 1}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def check(connection: sqlite3.Connection, path: str) -> None:
    """Raise :class:`StateError` unless the file is Blaze's and of a version this code can read."""
    found = _pragma(connection, "application_id")
    version = _pragma(connection, "user_version")
    if found != APPLICATION_ID:
        raise StateError(
            f"{path} is not a state file of Blaze; it was left as it is. Choose another state directory, "
            "or move that file away"
        )
    if version > SCHEMA_VERSION:
        raise StateError(
            f"{path} was written by a newer Blaze (its tables have version {version}, this one knows "
            f"{SCHEMA_VERSION}); it was left as it is. Install that version, or choose another state directory"
        )
    missing = [number for number in range(version, SCHEMA_VERSION) if number not in MIGRATIONS]
    if missing:
        raise StateError(f"{path} has tables of version {version}, which can't be brought to {SCHEMA_VERSION}")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
