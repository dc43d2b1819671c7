"""What was claimed before it was measured, and whether it held: one form for all studies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ratewise.compare.report.tables import Table

HELD, MISSED, UNDECIDED = "held", "missed", "undecided"


@dataclass(frozen=True)
class Claim:
    """One claim, and what the numbers say of it."""

    title: str
    wanted: str
    value: str  #: what was measured; "-" where nothing was
    interval: str  #: of the value, 95%; empty where there is none
    outcome: str  #: "held", "missed" or "undecided"
    of: str = ""  #: of whom, where the same is claimed of several

    def shown(self) -> str:
        """Return what was measured.

        >>> Claim("lower", "< 1", "0.94", "[0.90, 0.99]", HELD).shown()
        '0.94 [0.90, 0.99]'
        """
        return f"{self.value} {self.interval}".rstrip()


def outcome(held: bool | None) -> str:
    """Return the word for a claim that is true, or not, or (None) cannot be decided.

    >>> outcome(True), outcome(False), outcome(None)
    ('held', 'missed', 'undecided')
    """
    return UNDECIDED if held is None else HELD if held else MISSED


def titles(claims: Iterable[Claim], word: str) -> list[str]:
    """Return the titles of the claims that came out so, each once.

    What is claimed of several has held where it held of all, and is missed where one misses it.
    """
    by_title: dict[str, set[str]] = {}
    for claim in claims:
        by_title.setdefault(claim.title, set()).add(claim.outcome)
    return [title for title, words in by_title.items() if _together(words) == word]


def _together(words: set[str]) -> str:
    return next(word for word in (MISSED, UNDECIDED, HELD) if word in words)


def table(claims: Sequence[Claim]) -> str:
    """Return the claims as a table; where they are of several, each has a column."""
    names = list(dict.fromkeys(claim.of for claim in claims))
    if names in ([], [""]):
        header = ["claim", "wanted", "measured", "95% interval", "outcome"]
        rows = [[c.title, c.wanted, c.value, c.interval, c.outcome] for c in claims]
        return Table("", header, rows).markdown()
    rows = []
    for title, wanted in dict.fromkeys((c.title, c.wanted) for c in claims):
        found = {c.of: c for c in claims if c.title == title}
        cells = [f"{c.shown()}, {c.outcome}" if (c := found.get(name)) else "" for name in names]
        held = sum(c.outcome == HELD for c in found.values())
        of_all = "all" if held == len(found) else f"{held} of {len(found)}"
        rows.append([title, wanted, *cells, of_all])
    return Table("", ["claim", "wanted", *names, "held by"], rows).markdown()
