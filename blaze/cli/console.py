"""Where a command writes: data to stdout, everything else to stderr, and JSON where it was asked for.

A command gets a :class:`Console` and writes to nothing else. It knows whether there is a
terminal, what that can show, and whether colour is wanted; text that goes through it
can't act on the terminal.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, TextIO

from . import tables
from .tables import Cell, Given
from .text import visible, visible_lines

#: Escape sequences of the styles; those of a state's name are the state's.
STYLES: Mapping[str, str] = {
    "head": "1",
    "good": "32",
    "bad": "31",
    "busy": "34",
    "waiting": "33",
    "faint": "90",
    "COMPLETED": "32",
    "ACTIVE": "32",
    "FAILED": "31",
    "BROKEN": "31",
    "RUNNING": "34",
    "PENDING": "33",
    "RETRYING": "33",
    "PAUSED": "33",
    "CANCELLED": "90",
    "SKIPPED": "90",
    "ENDED": "90",
}
#: What Python makes of the C locale.
COERCED = ("C.UTF-8", "C.utf8", "UTF-8")
#: ASCII for what graphs are drawn with.
NEAR = str.maketrans({"├": "|", "└": "`", "│": "|", "─": "-", "←": "<-", "…": "..."})
#: Columns of a terminal that does not tell its width.
USUAL_WIDTH = 80


class Looks(NamedTuple):
    """What may be written to stdout."""

    #: Whether it is a terminal.
    terminal: bool = False
    color: bool = False
    #: Whether it takes sequences that move the cursor.
    cursor: bool = False
    #: Box characters, arrows and the like.
    boxes: bool = False
    #: Columns; None: as many as it takes.
    width: Optional[int] = None


def looks_of(stream: TextIO, environ: Mapping[str, str], no_color: bool = False) -> Looks:
    """What a stream can show."""
    terminal = _is_terminal(stream)
    dumb = environ.get("TERM", "") in ("", "dumb")
    color = terminal and not dumb and not no_color and not environ.get("NO_COLOR")
    width = _columns() if terminal else None
    boxes = terminal and not dumb and _takes_boxes(stream, environ)
    return Looks(terminal, color, terminal and not dumb, boxes, width)


def _columns() -> int:
    import shutil

    return max(1, shutil.get_terminal_size((USUAL_WIDTH, 24)).columns)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def _takes_boxes(stream: TextIO, environ: Mapping[str, str]) -> bool:
    # Under LANG=C Python writes UTF-8 all the same and puts LC_CTYPE into its environment (PEP 538), whatever the
    # terminal takes it for.
    character_type = environ.get("LC_CTYPE", "")
    coerced = character_type in COERCED and environ.get("LANG", "") in ("", "C", "POSIX")
    locale = environ.get("LC_ALL") or (not coerced and character_type) or environ.get("LANG") or ""
    encoding = (getattr(stream, "encoding", None) or "").lower().replace("-", "")
    return encoding == "utf8" and "utf8" in locale.lower().replace("-", "")


class Console:
    """Where a command writes."""

    def __init__(
        self,
        out: Optional[TextIO] = None,
        err: Optional[TextIO] = None,
        *,
        json: bool = False,
        no_color: bool = False,
        environ: Optional[Mapping[str, str]] = None,
    ) -> None:
        self.out: TextIO = sys.stdout if out is None else out
        self.err: TextIO = sys.stderr if err is None else err
        #: Whether data is to be written as JSON: one document, or a line for each item of a stream.
        self.json = json
        environment = os.environ if environ is None else environ
        #: What stdout can show.
        self.looks = looks_of(self.out, environment, no_color)
        #: The same of stderr.
        self.err_looks = looks_of(self.err, environment, no_color)
        #: Whether a document was written: a JSON answer has one and no more.
        self.answered = False

    # ------------------------------------------------------------------ data

    def print(self, *lines: str) -> None:
        """Lines of data. Text that comes from elsewhere goes through ``visible`` before it gets here."""
        for line in lines:
            self.out.write(line + "\n")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Given]]) -> None:
        """A table."""
        looks = self.looks
        self.print(*tables.draw(columns, rows, boxes=looks.boxes, width=looks.width, paint=self.paint))

    def fields(self, fields: Mapping[str, Given]) -> None:
        """Names with their values below each other; those that are None are left out."""
        shown = {name: tables.cell_of(given) for name, given in fields.items() if given is not None}
        size = max(map(len, shown), default=0)
        self.print(*(f"{name.ljust(size)}  {self.paint(cell.text, cell.style)}" for name, cell in shown.items()))

    def drawing(self, text: str) -> None:
        """Lines with box characters and arrows in them; on a terminal that can't show these, what comes near."""
        plain = self.looks.terminal and not self.looks.boxes
        self.print(*(visible(line).translate(NEAR) if plain else visible(line) for line in text.split("\n")))

    def document(self, data: Any) -> None:
        """The whole answer as one JSON document."""
        self.answered = True
        self._json(data, indent=2)

    def item(self, data: Any) -> None:
        """One line of a stream of JSON, written at once."""
        self.answered = True
        self._json(data, indent=None)
        self.out.flush()

    def _json(self, data: Any, indent: Optional[int]) -> None:
        import json

        # ASCII: whatever the locale is, and lone surrogates too, it arrives.
        self.out.write(json.dumps(data, indent=indent, allow_nan=False, default=str) + "\n")

    # ------------------------------------------------------------------ everything else

    def note(self, text: str) -> None:
        """Something to know that is no data."""
        self._say(text, "")

    def warn(self, text: str) -> None:
        """Something that may be wrong."""
        self._say(f"warning: {text}", "waiting")

    def error(self, text: str) -> None:
        """Why a command was not done."""
        self._say(f"blazed: {text}", "bad")

    def _say(self, text: str, style: str) -> None:
        shown = visible_lines(text)
        self.out.flush()
        self.err.write((painted(shown, style) if self.err_looks.color else shown) + "\n")
        self.err.flush()

    # ------------------------------------------------------------------ looks

    def paint(self, text: str, style: str) -> str:
        """The text in a style of :data:`STYLES`, where colour is shown."""
        return painted(text, style) if self.looks.color else text

    def status(self, status: object) -> str:
        """The name of a state in its colour."""
        return self.paint(visible(status), str(status))

    def heading(self, text: str) -> None:
        """A line above what belongs together."""
        self.print("", self.paint(visible(text), "head"))


def painted(text: str, style: str) -> str:
    """The text between the escape sequences of a style; one that is unknown changes nothing."""
    code = STYLES.get(style)
    return f"\x1b[{code}m{text}\x1b[0m" if code and text else text


def state_cell(status: object) -> Cell:
    """A cell with a state in its colour."""
    return Cell(str(status), str(status))


def page_document(name: str, items: Sequence[Any], **more: Any) -> Dict[str, Any]:
    """``{name: [item.to_dict(), ...], ...}``."""
    found: List[Any] = [item.to_dict() for item in items]
    return {name: found, **more}
