"""What follows for a run from the end of one of its steps, or from being halted.

Everything here is called under the run's lock. What has to be done next is appended to
``ready``, and what has to be written down to the journal's pending list; nothing waits.
"""

from __future__ import annotations

from typing import List, Optional, Tuple

from ..ground.status import BlockStatus, RunStatus
from .pool import Item
from .rules import mixture_of, skip_reason, starts
from .run_state import BROKEN, END, TIMEOUT, RunState

PENDING, RETRYING = BlockStatus.PENDING, BlockStatus.RETRYING
COMPLETED, SKIPPED, CANCELLED = BlockStatus.COMPLETED, BlockStatus.SKIPPED, BlockStatus.CANCELLED


class Consequences(RunState):
    """The transitions of a run that others bring with them."""

    __slots__ = ()

    def _release(self, index: int, ready: List[Item]) -> None:
        """A step has ended for good: its dependents have one less to wait for."""
        if self.tells_steps:
            self._tell_step(index)
        waiting = self.waiting
        for target in self.plan.dependents[index]:
            left = waiting[target] - 1
            waiting[target] = left
            if not left:
                if self.clean:
                    ready.append((self, target))
                else:
                    self._decide(target, ready)
        if self.consumers is not None:
            self._let_go(index)
        self.open -= 1
        if not self.open:
            self._all_ended(ready)

    def _all_ended(self, ready: List[Item]) -> None:
        """The finaliser, if nothing failed; then the end."""
        if self.failures or self.halted or self.statuses[self.final] is not PENDING:
            ready.append((self, END))
        else:
            ready.append((self, self.final))

    def _decide(self, index: int, ready: List[Item]) -> None:
        """Start or skip a step whose dependencies have ended, and what follows from it."""
        stack = [index]
        dependencies, dependents = self.plan.dependencies, self.plan.dependents
        while stack:
            index = stack.pop()
            if self.statuses[index] is not PENDING:
                continue
            mixture = mixture_of(self.statuses[source] for source in dependencies[index])
            if starts(self.plan.steps[index].run_when, mixture):
                ready.append((self, index))
                continue
            self._drop(index, SKIPPED, skip_reason(mixture, map(self.reasons.get, dependencies[index])))
            for target in dependents[index]:
                self.waiting[target] -= 1
                if not self.waiting[target]:
                    stack.append(target)
            if not self.open:
                self._all_ended(ready)

    def _drop(self, index: int, status: BlockStatus, reason: str) -> None:
        """A step ends without having been attempted."""
        self.statuses[index] = status
        self.reasons[index] = reason
        self.outputs.absent.add(index)
        self.clean = False
        self.open -= 1
        if self.consumers is not None:
            self._consumed(index)
        if self.engine.recorder is not None:
            self.engine.recorder.step(self.key, index, status, reason, self.attempts[index], None, None)
        if self.tells_steps:
            self._tell_step(index)

    def _step_ended(
        self, index: int, status: BlockStatus, reason: Optional[str], ready: List[Item], error: Optional[str] = None
    ) -> None:
        """A step that was attempted ended without an output."""
        self.clean = False
        self.ends.append(index)
        if reason:
            self.reasons[index] = reason
        if index == self.final:
            ready.append((self, END))
            return
        self.outputs.absent.add(index)
        recorder = self.engine.recorder
        if not self.engine.awaits_commits:
            self._release(index, ready)
        if recorder is not None:
            recorder.step(
                self.key,
                index,
                status,
                reason,
                self.attempts[index],
                self.started[index] + self.zero,
                self.seconds_of[index],
                error,
                token=(self, index) if self.engine.awaits_commits else None,
            )

    def _halt(self, reason: str, ready: List[Item]) -> None:
        """Cancel every step that has not started."""
        self.halted = reason
        self.clean = False
        was_open = self.open
        for index in range(self.final):
            status = self.statuses[index]
            if status is PENDING or status is RETRYING:
                self._drop(index, CANCELLED, reason)
        self.retrying = 0
        if was_open and not self.open:
            self._all_ended(ready)
        elif not self.open and self.statuses[self.final] is PENDING:
            self.statuses[self.final] = CANCELLED
            ready.append((self, END))

    def _verdict(self) -> Tuple[RunStatus, Optional[str]]:
        """How the run has ended, and why so."""
        if self.halted == BROKEN:
            return RunStatus.FAILED, BROKEN
        if self.statuses[self.final] is COMPLETED:
            return RunStatus.COMPLETED, None
        if self.halted == TIMEOUT:
            return RunStatus.FAILED, TIMEOUT
        if self.halted is not None and self.halted != "fail_stop":
            return RunStatus.FAILED if self.failures else RunStatus.CANCELLED, self.halted
        if self.failures:
            only = next(iter(self.failures.values()))
            return RunStatus.FAILED, "finaliser" if self.final in self.failures else only.reason
        return RunStatus.COMPLETED, None

    def _tell_step(self, index: int) -> None:
        """Tell the hooks that a step has ended."""
        if self.engine.herald is not None:
            self.engine.herald.step_ended(self, index)

    def _let_go(self, index: int) -> None:
        """``keep_outputs=False``: an ended step has read what it needed."""
        consumers = self.consumers
        if consumers is None:
            return
        if not consumers[index]:
            self.outputs[index] = None
            self.outputs.absent.add(index)
        self._consumed(index)

    def _consumed(self, index: int) -> None:
        """A step reads no output any more."""
        consumers = self.consumers
        if consumers is None:
            return
        for source in self.plan.steps[index].arguments.sources:
            consumers[source] -= 1
            if not consumers[source]:
                self.outputs[source] = None
                self.outputs.absent.add(source)
