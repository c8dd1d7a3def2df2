"""Rules that hold for the source tree as a whole, whatever is in it."""

from __future__ import annotations

import ast
import csv
import hashlib
import importlib.util
import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Iterable, Iterator, List, Tuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "blaze"

#: What the package may import besides the standard library, and below which folder.
OUTSIDE = {
    "croniter": "blaze/core/when/",
    "typing_extensions": "blaze/",
    "pytest": "blaze/testing/",
}

#: Standard modules that the running Python may lack: of a newer version, or of another system.
ELSEWHERE_STANDARD = {"annotationlib", "tomllib", "msvcrt", "winreg", "_winapi"}

#: Files of the package that open a file by any other way than SQLite, and what they open.
#: An entry says why it can never be the database: a plain close() of that file drops the
#: locks SQLite holds on it in this process, and commits are lost (sqlite.org/howtocorrupt.html, 2.2).
OPENS = {
    "blaze/core/ground/filelock.py": "lock files, which hold no data",
    "blaze/core/ground/log_files.py": "the log files below log/",
    "blaze/core/remember/codec.py": "large outputs, one file each below results/",
    "blaze/core/remember/database.py": "the table of mounts; a new empty file that SQLite has not seen yet",
    "blaze/core/remember/instances.py": "the lock files of the schedulers, below instances/",
    "blaze/daemon/address.py": "daemon.tcp, and directories on the way to a socket",
    "blaze/daemon/leashed.py": "log/start.log and the log files, of the daemon of a test",
    "blaze/daemon/owner.py": "daemon.lock",
    "blaze/daemon/recorded.py": "definitions.json",
    "blaze/daemon/readiness.py": "the null device, and a pipe to who has started the daemon",
    "blaze/daemon/detaching.py": "log/start.log",
    "blaze/cli/main.py": "the null device, in place of a pipe that nobody reads",
    "blaze/cli/export.py": "the JSON files of an export",
    "blaze/cli/json_file.py": "files that are named on the command line: JSON, and no state file begins like that",
    "blaze/core/remember/upkeep.py": "a new empty file that SQLite has not seen yet; copies of large outputs",
    "blaze/core/when/zone.py": "the name of the machine's time zone in /etc",
}

#: Functions and methods that open a file by its path and close it again.
OPENERS = {
    *("open", "fdopen", "touch", "read_text", "read_bytes", "write_text", "write_bytes"),
    *("copy2", "copyfile", "copytree"),
}

#: Tests never sleep to wait for something; the files in which ``sleep`` stands nevertheless, and why.
SLEEPS = {
    "tests/acceptance/pages.py": "looks again at what a daemon in another process does",
    "tests/acceptance/test_troubleshooting_page.py": "blocks that last until they are stopped",
    "tests/integration/crash_pipeline.py": "an instant that is drawn by lot",
    "tests/integration/doomed.py": "looks at what another process tells",
    "tests/integration/doomed_blocks.py": "a block that lasts until it is killed",
    "tests/integration/fleet.py": "instants that are drawn by lot; looks at other processes",
    "tests/integration/fleet_program.py": "blocks that last as long as the test says",
    "tests/integration/process_blocks.py": "blocks that last until they are killed or interrupted",
    "tests/integration/stubborn_blocks.py": "blocks that last until they are stopped",
    "tests/integration/test_engine.py": "blocks that last until they are stopped, or long enough to overlap",
    "tests/integration/test_fork.py": "blocks that last until they are killed",
    "tests/integration/test_recovery.py": "blocks that last until they are stopped or killed",
    "tests/integration/test_server.py": "a client that sends slowly",
    "tests/integration/test_state_faults.py": "the same two; SQLite's patience, which is in real seconds",
    "tests/integration/test_timeouts.py": "blocks that last until they are stopped",
    "tests/integration/workbench.py": "wait_until, for what has no event",
    "tests/unit/test_virtual_clock.py": "a coroutine that takes real time, in which virtual time has to stand still",
}

#: The canonical text of the licence, as the Free Software Foundation publishes it.
AGPL_3_SHA256 = "0d96a4ff68ad6d4b6f1f30f713b18d5184912ba8dd389f86aa7710db079abcb0"

# In pieces, or this file would be the one that names them.
REGISTRY_HOSTS = [
    ".".join(labels)
    for labels in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("crates", "io"),
        ("rubygems", "org"),
        ("anaconda", "org"),
        ("proxy", "golang", "org"),
    )
]


def _below(*folders: str) -> List[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def _nodes(path: Path) -> Tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_bytes(), filename=str(path))))


def _everything() -> Iterator[Path]:
    """Every file of the project, without what tools and builds leave behind."""
    for folder, folders, files in os.walk(ROOT):
        folders[:] = sorted(
            name
            for name in folders
            if (not name.startswith(".") or name in {".ci", ".github"})
            and name not in {"__pycache__", "build", "dist", "site", "htmlcov"}
        )
        for name in files:
            yield Path(folder, name)


