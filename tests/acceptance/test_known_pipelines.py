"""Pipelines that everybody builds, with real or seeded data and exact figures, tested with the kit that users have."""

from __future__ import annotations

import csv
import json
import random
import re
import sqlite3
import threading
from collections import Counter
from contextlib import closing
from datetime import datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest

from blaze import BlazeBlock, BlazeSequence, Retry, RunStatus, SeqBlockData, Sequence, SubmitSequenceData, current

ROOT = Path(__file__).resolve().parents[2]
WEATHER = ROOT / "examples" / "data" / "seattle-weather.csv"

# ---------------------------------------------------------------------- a CSV, upserted through a staging table

upsert_blocks, upsert_sequences = BlazeBlock(), BlazeSequence()

TARGET = "CREATE TABLE IF NOT EXISTS weather (date TEXT PRIMARY KEY, rain REAL, wind REAL CHECK (wind >= 0))"
STAGING = "CREATE TABLE staging (date TEXT, rain REAL, wind REAL)"
INSERT = "INSERT INTO weather SELECT * FROM staging AS s WHERE NOT EXISTS (SELECT 1 FROM weather WHERE date = s.date)"
UPDATE = """
    UPDATE weather SET (rain, wind) = (SELECT rain, wind FROM staging AS s WHERE s.date = weather.date)
    WHERE EXISTS (
        SELECT 1 FROM staging AS s WHERE s.date = weather.date AND (s.rain, s.wind) != (weather.rain, weather.wind)
    )
"""


@upsert_blocks.block
def stage(source: str, database: str) -> int:
    """The file's rows, in a staging table."""
    with open(source, newline="", encoding="utf-8") as file:
        rows = [(row["date"], float(row["precipitation"]), float(row["wind"])) for row in csv.DictReader(file)]
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(TARGET)
        connection.execute("DROP TABLE IF EXISTS staging")
        connection.execute(STAGING)
        connection.executemany("INSERT INTO staging VALUES (?, ?, ?)", rows)
    return len(rows)


@upsert_blocks.block
def merge(database: str, stage: int) -> Dict[str, int]:
    """What is new and what has changed, in one transaction."""
    with closing(sqlite3.connect(database)) as connection, connection:
        updated = connection.execute(UPDATE).rowcount
        inserted = connection.execute(INSERT).rowcount
    return {"staged": stage, "updated": updated, "inserted": inserted}


@upsert_sequences.sequence(
    blocks=upsert_blocks, sequence=[SeqBlockData("stage"), SeqBlockData("merge", ["stage"])], seq_id="upsert"
)
def upsert(context: Dict[str, Any]) -> Any:
    return context["merge"]


