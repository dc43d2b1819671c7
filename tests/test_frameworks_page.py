"""The table of frameworks: every mark is backed by a test that exists, and named below it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def marks(page: str) -> set[tuple[str, str]]:
    """Return (framework, feature) of every ✓ in the table."""
    rows = [[cell.strip() for cell in line.split("|")] for line in page.splitlines()]
    header = next(row[2:-1] for row in rows if row[1:3] == ["", "training loss"])
    return {
        (row[1], feature)
        for row in rows
        if "✓" in row
        for feature, cell in zip(header, row[2:-1], strict=True)
        if cell == "✓"
    }


def claims(page: str) -> dict[tuple[str, str], str]:
    """Return (framework, feature) -> the test that shows it, as the page has them."""
    found = re.findall(r"^\| ([^|]+) \| ([^|]+) \| `([^`]+)` \|$", page, re.MULTILINE)
    return {(framework, feature): test for framework, feature, test in found}


def exists(test: str) -> bool:
    """Return whether a test of that name is defined in its file, and not skipped by a mark."""
    path, name = test.split("::")
    file = ROOT / path
    if not file.exists():
        return False
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            marks = [ast.unparse(mark).split("(")[0] for mark in node.decorator_list]
            return not any("skip" in mark for mark in marks)
    return False


PAGE = (ROOT / "docs" / "frameworks.md").read_text(encoding="utf-8")


def test_the_table_marks_what_the_list_claims():
    assert marks(PAGE) == set(claims(PAGE))
    assert len(marks(PAGE)) > 30


@pytest.mark.parametrize("cell", sorted(claims(PAGE)), ids=lambda cell: ", ".join(cell))
def test_each_mark_is_a_test(cell: tuple[str, str]):
    assert exists(claims(PAGE)[cell])


def test_a_mark_without_a_test_is_seen():
    assert not exists("tests/contracts/test_time.py::test_that_nobody_wrote")
    assert not exists("tests/no_such_file.py::test_anything")
    spoilt = PAGE.replace("| optax | ✓ | |", "| optax | ✓ | ✓ |")
    assert marks(spoilt) - set(claims(PAGE)) == {("optax", "evaluation metric")}
