"""Blocks for child processes, and the values that test_recovery.py stores as parameters."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Optional
from uuid import UUID


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Window:
    first: date
    length: timedelta = timedelta(days=1)
    colour: Colour = Colour.RED
    limits: tuple[int, ...] = (1, 2)


@dataclass
class Request:
    windows: list[Window] = field(default_factory=list)
    price: Optional[Decimal] = None
    key: Optional[UUID] = None
    at: Optional[datetime] = None
    path: Optional[Path] = None


def tell_the_pid_and_wait(file: str) -> Any:
    """The first time: tell the own process id and wait for ever. Then: return."""
    if os.path.exists(file):
        return "done"
    with open(f"{file}.part", "w") as witness:
        witness.write(str(os.getpid()))
    os.rename(f"{file}.part", file)
    while True:
        time.sleep(60)
