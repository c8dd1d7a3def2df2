"""Tables: with box characters where they can be shown, plain aligned text elsewhere, records where it is narrow."""

from __future__ import annotations

from typing import Callable, List, NamedTuple, Optional, Sequence, Union

from .text import clipped, padded, visible, width_of

#: Columns to which a cell may be clipped so that a table fits its terminal, but for the mark that it is: a date, and
#: a time to the minute. And those of the last column, where texts stand.
LEAST, LEAST_TEXT = 16, 8


class Cell(NamedTuple):
    """Text with a style; see ``Console.paint``."""

    text: str
    style: str = ""


#: A cell without a style may be given as its text; None is an empty place.
Given = Union[Cell, str, int, None]
Paint = Callable[[str, str], str]


def cell_of(given: Given) -> Cell:
    """The cell, its text made visible."""
    if given is None:
        return Cell("-")
    if isinstance(given, Cell):
        return Cell(visible(given.text), given.style)
    return Cell(visible(given))


def draw(
    columns: Sequence[str], rows: Sequence[Sequence[Given]], *, boxes: bool, width: Optional[int], paint: Paint
) -> List[str]:
    """The lines of a table; ``width``: columns that there are, None: as many as it takes.

    Where it is narrow, titles are written below each other first, then boxes are left out, then
    cells are clipped, and what is left of a time would tell nothing any more: then each cell has a line.
    """
    cells = [[cell_of(given) for given in row] for row in rows]
    mark = "…" if boxes else "..."
    content = [max((width_of(row[place].text) for row in cells), default=0) for place in range(len(columns))]
    widths = [max(width_of(name), wide) for name, wide in zip(columns, content)]
    if width is not None and sum(widths) + _around(widths, boxes) > width:
        titles = [max(map(width_of, name.split())) for name in columns]
        widths = [max(title, wide) for title, wide in zip(titles, content)]
        least = [max(title, min(wide, LEAST + len(mark))) for title, wide in zip(titles, content)]
        least[-1] = max(titles[-1], min(content[-1], LEAST_TEXT))
        boxes = boxes and sum(least) + _around(widths, True) <= width
        if sum(least) + _around(widths, boxes) > width:
            return _records(columns, cells, paint)
        _narrow(widths, least, width - _around(widths, boxes))
    heads = [
        [paint(padded(part, size), "head") for part, size in zip(line, widths)] for line in _heads(columns, widths)
    ]
    lines = [
        [paint(padded(clipped(cell.text, size, mark), size), cell.style) for cell, size in zip(row, widths)]
        for row in cells
    ]
    return _boxed(heads, lines, widths) if boxes else ["  ".join(line).rstrip() for line in [*heads, *lines]]


def _around(widths: Sequence[int], boxes: bool) -> int:
    """Columns that are taken by what stands between the cells."""
    return 3 * (len(widths) - 1) + 4 if boxes else 2 * (len(widths) - 1)


def _narrow(widths: List[int], least: Sequence[int], room: int) -> None:
    """Take from the widest column that has something to give until all fit."""
    while sum(widths) > room:
        _, widest = max((size, -place) for place, size in enumerate(widths) if size > least[place])
        widths[-widest] -= 1


def _heads(columns: Sequence[str], widths: Sequence[int]) -> List[List[str]]:
    """The titles, in as many lines as the one with most words needs."""
    parts: List[List[str]] = []
    for name, size in zip(columns, widths):
        lines: List[str] = []
        for word in name.split() or [""]:
            joined = f"{lines[-1]} {word}" if lines else word
            if lines and width_of(joined) <= size:
                lines[-1] = joined
            else:
                lines.append(word)
        parts.append(lines)
    return [[lines[at] if at < len(lines) else "" for lines in parts] for at in range(max(map(len, parts)))]


def _boxed(heads: Sequence[Sequence[str]], lines: Sequence[Sequence[str]], widths: Sequence[int]) -> List[str]:
    def rule(left: str, middle: str, right: str) -> str:
        return left + middle.join("─" * (size + 2) for size in widths) + right

    head, rest = (["│ " + " │ ".join(line) + " │" for line in part] for part in (heads, lines))
    return [rule("┌", "┬", "┐"), *head, rule("├", "┼", "┤"), *rest, rule("└", "┴", "┘")]


def _records(columns: Sequence[str], rows: Sequence[Sequence[Cell]], paint: Paint) -> List[str]:
    """One line a cell, below each other: what is left on a terminal of twenty columns."""
    lines: List[str] = []
    for row in rows:
        lines += [f"{name}: {paint(cell.text, cell.style)}" for name, cell in zip(columns, row)]
        lines.append("")
    return lines[:-1]
