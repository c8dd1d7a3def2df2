"""A real ETL: four years of Seattle's weather, from CSV files into a SQLite warehouse and a report.

    extract ────────┐              ┌─ monthly_climate ─┐
                    ├── validate ──┼─ extremes ────────┼── load ── report ── notify
    extract_broken ─┘              └─ weather_mix ─────┘

Every block is a plain function: import this module and call it. `run.py` beside it runs the
sequence durably and kills it on the way. Without parameters it reads the files in
`examples/data` and makes `weather.db` in the current directory.
"""

from __future__ import annotations

import csv
import functools
import logging
import math
import sqlite3
from contextlib import closing
from datetime import date, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, TypeVar, cast

from blaze import Abort, BlazeBlock, BlazeSequence, SeqBlockData, StepContext, current

DATA = Path(__file__).resolve().parents[1] / "data"
COLUMNS = ["date", "precipitation", "temp_max", "temp_min", "wind", "weather"]
KINDS = ("drizzle", "fog", "rain", "snow", "sun")
#: By month: December, January and February are winter, and so on.
SEASONS = ("winter", "spring", "summer", "autumn")

log = logging.getLogger(__name__)
blocks = BlazeBlock()
sequences = BlazeSequence()

Block = TypeVar("Block", bound=Callable[..., Any])
#: Are told of every execution: "start" or "end", and the context of the step.
watchers: List[Callable[[str, StepContext], None]] = []


def watched(function: Block) -> Block:
    """Tell the watchers when a block starts and when it has returned: blocks can be decorated like any function."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for watcher in watchers:
            watcher("start", current())
        value = function(*args, **kwargs)
        for watcher in watchers:
            watcher("end", current())
        return value

    return cast(Block, call)


# What the blocks hand to each other. An output is stored, so that a crash doesn't lose it:
# plain data at module level can be. The fields are the warehouse's columns in their order.


class RawRow(NamedTuple):
    """A row as it stands in its file."""

    source: str
    line: int
    values: Sequence[str]


class Day(NamedTuple):
    """The weather of one day: mm, °C, m/s."""

    date: date
    precipitation: float
    temp_max: float
    temp_min: float
    wind: float
    weather: str


class BadRow(NamedTuple):
    """A row that is no observation, and why."""

    source: str
    line: int
    reason: str
    text: str


class Validated(NamedTuple):
    """The two piles that validation makes."""

    good: List[Day]
    bad: List[BadRow]


class Month(NamedTuple):
    """The climate of one month: sums and means over its days."""

    month: str
    days: int
    wet_days: int
    precipitation: float
    mean_max: float
    mean_min: float


class Extreme(NamedTuple):
    """A record: the day, or the days from the first to the last, on which it was set."""

    name: str
    value: float
    unit: str
    first_day: date
    last_day: date


class Mix(NamedTuple):
    """How often one kind of weather came in one season, and the mean wind (m/s) with it."""

    season: str
    weather: str
    days: int
    mean_wind: float


class Loaded(NamedTuple):
    """Where the tables are, and how many rows the load deleted and inserted."""

    warehouse: Path
    rows_changed: int


# ---------------------------------------------------------------------- extract


@blocks.block(tags=["extract"], retries=3, retry_delay=1, retry_backoff=2, retry_on=OSError, timeout=60)
@watched
def read_csv(path: Path) -> List[RawRow]:
    """Read the rows of a file of observations, right or wrong. A disk that hiccups gets three more chances."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        if next(reader, None) != COLUMNS:
            raise Abort(f"{path} doesn't begin with {','.join(COLUMNS)}")  # it won't the next time either
        return [RawRow(path.name, reader.line_num, values) for values in reader if values]


# ---------------------------------------------------------------------- validate


@blocks.block(tags=["transform"])
@watched
def validate(feeds: List[List[RawRow]], coldest: float = -60.0, hottest: float = 60.0) -> Validated:
    """Part the observations from the rows that are none. No row is dropped; the first row of a date counts.

    :param feeds: the rows of each file.
    :param coldest: °C; a lower temperature is a mistake.
    :param hottest: °C; a higher temperature is a mistake.
    """
    days: Dict[date, Day] = {}
    bad: List[BadRow] = []
    for row in (row for feed in feeds for row in feed):
        try:
            day = parse_day(row.values, coldest, hottest)
            if day.date in days:
                raise ValueError("duplicate date")
            days[day.date] = day
        except ValueError as fault:
            bad.append(BadRow(row.source, row.line, str(fault), ",".join(row.values)))
    if not days:
        raise Abort("no row is good; the warehouse is left as it is")
    log.info("%d rows are good, %d are not", len(days), len(bad))
    return Validated([days[key] for key in sorted(days)], bad)


