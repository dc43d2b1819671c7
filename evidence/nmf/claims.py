"""What is claimed of learned schedules of a factorisation's rate, and whether numbers bear it."""

from __future__ import annotations

import math
from dataclasses import replace

from evidence.claims import HELD, UNDECIDED, Claim, outcome
from evidence.nmf.numbers import HINDSIGHT, ONE, PROBLEM, Group, middle
from ratewise.compare.statistics import LEVEL, Interval, holm

#: method -> the ratio that is wanted where it is tuned per problem; None: below 1.
WANTED: dict[str, float | None] = {
    "cosine": 0.97,
    "step": 0.97,
    "exponential": None,
    "constant": None,
    "warmup-hold-decay": None,
    "GreedyLR": None,
    "noise formula": None,
}


def claims(groups: list[Group]) -> list[Claim]:
    """Return every claim, of the middle policy; the first group is of the problems held out.

    Those with a number that is wanted are the headlines: that they held is corrected for how many
    they are.
    """
    held, *others = groups
    found = [_claim(held, name, PROBLEM, most) for name, most in WANTED.items()]
    headlines = [number for number, most in enumerate(WANTED.values()) if most is not None]
    chances = [middle(held, list(WANTED)[number]).p for number in headlines]
    for number, p, together in zip(headlines, chances, holm(chances), strict=True):
        claim = replace(found[number], p=p)
        borne = claim.outcome != HELD or together <= 1 - LEVEL
        found[number] = claim if borne else replace(claim, outcome=UNDECIDED)
    found += [
        _claim(held, name, how, None) for how in (ONE, HINDSIGHT) for name in list(WANTED)[:2]
    ]
    found += [_claim(group, name, PROBLEM, None) for group in others for name in group.losses]
    return found


def _claim(group: Group, method: str, how: str, most: float | None) -> Claim:
    found = middle(group, method, how)
    value, low, high = found.ratio()
    goal = "interval < 1" if most is None else f"<= {most:.2f}, interval < 1"
    title = f"{group.name}: {method}, {how}"
    return Claim(
        title, goal, f"{value:.3f}", f"[{low:.3f}, {high:.3f}]", outcome(reached(found, most))
    )


def reached(interval: Interval, wanted: float | None) -> bool | None:
    """Return whether a ratio is as low as was wanted, its whole interval below 1.

    >>> reached(Interval(-0.2, -0.3, -0.1, 99), 0.95)
    True
    >>> reached(Interval(-0.02, -0.03, -0.01, 99), 0.95)
    False
    >>> reached(Interval(-0.2, -0.3, 0.1, 99), 0.95) is None
    True
    """
    if interval.low > 0.0 or (wanted is not None and interval.estimate > math.log(wanted)):
        return False
    return True if interval.high < 0.0 else None
