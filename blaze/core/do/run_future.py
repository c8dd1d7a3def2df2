"""The end of a run as a ``concurrent.futures.Future``, made only for who asks for one."""

from __future__ import annotations

from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from .pool import Pool
    from .result import RunResult


class RunFuture(Future["RunResult"]):
    """A block that waits in ``result`` or ``exception`` lends its worker, as in ``RunHandle.result``.

    ``concurrent.futures.wait`` and ``as_completed`` wait without these, and lend nothing.
    """

    def __init__(self, pool: Pool) -> None:
        """``pool``: whose workers lend their places."""
        super().__init__()
        self._pool = pool
        self.set_running_or_notify_cancel()

    def result(self, timeout: Optional[float] = None) -> RunResult:
        """Wait for the end, as ``Future.result`` does."""
        return self._pool.wait_for_run(partial(super().result, timeout))

    def exception(self, timeout: Optional[float] = None) -> Optional[BaseException]:
        """Wait for the end, as ``Future.exception`` does."""
        return self._pool.wait_for_run(partial(super().exception, timeout))
