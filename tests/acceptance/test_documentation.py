"""Every Python block of the README and the docs runs, in the order in which it stands, as one script a file."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks_of(page: Path, language: str) -> list[str]:
    return [code for kind, code in FENCE.findall(page.read_text(encoding="utf-8")) if kind == language]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page, "python")], ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run_one_after_the_other(page: Path, tmp_path: Path) -> None:
    script = tmp_path / "page.py"
    script.write_text("\n\n".join(blocks_of(page, "python")), encoding="utf-8")
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


def test_the_readme_names_the_make_targets_and_the_commands_behind_them() -> None:
    shell = "\n".join(blocks_of(ROOT / "README.md", "bash"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)$", shell, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    for script in re.findall(r"examples/\S+\.py", shell):
        assert (ROOT / script).is_file(), script
        assert script in makefile


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


# ---------------------------------------------------------------------- the command line

PIPELINE = """
from blaze import BlazeBlock, BlazeSequence, SeqBlockData

blocks = BlazeBlock()
sequences = BlazeSequence()


@blocks.block
def fetch(limit: int = 10, tags: list = ()) -> list:
    return list(range(limit))


@sequences.sequence(blocks=blocks, sequence=[SeqBlockData("fetch")])
def etl(context=None):
    return context
"""


def test_the_shell_blocks_of_the_page_about_commands_run_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "definition.py").write_text(PIPELINE, encoding="utf-8")
    blazed = f'blazed() {{ "{sys.executable}" -m blaze "$@"; }}'
    script = "\n".join(["set -eu", blazed, *blocks_of(ROOT / "docs" / "cli.md", "bash")])
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


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
