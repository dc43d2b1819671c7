"""Paired comparisons of losses: intervals on the log-ratio, verdicts, what divergence counts.

With l the losses of two methods on the same task, optimizer and seed, x = log(l_ours / l_theirs):
x < 0 means ours is lower. NumPy and scipy's distributions alone; `python -m evidence coverage`
measures how often these intervals err.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special  # type: ignore[import-untyped]

from ratewise.errors import invalid

#: A diverged run, or one that ends above it, counts as this many times the initial loss.
CAP = 10.0
#: Claims, as ratios of losses: within TIE is a tie, not above MARGIN is non-inferior.
TIE, MARGIN = 1.01, 1.02
#: Coverage of all intervals.
LEVEL = 0.95
#: From this many data sets on they alone are the units of what is pooled.
ENOUGH_SETS = 10
#: Fewer tasks or data sets than these have t at this level: where a few win much and the others
#: lose a little, `LEVEL` would leave out the truth in 8% of all cases.
FEW, LEVEL_OF_FEW = 20, 0.965
#: From best to worst. "undecided" is the width of an interval speaking, not a tie.
VERDICTS = ("better", "tie", "non-inferior", "undecided", "worse")


class Interval(NamedTuple):
    """An estimate between its bounds, on the log scale, from `n` independent units."""

    estimate: float
    low: float
    high: float
    n: int
    over: str = "seeds"  #: what the units are: "seeds", "tasks", "data sets"
    p: float = 1.0  #: two-sided, of no difference (or of the `null` that was asked about)
    beside: Interval | None = None  #: the narrower one, where tasks share few data sets

    def ratio(self) -> tuple[float, float, float]:
        """Return estimate, low and high as ratios of losses; an unbounded end is 0 or inf.

        >>> Interval(0.0, -math.inf, math.inf, 1).ratio()
        (1.0, 0.0, inf)
        """
        low, middle, high = (
            math.inf if x > 700 else math.exp(x) for x in (self.low, self.estimate, self.high)
        )
        return middle, low, high

    def unbounded(self) -> Interval:
        """Return the estimate without an interval."""
        return self._replace(low=-math.inf, high=math.inf, p=1.0, beside=None)


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


class Bounds(NamedTuple):
    """What `t_bounds`, `pooled_bounds` and `order_bounds` return, an entry a row of units."""

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


def t_bounds(x: np.ndarray, null: float = 0.0, level: float = LEVEL) -> Bounds:
    """Return the mean with its t interval along the last axis, two units or more.

    Units with different variances make it cautious, not bold. At another level p is scaled, so
    that it is below 5% where the interval leaves out `null`.
    Source: Ibragimov & Müller 2010, Journal of Business & Economic Statistics 28, 453-468.

    >>> [round(float(v), 4) for v in t_bounds(np.array([0.0, 0.1, 0.2]))]
    [0.1, -0.1484, 0.3484, 0.2254]
    """
    n = x.shape[-1]
    mean, error = x.mean(-1), x.std(-1, ddof=1) / math.sqrt(n)
    half = special.stdtrit(n - 1, (1 + level) / 2) * error
    with np.errstate(divide="ignore", invalid="ignore"):  # units that agree entirely
        t = np.where(mean == null, 0.0, np.abs(mean - null) / error)
    p = 2 * special.stdtr(n - 1, -t) * (1 - LEVEL) / (1 - level)
    return Bounds(mean, mean - half, mean + half, np.minimum(p, 1.0))


def pooled_bounds(x: np.ndarray, null: float = 0.0) -> Bounds:
    """Return `t_bounds` over tasks or data sets: of few of them at `LEVEL_OF_FEW`.

    >>> [round(float(v), 4) for v in pooled_bounds(np.array([0.0, 0.1, 0.2]))]
    [0.1, -0.2004, 0.4004, 0.322]
    """
    return t_bounds(x, null, LEVEL if x.shape[-1] >= FEW else LEVEL_OF_FEW)


def order_bounds(x: np.ndarray, null: float = 0.0) -> Bounds:
    """Return the median between order statistics along the last axis: the sign test's interval.

    Below 6 units none covers, and it is unbounded.
    Source: Thompson 1936, Annals of Mathematical Statistics 7, 122-128.

    >>> [float(order_bounds(np.arange(n)).low) for n in (5, 6, 9)]
    [-inf, 0.0, 1.0]
    """
    n, ordered = x.shape[-1], np.sort(x, -1)
    outside = special.bdtr(np.arange(n), n, 0.5) <= (1 - LEVEL) / 2  # P(at most k below it)
    left_out = int(outside.sum())
    unbounded = np.full(x.shape[:-1], np.inf)
    low = ordered[..., left_out - 1] if left_out else -unbounded
    high = ordered[..., n - left_out] if left_out else unbounded
    fewer = np.minimum((x < null).sum(-1) + (x == null).sum(-1), (x >= null).sum(-1))
    p = np.minimum(1.0, 2 * special.bdtr(np.asarray(fewer, float), n, 0.5))
    return Bounds(np.median(x, -1), low, high, p)


def _over(x: Sequence[float], bounds: Callable[..., Bounds], null: float, over: str) -> Interval:
    """Return the interval over units; of one unit it is unbounded."""
    if len(x) < 2:
        return Interval(x[0] if len(x) else math.nan, -math.inf, math.inf, len(x), over)
    with np.errstate(invalid="ignore"):  # of what is infinite
        estimate, low, high, p = map(float, bounds(np.asarray(x, dtype=float), null))
    if math.isnan(low):
        low, high, p = -math.inf, math.inf, 1.0
    return Interval(estimate, low, high, len(x), over, p)


def cell_interval(x: Sequence[float], null: float = 0.0) -> Interval:
    """Return the mean log-ratio of paired seeds with its t interval, uncorrected.

    It is for pairs of which both runs diverged or neither: a run that diverged alone is far off,
    and whether few seeds have seen one is chance. There `divergence_p` decides.

    >>> cell_interval([0.0, 0.1, 0.2]).ratio()[0] == math.exp(0.1)
    True
    """
    return _over(x, t_bounds, null, "seeds")


def divergence_p(ours: int, theirs: int, runs: int) -> float:
    """Return Fisher's exact two-sided p-value of how many runs of either method diverged.

    Runs in pairs resemble each other, which makes it cautious.

    Args:
        ours, theirs: runs that diverged.
        runs: of each method.

    Source: Fisher 1935, Journal of the Royal Statistical Society 98, 39-82.

    >>> round(divergence_p(0, 4, 5), 3), round(divergence_p(0, 3, 5), 3), divergence_p(2, 2, 5)
    (0.048, 0.167, 1.0)
    """
    both, gap = ours + theirs, abs(ours - theirs)
    ways = (
        math.comb(runs, k) * math.comb(runs, both - k)
        for k in range(both + 1)
        if abs(both - 2 * k) >= gap
    )
    return min(1.0, sum(ways) / math.comb(2 * runs, both))


def mean_interval(
    groups: Iterable[Any],
    sets: Sequence[str] | None = None,
    *,
    null: float = 0.0,
    over: str = "tasks",
) -> Interval:
    """Return the mean log-ratio, whose exponential is a geometric mean, with its t interval.

    A task is one unit, whatever its seeds and optimizers; one task alone has its seeds as units.
    Fewer than 20 units have the wider t of `LEVEL_OF_FEW`. Tasks on one data set resemble each
    other: with 10 data sets or more those are the units, with 2 to 9 of them the wider interval of
    the two is returned, the other `beside` it.

    Args:
        groups: one array a task, [seeds] or [seeds, k]: what shares a seed stays together.
        sets: the name of each task's data set; None where no two tasks share one.
        null: what `p` is about.
        over: what a group is called.
    """
    return _pooled(groups, sets, null, over, median=False)


def median_interval(
    groups: Iterable[Any],
    sets: Sequence[str] | None = None,
    *,
    null: float = 0.0,
    over: str = "tasks",
) -> Interval:
    """Return the median of the tasks' medians, between order statistics, and as the mean otherwise.

    Over data sets it is the mean of their medians, with its t interval: order statistics of few
    would not cover. With 2 to 9 data sets the median over tasks is returned, and as far as either
    of the two intervals reaches. What is infinite there leaves it without an interval.
    """
    return _pooled(groups, sets, null, over, median=True)


def _pooled(
    groups: Iterable[Any], sets: Sequence[str] | None, null: float, over: str, *, median: bool
) -> Interval:
    centre: Callable[..., Any] = np.median if median else np.mean
    arrays = [np.atleast_1d(np.asarray(group, dtype=float)) for group in groups]
    there = [i for i, array in enumerate(arrays) if array.size]
    if len(there) == 1:
        rows = [float(centre(row)) for row in arrays[there[0]]]
        return _over(rows, order_bounds if median else t_bounds, null, "seeds")
    values = {i: float(centre(arrays[i])) for i in there}
    bounds = order_bounds if median else pooled_bounds
    fine = _over(list(values.values()), bounds, null, over)
    by_set: dict[str, list[float]] = {}
    for i, value in values.items():
        by_set.setdefault(sets[i] if sets else str(i), []).append(value)
    if not 1 < len(by_set) < len(values):
        return fine
    coarse = _over([float(centre(x)) for x in by_set.values()], pooled_bounds, null, "data sets")
    if len(by_set) >= ENOUGH_SETS:
        return coarse
    wide, narrow = sorted((coarse, fine), key=lambda one: one.low - one.high)
    if median:
        low, high = min(wide.low, narrow.low), max(wide.high, narrow.high)
        wide = wide._replace(estimate=fine.estimate, low=low, high=high)
    return wide._replace(p=max(coarse.p, fine.p), beside=narrow)


def holm(p: Sequence[float]) -> list[float]:
    """Return the p-values of several claims corrected for their number, in the same order.

    Source: Holm 1979, Scandinavian Journal of Statistics 6, 65-70.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * np.asarray(p)[order])
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in corrected]


def verdict(interval: Interval) -> str:
    """Return what an interval of the log-ratio allows to say.

    "better": below 0. "tie": within 1% either way. "non-inferior": below log 1.02, the claim
    that counts. "worse": above 0. Otherwise "undecided".

    >>> verdict(Interval(0.0, -0.05, 0.05, 5))
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