class Warehouse:
    """A target database, and the files that are loaded into it."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "warehouse.db"
        self._source = folder / "source.csv"

    def parameters(self, source: Path = WEATHER) -> Dict[str, Dict[str, Any]]:
        return {
            "stage": {"source": str(source), "database": str(self.database)},
            "merge": {"database": str(self.database)},
        }

    def changed(self, edit: Callable[[List[Dict[str, str]]], None]) -> Dict[str, Dict[str, Any]]:
        """Parameters for the weather with some rows edited."""
        with open(WEATHER, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        edit(rows)
        with open(self._source, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return self.parameters(self._source)

    def rows(self) -> List[Any]:
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute("SELECT * FROM weather ORDER BY date").fetchall()


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path)


def test_a_second_upsert_of_the_same_file_changes_nothing(run_sequence: Any, warehouse: Warehouse) -> None:
    first = run_sequence(upsert, warehouse.parameters()).assert_order("stage", "merge")
    assert first.output == {"staged": 1461, "updated": 0, "inserted": 1461}
    loaded = warehouse.rows()
    assert sum(Decimal(str(rain)) for _, rain, _ in loaded) == Decimal("4426.0")
    second = run_sequence(upsert, warehouse.parameters())
    assert second.output == {"staged": 1461, "updated": 0, "inserted": 0}
    assert warehouse.rows() == loaded


def test_an_upsert_takes_over_what_changed_and_what_is_new(run_sequence: Any, warehouse: Warehouse) -> None:
    def edit(rows: List[Dict[str, str]]) -> None:
        for row in rows[:3]:
            row["precipitation"] = "99.5"
        rows.append({**rows[-1], "date": "2016/01/01"})
        rows.append({**rows[-1], "date": "2016/01/02"})

    run_sequence(upsert, warehouse.parameters())
    before = warehouse.rows()
    run = run_sequence(upsert, warehouse.changed(edit))
    assert run.output == {"staged": 1463, "updated": 3, "inserted": 2}
    after = warehouse.rows()
    assert len(after) == 1463 and len(set(after) - set(before)) == 5


def test_a_failure_inside_the_merge_leaves_the_target_as_it_was(run_sequence: Any, warehouse: Warehouse) -> None:
    """The updates succeed, and then the insert meets a row that the target refuses."""

    def edit(rows: List[Dict[str, str]]) -> None:
        rows[0]["precipitation"] = "99.5"
        rows.append({**rows[-1], "date": "2016/01/01", "wind": "-1"})

    run_sequence(upsert, warehouse.parameters())
    before = warehouse.rows()
    run = run_sequence(upsert, warehouse.changed(edit), raise_on_fail=False)
    run.assert_failed("merge").assert_outcomes(stage="COMPLETED")
    assert "CHECK constraint failed" in str(run.story)
    assert warehouse.rows() == before


@pytest.mark.parametrize("point", ["called", "returned", "committed"])
def test_an_upsert_that_is_killed_is_finished_and_nothing_is_doubled(
    run_through_crashes: Any, blaze_faults: Any, warehouse: Warehouse, point: str
) -> None:
    blaze_faults.crash_at(point, "merge")
    run = run_through_crashes(upsert, warehouse.parameters()).assert_completed()
    assert (run.executions("stage"), run.executions("merge")) == (1, 1 if point == "committed" else 2)
    # Killed after the merge was done and before Blaze knew: the second one finds nothing to do.
    assert run.output["inserted"] == (0 if point == "returned" else 1461)
    assert len(warehouse.rows()) == 1461


# ---------------------------------------------------------------------- a month of daily aggregates

daily_blocks, daily_sequences = BlazeBlock(), BlazeSequence()


@daily_blocks.block
def orders(folder: str) -> List[int]:
    """Yesterday's orders, in cents."""
    at = current().scheduled_at
    if at is None:
        raise ValueError("this block works for a tick")
    day = at.date() - timedelta(days=1)
    return list(map(int, (Path(folder) / f"{day}.txt").read_text(encoding="utf-8").split()))


@daily_blocks.block
def store(orders: List[int], database: str) -> int:
    """One row a day, whatever was there."""
    at = current().scheduled_at
    if at is None:
        raise ValueError("this block works for a tick")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS daily (day TEXT PRIMARY KEY, orders INTEGER, cents INTEGER)")
        row = (str(at.date() - timedelta(days=1)), len(orders), sum(orders))
        connection.execute("INSERT OR REPLACE INTO daily VALUES (?, ?, ?)", row)
    return sum(orders)


@daily_sequences.sequence(
    blocks=daily_blocks,
    sequence=[SeqBlockData("orders"), SeqBlockData("store", ["orders"])],
    seq_id="daily",
    retries=2,
    retry_delay=300,
)
def daily(context: Dict[str, Any]) -> Any:
    return context["store"]


def write_orders(folder: Path) -> Dict[str, List[int]]:
    """A seeded month of orders, one file a day."""
    lot = random.Random(30)
    folder.mkdir()
    days: Dict[str, List[int]] = {}
    for day in range(1, 31):
        days[f"2026-04-{day:02}"] = [lot.randrange(100, 10_000) for _ in range(lot.randrange(5, 50))]
    for day, cents in days.items():
        (folder / f"{day}.txt").write_text(" ".join(map(str, cents)), encoding="utf-8")
    return days


def test_a_month_of_ticks_with_one_day_lost_and_repaired(blaze_scheduler: Any, tmp_path: Path) -> None:
    days = write_orders(tmp_path / "orders")
    database = tmp_path / "daily.db"
    lost = tmp_path / "orders" / "2026-04-12.txt"
    kept = lost.read_text(encoding="utf-8")
    lost.unlink()
    scheduler = blaze_scheduler(daily_sequences, start=datetime(2026, 4, 1, 1))
    scheduler.submit(
        SubmitSequenceData(
            "daily",
            {"orders": {"folder": str(tmp_path / "orders")}, "store": {"database": str(database)}},
            seq_run_interval="30 0 * * *",
            timezone="UTC",
        )
    )

    scheduler.advance(days=30)
    runs = scheduler.state.runs(job_id="daily", limit=100).items
    assert Counter(run.status for run in runs) == {RunStatus.COMPLETED: 29, RunStatus.FAILED: 1}
    failed = scheduler.inspect("last-failed").assert_failed("orders").assert_not_ran("store")
    assert failed.attempts("orders") == 3 and "2026-04-12.txt" in str(failed.story)
    assert stored(database) == {day: sum(cents) for day, cents in days.items() if day != "2026-04-12"}

    lost.write_text(kept, encoding="utf-8")
    repaired = scheduler.finish(scheduler.retry("last-failed"))
    assert repaired.output == sum(days["2026-04-12"])
    assert stored(database) == {day: sum(cents) for day, cents in days.items()}
    assert sum(stored(database).values()) == 4_046_683


