"""What every page shares: claims and their words, templates, and writing it whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
import pytest
from tests.evidence.page_numbers import gained, lost, numbers

from evidence import claims, page
from evidence.claims import Claim

FOLDER = Path(page.__file__).parent


def claim(title: str, outcome: str, of: str = "") -> Claim:
    return Claim(title, "< 1", "0.9", "[0.8, 1.1]", outcome, of)


def test_what_is_claimed_of_several_is_missed_where_one_misses_it():
    found = [claim("a", "held", "x"), claim("a", "missed", "y"), claim("b", "undecided", "x")]
    found += [claim("b", "held", "y"), claim("c", "held", "x")]
    assert {word: claims.titles(found, word) for word in ("held", "missed", "undecided")} == {
        "held": ["c"],
        "missed": ["a"],
        "undecided": ["b"],
    }
    table = claims.table(found)
    assert " x |" in table.splitlines()[0]
    assert "1 of 2" in table
    assert "held by" not in claims.table([claim("a", "held")])


def test_a_page_begins_with_three_sentences_and_the_table(tmp_path: Path):
    (tmp_path / "page.md.j2").write_text((FOLDER / "page.md.j2").read_text())
    template = """{% extends "page.md.j2" %}
{% block title %}Title{% endblock %}
{% block asked %}
Is it so?
{% endblock %}
{% block rest %}
Rest {{ value }}.
{% endblock %}
"""
    environment = page._environment()
    environment.loader = jinja2.DictLoader(
        {"page.md.j2": (tmp_path / "page.md.j2").read_text(), "own": template}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "_environment", lambda: environment)
        text = page.render("own", [claim("a", "held"), claim("b", "missed")], value=3)
        with pytest.raises(jinja2.UndefinedError, match="value"):
            page.render("own", [])
    lines = text.splitlines()
    assert lines[:5] == [
        "# Title",
        "",
        "Is it so?",
        "Of 2 claims 1 held, 1 was missed and 0 are undecided.",
        "Missed: b.",
    ]
    assert lines[6].startswith("| claim | wanted")
    assert text.endswith("missed  |\n\nRest 3.\n")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*/*.md.j2")), ids=str)
def test_each_page_asks_in_one_sentence_and_keeps_the_order_of_its_opening(path: Path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith('{% extends "page.md.j2" %}\n')
    (asked,) = re.findall(r"{% block asked %}\n(.+?)\n{% endblock %}", text, re.DOTALL)
    assert len(re.findall(r"[.?!](?=\s|$)", asked)) == 1, asked
    assert "came_out" not in text


def test_a_page_is_written_with_its_figures_or_not_at_all(tmp_path: Path):
    def fails(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("planted")

    file = tmp_path / "docs" / "page.md"
    with pytest.raises(RuntimeError, match="planted"):
        page.write(file, "new", {"a.png": lambda path: path.touch(), "b.png": fails})
    assert list(file.parent.iterdir()) == []
    page.write(file, "new", {"a.png": lambda path: path.touch()})
    assert sorted(path.name for path in file.parent.iterdir()) == ["a.png", "page.md"]


def test_numbers_that_a_page_lost_or_gained_are_found():
    before = "Made by x. 12,345 runs, 0.93 [0.9, 1.1], -3.5e-4, and v2 of 0.93."
    assert numbers(before)["0.93"] == 2
    assert "2" not in numbers(before)
    after = "# New\n\nSentences with 7.\n\nMade by x. 12,345 runs, 0.93 [0.9, 1.1], -3.5e-4, 5."
    assert dict(lost(before, after)) == {"0.93": 1}
    assert gained(before, after) == ["5"]
    assert not lost(before, before)
