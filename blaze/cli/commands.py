"""How commands are registered: their parser, its flags with a twin in the environment, and what they run.

A command module has ``register(commands)``, which adds its commands::

    def register(commands: Commands) -> None:
        parser = commands.add("runs", list_runs, "list runs", example="blazed runs etl --limit 5")
        parser.add_argument("--limit", type=int, default=50, metavar="N", help="most runs (default: 50)")

    def list_runs(args: Arguments, console: Console) -> Optional[int]:
        ...

What it runs gets the parsed arguments, among them those that every command has
(``state_dir``, ``json``, ``debug``, ``no_color``), and returns an exit status; None is 0.
Every flag ``--some-thing`` can be given as ``BLAZE_SOME_THING`` too.
"""

from __future__ import annotations

import argparse
import os
from typing import Any, Callable, Dict, Iterable, List, Mapping, NoReturn, Optional, Sequence, Tuple

from ..core.ground.names import did_you_mean
from .console import Console
from .exits import UsageError

Arguments = argparse.Namespace
Run = Callable[[Arguments, Console], Optional[int]]

#: What the environment may say of a flag that has no value.
YES, NO = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


class Parser(argparse.ArgumentParser):
    """argparse's, with environment twins, near names, and errors that are raised."""

    def __init__(self, **settings: Any) -> None:
        self.environ: Mapping[str, str] = settings.pop("environ", os.environ)
        settings.setdefault("allow_abbrev", False)
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**settings)

    def error(self, message: str) -> NoReturn:
        """Raise :class:`UsageError`."""
        raise UsageError(message, f"{self.prog} --help")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Tuple[Any, List[str]]:
        """As argparse does, with what the environment says as defaults."""
        for action in self._actions:
            self._ask_environment(action)
        found, left = super().parse_known_args(args, namespace)
        unknown = [word for word in left if word.startswith("-") and word != "-"]
        if unknown:
            name = unknown[0].partition("=")[0]
            known = [option for action in self._actions for option in action.option_strings]
            self.error(f"there is no flag {name}{did_you_mean(name, known)}")
        if left:
            self.error(f"{' '.join(left)!r:.60} is more than it takes; words that belong together stand in quotes")
        return found, left

    def _ask_environment(self, action: argparse.Action) -> None:
        name = twin_of(action)
        # A flag of every command is asked for once, by the program's own parser.
        if name is None or name not in self.environ or action.default is argparse.SUPPRESS:
            return
        text = self.environ[name]
        if action.nargs == 0:
            if text.lower() not in YES + NO:
                self.error(f"{name} is {text!r:.60}; write 1 or 0")
            action.default = action.const if text.lower() in YES else action.default
        elif text:
            action.default = [text] if isinstance(action, argparse._AppendAction) else self._value_of(action, text)
            action.required = False

    def _value_of(self, action: argparse.Action, text: str) -> Any:
        try:
            value = self._get_value(action, text)
            self._check_value(action, value)
        except argparse.ArgumentError as error:
            self.error(f"{twin_of(action)}: {error.message}")
        return value

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = list(action.choices)
            if isinstance(action, argparse._SubParsersAction):
                self.error(f"there is no command {value!r:.60}{did_you_mean(str(value)[:60], known)}")
            message = f"{value!r:.60} is none of {', '.join(map(str, known))}{did_you_mean(str(value)[:60], known)}"
            raise argparse.ArgumentError(action, message)


def twin_of(action: argparse.Action) -> Optional[str]:
    """The environment variable that stands for a flag; None for what is no flag."""
    long = next((option for option in action.option_strings if option.startswith("--")), None)
    if long is None or long in ("--help", "--version"):
        return None
    return "BLAZE_" + long[2:].replace("-", "_").upper()


class Commands:
    """The commands of the program, or of a group such as ``jobs``."""

    def __init__(self, parser: Parser, path: Sequence[str] = ()) -> None:
        self.parser = parser
        self._path = tuple(path)
        self.groups: Dict[str, Commands] = {}
        place = "command" if not path else f"{'_'.join(path)}_command"
        self._parsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest=place, parser_class=Parser)

    def add(
        self,
        name: str,
        run: Run,
        help: str,
        *,
        example: str = "",
        description: str = "",
        json: bool = True,
    ) -> Parser:
        """Add a command; its parser, for its arguments.

        - ``help``: what it does, in a line without a full stop.
        - ``example``: one or more command lines, shown by ``--help``.
        - ``description``: more than a line, where that is needed.
        - ``json``: whether it can answer in JSON.
        """
        parser = self._make(name, help, description, example)
        add_common_flags(parser, json=json, inherit=True)
        parser.set_defaults(_run=run)
        return parser

    def group(self, name: str, help: str) -> Commands:
        """The group of this name, made by whoever asks for it first."""
        if name not in self.groups:
            self.groups[name] = Commands(self._make(name, help, "", ""), (*self._path, name))
        return self.groups[name]

    def names(self) -> Dict[str, Parser]:
        """The parsers of commands and groups, by name."""
        choices: Dict[str, Parser] = dict(self._parsers.choices)
        return choices

    def _make(self, name: str, help: str, description: str, example: str) -> Parser:
        text = f"{help[0].upper()}{help[1:]}.{description and chr(10) * 2}{description}"
        lines = "\n".join(f"  {line}" for line in example.splitlines())
        made: Parser = self._parsers.add_parser(
            name,
            help=help,
            description=text,
            epilog=f"example:\n{lines}" if example else None,
            environ=self.parser.environ,
        )
        made.set_defaults(_run=_without_command(made))
        return made


def _without_command(parser: Parser) -> Run:
    def run(args: Arguments, console: Console) -> Optional[int]:
        raise UsageError(f"{parser.prog} needs a command", f"{parser.prog} --help")

    return run


def add_common_flags(parser: Parser, *, json: bool = True, inherit: bool = False) -> None:
    """The flags that every command has; they may stand before the command, too."""

    def default(value: Any) -> Any:
        return argparse.SUPPRESS if inherit else value

    every = parser.add_argument_group("flags of every command")
    every.add_argument(
        "--state-dir",
        metavar="DIR",
        default=default(None),
        help="where the state is (default: the nearest .blaze in this directory or above it)",
    )
    every.add_argument(
        "--json",
        action="store_true",
        default=default(False),
        help="answer in JSON" if json else argparse.SUPPRESS,
    )
    every.add_argument("--no-color", action="store_true", default=default(False), help="no colour; so does NO_COLOR")
    every.add_argument(
        "--debug", action="store_true", default=default(False), help="show the traceback of an error, too"
    )


def flags_of(parsers: Iterable[Parser]) -> List[str]:
    """The flags that some parsers have, each once."""
    found = {option: None for parser in parsers for action in parser._actions for option in action.option_strings}
    return [option for option in found if option.startswith("--")]
