"""An application that has configured ``logging``, as far as Blaze may notice."""

from __future__ import annotations

import contextlib
import logging
from typing import Iterator, List, Optional


class Shown(logging.Handler):
    """A handler of the application."""

    def __init__(self) -> None:
        super().__init__()
        self.records: List[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def messages(self) -> List[str]:
        return [record.getMessage() for record in self.records]


@contextlib.contextmanager
def application(level: int = logging.WARNING, handler: Optional[logging.Handler] = None) -> Iterator[None]:
    """The root logger as an application has it: no handler, or one of its own."""
    root = logging.root
    before = root.level, root.handlers
    root.setLevel(level)
    root.handlers = [handler] if handler else []
    try:
        yield
    finally:
        root.setLevel(before[0])
        root.handlers = before[1]
