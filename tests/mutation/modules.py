"""What is mutated, by which tests it is to be noticed, and which mutations change nothing."""

from __future__ import annotations

from typing import Dict, Tuple

#: Module below ``blaze/core`` -> files below ``tests``, those that fail first in front.
TESTS: Dict[str, Tuple[str, ...]] = {
    "when/decisions": ("unit/test_decisions.py", "integration/test_scheduler.py", "integration/test_jobs.py"),
    "when/schedule": ("unit/test_schedule.py", "unit/test_decisions.py"),
    "when/calendar": ("unit/test_schedule.py", "unit/test_decisions.py"),
    "do/rules": ("unit/test_rules.py", "acceptance/test_branches_and_retries.py"),
    "do/retrying": ("unit/test_rules.py", "acceptance/test_branches_and_retries.py", "integration/test_engine.py"),
    "do/run": (
        "acceptance/test_branches_and_retries.py", "integration/test_playing.py", "integration/test_faults.py",
        "integration/test_recovery.py", "integration/test_engine.py", "integration/test_timeouts.py",
        "integration/test_scheduler.py", "integration/test_state_faults.py",
    ),
    "do/pool": (
        "unit/test_pool.py", "integration/test_playing.py", "integration/test_engine.py", "integration/test_timeouts.py",
        "integration/test_virtual_scheduler.py", "integration/test_scheduler.py",
    ),
    "remember/journal": (
        "integration/test_journal.py", "integration/test_faults.py", "integration/test_state_faults.py", "integration/test_recovery.py",
        "integration/test_engine.py", "integration/test_fork.py", "integration/test_shared_state.py",
    ),
    "remember/ticks": (
        "integration/test_virtual_scheduler.py", "integration/test_scheduler.py", "integration/test_jobs.py",
        "integration/test_shared_state.py",
    ),
    "remember/recovery": (
        "integration/test_journal.py", "integration/test_faults.py", "integration/test_recovery.py",
        "integration/test_shared_state.py",
    ),
    "firing": (
        "integration/test_virtual_scheduler.py", "integration/test_scheduler.py", "integration/test_jobs.py",
        "integration/test_shared_state.py",
    ),
    "ticking": (
        "integration/test_virtual_scheduler.py", "integration/test_scheduler.py", "integration/test_jobs.py",
        "integration/test_shared_state.py",
    ),
}  # fmt: skip

# ruff: noqa: E501 -- lines are shown as they are

#: Mutations that survived and may: the line, what it became, and why that changes nothing that anybody was promised.
HARMLESS: Dict[Tuple[str, str, str], str] = {
    (
        "when/decisions",
        "low, high = last - width, last - MAX_CATCHUP + 1",
        "low, high = last - width, last - MAX_CATCHUP + 2",
    ): "the search begins a second further out, and finds the same",
    (
        "when/decisions",
        "low, high = last - width, last - MAX_CATCHUP + 1",
        "low, high = last >> width, last - MAX_CATCHUP + 1",
    ): "the search begins at 1970, and finds the same",
    (
        "when/decisions",
        "if timing.catchup == LATEST or due.number == 1 or timing.schedule is None:",
        "if timing.catchup == LATEST or due.number == 1 and timing.schedule is None:",
    ): "the newest of one tick is that tick; who has no schedule has one",
    (
        "when/decisions",
        "if timing.overlap == ALLOW or not running + queued + len(starts):",
        "if timing.overlap <= ALLOW or not running + queued + len(starts):",
    ): "'allow' is the first of the four in the alphabet",
    ("when/schedule", "@lru_cache(maxsize=1024)", ""): "jobs with the same text only take longer to be read",
    (
        "when/schedule",
        "if change == instant:",
        "if change is not instant:",
    ): "beside a change nothing fell into a gap, and the next change is looked up once more",
    (
        "when/schedule",
        "return self._fixed and 0 < offset - before < CORRECTION and self._falls_into(change + before, change + offset)",
        "return self._fixed and 0 != offset - before < CORRECTION and self._falls_into(change + before, change + offset)",
    ): "nothing falls into a gap that ends before it begins",
    (
        "firing",
        "self._unknown = {due: self._unknown[due] + passed if due in self._unknown else 0.0 for due in found}",
        "self._unknown = {due: self._unknown[due] + passed if due in self._unknown else 1.0 for due in found}",
    ): "a job whose sequence nobody has is parked a second earlier",
    (
        "firing",
        "in_time = now - due.next_at <= FORESIGHT",
        "in_time = now - due.next_at < FORESIGHT",
    ): "half a second late to the bit, what was prepared is prepared again",
    (
        "remember/ticks",
        "if len(rows) < number:",
        "if len(rows) != number:",
    ): "there are never more rows than were asked for",
    (
        "remember/ticks",
        "return priority if isinstance(priority, int) else 0",
        "return priority if isinstance(priority, int) else 1",
    ): "a job with a damaged priority is not fired but broken; only its place before that changes",
    (
        "remember/recovery",
        "\"SELECT 1 FROM steps WHERE id >= ? AND id < ? AND status = 'FAILED' LIMIT 1\", (first, step_key(key + 1, 0))",
        "\"SELECT 1 FROM steps WHERE id >= ? AND id < ? AND status = 'FAILED' LIMIT 1\", (first, step_key(key + 1, -1))",
    ): "concerns the last step of a run with as many steps as there may be at most",
}

__all__ = ["HARMLESS", "TESTS"]
