"""The planted bugs still fit the code: one that does not can prove nothing about the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.planted import BUGS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_fits_one_place_of_the_code(bug):
    code = (ROOT / "blaze" / bug.file).read_text(encoding="utf-8")
    assert code.count(bug.before) == 1
    compile(code.replace(bug.before, bug.after), bug.file, "exec")
    for name in bug.tests:
        assert (ROOT / "tests" / name).is_file()
