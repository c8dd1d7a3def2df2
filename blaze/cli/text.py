"""Text as a terminal may show it: nothing in it acts on the terminal, and its width is known."""

from __future__ import annotations

from typing import Callable, List

#: Characters that change how what follows is read: marks of direction, and those that stand for a line's end.
_DECEIVING = frozenset("\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
#: Columns to which a tab in a block of text advances.
TAB = 4


def visible(text: object) -> str:
    """One line of text in which control characters, and those that deceive the reader, are escapes."""
    shown = str(text)
    if shown.isascii() and shown.isprintable():
        return shown
    return "".join(_escaped(char) if _acts(char) else char for char in shown)


def visible_lines(text: object) -> str:
    """The same of text with several lines, whose ends and tabs stay what they are."""
    return "\n".join(visible(line) for line in str(text).expandtabs(TAB).split("\n"))


def _acts(char: str) -> bool:
    # C0, DEL and C1; halves of a character that have no meaning alone.
    return char < " " or "\x7f" <= char <= "\x9f" or "\ud800" <= char <= "\udfff" or char in _DECEIVING


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def width_of(text: str) -> int:
    """Columns that a line of visible text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width  # most text needs no table of a megabyte

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def clipped(text: str, width: int, mark: str = "...") -> str:
    """At most ``width`` columns of a line; ``mark`` stands for what was left out."""
    if width_of(text) <= width:
        return text
    room = width - len(mark)
    if room <= 0:
        return mark[: max(width, 0)]
    kept, used = [], 0
    for char in text:
        used += width_of(char)
        if used > room:
            break
        kept.append(char)
    return "".join(kept) + mark


def padded(text: str, width: int) -> str:
    """The line filled up with blanks."""
    return text + " " * (width - width_of(text))


def counted(number: int, one: str, many: str = "") -> str:
    """``1 run``, ``2 runs``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def indented(text: str, by: str = "    ", show: Callable[[object], str] = visible_lines) -> List[str]:
    """Lines of a text, each moved to the right."""
    return [f"{by}{line}".rstrip() for line in show(text).split("\n")]
