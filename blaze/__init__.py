"""Blaze: functions become blocks, blocks become sequences, sequences run now or on a schedule, and survive.

Importing it has no side effects: no thread, no file, no logging is set up before
something is started or run.
"""

from __future__ import annotations

from .core import *  # noqa: F403
from .core import __all__ as __all__

__version__ = "0.1.0"