def stored(database: Path) -> Dict[str, int]:
    with closing(sqlite3.connect(database)) as connection:
        return dict(connection.execute("SELECT day, cents FROM daily").fetchall())


# ---------------------------------------------------------------------- word counts, fanned out over files

PARTS = 4


def word_count(parts: int) -> Sequence[Any, Any]:
    """One step a file, and one that adds up."""
    blocks, sequences = BlazeBlock(), BlazeSequence()

    @blocks.block
    def count(file: Path) -> Dict[str, int]:
        return Counter(re.findall(r"[a-z]+", file.read_text(encoding="utf-8").lower()))

    @blocks.block
    def total(counts: List[Dict[str, int]]) -> Dict[str, int]:
        added: Counter[str] = Counter()
        for one in counts:
            added.update(one)
        return added

    names = [f"count{number}" for number in range(parts)]
    steps = [SeqBlockData("count", name=name) for name in names]

    @sequences.sequence(
        blocks=blocks,
        sequence=[*steps, SeqBlockData("total", parameters={"counts": [f"@{name}" for name in names]})],
        seq_id="words",
    )
    def words(context: Dict[str, Any]) -> Any:
        return context["total"]

    return words


def split_licence(folder: Path, parts: int) -> Dict[str, Dict[str, Any]]:
    """The text of the licence in several files, as parameters."""
    lines = (ROOT / "LICENSE").read_text(encoding="utf-8").splitlines(keepends=True)
    given = {}
    for number in range(parts):
        file = folder / f"part{number}.txt"
        file.write_text("".join(lines[number::parts]), encoding="utf-8")
        given[f"count{number}"] = {"file": file}
    return given


def test_words_are_counted_alike_in_every_order_of_the_files(run_every_order: Any, tmp_path: Path) -> None:
    runs = list(run_every_order(word_count(PARTS), split_licence(tmp_path, PARTS)))
    assert len(runs) == 24
    for run in runs:
        run.assert_completed()
        assert run.order[-1] == "total"
        assert (sum(run.output.values()), run.output["the"], run.output["covered"]) == (5519, 341, 42)


def test_words_are_counted_alike_over_a_hundred_files(run_sequence: Any, tmp_path: Path) -> None:
    run = run_sequence(word_count(100), split_licence(tmp_path, 100), seed=1)
    assert (sum(run.output.values()), run.output["the"]) == (5519, 341)
    assert run.order[:3] != ("count0", "count1", "count2")


# ---------------------------------------------------------------------- a paged source that is down for a while

paged_blocks, paged_sequences = BlazeBlock(), BlazeSequence()


@paged_blocks.block(retries=3)
def pages(url: str) -> List[int]:
    """All records, page by page; when the source says when to come back, that is when."""
    found: List[int] = []
    page = 1
    while page:
        try:
            with urlopen(f"{url}/records?page={page}", timeout=10) as answer:
                body = json.load(answer)
        except HTTPError as error:
            with error:
                raise Retry(f"page {page}: {error.code}", delay=float(error.headers["Retry-After"])) from None
        found += body["records"]
        page = body["next"]
    return found


@paged_sequences.sequence(blocks=paged_blocks, sequence=[SeqBlockData("pages")], seq_id="paged")
def paged(context: Dict[str, Any]) -> Any:
    return sum(context["pages"])


class Source(ThreadingHTTPServer):
    """Five pages of twenty records; the third is not to be had the first two times."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: List[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Source

    def do_GET(self) -> None:
        page = int(parse_qs(urlsplit(self.path).query)["page"][0])
        self.server.asked.append(page)
        if page == 3 and self.server.asked.count(3) <= 2:
            self.send_response(503)
            self.send_header("Retry-After", "120")
            self.end_headers()
            return
        body = json.dumps({"records": list(range(20 * page - 20, 20 * page)), "next": page % 5 and page + 1})
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def source() -> Iterator[Source]:
    with Source() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_paged_source_that_answers_503_twice_is_read_whole(run_sequence: Any, source: Source) -> None:
    run = run_sequence(paged, {"pages": {"url": source.url}})
    assert run.output == sum(range(100)) == 4950
    assert run.attempts("pages") == 3
    assert source.asked == [1, 2, 3, 1, 2, 3, 1, 2, 3, 4, 5]
    assert run.result.duration == pytest.approx(240, abs=1), "it waited for as long as the source asked"
