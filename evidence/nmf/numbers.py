"""What is claimed of learned schedules of a factorisation's rate, and whether numbers bear it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ratewise.compare import statistics
from ratewise.compare.analysis import BOOTSTRAP_SEED
from ratewise.compare.statistics import Interval

if TYPE_CHECKING:
    from evidence.nmf.plan import Result

#: method -> the median ratio that was wanted on problems held out; None: below 1 with the interval.
WANTED: dict[str, float | None] = {
    "cosine": 0.95,
    "step": 0.95,
    "GreedyLR": 0.90,
    "warmup-hold-decay": None,
}


#: What 95% of the problems of another kind are to stay below, against tuned cosine.
TAIL = 1.2


def median_interval(result: Result, ours: str, theirs: str) -> Interval:
    """Return the median of ln(ours / theirs), resampled over stacks and problems within them."""
    return statistics.bootstrap_interval(_columns(result, ours, theirs), seed=BOOTSTRAP_SEED)


def mean_interval(result: Result, ours: str, theirs: str) -> Interval:
    """Return the mean of ln(ours / theirs), whose exponential is the geometric mean."""
    groups = _columns(result, ours, theirs)
    return statistics.bootstrap_interval(groups, seed=BOOTSTRAP_SEED, statistic=np.mean)


def _columns(result: Result, ours: str, theirs: str) -> list[np.ndarray]:
    return [x[:, None] for x in result.log_ratios(ours, theirs)]


def parts(result: Result, ours: str, theirs: str) -> dict[bool, list[np.ndarray]]:
    """Return ln(ours / theirs) where most of their loss can be removed, and where it cannot."""
    ratios, free = result.log_ratios(ours, theirs), result.free(theirs)
    return {
        wanted: [x[mask == wanted] for x, mask in zip(ratios, free, strict=True)]
        for wanted in (True, False)
    }


def tail(result: Result, ours: str, theirs: str) -> float:
    """Return the 95th percentile of ours / theirs."""
    return float(np.exp(np.quantile(np.concatenate(result.log_ratios(ours, theirs)), 0.95)))


def reached(name: str, interval: Interval) -> bool:
    """Return whether what was wanted against a method was reached.

    >>> reached("cosine", Interval(-0.2, -0.3, -0.1, 99, "bootstrap"))
    True
    >>> reached("cosine", Interval(-0.02, -0.03, -0.01, 99, "bootstrap"))
    False
    """
    wanted = WANTED[name]
    below = interval.high < 0.0
    return below if wanted is None else below and interval.estimate <= math.log(wanted)


def transferred(result: Result, ours: str) -> bool:
    """Return whether ours is no worse than cosine in the median, without a tail of failures."""
    return (
        median_interval(result, ours, "cosine").estimate <= 0.0
        and tail(result, ours, "cosine") <= TAIL
    )
