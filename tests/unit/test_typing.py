"""What type checkers see: the decorators keep the signatures of what they decorate."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLE = "tests/data/typed_pipeline.py"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mypy") is None, reason="mypy is not installed; it comes with: pip install blaze-etl[lint]"
)


@pytest.fixture(scope="module")
def told(request):
    """What mypy, as strict as for Blaze itself, has to say of the sample."""
    cache = request.config.cache.mkdir("mypy")
    command = [sys.executable, "-m", "mypy", "--config-file=pyproject.toml", f"--cache-dir={cache}", SAMPLE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert not done.stderr
    return done.stdout.replace("builtins.", "").splitlines()


def test_right_calls_pass_and_every_wrong_call_is_an_error(told):
    # A wrong call that mypy does not see is an error too: its "type: ignore" is unused.
    assert [line for line in told if ": error: " in line] == []
    assert told[-1].startswith("Success: no issues found")


def test_the_signatures_are_revealed_as_they_were_written(told):
    revealed = [found[1] for line in told if (found := re.search(r'Revealed type is "(.*)"', line))]
    plain = "def (endpoint: str, limit: int =) -> list[int]"
    assert revealed[:3] == [plain, plain, plain]
    assert revealed[3].startswith("def (endpoint: str, *, limit: int) -> typing.Coroutine[Any, Any, dict[str, int]")
    assert re.fullmatch(r"def \(context: .*dict\[str, Any\].* =, \*, strict: bool =\) -> dict\[str, Any\]", revealed[4])
    assert revealed[5] == "def () -> int"


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "blaze" / "py.typed").is_file()
