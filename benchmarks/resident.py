"""How much memory a process has resident, now and at most."""

from __future__ import annotations

import re
import sys
from pathlib import Path

STATUS = "/proc/{}/status"


def resident_bytes() -> int:
    """What this process has resident now; where the system does not tell, the most so far."""
    return _status("VmRSS") or peak_bytes()


def resident_bytes_of(pid: int) -> int:
    """What another process has resident now; 0 where the system does not tell."""
    return _status("VmRSS", str(pid))


def peak_bytes() -> int:
    """The most that this process has had resident so far."""
    found = _status("VmHWM")
    if found:
        return found
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _status(field: str, process: str = "self") -> int:
    try:
        text = Path(STATUS.format(process)).read_text()
    except OSError:
        return 0
    found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0
