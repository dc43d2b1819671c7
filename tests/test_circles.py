"""No two modules of the repository import each other, neither at once nor over others."""

from __future__ import annotations

import graphlib
import sys
from pathlib import Path

import grimp
import pytest


def circle(*packages: str) -> list[str]:
    """Return modules of which each imports the next, the last the first; [] if there are none.

    Imports inside functions count, those for type checkers alone do not.
    """
    graph = grimp.build_graph(*packages, cache_dir=None, exclude_type_checking_imports=True)
    imported = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    try:
        graphlib.TopologicalSorter(imported).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_there_are_no_import_circles() -> None:
    assert circle("ratewise", "evidence") == []


@pytest.mark.parametrize(
    "back", ["import round_about.a", "def f():\n    from round_about import a"]
)
def test_a_planted_circle_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back: str
) -> None:
    files = {"__init__": "", "a": "import round_about.b", "b": "import round_about.c", "c": back}
    (tmp_path / "round_about").mkdir()
    for name, text in files.items():
        (tmp_path / "round_about" / f"{name}.py").write_text(text + "\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    found = circle("round_about")
    assert set(found) == {f"round_about.{name}" for name in "abc"}
    (tmp_path / "round_about" / "c.py").write_text("import math\n", encoding="utf-8")
    assert circle("round_about") == []
    assert "round_about" not in sys.modules
