"""The page about configuration, held against signatures and the parser: what is new or changed has to stand there."""

from __future__ import annotations

import inspect
import re
from types import MappingProxyType
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Set, Tuple

import pytest

from blaze import Blaze, BlazeLogger, BlazeSequence, Retention, SeqBlockData, SubmitSequenceData
from blaze.cli.commands import Commands, twin_of
from blaze.cli.main import build_parser
from blaze.core.what.blocks import Block
from blaze.daemon import manager, process
from tests.acceptance.pages import MANUAL

PAGE = (MANUAL / "configuration.md").read_text(encoding="utf-8")


def tables_below(heading: str) -> List[List[List[str]]]:
    """The cells of each table of a section, without its head."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section, heading
    tables = re.findall(r"(?:^\|.*\n)+", section[1], re.MULTILINE)
    return [[[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in t.splitlines()[2:]] for t in tables]


def parameters_of(function: Callable[..., Any]) -> Dict[str, Any]:
    found = inspect.signature(function).parameters.values()
    return {parameter.name: parameter.default for parameter in found if parameter.name != "self"}


def written(default: Any) -> str:
    """A default as the page writes it."""
    if default is inspect.Parameter.empty:
        return "required"
    if isinstance(default, tuple) and default:
        return "`(" + "".join(f"{one.__name__}," for one in default) + ")`"
    return f"`{default!r}`"


class Section(NamedTuple):
    heading: str
    number: int
    function: Callable[..., Any]
    #: Parameters that the page has no word about, or another default for, and why.
    others: Mapping[str, str] = MappingProxyType({})


SECTIONS = [
    Section("Blocks", 0, Block, {"function": "decorated", "place": "found out", "name": "is the function's by then"}),
    Section("Steps", 0, SeqBlockData),
    Section("Sequences", 0, BlazeSequence.sequence),
    Section("Sequences", 1, BlazeSequence.run),
    Section("Submissions", 0, SubmitSequenceData),
    Section("The scheduler", 0, Blaze),
    Section("Retention", 0, Retention, {"failed_runs": "worked out of runs", "failed_days": "worked out of days"}),
    Section("The logger", 0, BlazeLogger),
]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: f"{section.heading}-{section.number}")
def test_every_argument_has_its_line_with_its_default(section: Section) -> None:
    lines = {name.strip("`"): rest for name, *rest in tables_below(section.heading)[section.number]}
    parameters = parameters_of(section.function)
    silent = {"function", "place"} & set(section.others)
    assert set(lines) == set(parameters) - silent
    for name, default in parameters.items():
        if name not in section.others:
            told = lines[name][0].partition(":")[0]
            assert told == written(default), f"{section.heading}, {name}: {told}, not {written(default)}"


def test_every_argument_of_the_manager_has_its_line() -> None:
    (table,) = tables_below("The manager")
    lines = {(of.strip("`"), name.strip("`")): default for name, of, default, _ in table}
    functions = (
        manager.get_or_create_scheduler, manager.start_scheduler, manager.stop_scheduler, manager.update_jobs,
    )  # fmt: skip
    expected = {(f.__name__, name): default for f in functions for name, default in parameters_of(f).items()}
    assert set(lines) == set(expected)
    for key, default in expected.items():
        assert key[1] == "settings" or lines[key].partition(":")[0] == written(default), key


def test_every_flag_has_its_line_with_its_twin_its_commands_and_its_default() -> None:
    (table,) = tables_below("Flags and environment")
    lines = {(twin.strip("`"), flag.strip("`")): (commands, default) for twin, flag, commands, default in table}
    found: Dict[Tuple[str, str], Set[str]] = {}
    defaults: Dict[Tuple[str, str], Set[str]] = {}
    every = build_parser()[1]
    number = 0

    def look(commands: Commands, path: str) -> None:
        nonlocal number
        for name, command in commands.names().items():
            here = f"{path} {name}".strip()
            if name in commands.groups:
                look(commands.groups[name], here)
                continue
            number += 1
            for action in command._actions:
                twin = twin_of(action)
                if twin is not None:
                    flag = next(option for option in action.option_strings if option.startswith("--"))
                    found.setdefault((twin, flag), set()).add(here)
                    if action.default not in (None, False, "==SUPPRESS=="):
                        defaults.setdefault((twin, flag), set()).add(str(action.default))

    look(every, "")
    assert set(lines) == set(found)
    # Of start, whose defaults are those of the daemon.
    for flag, default in (
        ("WORKERS", process.WORKERS),
        ("LOOP_INTERVAL", process.LOOP_INTERVAL),
        ("GRACE", process.GRACE),
    ):
        defaults.setdefault((f"BLAZE_{flag}", f"--{flag.lower().replace('_', '-')}"), set()).add(f"{default:g}")
    for key, commands in found.items():
        told, default = lines[key]
        if len(commands) == number:
            assert told == "all", key
        else:
            assert set(re.findall(r"`([^`]+)`", told)) == commands, key
        for value in defaults.get(key, ()):
            assert re.search(rf"(?<![\w.]){re.escape(value)}(?![\w.])", default), (
                f"{key}: {value} is not in {default!r}"
            )


def test_every_flag_of_the_daemon_module_is_named() -> None:
    told = re.search(r"`python -m blaze.daemon`.*?\n\n", PAGE, re.DOTALL)
    assert told
    flags = {action.option_strings[0] for action in process._parser()._actions} - {"-h", "--ready-fd"}
    assert set(re.findall(r"`(--[\w-]+)`", told[0])) == flags
