"""The digest of code that makes results: it follows what is done, not what is said of it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from evidence import code
from evidence.nmf import methods
from ratewise.errors import UnknownName

SOURCE = Path(methods.__file__).read_text(encoding="utf-8")


def test_what_is_said_has_no_part_in_it():
    bare = ast.unparse(ast.parse(SOURCE))  # without comments, in one form
    for said in (SOURCE, bare, SOURCE + "\n# more\n", SOURCE.replace('"""Return c', '"""Give c')):
        assert code.canonical(said) == code.canonical(SOURCE)
    assert SOURCE.count('"""Return c') > 0


@pytest.mark.parametrize(
    ("before", "after"),
    [("0.9 if self._heard", "0.8 if self._heard"), ("clamp(1e-3", "clamp_min(1e-3")],
)
def test_what_is_done_has(before: str, after: str):
    assert before in SOURCE
    assert code.canonical(SOURCE.replace(before, after)) != code.canonical(SOURCE)


def test_a_digest_is_of_all_modules_in_their_order():
    one, other = "evidence.nmf.methods", "evidence.nmf.problems"
    found = [code.digest(one), code.digest(other), code.digest(one, other), code.digest(other, one)]
    assert len(set(found)) == 4
    assert all(len(digest) == 16 for digest in found)
    with pytest.raises(UnknownName, match="module"):
        code.digest("evidence.nothing")


def test_a_package_s_modules_are_all_there():
    found = code.below("ratewise.rules", "ratewise.simulate")
    assert {"ratewise.rules.greedy", "ratewise.simulate.families.real"} < set(found)
    assert list(found) == sorted(found)
    with pytest.raises(UnknownName, match=r"unknown package 'ratewise\.none'"):
        code.below("ratewise.none")
