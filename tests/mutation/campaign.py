"""Random mutations, module by module, until the time is up; what was tried is kept, and not tried again."""

from __future__ import annotations

import difflib
import hashlib
import json
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .modules import HARMLESS, TESTS
from .mutants import mutated, sample
from .workshop import ROOT, Verdict, Workshop

#: A mutation may take so many times as long as the tests without it, and so many seconds more.
TIMES_LONGER, SECONDS_LONGER = 3.0, 20.0


def go_on(
    directory: Path, names: Sequence[str], number: int, seed: int, minutes: Optional[float], again: bool = False
) -> None:
    """Try what was not tried yet; ``again``: and what survived, since there are more tests now."""
    end = None if minutes is None else time.monotonic() + 60 * minutes
    workshop = Workshop(directory / "random")
    for module in _chosen(names):
        file = f"core/{module}.py"
        # As it was copied: the project may change meanwhile.
        code = (workshop.directory / "blaze" / file).read_text(encoding="utf-8")
        known = _load(directory, module, code)
        done = {key for key, one in known.items() if not (again and _is_open(module, one))}
        left = [mutant for mutant in sample(code, number, seed) if mutant.key not in done]
        if not left:
            continue
        seconds = _seconds_of(workshop, TESTS[module])
        for mutant in left:
            if end is not None and time.monotonic() > end:
                return
            changed = mutated(code, mutant)
            with workshop.changed(file, [(code, changed)]):
                verdict, told = _judge(workshop, seconds)
            before, after = _difference(code, changed)
            entry = {
                "code": _digest(code), "key": mutant.key, "line": mutant.line, "before": before, "after": after,
                "verdict": verdict.value, "told": told,
            }  # fmt: skip
            with _file(directory, module).open("a", encoding="utf-8") as file_of_module:
                file_of_module.write(json.dumps(entry) + "\n")
            print(f"{verdict.value:9} {module}:{mutant.line}  {before}  ->  {after}", flush=True)


def report(directory: Path, names: Sequence[str]) -> int:
    """Print the score of each module, and what survived; 1 if that is more than what is known to be harmless."""
    rows: List[Tuple[str, int, int, int, int]] = []
    open_ends = 0
    for module in _chosen(names):
        code = (ROOT / "blaze" / "core" / f"{module}.py").read_text(encoding="utf-8")
        tried = list(_load(directory, module, code).values())
        survived = [one for one in tried if one["verdict"] == Verdict.SURVIVED.value]
        harmless = [one for one in survived if not _is_open(module, one)]
        for one in survived:
            why = HARMLESS.get((module, one["before"], one["after"]), "SURVIVED")
            print(f"{module}:{one['line']}  {one['before']}  ->  {one['after']}\n    {why}")
        killed = sum(one["verdict"] in (Verdict.KILLED.value, Verdict.TIMEOUT.value) for one in tried)
        rows.append((module, len(tried), killed, len(survived) - len(harmless), len(harmless)))
        open_ends += len(survived) - len(harmless)
    print("\n| module | tried | killed | survived | harmless | score |\n| --- | --: | --: | --: | --: | --: |")
    for module, number, killed, survived_, harmless_ in [*rows, _total(rows)]:
        score = f"{100 * killed / (killed + survived_):.0f} %" if killed + survived_ else ""
        print(f"| {module} | {number} | {killed} | {survived_} | {harmless_} | {score} |")
    return 1 if open_ends else 0


def _is_open(module: str, one: Dict[str, Any]) -> bool:
    """Whether it survived, and nobody has said that it may."""
    known = (module, one["before"], one["after"]) in HARMLESS
    return bool(one["verdict"] == Verdict.SURVIVED.value and not known)


def _total(rows: Sequence[Tuple[str, int, int, int, int]]) -> Tuple[str, int, int, int, int]:
    tried, killed, survived, harmless = (sum(row[place] for row in rows) for place in (1, 2, 3, 4))
    return "all", tried, killed, survived, harmless


def _chosen(names: Sequence[str]) -> List[str]:
    unknown = [name for name in names if name not in TESTS]
    if unknown:
        raise SystemExit(f"no module {', '.join(unknown)}; there are {', '.join(TESTS)}")
    return list(names or TESTS)


def _seconds_of(workshop: Workshop, tests: Sequence[str]) -> Dict[str, float]:
    """How long each file of tests takes when nothing is changed; they have to pass then."""
    found: Dict[str, float] = {}
    for test in tests:
        began = time.monotonic()
        verdict, told = workshop.judge([test], 1800.0)
        if verdict is not Verdict.SURVIVED:
            raise SystemExit(f"the tests fail although nothing was changed: {told}")
        found[test] = time.monotonic() - began
    return found


def _judge(workshop: Workshop, seconds: Dict[str, float]) -> Tuple[Verdict, str]:
    """File by file, so that one that hangs costs no more than its own time."""
    verdict, told = Verdict.ERROR, "no tests"
    for test, usual in seconds.items():
        verdict, told = workshop.judge([test], TIMES_LONGER * usual + SECONDS_LONGER)
        if verdict is not Verdict.SURVIVED:
            break
    return verdict, told


def _difference(before: str, after: str) -> Tuple[str, str]:
    """The lines that differ."""
    lines = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    old = " ".join(line[2:].strip() for line in lines if line.startswith("- "))
    new = " ".join(line[2:].strip() for line in lines if line.startswith("+ "))
    return old.strip(), new.strip()


def _file(directory: Path, module: str) -> Path:
    return directory / f"{module.replace('/', '-')}.jsonl"


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def _load(directory: Path, module: str, code: str) -> Dict[str, Dict[str, Any]]:
    """What was tried of the module as it is now, by the mutation's key."""
    path = _file(directory, module)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    entries = [json.loads(line) for line in lines]
    return {one["key"]: one for one in entries if one["code"] == _digest(code)}


__all__ = ["go_on", "report"]
