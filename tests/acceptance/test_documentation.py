"""README and manual, held against the program: every block of code runs, every link leads somewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Dict, List, Set, Tuple

import pytest

from blaze import Schedule
from tests.acceptance.pages import MANUAL, PAGES, ROOT, Fence, fences_of, play, script_of, write

#: Fences that are not run, by page and first line, and why. Whatever stands here and nowhere on the pages is a failure.
LEFT_OUT: Dict[Tuple[str, str], str] = {
    ("README.md", "make demo"): "installs; the example itself is run by test_examples.py",
    (
        "benchmarks.md",
        'make bench-peers ARGS="--report"                                   # page and charts from stored results',
    ): "installs and measures for half an hour; test_peers.py runs the program",
    ("README.md", "make test"): "installs and runs all tests, this one among them",
    ("README.md", "python3 -m venv .venv"): "installs, which 'make demo' and 'make test' do in the same words",
    ("README.md", "extract ──► validate ──┬──► monthly ──┐"): "a drawing",
    (
        "testing.md",
        "expected the run to be COMPLETED, it is FAILED",
    ): "shortened; test_pytest_plugin.py looks at reports",
    (
        "from-apscheduler.md",
        "from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore",
    ): "another framework's code",
    ("from-airflow.md", "from datetime import timedelta"): "another framework's code",
    ("from-prefect.md", "from prefect import flow, task"): "another framework's code",
    ("quickstart.md", "python3 -m venv .venv"): "installs, in the same words as the README",
}
#: Languages of fences that are no code to run, and what is done with them instead.
READ_ONLY = {
    "json": "parsed",
    "text": "messages on the page about troubles, all of which test_troubleshooting_page.py provokes",
    "ini": "the unit for systemd, which is the example's",
}
PIPELINE = """
from blaze import BlazeBlock, BlazeSequence, SeqBlockData

blocks = BlazeBlock()
sequences = BlazeSequence()


@blocks.block
def fetch({parameters}) -> list:
    return list(range(limit))


@sequences.sequence(blocks=blocks, sequence=[SeqBlockData("fetch")])
def {name}(context=None):
    return context
"""
ETL = {"definition.py": PIPELINE.format(name="etl", parameters="limit: int = 10, tags: list = ()")}
#: What the commands of a page find in their folder.
GIVEN: Dict[str, Dict[str, str]] = {
    "README.md": ETL,
    "cli.md": ETL,
    "daemon.md": {
        "my_definition.py": PIPELINE.format(name="etl_pipeline", parameters="endpoint: str = '', limit: int = 10"),
        "jobs.json": next(fence.code for fence in fences_of(MANUAL / "daemon.md") if fence.language == "json"),
    },
}


def left_out(page: Path) -> List[Fence]:
    return [f for f in fences_of(page) if (page.name, f.code.split("\n")[0]) in LEFT_OUT]


def pages_with(*languages: str) -> List[Path]:
    return [page for page in PAGES if any(f.language in languages for f in fences_of(page) if f not in left_out(page))]


# ---------------------------------------------------------------------- code


@pytest.mark.parametrize("page", [page for page in PAGES if script_of(page)], ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run_one_after_the_other(page: Path, tmp_path: Path) -> None:
    written: List[str] = []
    for fence in fences_of(page):
        if fence.title is not None:
            write(fence, tmp_path, written)
    script = tmp_path / "page.py"
    script.write_text(script_of(page), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", pages_with("bash", "console"), ids=lambda page: page.name)
def test_the_commands_of_a_page_do_what_it_shows(page: Path, tmp_path: Path) -> None:
    for name, text in GIVEN.get(page.name, {}).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    play(page, tmp_path, left_out(page))


def test_no_block_is_passed_over_in_silence() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert len(re.findall(r"^[ \t]*```", text, re.MULTILINE)) == 2 * len(fences_of(page)), f"{page.name}: a fence"
        for fence in fences_of(page):
            place = f"{page.name}:{fence.line}"
            if fence in left_out(page):
                continue
            assert fence.language in {"python", "bash", "console", *READ_ONLY}, f"{place}: {fence.language!r}"
            assert fence.language != "text" or page.name == "troubleshooting.md", f"{place}: where is this from?"
            if fence.title is not None:
                others = [f.code for f in fences_of(page) if f is not fence]
                used = any(Path(fence.title).stem in code or fence.title == "definition.py" for code in others)
                assert used, f"{place}: nothing on the page uses {fence.title}"


def test_what_is_left_out_is_there_and_has_a_reason() -> None:
    there = {(page.name, f.code.split("\n")[0]) for page in PAGES for f in fences_of(page)}
    assert set(LEFT_OUT) <= there and all(LEFT_OUT.values())


def test_json_and_python_files_of_the_pages_can_be_read() -> None:
    for page in PAGES:
        for fence in fences_of(page):
            if fence.language == "json":
                json.loads(fence.code)
            elif fence.language == "python":
                compile(fence.code, f"{page.name}:{fence.line}", "exec")


def test_the_unit_for_systemd_is_that_of_the_examples() -> None:
    (unit,) = [fence.code for fence in fences_of(MANUAL / "daemon.md") if fence.language == "ini"]
    assert unit == (ROOT / "examples" / "blaze.service").read_text(encoding="utf-8")


def test_the_readme_names_the_make_targets_and_the_commands_behind_them() -> None:
    shell = "\n".join(f.code for f in fences_of(ROOT / "README.md") if f.language == "bash")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)$", shell, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    for script in re.findall(r"examples/\S+\.py", shell):
        assert (ROOT / script).is_file(), script
        assert script in makefile


def test_the_schedules_that_are_shown_fire_when_the_page_says() -> None:
    table = re.findall(
        r"^\| `([^`]+)` \| (.+) \|$", (MANUAL / "scheduling.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    shown = [(text, told) for text, told in table if re.match(r"[\d*@]", text)]
    assert len(shown) == 10
    for text, told in shown:
        ticks = Schedule.parse(text, "UTC").next(3, after=datetime(2026, 1, 1, 0, 1))
        time_of_day = re.search(r"(\d+):(\d\d)", told)
        if time_of_day:
            assert {(tick.hour, tick.minute) for tick in ticks} == {(int(time_of_day[1]), int(time_of_day[2]))}, text
        day = re.search("Monday|Friday", told)
        assert not day or {f"{tick:%A}" for tick in ticks} == {day[0]}, text


# ---------------------------------------------------------------------- links


def anchors_of(page: Path) -> Set[str]:
    """The anchors of a page's headings, as mkdocs and the usual forges make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|`", r"\1", heading)
        found.add(re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower()))
    return found


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            linked = (page.parent / path).resolve() if path else page
            assert linked.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors_of(linked), f"{page.name}: {target}"


