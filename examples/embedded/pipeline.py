"""What the programs in this folder schedule: each tick tells the weather of another day in Seattle."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Dict, List, Optional

from blaze import BlazeBlock, BlazeSequence, SeqBlockData, current

DATA = Path(__file__).resolve().parents[1] / "data" / "seattle-weather.csv"

blocks = BlazeBlock()
sequences = BlazeSequence()


@blocks.block(tags=["extract"])
def read() -> Dict[str, str]:
    """The row of the day whose turn it is: the tick's number, modulo the days that there are."""
    with DATA.open(newline="") as file:
        rows: List[Dict[str, str]] = list(csv.DictReader(file))
    tick = current().scheduled_at
    return rows[int(tick.timestamp()) % len(rows)] if tick is not None else rows[0]


@blocks.block(tags=["transform"])
def describe(day: Dict[str, str]) -> str:
    """One line for people."""
    return f"{day['date']}: {day['weather']}, {day['temp_min']} to {day['temp_max']} °C, {day['precipitation']} mm"


@sequences.sequence(
    blocks=blocks,
    sequence=[SeqBlockData("read"), SeqBlockData("describe", parameters={"day": "@read"})],
    seq_id="weather",
)
def weather(context: Optional[Dict[str, str]] = None) -> str:
    """The line."""
    return (context or {})["describe"]
