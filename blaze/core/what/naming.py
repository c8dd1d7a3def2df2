"""How messages speak of names: wrong ones, near ones, and those that there are."""

from __future__ import annotations

from typing import Collection

from ..ground.errors import Fault
from ..ground.names import MAX_NAME, did_you_mean, name_fault
from .checker import clipped

#: Names listed in a message.
MAX_LISTED = 8
#: Comparisons of names that the messages of one error are worth: a sequence of 10,000
#: steps that are all wrong is told within a second.
MAX_COMPARED = 100_000


def quoted(name: object) -> str:
    """A name in quotes: whole if it is valid, clipped and escaped if it is not."""
    return repr(name) if name_fault(name, dotted=True) is None else clipped(name)


def listed(names: Collection[str]) -> str:
    """``"'a', 'b' and 3 more"``, in order of the alphabet."""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(map(quoted, sorted(names)[:MAX_LISTED])) + more


def near_name(wrong: object, known: Collection[str], faults: Collection[Fault] = (), prefix: str = "") -> str:
    """``"; did you mean 'x'?"``, or ``""``, while ``faults`` are so few that it is worth the time.

    A function or class that stands where its name should stands for that name.
    """
    text = wrong if isinstance(wrong, str) else getattr(wrong, "__name__", None)
    if not isinstance(text, str) or len(text) > MAX_NAME or len(known) * len(faults) > MAX_COMPARED:
        return ""
    return did_you_mean(text, known, prefix)


def choices(wrong: object, known: Collection[str], faults: Collection[Fault], kind: str) -> str:
    """A near name, else which ones there are: ``"; the steps are 'a', 'b'"``, within the same bounds."""
    near = near_name(wrong, known, faults)
    if near or len(known) * len(faults) > MAX_COMPARED:
        return near
    return f"; {kind} {listed(known)}" if known else ""
