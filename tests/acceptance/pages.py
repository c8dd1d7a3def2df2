"""Pages of documentation, read and played: their fences, a shell in which to type them, outputs held against the page.

A page is a story that is played in a fresh directory:

- A fence with a title is a file: ```` ```python title="definition.py" ````. Another one of that title goes on with it.
- ``console`` shows commands (``$ ``, continued with ``> ``) and what they print; ``bash`` shows commands only.
  They are typed into one shell, in their order, with files written where they stand.
- The ``python`` fences without a title are one script, run in a process of its own.

What differs each time it is run (ids, instance names, process ids, times, durations, the directory) may differ from
the page too, but consistently: a later command that has the page's id is typed with the real one. A line ``...``
stands for any lines.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Container, Dict, Iterator, List, NamedTuple, Optional, Pattern, Tuple

from blaze.daemon.owner import owner_of

ROOT = Path(__file__).resolve().parents[2]
MANUAL = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *MANUAL.rglob("*.md")])
#: Seconds that a command may take, and that a page's output may be waited for.
PATIENCE = 60
#: Where the pages say that they are.
HOME = "/home/ada/shop"
#: They change nothing: tried again until they show what the page does, as somebody who looks again would.
LOOKING = re.compile(r"blazed (status|show|runs|logs|list|jobs list)\b(?!.*--follow)")

FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Fence(NamedTuple):
    """A block of code: of which language, the file's name if it has a title, and the line at which it begins."""

    language: str
    title: Optional[str]
    code: str
    line: int


class Unit(NamedTuple):
    """What is typed at once, and what the page shows for it; None: nothing is shown."""

    command: str
    shown: Optional[List[str]]
    line: int


def fences_of(page: Path) -> List[Fence]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        language, _, rest = match[1].partition(" ")
        title = re.fullmatch(r'title="([^"]+)"', rest.strip()) if rest else None
        assert not rest or title, f"{page.name}: what is {match[1]!r}?"
        line = text.count("\n", 0, match.start()) + 1
        found.append(Fence(language, title[1] if title else None, match[2], line))
    return found


def script_of(page: Path) -> str:
    """The Python fences without a title, one after the other."""
    return "\n\n".join(f.code for f in fences_of(page) if f.language == "python" and f.title is None)


def write(fence: Fence, directory: Path, written: List[str]) -> None:
    """Write the file that a fence with a title is."""
    assert fence.title is not None
    with open(directory / fence.title, "a" if fence.title in written else "w", encoding="utf-8") as file:
        file.write("\n\n" * (fence.title in written) + fence.code)
    written.append(fence.title)


def units_of(fence: Fence) -> List[Unit]:
    units: List[Unit] = []
    if fence.language == "bash":
        for number, line in enumerate(fence.code.splitlines(), fence.line + 1):
            if units and units[-1].command.endswith("\\"):
                units[-1] = units[-1]._replace(command=f"{units[-1].command}\n{line}")
            elif line and not line.startswith("#"):
                units.append(Unit(line, None, number))
        return units
    for number, line in enumerate(fence.code.splitlines(), fence.line + 1):
        if line.startswith("$ "):
            units.append(Unit(line[2:], [], number))
        elif line.startswith("> ") and units and not units[-1].shown:
            units[-1] = units[-1]._replace(command=f"{units[-1].command}\n{line[2:]}")
        else:
            assert units, f"line {number}: output without a command"
            units[-1].shown.append(line)
    return units


# ---------------------------------------------------------------------- outputs

_MOMENT = r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d)?(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)?"
_DURATION = r"\d+(?:\.\d+)?(?:\u00b5s|ms|s|m|h|d|y)(?: \d+[smh])?"
#: What differs from time to time, as it stands on the page, and what may stand in its place.
_VOLATILE = {
    "moment": (_MOMENT, _MOMENT),
    "stamp": (r"\d{8}T\d{6}-\w+", r"\d{8}T\d{6}-\w+"),
    # A tick may have fired before a page that looks for it is at that point.
    "never": (r"\bNever(?: run)?\b", rf"(?:Never(?: run)?|{_MOMENT} (?:now|\d+s ago))"),
    "clock": (r"\b\d\d:\d\d:\d\d\b", r"\d\d:\d\d:\d\d"),
    "ago": (rf"(?:\bnow\b|{_DURATION} ago)", rf"(?:now|{_DURATION} ago)"),
    "due": (rf"<{_DURATION}", rf"<{_DURATION}"),
    "duration": (rf"\b{_DURATION}(?![\w.])", _DURATION),
    "id": (r"\b[0-9a-f]{16}\b", r"[0-9a-f]{16}"),
    "start": (r"(?<= )[0-9a-f]{8}(?= )", r"[0-9a-f]{8}"),
    "pid": (r"(?<=PID )\d+", r"\d+"),
    "tail": (r"(?<=-)[a-z0-9]{6}(?= serves | \(PID | - PID )", r"[a-z0-9]{6}"),
    "bar": (r" {2,}[ .#]*#$", r" {2,}[ .#]+"),
    "blank": (r"(?<=\S) {2,}(?=\S)", r" {2,}"),
}
_KEPT = ("id", "pid", "tail")
_ANY = re.compile("|".join(f"(?P<{kind}>{there})" for kind, (there, _) in _VOLATILE.items()))


