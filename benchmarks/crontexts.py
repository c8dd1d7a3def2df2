"""The cron expressions that are submitted: the same ones to Blaze, its peers and the bare loops."""

from __future__ import annotations

from typing import Iterator


def cron_texts(count: int) -> Iterator[str]:
    """Different daily and weekly times, as a company's jobs have them."""
    for number in range(count):
        minute, hour = number % 60, number // 60 % 24
        days = "*" if number < 1440 else f"{number // 1440 % 7}"
        yield f"{minute} {hour} * * {days}"
