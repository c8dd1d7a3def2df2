"""How much memory this process has resident, now and at most."""

from __future__ import annotations

import re
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def resident_bytes() -> int:
    """Resident now; where the system does not tell, the most so far."""
    return _status("VmRSS") or peak_bytes()


def peak_bytes() -> int:
    """The most that was resident so far."""
    found = _status("VmHWM")
    if found:
        return found
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _status(field: str) -> int:
    try:
        text = STATUS.read_text()
    except OSError:
        return 0
    found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0
