"""Paired comparisons of losses: intervals on the log-ratio, verdicts, what divergence counts.

With l the losses of two methods on the same task, optimizer and seed, x = log(l_ours / l_theirs):
x < 0 means ours is lower. NumPy alone; everything random takes a seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ratewise.errors import invalid

#: A diverged run, or one that ends above it, counts as this many times the initial loss.
CAP = 10.0
#: Claims, as ratios of losses: within TIE is a tie, not above MARGIN is non-inferior.
TIE, MARGIN = 1.01, 1.02
#: From this many seeds on a cell gets a bootstrap interval; below it a percentile bootstrap is
#: falsely significant far too often, and a paired t interval is used.
BOOTSTRAP_FROM = 8
#: Coverage of all intervals.
LEVEL = 0.95
#: From best to worst. "undecided" is the width of an interval speaking, not a tie.
VERDICTS = ("better", "tie", "non-inferior", "undecided", "worse")


class Interval(NamedTuple):
    """An estimate between its bounds, on the log scale, from `n` values."""

    estimate: float
    low: float
    high: float
    n: int
    method: str  #: "t", "bootstrap" or "none"

    def ratio(self) -> tuple[float, float, float]:
        """Return estimate, low and high as ratios of losses; an unbounded end is 0 or inf.

        >>> Interval(0.0, -math.inf, math.inf, 1, "t").ratio()
        (1.0, 0.0, inf)
        """
        low, middle, high = (
            math.inf if x > 700 else math.exp(x) for x in (self.low, self.estimate, self.high)
        )
        return middle, low, high


def capped_loss(loss: float, initial: float) -> float:
    """Return the loss, or 10 times the untrained model's if the run diverged or ended above that.

    >>> capped_loss(0.5, 2.0), capped_loss(math.inf, 2.0), capped_loss(1e9, 2.0)
    (0.5, 20.0, 20.0)
    """
    return min(loss, CAP * initial) if math.isfinite(loss) else CAP * initial


def log_ratio(ours: float, theirs: float, initial: float) -> float:
    """Return the capped log-ratio of two losses of one pair; both diverged is a tie, 0.

    Args:
        ours, theirs: final losses >= 0, not finite where the run diverged.
        initial: the loss of the untrained model that both started from, > 0.

    Raises:
        InvalidArgument: a loss below 0 has no logarithm.

    >>> log_ratio(math.inf, math.inf, 2.0), round(log_ratio(1.02, 1.0, 2.0), 4)
    (0.0, 0.0198)
    """
    for loss in (ours, theirs, initial):
        if loss < 0:
            raise invalid(
                "loss", "a number >= 0 to form ratios", loss, "add a constant to the task's loss"
            )
    tiny = 1e-12  # a loss of exactly 0 is possible, its logarithm is not
    pair = [max(capped_loss(loss, initial), tiny) for loss in (ours, theirs)]
    return math.log(pair[0] / pair[1])


def t_quantile(level: float, freedom: int) -> float:
    """Return t with P(|T| < t) = level for Student's T, by bisection of its closed form.

    Source: Abramowitz & Stegun, 26.7.3 (odd) and 26.7.4 (even degrees of freedom).

    >>> round(t_quantile(0.95, 4), 4), round(t_quantile(0.95, 1), 3)
    (2.7764, 12.706)
    """
    low, high = 0.0, 1e9
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if _central(middle, freedom) < level else (low, middle)
    return high


def _central(t: float, freedom: int) -> float:
    """P(|T| < t)."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine = math.cos(angle)
    odd = freedom % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(1 + odd, freedom, 2):  # terms k + 1 = 2, 4, ... or 3, 5, ...
        total += term
        term *= cosine * cosine * k / (k + 1)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def paired_t_interval(x: Sequence[float]) -> Interval:
    """Return the mean of paired log-ratios with its t interval; of one value, unbounded.

    >>> interval = paired_t_interval([0.0, 0.1, 0.2])
    >>> [round(v, 4) for v in interval[:3]]
    [0.1, -0.1484, 0.3484]
    """
    n = len(x)
    if n == 0:
        return Interval(math.nan, -math.inf, math.inf, 0, "none")
    mean = math.fsum(x) / n
    if n == 1:
        return Interval(mean, -math.inf, math.inf, 1, "t")
    half = t_quantile(LEVEL, n - 1) * float(np.std(x, ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n, "t")


def bootstrap_interval(
    groups: Sequence[Any],
    *,
    seed: int,
    statistic: Callable[..., Any] = np.median,
    resamples: int = 2000,
) -> Interval:
    """Return a statistic of grouped log-ratios with its percentile interval.

    Each resample draws the groups (tasks) with replacement, then within each drawn group its
    rows (seeds): runs of one task resemble each other, and an interval that forgets it is too
    narrow.

    Args:
        groups: one array a task, [seeds] or [seeds, k]: what shares a seed stays together.
        seed: of the resampling.
        statistic: of all values drawn, called with an array and `axis`.
        resamples: number of resamples.
    """
    arrays = [np.asarray(group, dtype=float) for group in groups]
    arrays = [a.reshape(len(a), -1) for a in arrays if a.size]
    n = sum(len(a) for a in arrays)
    if n == 0:
        return Interval(math.nan, -math.inf, math.inf, 0, "none")
    estimate = float(statistic(np.concatenate([a.ravel() for a in arrays]), axis=-1))
    if n == 1:
        return Interval(estimate, -math.inf, math.inf, 1, "bootstrap")
    rng = np.random.default_rng(seed)
    if len({a.shape for a in arrays}) == 1:  # as nearly always: all resamples at once
        stacked = np.stack(arrays)
        tasks = rng.integers(len(arrays), size=(resamples, len(arrays), 1))
        rows = rng.integers(len(arrays[0]), size=(resamples, len(arrays), len(arrays[0])))
        drawn = statistic(stacked[tasks, rows].reshape(resamples, -1), axis=-1)
    else:
        drawn = np.empty(resamples)
        for i in range(resamples):
            picked = (arrays[j] for j in rng.integers(len(arrays), size=len(arrays)))
            values = [a[rng.integers(len(a), size=len(a))].ravel() for a in picked]
            drawn[i] = statistic(np.concatenate(values), axis=-1)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(estimate, float(low), float(high), n, "bootstrap")


def cell_interval(x: Sequence[float], *, seed: int) -> Interval:
    """Return the interval of one cell's mean log-ratio: t below 8 seeds, bootstrap from 8 on."""
    if len(x) < BOOTSTRAP_FROM:
        return paired_t_interval(x)
    return bootstrap_interval([x], seed=seed, statistic=np.mean)


def pooled_interval(groups: Sequence[Any], *, seed: int) -> Interval:
    """Return the interval over several tasks: of the median, bootstrapped as above.

    Below 8 runs in all, where a bootstrap is not to be trusted, of the mean by Student's t.

    Args:
        groups: one array a task, [seeds] or [seeds, k].
        seed: of the resampling.
    """
    rows = [float(np.mean(row)) for group in groups for row in group]
    if len(rows) < BOOTSTRAP_FROM:
        return paired_t_interval(rows)
    return bootstrap_interval(groups, seed=seed)


def verdict(interval: Interval) -> str:
    """Return what an interval of the log-ratio allows to say.

    "better": below 0. "tie": within 1% either way. "non-inferior": below log 1.02, the claim
    that counts. "worse": above 0. Otherwise "undecided".

    >>> verdict(Interval(0.0, -0.05, 0.05, 5, "t"))
    'undecided'
    """
    if interval.high < 0:
        return "better"
    if -math.log(TIE) <= interval.low and interval.high <= math.log(TIE):
        return "tie"
    if interval.high < math.log(MARGIN):
        return "non-inferior"
    return "worse" if interval.low > 0 else "undecided"


def interquartile_mean(x: Sequence[float]) -> float:
    """Return the mean of the middle half: the lowest and highest quarter are left out.

    >>> interquartile_mean([0.0, 1.0, 2.0, 100.0])
    1.5
    """
    ordered = np.sort(np.asarray(x, dtype=float))
    cut = len(ordered) // 4
    return float(np.mean(ordered[cut : len(ordered) - cut])) if len(ordered) else math.nan


def probability_of_improvement(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return P(ours < theirs) + P(equal) / 2 over all pairs of runs, diverged ones infinite.

    >>> probability_of_improvement([1.0, 2.0], [2.0, 3.0])
    0.875
    """
    a, b = np.asarray(ours, dtype=float)[:, None], np.asarray(theirs, dtype=float)[None, :]
    return float(np.mean((a < b) + 0.5 * (a == b))) if a.size and b.size else math.nan


def paper_count(
    ours: Sequence[float], theirs: Sequence[float], margin: float = 0.1
) -> dict[str, int]:
    """Count pairs of losses as arXiv 2512.14527 does, with its absolute margin on the loss.

    For comparison only: where all losses lie below the margin nothing can be worse.

    >>> paper_count([0.50, 0.05, 0.9], [0.65, 0.04, 0.7])
    {'better': 1, 'insignificantly better': 0, 'insignificantly worse': 1, 'worse': 1}
    """
    counts = dict.fromkeys(
        ("better", "insignificantly better", "insignificantly worse", "worse"), 0
    )
    for our, their in zip(ours, theirs, strict=True):
        gap = 0.0 if our == their else our - their
        small = abs(gap) <= margin
        side = "better" if gap <= 0 else "worse"
        counts[f"insignificantly {side}" if small else side] += 1
    return counts
