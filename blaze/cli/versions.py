"""Which versions work together here."""

from __future__ import annotations

import platform
import sqlite3
from importlib import metadata
from typing import Dict

from .. import __version__


def versions() -> Dict[str, str]:
    """Of Blaze, Python, SQLite and croniter."""
    try:
        croniter = metadata.version("croniter")
    except metadata.PackageNotFoundError:
        croniter = "not installed"
    return {
        "blaze": __version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "croniter": croniter,
    }