def _imported(path: Path) -> Iterator[Tuple[int, str]]:
    """Line and top-level name of every absolute import, wherever it stands."""
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.partition(".")[0]


def _is_standard(name: str) -> bool:
    if name in ELSEWHERE_STANDARD or name in sys.builtin_module_names:
        return True
    if sys.version_info >= (3, 10):
        return name in sys.stdlib_module_names
    spec = importlib.util.find_spec(name)
    library = os.path.dirname(os.__file__)
    origin = (spec and spec.origin) or ""
    return origin == "frozen" or (origin.startswith(library) and "site-packages" not in origin)


def _opens(path: Path) -> Iterator[int]:
    for node in _nodes(path):
        if isinstance(node, ast.Call):
            called = node.func
            name = (
                called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
            )
            if name in OPENERS:
                yield node.lineno


def _none(found: Iterable[str]) -> None:
    lines = sorted(found)
    assert not lines, "\n" + "\n".join(lines)


def test_every_file_name_says_what_is_in_it() -> None:
    vague = {"utils.py", "util.py", "helpers.py", "helper.py", "common.py", "misc.py"}
    _none(_name(path) for path in _below("blaze", "tests") if path.name in vague)


def test_the_package_imports_only_what_it_declares() -> None:
    _none(
        f"{_name(path)}:{line} imports {module}"
        for path in _below("blaze")
        for line, module in _imported(path)
        if module != "blaze" and not _is_standard(module)
        if module not in OUTSIDE or not _name(path).startswith(OUTSIDE[module])
    )


def test_the_declared_dependencies_are_the_two_that_the_design_allows() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    declared = re.search(r"^dependencies = \[\n(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    assert declared is not None
    assert re.findall(r'^    "([A-Za-z-]+)', declared[1], re.MULTILINE) == ["croniter", "typing-extensions"]


def test_no_check_of_the_package_vanishes_with_the_optimize_flag() -> None:
    _none(
        f"{_name(path)}:{node.lineno}: assert"
        for path in _below("blaze")
        for node in _nodes(path)
        if isinstance(node, ast.Assert)
    )


def test_files_are_opened_only_where_it_can_never_be_the_database() -> None:
    _none(
        f"{_name(path)}:{line} opens a file; if it can never be the database, add it to OPENS with the reason"
        for path in _below("blaze")
        if _name(path) not in OPENS
        for line in _opens(path)
    )


@pytest.mark.parametrize("file", sorted(OPENS))
def test_every_file_with_leave_to_open_files_still_needs_it(file: str) -> None:
    path = ROOT / file
    assert path.exists(), f"{file} is gone: remove it from OPENS"
    assert list(_opens(path)), f"{file} opens no file any more: remove it from OPENS"


@pytest.fixture(autouse=True, scope="module")
def _forget_the_code() -> Iterator[None]:
    """A million nodes would be a burden to every garbage collection of the tests that follow."""
    yield
    _nodes.cache_clear()


def _sleeps(path: Path) -> Iterator[int]:
    for node in _nodes(path):
        if isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "attr", None) or getattr(node.func, "id", "")
            if name == "sleep" and not (isinstance(node.args[0], ast.Constant) and node.args[0].value == 0):
                yield node.lineno


def test_tests_sleep_only_where_the_reason_is_given() -> None:
    _none(
        f"{_name(path)}:{line} sleeps; wait for the event, use the virtual clock, or add the file to SLEEPS"
        for path in _below("tests")
        if _name(path) not in SLEEPS
        for line in _sleeps(path)
    )
    _none(f"{name} sleeps no more: remove it from SLEEPS" for name in SLEEPS if not list(_sleeps(ROOT / name)))


def test_no_file_names_the_host_of_a_package_registry() -> None:
    hosts = re.compile("|".join(map(re.escape, REGISTRY_HOSTS)).encode())
    _none(_name(path) for path in _everything() if hosts.search(path.read_bytes()))


def test_type_checkers_see_every_module() -> None:
    assert (PACKAGE / "py.typed").exists()
    folders = {folder for path in _below("blaze") for folder in path.parents if PACKAGE in (folder, *folder.parents)}
    _none(f"{_name(folder)}/__init__.py is missing" for folder in folders if not (folder / "__init__.py").exists())


def test_the_licence_is_the_agpl_word_for_word() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == AGPL_3_SHA256


def test_the_weather_is_the_file_that_its_notice_describes() -> None:
    data = ROOT / "examples" / "data"
    notice = (data / "README.md").read_text(encoding="utf-8")
    content = (data / "seattle-weather.csv").read_bytes()
    rows = list(csv.DictReader(content.decode().splitlines()))
    assert hashlib.sha256(content).hexdigest() in notice
    assert f"{len(rows):,} rows" in notice