def test_the_manual_links_to_nothing_beside_it() -> None:
    """What is not below docs/ is not in the built site."""
    for page in PAGES:
        if page.parent == MANUAL:
            for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
                assert "://" in target or (page.parent / target).resolve().parent == MANUAL, target


def test_the_navigation_has_every_page_of_the_manual_once() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r": *([\w-]+\.md)$", navigation, re.MULTILINE)
    assert sorted(listed) == sorted(page.name for page in PAGES if page.parent == MANUAL)


def test_the_built_manual_loads_nothing_from_other_hosts() -> None:
    """Fonts, scripts, styles, pictures, and what the theme would fetch for a repository or a diagram."""
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "  font: false" in settings and "://" not in settings
    assert not re.search(r"^(repo_url|extra_javascript|analytics)|mermaid|offline", settings, re.MULTILINE)
    for page in MANUAL.rglob("*"):
        if page.suffix in (".md", ".css"):
            text = page.read_text(encoding="utf-8")
            assert not re.search(r"!\[[^\]]*\]\(|<(script|img|link|iframe)\b|@import|url\(", text), page.name


# ---------------------------------------------------------------------- the command line


def test_the_page_about_commands_names_every_command_and_every_flag_with_its_twin() -> None:
    from blaze.cli.commands import Commands, twin_of
    from blaze.cli.main import build_parser

    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")

    def look(commands: Commands, path: str) -> None:
        for name, parser in commands.names().items():
            here = f"{path} {name}".strip()
            if name in commands.groups:
                look(commands.groups[name], here)
                continue
            assert f"`{here}" in page, here
            for action in parser._actions:
                twin = twin_of(action)
                if twin is not None:
                    assert twin in page and action.option_strings[-1] in page, f"{here} {action.option_strings}"

    look(build_parser()[1], "")


def test_every_command_in_the_text_exists_and_has_the_flags_that_it_is_shown_with() -> None:
    from blaze.cli.main import build_parser

    commands = build_parser()[1]
    for page in PAGES:
        prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for shown in re.findall(r"`blazed\s+([^`]+)`", prose):
            first, *words = shown.replace("[", "").replace("]", "").split()
            if first.startswith("-"):
                continue
            parser = commands.names()[first]
            if first in commands.groups and words:
                for name in words[0].split("|"):
                    parser = commands.groups[first].names()[name]
            for flag in re.findall(r"(?<!\S)--[\w-]+", shown):
                assert flag in parser._option_string_actions, f"{page.name}: blazed {shown}"
