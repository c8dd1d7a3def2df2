"""Loading a definition: what is found, what is refused and where, and what is left behind."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from blaze.daemon import definition as loading
from blaze.daemon.definition import DefinitionError, find_definition, load_definition
from blaze.daemon.state_dir import find_state_dir

GOOD = """\
from blaze import BlazeBlock, BlazeSequence, SeqBlockData

blocks = BlazeBlock()
sequences = BlazeSequence()


@blocks.block
def one() -> int:
    return 1


@sequences.sequence(blocks=blocks, sequence=[SeqBlockData("one")])
def etl(context=None):
    return context
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty directory to be in; the interpreter is afterwards as it was."""
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o700)
    modules, path = dict(sys.modules), list(sys.path)
    yield tmp_path
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.path[:] = path
    loading._brought.clear()


def write(name: str, text: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    path.chmod(0o600)
    return path


def refused(source: str) -> str:
    """Why a definition is refused; nothing of it is left."""
    modules, path = set(sys.modules), list(sys.path)
    with pytest.raises(DefinitionError) as caught:
        load_definition(source)
    left = {name for name in set(sys.modules) - modules if not name.startswith("blaze.")}
    assert not left and sys.path == path
    return str(caught.value)


def test_a_file_is_loaded_under_its_own_name(here: Path) -> None:
    write("pipeline.py", GOOD)
    found = load_definition("pipeline.py")
    assert list(found.sequences) == ["etl"] and list(found.blocks) == ["one"]
    assert found.path == here / "pipeline.py" and found.warnings == []
    assert found.sequences["etl"].run().outputs["one"] == 1
    assert found.blocks["one"].function.__module__ == "pipeline" and "pipeline" in sys.modules


def test_a_module_is_found_from_here_and_a_file_in_a_package_knows_its_package() -> None:
    write("project/__init__.py", "")
    write("project/names.py", "NAME = 'etl'")
    write("project/etl.py", GOOD.replace("from blaze", "from .names import NAME\nfrom blaze", 1))
    assert list(load_definition("project.etl").sequences) == ["etl"]
    found = load_definition("project/etl.py")
    assert found.blocks["one"].function.__module__ == "project.etl"


def test_loading_again_gives_fresh_objects_of_the_text_as_it_is_now() -> None:
    write("rows.py", "ROWS = 1")
    write(
        "pipeline.py",
        GOOD.replace("return 1", "return ROWS").replace("from blaze", "from rows import ROWS\nfrom blaze", 1),
    )
    first = load_definition("pipeline.py")
    write("rows.py", "ROWS = 2")
    sys.modules.pop("nothing", None)
    for file in Path("__pycache__").glob("rows*"):
        file.unlink()  # written within the same second as the new text
    second = load_definition("pipeline.py")
    assert second.sequences is not first.sequences
    assert first.sequences["etl"].run().outputs["one"] == 1
    assert second.sequences["etl"].run().outputs["one"] == 2


def test_two_edits_of_the_file_within_a_second_are_told_apart() -> None:
    for value in range(3):
        write("pipeline.py", GOOD.replace("return 1", f"return {value}"))
        assert load_definition("pipeline.py").sequences["etl"].run().outputs["one"] == value
    assert not Path("__pycache__").exists()


def test_a_definition_that_fails_leaves_the_one_before_in_its_place() -> None:
    write("pipeline.py", GOOD)
    load_definition("pipeline.py")
    before = sys.modules["pipeline"]
    write("pipeline.py", "1 / 0")
    refused("pipeline.py")
    assert sys.modules["pipeline"] is before


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("a = 1\nb = (\n", "pipeline.py:2", "SyntaxError"),
        ("a = 1\n\nraise RuntimeError('no database')", "pipeline.py:3", "RuntimeError: no database"),
        ("import sys\nsys.exit(3)", "pipeline.py:2", "ends the process (SystemExit: 3)"),
        ("import nothing_of_that_name", "pipeline.py:1", "ModuleNotFoundError"),
        ("x = 1", "pipeline.py", "no BlazeSequence at its top level"),
        ("from blaze import BlazeSequence\nsequences = BlazeSequence()", "pipeline.py", "registers no sequence"),
        (GOOD.replace("blocks=blocks", "blocks=blocks, retries=-1"), "pipeline.py:12", "retries"),
        ("import json\njson.loads('{')", "pipeline.py:2", "JSONDecodeError"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_line(text: str, where: str, what: str) -> None:
    write("pipeline.py", text)
    told = refused("pipeline.py")
    assert where in told and what in told


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("pipelin.py", "there is no such file; did you mean 'pipeline.py'?"),
        ("no/where/pipeline.py", "there is no such file"),
        (".", "there is no module"),
        ("./", "it is a directory"),
        ("nothing.of.that.name", "ModuleNotFoundError"),
        ("nothing_of_that_name", "there is no module of this name"),
        ("what is this?", "it names no file and no module"),
        ("json.py", "its name is that of the module json"),
    ],
)
def test_what_names_no_definition_is_refused(source: str, what: str) -> None:
    write("pipeline.py", GOOD)
    import json as json

    write("json.py", GOOD)
    if source == ".":
        what = "names no file and no module"
    assert what in refused(source)


def test_several_registries_are_one_unless_they_share_an_id() -> None:
    other = GOOD.replace("blocks", "more").replace("more=more", "blocks=more").replace("def etl", "def second")
    other = other.replace("sequences", "others")
    write("pipeline.py", GOOD + other)
    found = load_definition("pipeline.py")
    assert sorted(found.sequences) == ["etl", "second"] and sorted(found.blocks) == ["one"]
    assert found.sequences["second"].run().ok
    write("pipeline.py", GOOD + other.replace("def second", "def etl"))
    told = refused("pipeline.py")
    assert "the id is taken by the sequence at" in told and "pipeline.py:26" in told


def test_what_it_prints_is_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    write("pipeline.py", "print('hello')\n" + GOOD)
    load_definition("pipeline.py")
    assert capsys.readouterr() == ("", "hello\n")


def test_a_file_that_others_may_change_is_told() -> None:
    path = write("pipeline.py", GOOD)
    path.chmod(0o666)
    (warning,) = load_definition("pipeline.py").warnings
    assert "others may write to" in warning and "chmod go-w" in warning


def test_the_definition_is_the_one_named_else_that_of_the_environment_else_the_usual_file() -> None:
    with pytest.raises(DefinitionError, match="there is no definition here"):
        find_definition(None, {})
    write("definition.py", GOOD)
    assert find_definition(None, {}) == "definition.py"
    assert find_definition(None, {"BLAZE_DEFINITION": "b.py"}) == "b.py"
    assert find_definition("a.py", {"BLAZE_DEFINITION": "b.py"}) == "a.py"


def test_the_state_directory_is_the_one_named_else_the_nearest_else_a_new_one(here: Path) -> None:
    below = here / "a" / "b"
    below.mkdir(parents=True)
    assert find_state_dir(None, {}, below) == (below / ".blaze", False)
    (here / ".blaze").mkdir()
    assert find_state_dir(None, {}, below).path == here / ".blaze"
    assert find_state_dir(None, {"BLAZE_STATE_DIR": "x"}, below) == (here / "x", True)
    assert find_state_dir("y", {"BLAZE_STATE_DIR": "x"}, below) == (here / "y", True)
    assert not (below / ".blaze").exists()
