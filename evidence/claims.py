"""What was claimed before it was measured, and whether it held: one form for all studies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ratewise.compare.report.tables import Table, told
from ratewise.compare.statistics import LEVEL, Interval, holm

HELD, MISSED, UNDECIDED = "held", "missed", "undecided"
#: Of a quantile, say, that has no interval that covers: it is shown and nothing is said of it.
UNJUDGED = "not judged"


@dataclass(frozen=True)
class Claim:
    """One claim, and what the numbers say of it."""

    title: str
    wanted: str
    value: str  #: what was measured; "-" where nothing was
    interval: str  #: of the value, 95%; empty where there is none
    outcome: str  #: "held", "missed", "undecided" or "not judged"
    of: str = ""  #: of whom, where the same is claimed of several
    p: float | None = None  #: of a headline, whose outcome is corrected for their number

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


def below(title: str, found: Interval, most: float = 1.0, *, of: str = "") -> Claim:
    """Return the headline that a ratio lies below a bound; its whole interval says so, or not.

    Args:
        title: what is claimed.
        found: of the log-ratio; its `null` is ln(most).
        most: the bound.
        of: of whom.

    >>> below("lower", Interval(-0.2, -0.3, -0.1, 6, "tasks", 0.002)).outcome
    'held'
    """
    bound = math.log(most)
    held = True if found.high < bound else False if found.low > bound else None
    value, _, span = told(found).partition(" ")
    return Claim(title, f"< {most:g}", value, span, outcome(held), of, found.p)


def corrected(claims: Sequence[Claim]) -> list[Claim]:
    """Return the claims; a headline that Holm's correction for all of them does not bear is open.

    >>> one = below("a", Interval(-0.2, -0.39, -0.01, 6, "tasks", 0.04))
    >>> [claim.outcome for claim in corrected([one])], corrected([one, one])[0].outcome
    (['held'], 'undecided')
    """
    headlines = [claim for claim in claims if claim.p is not None]
    values = iter(holm([claim.p for claim in headlines if claim.p is not None]))
    return [
        replace(claim, outcome=UNDECIDED)
        if claim.p is not None and next(values) > 1 - LEVEL
        else claim
        for claim in claims
    ]


def titles(claims: Iterable[Claim], word: str) -> list[str]:
    """Return the titles of the claims that came out so, each once.

    What is claimed of several has held where it held of all, and is missed where one misses it.
    """
    by_title: dict[str, set[str]] = {}
    for claim in claims:
        by_title.setdefault(claim.title, set()).add(claim.outcome)
    return [title for title, words in by_title.items() if _together(words) == word]


def _together(words: set[str]) -> str:
    return next(word for word in (MISSED, UNDECIDED, HELD, UNJUDGED) if word in words)


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
        judged = sum(c.outcome != UNJUDGED for c in found.values())
        of_all = "-" if not judged else "all" if held == judged else f"{held} of {judged}"
        rows.append([title, wanted, *cells, of_all])
    return Table("", ["claim", "wanted", *names, "held by"], rows).markdown()
