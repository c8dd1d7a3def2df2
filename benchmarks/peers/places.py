"""New directories for repetitions, gone when they are over."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator


@contextmanager
def fresh(place: Path) -> Iterator[Path]:
    """A new directory below ``place``."""
    directory = Path(tempfile.mkdtemp(dir=place))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