def parse_day(values: Sequence[str], coldest: float, hottest: float) -> Day:
    """Make a day of a row. Raises ValueError with the first thing that is wrong with it."""
    if len(values) != len(COLUMNS):
        raise ValueError("wrong number of columns")
    when, *amounts, weather = values
    precipitation, temp_max, temp_min, wind = map(parse_number, COLUMNS[1:], amounts)
    day = Day(parse_date(when), precipitation, temp_max, temp_min, wind, weather)
    if day.precipitation < 0 or day.wind < 0:
        raise ValueError("negative amount")
    if not (coldest <= day.temp_max <= hottest and coldest <= day.temp_min <= hottest):
        raise ValueError("impossible temperature")
    if day.temp_min > day.temp_max:
        raise ValueError("temp_min above temp_max")
    if weather not in KINDS:
        raise ValueError("unknown weather")
    return day


def parse_date(text: str) -> date:
    """2012/12/31 as a date. Raises ValueError."""
    if not text:
        raise ValueError("missing date")
    try:
        return datetime.strptime(text, "%Y/%m/%d").date()
    except ValueError:
        raise ValueError("no such date") from None


def parse_number(column: str, text: str) -> float:
    """A finite number. Raises ValueError; ``nan`` and ``inf`` measure nothing."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{column} is no number")
    return number


# ---------------------------------------------------------------------- transform: three views of the same days


@blocks.block(tags=["transform"])
@watched
def monthly_climate(days: List[Day]) -> List[Month]:
    """Sum up each month."""
    months: List[Month] = []
    for month, group in groupby(days, key=lambda day: day.date.strftime("%Y-%m")):
        its = list(group)
        months.append(
            Month(
                month,
                days=len(its),
                wet_days=sum(day.precipitation > 0 for day in its),
                precipitation=math.fsum(day.precipitation for day in its),
                mean_max=mean(day.temp_max for day in its),
                mean_min=mean(day.temp_min for day in its),
            )
        )
    return months


@blocks.block(tags=["transform"])
@watched
def extremes(days: List[Day]) -> List[Extreme]:
    """Find the records. Of equal ones the earliest stands."""

    def highest(name: str, unit: str, measure: Callable[[Day], float], sign: int = 1) -> Extreme:
        day = max(days, key=lambda day: sign * measure(day))
        return Extreme(name, measure(day), unit, day.date, day.date)

    return [
        highest("hottest day", "°C", lambda day: day.temp_max),
        highest("coldest day", "°C", lambda day: day.temp_min, sign=-1),
        highest("wettest day", "mm", lambda day: day.precipitation),
        highest("windiest day", "m/s", lambda day: day.wind),
        *longest_spells("longest dry spell", [day.date for day in days if day.precipitation == 0]),
        *longest_spells("longest wet spell", [day.date for day in days if day.precipitation > 0]),
    ]


def longest_spells(name: str, dates: List[date]) -> List[Extreme]:
    """The longest stretch of consecutive days among ascending dates; none if there are no dates."""
    if not dates:
        return []
    # Within a stretch the date and its position grow alike.
    spells = groupby(enumerate(dates), key=lambda pair: pair[1].toordinal() - pair[0])
    longest = max(([day for _, day in spell] for _, spell in spells), key=len)
    return [Extreme(name, len(longest), "days", longest[0], longest[-1])]


@blocks.block(tags=["transform"])
@watched
def weather_mix(days: List[Day]) -> List[Mix]:
    """Count the kinds of weather in each season, and average the wind that came with them."""
    winds: Dict[Tuple[str, str], List[float]] = {}
    for day in days:
        season = SEASONS[day.date.month % 12 // 3]
        winds.setdefault((season, day.weather), []).append(day.wind)
    return [Mix(*key, days=len(values), mean_wind=mean(values)) for key, values in sorted(winds.items())]


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean of at least one number."""
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)


# ---------------------------------------------------------------------- load

