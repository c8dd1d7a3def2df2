"""Which versions work together here."""

from __future__ import annotations

from typing import Dict

from .. import __version__


def versions() -> Dict[str, str]:
    """Of Blaze, Python, SQLite and croniter."""
    # No command but those that tell it needs these, and they take longer than all of argparse.
    import platform
    import sqlite3
    from importlib import metadata

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