def pattern_of(lines: List[str], directory: Path) -> Tuple[Pattern[str], List[str]]:
    """A regular expression for what may be shown instead of some lines; the page's words that it captures."""
    words: List[str] = []

    def of_line(line: str) -> str:
        parts, end = [], 0
        for match in _ANY.finditer(line):
            parts.append(re.escape(line[end : match.start()]))
            kind, end = match.lastgroup or "", match.end()
            inside = _VOLATILE[kind][1]
            if kind in _KEPT:
                words.append(match[0])
                inside = f"({inside})"
            parts.append(inside)
        parts.append(re.escape(line[end:]))
        return "".join(parts) + " *\n"

    text = [r"(?:.*\n)*?" if line == "..." else of_line(line.replace(HOME, str(directory))) for line in lines]
    return re.compile("".join(text)), words


class Shell:
    """A shell in a directory, with the program ``blazed`` and the checkout's package."""

    def __init__(self, directory: Path) -> None:
        self._root = directory
        #: Where the shell is.
        self.directory = directory
        #: What the page calls an id, a process or an instance, and what it is.
        self.names: Dict[str, str] = {}
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=directory,
            env={
                "PYTHONPATH": str(ROOT),
                "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
                "HOME": str(directory),
                "LANG": "C.UTF-8",
                "TZ": "Europe/Berlin",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            bufsize=1,
            start_new_session=True,
        )
        self.type(f'blazed() {{ "{sys.executable}" -m blaze "$@"; }}; python() {{ "{sys.executable}" "$@"; }}')

    def type(self, command: str, last_status: int = 0) -> Tuple[str, int]:
        """Type a command; what it printed on both streams, and its status."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(f"(exit {last_status}); {{ {command}\n}} </dev/null 2>&1; printf '\\001%d %s\\n' $? \"$PWD\"\n")
        lines = []
        out_of_patience = threading.Timer(PATIENCE, os.killpg, (self._process.pid, signal.SIGKILL))
        out_of_patience.start()
        try:
            for line in stdout:
                before, mark, after = line.partition("\001")
                if mark:
                    status, _, directory = after.rstrip("\n").partition(" ")
                    self.directory = Path(directory)
                    return "".join([*lines, before and before + "\n"]), int(status)
                lines.append(line)
        finally:
            out_of_patience.cancel()
        raise AssertionError(f"the shell ended at {command!r}: {''.join(lines)}")

    def play(self, unit: Unit, place: str, last_status: int) -> int:
        """Type a unit, and hold what it shows against the page; its exit status."""
        command = self._as_it_is(unit.command)
        until = time.monotonic() + PATIENCE
        while True:
            output, status = self.type(command, last_status)
            if unit.shown is None:
                return status
            fault = self._compare(unit.shown, output)
            if fault is None:
                return status
            looks_again = LOOKING.match(command) and time.monotonic() < until
            assert looks_again, f"{place}:{unit.line}: $ {command}\n{output}\nis not what the page shows: {fault}"
            time.sleep(0.05)

    def _as_it_is(self, command: str) -> str:
        for word, real in self.names.items():
            command = re.sub(rf"\b{word}\b", real, command)
            if len(word) == 16:  # a run may be named by a prefix of its id
                command = re.sub(
                    rf"\b{word[:4]}[0-9a-f]*\b",
                    lambda found, word=word, real=real: real if word.startswith(found[0]) else found[0],
                    command,
                )
        return command

    def _compare(self, shown: List[str], output: str) -> Optional[str]:
        pattern, words = pattern_of(shown, self.directory)
        found = pattern.fullmatch(output)
        if found is None:
            return "\n".join(shown)
        for word, real in zip(words, found.groups()):
            if self.names.setdefault(word, real) != real:
                return f"{word} was {self.names[word]} before, and is {real} now"
        return None

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(PATIENCE)
        for state_dir in self._root.rglob("daemon.lock"):
            owner = owner_of(state_dir.parent)
            if owner is not None and owner.pid not in (0, os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(owner.pid, signal.SIGKILL)


@contextlib.contextmanager
def shell_in(directory: Path) -> Iterator[Shell]:
    """A shell that is closed, and whose daemons are ended, whatever happens."""
    shell = Shell(directory)
    try:
        yield shell
    finally:
        shell.close()


def play(page: Path, directory: Path, left_out: Container[Fence] = ()) -> None:
    """Play the files and commands of a page, but for some fences."""
    status, previous = 0, None
    written: List[str] = []
    with shell_in(directory) as shell:
        for fence in fences_of(page):
            if fence in left_out:
                continue
            if fence.title is not None:
                write(fence, shell.directory, written)
            elif fence.language in ("bash", "console"):
                for unit in units_of(fence):
                    place = f"{page.name}:{unit.line}"
                    asked = unit.command == "echo $?"
                    assert status == 0 or asked, f"{place}: {previous} ended with {status}"
                    status, previous = shell.play(unit, page.name, status), unit.command
    assert status == 0, f"{page.name}: {previous} ended with {status}"
