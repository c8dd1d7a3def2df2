"""`SequenceRun`: a run that a test played, and what can be asserted of it.

A failed assertion shows what was expected, the run's tree, the failing step's arguments
and its log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Deque, Dict, List, NoReturn, Optional, Tuple

from blaze.core.ground.errors import BlazeError, NotFound
from blaze.core.ground.names import did_you_mean
from blaze.core.ground.status import RunStatus

from .story import Line, RunStory, StepStory, story_of_result

if TYPE_CHECKING:
    from blaze.core.do.result import RunResult

#: The stories of the newest runs, without their outputs: what a failed test's report shows.
RECENT: Deque[RunStory] = deque(maxlen=20)


class SequenceRun:
    """A run that has ended, played by a test.

    ::

        run = run_sequence(etl, overrides={"fetch": rows})
        run.assert_completed().assert_order("fetch", "clean")
        assert run.outputs["clean"] == [...]
    """

    def __init__(
        self, story: RunStory, result: Optional[RunResult] = None, executions: Optional[Mapping[str, int]] = None
    ) -> None:
        self.story = story
        self._result = result
        self._steps: Dict[str, StepStory] = {step.name: step for step in story.steps}
        self._executions = executions
        RECENT.append(story)

    @classmethod
    def of(cls, result: RunResult) -> SequenceRun:
        """The run behind a :class:`RunResult`."""
        return cls(story_of_result(result), result)

    @property
    def result(self) -> RunResult:
        """The run's own result. Raises :class:`BlazeError` for one that ended in another process."""
        if self._result is None:
            raise BlazeError(f"run {self.story.run_id} ended in a process that is gone; its outputs are not at hand")
        return self._result

    @property
    def status(self) -> RunStatus:
        """COMPLETED, FAILED or CANCELLED."""
        return self.story.status

    @property
    def reason(self) -> Optional[str]:
        """``timeout``, ``fail_stop``, ... or None."""
        return self.story.reason

    @property
    def output(self) -> Any:
        """What the finaliser returned."""
        return self.result.output

    @property
    def outputs(self) -> Mapping[str, Any]:
        """The outputs of the completed steps, by name."""
        return self.result.outputs

    @property
    def order(self) -> Tuple[str, ...]:
        """The steps that were run, in the order in which they ended."""
        return self.story.order

    @property
    def steps(self) -> Mapping[str, StepStory]:
        """What became of each step, by name."""
        return self._steps

    def step(self, name: str) -> StepStory:
        """What became of a step. Raises :class:`NotFound`."""
        found = self._steps.get(name)
        if found is None:
            raise NotFound(f"there is no step {name!r} in '{self.story.seq_id}'{did_you_mean(name, self._steps)}")
        return found

    def attempts(self, step: str) -> int:
        """How many attempts a step took; 0 if it was not run. Raises :class:`NotFound`."""
        return self.step(step).attempts

    def executions(self, step: str) -> int:
        """How often the step's function was called: after a crash, in all processes together."""
        attempts = self.step(step).attempts
        return attempts if self._executions is None else self._executions.get(step, 0)

    def logs(self, step: Optional[str] = None) -> List[Line]:
        """What a step logged, or all steps."""
        if step is not None:
            self.step(step)
        return [line for line in self.story.logs if step is None or line.step == step]

    def tree(self) -> str:
        """The run and its steps, a line each."""
        return self.story.tree()

    # ------------------------------------------------------------------ asserting

    def assert_completed(self) -> SequenceRun:
        """The run is COMPLETED."""
        return self.assert_status(RunStatus.COMPLETED)

    def assert_failed(self, step: Optional[str] = None, reason: Optional[str] = None) -> SequenceRun:
        """The run is FAILED; if a step is named, it is that one that failed, and with ``reason`` if that is given."""
        self.assert_status(RunStatus.FAILED)
        if step is not None and self.step(step).status.value != "FAILED":
            self._refuse(f"step '{step}' to be FAILED, it is {self.step(step).status.value}")
        found = self.reason if step is None else self.step(step).reason
        if reason is not None and found != reason:
            self._refuse(f"the reason {reason!r}, it is {found!r}")
        return self

    def assert_status(self, status: RunStatus) -> SequenceRun:
        """The run ended so."""
        if self.status is not RunStatus(status):
            self._refuse(f"the run to be {RunStatus(status).value}, it is {self.status.value}")
        return self

    def assert_ran(self, *steps: str) -> SequenceRun:
        """Each of these steps was run, whether or not it succeeded."""
        missing = [name for name in steps if not self.attempts(name)]
        if missing:
            self._refuse(f"{_listed(missing)} to have run")
        return self

    def assert_not_ran(self, *steps: str) -> SequenceRun:
        """None of these steps was run."""
        present = [name for name in steps if self.attempts(name)]
        if present:
            self._refuse(f"{_listed(present)} not to have run")
        return self

    def assert_order(self, *steps: str) -> SequenceRun:
        """These steps were run, and ended in this order; others may lie between."""
        self.assert_ran(*steps)
        places = [self.order.index(name) for name in steps]
        if places != sorted(places):
            self._refuse(f"the order {' -> '.join(steps)}, it was {' -> '.join(self.order)}")
        return self

    def assert_outcomes(self, **statuses: str) -> SequenceRun:
        """Each step named ended so: ``assert_outcomes(fetch="COMPLETED", load="SKIPPED")``."""
        wrong = [
            f"step '{name}' to be {status}, it is {self.step(name).status.value}"
            for name, status in statuses.items()
            if self.step(name).status.value != status
        ]
        if wrong:
            self._refuse("; ".join(wrong))
        return self

    def _refuse(self, expected: str) -> NoReturn:
        raise AssertionError(f"expected {expected}\n\n{self.story}")

    def __repr__(self) -> str:
        return f"<SequenceRun of {self.story.seq_id!r}: {self.status.value}>"


def _listed(names: List[str]) -> str:
    return ("step " if len(names) == 1 else "steps ") + ", ".join(f"'{name}'" for name in names)


__all__ = ["RECENT", "SequenceRun"]
