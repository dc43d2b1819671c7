"""What is claimed of learned schedules of a factorisation's rate, and whether numbers bear it."""

from __future__ import annotations

import math
from dataclasses import replace

from evidence.claims import Claim, outcome
from evidence.nmf.numbers import Result, mean_interval, median_interval, tail
from ratewise.compare.statistics import Interval

#: method -> the median ratio that was wanted on problems held out; None: below 1 with the interval.
WANTED: dict[str, float | None] = {
    "cosine": 0.95,
    "step": 0.95,
    "GreedyLR": 0.90,
    "warmup-hold-decay": None,
}


def claims(results: list[Result], policies: list[str]) -> list[Claim]:
    """Return every claim, of each policy; the first result is of the problems held out."""
    held, *others = results
    found = []
    for policy in policies:
        of = policy.removeprefix("learned ")
        for name, wanted in WANTED.items():
            median = median_interval(held, policy, name)
            goal = "interval < 1" if wanted is None else f"<= {wanted:.2f}, interval < 1"
            found.append(_claim(f"{name}, median", goal, median, reached(median, wanted), of))
            if wanted is None:
                mean = mean_interval(held, policy, name)
                found.append(_claim(f"{name}, geometric mean", goal, mean, reached(mean, None), of))
        for result in others:
            mean = mean_interval(result, policy, "cosine")
            title = f"{result.group}: cosine, geometric mean (what 95% of the problems lie below)"
            claim = _claim(title, "interval < 1", mean, transferred(mean), of)
            most = f"{claim.interval} ({tail(result, policy, 'cosine'):.2f})"
            found.append(replace(claim, interval=most))
    return found


def _claim(title: str, wanted: str, found: Interval, held: bool | None, of: str) -> Claim:
    middle, low, high = found.ratio()
    return Claim(title, wanted, f"{middle:.3f}", f"[{low:.3f}, {high:.3f}]", outcome(held), of)


def transferred(found: Interval) -> bool | None:
    """Return whether a ratio lies below 1, its whole interval too; None where that is open.

    >>> transferred(Interval(-0.2, -0.3, -0.1, 4)), transferred(Interval(-0.2, -0.3, 0.1, 4))
    (True, None)
    """
    return True if found.high < 0.0 else False if found.low > 0.0 else None


def reached(interval: Interval, wanted: float | None) -> bool | None:
    """Return whether a ratio is as low as was wanted, its whole interval below 1.

    >>> reached(Interval(-0.2, -0.3, -0.1, 99), 0.95)
    True
    >>> reached(Interval(-0.02, -0.03, -0.01, 99), 0.95)
    False
    >>> reached(Interval(-0.2, -0.3, 0.1, 99), 0.95) is None
    True
    """
    if interval.estimate > (0.0 if wanted is None else math.log(wanted)):
        return False
    return True if interval.high < 0.0 else None
