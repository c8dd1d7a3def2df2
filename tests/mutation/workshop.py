"""A copy of the project in which code is changed and tests are run; the project itself is never touched."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import Iterator, List, Mapping, Sequence, Tuple

ROOT = Path(__file__).resolve().parents[2]
#: What the tests need; nothing else is copied.
PARTS = (
    "blaze",
    "tests",
    "examples",
    "benchmarks",
    "docs",
    "pytest_blaze.py",
    "pyproject.toml",
    "README.md",
    "Makefile",
)


class Verdict(str, Enum):
    """What the tests made of a change."""

    KILLED = "killed"
    #: They hung, or took several times as long as without it.
    TIMEOUT = "timeout"
    SURVIVED = "survived"
    #: They could not be run at all: this says nothing.
    ERROR = "error"


def with_changes(code: str, changes: Sequence[Tuple[str, str]]) -> str:
    """The code with places that read otherwise. Raises :class:`ValueError` unless each is there once."""
    for before, after in changes:
        if code.count(before) != 1:
            raise ValueError(f"there are {code.count(before)} places that read\n{before}")
        code = code.replace(before, after)
    return code


class Workshop:
    """The copy, in ``directory``. What differs from the project is brought up to date when one is made."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        leave = shutil.ignore_patterns("__pycache__", "*.pyc")
        for part in PARTS:
            source, target = ROOT / part, directory / part
            if source.is_dir():
                shutil.rmtree(target, ignore_errors=True)
                shutil.copytree(source, target, ignore=leave)
            elif source.exists():
                shutil.copy2(source, target)

    @contextlib.contextmanager
    def changed(self, file: str, changes: Sequence[Tuple[str, str]]) -> Iterator[None]:
        """Some places in ``blaze/<file>``, each of which is there once, read otherwise meanwhile."""
        path = self.directory / "blaze" / file
        code = path.read_text(encoding="utf-8")
        path.write_text(with_changes(code, changes), encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(code, encoding="utf-8")

    def command(self, tests: Sequence[str]) -> List[str]:
        """How some of the tests are run; ends with the first that fails."""
        return [
            *(sys.executable, "-B", "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--tb=line"),
            *(f"tests/{name}" for name in tests),
        ]

    def environment(self) -> Mapping[str, str]:
        """In which the copy is what is imported, by children too."""
        return {**os.environ, "PYTHONPATH": str(self.directory), "PYTHONDONTWRITEBYTECODE": "1"}

    def judge(self, tests: Sequence[str], seconds: float) -> Tuple[Verdict, str]:
        """Run tests for so many seconds at most: the verdict, and the end of what they told."""
        process = subprocess.Popen(
            self.command(tests),
            cwd=self.directory,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )
        try:
            told = process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            return Verdict.TIMEOUT, f"more than {seconds:.0f} s"
        finally:
            # What the tests have started, and a test that hangs could not reap.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        failed = [line for line in told.splitlines() if line.startswith(("FAILED", "ERROR"))]
        last = failed[0] if failed else (told.splitlines() or [""])[-1]
        if process.returncode == 0:
            return Verdict.SURVIVED, last
        # 2: a module of tests could not even be imported; below zero: pytest itself was killed.
        return (Verdict.KILLED if process.returncode in (1, 2) or process.returncode < 0 else Verdict.ERROR), last


__all__ = ["ROOT", "Verdict", "Workshop", "with_changes"]
