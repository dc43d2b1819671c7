"""What was wanted of the defaults that were chosen, judged once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from evidence.claims import Claim, below, outcome
from ratewise.compare.analysis import Pair
from ratewise.compare.statistics import MARGIN

#: Share of the cells that should be non-inferior.
GOAL = 0.9
OURS = ("greedy", "greedy-cosine")


class Reached(NamedTuple):
    """Which goals one of our schedules reaches; transformers' scheduler is no standard one."""

    name: str
    against: int  #: how many schedules
    met: list[str]  #: those against which the first goal is met
    cosine: Pair | None

    @property
    def reaches(self) -> bool:
        """Whether the whole interval of the ratio to cosine lies below 1.02."""
        return self.cosine is not None and self.cosine.overall.high < math.log(MARGIN)


def reached(name: str, pairs: Sequence[Pair]) -> Reached:
    """Return which goals a schedule reaches."""
    mine = [p for p in pairs if p.ours == name and p.baseline != "transformers-greedy"]
    met = [p.baseline for p in mine if p.cells and p.non_inferior >= GOAL * len(p.cells)]
    return Reached(name, len(mine), met, next((p for p in mine if p.baseline == "cosine"), None))


def claims(pairs: Sequence[Pair]) -> list[Claim]:
    """Return both goals for each of our schedules."""
    found = []
    for one in (reached(name, pairs) for name in OURS):
        title = f"{one.name} is non-inferior in {GOAL:.0%} of the cells, to every schedule"
        value = f"{len(one.met)} of {one.against}"
        found.append(Claim(title, "all", value, "", outcome(len(one.met) == one.against)))
        if one.cosine is not None:
            title = f"{one.name}: over all cells it is at most 2% worse than cosine"
            found.append(replace(below(title, one.cosine.overall, MARGIN), p=None))
    return found
