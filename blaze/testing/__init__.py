"""What makes pipelines testable: time that is driven by hand."""

from __future__ import annotations

from .clock import VirtualClock

__all__ = ["VirtualClock"]
