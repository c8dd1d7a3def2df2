"""A run without a scheduler: in memory, in this process, over when the call returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping

from ..ground.context import RunInfo
from ..ground.names import new_run_id
from ..what.plan import Plan
from .engine import Engine
from .result import RunResult

if TYPE_CHECKING:
    from concurrent.futures import Executor

#: Seconds for which a run goes on with nobody to watch the clock: most are over by then, and a thread less is made.
UNWATCHED = 0.01


def run_in_memory(plan: Plan, max_workers: int, executors: Mapping[str, Executor]) -> RunResult:
    """Run a plan with workers of its own and wait for its end. Nothing is recorded."""
    engine = Engine(min(max_workers, max(1, len(plan.steps))), executors=executors)
    try:
        now = engine.clock.time()
        run = engine.make_run(plan, RunInfo(new_run_id(), plan.seq_id), now, plan.deadline(now))
        engine.begin(run, watch=False)
        try:
            run.ending.wait(UNWATCHED)
        finally:
            if not run.ending.over:
                engine.watch()
        return run.wait(None)
    finally:
        engine.close()
