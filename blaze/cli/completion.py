"""``blazed completion bash|zsh``: completion for a shell, made from the parser itself."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

from .commands import Arguments, Commands, Parser, flags_of
from .console import Console

SHELLS = ("bash", "zsh")

BASH = """\
# bash completion of blazed; to use it: eval "$(blazed completion bash)"
_blazed() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" path="" words="{top}" i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${{COMP_WORDS[i]}}" in -*) continue ;; esac
        case "$path ${{COMP_WORDS[i]}}" in
{cases}
        esac
    done
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    [[ ${{#COMPREPLY[@]}} -gt 0 || "$word" == -* ]] || COMPREPLY=($(compgen -f -- "$word"))
}}
complete -F _blazed blazed
"""
CASE = """\
            "{path}") path="{path}"; words="{words}" ;;"""
ZSH = """\
# zsh completion of blazed; to use it: eval "$(blazed completion zsh)"
autoload -U +X bashcompinit && bashcompinit
"""


def register(commands: Commands) -> None:
    """Add ``completion``."""
    parser = commands.add(
        "completion",
        show_completion,
        "write the completion of a shell",
        example='eval "$(blazed completion bash)"',
        json=False,
    )
    parser.add_argument("shell", choices=SHELLS, metavar="bash|zsh")


def show_completion(args: Arguments, console: Console) -> Optional[int]:
    """The command."""
    from .main import build_parser

    parser, commands = build_parser()
    script = bash(parser, commands)
    console.out.write(ZSH + script if args.shell == "zsh" else script)
    return None


def bash(parser: Parser, commands: Commands) -> str:
    """The script for bash."""
    words = _words(commands)
    cases = "\n".join(CASE.format(path=path, words=" ".join(found)) for path, found in words.items())
    return BASH.format(top=" ".join([*commands.names(), *flags_of([parser])]), cases=cases)


def _words(commands: Commands, path: Tuple[str, ...] = ()) -> Dict[str, List[str]]:
    """What may follow each command: flags, or the commands of a group."""
    found: Dict[str, List[str]] = {}
    for name, parser in commands.names().items():
        here = (*path, name)
        group = commands.groups.get(name)
        below = [] if group is None else list(group.names())
        found["".join(f" {part}" for part in here)] = [*below, *flags_of([parser])]
        if group is not None:
            found.update(_words(group, here))
    return found
