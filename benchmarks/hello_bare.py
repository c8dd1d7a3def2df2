"""The same by hand, with SQLite and a thread pool: ``python hello_bare.py STATE_DIR``."""

import json
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor


def greet() -> str:
    return "hello"


def shout(text: str) -> str:
    return text.upper()


connection = sqlite3.connect(f"{sys.argv[1]}/bare.db", isolation_level=None)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("PRAGMA synchronous = NORMAL")
connection.execute("CREATE TABLE runs (run TEXT PRIMARY KEY, status TEXT, at REAL)")
connection.execute(
    "CREATE TABLE steps (run TEXT, step TEXT, status TEXT, at REAL, result TEXT, PRIMARY KEY (run, step))"
)
connection.execute("INSERT INTO runs VALUES ('run-1', 'RUNNING', ?)", (time.time(),))
with ThreadPoolExecutor(4) as pool:
    value = pool.submit(greet).result()
    connection.execute(
        "INSERT INTO steps VALUES ('run-1', 'greet', 'COMPLETED', ?, ?)", (time.time(), json.dumps(value))
    )
    value = pool.submit(shout, value).result()
    connection.execute(
        "INSERT INTO steps VALUES ('run-1', 'shout', 'COMPLETED', ?, ?)", (time.time(), json.dumps(value))
    )
connection.execute("UPDATE runs SET status = 'COMPLETED', at = ?", (time.time(),))
connection.close()
print(value)
