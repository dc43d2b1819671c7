"""What is wanted of GreedyLR's defaults under significance, and whether it came out so."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evidence.claims import Claim, below, outcome
from evidence.greedy_defaults.numbers import Numbers
from evidence.greedy_defaults.plan import CONTROL, FALL, OLD, OURS
from ratewise.compare.statistics import cell_interval

#: At most so many times cosine's loss where the rate is up to 3 times too high.
TOO_HIGH = 1.1


def claims(numbers: Numbers) -> list[Claim]:
    """Return the goals and what was measured of each; none before anything was judged."""
    if not numbers.cells:
        return []
    n = numbers
    found = [
        below("tuned, against tuned cosine", n.ratio("cosine", 0.99), 0.99),
        below("tuned, against tuned linear", n.ratio("linear")),
        below("tuned, against a tuned constant rate with the same fall", n.ratio(FALL)),
        *_shares(n.verdicts()),
        below("at the same rate over three decades, against cosine", n.same("cosine", 0.85), 0.85),
        below("at tuned cosine's rate", n.shifted("cosine", 0, TOO_HIGH), TOO_HIGH),
        below("at 3 times tuned cosine's rate", n.shifted("cosine", 1, TOO_HIGH), TOO_HIGH),
        _never(n),
    ]
    if n.given:
        against = cell_interval((n.given[OURS] - n.given["cosine"]).tolist())
        found.append(below("nanoGPT's shape at its rate, against its cosine", against))
    found += [
        below("tuned, against the old default", n.ratio(OLD)),
        below("control: tuned, against itself fed strangers' losses", n.ratio(CONTROL)),
    ]
    return found


def _shares(verdicts: Sequence[str]) -> list[Claim]:
    worse, open_ = (verdicts.count(word) / len(verdicts) for word in ("worse", "undecided"))
    good = 1 - worse - open_
    rows = (
        ("as good as each of the seven schedules, or better", ">= 90%", good, good >= 0.9),
        ("undecided against one of them", "< 10%", open_, open_ < 0.1),
        ("worse than one of them", "<= 5%", worse, worse <= 0.05),
    )
    return [
        Claim(f"cells {title}", wanted, f"{x:.0%} of {len(verdicts)}", "", outcome(held))
        for title, wanted, x, held in rows
    ]


def _never(numbers: Numbers) -> Claim:
    ratios = [x for cell in numbers.cells for k in (0, 1) if (x := cell.shifted("cosine", k)) == x]
    above = sum(x > math.log(TOO_HIGH) for x in ratios)
    title = f"cells above {TOO_HIGH} of cosine, at its tuned rate or 3 times that"
    return Claim(title, "0", f"{above} of {len(ratios)}", "", outcome(above == 0))
