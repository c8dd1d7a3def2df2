"""A sequence's graph as text, Mermaid or DOT."""

from __future__ import annotations

from typing import Callable, Dict, List, Set

from ..ground.errors import Fault, ValidationError
from .plan import Plan


def draw(plan: Plan, format: str) -> str:
    """The graph in one of :data:`FORMATS`. Raises :class:`ValidationError` for another."""
    drawer = FORMATS.get(format) if isinstance(format, str) else None
    if drawer is None:
        raise ValidationError([Fault("graph()", f"format is one of {', '.join(FORMATS)}; got {format!r}")])
    return drawer(plan)


def _label(plan: Plan, index: int) -> str:
    step = plan.steps[index]
    label = step.name if step.block.name == step.name else f"{step.name} ({step.block.name})"
    return label if step.run_when == "all_success" else f"{label} [{step.run_when}]"


def _text(plan: Plan) -> str:
    """A tree from the steps without dependencies; a step that was drawn already is named again with ``^``."""
    lines = [plan.seq_id]
    drawn: Set[int] = set()
    # (step, prefix of its line, prefix of its children's lines); a stack, since a chain may be long.
    last_root = plan.roots[-1] if plan.roots else None
    stack = [
        (root, "└─ " if root == last_root else "├─ ", "   " if root == last_root else "│  ")
        for root in reversed(plan.roots)
    ]
    while stack:
        index, prefix, below = stack.pop()
        again = index in drawn
        needs = [plan.steps[source].name for source in plan.dependencies[index]] if len(plan.dependencies[index]) > 1 else []
        note = f"  ← {', '.join(needs[:6])}{', …' if len(needs) > 6 else ''}" if needs and not again else ""
        lines.append(f"{prefix}{_label(plan, index)}{' ^' if again and plan.dependents[index] else ''}{note}")
        if again:
            continue
        drawn.add(index)
        children = plan.dependents[index]
        for position in range(len(children) - 1, -1, -1):
            last = position == len(children) - 1
            stack.append(
                (children[position], below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "))
            )
    return "\n".join(lines)


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
