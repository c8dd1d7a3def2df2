"""Tables: with box characters where they can be shown, plain aligned text elsewhere, records where it is narrow."""

from __future__ import annotations

from typing import Callable, List, NamedTuple, Optional, Sequence, Union

from .text import clipped, padded, visible, width_of

#: Columns to which a cell may be clipped so that a table fits its terminal.
LEAST = 8


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
    """The lines of a table; ``width``: columns that there are, None: as many as it takes."""
    cells = [[cell_of(given) for given in row] for row in rows]
    widths = [
        max([width_of(name), *(width_of(row[place].text) for row in cells)]) for place, name in enumerate(columns)
    ]
    between = 3 if boxes else 2
    around = between * (len(columns) - 1) + (4 if boxes else 0)
    if width is not None:
        if around + sum(min(one, LEAST) for one in widths) > width:
            return _records(columns, cells, paint)
        _narrow(widths, width - around)
    mark = "…" if boxes else "..."
    lines = [
        [paint(padded(clipped(cell.text, size, mark), size), cell.style) for cell, size in zip(row, widths)]
        for row in [[Cell(name, "head") for name in columns], *cells]
    ]
    return _boxed(lines, widths) if boxes else ["  ".join(line).rstrip() for line in lines]


def _narrow(widths: List[int], room: int) -> None:
    """Take from the widest column until all fit."""
    while sum(widths) > room:
        widest = widths.index(max(widths))
        widths[widest] -= 1


def _boxed(lines: Sequence[Sequence[str]], widths: Sequence[int]) -> List[str]:
    def rule(left: str, middle: str, right: str) -> str:
        return left + middle.join("─" * (size + 2) for size in widths) + right

    head, *rest = ["│ " + " │ ".join(line) + " │" for line in lines]
    return [rule("┌", "┬", "┐"), head, rule("├", "┼", "┤"), *rest, rule("└", "┴", "┘")]


def _records(columns: Sequence[str], rows: Sequence[Sequence[Cell]], paint: Paint) -> List[str]:
    """One line a cell, below each other: what is left on a terminal of twenty columns."""
    lines: List[str] = []
    for row in rows:
        lines += [f"{name}: {paint(cell.text, cell.style)}" for name, cell in zip(columns, row)]
        lines.append("")
    return lines[:-1]