SCHEMA = """
CREATE TABLE IF NOT EXISTS days (
    date TEXT PRIMARY KEY, precipitation REAL, temp_max REAL, temp_min REAL, wind REAL, weather TEXT);
CREATE TABLE IF NOT EXISTS months (
    month TEXT PRIMARY KEY, days INTEGER, wet_days INTEGER, precipitation REAL, mean_max REAL, mean_min REAL);
CREATE TABLE IF NOT EXISTS extremes (
    name TEXT PRIMARY KEY, value REAL, unit TEXT, first_day TEXT, last_day TEXT);
CREATE TABLE IF NOT EXISTS mix (
    season TEXT, weather TEXT, days INTEGER, mean_wind REAL, PRIMARY KEY (season, weather));
CREATE TABLE IF NOT EXISTS quarantine (
    source TEXT, line INTEGER, reason TEXT, text TEXT, PRIMARY KEY (source, line));
CREATE TABLE IF NOT EXISTS loads (
    idempotency_key TEXT PRIMARY KEY, executions INTEGER, rows_changed INTEGER);
"""


@blocks.block(tags=["load"], retries=5, retry_delay=1, retry_backoff=2, retry_on=sqlite3.OperationalError, timeout=120)
@watched
def load(
    days: List[Day],
    quarantine: List[BadRow],
    monthly_climate: List[Month],
    extremes: List[Extreme],
    weather_mix: List[Mix],
    warehouse: Path = Path("weather.db"),
    key: Optional[str] = None,
) -> Loaded:
    """Make the warehouse hold exactly this, in one transaction. Doing it again changes nothing.

    :param warehouse: the SQLite file; made if it is missing.
    :param key: what the load is called in the table ``loads``; default: the idempotency key
        of the running step, which stays the same however often a crash makes it run again.
    """
    tables: Dict[str, Sequence[Tuple[Any, ...]]] = {
        "days": days,
        "quarantine": quarantine,
        "months": monthly_climate,
        "extremes": extremes,
        "mix": weather_mix,
    }
    with closing(sqlite3.connect(warehouse, timeout=30)) as connection, connection:
        for statement in filter(str.strip, SCHEMA.split(";")):
            connection.execute(statement)
        connection.execute("BEGIN IMMEDIATE")
        changed = sum(replace_rows(connection, table, rows) for table, rows in tables.items())
        connection.execute(
            "INSERT INTO loads VALUES (?, 1, ?) ON CONFLICT (idempotency_key) DO UPDATE SET"
            " executions = executions + 1, rows_changed = rows_changed + excluded.rows_changed",
            (key or current().idempotency_key, changed),
        )
    log.info("%s: %d rows changed", warehouse, changed)
    return Loaded(warehouse.absolute(), changed)


def replace_rows(connection: sqlite3.Connection, table: str, rows: Sequence[Tuple[Any, ...]]) -> int:
    """Make a table hold exactly these rows; how many it deleted and inserted. Equal rows are left alone."""
    columns = [column for _, column, *_ in connection.execute(f"PRAGMA table_info({table})")]
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    connection.execute(f"CREATE TEMP TABLE incoming AS SELECT * FROM {table} LIMIT 0")
    connection.executemany(f"INSERT INTO incoming VALUES ({marks})", (tuple(map(storable, row)) for row in rows))
    gone = f"SELECT * FROM {table} EXCEPT SELECT * FROM incoming"
    new = f"SELECT * FROM incoming EXCEPT SELECT * FROM {table}"
    deleted = connection.execute(f"DELETE FROM {table} WHERE ({names}) IN ({gone})").rowcount
    inserted = connection.execute(f"INSERT INTO {table} {new}").rowcount
    connection.execute("DROP TABLE incoming")
    return deleted + inserted


def storable(value: Any) -> Any:
    """A date as text in ISO form, so that SQL can sort and cut it; anything else as it is."""
    return value.isoformat() if isinstance(value, date) else value


# ---------------------------------------------------------------------- report


@blocks.block(tags=["report"], timeout=60)
@watched
def report(warehouse: Path) -> str:
    """Tell what the warehouse holds."""
    with closing(sqlite3.connect(warehouse, timeout=30)) as connection:
        return "\n\n".join(part(connection) for part in (headline, years, calendar, records, kinds_of_weather))


def headline(connection: sqlite3.Connection) -> str:
    """How much there is, and how much was put aside."""
    days, first, last = connection.execute("SELECT COUNT(*), MIN(date), MAX(date) FROM days").fetchone()
    (bad,) = connection.execute("SELECT COUNT(*) FROM quarantine").fetchone()
    return f"The weather of Seattle, {first} to {last}: {days:,} days; {bad} rows are in quarantine"


