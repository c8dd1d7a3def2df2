"""A sequence's graph as text, Mermaid or DOT."""

from __future__ import annotations

from typing import Callable, Dict, List, Sequence, Set, Tuple

from ..ground.errors import Fault, ValidationError
from .checker import shown
from .naming import near_name
from .plan import Plan

#: Levels of the text tree that are indented; below, a number tells the level. A chain of
#: 10,000 steps would be 150 MB otherwise.
MAX_INDENTED = 30
#: Dependencies that the text tree names behind a step.
MAX_NEEDS = 6


def draw(plan: Plan, format: str) -> str:
    """The graph in one of :data:`FORMATS`. Raises :class:`ValidationError` for another."""
    drawer = FORMATS.get(format) if isinstance(format, str) else None
    if drawer is None:
        advice = near_name(format, FORMATS)
        raise ValidationError([Fault("graph()", f"format is one of {', '.join(FORMATS)}; got {shown(format)}{advice}")])
    return drawer(plan)


def _label(plan: Plan, index: int) -> str:
    step = plan.steps[index]
    label = step.name if step.block.name == step.name else f"{step.name} ({step.block.name})"
    return label if step.run_when == "all_success" else f"{label} [{step.run_when}]"


def _text(plan: Plan) -> str:
    """A tree from the steps without dependencies; a step that was drawn already is named again with ``^``."""
    lines = [plan.seq_id]
    drawn: Set[int] = set()
    # Steps with the indentation of their siblings, their level, and whether the last sibling
    # is meant. A stack, since a chain may be long.
    stack: List[Tuple[int, str, int, bool]] = []

    def push(siblings: Sequence[int], indent: str, level: int) -> None:
        for position in range(len(siblings) - 1, -1, -1):
            stack.append((siblings[position], indent, level, position == len(siblings) - 1))

    push(plan.roots, "", 1)
    while stack:
        index, indent, level, is_last = stack.pop()
        again = index in drawn
        branch = "└─ " if is_last else "├─ "
        depth = f"({level}) " if level > MAX_INDENTED else ""
        mark = " ^" if again and plan.dependents[index] else ""
        lines.append(f"{indent}{branch}{depth}{_label(plan, index)}{mark}{'' if again else _needs(plan, index)}")
        if not again:
            drawn.add(index)
            below = indent + ("   " if is_last else "│  ") if level < MAX_INDENTED else indent
            push(plan.dependents[index], below, level + 1)
    return "\n".join(lines)


def _needs(plan: Plan, index: int) -> str:
    """What a step waits for, unless the line above tells it."""
    names = [plan.steps[source].name for source in plan.dependencies[index]]
    if len(names) < 2:
        return ""
    return f"  ← {', '.join(names[:MAX_NEEDS])}{', …' if len(names) > MAX_NEEDS else ''}"


def _mermaid(plan: Plan) -> str:
    lines = ["flowchart TD"]
    lines += [f'    s{step.index}["{_label(plan, step.index)}"]' for step in plan.steps]
    lines += [f"    s{source} --> s{index}" for index in range(len(plan.steps)) for source in plan.dependencies[index]]
    return "\n".join(lines)


def _dot(plan: Plan) -> str:
    lines = [f'digraph "{plan.seq_id}" {{', "    rankdir=LR;", "    node [shape=box];"]
    lines += [f'    "{step.name}" [label="{_label(plan, step.index)}"];' for step in plan.steps]
    names: List[str] = [step.name for step in plan.steps]
    for index, sources in enumerate(plan.dependencies):
        lines += [f'    "{names[source]}" -> "{names[index]}";' for source in sources]
    return "\n".join([*lines, "}"])


#: What ``graph(format)`` offers.
FORMATS: Dict[str, Callable[[Plan], str]] = {"text": _text, "mermaid": _mermaid, "dot": _dot}
