"""What is shown of data: nothing acts on the terminal, everything fits, times and durations read well."""

from __future__ import annotations

import time
from typing import Sequence

import pytest

from blaze import ValidationError
from blaze.cli import moments, tables, text
from blaze.cli.console import painted
from blaze.cli.tables import Cell


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain", "plain"),
        ("Größe 数", "Größe 数"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x00\x07\x7f\x9b2J", "\\x00\\x07\\x7f\\x9b2J"),
        ("abc\u202etxt.exe", "abc\\u202etxt.exe"),
        ("half \ud800", "half \\ud800"),
        (17, "17"),
    ],
)
def test_what_would_act_on_a_terminal_is_shown_as_an_escape(given: object, shown: str) -> None:
    assert text.visible(given) == shown


def test_a_block_of_text_keeps_its_lines_and_nothing_else_that_moves_the_cursor() -> None:
    assert text.visible_lines("one\n\ttwo\x1b[2J\r\nthree") == "one\n    two\\x1b[2J\\r\nthree"


@pytest.mark.parametrize(
    ("given", "width", "shown"),
    [("abcdef", 6, "abcdef"), ("abcdefg", 6, "abc..."), ("abcdefg", 2, ".."), ("abc", 0, ""), ("数据数据", 6, "数...")],
)
def test_text_is_clipped_to_columns_not_characters(given: str, width: int, shown: str) -> None:
    assert text.clipped(given, width) == shown
    assert text.width_of(shown) <= max(width, 0)


def drawn(width: int | None = None, boxes: bool = False) -> list[str]:
    rows = [("etl_pipeline", Cell("FAILED", "FAILED"), "a long story about what went wrong"), ("b", None, 3)]
    return tables.draw(("Seq ID", "Status", "Why"), rows, boxes=boxes, width=width, paint=painted if boxes else plain)


def plain(text: str, style: str) -> str:
    return text


def test_a_table_is_plain_aligned_text_without_blanks_at_the_end() -> None:
    assert drawn() == [
        "Seq ID        Status  Why",
        "etl_pipeline  FAILED  a long story about what went wrong",
        "b             -       3",
    ]


def test_a_table_with_boxes_has_lines_of_one_width_and_colour_that_takes_none() -> None:
    lines = drawn(boxes=True)
    assert lines[0].startswith("┌─") and lines[-1].endswith("─┘")
    assert "\x1b[31mFAILED\x1b[0m" in lines[3]
    assert (
        len(
            {
                text.width_of(line.replace("\x1b[31m", "").replace("\x1b[1m", "").replace("\x1b[0m", ""))
                for line in lines
            }
        )
        == 1
    )


def test_a_table_is_clipped_where_it_is_widest_so_that_it_fits() -> None:
    assert drawn(width=40)[1] == "etl_pipeline  FAILED  a long story ab..."


def test_a_table_becomes_records_where_no_table_fits() -> None:
    assert drawn(width=20)[:3] == ["Seq ID: etl_pipeline", "Status: FAILED", "Why: a long story about what went wrong"]


def test_a_cell_can_not_break_its_table() -> None:
    lines = tables.draw(("A", "B"), [("x\ny", "\x1b[1A")], boxes=False, width=None, paint=plain)
    assert lines == ["A     B", "x\\ny  \\x1b[1A"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0.0, "0.0ms"),
        (0.0521, "52.1ms"),
        (0.0999, "0.10s"),
        (45.23, "45.23s"),
        (59.999, "1m 00s"),
        (185, "3m 05s"),
        (3599.7, "1h 00m"),
        (7800, "2h 10m"),
        (200_000, "2d 7h"),
    ],
)
def test_a_duration_reads_well(seconds: float | None, shown: str) -> None:
    assert moments.duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.2, "now"), (59, "59s ago"), (3599, "59m ago"), (86_400, "1d ago"), (-900, "<15m"), (-1, "<1s"), (-7e5, "<9d")],
)
def test_how_far_away_an_instant_is(seconds: float, shown: str) -> None:
    assert moments.ago(seconds) == shown


def test_a_time_beyond_the_calendar_is_told_and_not_raised() -> None:
    assert moments.local(1e20) == "beyond the calendar"
    assert moments.iso(1e20) is None


def test_times_in_json_are_utc() -> None:
    assert moments.iso(0) == "1970-01-01T00:00:00+00:00"


def test_since_takes_an_age_or_a_date() -> None:
    assert moments.since("90s", now=1000.0) == 910.0
    assert moments.since("2h", now=10_000.0) == 2_800.0
    assert moments.since("1970-01-02T00:00:00Z") == 86_400.0
    assert moments.since("2026-01-31T14:30") == time.mktime((2026, 1, 31, 14, 30, 0, 0, 0, -1))


@pytest.mark.parametrize(
    "given", ["", "h", "-3h", "nanh", "infd", "yesterday", "2026-13-01", "9" * 400 + "d", "\x1b[0m"]
)
def test_since_refuses_what_is_no_time(given: str) -> None:
    with pytest.raises(ValidationError, match="is no time"):
        moments.since(given, now=0.0)


# ---------------------------------------------------------------------- narrow tables

TITLES = ("Seq ID", "Last Run", "Next Run", "Status", "Total Execution Time")
LINE = ("etl_pipeline", "2026-11-27 23:57:46 20s ago", "2026-11-28 00:00:00 <2m", "COMPLETED", "0.02s")


def table(width: int | None, *, boxes: bool = True, rows: Sequence[Sequence[str]] = (LINE,)) -> list[str]:
    return tables.draw(TITLES, rows, boxes=boxes, width=width, paint=plain)


@pytest.mark.parametrize("boxes", [True, False])
@pytest.mark.parametrize("width", [*range(10, 130, 7), 80])
def test_a_table_is_never_wider_than_its_terminal_unless_it_is_written_as_records(width: int, boxes: bool) -> None:
    lines = table(width, boxes=boxes)
    assert lines[0].startswith("Seq ID: ") or max(map(text.width_of, lines)) <= width


def test_at_eighty_columns_a_time_is_told_to_the_minute_and_titles_stand_below_each_other() -> None:
    lines = table(80)
    assert "│ 2026-11-27 23:57… │ 2026-11-28 00:00… │ COMPLETED │ 0.02s " in lines[-2]
    assert [line.split("│")[5].strip() for line in lines[1:4]] == ["Total", "Execution", "Time"]


def test_where_there_is_room_nothing_is_clipped_or_wrapped() -> None:
    for lines in (table(None), table(130)):
        assert len(lines) == 5 and all(title in lines[1] for title in TITLES) and all(cell in lines[3] for cell in LINE)


def test_boxes_are_left_out_before_a_time_becomes_unreadable() -> None:
    lines = table(72)
    assert not lines[-1].startswith("└") and "2026-11-28 00:00…" in lines[-1]
    assert table(60)[1] == f"Last Run: {LINE[1]}"


def test_a_table_without_rows_has_its_titles() -> None:
    assert all(word in "".join(table(80, rows=())) for title in TITLES for word in title.split())