def years(connection: sqlite3.Connection) -> str:
    """The climate of each year."""
    return climate(connection, "SELECT substr(date, 1, 4) AS label, * FROM days", per_year=False)


def calendar(connection: sqlite3.Connection) -> str:
    """The climate of each calendar month in an average year."""
    return climate(connection, "SELECT substr(date, 6, 2) AS label, * FROM days", per_year=True)


def climate(connection: sqlite3.Connection, days: str, per_year: bool) -> str:
    """Sums and means of days, one column for each of their labels."""
    divisor = "COUNT(DISTINCT substr(date, 1, 4))" if per_year else "1"
    # The data have one decimal: rounded to it, a sum is exact in every version of SQLite.
    found = connection.execute(
        f"SELECT label, ROUND(SUM(precipitation), 1) / {divisor}, SUM(precipitation > 0) * 1.0 / {divisor},"
        " ROUND(SUM(temp_max), 1) / COUNT(*), ROUND(SUM(temp_min), 1) / COUNT(*)"
        f" FROM ({days}) GROUP BY label ORDER BY label"
    )
    labels, *lines = zip(*found)
    if per_year:
        labels = tuple(date(2000, int(month), 1).strftime("%b") for month in labels)
    names = ("precipitation mm", "wet days", "mean high °C", "mean low °C")
    cells = [[name, *(f"{value:.1f}" for value in line)] for name, line in zip(names, lines)]
    return aligned([["per month" if per_year else "per year", *labels], *cells])


def records(connection: sqlite3.Connection) -> str:
    """The records."""
    found = connection.execute("SELECT name, value, unit, first_day, last_day FROM extremes ORDER BY name")
    return aligned(
        [
            [name, f"{value:g} {unit}", first, f"to {last}" if last != first else ""]
            for name, value, unit, first, last in found
        ]
    )


def kinds_of_weather(connection: sqlite3.Connection) -> str:
    """Days of each kind of weather in each season, with the mean wind."""
    found = {
        (season, weather): f"{days} at {wind:.1f}"
        for season, weather, days, wind in connection.execute("SELECT season, weather, days, mean_wind FROM mix")
    }
    lines = [[weather, *(found.get((season, weather), "-") for season in SEASONS)] for weather in KINDS]
    return aligned([["days at m/s of wind", *SEASONS], *lines])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table as text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join([first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:]))]).rstrip()
        for first, *rest in rows
    )


@blocks.block(tags=["notify"], retries=2, retry_delay=5, timeout=30)
@watched
def notify(report: Optional[str]) -> str:
    """Tell the people who wait for it, whatever happened. Here the log has to do for a mail."""
    message = report.splitlines()[0] if report else "There is no report on the weather today: the run failed."
    log.info("%s", message)
    return message


# ---------------------------------------------------------------------- the sequence


@sequences.sequence(
    blocks=blocks,
    sequence=[
        # One block in two places: each place needs a name.
        SeqBlockData("read_csv", name="extract", parameters={"path": DATA / "seattle-weather.csv"}),
        SeqBlockData("read_csv", name="extract_broken", parameters={"path": DATA / "seattle-weather-bad-rows.csv"}),
        # "@step" is that step's output, also inside lists and dicts. A reference makes it a dependency.
        SeqBlockData("validate", parameters={"feeds": ["@extract", "@extract_broken"]}),
        # "@step.name" walks into an output: by key, index or attribute.
        SeqBlockData("monthly_climate", parameters={"days": "@validate.good"}),
        SeqBlockData("extremes", parameters={"days": "@validate.good"}),
        SeqBlockData("weather_mix", parameters={"days": "@validate.good"}),
        # Parameters with the names of dependencies need no words: they receive their outputs.
        SeqBlockData(
            "load",
            dependencies=["monthly_climate", "extremes", "weather_mix"],
            parameters={"days": "@validate.good", "quarantine": "@validate.bad"},
        ),
        SeqBlockData("report", parameters={"warehouse": "@load.warehouse"}),
        # After a failure, too; `report` is None then.
        SeqBlockData("notify", dependencies=["report"], run_when="all_done"),
    ],
    seq_id="weather_etl",
    seq_run_timeout=600,
)
def weather_etl(context: Dict[str, Any]) -> str:
    """Four years of Seattle's weather into a warehouse; the run's output is the report."""
    return cast(str, context["report"])
