"""What README, the site and its page of claims state is found on the pages that they link.

A block (a paragraph, an entry of a list, a table; in the page of claims a row) is checked against
the pages that it links, and those that a comment above it names, `<!-- numbers: docs/x.md -->`.
Every number of such a block must stand there, as it is or with more digits. What has no such page
may hold no number that looks measured: with two decimals, or a share in percent.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README, CLAIMS = ROOT / "README.md", ROOT / "docs" / "evidence" / "claims.md"
START, MEASURED = ROOT / "docs" / "start.md", ROOT / "docs" / "measured.md"
#: Pages of the site that state what was measured.
PAGES = [
    START,
    MEASURED,
    *(ROOT / "docs" / f"{x}.md" for x in ("compare", "factorise", "past-runs")),
]
_NUMBER = r"(?<![\w.])[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?![\w.]*\d)"
_WITH_INTERVAL = re.compile(rf"({_NUMBER})\s+\[({_NUMBER}),\s+({_NUMBER})\]")
_LINK = re.compile(r"\]\(([^)]+\.md)\)")
_COMMENT = re.compile(r"<!-- numbers: ([^>]+?) -->")
_MEASURED = re.compile(r"(?<![\w.])\d+\.\d\d+(?!\w)|\d%")
#: A version, an unmeasured limit: what no page of evidence has.
_NOT_MEASURED = re.compile(
    r"(Python|torch|pip) (>= )?\d[\d.]*|\d-core|x86-64|float32|\d+e-?\d+|1/4\.5 to 4\.5|\(0, 1\.9\]"
)


def blocks(text: str) -> list[str]:
    """Return what belongs together, without code; a comment stays with what follows it."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [block for block in re.split(r"\n{2,}|\n(?=- )", text) if block.strip()]


def rows(text: str) -> list[str]:
    """Return the blocks, a table's rows each alone."""
    found = []
    for block in blocks(text):
        found += block.splitlines() if block.startswith("|") else [block]
    return found


def pages_of(block: str, folder: Path) -> list[str]:
    """Return the text of the pages that a block links, or names in a comment."""
    named = [part.strip() for found in _COMMENT.findall(block) for part in found.split(",")]
    paths = [ROOT / name for name in named] + [folder / name for name in _LINK.findall(block)]
    return [path.read_text(encoding="utf-8") for path in paths if path.suffix == ".md"]


def plain(block: str) -> str:
    """Return a block without code, links, versions and limits."""
    bare = re.sub(r"`[^`]*`|\]\([^)]*\)|<!--.*?-->", " ", block, flags=re.DOTALL)
    return _NOT_MEASURED.sub(" ", bare)


def stated(text: str) -> list[tuple[str, ...]]:
    """Return the numbers of a text; one with its interval is one."""
    parts = [found.groups() for found in _WITH_INTERVAL.finditer(text)]
    return [*parts, *((x,) for x in re.findall(_NUMBER, _WITH_INTERVAL.sub(" ", text)))]


def _fits(wanted: str, there: str) -> bool:
    """Return whether a number is another one, to the digits that are wanted.

    >>> _fits("0.62", "0.6241"), _fits("0.62", "0.6")
    (True, False)
    """
    (value, digits), (other, more) = (
        (float(x.replace(",", "")), len(x.partition(".")[2])) for x in (wanted, there)
    )
    return abs(value - other) <= (0.5 * 10.0**-digits if more > digits else 0.0) + 1e-12


def missing(block: str, pages: list[str]) -> list[str]:
    """Return the numbers of a block that no page has, to the digits that are stated."""
    there = {numbers for page in pages for numbers in stated(page)}
    there |= {(x,) for numbers in there for x in numbers}
    return [
        " ".join(numbers)
        for numbers in stated(plain(block))
        if not any(
            len(other) == len(numbers) and all(map(_fits, numbers, other)) for other in there
        )
    ]


def wrong(text: str, folder: Path, cut: object = blocks) -> list[str]:
    """Return what is stated and not found, and what looks measured and names no page."""
    found = []
    for block in cut(text):  # type: ignore[operator]
        pages = pages_of(block, folder)
        if pages:
            found += [f"{number} in: {block[:60]}" for number in missing(block, pages)]
        elif _MEASURED.search(plain(block)):
            found.append(f"no page for: {block[:60]}")
    return found


def test_what_the_readme_states_stands_on_the_pages_that_it_links():
    assert wrong(README.read_text(encoding="utf-8"), ROOT) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_of_the_site_states_stands_on_the_pages_that_it_links(page: Path):
    cut = rows if page == START else blocks
    assert wrong(page.read_text(encoding="utf-8"), page.parent, cut) == []


def test_what_the_page_of_claims_states_stands_on_the_pages_that_it_links():
    assert wrong(CLAIMS.read_text(encoding="utf-8"), CLAIMS.parent, rows) == []


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        (README, "1.079 [0.922", "1.071 [0.922"),
        (README, "79% of 238", "79% of 987"),
        (MEASURED, "| 0.107 [0.00, 6.92]", "| 0.107 [0.00, 6.93]"),
        (START, "0.986 [0.963, 1.009]", "0.986 [0.963, 1.003]"),
        (CLAIMS, "0.984 [0.950, 1.020]", "0.984 [0.950, 1.021]"),
        (CLAIMS, "19.4%, 2.1%", "18.7%, 2.1%"),
    ],
)
def test_negative_control_a_number_that_is_changed_is_not_found(
    path: Path, before: str, after: str
):
    text = path.read_text(encoding="utf-8")
    assert before in text
    cut = rows if path in (CLAIMS, START) else blocks
    assert len(wrong(text.replace(before, after), path.parent, cut)) >= 1


def test_a_number_without_a_page_is_seen():
    assert wrong("It is 0.93 times as slow.", ROOT) == ["no page for: It is 0.93 times as slow."]
    assert wrong("It is 12% slower.", ROOT)
    assert not wrong("Python >= 3.10, `0.93`, and 12 tasks.", ROOT)


def test_numbers_are_compared_to_the_digits_that_are_stated():
    assert missing("0.62, 1,234 and 57%", ["0.621 1234 57.3%"]) == []
    assert missing("0.62", ["0.63 0.616"]) == []
    assert missing("0.62", ["0.6"]) == ["0.62"]
    assert missing("0.621", ["0.62"]) == ["0.621"]
    assert missing("0.9 [0.8, 1.1]", ["0.90 [0.82, 1.14]", "0.9 and [0.8, 1.1]"]) == []
    assert missing("0.9 [0.8, 1.1]", ["0.9 [0.8, 1.2] 0.8 [0.8, 1.1]"]) == ["0.9 0.8 1.1"]
    said = plain("`0.1` and [5](x/7.md) but 0.36% of -0.0036, 1,234")
    assert stated(said) == [("5",), ("0.36",), ("-0.0036",), ("1,234",)]


def test_every_claim_has_an_outcome():
    for row in rows(CLAIMS.read_text(encoding="utf-8")):
        if row.startswith("| ") and "---" not in row and "the article says" not in row:
            said = row.strip("|").split("|")[3].strip()
            assert re.match(r"held|missed|not shown|undecided|open", said), row
