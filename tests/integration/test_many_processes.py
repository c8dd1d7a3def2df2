"""A fleet of processes on one state directory, killed, frozen, stopped and misled about the time.

DESIGN §3, §4, §6; RELIABILITY R3 to R8, R12, R20 to R24. What is done and what is held against the promises
stands in ``fleet``, what each process does in ``fleet_program``.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.integration.fleet import Fleet

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="freezes processes")


def campaign(folder: Path, size: int, seconds: float, seed: int) -> str:
    with Fleet(folder, size, seed) as fleet:
        fleet.rage(seconds)
        fleet.calm()
        return fleet.check()


def test_a_fleet_in_trouble_fires_every_tick_once_or_says_why_not(tmp_path: Path) -> None:
    campaign(tmp_path, 4, 3.0, seed=1)


@pytest.mark.slow
def test_eight_processes_in_trouble_for_minutes(tmp_path: Path) -> None:
    """RELIABILITY section 6: lost, doubled, stuck, completed and run again: all zero."""
    seconds = float(os.environ.get("BLAZE_CAMPAIGN_SECONDS", "120"))
    seed = int.from_bytes(os.urandom(4), "big")
    print("\n" + campaign(tmp_path, 8, seconds, int(os.environ.get("BLAZE_CAMPAIGN_SEED", seed))))
